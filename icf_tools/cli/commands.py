"""The steps of the flow, each as a command."""

from dataclasses import asdict
from pathlib import Path

from icf_tools.cli import report
from icf_tools.cli.options import (
    AllowIdentifying,
    AsJson,
    DepositUrl,
    InputArgument,
    StoreDir,
    StoreUrl,
    StudyArgument,
    VisitArgument,
)
from icf_tools.model.visit import StorePath, Visit
from icf_tools.settings import read_settings


def archive(
    study: StudyArgument,
    visit: VisitArgument,
    input_dir: InputArgument,
    store_dir: StoreDir = Path(),
    allow_identifying: AllowIdentifying = False,
    as_json: AsJson = False,
) -> None:
    """Pack a visit's DICOM files into its tarball.

    Example: icf archive my-study P000123 /data/incoming/P000123 --store-dir /data/store
    """
    from icf_tools.archive.build import build

    store = StorePath(store_dir, Visit(study, visit))
    tags = read_settings(store).tags
    with report.progress() as progress:
        built = build(
            input_dir, store, tags=tags, allow_identifying=allow_identifying, progress=progress
        )
    report.result(asdict(built), report.built_lines(built), as_json)


def index(
    study: StudyArgument,
    visit: VisitArgument,
    store_dir: StoreDir = Path(),
    as_json: AsJson = False,
) -> None:
    """Read a visit's tarball once and deposit its metadata.

    Example: icf index my-study P000123 --store-dir /data/store
    """
    from icf_tools.index.deposit import index

    store = StorePath(store_dir, Visit(study, visit))
    tags = read_settings(store).tags
    with report.progress() as progress:
        indexed = index(store, tags=tags, progress=progress)
    report.result(asdict(indexed), report.indexed_lines(indexed), as_json)


def dataset(
    study: StudyArgument,
    visit: VisitArgument,
    store_dir: StoreDir = Path(),
    store_url: StoreUrl = None,
    deposit_url: DepositUrl = None,
    as_json: AsJson = False,
) -> None:
    """Deposit a DataLad dataset made from a visit's metadata.

    Example: icf dataset my-study P000123 --store-url https://data.example.org/store
    """
    from icf_tools.dataset.write import dataset

    store = StorePath(store_dir, Visit(study, visit))
    settings = read_settings(store)
    deposited = dataset(store, store_url or settings.store_url, deposit_url or settings.deposit_url)
    report.result(asdict(deposited), report.deposited_lines(deposited), as_json)


def add(
    study: StudyArgument,
    visit: VisitArgument,
    input_dir: InputArgument,
    store_dir: StoreDir = Path(),
    store_url: StoreUrl = None,
    deposit_url: DepositUrl = None,
    allow_identifying: AllowIdentifying = False,
    as_json: AsJson = False,
) -> None:
    """Archive, index and deposit a visit; run again, complete what is missing.

    Example: icf add my-study P000123 /data/incoming/P000123 --store-url https://data.example.org/store
    """
    from icf_tools.pipeline import add

    store = StorePath(store_dir, Visit(study, visit))
    settings = read_settings(store)
    with report.progress() as progress:
        added = add(
            input_dir,
            store,
            store_url=store_url or settings.store_url,
            deposit_url=deposit_url or settings.deposit_url,
            tags=settings.tags,
            allow_identifying=allow_identifying,
            progress=progress,
        )
    lines = [
        *report.built_lines(added.archive),
        *report.indexed_lines(added.index),
        *report.deposited_lines(added.dataset),
    ]
    report.result(asdict(added), lines, as_json)
