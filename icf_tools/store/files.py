"""Files that appear whole or not at all, and one writer per visit."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from icf_tools.errors import AccessDenied, Conflict, IcfError, Locked
from icf_tools.model.visit import StorePath
from icf_tools.store.container import NotBound, is_bound

PIECE = 1 << 20  # bytes; what is read at once
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


class AlreadyThere(Conflict):
    message = "{} exists and is never overwritten; move it away to make it anew"


class VisitLocked(Locked):
    message = "visit {} is in use by another process; run the command again when that one is done"


class CannotWrite(AccessDenied):
    message = "cannot write to {}; give this user permission to write to the store"


class ReadOnly(AccessDenied):
    message = "cannot write to {}, which is mounted for reading only; mount or bind it for writing"


class NoRoom(IcfError):
    message = "no room to write {}: {}; free some and run the command again"


@contextmanager
def locked(store: StorePath) -> Iterator[None]:
    """Be the visit's only writer; remove what a killed one left behind.

    The lock belongs to the process and ends with it, however it ends. A
    caller that holds it may take it again.
    """
    from filelock import FileLock, Timeout

    if not is_bound(store.study):
        raise NotBound(store.study)
    try:
        if not store.study.is_dir():
            store.study.mkdir(parents=True, exist_ok=True)
            sync_folder(store.root)
        lock = FileLock(store.lock, timeout=0, is_singleton=True)
        lock.acquire()
    except Timeout as err:
        raise VisitLocked(store.visit) from err
    except PermissionError as err:
        raise CannotWrite(store.lock if store.lock.exists() else store.study) from err
    except OSError as err:
        if err.errno != errno.EROFS:
            raise
        raise ReadOnly(store.study) from err
    try:
        if lock.lock_counter == 1:
            for file in store.files:
                _part(file).unlink(missing_ok=True)
        yield
    finally:
        lock.release()


@contextmanager
def new_file(path: Path, *, replace: bool = False) -> Iterator[BinaryIO]:
    """Write a file that appears under its name when it is complete, and on disk.

    Raises AlreadyThere where the name is taken, before and after writing,
    unless it is one to `replace`; CannotWrite and NoRoom. Nothing is left then.
    The caller holds the visit's lock.
    """
    if path.exists() and not replace:
        raise AlreadyThere(path)
    part = _part(path)
    try:
        with _create(part) as out:
            yield out
            out.flush()
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
