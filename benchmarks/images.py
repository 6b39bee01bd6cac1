"""Folders of DICOM files with the headers of a scanner.

The headers are those of dcm_qa_nih in the folder that ICF_TEST_DATA names, or
else of the files that nibabel brings for its own tests.
"""

import os
from collections.abc import Sequence
from pathlib import Path

_PER_FOLDER = 1000  # files
_SERIAL = 8  # last characters of the SOPInstanceUID that count the copies


def siemens(folder: Path, count: int) -> None:
    """Mosaics of 200 kB and more."""
    _write(folder, count, _templates("20180918Si", "[01].dcm"))


def ge(folder: Path, count: int) -> None:
    """Slices of 25 kB; of 40 kB by another scanner, where nibabel has to do."""
    _write(folder, count, _templates("20180918GE", "slicethickness_empty_string.dcm"))


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


def _write(folder: Path, count: int, templates: Sequence[bytes]) -> None:
    """Copies, each with a SOPInstanceUID of its own, of the same length."""
    from pydicom import dcmread
    from pydicom.filebase import DicomBytesIO

    parts = []
    for template in templates:
        uid = str(dcmread(DicomBytesIO(template), stop_before_pixels=True).SOPInstanceUID).encode()
        parts.append((uid[:-_SERIAL], template.split(uid)))
    for number in range(count):
        below = folder / f"mr_{number // _PER_FOLDER + 1:04}"
        if number % _PER_FOLDER == 0:
            below.mkdir(parents=True)
        start, around = parts[number % len(parts)]
        uid = start + b"%d" % (10_000_000 + number)  # no zero in front: it may follow a dot
        (below / f"{number:06}.dcm").write_bytes(uid.join(around))
