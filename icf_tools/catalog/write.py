"""Write the catalog of a study, or bring it up to date.

in: the files of its visits    out: <study>/catalog/: view/, search/, static/, and datalad-catalog

The pages follow from the store: made anew they are the same to the byte.
"""

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from icf_tools.catalog import nodes
from icf_tools.catalog.assets import pages_of, static_files
from icf_tools.catalog.listing import Listing, list_visit
from icf_tools.catalog.manifest import (
    DATA,
    Index,
    changed,
    index_of,
    manifest_text,
    read_index,
)
from icf_tools.catalog.pages import Pages
from icf_tools.catalog.shards import Row, row_of
from icf_tools.catalog.view import view_page
from icf_tools.errors import Damaged
from icf_tools.index.records import NoMetadata, read_items
from icf_tools.model.progress import Progress
from icf_tools.model.url import checked_url
from icf_tools.model.visit import CatalogPath, StorePath, Visit
from icf_tools.settings import Settings
from icf_tools.store.deposit import NoStudy, NoVisit, visits_of
from icf_tools.store.files import locked_catalog, put

MANIFEST = "manifest.js"
_DATA = f"search/{DATA}"
_OURS = ("view", "search", "static", "metadata", "assets", "artwork", "templates", "schema")
"""Folders in which nothing else is left."""


@dataclass(frozen=True, slots=True)
class Catalogued:
    """A catalog in the store."""

    page: Path  #: where to begin
    visits: int
    series: int
    made: tuple[str, ...]  #: visits whose pages are new or other
    gone: tuple[str, ...]  #: visits that are in it no more
    left_out: tuple[tuple[Visit, str], ...] = ()  #: visits that are not in it, and why
    damaged: int = 0  #: how many of these have files that cannot be read


@dataclass(frozen=True, slots=True)
class _Study:
    """What the pages of a study depend on, beside its visits."""

    root: Path
    name: str
    settings: Settings
    deposit_url: str | None
    pages: Pages
    logo: bytes | None

    @classmethod
    def of(cls, root: Path, study: str, settings: Settings, deposit_url: str | None) -> "_Study":
        url = None if deposit_url is None else checked_url(deposit_url)
        return cls(root, study, settings, url, *pages_of(settings, study))

    @property
    def place(self) -> CatalogPath:
        return CatalogPath(self.root, self.name)

    @property
    def stamp(self) -> str:
        # of the logo the content counts, not where it is
        settings = replace(self.settings, bids=None, logo=None)
        said = repr((settings, self.deposit_url, self.pages)).encode()
        return sha256(said + (self.logo or b"")).hexdigest()[:16]

    @property
    def page(self) -> Path:
        return self.place.search / "index.html"

    @property
    def node(self) -> PurePosixPath:
        """Of datalad-catalog, with all visits."""
        return nodes.node_path(nodes.study_id(self.name), nodes.STUDY_VERSION)

    @property
    def dates(self) -> list[str]:
        """Keywords of elements that are dates."""
        return [tag.keyword for tag in self.settings.tags if tag.vr == "DA"]

    def listing(self, visit: str) -> Listing:
        store = StorePath(self.root, Visit(self.name, visit))
        return list_visit(store, self.settings, self.deposit_url)

    def visit_files(self, listing: Listing) -> dict[PurePosixPath, bytes]:
        """The pages of a visit, by their path in the catalog."""
        files: tuple[nodes.File, ...] = ()
        if self.settings.brand.content:
            files = nodes.dataset_files(listing, read_items(StorePath(self.root, listing.visit)))
        names = nodes.visit_id(listing.visit), nodes.visit_version(listing)
        view = view_page(listing, self.pages, deposit_url=self.deposit_url)
        return {
            PurePosixPath("view", f"{listing.visit.visit}.html"): view.encode(),
            **{path: nodes.node_text(node) for path, node in nodes.content_nodes(listing, files)},
            nodes.node_path(*names): nodes.node_text(nodes.visit_node(listing, files)),
        }


def catalog(
    root: Path,
    study: str,
    settings: Settings,
    deposit_url: str | None = None,
    *,
    visit: str | None = None,
    progress: Progress,
) -> Catalogued:
    """Write the pages of all visits; or of one, where those of the others are up to date.

    `deposit_url` is where the store's folder is served; without one the pages say
    what is on record. Visits that the store has no more leave it. Raises NoStudy, NoVisit,
    NoLogo, BadUrl, CatalogLocked; of one visit NoMetadata, BadMetadata, BadReport and
    BadVersions, too.
    """
    if not (root / study).is_dir():
        raise NoStudy(study, root)
    about = _Study.of(root, study, settings, deposit_url)
    with locked_catalog(about.place):
        there = {each.visit for each in visits_of(root, study)}
        if visit is not None:
            before = _Before.read(about)
            listing = about.listing(visit) if visit in there else None
            if listing is None and (before is None or visit not in before.entries):
                raise NoVisit(Visit(study, visit), root)
            if before is not None and (done := _update(about, before, visit, listing, there)):
                return done
        return _rebuild(about, there, progress)


@dataclass(frozen=True, slots=True)
class _Before:
    """What a catalog has that needs no visit to be made again but those that changed."""

    index: Index
    entries: dict[str, nodes.Node]  #: of the study's node, by visit

    @classmethod
    def read(cls, about: _Study) -> "_Before | None":
        """None where all is to be made again."""
        index = read_index(about.place.search / MANIFEST, about.name)
        if index is None or index.stamp != about.stamp:
            return None
        try:
            node = json.loads((about.place.folder / about.node).read_bytes())
            entries = {str(entry["dataset_path"]): entry for entry in node["subdatasets"]}
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return None
        return cls(index, entries) if len(entries) == index.visits else None


