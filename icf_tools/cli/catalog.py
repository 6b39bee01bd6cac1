"""The pages of a study, and the page over all studies."""

from pathlib import Path
from typing import Annotated

import typer

from icf_tools.cli import report
from icf_tools.cli.options import AsJson, DepositUrl, StoreDir, StoreUrl
from icf_tools.errors import PartlyDone, UsageError
from icf_tools.model.visit import StorePath, Visit
from icf_tools.settings import read_settings, read_site_settings


class NoStudyNamed(UsageError):
    message = "a catalog is of one study, or of the site; name a study, or give --site alone"


class NotAllVisits(PartlyDone):
    message = "{} visits of {} cannot be read and are not in its catalog; mend what is said of each"


class NotAllStudies(PartlyDone):
    message = "{} studies are not on the page, as their settings cannot be read; mend these"


def catalog(
    study: Annotated[
        str | None, typer.Argument(metavar="STUDY", help="The study's identifier.")
    ] = None,
    visit: Annotated[
        str | None,
        typer.Argument(
            metavar="VISIT", help="The visit that is new, or changed; all of them unless given."
        ),
    ] = None,
    site: Annotated[
        bool, typer.Option("--site", help="Join the search pages of all studies in one.")
    ] = False,
    store_dir: StoreDir = Path(),
    store_url: StoreUrl = None,
    deposit_url: DepositUrl = None,
    as_json: AsJson = False,
) -> None:
    """Write a study's pages: search, each visit with its images, how to get them.

    Example: icf catalog my-study --store-dir /data/store
    """
    if (study is None) is not site:
        raise NoStudyNamed
    if study is None:
        _catalog_site(store_dir, as_json)
        return
    from icf_tools.catalog.site import has_older
    from icf_tools.catalog.write import catalog

    # a visit of that name need not be there: its identifier is checked, and it may have gone
    settings = read_settings(StorePath(store_dir, Visit(study, visit or "any")))
    url = deposit_url or settings.deposit_url or store_url or settings.store_url
    with report.progress() as progress:
        done = catalog(store_dir, study, settings, url, visit=visit, progress=progress)
    for name, why in done.left_out:
        report.note(f"{name}: {why}")
    if url is None:
        report.note(
            "no deposit URL is known, so pages show the one that a visit was deposited with; "
            "give --deposit-url, or write deposit_url into site.yaml or study.yaml"
        )
    if has_older(store_dir, study):
        report.note(
            "the page over all studies has an older state of this one; run icf catalog --site"
        )
    counts = f"{done.visits} visits, {done.series} series"
    lines = [
        f"catalog of {study}: {counts}; {len(done.made)} pages made, {len(done.gone)} removed",
        f"begin at {done.page}",
    ]
    content = {
        "page": done.page,
        "visits": done.visits,
        "series": done.series,
        "made": done.made,
        "gone": done.gone,
        "left_out": {name.visit: why for name, why in done.left_out},
    }
    report.result(content, lines, as_json)
    if done.damaged:
        raise NotAllVisits(done.damaged, study)


def _catalog_site(store_dir: Path, as_json: bool) -> None:
    from icf_tools.catalog.site import catalog_site

    done = catalog_site(store_dir, read_site_settings(store_dir))
    for study, why in done.left_out:
        report.note(f"{study}: {why}")
    counts = f"{len(done.studies)} studies, {done.visits} visits, {done.series} series"
    content = {
        "page": done.page,
        "studies": done.studies,
        "visits": done.visits,
        "series": done.series,
        "left_out": dict(done.left_out),
    }
    report.result(content, [f"catalog of the site: {counts}", f"begin at {done.page}"], as_json)
    if done.damaged:
        raise NotAllStudies(done.damaged)
