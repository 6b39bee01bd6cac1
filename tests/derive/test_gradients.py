"""b-values and b-vectors are those that the images tell, or they are not kept."""

import gzip
import re
import struct
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from icf_tools.derive.convert import _prove
from icf_tools.derive.converters import CONVERTERS
from icf_tools.derive.diffusion import Told
from icf_tools.derive.frames import Frame, read_frames
from icf_tools.derive.gradients import check_gradients, in_patient
from icf_tools.derive.planes import Match, Plane
from icf_tools.derive.verify import verify
from icf_tools.derive.volumes import Mismatch, Volumes
from tests import dicoms
from tests.derive.series import AXIAL, CORONAL, OBLIQUE, SAGITTAL, Series
from tests.derive.test_converters import SECOND, changed, converted, frames_of, run

Vectors = NDArray[np.float64]
Orientation = tuple[float, ...]
Change = Callable[[Any, float, Sequence[float]], object]

NIBABEL = Path(nibabel.__file__).parent / "nicom" / "tests" / "data"
ORIENTATIONS = {"axial": AXIAL, "coronal": CORONAL, "sagittal": SAGITTAL, "oblique": OBLIQUE}
VALUES = (0, 1000, 1000, 2000, 700, 0)
GRADIENTS = (
    (0.0, 0.0, 0.0),
    (0.6, 0.48, 0.64),
    (-0.36, 0.48, 0.8),
    (0.8, -0.6, 0.0),
    (0.48, 0.36, -0.8),
    (0.0, 0.0, 0.0),
)


def siemens(image: Any, value: float, gradient: Sequence[float]) -> None:
    block = image.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0C, "IS", str(value))
    if any(gradient):
        block.add_new(0x0E, "FD", list(gradient))


def standard(image: Any, value: float, gradient: Sequence[float]) -> None:
    image.DiffusionBValue = float(value)
    if any(gradient):
        image.DiffusionGradientOrientation = list(gradient)


def philips(image: Any, value: float, gradient: Sequence[float]) -> None:
    image.private_block(0x2001, "Philips Imaging DD 001", create=True).add_new(3, "FL", value)
    block = image.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
    for axis, part in enumerate(gradient):
        block.add_new(0xB0 + axis, "FL", part)


def general_electric(image: Any, value: float, gradient: Sequence[float]) -> None:
    block = image.private_block(0x0019, "GEMS_ACQU_01", create=True)
    for axis, part in enumerate(gradient):
        block.add_new(0xBB + axis, "DS", f"{part:.5f}")
    block = image.private_block(0x0043, "GEMS_PARM_01", create=True)
    block.add_new(0x39, "IS", [str(value), "8", "0", "0"])
    image.InPlanePhaseEncodingDirection = "COL"
    standard(image, value, gradient)  # as it is told to be in newer ones


def csa(**items: Sequence[float]) -> bytes:
    """A CSA header; nibabel documentation, "Siemens format DICOM with CSA header"."""
    content = [b"SV10\4\3\2\1", struct.pack("<2I", len(items), 77)]
    for name, values in items.items():
        kind = b"IS" if len(values) == 1 else b"FD"
        size = len(values) or 3
        content.append(struct.pack("<64si4s3i", name.encode(), size, kind, 0, 6 * bool(values), 77))
        for place in range(6 if values else 0):
            text = f"{values[place]:.8g}".encode() + b"\0" if place < len(values) else b""
            content.append(struct.pack("<4i", len(text), len(text), 77, len(text)))
            content.append(text + bytes(-len(text) % 4))
    return b"".join(content)


def csa_only(image: Any, value: float, gradient: Sequence[float]) -> None:
    given = gradient if any(gradient) else ()
    content = csa(B_value=[value], DiffusionGradientDirection=given)
    block = image.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x10, "OB", content + bytes(len(content) % 2))


