"""One sequential read of a tarball, with every core at work.

in: a tarball    out: Scan: its MD5 and a Record for each member, in tar order

This thread reads and parses; two lanes hash meanwhile, the whole tarball in
one and the members in the other. What is held is a few batches, whatever the
tarball's size.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from icf_tools.dicom.header import Header, MoreNeeded, Unreadable, Wanted, read_header
from icf_tools.errors import NotFound
from icf_tools.index.members import Member, MemberReader
from icf_tools.model.dicom import Tag, Value
from icf_tools.model.names import can_be_checked_out, can_be_fetched
from icf_tools.model.progress import Progress
from icf_tools.store.lane import Lane

DAMAGED = "it says that it is DICOM, but "
"""Begins the reason of a Problem with an image that cannot be parsed."""

_BATCH = 4 << 20  # bytes handed over at once
_PER_PIECE = 1 << 10  # bytes that a piece costs beside its content
_FIRST_WINDOW = 16 << 10  # bytes; holds what is wanted of nearly every image
_LARGEST_WINDOW = 64 << 20  # bytes of a member that are looked at for its header


class NoTarball(NotFound):
    message = "no tarball at {}; put it there, or make it with icf archive"


@dataclass(slots=True)
class Record:
    """One member of a tarball."""

    path: str  #: of the member, and in the dataset
    size: int  #: bytes
    offset: int | None  #: bytes from the start of the tarball; None if it is not known
    md5: str = ""
    original_path: str | None = None
    tags: dict[str, Value] | None = None  #: by keyword; None where it is not DICOM


@dataclass(frozen=True, slots=True)
class Problem:
    """Something strange about a member that does not stop the step."""

    path: str
    reason: str


@dataclass(slots=True)
class Scan:
    """What a tarball holds."""

    size: int = 0  #: bytes
    md5: str = ""
    timestamp: int = 0  #: seconds since 1970 of the newest member
    records: list[Record] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def scan(tarball: Path, tags: tuple[Tag, ...], progress: Progress = lambda *_: None) -> Scan:
    """Read the tarball once. Raises NoTarball and DamagedTarball."""
    if not tarball.is_file():  # a pipe would be waited for
        raise NoTarball(tarball)
    file = tarball.open("rb", buffering=0)
    result = Scan(size=tarball.stat().st_size)
    wanted = Wanted.of(tags)
    whole_digest = hashlib.md5(usedforsecurity=False)
    seen: list[bytes] = []
    parts: list[_Part] = []
    held = 0

    with file, Lane() as tar_lane, Lane() as member_lane:

        def hand_over() -> None:
            nonlocal seen, parts, held
            tar_lane.put(_digest_pieces, whole_digest, seen)
            member_lane.put(_digest_parts, parts)
            seen, parts, held = [], [], 0

        def see(data: bytes) -> None:
            nonlocal held
            seen.append(data)
            held += len(data) + _PER_PIECE

        reader = MemberReader(file, see)
        for member in reader:
            record = Record(
                member.path, member.size, member.offset, original_path=member.original_path
            )
            digest = hashlib.md5(usedforsecurity=False)
            head = _Head(wanted, member.size)
            for piece in reader.content():
                parts.append(_Part(digest, piece, None))
                head.see(piece)
                if held >= _BATCH:
                    hand_over()
            parts.append(_Part(digest, b"", record))
            _describe(record, head, tags, result)
            _note_name(member, result)
            result.timestamp = max(result.timestamp, member.mtime)
            result.records.append(record)
            progress("index", member.offset + member.size, result.size)
        hand_over()
    result.md5 = whole_digest.hexdigest()
    _keep_last_of_each_path(result)
    return result


@dataclass(frozen=True, slots=True)
class _Part:
    """Some of a member's bytes; the last part knows the record that is then complete."""

    digest: "hashlib._Hash"
    data: memoryview | bytes
    record: Record | None


def _digest_pieces(digest: "hashlib._Hash", pieces: list[bytes]) -> None:
    for piece in pieces:
        digest.update(piece)


def _digest_parts(parts: list[_Part]) -> None:
    for part in parts:
        if part.record is None:
            part.digest.update(part.data)
        else:
            part.record.md5 = part.digest.hexdigest()


class _Head:
    """Looks for the header in as few of a member's bytes as it can."""

    def __init__(self, wanted: Wanted, size: int) -> None:
        self._wanted = wanted
        self._size = size
        self._data: bytes = b""
        self._next_look = 0
        self.header: Header | None = None
        self.unreadable: str | None = None
        self._done = size == 0

    def see(self, piece: memoryview) -> None:
        if self._done:
            return
        if not self._data and len(piece) > _FIRST_WINDOW:
            start = bytes(piece[:_FIRST_WINDOW])
            if self._look(start, whole=False):
                return
        self._data += piece
        if len(self._data) < min(self._next_look, self._size):
            return
        whole = len(self._data) >= min(self._size, _LARGEST_WINDOW)
        if not self._look(self._data, whole=whole):
            self._next_look = 4 * len(self._data)

    def _look(self, data: bytes, *, whole: bool) -> bool:
        """Whether no more need be seen."""
        try:
            self.header = read_header(data, self._wanted, whole=whole, size=self._size)
        except MoreNeeded:
            return False
        except Unreadable as err:
            self.unreadable = str(err)
        self._done, self._data = True, b""
        return True


def _describe(record: Record, head: _Head, tags: tuple[Tag, ...], result: Scan) -> None:
    if head.unreadable is not None:
        reason = f"{DAMAGED}{head.unreadable}; kept as a plain file"
        result.problems.append(Problem(record.path, reason))
    if head.header is not None:
        record.tags = head.header.values(tags)


def _note_name(member: Member, result: Scan) -> None:
    reason = None
    if member.name != member.path:
        # not !r: which characters it escapes depends on the version of Python
        reason = f"its name in the tarball is {member.name!a}"
    elif not can_be_fetched(member.path):
        reason = "its name holds '#', '&', a backslash, a control character or is not UTF-8"
    if reason:
        reason += ": clients without icf_tools cannot get it"
        result.problems.append(Problem(member.path, reason))
    if not all(map(can_be_checked_out, member.path.split("/"))):
        reason = "git cannot check out its name: the dataset has it under another one"
        result.problems.append(Problem(member.path, reason))


def _keep_last_of_each_path(result: Scan) -> None:
    """What a tar reader finds under a path that stands twice is the last one."""
    counts = Counter(record.path for record in result.records)
    if len(counts) == len(result.records):
        return
    last = {record.path: record for record in result.records}
    result.records = [record for record in result.records if last[record.path] is record]
    for path, count in counts.items():
        if count > 1:
            reason = f"the tarball has it {count} times; the last one is indexed"
            result.problems.append(Problem(path, reason))
