"""Write the catalog of a study, or bring it up to date.

in: the files of its visits    out: <study>/catalog/: view/, search/, static/, and datalad-catalog

The pages follow from the store: made anew they are the same to the byte.
"""

import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from icf_tools.catalog import nodes
from icf_tools.catalog.assets import STATIC, asset_names, has_viewer, pages_of, static_files
from icf_tools.catalog.folder import claim, put_all, read, remove_others
from icf_tools.catalog.listing import list_visit
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
from icf_tools.errors import Damaged, IcfError
from icf_tools.index.records import NoMetadata, read_items
from icf_tools.model.progress import Progress
from icf_tools.model.url import checked_url
from icf_tools.model.visit import CatalogPath, StorePath, Visit
from icf_tools.settings import Settings
from icf_tools.store.deposit import NoStore, NoStudy, NoVisit, visits_of, visits_with_metadata
from icf_tools.store.files import locked_catalog

_VIEW, _SEARCH = PurePosixPath("view"), PurePosixPath("search")
MANIFEST = _SEARCH / "manifest.js"
_HOMES = (PurePosixPath("index.html"), PurePosixPath("config.json"), _SEARCH / "index.html")
_SHELL = map(PurePosixPath, ("metadata", "assets", "artwork", "templates", "schema"))
_OURS = (_VIEW, _SEARCH, STATIC, *_SHELL)
"""Folders in which nothing else is left."""

_BROKEN = (
    *(ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError),
    ValueError,
)
"""What comes of files that are not as their formats have them."""


class BadVisit(Damaged):
    message = "visit {} has a file that cannot be read, or holds what cannot be shown ({}); mend it"


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

    def nodes_of(self, visit: str) -> PurePosixPath:
        """The folder of a visit's nodes."""
        return nodes.METADATA / nodes.visit_id(Visit(self.name, visit))

    @property
    def node(self) -> PurePosixPath:
        """Of datalad-catalog, with all visits."""
        return nodes.node_path(nodes.study_id(self.name), nodes.STUDY_VERSION)

    @property
    def dates(self) -> list[str]:
        """Keywords of elements that are dates."""
        return [tag.keyword for tag in self.settings.tags if tag.vr == "DA"]

    @property
    def told(self) -> str:
        """Digest of what it lets be told."""
        return told(self.settings)

    def visit(self, name: str) -> "_Made":
        """What is made of a visit. Raises NoMetadata, and Damaged whatever is wrong with it."""
        store = StorePath(self.root, Visit(self.name, name))
        try:
            listing = list_visit(store, self.settings, self.deposit_url)
            files: tuple[nodes.File, ...] = ()
            if self.settings.brand.content:
                files = nodes.dataset_files(listing, read_items(store))
            names = nodes.visit_id(listing.visit), nodes.visit_version(listing)
            view = view_page(
                listing, self.pages, deposit_url=self.deposit_url, has_viewer=has_viewer()
            )
            return _Made(
                row_of(listing, self.dates),
                nodes.visit_entry(listing),
                {
                    _view(name): view.encode(),
                    **{path: nodes.node_text(n) for path, n in nodes.content_nodes(listing, files)},
                    nodes.node_path(*names): nodes.node_text(nodes.visit_node(listing, files)),
                },
            )
        except _BROKEN as err:
            raise BadVisit(store.visit, type(err).__name__) from err


@dataclass(frozen=True, slots=True)
class _Made:
    """What a catalog has of a visit."""

    row: Row  #: of the search index
    entry: nodes.Node  #: in the study's node
    files: dict[PurePosixPath, bytes]  #: by their path in the catalog


