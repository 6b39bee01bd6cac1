"""What a converter wrote, with nothing left in it that may identify anyone.

in: a NIfTI file, its JSON    out: the same without names, comments and guesses

dcm2niix copies ImageComments into the NIfTI header, and elements of the
hospital and of the person into the JSON, although it is told to be anonymous.
"""

import json
import re
from pathlib import Path

from icf_tools.archive.identity import Identity
from icf_tools.derive.planes import Mismatch
from icf_tools.model.dicom import DENIED

_GUESSED = frozenset({"BidsGuess"})  # another in each version of dcm2niix, and often wrong
_TECHNICAL = frozenset({"ImageOrientationPatientDICOM"})

_HEADER = 348  # bytes; NIfTI-1 standard, nifti1.h, as the places below
_NO_EXTENSION = bytes(4)
_DESCRIP = slice(148, 228)
_TEXTS = (slice(4, 14), slice(14, 32), slice(228, 252), slice(328, 344))  # aux_file, for example
_HARMLESS = re.compile(rb"([A-Za-z]+=[-+0-9.e]+;?)*\0*")  # such as TE=2.5;Time=100000.000


def sidecar(text: bytes, identity: Identity) -> bytes:
    """The JSON with sorted keys. Raises ValueError where it is no object."""
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("not an object")
    kept = {
        key: value
        for key, value in content.items()
        if key not in _GUESSED
        and (key in _TECHNICAL or DENIED.search(key) is None)
        and not identity.held_by(json.dumps(value, ensure_ascii=False))
    }
    return json.dumps(kept, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def nifti(path: Path) -> None:
    """Empty the texts of an uncompressed file. Raises Mismatch where there may be others."""
    with path.open("r+b") as file:
        header = bytearray(file.read(_HEADER))
        if header[:4] != _HEADER.to_bytes(4, "little") or header[344:348] != b"n+1\0":
            raise Mismatch(path.name, "it is no single NIfTI-1 file in little endian")
        if file.read(4) != _NO_EXTENSION:
            raise Mismatch(path.name, "its header has an extension")
        for place in _TEXTS:
            header[place] = bytes(place.stop - place.start)
        if not _HARMLESS.fullmatch(header[_DESCRIP]):
            header[_DESCRIP] = bytes(80)
        file.seek(0)
        file.write(header)
