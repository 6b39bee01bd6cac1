"""Folders of DICOM files with the headers of a scanner.

The headers are those of dcm_qa_nih in the folder that ICF_TEST_DATA names, or
else of the files that nibabel brings for its own tests.
"""

import os
from collections.abc import Sequence
from pathlib import Path

_PER_FOLDER = 1000  # files
_SERIAL = 8  # last characters of the SOPInstanceUID that count the copies


def siemens(folder: Path, count: int, per_folder: int = _PER_FOLDER) -> None:
    """Mosaics of 200 kB and more."""
    _write(folder, count, _templates("20180918Si", "[01].dcm"), per_folder)


def ge(folder: Path, count: int) -> None:
    """Slices of 25 kB; of 40 kB by another scanner, where nibabel has to do."""
    _write(folder, count, _templates("20180918GE", "slicethickness_empty_string.dcm"))


def small(folder: Path, count: int) -> None:
    """Corners of slices, in files of 8 kB."""
    templates = _templates("20180918GE", "slicethickness_empty_string.dcm")
    _write(folder, count, list(map(_corner, templates)))


def _corner(template: bytes, side: int = 52) -> bytes:
    from pydicom import dcmread
    from pydicom.filebase import DicomBytesIO
    from pydicom.uid import ExplicitVRLittleEndian

    image = dcmread(DicomBytesIO(template))
    corner = image.pixel_array[-side:, -side:].tobytes()
    image.remove_private_tags()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.Rows = image.Columns = side
    image.add_new("PixelData", "OW", corner)  # it was packed, maybe
    image.save_as(out := DicomBytesIO())
    return bytes(out.getvalue())


def _templates(scan: str, substitute: str) -> Sequence[bytes]:
    data = os.environ.get("ICF_TEST_DATA")
    if data:
        files = sorted(Path(data, "dcm_qa_nih/In", scan).glob("*/*.dcm"))[:50]
    else:
        try:
            import nibabel
        except ImportError as err:
            raise SystemExit("no DICOM headers: set ICF_TEST_DATA, or install nibabel") from err
        files = sorted(Path(nibabel.__file__).parent.glob(f"nicom/tests/data/{substitute}"))
    if not files:
        raise SystemExit(f"no DICOM of {scan}; point ICF_TEST_DATA to dcm_qa_nih, or unset it")
    return [file.read_bytes() for file in files]


def _write(
    folder: Path, count: int, templates: Sequence[bytes], per_folder: int = _PER_FOLDER
) -> None:
    """Copies, each with a SOPInstanceUID of its own, of the same length."""
    from pydicom import dcmread
    from pydicom.filebase import DicomBytesIO

    parts = []
    for template in templates:
        uid = str(dcmread(DicomBytesIO(template), stop_before_pixels=True).SOPInstanceUID).encode()
        parts.append((uid[:-_SERIAL], template.split(uid)))
    for number in range(count):
        below = folder / f"mr_{number // per_folder + 1:04}"
        if number % per_folder == 0:
            below.mkdir(parents=True)
        start, around = parts[number % len(parts)]
        uid = start + b"%d" % (10_000_000 + number)  # no zero in front: it may follow a dot
        (below / f"{number:06}.dcm").write_bytes(uid.join(around))


SLICES = 100
"""Of each volume of `series`."""


def series(folder: Path, volumes: int, side: int) -> None:
    """A time series with the headers of a scanner: square slices, `side` pixels wide."""
    import numpy as np
    from pydicom import dcmread
    from pydicom.filebase import DicomBytesIO
    from pydicom.uid import UID, ExplicitVRLittleEndian

    image = dcmread(DicomBytesIO(_templates("20180918GE", "slicethickness_empty_string.dcm")[0]))
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian  # it was packed, maybe
    random = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    head = np.clip(1 - x**2 - y**2, 0, None)  # noise on a ball: it compresses as images do
    folder.mkdir(parents=True)
    image.Rows = image.Columns = side
    image.PixelSpacing = ["1", "1"]
    image.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    image.SliceThickness = image.SpacingBetweenSlices = "2"
    for number in range(volumes * SLICES):
        volume, index = divmod(number, SLICES)
        image.InstanceNumber = number + 1
        image.AcquisitionTime = image.ContentTime = f"10{volume:02}00"
        image.SOPInstanceUID = UID(f"1.2.3.{number + 1}")
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.ImagePositionPatient = ["-100", "-100", str(2 * index)]
        image.SliceLocation = str(2 * index)
        values = head * 1000 + random.integers(0, 60, head.shape) * (head > 0)
        image.PixelData = values.astype("<i2").tobytes()
        image.save_as(folder / f"im{number:05}.dcm")
