"""Images of a clone, many at once."""

from pathlib import Path
from typing import Annotated

import typer

from icf_tools.cli import report
from icf_tools.cli.options import AsJson
from icf_tools.errors import PartlyDone

Numbers = Annotated[
    list[int] | None,
    typer.Option("--series", metavar="N", help="Only series of this number; may be repeated."),
]
Protocol = Annotated[
    str,
    typer.Option("--protocol", metavar="PATTERN", help="Only images of such a ProtocolName."),
]
Modality = Annotated[
    str, typer.Option("--modality", metavar="NAME", help="Only images of this Modality.")
]


class NotAll(PartlyDone):
    message = "{} of {} files did not come; what is said of each tells why"


def get(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH...", help="Files and folders; this one unless given."),
    ] = None,
    numbers: Numbers = None,
    protocol: Protocol = "",
    modality: Modality = "",
    as_json: AsJson = False,
) -> None:
    """Get images of a clone, in one stream of their tarball; run again, go on where it stopped.

    PATH, --series, --protocol and --modality all have to fit; PATH may lie in a subdataset. NIfTI
    files and the like come along where no option is given, the tarball where it is named.

    Example: icf get --series 7
    """
    from icf_tools.access.credential import ask_terminal
    from icf_tools.access.source import Opener
    from icf_tools.client.enable import enable_remote
    from icf_tools.client.files import CommandFailed
    from icf_tools.client.get import get
    from icf_tools.client.plan import plans
    from icf_tools.model.choice import Choice

    asked = plans(
        Path.cwd(), paths or [Path()], Choice(frozenset(numbers or ()), protocol, modality)
    )
    for each in asked:
        try:
            if enable_remote(each.clone.top):
                report.note("git-annex gets single images by git-annex-remote-icf from now on")
        except CommandFailed as err:  # it is not needed here
            report.note(str(err))
    files = sum(each.files for each in asked)
    here = sum(each.here for each in asked)
    size = sum(each.size for each in asked)
    wanted = sum(len(each.wanted) for each in asked)
    if wanted:
        there = f"; {here} of {files} files are here" if here else ""
        report.note(f"{wanted} images to get, {report.megabytes(size)}{there}")
    with report.progress(rate=True) as progress:
        got = get(asked, Opener(ask_terminal), progress)
    report.failures(got.failed)
    content = {"files": files, "here": here, "got": got.files, "bytes": size, "failed": got.failed}
    report.result(content, [f"got {got.files} files; {here} were here"], as_json)
    if got.failed:
        raise NotAll(len(got.failed), files)
