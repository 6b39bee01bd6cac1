"""What an image tells of diffusion.

in: the header of an image, or the groups of a frame    out: its b-value and gradient, if it tells

Only what is certain counts. GE writes directions along the axes of read-out and
phase encoding, and b-values that the length of the vector scales; what UIH writes
into the standard's element is not what it scanned (dcm2niix, GE/README.md, issue 836).
Their images tell nothing here, and what a converter makes of them is only counted.

Format: DICOM PS3.3 C.8.13.5.9.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from icf_tools.dicom.header import Header
from icf_tools.dicom.values import value_of

Direction = tuple[float, float, float]  # a unit vector, LPS; as good as its opposite
Told = tuple[float | None, Direction | None]  # b-value in s/mm², gradient

NOTHING: Told = (None, None)

_LENGTHS = (0.5, 2.0)  # of what is taken for a direction in DICOM: some are 5 % off (issue 769)

_MAKER = 0x00080070
_DIRECTIONALITY, _STANDARD_VALUE, _STANDARD_GRADIENT = 0x00189075, 0x00189087, 0x00189089
_SIEMENS, _SIEMENS_VALUE, _SIEMENS_GRADIENT = 0x00190010, 0x0019100C, 0x0019100E
_PHILIPS, _PHILIPS_VALUE = 0x20010010, 0x20011003
_PHILIPS_TOO, _PHILIPS_GRADIENT = 0x20050010, (0x200510B0, 0x200510B1, 0x200510B2)
WANTED = {
    _DIRECTIONALITY: "CS",
    _SIEMENS_VALUE: "IS",
    _PHILIPS_VALUE: "FL",
    **dict.fromkeys((_MAKER, _SIEMENS, _PHILIPS, _PHILIPS_TOO), "LO"),
    **dict.fromkeys((_STANDARD_VALUE, _STANDARD_GRADIENT, _SIEMENS_GRADIENT), "FD"),
    **dict.fromkeys(_PHILIPS_GRADIENT, "FL"),
}
"""The elements of a header that are looked at, with their VR."""
_VALUES = {_STANDARD_VALUE, _SIEMENS_VALUE, _PHILIPS_VALUE}
_CREATORS = {
    _SIEMENS: "SIEMENS MR HEADER",
    _PHILIPS: "Philips Imaging DD 001",
    _PHILIPS_TOO: "Philips MR Imaging DD 001",
}
_UNCERTAIN = ("GE", "UIH", "UNITED")


def told_by(header: Header, csa: Mapping[str, Sequence[Any]]) -> Told:
    """Of a classic image; `csa` are the items of its CSA header, if that is to be looked at.

    The standard's elements first; those of Siemens and of Philips are in the patient's
    coordinates, too (dcm2niix, Siemens/README.md and Philips/README.md).
    """
    if (not csa and _VALUES.isdisjoint(header.raw)) or _is_uncertain(header.text(_MAKER)):
        return NOTHING
    siemens, philips, philips_too = (header.text(key) == name for key, name in _CREATORS.items())
    values = [
        _numbers(header, _STANDARD_VALUE),
        _numbers(header, _SIEMENS_VALUE) if siemens else [],
        csa.get("B_value", []),
        _numbers(header, _PHILIPS_VALUE) if philips else [],
    ]
    gradients = [
        _numbers(header, _STANDARD_GRADIENT),
        _numbers(header, _SIEMENS_GRADIENT) if siemens else [],
        csa.get("DiffusionGradientDirection", []),
        [part for key in _PHILIPS_GRADIENT for part in _numbers(header, key)]
        if philips_too
        else [],
    ]
    return _told(
        next(filter(len, values), []),
        next(filter(len, gradients), []),
        header.text(_DIRECTIONALITY),
    )


def may_tell(header: Header, csa: int) -> bool:
    """Whether only the CSA header, which takes long to read, has a b-value.

    An item has a name of 64 bytes, and behind three numbers how many values there are;
    nibabel documentation, "Siemens format DICOM with CSA header".
    """
    raw = header.raw.get(csa, b"")
    start = raw.find(b"B_value\0")
    return start >= 0 and any(raw[start + 76 : start + 80]) and _VALUES.isdisjoint(header.raw)


def told_by_groups(maker: str, *groups: Any) -> Told:
    """Of a frame of an enhanced image: its own functional groups, and the shared ones.

    PS3.3 C.8.13.5.9, MR Diffusion.
    """
    if _is_uncertain(maker):
        return NOTHING
    try:  # what cannot be read is not told: the frame is no worse for it
        found = (group.get("MRDiffusionSequence") for group in groups if group is not None)
        [item] = next(filter(None, found), [None])
        if item is None:
            return NOTHING
        value = item.get("DiffusionBValue")
        inner = item.get("DiffusionGradientDirectionSequence")
        gradient = inner[0].get("DiffusionGradientOrientation") if inner else None
        kind = str(item.get("DiffusionDirectionality") or "")
    except Exception:
        return NOTHING
    return _told([] if value is None else [value], gradient or [], kind)


def _is_uncertain(maker: str) -> bool:
    return maker.upper().startswith(_UNCERTAIN)


def _numbers(header: Header, number: int) -> list[float]:
    """None where they are absent or damaged."""
    raw = header.raw.get(number, b"")
    found = value_of(WANTED[number], raw, True, b"", header.little_endian) if raw else None
    return [float(part) for part in found] if isinstance(found, list) else []


def _told(values: Sequence[Any], gradient: Sequence[Any], directionality: str) -> Told:
    try:
        value = float(values[0])
        parts = [float(part) for part in gradient]
    except (IndexError, TypeError, ValueError):
        return NOTHING
    if not 0 <= value < math.inf:
        return NOTHING
    if len(parts) == 3 and max(parts) < -1:  # Siemens, 2004, without diffusion (dcm2niix)
        return NOTHING
    length = math.hypot(*parts)
    # what Philips computed of several directions may still have the last one
    without = value == 0 or directionality not in ("", "DIRECTIONAL", "BMATRIX")
    if without or len(parts) != 3 or not _LENGTHS[0] <= length <= _LENGTHS[1]:
        return value, None
    x, y, z = (part / length for part in parts)
    return value, (x, y, z)
