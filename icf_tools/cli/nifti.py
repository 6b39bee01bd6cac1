"""NIfTI files, made here or elsewhere, held against the images."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icf_tools.cli import report
from icf_tools.cli.options import AsJson, visible
from icf_tools.errors import Damaged, PartlyDone

if TYPE_CHECKING:
    from icf_tools.derive.convert import Converted
    from icf_tools.derive.verify import Verified


class NotRight(Damaged):
    message = (
        "{} of {} files are not what the images say; do not use them, convert the images again"
    )


class NotAll(PartlyDone):
    message = "{} of {} series could not be converted; what is said of each tells why"


class Unreadable(PartlyDone):
    message = (
        "{} images are in no series, as their header is damaged or names none; "
        "see that the others are all that belong together"
    )


def convert(
    tarball: Annotated[
        Path,
        typer.Argument(metavar="TARBALL", callback=visible, help="A visit's tarball of DICOM."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the files.")
    ] = Path("nifti"),
    numbers: Annotated[
        list[int] | None,
        typer.Option("--series", metavar="N", help="Only series of this number; may be repeated."),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, metavar="N", help="Series at a time.")
    ] = 1,
    as_json: AsJson = False,
) -> None:
    """Convert the series of a tarball to NIfTI; only files that pass the plane check are kept.

    Example: icf convert icf/P000123_dicom.tar --output nifti -j 2
    """
    from icf_tools.derive.nifti import convert_tarball, report_json

    with report.progress() as progress:
        made = convert_tarball(tarball, output, numbers=numbers or (), jobs=jobs, progress=progress)
    content = json.loads(report_json(made))
    report.result(content, list(map(_series_line, made.series)) or ["no series"], as_json)
    if made.unreadable:
        raise Unreadable(made.unreadable)
    if failed := sum(each.status == "failed" for each in made.series):
        raise NotAll(failed, len(made.series))


def check_nifti(
    files: Annotated[
        list[Path], typer.Argument(metavar="NIFTI...", help="Files that any converter made.")
    ],
    folder: Annotated[
        Path, typer.Option("--dicom", metavar="DIR", help="The DICOM files they were made from.")
    ],
    as_json: AsJson = False,
) -> None:
    """Check that NIfTI files hold the images, each where it lies and with its values.

    Example: icf check-nifti t1.nii epi.nii.gz --dicom incoming/P000123
    """
    from icf_tools.derive.verify import verify

    with report.progress() as progress:
        verified = verify(files, folder, progress)
    report.result([asdict(each) for each in verified], list(map(_line, verified)), as_json)
    if wrong := sum(bool(each.fault) for each in verified):
        raise NotRight(wrong, len(files))


def _line(verified: "Verified") -> str:
    if verified.fault:
        return f"{verified.file}\twrong\t{verified.fault}"
    order = f", volumes by {verified.order}" if verified.order else ""
    return f"{verified.file}\tverified\t{verified.images} images of {verified.series}{order}"


def _series_line(converted: "Converted") -> str:
    series = converted.series
    files = ", ".join(output.name for output in converted.outputs)
    parts = (f"series {series.number}", f"{len(series.images)} images", converted.status)
    return "\t".join([*parts, "; ".join(filter(None, [files, converted.reason]))])
