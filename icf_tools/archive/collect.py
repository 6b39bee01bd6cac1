"""Look at a visit's folder before anything is written.

in: a folder    out: one Source per file, in the order of the tarball; or a refusal
"""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from icf_tools.archive.identity import IDENTIFYING, Identity
from icf_tools.archive.privacy import Leaks
from icf_tools.dicom.header import Header, MoreNeeded, Unreadable, Wanted, read_header
from icf_tools.errors import AccessDenied, NotFound, Refused
from icf_tools.model.dicom import Tag
from icf_tools.model.names import readable, safe_names
from icf_tools.model.progress import Progress
from icf_tools.model.visit import LATEST, StorePath

_FIRST_WINDOW = 16 << 10  # bytes; holds the groups up to 0018 of nearly every file
_LARGEST_WINDOW = 64 << 20

_DATES = (  # date and time of Study, Series, Acquisition, Content: DICOM PS3.6
    (0x00080020, 0x00080030),
    (0x00080021, 0x00080031),
    (0x00080022, 0x00080032),
    (0x00080023, 0x00080033),
)
_LOOKED_AT = {
    **{date: "DA" for date, _ in _DATES},
    **{time: "TM" for _, time in _DATES},
    **IDENTIFYING,
}


class MissingInput(NotFound):
    message = "no DICOM folder at {}; give the folder that holds the visit's files"


class EmptyInput(NotFound):
    message = "the folder {} holds no file; give the folder that holds the visit's files"


class HoldsStore(Refused):
    message = "the input folder {} holds the store itself; give the folder of one visit"


class LeavesInput(Refused):
    message = "the link {} leads out of the input folder or nowhere; replace it with its content"


class LinkLoop(Refused):
    message = "the link {} leads back to a folder above it; remove it"


class LinkedTwice(Refused):
    message = "the link {} leads to a folder that another link leads to, too; remove it"


class NotAFile(Refused):
    message = "{} is a {}, not a file or folder; remove it from the input"


class CannotRead(AccessDenied):
    message = "cannot read {}; give this user permission to read the whole input"


@dataclass(frozen=True, slots=True)
class Source:
    """A file to be packed."""

    file: bytes  #: where it is
    member: str  #: its path in the tarball
    path: bytes  #: below the input folder
    renamed: bool  #: whether the member has another path
    size: int  #: bytes
    mtime: int | None = None  #: seconds since 1970 from its DICOM header

    @property
    def original(self) -> str | None:
        """Its path below the input folder, where the member's differs."""
        return readable(self.path) if self.renamed else None

    @property
    def text(self) -> str:
        """Its path below the input folder, in whichever encoding it was written."""
        try:
            return self.path.decode("utf-8")
        except UnicodeDecodeError:
            return self.path.decode("latin-1")


@dataclass(frozen=True, slots=True)
class Collection:
    sources: tuple[Source, ...]  #: bytewise by member path
    images: int  #: how many of them are DICOM
    unreadable: tuple[str, ...]  #: members that say they are DICOM and cannot be parsed

    @property
    def timestamp(self) -> int:
        """Seconds since 1970 of the newest image, 0 where none has a date."""
        return max((s.mtime for s in self.sources if s.mtime is not None), default=0)


def collect(
    folder: Path,
    store: StorePath,
    tags: tuple[Tag, ...],
    *,
    allow_identifying: bool = False,
    progress: Progress = lambda *_: None,
) -> Collection:
    """Find the folder's files, their dates, and whatever speaks against packing them.

    `tags` are the elements that will be recorded: their text is searched for
    the identity of the person, as are paths and identifiers.
    """
    if not folder.is_dir():
        raise MissingInput(folder)
    root = os.path.realpath(os.fsencode(folder))
    if Path(os.path.realpath(store.study)).is_relative_to(os.fsdecode(root)):
        raise HoldsStore(folder)
    found = sorted(_walk(root, store.visit.prefix), key=lambda source: source.member.encode())
    if not found:
        raise EmptyInput(folder)
    texts = tuple(tag for tag in tags if tag.is_text)
    wanted = Wanted.of(tags, _LOOKED_AT)
    dated: list[Source] = []
    unreadable: list[str] = []
    images = 0
    leaks = Leaks((store.visit.study, store.visit.visit))
    for done, source in enumerate(found):
        progress("read headers", done, len(found))
        try:
            header = _header(source, wanted)
        except Unreadable as err:
            header = None
            unreadable.append(source.member)
            leaks.look_at_image(source.text, Identity.of(err.header), {})
        if header is None:
            leaks.look_at_other(source.text)
        else:
            images += 1
            source = replace(source, mtime=member_mtime(header))
            leaks.look_at_image(source.text, Identity.of(header), header.values(texts))
        dated.append(source)
    if not allow_identifying:
        leaks.refuse(total=len(found))
    return Collection(tuple(dated), images, tuple(unreadable))


