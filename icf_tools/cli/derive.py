"""NIfTI files and what else is made of a tarball; files made elsewhere held against the images."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icf_tools.cli import report
from icf_tools.cli.options import (
    AsJson,
    DepositUrl,
    StoreDir,
    StoreUrl,
    StudyArgument,
    visible,
)
from icf_tools.derive.report import Converter, Scale, Target
from icf_tools.errors import Damaged, PartlyDone, UsageError
from icf_tools.model.visit import StorePath, Visit
from icf_tools.settings import read_settings

if TYPE_CHECKING:
    from icf_tools.derive.report import Entry, Report
    from icf_tools.derive.verify import Verified

Targets = Annotated[
    list[Target] | None,
    typer.Option(
        "--to",
        help="What to make, nifti unless given; bids needs rules in study.yaml. May be repeated.",
    ),
]
Numbers = Annotated[
    list[int] | None,
    typer.Option("--series", metavar="N", help="Only series of this number; may be repeated."),
]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, metavar="N", help="Series at a time.")]
Only = Annotated[Converter | None, typer.Option("--converter", help="The only converter to try.")]

Window = Annotated[
    Scale | None,
    typer.Option("--window", help="Scale of previews: the study's first visit's, or their own."),
]


_NOT_SHOWN = (".json", ".bval", ".bvec", "_thumb.webp")  # each is beside a file that is


class NotRight(Damaged):
    message = (
        "{} of {} files are not what the images say; do not use them, convert the images again"
    )


class NotAll(PartlyDone):
    message = "{} of {} series have not all that was asked for; what is said of each tells why"


class NoSettled(UsageError):
    message = "a BIDS tree needs rules; give --settings icf/derive.json of a dataset that has one"


class NoVisit(UsageError):
    message = "only a BIDS dataset is made of a whole study; name a visit, or give --to bids alone"


class NotAllVisits(PartlyDone):
    message = "{} of {} visits are not in the BIDS dataset; what is said of each tells why"


class Unreadable(PartlyDone):
    message = (
        "{} images are in no series, as their header is damaged or names none; "
        "see that the others are all that belong together"
    )


def derive(
    study: StudyArgument,
    visit: Annotated[
        str | None,
        typer.Argument(
            metavar="VISIT",
            help="The visit's identifier; without it the BIDS trees of all visits become one.",
        ),
    ] = None,
    targets: Targets = None,
    numbers: Numbers = None,
    converter: Only = None,
    scale: Window = None,
    jobs: Jobs = 1,
    store_dir: StoreDir = Path(),
    store_url: StoreUrl = None,
    deposit_url: DepositUrl = None,
    as_json: AsJson = False,
) -> None:
    """Make NIfTI files and the like of a visit, and add them to its dataset as a new version.

    Example: icf derive my-study P000123 --to nifti --to minc --store-dir /data/store -j 2
    """
    from icf_tools.derive.publish import derive, wanted

    if visit is None:
        if targets != [Target.BIDS] or numbers or converter or scale:
            raise NoVisit
        _derive_study(study, store_dir, as_json)
        return
    store = StorePath(store_dir, Visit(study, visit))
    settings = read_settings(store)
    asked = wanted(store, settings, targets or (), numbers or (), converter, scale)
    with report.progress() as progress:
        derived = derive(
            store,
            asked,
            store_url or settings.store_url,
            deposit_url or settings.deposit_url,
            jobs=jobs,
            progress=progress,
        )
    lines = [*_table(derived.series), *report.deposited_lines(derived.dataset)]
    content = {**_content(derived.report, derived.series), "dataset": asdict(derived.dataset)}
    report.result(content, lines, as_json)
    _judge(derived.series, derived.report.unreadable)


def _derive_study(study: str, store_dir: Path, as_json: bool) -> None:
    from icf_tools.derive.study import derive_study

    settings = read_settings(StorePath(store_dir, Visit(study, "any")))
    derived = derive_study(store_dir, study, settings)
    for visit, why in derived.missing:
        report.note(f"{visit}: {why}; run icf derive {study} {visit.visit} --to bids")
    for name in derived.gone:
        report.note(f"{study}/{name}: it was in the version before, and is not there any more")
    counts = f"subjects: {len(derived.subjects)}, visits: {len(derived.visits)}"
    lines = [f"BIDS dataset of the study {study}: {counts}"]
    content = {
        "subjects": derived.subjects,
        "visits": [visit.visit for visit in derived.visits],
        "gone": derived.gone,
        "missing": {visit.visit: why for visit, why in derived.missing},
        "dataset": asdict(derived.dataset),
    }
    report.result(content, [*lines, *report.deposited_lines(derived.dataset)], as_json)
    if derived.missing:
        raise NotAllVisits(len(derived.missing), len(derived.missing) + len(derived.visits))


def convert(
    tarball: Annotated[
        Path,
        typer.Argument(metavar="TARBALL", callback=visible, help="A visit's tarball of DICOM."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the files.")
    ] = Path(),
    targets: Targets = None,
    numbers: Numbers = None,
    converter: Only = None,
    dropped: Annotated[
        list[Target] | None,
        typer.Option("--drop", help="Remove what was made of it here before; may be repeated."),
    ] = None,
    settled: Annotated[
        Path | None,
        typer.Option("--settings", metavar="FILE", help="What icf derive keeps in a dataset."),
    ] = None,
    jobs: Jobs = 1,
    as_json: AsJson = False,
) -> None:
    """Convert the series of a tarball to NIfTI; only files that pass the plane check are kept.

    Example: icf convert icf/P000123_dicom.tar --output converted -j 2
    """
    from icf_tools.derive.asked import Asked, Settled
    from icf_tools.derive.folder import convert_tarball

    if Target.BIDS in (targets or ()) and settled is None:
        raise NoSettled
    asked = Asked.of(
        targets or [Target.NIFTI],
        numbers or (),
        converter,
        Settled() if settled is None else Settled.read(settled),
        dropped or (),
    )
    with report.progress() as progress:
        made = convert_tarball(tarball, output, asked, jobs=jobs, progress=progress)
    report.result(_content(made.report, made.series), _table(made.series), as_json)
    _judge(made.series, made.report.unreadable)


def _content(made: "Report", series: "tuple[Entry, ...]") -> dict[str, Any]:
    """As series.json has it, of these series."""
    from icf_tools.derive.report import report_text

    content: dict[str, Any] = json.loads(report_text(replace(made, entries=series)))
    return content


def _judge(series: "tuple[Entry, ...]", unreadable: int) -> None:
    if unreadable:
        raise Unreadable(unreadable)
    if lacking := sum(not entry.is_right for entry in series):
        raise NotAll(lacking, len(series))


def _table(series: "tuple[Entry, ...]") -> list[str]:
    return [line for entry in series for line in _series_lines(entry)] or ["no series"]


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


def _series_lines(entry: "Entry") -> list[str]:
    shown = (made.path for made in entry.outputs if not made.path.endswith(_NOT_SHOWN))
    files = ", ".join(shown)
    said = "; ".join(
        [
            *filter(None, [files, entry.reason]),
            *(f"no {target}: {why}" for target, why in entry.lacking.items()),
        ]
    )
    return ["\t".join([f"series {entry.number}", f"{entry.images} images", entry.status, said])]
