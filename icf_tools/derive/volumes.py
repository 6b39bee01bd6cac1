"""A NIfTI file as it is stored, or what is wrong with it by itself.

in: a file    out: Volumes: stored values, affine, slope and intercept
"""

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from icf_tools.errors import Damaged

TOLERANCE = 0.02
"""Voxels that a place may be beside another; right results were off by 0.0022 at most."""


class Mismatch(Damaged):
    message = "{}: {}; do not use it, convert the images again"


@dataclass(frozen=True, slots=True)
class Volumes:
    """A NIfTI file as it is stored."""

    name: str
    stored: NDArray[Any]  #: (x, y, z, volume)
    affine: NDArray[np.float64]  #: from voxel to mm, RAS
    slope: float
    intercept: float

    @classmethod
    def load(cls, path: Path) -> "Volumes":
        """Raises Mismatch where it cannot be read, or says two things of where it lies."""
        try:
            return cls._load(path)
        except Mismatch:
            raise
        except Exception as err:  # nibabel raises what a broken file leads it to
            raise Mismatch(path.name, "it cannot be read as NIfTI-1") from err

    @classmethod
    def _load(cls, path: Path) -> "Volumes":
        image = nibabel.Nifti1Image.from_filename(path)
        proxy: Any = image.dataobj
        stored = np.asanyarray(proxy.get_unscaled())
        header: Any = image.header
        affine = header.get_best_affine()
        if header["sform_code"] <= 0 and header["qform_code"] <= 0:
            raise Mismatch(path.name, "it does not say where it lies")
        if stored.dtype.kind not in "iuf" or stored.ndim < 3 or 0 in stored.shape:
            raise Mismatch(path.name, "it holds no volume")
        if any(size > 1 for size in stored.shape[4:]):
            raise Mismatch(path.name, "it has more than four dimensions")
        if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise Mismatch(path.name, "its affine is singular")
        voxel = np.linalg.norm(affine[:3, :3], axis=0)
        if not np.allclose(np.abs(header["pixdim"][1:4]), voxel, rtol=1e-3):
            raise Mismatch(path.name, "its pixdim is not that of its affine")
        if header.get_xyzt_units()[0] not in ("mm", "unknown"):
            raise Mismatch(path.name, "it does not count in mm")
        if header["sform_code"] > 0 and header["qform_code"] > 0:
            corners = np.array(np.meshgrid(*[(0, size - 1) for size in stored.shape[:3]]))
            apart = header.get_sform() - header.get_qform()
            beside = np.abs(apart[:3, :3] @ corners.reshape(3, -1) + apart[:3, 3:]).max()
            if not beside <= TOLERANCE * voxel.min():
                raise Mismatch(path.name, "its sform and its qform differ")
        # nibabel takes a slope that is no number for 1, others do not
        scale = [float(np.frombuffer(_raw(path), "<f4", 1, place)[0]) for place in (112, 116)]
        if not np.isfinite(scale).all():
            raise Mismatch(path.name, "its slope or its intercept is no number")
        return cls(
            path.name,
            stored.reshape(*stored.shape[:3], -1, order="F"),
            affine,
            float(proxy.slope),
            float(proxy.inter),
        )


def _raw(path: Path) -> bytes:
    """The header as it stands in the file."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        return file.read(348)