def told(settings: Settings) -> str:
    """Digest of what settings let be told of visits, so that a catalog by others is known."""
    said = repr((settings.tags, settings.previews))
    return sha256(said.encode()).hexdigest()[:16]


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
    what is on record. Visits that the store has no more, or no metadata of, leave it.
    Raises NoStore, NoStudy, NoVisit, NoLogo, BadUrl, NotOurs, OddFile, CatalogLocked; of one visit
    NoMetadata, BadMetadata, BadReport, BadVersions and BadVisit, too.
    """
    if not root.is_dir():
        raise NoStore(root)
    if not (root / study).is_dir():
        raise NoStudy(study, root)
    about = _Study.of(root, study, settings, deposit_url)
    with locked_catalog(about.place):
        known = [each.visit for each in visits_of(root, study)]
        if not known and not about.place.folder.exists():
            raise NoStudy(study, root)
        if visit is None:
            return _rebuild(about, known, progress)
        if visit not in known and not about.place.view(visit).is_file():
            raise NoVisit(Visit(study, visit), root)
        trouble: IcfError | None = None
        made = None
        try:
            made = about.visit(visit) if visit in known else None
        except (NoMetadata, Damaged) as err:  # its page leaves the catalog before this is told
            trouble = err
        before = _Before.read(about)
        done = None if before is None else _update(about, before, visit, made)
        if done is None:
            done = _rebuild(about, known, progress)
        if trouble is not None:
            raise trouble
        return done


@dataclass(frozen=True, slots=True)
class _Before:
    """What a catalog has that needs no visit to be made again but those that changed."""

    index: Index
    entries: dict[str, nodes.Node]  #: of the study's node, by visit

    @classmethod
    def read(cls, about: _Study) -> "_Before | None":
        """None where all is to be made again: it is of other settings, broken or half written."""
        place = about.place
        index = read_index(read(place, MANIFEST), about.name)
        if index is None or index.stamp != about.stamp:
            return None
        node = read(place, about.node)
        if node is None or _digest(node) != index.node:
            return None
        entries = {str(each["dataset_path"]): each for each in json.loads(node)["subdatasets"]}
        try:
            pages = set(os.listdir(place.folder / _VIEW))
            static = set(os.listdir(place.static))
        except OSError:
            return None
        if pages != {f"{name}.html" for name in entries} or not static >= asset_names():
            return None
        if not all((place.folder / path).is_file() for path in _HOMES):
            return None
        return cls(index, entries)


def _update(about: _Study, before: _Before, visit: str, made: _Made | None) -> Catalogued | None:
    """Replace one visit, and let go those that are no more; None where shards are broken.

    What is to go goes first: a run that is stopped leaves nothing of it.
    """
    place = about.place
    gone = before.entries.keys() - visits_with_metadata(about.root, about.name)
    if made is None and visit in before.entries:
        gone.add(visit)
    changes: dict[str, Row | None] = dict.fromkeys(gone)
    entries = {name: entry for name, entry in before.entries.items() if name not in gone}
    if made is not None:
        changes[visit] = made.row
        entries[visit] = made.entry
    try:
        index, shards = changed(before.index, changes, lambda name: read(place, _SEARCH / name))
    except ValueError:
        return None
    _begin(about)
    for name in gone:
        remove_others(place, _view(name), ())
        remove_others(place, about.nodes_of(name), ())
    is_new = made is not None and put_all(place, made.files)
    _put_index(about, index, shards, entries)
    remove_others(place, _SEARCH / DATA, (_SEARCH / file for file in index.files))
    if made is not None:
        remove_others(place, about.nodes_of(visit), made.files)
    return Catalogued(
        page=about.page,
        visits=index.visits,
        series=index.series,
        made=(visit,) if is_new else (),
        gone=tuple(sorted(gone)),
    )


def _rebuild(about: _Study, known: Collection[str], progress: Progress) -> Catalogued:
    """Make all pages, and remove what is none of them."""
    place = about.place
    _begin(about)
    was = {path.stem for path in (place.folder / _VIEW).glob("*.html")}
    expected = set(_put_shell(about))
    rows: list[Row] = []
    entries: dict[str, nodes.Node] = {}
    new: list[str] = []
    left_out: list[tuple[Visit, str]] = []
    damaged = 0
    for done, name in enumerate(sorted(known)):
        progress("writing pages", done, len(known))
        try:
            made = about.visit(name)
        except (NoMetadata, Damaged) as err:
            damaged += isinstance(err, Damaged)
            left_out.append((Visit(about.name, name), str(err)))
            continue
        rows.append(made.row)
        entries[name] = made.entry
        if put_all(place, made.files):
            new.append(name)
        expected.update(made.files)
    for folder in (_VIEW, nodes.METADATA):  # before the index, as above
        remove_others(place, folder, {*expected, about.node})
    index, shards = index_of(about.name, about.stamp, rows)
    expected.update(_put_index(about, index, shards, entries))
    expected.update(_SEARCH / file for file in index.files)
    for folder in _OURS:
        remove_others(place, folder, expected)
    return Catalogued(
        page=about.page,
        visits=index.visits,
        series=index.series,
        made=tuple(new),
        gone=tuple(sorted(was - entries.keys())),
        left_out=tuple(left_out),
        damaged=damaged,
    )


def _begin(about: _Study) -> None:
    """Have the folder say that it is being written: whoever finds it so makes all of it again."""
    claim(about.place)
    index = read_index(read(about.place, MANIFEST), about.name)
    if index is None:
        remove_others(about.place, MANIFEST, ())
    else:
        put_all(about.place, {MANIFEST: manifest_text([replace(index, stamp="")], "../")})


def _put_shell(about: _Study) -> Iterator[PurePosixPath]:
    """Write what does not depend on visits, but for the manifest."""
    from icf_tools.catalog.shell import shell_files  # it looks for a package, which takes a while

    brand = about.pages.brand
    files = dict(shell_files(brand, about.logo))
    files |= static_files(brand, about.logo, viewer=True)
    elements = [element for element in about.settings.elements if element.enabled]
    search = about.pages.render("search.html", site=False, study=about.name, elements=elements)
    files[PurePosixPath("search/index.html")] = search.encode()
    address = f"{about.deposit_url or ''}/{about.name}"
    if not address.startswith("http"):
        address = f"https://data.example.org/store/{about.name}"
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
    node = nodes.node_text(nodes.study_node(about.name, about.pages.brand, entries.values()))
    index = replace(index, told=about.told, node=_digest(node))
    files = {_SEARCH / name: content for name, content in shards.items()}
    files[about.node] = node
    files[MANIFEST] = manifest_text([index], "../")
    put_all(about.place, files)
    return files.keys()


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()[:16]


def _view(visit: str) -> PurePosixPath:
    return _VIEW / f"{visit}.html"
