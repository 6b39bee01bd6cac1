"""A store wherever it is, for Python and notebooks.

in: URL or folder    out: Store; of it Study, StoredVisit

    icf_tools.open_store(url).study("my-study").visit("P000123").series()
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from icf_tools.access.credential import Ask, ask_terminal
from icf_tools.access.source import LocalFile, NotThere, Opened, Opener, Source, read_file
from icf_tools.access.stored import StoredVisit
from icf_tools.errors import IcfError, UsageError
from icf_tools.model.url import checked_url
from icf_tools.model.visit import BadIdentifier, StorePath, Visit
from icf_tools.store.deposit import NoStore, NoStudy, visits_with_metadata


class NoList(UsageError):
    message = "a server does not tell what {} holds; name it, the pages of the catalog list it"


def open_store(place: str | os.PathLike[str], ask: Ask | None = ask_terminal) -> "Store":
    """A store at a URL or in a folder; nothing is read yet.

    `ask` is called with the name of a realm of which no credential is known, and returns
    user and password, or None. Raises BadUrl and NoStore.
    """
    text = os.fspath(place)
    if "://" not in text:
        folder = Path(text)
    else:
        url = checked_url(text)
        if not url.startswith("file:"):
            return Store(url, None, Opener(ask))
        folder = Path(unquote(urlsplit(url).path))
    if not folder.is_dir():
        raise NoStore(folder)
    return Store(folder.absolute().as_uri(), folder, Opener(ask))


@dataclass(frozen=True, slots=True, repr=False)
class Store:
    """Studies; a context that ends its connections."""

    url: str
    folder: Path | None  #: None where it is on a server
    opener: Opener = field(compare=False)

    def study(self, name: str) -> "Study":
        """One of them, there or not. Raises BadIdentifier."""
        if not Visit.is_name(name):
            raise BadIdentifier("study", name)
        return Study(self, name)

    def studies(self) -> tuple[str, ...]:
        """The names of those in a folder. Raises NoList where it is on a server."""
        if self.folder is None:
            raise NoList(self.url)
        found = (each.name for each in self.folder.iterdir() if Visit.is_name(each.name))
        return tuple(sorted(name for name in found if self._has_visits(name)))

    def _has_visits(self, study: str) -> bool:
        try:
            return bool(Study(self, study).visits())
        except (NotADirectoryError, PermissionError):  # it may be closed to this user
            return False

    def source(self, path: Path) -> Source:
        """A file of it, by its path from the root."""
        if self.folder is None:
            return self.opener(f"{self.url}/{path.as_posix()}")
        return LocalFile(self.folder / path)

    def close(self) -> None:
        """End all connections; one that is needed again is made again."""
        self.opener.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<store {self.folder or self.url}>"


@dataclass(frozen=True, slots=True, repr=False)
class Study:
    """Visits."""

    store: Store
    name: str

    def visit(self, name: str) -> StoredVisit:
        """One of them; its metadata is read now, and not again.

        Raises BadIdentifier, BadFacts and what reading a Source raises, as NotThere.
        """
        files = StorePath(Path(), Visit(self.name, name))
        source = self.store.source
        facts, records = source(files.tarball_json), source(files.dicoms_json)
        return StoredVisit.described(files.visit, facts, records, _Tarball(self.store, files))

    def visits(self) -> tuple[str, ...]:
        """The names of those with metadata in a folder.

        Raises NoList where it is on a server, and NoStudy.
        """
        folder = self.store.folder
        if folder is None:
            raise NoList(f"{self.store.url}/{self.name}")
        try:
            names = visits_with_metadata(folder, self.name)
        except FileNotFoundError as err:
            raise NoStudy(self.name, folder) from err
        return tuple(sorted(filter(Visit.is_name, names)))

    def __repr__(self) -> str:
        return f"<study {self.name} of {self.store!r}>"


class _Tarball:
    """A Source: a tarball beside its metadata, else where its dataset has it from."""

    def __init__(self, store: Store, files: StorePath) -> None:
        self._store = store
        self._files = files
        self._source = store.source(files.tarball)

    def __reduce__(self) -> tuple[type["_Tarball"], tuple[Store, StorePath]]:
        """Another process opens it itself."""
        return _Tarball, (self._store, self._files)

    @property
    def url(self) -> str:
        return self._source.url

    def open(self, start: int, end: int | None) -> Opened:
        try:
            return self._source.open(start, end)
        except NotThere:
            elsewhere = self._elsewhere()
            if elsewhere is None:
                raise
            self._source = elsewhere
        return self._source.open(start, end)

    def _elsewhere(self) -> Source | None:
        """By the record of the newest version, as far as that is of use here.

        A server is not let lead to files of this computer, nor to other hosts by ssh, nor to where
        nothing is encrypted any more.
        """
        try:
            versions = json.loads(read_file(self._store.source(self._files.versions_json)))
            url = checked_url(versions[-1]["store_url"])
        except (IcfError, ValueError, LookupError, TypeError, RecursionError):
            return None
        open_ones = ("http:",) if self._store.url.startswith("http:") else ()
        if self._store.folder is None and not url.startswith(("https:", *open_ones)):
            return None
        return self._store.opener(f"{url}/{self._files.visit.store_path}")
