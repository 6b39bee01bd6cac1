"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from icf_tools.store.container import NotBound, is_bound


def visible(folder: Path) -> Path:
    """Its absolute path: what is said of it must be clear in any current folder."""
    folder = folder.absolute()
    if not folder.exists() and not is_bound(folder):
        raise NotBound(folder)
    return folder


StudyArgument = Annotated[str, typer.Argument(metavar="STUDY", help="The study's identifier.")]
VisitArgument = Annotated[str, typer.Argument(metavar="VISIT", help="The visit's identifier.")]
InputArgument = Annotated[
    Path,
    typer.Argument(
        metavar="INPUT_DIR", callback=visible, help="Folder with the files of one visit."
    ),
]
StoreDir = Annotated[
    Path,
    typer.Option(
        "--store-dir",
        "-o",
        metavar="DIR",
        envvar="ICF_STORE_DIR",
        callback=visible,
        help="Root folder of the store.",
    ),
]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store-url",
        metavar="URL",
        envvar="ICF_STORE_URL",
        help="Where the tarballs are; site.yaml and study.yaml may say it, too.",
    ),
]
DepositUrl = Annotated[
    str | None,
    typer.Option(
        "--deposit-url",
        metavar="URL",
        envvar="ICF_DEPOSIT_URL",
        help="Where the store folder is served; the store URL unless given.",
    ),
]
AllowIdentifying = Annotated[
    bool,
    typer.Option(
        "--allow-identifying",
        help="Accept paths and descriptions that hold the image's own patient name, "
        "patient id or birth date.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
