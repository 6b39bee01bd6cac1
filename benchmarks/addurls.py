"""`icf dataset` of a small visit beside the way of the first ICF tools, on real git-annex."""

import shutil
import sys
from collections.abc import Sequence

from benchmarks import records
from benchmarks.dataset import dataset, forget
from benchmarks.measure import Command, Row, aside, main, run, scratch, take_turns
from icf_tools.model.visit import StorePath, Visit


def rows(quick: bool) -> Sequence[Row]:
    """The peer takes so long that one round is enough."""
    count = 5 if quick else 384
    missing = [name for name in ("git-annex", "datalad") if shutil.which(name) is None]
    if missing:
        raise SystemExit(f"no {missing[0]} on the path; install it, or leave addurls out")
    with scratch() as folder:
        home = folder / "home"
        home.mkdir()
        home.joinpath(".gitconfig").write_text("[user]\n\tname = B\n\temail = b@example.org\n")
        store = StorePath(folder / "store", Visit("study", "visit"))
        aside(records.write, store, count)
        way = ("env", f"HOME={home}", sys.executable, "-m", "benchmarks.addurls_way", store.root)
        ours = take_turns(1 if quick else 5, ours=dataset(store))["ours"]
        peer = run(Command(way, lambda: forget(store)))
    return [Row("icf dataset", f"{count} images", ours, "addurls", [peer], "<= 0.02")]


if __name__ == "__main__":
    main(rows)
