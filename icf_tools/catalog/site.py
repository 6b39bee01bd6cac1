"""One search page over all studies of a store.

in: the catalogs of the studies    out: catalog/ of the store: search/, static/, index.html
"""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from icf_tools.catalog.assets import pages_of, static_files
from icf_tools.catalog.manifest import Index, manifest_text, read_index
from icf_tools.catalog.write import MANIFEST, put_all, remove_others
from icf_tools.errors import IcfError, NotFound
from icf_tools.model.visit import CatalogPath, StorePath, Visit
from icf_tools.settings import Settings, read_settings
from icf_tools.store.deposit import NoStore
from icf_tools.store.files import locked_catalog


class NoCatalogs(NotFound):
    message = "no study of the store {} has a catalog for the site; run icf catalog STUDY for each"


@dataclass(frozen=True, slots=True)
class SiteCatalogued:
    """The page over all studies."""

    page: Path  #: where to begin
    studies: tuple[str, ...]
    visits: int
    series: int
    left_out: tuple[tuple[str, str], ...]  #: studies that are not in it, and why
    damaged: int  #: how many of these have settings that cannot be read


def catalog_site(root: Path, settings: Settings) -> SiteCatalogued:
    """Join the search indexes of all studies, as their catalogs have them now.

    Raises NoStore, NoCatalogs, NoLogo and CatalogLocked.
    """
    if not root.is_dir():
        raise NoStore(root)
    place = CatalogPath(root, None)
    indexes: list[Index] = []
    left_out = []
    damaged = 0
    files: dict[PurePosixPath, bytes] = {}
    with locked_catalog(place):
        for study in _studies(root):
            try:
                brand = read_settings(StorePath(root, Visit(study, "any"))).brand
            except IcfError as err:  # whether it may be shown is not known then
                left_out.append((study, str(err)))
                damaged += 1
                continue
            if not brand.site:
                left_out.append((study, "its settings say site: false"))
                continue
            # a study that is being written now is waited for
            with locked_catalog(CatalogPath(root, study)):
                search = CatalogPath(root, study).search
                index = read_index(search / MANIFEST, study)
                shards = None if index is None else _shards(index, search)
            if index is None or shards is None:
                left_out.append((study, f"it has no whole catalog; run icf catalog {study}"))
                continue
            indexes.append(index)
            files |= {PurePosixPath("search", name): data for name, data in shards.items()}
        if not indexes:
            raise NoCatalogs(root)
        pages, logo = pages_of(settings, "All studies")
        elements = [element for element in settings.elements if element.enabled]
        search_page = pages.render("search.html", site=True, study="", elements=elements)
        home = pages.render("site.html", static="static/", studies=indexes)
        files |= static_files(pages.brand, logo, viewer=False)
        files[PurePosixPath("search", "index.html")] = search_page.encode()
        files[PurePosixPath("index.html")] = home.encode()
        put_all(place, files)
        manifest = PurePosixPath("search", MANIFEST)
        put_all(place, {manifest: manifest_text(indexes, "../../{study}/catalog/")})
        expected = [*map(str, files), str(manifest)]
        for folder in ("search", "static"):
            remove_others(place, folder, expected)
    return SiteCatalogued(
        page=place.search / "index.html",
        studies=tuple(index.study for index in indexes),
        visits=sum(index.visits for index in indexes),
        series=sum(index.series for index in indexes),
        left_out=tuple(left_out),
        damaged=damaged,
    )


def _shards(index: Index, folder: Path) -> dict[str, bytes] | None:
    try:
        return {name: (folder / name).read_bytes() for name in index.files}
    except FileNotFoundError:
        return None


def _studies(root: Path) -> list[str]:
    """Those that this user may read, and write a lock into."""
    return sorted(
        path.name
        for path in root.iterdir()
        if Visit.is_name(path.name) and path.is_dir() and os.access(path, os.R_OK | os.X_OK)
        if any(path.glob("*_metadata_tarball.json"))
    )
