"""Walk a tarball's members in one sequential read, and trust nothing in it.

in: a file    out: Member after Member, each with its content in pieces

Formats: POSIX ustar and pax interchange (IEEE Std 1003.1, pax), GNU long names
(GNU tar manual, "Basic Tar Format"). tarfile is not used since it ends
silently where a tarball was cut, and costs several times as much per member.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

from icf_tools.errors import Damaged
from icf_tools.model.names import ORIGINAL
from icf_tools.model.visit import LATEST

_BLOCK = 512
_PIECE = 4 << 20  # bytes; the most that is held of a member at once
_LONGEST_EXTENSION = 1 << 20  # bytes of a pax header or a long name
_END = bytes(_BLOCK)
_LARGEST_OCTAL = 0o77777777777  # bytes; a larger size may stand in a pax header

_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a named pipe",
    b"S": "a sparse file",
}


class DamagedTarball(Damaged):
    message = "{}: {} {}; compare it with its source, or pack the files anew with icf archive"


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in a tarball."""

    path: str  #: relative, normalised; bytes that are not UTF-8 as surrogates
    name: str  #: as the tarball has it
    size: int  #: bytes
    offset: int  #: bytes from the start of the tarball to its content
    mtime: int  #: seconds since 1970
    original_path: str | None  #: what `icf archive` replaced


