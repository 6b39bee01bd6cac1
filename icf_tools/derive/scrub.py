"""What a converter wrote, with nothing left in it that may identify anyone.

in: a NIfTI file, its JSON    out: the same without names, comments and guesses

dcm2niix copies ImageComments into the NIfTI header, and elements of the
hospital and of the person into the JSON, although it is told to be anonymous.
"""

import json
import math
import re
import struct
from collections.abc import Callable, Collection
from pathlib import Path

from icf_tools.derive.volumes import Mismatch
from icf_tools.model.dicom import DENIED

_TEXTS_KEPT = frozenset(
    [
        *("AcquisitionTime", "BodyPart", "BodyPartExamined", "CoilString", "ConversionSoftware"),
        *("ConversionSoftwareVersion", "ImageType", "InPlanePhaseEncodingDirectionDICOM"),
        *("MRAcquisitionType", "Manufacturer", "ManufacturersModelName", "MatrixCoilMode"),
        *("Modality", "ParallelReductionTechnique", "PartialFourierDirection"),
        *("PatientPosition", "PhaseEncodingAxis", "PhaseEncodingDirection", "ProtocolName"),
        *("PulseSequenceDetails", "PulseSequenceName", "ReceiveCoilActiveElements"),
        *("ReceiveCoilName", "ScanOptions", "ScanningSequence", "SequenceName"),
        *("SequenceVariant", "SeriesDescription", "SliceEncodingDirection", "SoftwareVersions"),
    ]
)
"""Keys whose texts are technical. Other texts may be anything; `BidsGuess` is often wrong."""
_TECHNICAL = frozenset({"ImageOrientationPatientDICOM"})

_IN_DICOM = {
    "BodyPart": "BodyPartExamined",
    "CoilString": "ReceiveCoilName",
    "ManufacturersModelName": "ManufacturerModelName",
    "PulseSequenceDetails": "PulseSequenceName",
}
"""How DICOM spells what dcm2niix calls otherwise."""

_HEADER = 348  # bytes; NIfTI-1 standard, nifti1.h, as the places below
_NO_EXTENSION = bytes(4)
_DESCRIP = slice(148, 228)
_TEXTS = (slice(4, 14), slice(14, 32), slice(228, 252), slice(328, 344))  # aux_file, for example
_HARMLESS = re.compile(rb"((TE|Time|phase|mb)=[-+0-9.e]+;?)*\0*")


def sidecar(text: bytes, told_by: Callable[[str], object], deny: Collection[str] = ()) -> bytes:
    """The JSON with sorted keys, less what `told_by` says of that it tells who someone is.

    `deny` are keywords of DICOM elements that are left out, too, with what is made
    of them. Raises ValueError where it is no object.
    """
    denied = {_spelt(keyword) for keyword in deny}
    # dcm2niix takes bytes of any character set for latin-1, and writes them so
    content = json.loads(text.decode("latin-1"), strict=False)
    if not isinstance(content, dict):
        raise ValueError("not an object")
    kept = {
        key: value
        for key, value in content.items()
        if (key in _TECHNICAL or DENIED.search(key) is None)
        and _spelt(key) not in denied
        and not told_by(key)
        and all(_may_stay(key, part, told_by) for part in _parts(value))
    }
    return json.dumps(kept, indent=1, sort_keys=True).encode() + b"\n"


def _spelt(key: str) -> str:
    """As DICOM and BIDS both spell it: EchoNumbers and EchoNumber, ...DICOM."""
    return _IN_DICOM.get(key, key).removesuffix("DICOM").rstrip("s").lower()


def _parts(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _may_stay(key: str, part: object, told_by: Callable[[str], object]) -> bool:
    if isinstance(part, bool | int | float):
        return not told_by(str(part))
    if isinstance(part, list):  # of numbers, such as a matrix
        return all(isinstance(each, bool | int | float) for each in part)
    # what is not ASCII may have been mangled, and then no name is found in it
    plain = isinstance(part, str) and part.isascii() and part.isprintable()
    return plain and key in _TEXTS_KEPT and not told_by(str(part))


def nifti(path: Path) -> None:
    """Empty the texts of an uncompressed file. Raises Mismatch where there may be others."""
    with path.open("r+b") as file:
        header = bytearray(file.read(_HEADER))
        if header[:4] != _HEADER.to_bytes(4, "little") or header[344:348] != b"n+1\0":
            raise Mismatch(path.name, "it is no single NIfTI-1 file in little endian")
        (begin,) = struct.unpack("<f", header[108:112])
        sizes = struct.unpack("<8h", header[40:56])
        (bits,) = struct.unpack("<h", header[72:74])
        size = math.prod(sizes[1 : sizes[0] + 1]) * bits // 8
        whole = begin == _HEADER + 4 and path.stat().st_size == begin + size
        if file.read(4) != _NO_EXTENSION or not whole:
            raise Mismatch(path.name, "it holds more than its header and its volumes, or less")
        for place in _TEXTS:
            header[place] = bytes(place.stop - place.start)
        if not _HARMLESS.fullmatch(header[_DESCRIP]):
            header[_DESCRIP] = bytes(80)
        file.seek(0)
        file.write(header)
