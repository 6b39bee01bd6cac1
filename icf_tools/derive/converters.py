"""The programs that make NIfTI of DICOM; none of them is believed.

in: a folder with the images of one series    out: out*.nii, .json, .bval, .bvec in another one

Each runs in a process of its own: what it prints, changes, leaks or breaks stays there.
"""

import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from icf_tools.derive.children import run
from icf_tools.derive.frames import Frame, header_of, read_frames
from icf_tools.derive.volumes import Mismatch
from icf_tools.dicom.header import Wanted
from icf_tools.model.dicom import RECORDED, Tag, Value

_LONGEST = 3600  # seconds


def _dcm2niix(source: Path, made: Path) -> None:
    import dcm2niix

    # -g i: no settings of the user; -ba y: anonymous; -p n: the slope that DICOM has
    options = ["-g", "i", "-b", "y", "-ba", "y", "-z", "n", "-p", "n", "-f", "out"]
    code = _run([dcm2niix.bin, *options, "-o", str(made.absolute()), str(source.absolute())], made)
    for path in made.iterdir():
        # what it resampled beside the volume is no image any more
        if re.search("_(Eq|Tilt)(_|\\.)", path.name):
            path.unlink()
    if not any(made.glob("*.nii")):
        raise Mismatch("no file", f"it made no file (exit code {code})")


def _dicom2nifti(source: Path, made: Path) -> None:
    # what a run that crashed or was stopped left behind is never looked at
    with tempfile.TemporaryDirectory(dir=made) as work:
        target = Path(work).absolute() / "out.nii"
        # -I: nothing of the user's environment or folder; it finds what this process finds
        command = [sys.executable, "-I", "-m", __name__, str(source.absolute()), str(target)]
        code = _run(command, target.parent)
        if code or not target.exists():
            raise Mismatch("no file", f"it made no file (exit code {code})")
        vectors = target.with_suffix(".bvec")
        # It takes for granted that rows run upwards, as they do in what dcm2niix writes: in its
        # own file directions point elsewhere. Where the images tell none, nobody would notice.
        made_some = vectors.exists() and re.search("[1-9]", vectors.read_text("ascii", "replace"))
        if made_some and not any(frame.gradient for frame in _frames(source)):
            raise Mismatch("out.bvec", "nothing shows that its b-vectors are right")
        for path in list(target.parent.glob("out.*")):
            path.rename(made / path.name)


def _frames(source: Path) -> Iterator[Frame]:
    for path in sorted(source.iterdir()):
        yield from read_frames(path.name, memoryview(path.read_bytes()))


def _run(command: Sequence[str], home: Path) -> int:
    """The exit code; what it dumps lies in `home`."""
    variables = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
    # several series are worked on at a time
    variables |= dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"], "1")
    variables |= dict.fromkeys(["HOME", "TMPDIR"], str(home.absolute()))
    return run(command, variables, home, _LONGEST)


CONVERTERS: dict[str, Callable[[Path, Path], None]] = {
    "dcm2niix": _dcm2niix,
    "dicom2nifti": _dicom2nifti,
}
"""What is tried, in this order: each writes out*.nii, and what belongs to them."""


def version_of(converter: str) -> str:
    """Its name and the version that is installed."""
    from importlib.metadata import version

    return f"{converter} {version(converter)}"


_KEYS = {
    "BodyPartExamined": "BodyPart",
    "EchoNumbers": "EchoNumber",
    "ManufacturerModelName": "ManufacturersModelName",
}
"""What dcm2niix, and BIDS with it, calls otherwise than DICOM does."""
_MAKERS = {
    maker.lower(): maker
    for maker in (
        *("Bruker", "Canon", "GE", "Hitachi", "Hyperfine", "Mediso", "Philips", "Siemens"),
        *("Toshiba", "UIH"),
    )
}
_COPIED = frozenset(
    [
        *("AcquisitionNumber", "BodyPartExamined", "EchoNumbers", "EchoTime", "FlipAngle"),
        *("ImageType", "MRAcquisitionType", "MagneticFieldStrength", "Manufacturer"),
        *("ManufacturerModelName", "Modality", "ProtocolName", "PulseSequenceName"),
        *("RepetitionTime", "SeriesDescription", "SeriesNumber", "SliceThickness"),
        "SpacingBetweenSlices",
    ]
)
_TAGS = (
    *(tag for tag in RECORDED if tag.keyword in _COPIED),
    Tag("ImagingFrequency", 0x00180084, "DS"),  # MHz
    Tag("InversionTime", 0x00180082, "DS"),  # ms
    Tag("PatientPosition", 0x00185100, "CS"),
    Tag("PixelBandwidth", 0x00180095, "DS"),  # Hz
    Tag("ScanOptions", 0x00180022, "CS", many=True),
    Tag("ScanningSequence", 0x00180020, "CS", many=True),
    Tag("SequenceName", 0x00180024, "SH"),
    Tag("SequenceVariant", 0x00180021, "CS", many=True),
    Tag("SoftwareVersions", 0x00181020, "LO", many=True),
)
_WANTED = Wanted.of(_TAGS)
_MILLISECONDS = frozenset({"EchoTime", "InversionTime", "RepetitionTime"})  # in DICOM; BIDS: s


