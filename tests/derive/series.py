"""Series of DICOM files with known geometry, and the NIfTI that is right for them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from tests import dicoms

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
OBLIQUE = (0.96, 0.28, 0.0, -0.168, 0.576, -0.8)


@dataclass(frozen=True, slots=True)
class Series:
    """What was scanned: values by volume, slice, row and column, and where they lie."""

    stored: NDArray[Any]
    orientation: tuple[float, ...] = AXIAL
    position: tuple[float, ...] = (-80.5, -100.25, 30.0)  #: mm, LPS, of the first pixel
    spacing: tuple[float, float] = (1.5, 2.0)  #: mm, between rows, between columns
    distance: float = 3.0  #: mm, between slices
    scale: tuple[float, float] | None = None  #: slope and intercept

    @classmethod
    def of(cls, volumes: int = 1, **given: Any) -> "Series":
        random = np.random.default_rng(4711)
        return cls(random.integers(0, 4000, (volumes, 4, 5, 6), dtype=np.int16), **given)

    @property
    def steps(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """In mm, LPS: along a row, along a column, to the next slice."""
        across, down = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        normal = np.cross(across, down) * self.distance
        return across * self.spacing[1], down * self.spacing[0], normal

    def write(self, folder: Path, number: int = 1, **elements: Any) -> Path:
        """One file for each slice of each volume."""
        volumes, slices, rows, columns = self.stored.shape
        for volume in range(volumes):
            for index in range(slices):
                instance = 1 + volume * slices + index
                corner = np.array(self.position) + index * self.steps[2]
                given: dict[str, Any] = {
                    "Rows": rows,
                    "Columns": columns,
                    "PixelRepresentation": 1,
                    "PixelData": self.stored[volume, index].tobytes(),
                    "ImagePositionPatient": [f"{part:.6f}" for part in corner],
                    "ImageOrientationPatient": [f"{part:.6f}" for part in self.orientation],
                    "PixelSpacing": list(map(str, self.spacing)),
                    "SliceThickness": str(self.distance),
                    "SpacingBetweenSlices": str(self.distance),
                    "AcquisitionTime": f"10{volume:02}00.{index:03}",
                    "AcquisitionNumber": volume + 1,
                }
                if self.scale is not None:
                    given |= {
                        "RescaleSlope": str(self.scale[0]),
                        "RescaleIntercept": str(self.scale[1]),
                        "RescaleType": "US",
                    }
                image = dicoms.image(number, instance, **given | elements)
                dicoms.write(folder / f"im{instance:04}.dcm", image)
        return folder

    def nifti(self) -> nibabel.Nifti1Image:
        """The file that is right: x along rows, y against columns, z along slices."""
        across, down, normal = self.steps
        rows = self.stored.shape[2]
        corner = np.array(self.position) + down * (rows - 1)
        affine = np.eye(4)
        affine[:3] = np.column_stack([across, -down, normal, corner])
        affine[:2] *= -1  # LPS to RAS
        data = self.stored[:, :, ::-1].transpose(3, 2, 1, 0)
        image = nibabel.Nifti1Image(np.ascontiguousarray(data), affine)
        image.set_qform(affine, 1)
        image.set_sform(affine, 1)
        if self.scale is not None:
            image.header["scl_slope"], image.header["scl_inter"] = self.scale
        return image
