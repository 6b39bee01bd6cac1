"""Files of a visit in a folder, read out of its tarball; no git is needed.

in: StoredVisit, Records, a folder    out: FOLDER/<path> for each, FOLDER/<visit>.md5; Fetched

A file appears when it is whole and its MD5 is right. What is there already is
kept if it is the same, and never replaced: run again, it goes on.
"""

import errno
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from icf_tools.access.parts import Pieces, bytes_of
from icf_tools.access.ranges import Ranges
from icf_tools.access.stored import StoredVisit, WrongContent, read
from icf_tools.index.scan import Record
from icf_tools.model.progress import Progress
from icf_tools.store.container import NotBound, is_bound
from icf_tools.store.files import (
    NoRoom,
    OtherContent,
    locked_folder,
    make_folder,
    md5_of,
    new_file,
)

_NO_NAME = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EISDIR, errno.ENOTDIR}
_RESERVED = re.compile(r"\..*\.part")  # what a file is called until it is whole
_LINE = re.compile(rb"(\\?)[0-9a-f]{32} [ *](.+)")
OTHER_CONTENT = "what came is not what the metadata tells; tell who runs the store"
NO_NAME = "a file of this name cannot be made here"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, before any of it."""

    files: int  #: that were asked for
    here: tuple[Record, ...]  #: of them in the folder already
    wanted: tuple[Record, ...]
    size: int  #: bytes to read

    @property
    def room(self) -> int:
        """Bytes of disk that it takes."""
        return sum(record.size for record in self.wanted)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came."""

    files: int  #: that came now
    here: int  #: that were there
    size: int  #: bytes of those that came
    failed: Mapping[str, str]  #: why, by path
    sums: Path  #: the list of MD5s, as md5sum -c takes it
    whole: bool  #: whether the server sent nothing but the whole tarball


def fetch(
    visit: StoredVisit,
    records: Sequence[Record],
    folder: Path,
    *,
    planned: Callable[[Plan], object] = lambda _: None,
    progress: Progress = lambda *_: None,
) -> Fetched:
    """Have these members as files; `planned` is told before the first is asked for.

    The list of MD5s keeps what it had of other files that are still there. Raises NoPlaces,
    OtherContent where a name is taken, by a link for example, FolderLocked, NotBound,
    CannotWrite, NoRoom, and what `Ranges.pieces` raises: what came until then stays.
    """
    for record in records:
        visit.place(record)
    if not is_bound(folder):
        raise NotBound(folder)
    if folder.exists() and not folder.is_dir():
        raise OtherContent(folder)
    make_folder(folder)
    sums = folder / f"{visit.visit.visit}.md5"
    with locked_folder(folder):
        listed = _listed(sums)
        failed: dict[str, str] = {}
        plan = _plan(visit, records, folder, failed, sums)
        planned(plan)
        free = shutil.disk_usage(folder).free
        if plan.room > free:
            raise NoRoom(folder, f"{plan.room} bytes are needed, {free} are free")
        ranges = visit.ranges()
        came = list(_receive(visit, ranges, plan, folder, failed, progress))
        listed |= {_name(record): _line(record) for record in (*plan.here, *came)}
        kept = {name: line for name, line in listed.items() if _is_there(folder, name)}
        if kept or sums.exists():
            with new_file(sums, replace=True, durable=False) as out:
                out.writelines(kept[name] for name in sorted(kept))
    size = sum(record.size for record in came)
    return Fetched(len(came), len(plan.here), size, failed, sums, ranges.is_whole)


def _plan(
    visit: StoredVisit, records: Sequence[Record], folder: Path, failed: dict[str, str], sums: Path
) -> Plan:
    here, wanted, folders = [], [], {folder}
    for record in records:
        name = record.path.rpartition("/")[2]
        try:
            path = folder / record.path
            # what begins with a dot may be obeyed by a shell, by ssh or by git
            is_hidden = record.path.startswith(".")
            if is_hidden or _RESERVED.fullmatch(name) or sums in (path, *path.parents):
                failed[record.path] = NO_NAME
            elif _has(folder, record, folders):
                here.append(record)
            else:
                wanted.append(record)
        except OSError as err:
            failed[record.path] = _no_name(err)
    size = bytes_of([visit.place(record) for record in wanted])
    return Plan(len(records), tuple(here), tuple(wanted), size)


def _has(folder: Path, record: Record, folders: set[Path]) -> bool:
    """Whether the file is there. Raises OtherContent, also where a link leads elsewhere."""
    path = folder / record.path
    for above in reversed(path.parents):
        if above not in folders and above.is_relative_to(folder) and os.path.lexists(above):
            if not stat.S_ISDIR(above.lstat().st_mode):
                raise OtherContent(above)
            folders.add(above)
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    if (
        not stat.S_ISREG(found.st_mode)
        or found.st_size != record.size
        or md5_of(path) != record.md5
    ):
        raise OtherContent(path)
    return True


def _receive(
    visit: StoredVisit,
    ranges: Ranges,
    plan: Plan,
    folder: Path,
    failed: dict[str, str],
    progress: Progress,
) -> Iterator[Record]:
    """Those that came and are right."""
    done = 0

    def seen(pieces: Pieces) -> Iterator[memoryview]:
        nonlocal done
        for piece in pieces:
            yield piece
            done += len(piece)
            progress("fetch", done, plan.room)

    for record, pieces in read(visit, ranges, plan.wanted):
        path = folder / record.path
        try:
            make_folder(path.parent)
            _write(path, record, seen(pieces))
        except WrongContent:
            failed[record.path] = OTHER_CONTENT
        except OSError as err:
            failed[record.path] = _no_name(err)
        else:
            yield record


def _write(path: Path, record: Record, pieces: Iterator[memoryview]) -> None:
    """Raises WrongContent, and leaves no file then."""
    digest = hashlib.md5(usedforsecurity=False)
    with new_file(path, durable=False) as out:
        for piece in pieces:
            digest.update(piece)
            out.write(piece)
        if digest.hexdigest() != record.md5:
            raise WrongContent(record.path)


def _no_name(err: OSError) -> str:
    """Why a single file cannot be; what concerns all of them is raised."""
    if err.errno not in _NO_NAME:
        raise err
    return NO_NAME


def _listed(sums: Path) -> dict[bytes, bytes]:
    """Line by name of an earlier list. Raises OtherContent where it is none."""
    if not os.path.lexists(sums):
        return {}
    if sums.is_symlink() or not sums.is_file():
        raise OtherContent(sums)
    found = {}
    for line in sums.read_bytes().splitlines(keepends=True):
        match = _LINE.fullmatch(line.removesuffix(b"\n"))
        if match is None:
            raise OtherContent(sums)
        found[match[2].replace(rb"\\", b"\\") if match[1] else match[2]] = line
    return found


def _name(record: Record) -> bytes:
    return os.fsencode(record.path)


def _line(record: Record) -> bytes:
    r"""As md5sum writes it; a line with \ before it has each \ of the name twice."""
    name = _name(record)
    mark = b"\\" if b"\\" in name else b""
    return b"%b%b  %b\n" % (mark, record.md5.encode(), name.replace(b"\\", rb"\\"))


def _is_there(folder: Path, name: bytes) -> bool:
    return os.path.isfile(os.path.join(os.fsencode(folder), name))