def _update(
    about: _Study, before: _Before, visit: str, listing: Listing | None, there: Collection[str]
) -> Catalogued | None:
    """Replace one visit, and let go those that are no more; None where shards are broken."""
    gone = sorted(before.entries.keys() - there)
    changes: dict[str, Row | None] = dict.fromkeys(gone)
    entries = {name: entry for name, entry in before.entries.items() if name in there}
    files: dict[PurePosixPath, bytes] = {}
    if listing is not None:
        changes[visit] = row_of(listing, about.dates)
        entries[visit] = nodes.visit_entry(listing)
        files = about.visit_files(listing)
    try:
        index, shards = changed(before.index, changes, about.place.search)
    except (OSError, ValueError):
        return None
    made = put_all(about.place, files)
    _put_index(about, index, shards, entries)
    remove_others(about.place, _DATA, (f"search/{file}" for file in index.files))
    for name in changes:
        nodes_of = str(nodes.METADATA / nodes.visit_id(Visit(about.name, name)))
        remove_others(about.place, nodes_of, map(str, files))
    for name in gone:
        about.place.view(name).unlink(missing_ok=True)
    return Catalogued(
        page=about.page,
        visits=index.visits,
        series=index.series,
        made=(visit,) if made else (),
        gone=tuple(gone),
    )


def _rebuild(about: _Study, there: Collection[str], progress: Progress) -> Catalogued:
    """Make all pages, and remove what is none of them."""
    place = about.place
    expected = {str(path) for path in _put_shell(about)}
    rows: list[Row] = []
    entries: dict[str, nodes.Node] = {}
    made: list[str] = []
    left_out: list[tuple[Visit, str]] = []
    damaged = 0
    for done, visit in enumerate(sorted(there)):
        progress("writing pages", done, len(there))
        try:
            listing = about.listing(visit)
        except (NoMetadata, Damaged) as err:
            damaged += isinstance(err, Damaged)
            left_out.append((Visit(about.name, visit), str(err)))
            continue
        files = about.visit_files(listing)
        rows.append(row_of(listing, about.dates))
        entries[visit] = nodes.visit_entry(listing)
        if put_all(place, files):
            made.append(visit)
        expected.update(map(str, files))
    index, shards = index_of(about.name, about.stamp, rows)
    was = {path.stem for path in place.folder.glob("view/*.html")}
    expected.update(map(str, _put_index(about, index, shards, entries)))
    expected.update(f"search/{file}" for file in index.files)
    for folder in _OURS:
        remove_others(place, folder, expected)
    return Catalogued(
        page=about.page,
        visits=index.visits,
        series=index.series,
        made=tuple(made),
        gone=tuple(sorted(was - entries.keys())),
        left_out=tuple(left_out),
        damaged=damaged,
    )


def _put_shell(about: _Study) -> Iterator[PurePosixPath]:
    """Write what does not depend on visits, but for the manifest."""
    from icf_tools.catalog.shell import shell_files  # it looks for a package, which takes a while

    brand = about.pages.brand
    files = dict(shell_files(brand, about.logo))
    files |= static_files(brand, about.logo, viewer=True)
    elements = [element for element in about.settings.elements if element.enabled]
    search = about.pages.render("search.html", site=False, study=about.name, elements=elements)
    files[PurePosixPath("search/index.html")] = search.encode()
    url = about.deposit_url or ""
    address = (
        f"{url}/{about.name}"
        if url.startswith("http")
        else f"https://data.example.org/store/{about.name}"
    )
    path = urlsplit(address).path
    readme = about.pages.render("README.md", study=about.name, base=address, path=path)
    files[PurePosixPath("README.md")] = readme.encode()
    files[nodes.HOME] = nodes.node_text(nodes.home(about.name))
    put_all(about.place, files)
    yield from files


def _put_index(
    about: _Study, index: Index, shards: Mapping[str, bytes], entries: Mapping[str, nodes.Node]
) -> Collection[PurePosixPath]:
    """Write what tells of all visits, the manifest after the shards."""
    node = nodes.study_node(about.name, about.pages.brand, entries.values())
    files = {PurePosixPath("search", name): content for name, content in shards.items()}
    files[about.node] = nodes.node_text(node)
    files[PurePosixPath("search", MANIFEST)] = manifest_text([index], "../")
    put_all(about.place, files)
    return files.keys()


def put_all(place: CatalogPath, files: Mapping[PurePosixPath, bytes]) -> bool:
    """Whether one of them was not there as it is now."""
    return bool(sum([put(place.folder / path, content) for path, content in files.items()]))


def remove_others(place: CatalogPath, folder: str, expected: Iterable[str]) -> None:
    """Remove the files below a folder of the catalog that are none of those, and empty folders."""
    keep = frozenset(expected)
    for path, folders, names in os.walk(place.folder / folder, topdown=False):
        within = Path(path)
        for name in names:
            if (within / name).relative_to(place.folder).as_posix() not in keep:
                (within / name).unlink()
        for name in folders:
            if not (within / name).is_symlink() and not any((within / name).iterdir()):
                (within / name).rmdir()
