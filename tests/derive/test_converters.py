"""The second converter is kept to itself, and what it makes is kept only if it is right."""

import importlib.metadata
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest

from icf_tools.archive.build import build
from icf_tools.derive import converters as module
from icf_tools.derive import scrub
from icf_tools.derive.converters import CONVERTERS, version_of
from icf_tools.derive.folder import convert_tarball
from icf_tools.derive.frames import Frame, read_frames
from icf_tools.derive.planes import Match, check
from icf_tools.derive.volumes import Mismatch, Volumes
from icf_tools.model.visit import StorePath, Visit
from tests.derive.series import AXIAL, CORONAL, OBLIQUE, SAGITTAL, Series

Write = Callable[[Path], object]
PYDICOM = Path(pydicom.__file__).parent / "data" / "test_files"
SECOND = version_of("dicom2nifti")
CT = "1.2.840.10008.5.1.4.1.1.2"
DEFLATED = "1.2.840.10008.1.2.1.99"


def changed(folder: Path, change: Callable[[Any, int], object]) -> None:
    """Change each image; it is given the number of its file, from 0."""
    for number, file in enumerate(sorted(folder.rglob("*.dcm"))):
        image = pydicom.dcmread(file)
        change(image, number)
        image.save_as(file)


def converted(source: Path) -> dict[str, Any]:
    """What `series.json` says of the one series in a folder that is packed and converted."""
    store = StorePath(source.parent / "store", Visit("study", "visit"))
    build(source, store, allow_identifying=True)
    convert_tarball(store.tarball, source.parent / "made")
    report = json.loads((source.parent / "made" / "series.json").read_bytes())
    [entry] = report["series"]
    assert isinstance(entry, dict)
    return entry


def kept(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "made").rglob("*.nii.gz"))


def run(converter: str, source: Path) -> Path:
    """The folder with what it makes."""
    made = source.parent / f"made-{len(list(source.parent.iterdir()))}"
    made.mkdir()
    CONVERTERS[converter](source, made)
    return made


def proved(source: Path) -> Match:
    """Hold what dicom2nifti makes of a folder against it. Raises Mismatch."""
    paths = sorted(run("dicom2nifti", source).glob("*.nii"))
    for path in paths:
        scrub.nifti(path)
    return check([Volumes.load(path) for path in paths], frames_of(source))


def frames_of(source: Path) -> list[Frame]:
    paths = sorted(source.glob("*.dcm"))
    frames = [read_frames(path.name, memoryview(path.read_bytes())) for path in paths]
    return [frame for found in frames for frame in found]


def sidecar(source: Path, converter: str = "dicom2nifti") -> dict[str, Any]:
    content = json.loads((run(converter, source) / "out.json").read_bytes())
    assert isinstance(content, dict)
    return content


def deflated(series: Series) -> Write:
    def deflate(image: Any, number: int) -> None:
        image.file_meta.TransferSyntaxUID = DEFLATED

    return lambda folder: changed(series.write(folder), deflate)


def tilted(angle: float) -> Write:
    """The slices of a CT that leans: they follow each other along the table."""
    lean = np.radians(angle)
    stored = np.random.default_rng(4711).integers(0, 4000, (1, 9, 8, 10), dtype=np.int16)
    orientation = (1.0, 0.0, 0.0, 0.0, float(np.cos(lean)), float(-np.sin(lean)))
    series = Series(stored, orientation=orientation, scale=(1.0, -1024.0))

    def place(image: Any, number: int) -> None:
        image.ImagePositionPatient = ["-80.5", "-100.25", str(30 + 3 * number)]

    def write(folder: Path) -> None:
        none = {"MRAcquisitionType": None, "EchoTime": None}
        given: dict[str, Any] = {"Modality": "CT", "SOPClassUID": CT, **none}
        series.write(folder, GantryDetectorTilt=str(angle), **given)
        changed(folder, place)

    return write


def real(name: str) -> Write:
    def write(folder: Path) -> None:
        folder.mkdir()
        shutil.copy(PYDICOM / name, folder / "image.dcm")

    return write


RESCUED: dict[str, Write] = {
    "tilted": tilted(18),
    "tilted the other way": tilted(-7.5),
    "deflated": deflated(Series.of(orientation=SAGITTAL)),
    "deflated time series": deflated(Series.of(4, scale=(2.5, -3.0))),
    # values have their sign in the JPEG 2000 stream, and another one in the header
    "sign": real("J2K_pixelrep_mismatch.dcm"),
    # it lies in the bits above those of the values
    "overlay": real("examples_overlay.dcm"),
}


