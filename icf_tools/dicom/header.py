"""Read chosen elements from the header of a DICOM file.

in: the first bytes of a file    out: Header, or None where it is not DICOM

Explicit and implicit VR little endian are read here, an order of magnitude
faster than into objects; every other encoding is left to pydicom.
Format: DICOM PS3.5 chapter 7, PS3.10 chapter 7.
"""

import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from icf_tools.dicom.values import BINARY, decode, is_text, value_of
from icf_tools.model.dicom import Tag, Value

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_PREAMBLE = 128
_META_LAST = 0x0002FFFF
_IMPLICIT = "1.2.840.10008.1.2"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"

_TRANSFER_SYNTAX = 0x00020010
_CHARACTER_SET = 0x00080005
_FRAMES = 0x00280008
_PIXEL_SPACING = 0x00280030
_SHARED_GROUPS = 0x52009229  # SharedFunctionalGroupsSequence of enhanced images
_ENHANCED = {0x00189082: 0x00180081}  # EffectiveEchoTime stands for EchoTime

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_DEEPEST = 32  # nested sequences; real files have fewer than 10
_MOST_STEPS = 1 << 14  # element headers to remember; a study has some hundred
_LARGEST_INFLATED = 64 << 20  # bytes; a header is far smaller, a hostile file is not