class MemberReader:
    """Iterate over the members; read each one's content before the next.

    Everything that is read goes to `seen`, too, so a digest of the whole
    tarball costs no second read. Raises DamagedTarball.
    """

    def __init__(self, file: BinaryIO, seen: Callable[[bytes], object]) -> None:
        self._file = file
        self._seen = seen
        self._label = PurePosixPath(str(file.name)).name
        self._total = os.fstat(file.fileno()).st_size
        self._position = 0
        self._next = b""  # the header block behind the member that was read last
        self._last = "its start"

    def __iter__(self) -> Iterator[Member]:
        extended: dict[str, str] = {}
        defaults: dict[str, str] = {}
        long_name: str | None = None
        while (block := self._block()) != _END:
            header = self._parse(block)
            kind = block[156:157]
            if kind in b"xgLK":
                content = self._extension(header)
                if kind == b"x":
                    extended = self._pax(content)
                elif kind == b"g":
                    defaults |= self._pax(content)
                elif kind == b"L":
                    long_name = _text(content)
                continue
            fields = defaults | extended
            name = fields.get("path", long_name or header.name)
            extended, long_name = {}, None
            self._last = f"member {name!r}"
            path = self._checked_path(name, block)
            if kind == b"5" or (kind in b"0\0" and name.endswith("/")):
                continue
            if kind not in b"0\0" + b"7" or any(key.startswith("GNU.sparse") for key in fields):
                what = _KINDS.get(kind, "of a kind that holds no plain file")
                raise self._damaged("is", what)
            size = self._number(fields["size"]) if "size" in fields else header.size
            self._check_fits(size)
            mtime = self._number(fields["mtime"]) if "mtime" in fields else header.mtime
            comment = fields.get("comment", "")
            original = comment.removeprefix(ORIGINAL) if comment.startswith(ORIGINAL) else None
            member = Member(path, name, size, self._position, _time(mtime), original)
            self._left = size
            yield member
            if self._left:
                raise AssertionError("the content of a member was not read")
        self._check_end()

    def content(self) -> Iterator[memoryview]:
        """The current member's bytes, in pieces of at most 4 MiB."""
        padding = -self._left % _BLOCK
        while self._left:
            wanted = min(self._left, _PIECE)
            last = wanted == self._left
            # the next header comes with the last piece: one read for a small member
            data = self._read(wanted + (padding + _BLOCK if last else 0))
            self._left -= wanted
            if last:
                self._next = data[wanted + padding :]
            yield memoryview(data)[:wanted]

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        while len(data) < size and (more := self._file.read(size - len(data))):
            data += more
        self._position += len(data)
        self._seen(data)
        if len(data) < size:
            raise self._damaged("is followed by the end of the file", "without an end mark")
        return data

    def _block(self) -> bytes:
        block, self._next = self._next or self._read(_BLOCK), b""
        return block

    def _parse(self, block: bytes) -> "_Header":
        if not _has_checksum(block):
            if self._start == 0 and block.startswith(_COMPRESSED):
                raise self._damaged("is that of a compressed file:", "unpack it to a plain tar")
            raise self._damaged(
                "is followed by a header with a bad checksum", f"at byte {self._start}"
            )
        name = _text(block[:100])
        if block[257:263] == b"ustar\0" and block[345]:
            name = f"{_text(block[345:500])}/{name}"
        try:
            return _Header(name, _field(block[124:136]), _field(block[136:148]))
        except ValueError:
            raise self._damaged(
                "is followed by a header without a valid size or time", f"at byte {self._start}"
            ) from None

    @property
    def _start(self) -> int:
        return self._position - _BLOCK

    def _extension(self, header: "_Header") -> bytes:
        if not 0 <= header.size <= _LONGEST_EXTENSION:
            raise self._damaged("is followed by a name or pax header of", f"{header.size} bytes")
        self._check_fits(header.size)
        return self._read(header.size + -header.size % _BLOCK)[: header.size]

    def _pax(self, content: bytes) -> dict[str, str]:
        fields = {}
        while content:
            match = re.match(rb"([1-9][0-9]{0,6}) ", content)
            if match is None or int(match[1]) > len(content):
                raise self._damaged("is followed by a pax header", "that cannot be read")
            end = int(match[1])
            key, _, value = content[match.end() : end - 1].partition(b"=")
            content = content[end:]
            fields[_text(key)] = value.decode("utf-8", "surrogateescape")
        return fields

    def _number(self, text: str) -> int:
        try:
            return int(text.partition(".")[0])
        except ValueError:
            raise self._damaged("has a pax header with", f"the number {text!r}") from None

    def _checked_path(self, name: str, block: bytes) -> str:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise self._damaged("leads out of the folder", "it is unpacked in")
        if any(char in name for char in "\n\r\0"):
            raise self._damaged("has a line break in its name,", "which no dataset can record")
        if not path.parts and block[156:157] != b"5":
            raise self._damaged("has", "no name")
        return str(path)

    def _check_fits(self, size: int) -> None:
        if size < 0 or self._position - len(self._next) + size > self._total:
            raise self._damaged(
                f"claims {size} bytes,", f"the file holds {self._total - self._position} more"
            )

    def _check_end(self) -> None:
        """Behind one block of zeros there may be only more of them."""
        self._last = "the end mark"
        zeros = 0
        while self._position < self._total:
            data = self._read(min(_PIECE, self._total - self._position))
            zeros += len(data)
            if data.count(0) != len(data):
                raise self._damaged("is followed by", "more data")
        if zeros < _BLOCK:
            raise self._damaged("is", "incomplete")

    def _damaged(self, what: str, detail: str) -> DamagedTarball:
        return DamagedTarball(self._label, self._last, f"{what} {detail}")


def is_header(block: bytes, size: int) -> bool:
    """Whether the 512 bytes are what stands in front of a member of this size, in bytes."""
    if len(block) != _BLOCK or not _has_checksum(block):
        return False
    try:
        return _field(block[124:136]) == size or size > _LARGEST_OCTAL
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class _Header:
    name: str
    size: int
    mtime: int


def _has_checksum(block: bytes) -> bool:
    field = block[148:156]
    try:
        return _octal(field) == sum(block) - sum(field) + 8 * 0x20
    except ValueError:
        return False


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _time(seconds: int) -> int:
    return min(max(0, seconds), LATEST)


def _octal(field: bytes) -> int:
    text = field.strip(b" \0")
    if not text:
        return 0
    if not text.isdigit():
        raise ValueError(field)
    return int(text, 8)


def _field(field: bytes) -> int:
    if field[0] & 0x80:  # GNU: base 256, two's complement
        return (
            int.from_bytes(field, "big", signed=True)
            if field[0] == 0xFF
            else int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        )
    return _octal(field)
