"""b-values and b-vectors beside a NIfTI file: one for each volume, and unit vectors.

in: the texts of .bval and .bvec, the number of volumes    out: nothing, or Mismatch

Format: FSL; BIDS specification, "Diffusion imaging data".
"""

import numpy as np

from icf_tools.derive.volumes import Mismatch

_UNWEIGHTED = 50.0  # s/mm²; below it a direction says nothing
_TOLERANCE = 0.01  # of a vector's length


def check_gradients(name: str, values: str, vectors: str, volumes: int) -> None:
    """Raises Mismatch."""
    try:
        weights = np.array([float(word) for word in values.split()])
        rows = [[float(word) for word in line.split()] for line in vectors.splitlines() if line]
        directions = np.array(rows)
    except ValueError as err:
        raise Mismatch(name, "its b-values or b-vectors are no numbers") from err
    if directions.shape != (3, len(weights)) or len(weights) != volumes:
        raise Mismatch(name, f"it has not a b-value and a b-vector for each of {volumes} volumes")
    lengths = np.linalg.norm(directions, axis=0)
    unit = np.abs(lengths - 1) <= _TOLERANCE
    weighted = weights > _UNWEIGHTED
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise Mismatch(name, "a b-value is none")
    if not (unit | ((lengths <= _TOLERANCE) & ~weighted)).all():
        raise Mismatch(name, "a b-vector does not have the length 1")
