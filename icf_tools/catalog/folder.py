"""The folder of a catalog: nothing is written or removed outside of it.

in: files by their path in the folder    out: the folder with these, and without others

Whoever may write to a study could put a link in the way of one who may write elsewhere, too.
"""

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from icf_tools.errors import Conflict
from icf_tools.model.visit import CatalogPath
from icf_tools.store.files import make_folder, new_file

# Source: Cache Directory Tagging Specification; programs for backup may leave such a folder out.
_MARK = PurePosixPath("CACHEDIR.TAG")
_TAG = b"""\
Signature: 8a477f597d28d172789f06886806bc55
# This folder was made by icf_tools: "icf catalog" makes it again from the store.
# What is put into its folders by others is removed.
"""


class NotOurs(Conflict):
    message = "{} is there, and was not made by icf catalog; move it away, or give it another name"


class OddFile(Conflict):
    message = "{} is a link, or else no plain file or folder, as a catalog has them; remove it"


def claim(place: CatalogPath) -> None:
    """Make the folder, or see that it is a catalog. Raises NotOurs."""
    folder = place.folder
    kind = _kind(folder)
    if kind not in (None, stat.S_IFDIR):
        raise NotOurs(folder)
    if kind is not None and _kind(folder / _MARK) != stat.S_IFREG and _has_files(folder):
        raise NotOurs(folder)
    put_all(place, {_MARK: _TAG})


def read(place: CatalogPath, path: PurePosixPath) -> bytes | None:
    """The content of a plain file, None where there is none."""
    return read_plain(place.folder / path)


def read_plain(path: Path, most: int | None = None) -> bytes | None:
    """The content of a file of at most so many bytes.

    None where there is none: not what a link leads to, and no pipe, which would be waited for.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or (most is not None and found.st_size > most):
            return None
        with open(handle, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(handle)


def put_all(place: CatalogPath, files: Mapping[PurePosixPath, bytes]) -> bool:
    """Have these files; whether one of them was not there as it is now.

    They can be made again: a crash of the machine may lose them.
    Raises OddFile, CannotWrite and NoRoom.
    """
    known: set[PurePosixPath] = set()
    return sum(_put(place, path, content, known) for path, content in files.items()) > 0


def remove_others(
    place: CatalogPath, folder: PurePosixPath, expected: Iterable[PurePosixPath]
) -> None:
    """Remove the files below a folder of the catalog that are none of those, and empty folders.

    Of a link only itself is removed. Raises OddFile.
    """
    _check_folders(place, folder.parent, set())
    top = place.folder / folder
    if _kind(top) != stat.S_IFDIR:
        top.unlink(missing_ok=True)
        return
    keep = {place.folder / path for path in expected}
    for path, folders, names in os.walk(top, topdown=False):
        within = Path(path)
        for name in folders:
            if _kind(within / name) not in (None, stat.S_IFDIR):
                names.append(name)
        for name in names:
            if within / name not in keep:
                (within / name).unlink()
        if not os.listdir(within):
            within.rmdir()


def _has_files(folder: Path) -> bool:
    """But for hidden ones: settings of a web server may be there before."""
    return any(not name.startswith(".") for name in os.listdir(folder))


def _put(
    place: CatalogPath, path: PurePosixPath, content: bytes, known: set[PurePosixPath]
) -> bool:
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(path)
    _check_folders(place, path.parent, known)
    kind = _kind(place.folder / path)
    if kind == stat.S_IFREG and read(place, path) == content:
        return False
    if kind == stat.S_IFDIR:
        raise OddFile(place.folder / path)
    make_folder((place.folder / path).parent)
    with new_file(place.folder / path, replace=True, durable=False) as out:
        out.write(content)
    return True


def _check_folders(place: CatalogPath, folder: PurePosixPath, known: set[PurePosixPath]) -> None:
    """See that a folder of the catalog, and those above it in there, is one or is not there."""
    for each in (folder, *folder.parents):
        if each not in known:
            if _kind(place.folder / each) not in (None, stat.S_IFDIR):
                raise OddFile(place.folder / each)
            known.add(each)


def _kind(path: Path) -> int | None:
    """As stat(2) tells of it, not of what a link leads to; None where there is nothing."""
    try:
        return stat.S_IFMT(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return None
