"""Images of a visit as plain files, for who has no git."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icf_tools.cli import report
from icf_tools.cli.get import Modality, NotAll, Numbers, Protocol
from icf_tools.cli.options import AsJson, StudyArgument, VisitArgument
from icf_tools.errors import NotFound

if TYPE_CHECKING:
    from icf_tools.access.fetch import Plan


class NothingFits(NotFound):
    message = "visit {} has no image that fits; its series have the numbers {}"


def fetch(
    store: Annotated[
        str,
        typer.Argument(metavar="STORE_URL", help="The URL of the store, or its folder."),
    ],
    study: StudyArgument,
    visit: VisitArgument,
    folder: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the files.")
    ] = Path(),
    numbers: Numbers = None,
    protocol: Protocol = "",
    modality: Modality = "",
    as_json: AsJson = False,
) -> None:
    """Fetch images of a visit as plain files; no git is needed.

    Example: icf fetch https://data.example.org/store my-study P000123 --series 7 -o images
    """
    from icf_tools.access.fetch import fetch
    from icf_tools.access.store import open_store
    from icf_tools.model.choice import Choice

    with open_store(store) as opened:
        described = opened.study(study).visit(visit)
        records = described.chosen(Choice(frozenset(numbers or ()), protocol, modality))
        if not records:
            known = sorted({each.number for each in described.series()})
            raise NothingFits(described.visit, ", ".join(map(str, known)) or "of none")
        with report.progress(rate=True) as progress:
            fetched = fetch(described, records, folder, planned=_say, progress=progress)
    if fetched.whole:
        report.note("the server answers no Range requests: the tarball was read from its start")
    report.failures(fetched.failed)
    content = {
        "visit": str(described.visit),
        "files": len(records),
        "here": fetched.here,
        "fetched": fetched.files,
        "bytes": fetched.size,
        "failed": fetched.failed,
        "md5sum": fetched.sums,
    }
    said = f"fetched {fetched.files} files; {fetched.here} were here; MD5s are in {fetched.sums}"
    report.result(content, [said], as_json)
    if fetched.failed:
        raise NotAll(len(fetched.failed), len(records))


def _say(plan: "Plan") -> None:
    if plan.wanted:
        size = report.megabytes(plan.size)
        report.note(f"{len(plan.wanted)} files to fetch, {size}; {len(plan.here)} are here")
