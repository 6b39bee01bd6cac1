"""Raw values of DICOM elements as JSON has them.

in: VR, bytes, character set    out: text, number or list; None where it is not valid

Value representations: DICOM PS3.5 6.2.
"""

import math
import re
import struct
from collections.abc import Sequence
from functools import lru_cache

from icf_tools.model.dicom import Scalar, Value

BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}
"""VRs of binary numbers, with their codes in `struct`."""

_LONGEST = 1 << 14  # bytes; PS3.5 allows 64 characters in what is recorded
_FORM = {
    "UI": re.compile(rb"[0-9.\\]*"),
    "DA": re.compile(rb"[0-9.]{0,10}"),
    "TM": re.compile(rb"[0-9:. ]{0,16}"),
}
_CHARSET = re.compile("ISO[ _-]?(2022[ _-]?)?IR[ _-]?[0-9]+|GB18030|GBK")
_CODE_EXTENSIONS_END = set(b"\r\n\t\f")  # PS3.5 6.1.2.5.3
_BREAKS = {*"\t\n\v\f\r\u2028\u2029"}


@lru_cache(maxsize=4096)  # what a series has in common is converted once
def value_of(vr: str, raw: bytes, many: bool, charset: bytes, little_endian: bool) -> Value | None:
    """The value; a list if there are several parts, or `many`."""
    if len(raw) > _LONGEST:
        return None
    if vr in BINARY:
        return _binary(vr, raw, many, little_endian)
    if not is_text(vr, raw):
        return None
    text = decode(raw, charset)
    if not text:
        return None
    if vr not in ("DS", "IS"):
        return [part.strip() for part in text.split("\\")] if many else text
    convert = _decimal if vr == "DS" else _integer
    return _one_or_list([convert(part) for part in text.split("\\")], many)


def is_text(vr: str, raw: bytes) -> bool:
    """Whether the bytes can be a text of this VR.

    A wrong length makes a value of the elements behind it, a name among them;
    their headers hold zeros, and no text does but as padding at its end.
    """
    body = raw.rstrip(b"\0 ")
    form = _FORM.get(vr)
    return b"\0" not in body and (form is None or form.fullmatch(body) is not None)


def decode(raw: bytes, charset: bytes) -> str:
    """Text without padding and control characters; PS3.5 chapter 6.

    What is not in its character set, or has none, is read as UTF-8 or else as latin-1.
    """
    if raw.isascii() and b"\x1b" not in raw:
        text = raw.rstrip(b"\0 ").decode("ascii")
        if text.isprintable():
            return text.strip(" ")
    else:
        text = _decode_with(raw, charset)
    kept = (" " if char in _BREAKS else char for char in text)
    return "".join(char for char in kept if not _is_control(char)).strip()


def _is_control(char: str) -> bool:
    # not by Unicode category: what it says may change with the version of Python
    return char < " " or "\x7f" <= char < "\xa0" or "\ud800" <= char < "\ue000"


def _decode_with(raw: bytes, charset: bytes) -> str:
    names = [name.strip() for name in charset.rstrip(b"\0").decode("latin-1").split("\\")]
    # pydicom takes other names for codecs of Python, which are not the same in all versions
    if not any(names) or not all(name == "" or _CHARSET.fullmatch(name) for name in names):
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return raw.decode("latin-1")
    import warnings

    from pydicom.charset import convert_encodings, decode_bytes

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return decode_bytes(raw, convert_encodings(names), _CODE_EXTENSIONS_END)
        except (UnicodeError, LookupError):
            return raw.decode("latin-1")


def _binary(vr: str, raw: bytes, many: bool, little_endian: bool) -> Value | None:
    code = BINARY[vr]
    count, rest = divmod(len(raw), struct.calcsize(code))
    if rest:
        return None
    numbers = struct.unpack(f"{'<' if little_endian else '>'}{count}{code}", raw)
    return _one_or_list([number if math.isfinite(number) else None for number in numbers], many)


def _one_or_list(numbers: Sequence[Scalar | None], many: bool) -> Value | None:
    valid = [number for number in numbers if number is not None]
    if not valid or len(valid) < len(numbers):
        return None
    return valid if many or len(valid) > 1 else valid[0]


def _decimal(text: str) -> float | None:
    try:
        number = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _integer(text: str) -> int | None:
    try:
        return int(text) if text.isascii() and "_" not in text else None
    except ValueError:
        number = _decimal(text)  # some scanners write 3.0
        return int(number) if number is not None and number == int(number) else None
