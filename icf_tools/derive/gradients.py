"""What images tell of diffusion, and whether the b-values and b-vectors beside a NIfTI file say so.

in: the header of an image, or the groups of a frame    out: its b-value and gradient, if it tells
in: .bval, .bvec, their file, its Match    out: whether they are to be kept, or Mismatch

Only what is certain counts. GE writes directions along the axes of read-out and
phase encoding, and b-values that the length of the vector scales; what UIH writes
into the standard's element is not what it scanned (dcm2niix, GE/README.md, issue 836).
Their images tell nothing here, and what a converter makes of them is only counted.

Format: FSL; BIDS specification, "Diffusion imaging data"; DICOM PS3.3 C.8.13.5.9.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from icf_tools.derive.volumes import Mismatch, Volumes
from icf_tools.dicom.header import Header
from icf_tools.dicom.values import value_of

if TYPE_CHECKING:
    from icf_tools.derive.planes import Match

Direction = tuple[float, float, float]  # a unit vector, LPS; as good as its opposite
Told = tuple[float | None, Direction | None]  # b-value in s/mm², gradient

_UNWEIGHTED = 50.0  # s/mm²; below it a direction says nothing
_TOLERANCE = 0.01  # of a vector's length
_NOTHING: Told = (None, None)

# A converter may cut off what stands behind the dot, or sum up the B_matrix: 994 where B_value
# is 1000. The shells of a scan are further apart.
_SAME_VALUE, _SAME_PART = 1.0, 0.01  # s/mm², and part of the b-value
# What dcm2niix made of 47 real series was at most 0.00005 degrees beside what their images tell;
# three decimals or the B_matrix, which holds whole numbers, leave 0.05. Of 500 directions that
# share the sphere the next one is 7 away.
_SAME_ANGLE = 1.0  # degrees
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
        return _NOTHING
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
        return _NOTHING
    try:  # what cannot be read is not told: the frame is no worse for it
        found = (group.get("MRDiffusionSequence") for group in groups if group is not None)
        [item] = next(filter(None, found), [None])
        if item is None:
            return _NOTHING
        value = item.get("DiffusionBValue")
        inner = item.get("DiffusionGradientDirectionSequence")
        gradient = inner[0].get("DiffusionGradientOrientation") if inner else None
        kind = str(item.get("DiffusionDirectionality") or "")
    except Exception:
        return _NOTHING
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
        return _NOTHING
    if not 0 <= value < math.inf:
        return _NOTHING
    if len(parts) == 3 and max(parts) < -1:  # Siemens, 2004, without diffusion (dcm2niix)
        return _NOTHING
    length = math.hypot(*parts)
    # what Philips computed of several directions may still have the last one
    without = value == 0 or directionality not in ("", "DIRECTIONAL", "BMATRIX")
    if without or len(parts) != 3 or not _LENGTHS[0] <= length <= _LENGTHS[1]:
        return value, None
    x, y, z = (part / length for part in parts)
    return value, (x, y, z)


def check_gradients(file: Volumes, values: str | None, vectors: str | None, match: "Match") -> bool:
    """Whether .bval and .bvec are to be kept; None stands for one that is not there.

    Where there is neither, nothing is wrong: dcm2niix makes none of what was computed, of
    phase, or of a single volume. b-values alone are those of images without a direction;
    they are kept if the images tell them. Raises Mismatch.
    """
    told = _told_of_volumes(file, match)
    if values is None and vectors is None:
        return True
    weights, directions = _parsed(file.name, values or "", vectors, len(told))
    for number, (weight, (value, _)) in enumerate(zip(weights, told, strict=True), start=1):
        if value is None and weight > _UNWEIGHTED and any(b is not None for b, _ in told):
            raise Mismatch(file.name, f"no image tells the b-value of volume {number}")
        if value is not None and not _is_same_value(weight, value):
            said = f"the b-value of volume {number} is {weight:g}, and {value:g} in its images"
            raise Mismatch(file.name, said)
    if vectors is None:
        if any(gradient is not None for _, gradient in told):
            raise Mismatch(file.name, "it has b-values, and no b-vectors")
        return any(value is not None for value, _ in told)
    _check_directions(file, weights, directions, told)
    return True


def _parsed(
    name: str, values: str, vectors: str | None, volumes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """b-values (volumes,) and b-vectors (3, volumes), these zero where there are none."""
    try:
        weights = np.array([float(word) for word in values.split()])
        rows = [[float(word) for word in line.split()] for line in (vectors or "").splitlines()]
        directions = np.array([row for row in rows if row])
    except ValueError as err:
        raise Mismatch(name, "its b-values or b-vectors are no numbers") from err
    if vectors is None:
        directions = np.zeros((3, len(weights)))
    if directions.shape != (3, len(weights)) or len(weights) != volumes:
        raise Mismatch(name, f"it has not a b-value and a b-vector for each of {volumes} volumes")
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise Mismatch(name, "a b-value is none")
    return weights, directions


def _check_directions(
    file: Volumes,
    weights: NDArray[np.float64],
    directions: NDArray[np.float64],
    told: Sequence[Told],
) -> None:
    lengths = np.linalg.norm(directions, axis=0)
    weighted = weights > _UNWEIGHTED
    # the mean of several directions has none, and its images tell a b-value only
    mean = [value is not None and gradient is None for value, gradient in told]
    unit = np.abs(lengths - 1) <= _TOLERANCE
    if not (unit | ((lengths <= _TOLERANCE) & (~weighted | mean))).all():
        raise Mismatch(file.name, "a b-vector does not have the length 1")
    found = in_patient(directions, file.affine)
    for index, (_, gradient) in enumerate(told):
        if gradient is None:
            if unit[index] and weighted[index] and any(other is not None for _, other in told):
                said = f"no image tells the b-vector of volume {index + 1}"
                raise Mismatch(file.name, said)
        elif unit[index]:
            apart = _angle(found[:, index], gradient)
            if not apart <= _SAME_ANGLE:
                said = f"the b-vector of volume {index + 1} is {apart:.0f} degrees off"
                raise Mismatch(file.name, said)


def in_patient(directions: NDArray[np.float64], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns of a .bvec in the patient's coordinates, LPS.

    They are along the axes of the voxels; where the affine has a positive determinant,
    the first of these is reversed. FSL documentation, FDT, "What conventions do the bvecs use?";
    BIDS specification, "Diffusion imaging data".
    """
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    turned = np.diag([-1.0 if np.linalg.det(axes) > 0 else 1.0, 1.0, 1.0])
    in_lps: NDArray[np.float64] = np.diag([-1.0, -1.0, 1.0]) @ axes @ turned @ directions
    return in_lps


def _told_of_volumes(file: Volumes, match: "Match") -> list[Told]:
    """What the images of each volume tell. Raises Mismatch where they do not agree."""
    told: list[Told | None] = [None] * file.stored.shape[3]
    for frame, plane in match.planes:
        if plane.file != file.name:
            continue
        mine, first = (frame.b_value, frame.gradient), told[plane.volume]
        if first is None:
            told[plane.volume] = mine
        elif not (_is_same_value(mine[0], first[0]) and _is_same_way(mine[1], first[1])):
            said = f"the images of volume {plane.volume + 1} tell several b-values or directions"
            raise Mismatch(file.name, said)
    return [each or _NOTHING for each in told]


def _is_same_value(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= _SAME_VALUE + _SAME_PART * other


def _is_same_way(one: Direction | None, other: Direction | None) -> bool:
    if one is None or other is None or one == other:
        return one == other
    return _angle(np.array(one), other) <= _SAME_ANGLE


def _angle(one: NDArray[np.float64], other: Direction) -> float:
    """Degrees between two lines: what diffuses knows no forth and back."""
    cosine = abs(float(one @ other)) / float(np.linalg.norm(one))
    return float(np.degrees(np.arccos(min(cosine, 1.0))))
