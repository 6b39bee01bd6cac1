"""All parts, or those that are named."""

import argparse

from benchmarks import addurls, archive, catalog, dataset, derive, index, remote, startup
from benchmarks.measure import show

_PARTS = {
    "startup": startup.rows,
    "archive": archive.rows,
    "index": index.rows,
    "dataset": dataset.rows,
    "addurls": addurls.rows,
    "derive": derive.rows,
    "catalog": catalog.rows,
    "remote": remote.rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(_PARTS))
    parser.add_argument("--quick", action="store_true", help="small and once, to see that it runs")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(_PARTS):
        parser.error(f"no part {min(unknown)}; there are {', '.join(_PARTS)}")
    show([row for part in given.parts or _PARTS for row in _PARTS[part](given.quick)])


if __name__ == "__main__":
    main()
