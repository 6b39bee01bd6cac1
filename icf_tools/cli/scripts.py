"""The first ICF tools' programs, by name and with their options, and one for each later step.

The container and the files in bin/ call these; each does what the `icf`
command of its step does.
"""

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from icf_tools.cli import catalog, commands, derive, report
from icf_tools.cli.app import HELP, run
from icf_tools.cli.derive import Jobs, Numbers, Only, Targets, Window
from icf_tools.cli.options import AllowIdentifying, DepositUrl, InputArgument, StoreDir, StoreUrl

Ids = Annotated[
    tuple[str, str],
    typer.Option("--id", metavar="STUDY VISIT", help="The study's and the visit's identifier."),
]


def _make_studyvisit_archive(
    input_dir: InputArgument,
    ids: Ids,
    store_dir: StoreDir = Path(),
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", metavar="DIR", help="Deprecated: use --store-dir."),
    ] = None,
    allow_identifying: AllowIdentifying = False,
) -> None:
    """Pack a visit's DICOM files into its tarball.

    Example: make_studyvisit_archive -o /data/store --id my-study P000123 /data/incoming/P000123
    """
    if output_dir is not None:
        report.note("--output-dir is deprecated; use --store-dir")
    commands.archive(*ids, input_dir, output_dir or store_dir, allow_identifying)


def _deposit_visit_metadata(ids: Ids, store_dir: StoreDir = Path()) -> None:
    """Read a visit's tarball once and deposit its metadata.

    Example: deposit_visit_metadata -o /data/store --id my-study P000123
    """
    commands.index(*ids, store_dir)


def _deposit_visit_dataset(
    ids: Ids,
    store_dir: StoreDir = Path(),
    store_url: StoreUrl = None,
    deposit_url: DepositUrl = None,
) -> None:
    """Deposit a DataLad dataset made from a visit's metadata.

    Example: deposit_visit_dataset -o /data/store --store-url https://example.org --id study P000123
    """
    commands.dataset(*ids, store_dir, store_url, deposit_url)


def _derive_visit(
    ids: Ids,
    targets: Targets = None,
    numbers: Numbers = None,
    converter: Only = None,
    scale: Window = None,
    jobs: Jobs = 1,
    store_dir: StoreDir = Path(),
    store_url: StoreUrl = None,
    deposit_url: DepositUrl = None,
) -> None:
    """Make NIfTI files and the like of a visit, and add them to its dataset as a new version.

    Example: derive_visit -o /data/store --to nifti --to minc --id my-study P000123
    """
    derive.derive(*ids, targets, numbers, converter, scale, jobs, store_dir, store_url, deposit_url)


def _catalogify_studyvisit_from_meta(
    ids: Ids,
    store_dir: StoreDir = Path(),
    store_url: StoreUrl = None,
    deposit_url: DepositUrl = None,
) -> None:
    """Bring the pages of a study up to date with one of its visits.

    Example: catalogify_studyvisit_from_meta -o /data/store --id my-study P000123
    """
    catalog.catalog(*ids, False, store_dir, store_url, deposit_url)


def _program(function: object, name: str) -> NoReturn:
    program = typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=HELP,
    )
    program.command(name)(function)  # type: ignore[type-var]
    run(program, name)


def make_studyvisit_archive() -> NoReturn:
    """Be the program make_studyvisit_archive."""
    _program(_make_studyvisit_archive, "make_studyvisit_archive")


def deposit_visit_metadata() -> NoReturn:
    """Be the program deposit_visit_metadata."""
    _program(_deposit_visit_metadata, "deposit_visit_metadata")


def deposit_visit_dataset() -> NoReturn:
    """Be the program deposit_visit_dataset."""
    _program(_deposit_visit_dataset, "deposit_visit_dataset")


def catalogify_studyvisit_from_meta() -> NoReturn:
    """Be the program catalogify_studyvisit_from_meta."""
    _program(_catalogify_studyvisit_from_meta, "catalogify_studyvisit_from_meta")


def derive_visit() -> NoReturn:
    """Be the program derive_visit."""
    _program(_derive_visit, "derive_visit")