@pytest.mark.parametrize("case", RESCUED)
def test_what_dcm2niix_cannot_do(case: str, tmp_path: Path) -> None:
    RESCUED[case](tmp_path / "in")
    entry = converted(tmp_path / "in")
    assert (entry["status"], entry["converter"]) == ("verified", SECOND), entry
    assert entry["reason"].startswith("dcm2niix: ")
    assert len(kept(tmp_path)) == 1


@pytest.mark.parametrize("angle", [18, -7.5])
def test_a_tilt_stands_in_the_affine(angle: float, tmp_path: Path) -> None:
    tilted(angle)(tmp_path / "in")
    [path] = run("dicom2nifti", tmp_path / "in").glob("*.nii")
    image: Any = nibabel.load(path)
    lean = np.radians(angle)
    expected = [
        [-2, 0, 0, 80.5],
        [0, -1.5 * np.cos(lean), 0, 100.25],
        [0, -1.5 * np.sin(lean), 3, 30],
    ]
    assert np.allclose(image.affine[:3], expected, atol=1e-5)
    # a quaternion cannot say it, so it says nothing
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 0)
    assert image.header.get_xyzt_units() == ("mm", "sec")
    # not 64 bit numbers: those stored, and their scale
    assert image.get_data_dtype() == np.int16
    assert (image.dataobj.slope, image.dataobj.inter) == (1, -1024)
    stored = np.random.default_rng(4711).integers(0, 4000, (1, 9, 8, 10), dtype=np.int16)
    assert np.array_equal(image.dataobj.get_unscaled(), stored[0].transpose(2, 1, 0))


def irregular(folder: Path) -> None:
    tilted(10)(folder)

    def place(image: Any, number: int) -> None:
        image.ImagePositionPatient[2] += 1.5 * (number > 3)

    changed(folder, place)


def lost(folder: Path) -> None:
    deflated(Series.of(3))(folder)
    (folder / "im0006.dcm").unlink()


@pytest.mark.parametrize("write", [irregular, lost])
def test_nothing_is_kept_where_both_are_wrong(write: Write, tmp_path: Path) -> None:
    write(tmp_path / "in")
    entry = converted(tmp_path / "in")
    assert (entry["status"], entry["converter"]) == ("failed", "")
    assert re.search("dcm2niix: .+; dicom2nifti: ", entry["reason"])
    assert [path.name for path in (tmp_path / "made").rglob("*.*")] == ["series.json"]


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, SAGITTAL, OBLIQUE])
@pytest.mark.parametrize("volumes", [1, 3])
def test_right(volumes: int, orientation: tuple[float, ...], tmp_path: Path) -> None:
    Series.of(volumes, orientation=orientation, scale=(0.1, 7.0)).write(tmp_path / "in")
    match = proved(tmp_path / "in")
    assert len(match.planes) == volumes * 4
    assert match.order == ("InstanceNumber" if volumes > 1 else "")


def test_a_single_slice(tmp_path: Path) -> None:
    Series(Series.of().stored[:, :1]).write(tmp_path / "in")
    assert len(proved(tmp_path / "in").planes) == 1


def test_each_image_with_a_scale_of_its_own(tmp_path: Path) -> None:
    Series.of(scale=(1.0, 0.0)).write(tmp_path / "in")
    changed(tmp_path / "in", lambda image, number: setattr(image, "RescaleSlope", 1 + number))
    assert len(proved(tmp_path / "in").planes) == 4