_SHORT = b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()
_LONG = b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split()
_TEXT_VRS = frozenset(b"AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split())
_LENGTH_IS_LONG = {**dict.fromkeys(_SHORT, False), **dict.fromkeys(_LONG, True)}

_EXPLICIT_START = struct.Struct("<HH2sH")
_IMPLICIT_START = struct.Struct("<HHI")
_LONG_LENGTH = struct.Struct("<I")

_SYNTAX_VR = {_TRANSFER_SYNTAX: "UI", _CHARACTER_SET: "CS", _FRAMES: "IS", _SHARED_GROUPS: "SQ"}


class MoreNeeded(Exception):
    """The header goes on behind the bytes that were given."""


class Unreadable(Exception):
    """It says that it is DICOM, and its header cannot be parsed.

    `header` has what was found before.
    """

    def __init__(self, reason: str, header: "Header") -> None:
        super().__init__(reason)
        self.header = header


class _Unusual(Exception):
    """Not an encoding that is read here; with a reason, one that pydicom should not be given."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Wanted:
    """The elements to look for."""

    due: Mapping[int, str]  #: VR by number
    last: int
    # Images of one scanner begin their elements alike: number (0 unless wanted) and
    # length of short elements, by the 8 bytes that they begin with.
    _steps: dict[int, dict[bytes, tuple[int, int]]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def steps(self, last: int) -> dict[bytes, tuple[int, int]]:
        """What is known of elements up to `last`."""
        return self._steps.setdefault(last, {})

    def takes(self, number: int, vr: bytes) -> bool:
        """Whether it is wanted, and its VR in the file is that of the standard, or nearly.

        A text that is a binary number by the dictionary, or the other way
        round, would be read as something else.
        """
        due = self.due.get(number)
        if due is None or vr == b"UN":
            return due is not None
        if due in BINARY or due in ("SQ", "OB"):
            return vr == due.encode()
        return vr in _TEXT_VRS

    @classmethod
    def of(cls, tags: Iterable[Tag], others: Mapping[int, str] | None = None) -> "Wanted":
        """Tags and other elements by number and VR, with what is needed to understand them."""
        due = {tag.number: tag.vr for tag in tags} | dict(others or {})
        return cls({**_SYNTAX_VR, **due}, max(due, default=0))


@dataclass(frozen=True, slots=True)
class Header:
    """Raw values by tag number."""

    raw: dict[int, bytes]
    little_endian: bool = True
    end: int | None = None  #: bytes to the first element behind those looked at, if it is known

    def values(self, tags: Iterable[Tag]) -> dict[str, Value]:
        """The elements by keyword as JSON has them; not those that are absent or not valid."""
        charset = self.raw.get(_CHARACTER_SET, b"")
        values = {}
        for tag in tags:
            raw = self.raw.get(tag.number)
            if raw:
                value = value_of(tag.vr, raw, tag.many, charset, self.little_endian)
                if value is not None:
                    values[tag.keyword] = value
        return values

    def text(self, number: int) -> str:
        """The element decoded and stripped, empty where it is absent or no text."""
        raw = self.raw.get(number, b"")
        return self.start(number) if is_text("", raw) else ""

    def start(self, number: int) -> str:
        """The same up to what is no text, for an element that is not to be recorded."""
        raw = self.raw.get(number, b"").partition(b"\0")[0]
        return decode(raw, self.raw.get(_CHARACTER_SET, b"")) if raw else ""

    def pixel_data(self, data: memoryview) -> tuple[int, int] | None:
        """Where the values of PixelData begin, and how many bytes they are.

        None unless it is the next element behind those looked at, and not encapsulated.
        """
        if self.end is None or self.end + 12 > len(data):
            return None
        group, element, vr, _ = _EXPLICIT_START.unpack_from(data, self.end)
        if (group, element) != (0x7FE0, 0x0010):
            return None
        head = 12 if vr in (b"OW", b"OB") else 8
        (length,) = _LONG_LENGTH.unpack_from(data, self.end + head - 4)
        return None if length == _UNDEFINED else (self.end + head, length)


def read_header(
    data: bytes, wanted: Wanted, *, whole: bool, size: int | None = None
) -> Header | None:
    """Find the wanted elements in `data`, the start of a file (all that is given if `whole`).

    `size` is that of the file in bytes, where it is not that of `data`.

    Returns None where the file is not DICOM (PS3.10: no `DICM` behind the preamble).
    Raises MoreNeeded unless `whole`, and Unreadable.
    """
    if len(data) < _PREAMBLE + 4:
        if whole:
            return None
        raise MoreNeeded
    if data[_PREAMBLE : _PREAMBLE + 4] != b"DICM":
        return None
    found: dict[int, bytes] = {}
    try:
        return _read_little_endian(data, wanted, whole, size or len(data), found)
    except struct.error as err:
        if not whole:
            raise MoreNeeded from err
        raise Unreadable("it ends inside its header", Header(found)) from err
    except _Unusual as err:
        if not whole:
            raise MoreNeeded from None
        header = None if err.reason else _read_with_pydicom(data, wanted)
        if header is None:
            reason = err.reason or "its header does not follow the standard"
            raise Unreadable(reason, Header(found)) from None
        return header


def _read_little_endian(
    data: bytes, wanted: Wanted, whole: bool, size: int, found: dict[int, bytes]
) -> Header:
    start = _PREAMBLE + 4
    start = _walk(data, start, True, wanted, _META_LAST, found)
    syntax = found.get(_TRANSFER_SYNTAX, b"").rstrip(b"\0 ").decode("latin-1")
    as_given = data
    if syntax == _DEFLATED:
        data, start = _inflate(data[start:], whole), 0
        size = len(data)
    elif syntax != _IMPLICIT and (syntax == _BIG_ENDIAN or not syntax.startswith(f"{_IMPLICIT}.")):
        raise _Unusual
    explicit = syntax != _IMPLICIT
    if not explicit and data[start + 4 : start + 6] in _LENGTH_IS_LONG:
        raise _Unusual  # it has VRs, whatever it says of itself
    end = _walk(data, start, explicit, wanted, wanted.last, found)
    if _FRAMES in found or (_PIXEL_SPACING in wanted.due and _PIXEL_SPACING not in found):
        # an enhanced image keeps what its frames share behind the rest
        end = _walk(data, end, explicit, wanted, _SHARED_GROUPS, found)
    if end > size:
        raise struct.error
    if end >= len(data) and not whole:
        raise MoreNeeded
    if _SHARED_GROUPS in found:
        given = as_given if data is not as_given else data[:end]
        return _read_with_pydicom(given, wanted) or Header(found)
    return Header(found, end=end if data is as_given else None)


def _inflate(data: bytes, whole: bool) -> bytes:
    """The data set of a file in deflated explicit VR little endian; PS3.5 A.5."""
    if not whole:
        raise MoreNeeded
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, _LARGEST_INFLATED)
    except zlib.error as err:
        raise _Unusual("it cannot be inflated") from err


def _walk(
    data: bytes, pos: int, explicit: bool, wanted: Wanted, last: int, found: dict[int, bytes]
) -> int:
    """Collect wanted elements from `pos` to `last`; return where the first later one begins."""
    takes, end = wanted.takes, len(data)
    explicit_start, implicit_start = _EXPLICIT_START.unpack_from, _IMPLICIT_START.unpack_from
    long_length = _LONG_LENGTH.unpack_from
    length_is_long = _LENGTH_IS_LONG
    steps = wanted.steps(last)
    while pos < end:
        if explicit:
            step = steps.get(data[pos : pos + 8])
            if step is not None:
                number, length = step
                pos += 8
                if number:
                    if pos + length > end:
                        raise struct.error
                    found[number] = data[pos : pos + length]
                pos += length
                continue
            group, element, vr, length = explicit_start(data, pos)
            number = group << 16 | element
            if number > last:
                return pos
            is_long = length_is_long.get(vr)
            if is_long is None:
                raise _Unusual
            if is_long:
                (length,) = long_length(data, pos + 8)
                pos += 12
            else:
                if len(steps) < _MOST_STEPS:
                    steps[data[pos : pos + 8]] = (number if takes(number, vr) else 0, length)
                pos += 8
        else:
            vr = b"UN"
            group, element, length = implicit_start(data, pos)
            number = group << 16 | element
            if number > last:
                return pos
            pos += 8
        value = pos
        if length == _UNDEFINED:
            pos = _skip_items(data, pos, explicit and vr != b"UN", 0)
        else:
            pos += length
        if takes(number, vr):
            if pos > end:
                raise struct.error
            found[number] = data[value:pos]
    return pos


def _skip_items(data: bytes, pos: int, explicit: bool, depth: int) -> int:
    """Where a sequence of undefined length ends, its delimiter included."""
    if depth > _DEEPEST:
        raise _Unusual("its sequences are nested too deeply")
    while True:
        group, element, length = _IMPLICIT_START.unpack_from(data, pos)
        pos += 8
        number = group << 16 | element
        if number == _SEQUENCE_END:
            return pos
        if number != _ITEM:
            raise _Unusual
        pos = _skip_elements(data, pos, explicit, depth) if length == _UNDEFINED else pos + length


def _skip_elements(data: bytes, pos: int, explicit: bool, depth: int) -> int:
    """Where an item of undefined length ends, its delimiter included."""
    while True:
        group, element, length = _IMPLICIT_START.unpack_from(data, pos)
        if group << 16 | element == _ITEM_END:
            return pos + 8
        nested = explicit
        if explicit:
            _, _, vr, length = _EXPLICIT_START.unpack_from(data, pos)
            is_long = _LENGTH_IS_LONG.get(vr)
            if is_long is None:
                raise _Unusual
            nested = vr != b"UN"
            if is_long:
                (length,) = _LONG_LENGTH.unpack_from(data, pos + 8)
                pos += 4
        pos += 8
        pos = _skip_items(data, pos, nested, depth + 1) if length == _UNDEFINED else pos + length


def _read_with_pydicom(data: bytes, wanted: Wanted) -> Header | None:
    """None where pydicom cannot."""
    import warnings
    from io import BytesIO

    from pydicom import dcmread

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # pydicom raises whatever a broken file leads it to (struct.error, KeyError, ...)
        try:
            dataset = dcmread(
                BytesIO(data), stop_before_pixels=True, specific_tags=sorted(wanted.due)
            )
            raw = _raw_values(dataset.file_meta, wanted) | _raw_values(dataset, wanted)
            for item in dataset[_SHARED_GROUPS].value[:1] if _SHARED_GROUPS in dataset else ():
                for group in item:
                    if group.VR == "SQ" and group.value and not group.tag.is_private:
                        raw = _raw_values(group.value[0], wanted) | raw
        except Exception:
            return None
    raw.pop(_SHARED_GROUPS, None)
    return Header(raw, dataset.original_encoding[1] is not False)


def _raw_values(dataset: "Dataset", wanted: Wanted) -> dict[int, bytes]:
    from pydicom.dataelem import RawDataElement

    raw: dict[int, bytes] = {}
    for tag in dataset.keys():  # noqa: SIM118 - iterating a Dataset would convert its elements
        number = int(tag)
        if number in _ENHANCED:
            raw[_ENHANCED[number]] = str(dataset[tag].value).encode()
        element: Any = dataset.get_item(tag)
        if not wanted.takes(number, (element.VR or "UN").encode()):
            continue
        if isinstance(element, RawDataElement):
            raw[number] = element.value or b""
        elif isinstance(element.value, str | int | float | list):
            # file meta elements and the character set are converted while they are read
            values = element.value if isinstance(element.value, list) else [element.value]
            raw[number] = "\\".join(map(str, values)).encode("latin-1", "replace")
    return raw
