"""What the visits of a store have."""

from pathlib import Path
from typing import Annotated

import typer

from icf_tools.cli import report
from icf_tools.cli.options import AsJson, StoreDir
from icf_tools.store.deposit import VisitStatus


def status(
    study: Annotated[str | None, typer.Argument(metavar="STUDY", help="One study only.")] = None,
    visit: Annotated[str | None, typer.Argument(metavar="VISIT", help="One visit only.")] = None,
    store_dir: StoreDir = Path(),
    as_json: AsJson = False,
) -> None:
    """List the visits and what each of them has.

    Example: icf status my-study --store-dir /data/store
    """
    from icf_tools.store.deposit import statuses

    found = statuses(store_dir, study, visit)
    items = [
        {
            "study": each.visit.study,
            "visit": each.visit.visit,
            "tarball": each.tarball,
            "damaged": each.damaged,
            "md5sum": each.md5sum,
            "metadata": each.metadata,
            "dataset": each.dataset,
            "versions": each.versions,
            "missing": each.missing,
            "series": each.series,
        }
        for each in found
    ]
    nothing = f"no visits in {store_dir.resolve()}; give the folder that holds the studies"
    report.result(items, [_line(each) for each in found] or [nothing], as_json)


def _line(status: VisitStatus) -> str:
    tarball = "tarball not here" if status.tarball is None else f"{status.tarball} bytes"
    if status.damaged:
        return f"{status.visit}\t{tarball}\tdamaged: its metadata is of {status.recorded} bytes"
    state = f"missing: {', '.join(status.missing)}" if status.missing else "complete"
    series = ", ".join(f"{count} {name}" for name, count in status.series.items())
    return "\t".join(
        [str(status.visit), tarball, state, *([f"series: {series}"] if series else [])]
    )