def classic(maker: str, tell: Change, **given: Any) -> Callable[[Path, Orientation], None]:
    def write(folder: Path, orientation: Orientation) -> None:
        given.setdefault("PatientPosition", "HFS")
        series = Series.of(len(VALUES), orientation=orientation)
        series.write(folder, Manufacturer=maker, RepetitionTime="3000", **given)
        changed(folder, lambda image, at: tell(image, VALUES[at // 4], GRADIENTS[at // 4]))

    return write


def mosaic(upwards: int) -> Callable[[Path, Orientation], None]:
    """Of the header of a scanner; its slices may be counted against the way that axes turn."""

    def write(folder: Path, orientation: Orientation) -> None:
        whole = gzip.decompress((NIBABEL / "siemens_dwi_1000.dcm.gz").read_bytes())
        normal = upwards * np.cross(orientation[:3], orientation[3:])
        random = np.random.default_rng(4711)
        folder.mkdir()
        for volume, (value, gradient) in enumerate(zip(VALUES, GRADIENTS, strict=True)):
            image = pydicom.dcmread(BytesIO(whole))
            # those of the private elements that are not given in what follows
            for number in (0x0019100C, 0x0019100E, 0x00191027, 0x00191029, 0x00291020):
                del image[number]
            image[0x0019100A].value = 4
            image[0x00291010].value = csa(
                NumberOfImagesInMosaic=[4],
                SliceNormalVector=list(normal),
                B_value=[value],
                DiffusionGradientDirection=gradient if any(gradient) else (),
            )
            image.Rows = image.Columns = 16
            image.AcquisitionMatrix = [8, 0, 0, 8]
            image.PixelData = random.integers(0, 4000, (16, 16), dtype=np.uint16).tobytes()
            image.ImageOrientationPatient = [f"{part:.6f}" for part in orientation]
            image.InstanceNumber = image.AcquisitionNumber = volume + 1
            image.AcquisitionTime = f"10{volume:02}00"
            image.SOPInstanceUID = f"{dicoms.ROOT}.1.{volume}"
            image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
            image.save_as(folder / f"im{volume:02}.dcm")

    return write


def diffusion_of(value: float, gradient: Sequence[float]) -> Dataset:
    """An item of MRDiffusionSequence."""
    item = Dataset()
    item.DiffusionBValue = float(value)
    item.DiffusionDirectionality = "DIRECTIONAL" if any(gradient) else "NONE"
    if any(gradient):
        inner = Dataset()
        inner.DiffusionGradientOrientation = list(gradient)
        item.DiffusionGradientDirectionSequence = [inner]
    return item


def enhanced(folder: Path, orientation: Orientation, maker: str = "Philips") -> None:
    series = Series.of(len(VALUES), orientation=orientation)
    volumes, slices, rows, columns = series.stored.shape
    image = dicoms.image(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1",
        Manufacturer=maker,
        NumberOfFrames=volumes * slices,
        Rows=rows,
        Columns=columns,
        PixelRepresentation=1,
        PixelData=series.stored.tobytes(),
    )
    shared, turn, measures, frames = Dataset(), Dataset(), Dataset(), []
    turn.ImageOrientationPatient = [f"{part:.6f}" for part in orientation]
    measures.PixelSpacing = list(map(str, series.spacing))
    measures.SliceThickness = measures.SpacingBetweenSlices = str(series.distance)
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [turn], [measures]
    for volume, index in np.ndindex(volumes, slices):
        own, place, content = Dataset(), Dataset(), Dataset()
        corner = np.array(series.position) + index * series.steps[2]
        place.ImagePositionPatient = [f"{part:.6f}" for part in corner]
        content.DimensionIndexValues = [1, index + 1, volume + 1]
        content.InStackPositionNumber, content.TemporalPositionIndex = index + 1, volume + 1
        own.PlanePositionSequence, own.FrameContentSequence = [place], [content]
        own.MRDiffusionSequence = [diffusion_of(VALUES[volume], GRADIENTS[volume])]
        frames.append(own)
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = frames
    dicoms.write(folder / "image.dcm", image)


KINDS: dict[str, Callable[[Path, Orientation], None]] = {
    "Siemens": classic("SIEMENS", siemens),
    "CSA header": classic("SIEMENS", csa_only),
    "standard": classic("Example", standard),
    "Philips": classic("Philips Medical Systems", philips),
    "mosaic": mosaic(1),
    "mosaic downwards": mosaic(-1),
    "enhanced": enhanced,
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_the_images_tell_is_what_the_converter_writes(
    kind: str, orientation: str, tmp_path: Path
) -> None:
    """It goes another way to the same directions: by rows, columns and the order of slices."""
    KINDS[kind](tmp_path / "in", ORIENTATIONS[orientation])
    frames = frames_of(tmp_path / "in")
    told = {(frame.b_value, frame.gradient) for frame in frames}
    assert len(frames) == len(VALUES) * 4
    assert [value for value, _ in sorted(told, key=str)] == [0, 1000, 1000, 2000, 700]
    made = run("dcm2niix", tmp_path / "in")
    match = _prove(made, frames)
    values, vectors = np.loadtxt(made / "out.bval"), np.loadtxt(made / "out.bvec")
    assert values.tolist() == list(VALUES)
    found = in_patient(vectors, Volumes.load(made / "out.nii").affine).T
    expected = np.array(GRADIENTS)
    # it has the opposite of each where slices are counted the other way
    assert np.allclose(found, -expected if kind == "mosaic downwards" else expected, atol=1e-5)
    for name, fault in FAULTS.items():
        wrong_values, wrong = fault(values, vectors, found.T)
        if np.allclose(wrong, -vectors, atol=1e-5):
            # its voxels lie along the axes of the patient, each the other way
            assert (kind, orientation, name) == ("mosaic downwards", "axial", PATIENT)
            continue
        (made / "out.bval").write_text(" ".join(map(str, wrong_values)) + "\n")
        np.savetxt(made / "out.bvec", wrong, "%.6f")
        with pytest.raises(Mismatch, match=r"b-value of volume|b-vector") as caught:
            _prove(made, frames)
        assert caught.value.args[0] == "out.nii", name
    # each of them is as good as its opposite, and three decimals are enough
    vectors[:, 2] *= -1
    np.savetxt(made / "out.bvec", vectors, "%.3f")
    (made / "out.bval").write_text("0 1000 999.5 1990 705 0\n")
    assert _prove(made, frames).digest == match.digest


def scaled(*factors: float) -> Vectors:
    return np.array(factors)[:, None]


Fault = Callable[[Vectors, Vectors, Vectors], tuple[Vectors, Vectors]]
PATIENT = "along the axes of the patient"
FAULTS: dict[str, Fault] = {
    "x flipped": lambda b, v, _: (b, v * scaled(-1, 1, 1)),
    "y flipped": lambda b, v, _: (b, v * scaled(1, -1, 1)),
    "z flipped": lambda b, v, _: (b, v * scaled(1, 1, -1)),
    "x and y swapped": lambda b, v, _: (b, v[[1, 0, 2]]),
    "x and z swapped": lambda b, v, _: (b, v[[2, 1, 0]]),
    "y and z swapped": lambda b, v, _: (b, v[[0, 2, 1]]),
    "axes go round": lambda b, v, _: (b, v[[1, 2, 0]]),
    "vectors of two volumes exchanged": lambda b, v, _: (b, v[:, [0, 2, 1, 3, 4, 5]]),
    "vectors one volume late": lambda b, v, _: (b, np.roll(v, 1, axis=1)),
    "b-values exchanged": lambda b, v, _: (b[[0, 1, 3, 2, 4, 5]], v),
    "b-values of all halved": lambda b, v, _: (b / 2, v),
    "b-values zero": lambda b, v, _: (b * 0, v),
    "b-values of some 3 % off": lambda b, v, _: (b * [1, 1, 1.03, 1, 1, 1], v),
    PATIENT: lambda b, _, g: (b, g),
    "along those of NIfTI": lambda b, _, g: (b, g * scaled(-1, -1, 1)),
    "all zero": lambda b, v, _: (b, v * 0),
    "one of them zero": lambda b, v, _: (b, v * [1, 1, 0, 1, 1, 1]),
    "one of them another": lambda b, v, _: (b, v[:, [0, 1, 2, 2, 4, 5]]),
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_second_converter_is_wrong(orientation: str, tmp_path: Path) -> None:
    KINDS["Siemens"](tmp_path / "in", ORIENTATIONS[orientation])
    made = run("dicom2nifti", tmp_path / "in")
    assert np.allclose(np.linalg.norm(np.loadtxt(made / "out.bvec"), axis=0)[1:5], 1)
    with pytest.raises(Mismatch, match=r"the b-vector of volume 2 is \d\d degrees off"):
        _prove(made, frames_of(tmp_path / "in"))


def deflated(image: Any, value: float, gradient: Sequence[float]) -> None:
    siemens(image, value, gradient)
    image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"


def files(folder: Path) -> list[str]:
    return sorted("".join(path.suffixes) for path in (folder / "made" / "nifti").iterdir())


def test_right_ones_are_kept(tmp_path: Path) -> None:
    KINDS["Siemens"](tmp_path / "in", OBLIQUE)
    assert converted(tmp_path / "in")["reason"] == ""
    assert files(tmp_path) == [".bval", ".bvec", ".json", ".nii.gz"]


def test_volumes_are_kept_where_no_converter_has_right_directions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = CONVERTERS["dcm2niix"]

    def wrong(source: Path, made: Path) -> None:
        right(source, made)
        np.savetxt(made / "out.bvec", np.loadtxt(made / "out.bvec") * scaled(1, -1, 1))

    for name in ("dcm2niix", "dicom2nifti"):
        monkeypatch.setitem(CONVERTERS, name, wrong)
    KINDS["standard"](tmp_path / "in", OBLIQUE)
    entry = converted(tmp_path / "in")
    assert entry["status"] == "verified"
    assert entry["converter"].startswith("dcm2niix ")
    said = r"the b-vector of volume 2 is \d\d degrees off"
    assert re.fullmatch(f"dcm2niix: {said}; dicom2nifti: {said}", entry["reason"])
    assert files(tmp_path) == [".json", ".nii.gz"]


def test_files_that_others_made_are_checked_with_what_is_beside_them(tmp_path: Path) -> None:
    KINDS["Siemens"](tmp_path / "in", OBLIQUE)
    converted(tmp_path / "in")
    [file] = (tmp_path / "made" / "nifti").glob("*.nii.gz")
    [good] = verify([file], tmp_path / "in")
    assert good.fault == ""
    vectors = file.with_name(file.name.replace(".nii.gz", ".bvec"))
    vectors.chmod(0o644)
    np.savetxt(vectors, np.loadtxt(vectors) * scaled(-1, 1, 1))
    [bad] = verify([file], tmp_path / "in")
    assert re.search(r"the b-vector of volume \d is \d+ degrees off$", bad.fault)
    vectors.unlink()
    [lacking] = verify([file], tmp_path / "in")
    assert lacking.fault.endswith("it has b-values, and no b-vectors")


def test_volumes_without_directions_are_kept_rather_than_wrong_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second converter has the same volumes, and makes no directions of this one."""
    right = CONVERTERS["dcm2niix"]

    def wrong(source: Path, made: Path) -> None:
        right(source, made)
        np.savetxt(made / "out.bvec", np.loadtxt(made / "out.bvec") * scaled(1, -1, 1))

    monkeypatch.setitem(CONVERTERS, "dcm2niix", wrong)
    KINDS["standard"](tmp_path / "in", OBLIQUE)
    entry = converted(tmp_path / "in")
    assert (entry["status"], entry["converter"]) == ("verified", SECOND)
    assert re.fullmatch(r"dcm2niix: the b-vector of volume 2 is \d\d degrees off", entry["reason"])
    assert files(tmp_path) == [".json", ".nii.gz"]


def test_directions_of_canon_are_right_or_not_kept(tmp_path: Path) -> None:
    """dcm2niix of 2026 takes them for those of GE where the first image, with b = 0, has none."""
    classic("CANON_MEC", standard, InPlanePhaseEncodingDirection="COL")(tmp_path / "in", OBLIQUE)
    made = run("dcm2niix", tmp_path / "in")
    found = in_patient(np.loadtxt(made / "out.bvec"), Volumes.load(made / "out.nii").affine)
    assert converted(tmp_path / "in")["status"] == "verified"
    assert (".bvec" in files(tmp_path)) == np.allclose(found.T, GRADIENTS, atol=1e-5)


def test_no_directions_are_kept_where_the_only_ones_are_wrong(tmp_path: Path) -> None:
    classic("SIEMENS", deflated)(tmp_path / "in", AXIAL)
    entry = converted(tmp_path / "in")
    assert (entry["status"], entry["converter"]) == ("verified", SECOND)
    assert entry["reason"].endswith("dicom2nifti: the b-vector of volume 2 is 80 degrees off")
    assert files(tmp_path) == [".json", ".nii.gz"]


def mean(image: Any, value: float, gradient: Sequence[float]) -> None:
    """As a scanner computes it of several directions."""
    siemens(image, value, (0, 0, 0))
    image.ImageType = ["DERIVED", "PRIMARY", "DIFFUSION", "TRACEW", "ND"]


def test_the_mean_of_several_directions_has_none(tmp_path: Path) -> None:
    classic("SIEMENS", mean)(tmp_path / "in", SAGITTAL)
    assert converted(tmp_path / "in")["reason"] == ""
    assert files(tmp_path) == [".bval", ".bvec", ".json", ".nii.gz"]
    [path] = (tmp_path / "made").rglob("*.bval")
    assert np.loadtxt(path).tolist() == list(VALUES)


def test_ge_tells_nothing(tmp_path: Path) -> None:
    classic("GE MEDICAL SYSTEMS", general_electric)(tmp_path / "in", AXIAL)
    assert {*told_in(tmp_path / "in")} == {NONE}
    assert converted(tmp_path / "in")["converter"].startswith("dcm2niix")
    assert ".bvec" in files(tmp_path)


def single(folder: Path, tell: Change, maker: str = "Example", **given: Any) -> Told:
    """What one image with b = 1000 tells."""
    image = dicoms.image(
        Manufacturer=maker,
        ImagePositionPatient=["0", "0", "0"],
        ImageOrientationPatient=[str(part) for part in AXIAL],
        PixelSpacing=["1", "1"],
        **given,
    )
    tell(image, 1000, (0.6, 0.48, 0.64))
    data = dicoms.write(folder / "image.dcm", image).read_bytes()
    [frame] = read_frames("image.dcm", memoryview(data))
    return frame.b_value, frame.gradient


def same(one: Told, other: Told) -> bool:
    told = one[1] is not None
    return (one[0], told) == (other[0], other[1] is not None) and (
        not told or np.allclose(np.array(one[1]), np.array(other[1]), atol=1e-7)
    )


def raw(number: int, content: bytes) -> Change:
    """The standard's elements, and one of other bytes in place of one of them."""

    def tell(image: Any, value: float, gradient: Sequence[float]) -> None:
        standard(image, value, gradient)
        kind = "FD" if len(content) % 8 == 0 else "OB"
        image[number] = RawDataElement(Tag(number), kind, len(content), content, 0, False, True)

    return tell


def another(tell: Change, number: int, value: object) -> Change:
    def changed(image: Any, b_value: float, gradient: Sequence[float]) -> None:
        tell(image, b_value, gradient)
        image[number].value = value

    return changed


def both(image: Any, value: float, gradient: Sequence[float]) -> None:
    siemens(image, 500, (0, 0, 1))
    standard(image, value, gradient)


NONE: Told = (None, None)
B0: Told = (0.0, None)
TOLD: Told = (1000.0, (0.6, 0.48, 0.64))
TELLING: dict[str, tuple[Change, str, dict[str, Any], Told]] = {
    "standard": (standard, "Example", {}, TOLD),
    "Siemens": (siemens, "SIEMENS", {}, TOLD),
    "Philips": (philips, "Philips", {}, TOLD),
    "CSA header": (csa_only, "SIEMENS", {}, TOLD),
    "the standard before others": (both, "SIEMENS", {}, TOLD),
    "DIRECTIONAL": (standard, "Example", {"DiffusionDirectionality": "DIRECTIONAL"}, TOLD),
    "BMATRIX": (standard, "SIEMENS", {"DiffusionDirectionality": "BMATRIX"}, TOLD),
    "ISOTROPIC": (standard, "Philips", {"DiffusionDirectionality": "ISOTROPIC"}, (1000.0, None)),
    "nothing": (lambda *_: None, "SIEMENS", {}, NONE),
    "GE": (standard, "GE MEDICAL SYSTEMS", {}, NONE),
    "UIH": (standard, "UIH", {}, NONE),
    "of another maker": (another(siemens, 0x00190010, "OTHER"), "SIEMENS", {}, NONE),
    "only a direction": (raw(0x00189087, b""), "Example", {}, NONE),
    "no number": (raw(0x00189087, bytes(6)), "Example", {}, NONE),
    "infinite": (raw(0x00189087, struct.pack("<d", np.inf)), "Example", {}, NONE),
    "negative": (raw(0x00189087, struct.pack("<d", -1)), "Example", {}, NONE),
    "without diffusion": (raw(0x00189087, bytes(8)), "Example", {}, (0.0, None)),
    "two parts": (raw(0x00189089, struct.pack("<2d", 0.6, 0.8)), "Example", {}, (1000.0, None)),
    "too long": (raw(0x00189089, struct.pack("<3d", 9, 0, 0)), "Example", {}, (1000.0, None)),
    "no direction": (raw(0x00189089, bytes(24)), "Example", {}, (1000.0, None)),
    "not of length 1": (
        raw(0x00189089, struct.pack("<3d", 1, 1, 0)),
        "Example",
        {},
        (1000.0, (2**-0.5, 2**-0.5, 0.0)),
    ),
    "impossible": (
        raw(0x00189089, struct.pack("<3d", -1.1, -1.1, -1.1)),
        "SIEMENS",
        {},
        NONE,
    ),
}


@pytest.mark.parametrize("case", TELLING)
def test_what_one_image_tells(case: str, tmp_path: Path) -> None:
    tell, maker, given, expected = TELLING[case]
    assert same(single(tmp_path, tell, maker, **given), expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("siemens_dwi_0", B0),
        ("siemens_dwi_1000", (1000.0, (0.99997449, 0.00505012, -0.00505012))),
    ],
)
def test_what_a_scanner_wrote(name: str, expected: Told) -> None:
    data = gzip.decompress((NIBABEL / f"{name}.dcm.gz").read_bytes())
    frames = read_frames("image.dcm", memoryview(data))
    assert all(same((frame.b_value, frame.gradient), expected) for frame in frames)


def test_shared_groups_and_damaged_ones(tmp_path: Path) -> None:
    enhanced(tmp_path, AXIAL)
    image = pydicom.dcmread(tmp_path / "image.dcm")
    _, damaged, twice, *others = image.PerFrameFunctionalGroupsSequence
    damaged.MRDiffusionSequence[0].add_new("DiffusionBValue", "OB", bytes(7))
    twice.MRDiffusionSequence.append(diffusion_of(1000, (1, 0, 0)))
    for frame in others:
        del frame.MRDiffusionSequence
    shared = image.SharedFunctionalGroupsSequence[0]
    shared.MRDiffusionSequence = [diffusion_of(500, (0, 0, 1))]
    image.save_as(tmp_path / "image.dcm")
    assert told_in(tmp_path)[:4] == [B0, NONE, NONE, (500, (0, 0, 1))]
    del shared.MRDiffusionSequence
    image.save_as(tmp_path / "image.dcm")
    assert told_in(tmp_path)[:4] == [B0, NONE, NONE, NONE]


@pytest.mark.parametrize("maker", ["GE MEDICAL SYSTEMS", "UIH"])
def test_enhanced_images_of_which_nothing_is_certain(maker: str, tmp_path: Path) -> None:
    enhanced(tmp_path, AXIAL, maker)
    assert {*told_in(tmp_path)} == {NONE}


def told_in(folder: Path) -> list[Told]:
    return [(frame.b_value, frame.gradient) for frame in frames_of(folder)]


def check(values: str | None, vectors: str | None, *told: Told) -> bool:
    """One frame for each volume, of a file whose axes are those of NIfTI."""
    size = len(told)
    file = Volumes("out.nii", np.zeros((1, 1, 1, size)), np.diag([2.0, 3, 4, 1]), 1.0, 0.0)
    none = np.zeros(3)
    planes = tuple(
        (
            Frame("im", "1", 0, none, none, none, none, 1.0, 0.0, (), (), "", *each),
            Plane("out.nii", 0, number),
        )
        for number, each in enumerate(told)
    )
    elsewhere = (planes[0][0], Plane("other.nii", 0, 7))
    return check_gradients(file, values, vectors, Match((*planes, elsewhere), ""))


ALONG: Told = (1000.0, (0.6, 0.0, 0.8))
MEAN: Told = (1000.0, None)


@pytest.mark.parametrize(
    ("values", "vectors", "told"),
    [
        ("0 1000", "0 1\n0 0\n0 0\n", (NONE, NONE)),
        ("0 1000\n", "0 0.6\n0 0.8\n1 0", (NONE, NONE)),
        ("5 1000", "0 -0.577\n0 0.577\n0 0.577\n", (NONE, NONE)),
        ("0 1000", "0 0.6\n0 0\n0 0.8\n", (B0, ALONG)),
        ("0 1000", "1 0.6\n0 0\n0 0.8\n", (B0, ALONG)),
        ("0 1000", "0 -0.6\n0 0\n0 -0.8\n", (B0, ALONG)),
        ("0 1000", "0 0.606\n0 0\n0 0.795\n", (B0, ALONG)),
        ("1 989", "0 0.6\n0 0\n0 0.8\n", (B0, ALONG)),
        ("0 1000", "0 0.6\n0 0\n0 0.8\n", (NONE, ALONG)),
        # it has a direction, and too little of it to matter
        ("30 1000", "0 0.6\n0 0\n0 0.8\n", ((30.0, (1.0, 0.0, 0.0)), ALONG)),
        ("0 1000 1000", "0 0.6 0\n0 0 0\n0 0.8 0\n", (B0, ALONG, MEAN)),
        ("0 1000", "0 0\n0 0\n0 0\n", (B0, MEAN)),
        # where an image tells them in words, as some of Canon do
        ("0 1000", "0 0\n0 1\n0 0\n", (B0, MEAN)),
        ("0 1000", None, (B0, MEAN)),
        (None, None, (NONE, NONE)),
        (None, None, (B0, ALONG)),
    ],
)
def test_right(values: str | None, vectors: str | None, told: tuple[Told, ...]) -> None:
    assert check(values, vectors, *told)


def test_b_values_alone_that_no_image_tells_are_not_kept(tmp_path: Path) -> None:
    assert not check("0 1000", None, NONE, NONE)
    Series.of(2).write(tmp_path / "in")
    made = run("dcm2niix", tmp_path / "in")
    (made / "out.bval").write_text("0 1000\n")
    _prove(made, frames_of(tmp_path / "in"))
    assert sorted(path.name for path in made.iterdir()) == ["out.json", "out.nii"]


@pytest.mark.parametrize(
    ("values", "vectors", "said"),
    [
        ("0 1000", "0 1 0\n0 0 0\n0 0 0\n", "has not a b-value and a b-vector for each"),
        ("0 1000 1000", "0 1\n0 0\n0 0\n", "has not a b-value and a b-vector for each"),
        ("0", "0\n0\n0\n", "has not a b-value and a b-vector for each"),
        ("0", None, "has not a b-value and a b-vector for each"),
        ("", None, "has not a b-value and a b-vector for each"),
        ("0 1000", "", "has not a b-value and a b-vector for each"),
        ("", "0 1\n0 0\n0 0\n", "has not a b-value and a b-vector for each"),
        (None, "0 1\n0 0\n0 0\n", "has not a b-value and a b-vector for each"),
        ("0 1000", "0 1\n0 0\n", "has not a b-value and a b-vector for each"),
        ("0 1000", "0 1\n0\n0 0\n", "are no numbers"),
        ("0 b", "0 1\n0 0\n0 0\n", "are no numbers"),
        ("0 1000", "0 0.9\n0 0\n0 0\n", "does not have the length 1"),
        ("0 1000", "0 0\n0 0\n0 0\n", "does not have the length 1"),
        ("0 1000", "0.5 1\n0 0\n0 0\n", "does not have the length 1"),
        ("0 1000", "nan 1\n0 0\n0 0\n", "does not have the length 1"),
        ("0 inf", "0 1\n0 0\n0 0\n", "a b-value is none"),
        ("0 -1", "0 1\n0 0\n0 0\n", "a b-value is none"),
    ],
)
def test_wrong(values: str | None, vectors: str | None, said: str) -> None:
    with pytest.raises(Mismatch, match=said):
        check(values, vectors, NONE, NONE)


@pytest.mark.parametrize(
    ("values", "vectors", "told", "said"),
    [
        ("0 1000", "0 0.62\n0 0\n0 0.785\n", (B0, ALONG), "volume 2 is 1 degrees off"),
        ("0 1000", "0 0.8\n0 0\n0 0.6\n", (B0, ALONG), "volume 2 is 16 degrees off"),
        ("0 1012", "0 0.6\n0 0\n0 0.8\n", (B0, ALONG), "of volume 2 is 1012, and 1000 in its"),
        ("2 1000", "0 0.6\n0 0\n0 0.8\n", (B0, ALONG), "of volume 1 is 2, and 0 in its images"),
        (
            "900 1000",
            "1 0.6\n0 0\n0 0.8\n",
            (NONE, ALONG),
            "no image tells the b-value of volume 1",
        ),
        ("1000 1000", "1 0.6\n0 0\n0 0.8\n", (MEAN, ALONG), "no image tells the b-vector of volu"),
        ("0 1000", "0 0\n0 0\n0 0\n", (B0, ALONG), "does not have the length 1"),
        ("0 1000", None, (B0, ALONG), "it has b-values, and no b-vectors"),
        ("0 0", None, (B0, MEAN), "the b-value of volume 2 is 0, and 1000 in its images"),
    ],
)
def test_other_than_the_images_tell(
    values: str, vectors: str | None, told: tuple[Told, ...], said: str
) -> None:
    with pytest.raises(Mismatch, match=said):
        check(values, vectors, *told)


@pytest.mark.parametrize("other", [NONE, B0, (1015.0, ALONG[1]), (1000.0, (0.8, 0.0, 0.6)), MEAN])
def test_images_of_a_volume_that_do_not_agree(other: Told, tmp_path: Path) -> None:
    Series.of(2).write(tmp_path / "in")

    def tell(image: Any, number: int) -> None:
        value, gradient = other if number == 6 else ALONG
        if value is not None:
            standard(image, value, gradient or (0, 0, 0))

    changed(tmp_path / "in", tell)
    Series.of(2).nifti().to_filename(tmp_path / "out.nii")
    with pytest.raises(Mismatch, match="the images of volume 2 tell several b-values"):
        _prove(tmp_path, frames_of(tmp_path / "in"))


def test_images_of_a_volume_that_nearly_agree(tmp_path: Path) -> None:
    Series.of(2).write(tmp_path / "in")
    changed(
        tmp_path / "in",
        lambda image, number: standard(image, 1000 + number, (0.6, 0.001 * number, 0.8)),
    )
    made = run("dcm2niix", tmp_path / "in")
    _prove(made, frames_of(tmp_path / "in"))
    assert (made / "out.bvec").exists()