def member_mtime(header: Header) -> int | None:
    """Seconds since 1970 of an image's date, with the scanner's clock read as UTC.

    The first valid of StudyDate, SeriesDate, AcquisitionDate and ContentDate with
    its time; at least 0 and at most LATEST, so that every tar reader takes it.
    """
    for date_number, time_number in _DATES:
        date = re.fullmatch(r"([0-9]{4})\.?([0-9]{2})\.?([0-9]{2})", header.text(date_number))
        if date is None:
            continue
        clock = re.match(r"([0-9]{2}):?([0-9]{2})?:?([0-9]{2})?", header.text(time_number))
        hour, minute, second = (int(part or 0) for part in clock.groups()) if clock else (0, 0, 0)
        year, month, day = map(int, date.groups())
        second = min(second, 59)  # 60 is a leap second, PS3.5 6.2
        try:
            moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
        except ValueError:
            continue
        return min(max(0, int(moment.timestamp())), LATEST)
    return None


def _walk(root: bytes, prefix: str) -> Iterator[Source]:
    pending: list[tuple[bytes, str, bytes, tuple[tuple[int, int], ...]]] = [
        (root, prefix, b"", (_inode(os.stat(root)),))
    ]
    linked: set[tuple[int, int]] = set()
    while pending:
        folder, member, original, above = pending.pop()
        try:
            entries = {entry.name: entry for entry in os.scandir(folder)}
        except PermissionError as err:
            raise CannotRead(readable(folder)) from err
        for name, safe in safe_names(entries).items():
            path = entries[name].path
            info = _stat(path, root, entries[name].is_symlink())
            below = f"{member}/{safe}"
            raw = original + name
            if stat.S_ISDIR(info.st_mode):
                if _inode(info) in above:
                    raise LinkLoop(readable(path))
                if entries[name].is_symlink():
                    if _inode(info) in linked:  # each further one may multiply what is packed
                        raise LinkedTwice(readable(path))
                    linked.add(_inode(info))
                pending.append((path, below, raw + b"/", (*above, _inode(info))))
            elif stat.S_ISREG(info.st_mode):
                changed = below.encode() != f"{prefix}/".encode() + raw
                yield Source(path, below, raw, changed, info.st_size)
            else:
                raise NotAFile(
                    readable(path), _KINDS.get(stat.S_IFMT(info.st_mode), "special file")
                )


_KINDS = {
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "named pipe",
    stat.S_IFBLK: "block device",
    stat.S_IFCHR: "character device",
}


def _stat(path: bytes, root: bytes, is_link: bool) -> os.stat_result:
    if is_link:
        real = os.path.realpath(path)
        if not real.startswith(root.rstrip(b"/") + b"/") and real != root:
            raise LeavesInput(readable(path))
    try:
        return os.stat(path)
    except PermissionError as err:
        raise CannotRead(readable(path)) from err
    except OSError as err:
        if is_link:
            raise LeavesInput(readable(path)) from err
        raise CannotRead(readable(path)) from err


def _inode(info: os.stat_result) -> tuple[int, int]:
    return info.st_dev, info.st_ino


def _header(source: Source, wanted: Wanted) -> Header | None:
    try:
        with open(source.file, "rb", buffering=0) as file:
            window = _FIRST_WINDOW
            data = b""
            while True:
                # a raw read may give less than it was asked for
                while len(data) < window and (piece := file.read(window - len(data))):
                    data += piece
                whole = len(data) < window or window >= _LARGEST_WINDOW
                try:
                    return read_header(data, wanted, whole=whole, size=source.size)
                except MoreNeeded:
                    window *= 16
    except PermissionError as err:
        raise CannotRead(readable(source.file)) from err
