"""One search page over all studies of a store.

in: the catalogs of the studies    out: catalog/ of the store: search/, static/, index.html
"""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from icf_tools.catalog.assets import STATIC, pages_of, static_files
from icf_tools.catalog.folder import claim, put_all, read, remove_others
from icf_tools.catalog.manifest import Index, manifest_text, read_index, read_shard
from icf_tools.catalog.write import MANIFEST, told
from icf_tools.errors import IcfError, NotFound
from icf_tools.model.visit import CatalogPath, StorePath, Visit
from icf_tools.settings import Settings, read_settings
from icf_tools.store.deposit import NoStore
from icf_tools.store.files import locked_catalog

_SEARCH = MANIFEST.parent
_ATTEMPTS = 3


class NoCatalogs(NotFound):
    message = "no study of the store {} has a catalog for the site; run icf catalog STUDY for each"


class NotShown(NotFound):
    message = "{}; {}"


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

    Raises NoStore, NoCatalogs, NoLogo, NotOurs, OddFile and CatalogLocked.
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
                index, shards = _read_study(root, study)
            except (IcfError, OSError) as err:  # whether it may be shown is not known then
                damaged += not isinstance(err, NotShown)
                left_out.append((study, str(err)))
                continue
            indexes.append(index)
            files |= shards
        if not indexes and not place.folder.exists():
            raise NoCatalogs(root)
        pages, logo = pages_of(settings, "All studies")
        elements = [element for element in settings.elements if element.enabled]
        search_page = pages.render("search.html", site=True, study="", elements=elements)
        home = pages.render("site.html", static="static/", studies=indexes)
        files |= static_files(pages.brand, logo, viewer=False)
        files[_SEARCH / "index.html"] = search_page.encode()
        files[PurePosixPath("index.html")] = home.encode()
        claim(place)
        # what is to go goes first: a run that is stopped leaves nothing of it
        remove_others(place, _SEARCH, files)
        put_all(place, files)
        put_all(place, {MANIFEST: manifest_text(indexes, "../../{study}/catalog/")})
        remove_others(place, STATIC, files)
    return SiteCatalogued(
        page=place.search / "index.html",
        studies=tuple(index.study for index in indexes),
        visits=sum(index.visits for index in indexes),
        series=sum(index.series for index in indexes),
        left_out=tuple(left_out),
        damaged=damaged,
    )


def has_older(root: Path, study: str) -> bool:
    """Whether the page over all studies is there, and has another state of the study."""
    site = read_index(read(CatalogPath(root, None), MANIFEST), study)
    mine = read_index(read(CatalogPath(root, study), MANIFEST), study)
    return site is not None and mine is not None and site.items != mine.items


def _read_study(root: Path, study: str) -> tuple[Index, dict[PurePosixPath, bytes]]:
    """The index of a study, and its shards. Raises NotShown and what reading settings does."""
    settings = read_settings(StorePath(root, Visit(study, "any")))
    if not settings.brand.site:
        raise NotShown("its settings say site: false", "change that if it is to be there")
    place = CatalogPath(root, study)
    for _ in range(_ATTEMPTS):
        index = read_index(read(place, MANIFEST), study)
        if index is None:
            break
        if index.told != told(settings):
            raise NotShown("its catalog is by older settings", f"run icf catalog {study}")
        try:
            get = partial(_shard, place)
            return index, {_SEARCH / name: read_shard(get, name) for name in index.files}
        except ValueError:  # it may have been written just then
            continue
    raise NotShown("it has no catalog, or a broken one", f"run icf catalog {study}")


def _shard(place: CatalogPath, name: str) -> bytes | None:
    return read(place, _SEARCH / name)


def _studies(root: Path) -> list[str]:
    """Those that this user may read."""
    return sorted(
        path.name
        for path in root.iterdir()
        if Visit.is_name(path.name) and path.is_dir() and os.access(path, os.R_OK | os.X_OK)
        if any(path.glob("*_metadata_tarball.json"))
    )
