"""Do the b-values and b-vectors beside a NIfTI file say what the images say?

in: .bval, .bvec, their file, its Match    out: whether they are to be kept, or Mismatch

Format: FSL; BIDS specification, "Diffusion imaging data".
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from icf_tools.derive.diffusion import NOTHING, Direction, Told
from icf_tools.derive.planes import Match
from icf_tools.derive.volumes import Mismatch, Volumes

_UNWEIGHTED = 50.0  # s/mm²; below it a direction says nothing
_TOLERANCE = 0.01  # of a vector's length
# A converter may cut off what stands behind the dot, or sum up the B_matrix: 994 where B_value
# is 1000. The shells of a scan are further apart.
_SAME_VALUE, _SAME_PART = 1.0, 0.01  # s/mm², and part of the b-value
# What dcm2niix made of 47 real series was at most 0.00005 degrees beside what their images tell;
# three decimals or the B_matrix, which holds whole numbers, leave 0.05. Of 500 directions that
# share the sphere the next one is 7 away.
_SAME_ANGLE = 1.0  # degrees


def check_gradients(file: Volumes, values: str | None, vectors: str | None, match: Match) -> bool:
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


def _told_of_volumes(file: Volumes, match: Match) -> list[Told]:
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
    return [each or NOTHING for each in told]


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
