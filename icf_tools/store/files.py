"""Files that appear whole or not at all, and one writer per visit."""

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from icf_tools.errors import AccessDenied, Conflict, IcfError, Locked
from icf_tools.model.visit import CatalogPath, StorePath
from icf_tools.store.container import NotBound, is_bound

PIECE = 1 << 20  # bytes; what is read at once
_PATIENCE = 600  # s; a catalog is written in less
_BETWEEN_LOOKS = 0.02  # s
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


class AlreadyThere(Conflict):
    message = "{} exists and is never overwritten; move it away to make it anew"


class OtherContent(Conflict):
    message = "{} is there with other content; move it away, or give another folder"


class FolderLocked(Locked):
    message = "the folder {} is in use by another process; run it again when that one is done"


class VisitLocked(Locked):
    message = "visit {} is in use by another process; run the command again when that one is done"


class CatalogLocked(Locked):
    message = "{} is being written by another process; run the command again when it is done"


class CannotWrite(AccessDenied):
    message = "cannot write to {}; give this user permission to write there"


class ReadOnly(AccessDenied):
    message = "cannot write to {}, which is mounted for reading only; mount or bind it for writing"


class NoRoom(IcfError):
    message = "no room to write {}: {}; free some and run the command again"


@contextmanager
def locked(store: StorePath) -> Iterator[None]:
    """Be the visit's only writer; remove what a killed one left behind.

    The lock belongs to the process and ends with it, however it ends. A
    caller that holds it may take it again. Raises VisitLocked at once.
    """
    with _locked(store.lock, store.root, 0, VisitLocked(store.visit)) as first:
        if first:
            for file in store.files:
                _part(file).unlink(missing_ok=True)
        yield


@contextmanager
def locked_catalog(place: CatalogPath) -> Iterator[None]:
    """Be the only writer of a catalog, once others are done with it. Raises CatalogLocked."""
    with _locked(place.lock, place.root, _PATIENCE, CatalogLocked(place.folder)):
        yield


@contextmanager
def _locked(path: Path, root: Path, patience: float, refusal: Locked) -> Iterator[bool]:
    """Hold a lock; whether it was not held before. Makes the folder that it is in."""
    from filelock import FileLock, Timeout

    folder = path.parent
    if not is_bound(folder):
        raise NotBound(folder)
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            sync_folder(root)
        lock = FileLock(path, is_singleton=True)
        lock.acquire(patience, _BETWEEN_LOOKS)
    except Timeout as err:
        raise refusal from err
    except PermissionError as err:
        raise CannotWrite(path if path.exists() else folder) from err
    except OSError as err:
        if err.errno != errno.EROFS:
            raise
        raise ReadOnly(folder) from err
    try:
        yield lock.lock_counter == 1
    finally:
        lock.release()


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Be the only one who writes to a folder, without a file of that in it. Raises FolderLocked."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise FolderLocked(folder) from err
        yield
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Have a folder, with those above it. Raises CannotWrite and NoRoom."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except PermissionError as err:
        raise CannotWrite(folder) from err
    except OSError as err:
        if err.errno in _NO_ROOM:
            raise NoRoom(folder, err.strerror) from err
        raise


@contextmanager
def new_file(path: Path, *, replace: bool = False, durable: bool = True) -> Iterator[BinaryIO]:
    """Write a file that appears under its name when it is complete, and on disk if `durable`.

    Raises AlreadyThere where the name is taken, before and after writing,
    unless it is one to `replace`; CannotWrite and NoRoom. Nothing is left then.
    The caller holds the lock.
    """
    if path.exists() and not replace:
        raise AlreadyThere(path)
    part = _part(path)
    try:
        with _create(part) as out:
            yield out
            out.flush()
            if durable:
                os.fsync(out.fileno())
        if replace:
            part.replace(path)
        else:
            _link(part, path)
    except OSError as err:
        if err.errno in _NO_ROOM:
            raise NoRoom(path, err.strerror) from err
        raise
    finally:
        part.unlink(missing_ok=True)
    if durable:
        sync_folder(path.parent)


def md5_of(path: Path) -> str:
    """The MD5 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as err:
        if err.errno not in (errno.EINVAL, errno.EBADF):  # some network file systems cannot
            raise
    finally:
        os.close(handle)


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _create(part: Path) -> BinaryIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.fdopen(os.open(part, flags, 0o666), "wb")
    except PermissionError as err:
        raise CannotWrite(part.parent) from err


def _link(part: Path, path: Path) -> None:
    try:
        os.link(part, path)  # unlike rename, refuses to replace
    except FileExistsError as err:
        raise AlreadyThere(path) from err
    except OSError as err:
        if err.errno not in NO_LINKS:
            raise
        if path.exists():
            raise AlreadyThere(path) from err
        os.rename(part, path)  # CIFS, exFAT: only the visit's lock guards the name