def two_echoes(folder: Path) -> None:
    Series.of(2).write(folder)
    changed(folder, lambda image, number: setattr(image, "EchoTime", 4.5 * (1 + number // 4)))


def magnitude_and_phase(folder: Path) -> None:
    def part(image: Any, number: int) -> None:
        image.ImageType = ["ORIGINAL", "PRIMARY", "MP"[number // 4], "ND"]

    changed(Series.of(2).write(folder), part)


@pytest.mark.parametrize("write", [two_echoes, magnitude_and_phase])
def test_what_it_merges_is_refused(write: Write, tmp_path: Path) -> None:
    write(tmp_path / "in")
    with pytest.raises(Mismatch, match="of several echoes, or of magnitude and phase"):
        proved(tmp_path / "in")


def test_three_planes_are_no_volume_for_it(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, orientation in enumerate((AXIAL, CORONAL, SAGITTAL)):
        for file in Series.of(orientation=orientation).write(tmp_path / str(number)).iterdir():
            file.rename(tmp_path / "in" / f"{number}{file.name}")
    changed(tmp_path / "in", lambda image, number: setattr(image, "InstanceNumber", number + 1))
    with pytest.raises(Mismatch, match=r"it made no file \(exit code 1\)"):
        proved(tmp_path / "in")


def refuse(source: Path, made: Path) -> None:
    raise Mismatch("no file", "it is not asked")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "numbers"),
    [
        ("dcm_qa_nih/In", [3, 4, 4, 5, 5, 6, 6, 7]),  # mosaics of Siemens, time series of GE
        ("example-dicom-structural/dicoms", [401]),
    ],
)
def test_real_series_by_it_alone(
    folder: str,
    numbers: list[int],
    test_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(CONVERTERS, "dcm2niix", refuse)
    store = StorePath(tmp_path / "store", Visit("study", "visit"))
    build(test_data / folder, store, allow_identifying=True)
    convert_tarball(store.tarball, tmp_path / "made", jobs=2)
    report = json.loads((tmp_path / "made" / "series.json").read_bytes())
    found = [(each["SeriesNumber"], each["status"], each["converter"]) for each in report["series"]]
    assert found == [(number, "verified", SECOND) for number in numbers]


MOSAICS = {
    "axial": (AXIAL, (0, 0, 1)),
    "coronal": (CORONAL, (0, 1, 0)),
    "sagittal": (SAGITTAL, (-1, 0, 0)),
}


@pytest.mark.parametrize("upwards", [True, False])
@pytest.mark.parametrize("case", MOSAICS)
def test_mosaics_in_the_other_order_are_refused(
    case: str, upwards: bool, test_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes slices to follow each other the way that rows and columns turn."""
    orientation, normal = MOSAICS[case]

    def turn(image: Any, number: int) -> None:
        image.ImageOrientationPatient = [str(part) for part in orientation]
        csa = bytearray(image[0x00291010].value)
        start = csa.index(b"SliceNormalVector")
        places = [found.span() for found in re.finditer(rb"-?\d\.\d{8}", csa[start:])][:3]
        for (begin, end), part in zip(places, normal, strict=True):
            text = f"{part if upwards else -part:.8f}".replace("-0.", "0.").encode()
            csa[start + begin : start + end] = text[: end - begin]
        image[0x00291010].value = bytes(csa)

    source = test_data / "dcm_qa_nih" / "In" / "20180918Si" / "mr_0004"
    shutil.copytree(source, tmp_path / "in", ignore=shutil.ignore_patterns("*.txt"))
    changed(tmp_path / "in", turn)
    if upwards:
        assert len(proved(tmp_path / "in").planes) == 2 * 5
    else:
        with pytest.raises(Mismatch, match="no plane is where frame 2 of"):
            proved(tmp_path / "in")
    monkeypatch.setitem(CONVERTERS, "dicom2nifti", refuse)
    assert converted(tmp_path / "in")["status"] == "verified"  # by dcm2niix


def diffusion(weights: tuple[int, ...]) -> Write:
    def weigh(image: Any, number: int) -> None:
        block = image.private_block(0x0019, "SIEMENS MR HEADER", create=True)
        block.add_new(0x0C, "IS", str(weights[number // 4]))
        if weights[number // 4]:
            block.add_new(0x0E, "FD", [0.6, 0.48, 0.64])

    def write(folder: Path) -> None:
        Series.of(len(weights)).write(folder, Manufacturer="SIEMENS", RepetitionTime="3000")
        changed(folder, weigh)

    return write


def test_directions_that_the_images_tell_are_left_to_the_check(tmp_path: Path) -> None:
    diffusion((0, 1000))(tmp_path / "in")
    made = run("dicom2nifti", tmp_path / "in")
    assert (made / "out.bval").read_text().split() == ["0", "1000"]
    assert np.linalg.norm(np.loadtxt(made / "out.bvec"), axis=0) == pytest.approx([0, 1])


def test_directions_that_nothing_shows_to_be_right_are_refused(tmp_path: Path) -> None:
    def turn(image: Any, number: int) -> None:
        """Along the axes of read-out and phase encoding, as GE has them."""
        for element, part in ((0x001910BB, "0.6"), (0x001910BC, "0.48"), (0x001910BD, "0.64")):
            image.add_new(element, "DS", part if number > 3 else "0")
        image.add_new(0x00431039, "IS", [str(number // 4 * 1000), "8", "0", "0"])

    Series.of(2).write(tmp_path / "in", Manufacturer="GE MEDICAL SYSTEMS")
    changed(tmp_path / "in", turn)
    with pytest.raises(Mismatch, match="nothing shows that its b-vectors are right"):
        run("dicom2nifti", tmp_path / "in")


def test_volumes_that_are_not_weighted(tmp_path: Path) -> None:
    diffusion((0, 0))(tmp_path / "in")
    made = run("dicom2nifti", tmp_path / "in")
    names = ["out.bval", "out.bvec", "out.json", "out.nii"]
    assert sorted(path.name for path in made.iterdir()) == names
    assert made.joinpath("out.bval").read_text().split() == ["0", "0"]


def test_same_images_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deflated(Series.of(3))(tmp_path / "in")
    before = {path: path.read_bytes() for path in (tmp_path / "in").iterdir()}
    one = run("dicom2nifti", tmp_path / "in")
    shutil.copytree(tmp_path / "in", tmp_path / "else where" / "deep" / "in")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("LC_ALL", "de_DE.ISO-8859-1")
    mask = os.umask(0o077)
    try:
        other = run("dicom2nifti", tmp_path / "else where" / "deep" / "in")
    finally:
        os.umask(mask)
    assert [path.name for path in sorted(one.iterdir())] == ["out.json", "out.nii"]
    for path in one.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes()
    assert {path: path.read_bytes() for path in (tmp_path / "in").iterdir()} == before


def test_the_user_does_not_change_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Series.of().write(tmp_path / "in")
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in ("dicom2nifti", "sitecustomize", "numpy", "json"):
        (mine / f"{name}.py").write_text("raise SystemExit(7)\n")
    monkeypatch.setenv("PYTHONPATH", str(mine))
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.chdir(mine)
    assert len(proved(tmp_path / "in").planes) == 4


def test_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Series.of().write(tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    for name in CONVERTERS:
        Path(name).mkdir()
        CONVERTERS[name](Path("in"), Path(name))
        assert sorted(os.listdir(name)) == ["out.json", "out.nii"]


def instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Run a shell script where Python would be run; $5 is the file to make."""
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\necho Mustermann; echo Mustermann >&2\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ('echo part > "$5"; exit 3', "3"),
        ('echo part > "$5"; kill -SEGV $$', "-11"),
        ("exit 0", "0"),
        ('echo x > "$5.gz"', "0"),
    ],
)
def test_one_that_crashes(
    script: str,
    code: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    Series.of().write(tmp_path / "in")
    instead(tmp_path, monkeypatch, script)
    (tmp_path / "out").mkdir()
    with pytest.raises(Mismatch) as caught:
        CONVERTERS["dicom2nifti"](tmp_path / "in", tmp_path / "out")
    assert caught.value.args == ("no file", f"it made no file (exit code {code})")
    assert os.listdir(tmp_path / "out") == []
    assert capfd.readouterr() == ("", "")


def test_one_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Series.of().write(tmp_path / "in")
    instead(tmp_path, monkeypatch, 'echo part > "$5"; exec sleep 60')
    monkeypatch.setattr(module, "_LONGEST", 0.3)
    (tmp_path / "out").mkdir()
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        CONVERTERS["dicom2nifti"](tmp_path / "in", tmp_path / "out")
    assert (caught.value.output, caught.value.stderr) == (None, None)
    assert os.listdir(tmp_path / "out") == []


def test_what_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Series.of().write(tmp_path / "in")
    told = tmp_path / "told"
    script = f'{{ env; echo "ARGS=$*"; echo "CWD=$(pwd)"; cat; }} > {told}; touch "$5"; exit 1'
    instead(tmp_path, monkeypatch, script)
    monkeypatch.setenv("SECRET", "of mine")
    (tmp_path / "out").mkdir()
    with pytest.raises(Mismatch):
        CONVERTERS["dicom2nifti"](tmp_path / "in", tmp_path / "out")
    found = dict(line.split("=", 1) for line in told.read_text().splitlines())
    assert "SECRET" not in found
    assert (found["LC_ALL"], found["TZ"]) == ("C", "UTC")
    assert found["ARGS"].startswith("-I -m icf_tools.derive.converters /")
    for name in ("HOME", "TMPDIR", "CWD"):
        assert Path(found[name]).parent == tmp_path / "out"


def test_what_it_makes_is_as_others_are(tmp_path: Path) -> None:
    Series.of().write(tmp_path / "in")
    made = run("dicom2nifti", tmp_path / "in")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made.iterdir()}
    assert modes == {"out.json": 0o644, "out.nii": 0o644}


def test_sidecar_in_units_of_bids(tmp_path: Path) -> None:
    Series.of().write(
        tmp_path / "in",
        RepetitionTime="2300.5",
        InversionTime="0",
        FlipAngle="9",
        Manufacturer="GE MEDICAL SYSTEMS",
        ManufacturerModelName="SIGNA",
        MagneticFieldStrength="3",
        EchoNumbers=1,
        ScanningSequence=["GR", "IR"],
    )
    content = sidecar(tmp_path / "in")
    assert content == {
        "AcquisitionNumber": 1,
        "ConversionSoftware": "dicom2nifti",
        "ConversionSoftwareVersion": SECOND.split()[1],
        "EchoNumber": 1,
        "EchoTime": 0.0025,
        "FlipAngle": 9,
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "MRAcquisitionType": "3D",
        "MagneticFieldStrength": 3,
        "Manufacturer": "GE",
        "ManufacturersModelName": "SIGNA",
        "Modality": "MR",
        "ProtocolName": "protocol 1",
        "RepetitionTime": 2.3005,
        "ScanningSequence": "GR\\IR",
        "SeriesDescription": "t1 mprage 1",
        "SeriesNumber": 1,
        "SliceThickness": 3,
        "SpacingBetweenSlices": 3,
    }
    assert list(content) == sorted(content)


@pytest.mark.parametrize(
    ("manufacturer", "told"),
    [
        ("SIEMENS", "Siemens"),
        ("Siemens Healthineers", "Siemens"),
        ("Philips Medical Systems", "Philips"),
        ("CANON_MEC", "Canon"),
        ("Generic", "Generic"),
    ],
)
def test_manufacturers(manufacturer: str, told: str) -> None:
    assert module.sidecar([{"Manufacturer": manufacturer}])["Manufacturer"] == told


def test_what_images_do_not_agree_on_is_told_of_none(tmp_path: Path) -> None:
    two_echoes(tmp_path / "in")
    content = sidecar(tmp_path / "in")
    assert "EchoTime" not in content
    assert "AcquisitionNumber" not in content
    assert content["SliceThickness"] == 3


@pytest.mark.parametrize("folder", ["20180918Si/mr_0004", "20180918GE/mr_0004"])
def test_sidecar_says_what_that_of_dcm2niix_says(
    folder: str, test_data: Path, tmp_path: Path
) -> None:
    source = test_data / "dcm_qa_nih" / "In" / folder
    shutil.copytree(source, tmp_path / "in", ignore=shutil.ignore_patterns("*.txt"))
    for number, file in enumerate(sorted((tmp_path / "in").iterdir())):
        file.rename(file.with_name(f"{number:06}.dcm"))
    mine, theirs = sidecar(tmp_path / "in"), sidecar(tmp_path / "in", "dcm2niix")
    # it cuts ImageType at each _, too, and adds what it takes an image for
    differ = {"ConversionSoftware", "ConversionSoftwareVersion", "ImageType"}
    both = (mine.keys() & theirs.keys()) - differ
    assert len(both) > 15
    for key in both:
        if isinstance(mine[key], float):
            assert mine[key] == pytest.approx(theirs[key], rel=1e-5), key
        else:
            assert mine[key] == theirs[key], key
    assert mine.keys() - theirs.keys() <= {"EchoNumber"}


def test_it_tells_no_name(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Series.of().write(tmp_path / "in", PatientComments="Mustermann", StationName="Mustermann")
    made = run("dicom2nifti", tmp_path / "in")
    for path in made.iterdir():
        content = path.read_bytes()
        assert not [word for word in (b"Mustermann", b"ID4711", b"19640812") if word in content]


def test_order_and_versions() -> None:
    assert list(CONVERTERS) == ["dcm2niix", "dicom2nifti"]
    assert f"dicom2nifti {importlib.metadata.version('dicom2nifti')}" == SECOND


def test_it_is_not_loaded_here() -> None:
    told = "import icf_tools.derive.converters, sys; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert not [name for name in loaded if name.startswith(("dicom2nifti", "dcm2niix"))]
    # nibabel looks whether scipy is there; what is large in it is not loaded by that
    assert not {"scipy.ndimage", "scipy.interpolate", "scipy.linalg", "scipy.sparse"} & {*loaded}
