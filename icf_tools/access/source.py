"""A file of a store, from a byte to a byte, wherever it is.

in: URL    out: Source; of it Opened, bytes that are on their way
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from icf_tools.errors import AccessDenied, Damaged, NotFound, RemoteFailed, UsageError

if TYPE_CHECKING:
    from icf_tools.access.credential import Ask, Credential, Realm
    from icf_tools.access.shell import Shells
    from icf_tools.access.web import Web


class UnknownScheme(UsageError):
    message = "{} cannot be read; the URL of a store begins with https, http, ssh or file"


class NotThere(NotFound):
    message = "there is no {}; see that the URL of the store, the study and the visit are right"


class IsFolder(NotThere):
    message = "{} is a folder and no file; see that the URL of the store is right"


class NotAllowed(AccessDenied):
    message = "{} may not be read; see that its name is right, or ask who runs the store for access"


class Interrupted(RemoteFailed):
    """It may go well another time; `Ranges` tries again."""

    message = "{} does not come: {}; try again later, or ask who runs the store"


class NoRange(RemoteFailed):
    message = (
        "{} comes as a whole where some bytes were asked for; have the server answer Range "
        "requests, or take git-annex-remote-icf off the PATH and use datalad get"
    )


class BadAnswer(RemoteFailed):
    message = "the server's answer for {} {}; tell who runs it"


class OtherTarball(Damaged):
    message = (
        "the tarball at {} {}; update the clone with datalad update --how merge, "
        "or tell who runs the store"
    )


class Opened(Protocol):
    """Bytes that are on their way."""

    @property
    def total(self) -> int | None:
        """Bytes of the whole file; None where that is not told."""

    def read(self, most: int) -> bytes:
        """Some more of them, none at the end. Raises Interrupted."""

    def close(self) -> None:
        """Want no more."""


class Source(Protocol):
    """A file that can be read from any byte on."""

    @property
    def url(self) -> str: ...

    def open(self, start: int, end: int | None) -> Opened:
        """Ask for the bytes from `start` up to, not including, `end`; None is the file's end.

        Raises NotThere, NotAllowed, Interrupted, NoRange, BadAnswer, and
        OtherTarball where the file ends before `start`.
        """


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of this computer."""

    path: Path

    @property
    def url(self) -> str:
        return self.path.absolute().as_uri()

    def open(self, start: int, end: int | None) -> "_LocalBytes":
        try:
            # a pipe would be waited for
            handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError, ValueError) as err:  # ValueError: a NUL
            raise NotThere(self.path) from err
        except PermissionError as err:
            raise NotAllowed(self.path) from err
        except OSError as err:
            raise Interrupted(self.path, err.strerror) from err
        facts = os.fstat(handle)
        if stat.S_ISDIR(facts.st_mode):
            os.close(handle)
            raise IsFolder(self.path)
        if not stat.S_ISREG(facts.st_mode):
            os.close(handle)
            raise NotThere(self.path)
        return _LocalBytes(handle, start, end, facts.st_size, self.path)


class _LocalBytes:
    def __init__(self, handle: int, start: int, end: int | None, total: int, path: Path) -> None:
        self._handle = handle
        self._position = start
        self._end = total if end is None else end
        self._path = path
        self.total = total

    def read(self, most: int) -> bytes:
        wanted = min(most, self._end - self._position)
        try:
            data = os.pread(self._handle, wanted, self._position)
        except OSError as err:
            raise Interrupted(self._path, err.strerror) from err
        self._position += len(data)
        return data

    def close(self) -> None:
        os.close(self._handle)


class Opener:
    """Makes Sources that share connections and credentials.

    `ask` is called with the name of a realm of which no credential is known, and returns user
    and password; see `credential.ask_terminal`.
    """

    def __init__(self, ask: "Ask | None" = None) -> None:
        self._ask = ask
        self._web: Web | None = None
        self._shells: Shells | None = None
        self._lock = Lock()

    def __reduce__(self) -> "tuple[type[Opener], tuple[Ask | None]]":
        """Another process has connections of its own."""
        return Opener, (self._ask,)

    def __call__(self, url: str) -> Source:
        """The file at a URL. Raises UnknownScheme."""
        try:
            with self._lock:
                return self._source(url)
        except ValueError as err:  # not a host, or not a port
            raise UnknownScheme(url) from err

    def _source(self, url: str) -> Source:
        scheme = urlsplit(url).scheme.lower()
        if scheme in ("http", "https"):
            if self._web is None:
                from icf_tools.access.web import Web

                self._web = Web(self._ask)
            return self._web.file(url)
        if scheme == "ssh":
            if self._shells is None:
                from icf_tools.access.shell import Shells

                self._shells = Shells()
            return self._shells.file(url)
        if scheme == "file":
            return LocalFile(Path(unquote(urlsplit(url).path)))
        raise UnknownScheme(url)

    @property
    def let_in(self) -> "dict[Realm, Credential]":
        """What the web servers that were asked until now let in, by realm."""
        return {} if self._web is None else self._web.let_in.copy()

    def close(self) -> None:
        """End all connections."""
        if self._web is not None:
            self._web.close()
        if self._shells is not None:
            self._shells.close()


def read_file(source: Source, most: int = 1 << 30) -> bytes:
    """A small file as a whole. Raises what `Source.open` and `Opened.read` raise."""
    from icf_tools.access.ranges import retried

    def attempt() -> bytes:
        opened = source.open(0, None)
        parts = []
        try:
            while piece := opened.read(1 << 20):
                parts.append(piece)
                if sum(map(len, parts)) > most:
                    raise BadAnswer(source.url, f"has more than {most} bytes")
        finally:
            opened.close()
        data = b"".join(parts)
        if opened.total is not None and len(data) != opened.total:
            raise Interrupted(source.url, "it ended early")
        return data

    return retried(attempt)