def sidecar(images: Iterable[dict[str, Value]]) -> dict[str, Value]:
    """What all images agree on, by the keys and in the units of dcm2niix."""
    first, *others = images
    name, _, version = version_of("dicom2nifti").partition(" ")
    content: dict[str, Value] = {"ConversionSoftware": name, "ConversionSoftwareVersion": version}
    for keyword, value in first.items():
        if any(other.get(keyword) != value for other in others):
            continue
        if isinstance(value, int | float):
            if value <= 0:  # which scanners write for what there is none of
                continue
            if keyword in _MILLISECONDS:
                value = round(value / 1000, 9)
        elif isinstance(value, list) and keyword != "ImageType":
            value = "\\".join(map(str, value))
        elif keyword == "Manufacturer":
            found = re.match(f"({'|'.join(_MAKERS)})(?![A-Z])", str(value), re.IGNORECASE)
            value = _MAKERS[found[1].lower()] if found else value
        content[_KEYS.get(keyword, keyword)] = value
    return content


def _convert(source: Path, target: Path) -> None:
    """What dicom2nifti does in a process of its own: one series, one file, and its sidecar."""
    with suppress(OSError):  # where memory is short this one is stopped, not who waits for it
        Path("/proc/self/oom_score_adj").write_text("1000")

    from dicom2nifti import settings  # type: ignore[import-untyped]
    from dicom2nifti.convert_dicom import dicom_array_to_nifti  # type: ignore[import-untyped]
    from nibabel.nifti1 import Nifti1Header
    from pydicom import dcmread

    # what it refuses, such as a tilted gantry, may come out right; that is found out later
    settings.disable_validate_slicecount()
    settings.disable_validate_orientation()
    settings.disable_validate_orthogonal()
    settings.disable_validate_slice_increment()
    # not its own way to read a folder: that is in any order, and reads pixel data again from
    # a place that a deflated file has not
    paths = sorted(source.glob("*.dcm"))
    images = [dcmread(path) for path in paths]
    for image in images:
        for keyword in ("RepetitionTime", "EchoTime"):  # without, it makes no time series
            if image.get(keyword) is None:
                setattr(image, keyword, 0)
    # a scale that all images have is that of the file: else its volumes become 64 bit numbers
    scales = {(image.get("RescaleSlope"), image.get("RescaleIntercept")) for image in images}
    slope, intercept = scales.pop()
    if scales or slope is None or intercept is None:
        slope, intercept = 1, 0
    else:
        for image in images:
            del image.RescaleSlope, image.RescaleIntercept
    dicom_array_to_nifti(images, str(target), reorient_nifti=False)
    with target.open("r+b") as file:
        header = Nifti1Header.from_fileobj(file)
        affine = header.get_best_affine()
        header.set_sform(affine, "scanner")
        # it cannot say that an axis leans, as those of a tilted gantry do
        header.set_qform(affine, "scanner", strip_shears=True)
        if abs(header.get_qform() - affine).max() > 1e-3:
            header["qform_code"] = 0
        header.set_xyzt_units("mm", "sec")
        header["scl_slope"], header["scl_inter"] = slope, intercept
        file.seek(0)
        header.write_to(file)
    told = [header_of(memoryview(path.read_bytes()), _WANTED) for path in paths]
    content = sidecar(header.values(_TAGS) for header in told if header is not None)
    target.with_suffix(".json").write_text(json.dumps(content, sort_keys=True))


if __name__ == "__main__":
    _convert(*map(Path, sys.argv[1:]))
