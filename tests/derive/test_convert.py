"""What the converter makes is kept if it is right, and only then."""

import fcntl
import gzip
import json
import os
import shutil
import stat
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless

from icf_tools.archive.build import build
from icf_tools.derive.asked import Asked
from icf_tools.derive.converters import CONVERTERS
from icf_tools.derive.folder import convert_tarball
from icf_tools.derive.make import NoSeries, Outcome
from icf_tools.derive.volumes import Mismatch
from icf_tools.model.visit import StorePath, Visit
from icf_tools.store.files import FolderLocked, OtherContent
from tests import dicoms
from tests.conftest import BIN
from tests.derive.series import AXIAL, CORONAL, OBLIQUE, SAGITTAL, Series
from tests.derive.test_frames import enhanced

Write = Callable[[Path], object]


def convert(source: Path, jobs: int = 1, **asked: Any) -> Outcome:
    """Pack a folder and convert it, into the folder `nifti` beside it."""
    store = StorePath(source.parent / "store", Visit("study", "visit"))
    build(source, store, allow_identifying=True)
    return convert_tarball(store.tarball, source.parent, Asked(**asked), jobs=jobs)


def statuses(outcome: Outcome) -> list[tuple[str, int]]:
    return [(each.status, len(each.outputs)) for each in outcome.series]


def names(folder: Path) -> list[str]:
    """Of the files that were made."""
    return sorted(os.listdir(folder / "nifti")) if (folder / "nifti").exists() else []


def missing_one(series: Series, which: int, **elements: Any) -> Write:
    def write(folder: Path) -> None:
        series.write(folder, **elements)
        (folder / f"im{which:04}.dcm").unlink()

    return write


def echoes(folder: Path) -> None:
    for echo, series in enumerate([Series.of(), Series(Series.of().stored + 5)], start=1):
        given: dict[str, Any] = {"EchoTime": str(4.5 * echo), "EchoNumbers": echo}
        series.write(folder / f"echo{echo}", **given)
    _renumber(folder)


def magnitude_and_phase(folder: Path) -> None:
    for kind, series in (("M", Series.of()), ("P", Series(Series.of().stored + 5))):
        series.write(folder / kind, ImageType=["ORIGINAL", "PRIMARY", kind, "ND"])
    _renumber(folder)


def three_planes(folder: Path) -> None:
    """A localizer, as each begins with."""
    for number, orientation in enumerate((AXIAL, CORONAL, SAGITTAL)):
        Series.of(orientation=orientation).write(folder / str(number))
    _renumber(folder)


def _renumber(folder: Path) -> None:
    """Each image of a series has a number and a UID of its own."""
    for number, file in enumerate(sorted(folder.rglob("*.dcm")), start=1):
        image = pydicom.dcmread(file)
        image.InstanceNumber = number
        image.SOPInstanceUID = f"{dicoms.ROOT}.1.{number}"
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.save_as(file)


def compressed(folder: Path) -> None:
    for file in Series.of(2).write(folder).iterdir():
        image = pydicom.dcmread(file)
        image.compress(RLELossless)
        image.save_as(file)


def alone(**elements: Any) -> Write:
    return lambda folder: dicoms.write(folder / "image.dcm", dicoms.image(**elements))


REPORT = "1.2.840.10008.5.1.4.1.1.88.11"  # Basic Text SR
SCREENSHOT = "1.2.840.10008.5.1.4.1.1.7"  # Secondary Capture
NO_IMAGE = {"Rows": None, "Columns": None, "PixelData": None}
CASES: dict[str, tuple[Write, str, int]] = {
    "volume": (Series.of().write, "verified", 1),
    "oblique": (Series.of(orientation=OBLIQUE).write, "verified", 1),
    "sagittal": (Series.of(orientation=SAGITTAL).write, "verified", 1),
    "time series": (Series.of(5, orientation=CORONAL).write, "verified", 1),
    "single slice": (Series(Series.of().stored[:, :1]).write, "verified", 1),
    "scaled": (Series.of(scale=(2.5, -1024.0)).write, "verified", 1),
    "three planes": (three_planes, "verified", 3),
    "echoes": (echoes, "verified", 2),
    "magnitude and phase": (magnitude_and_phase, "verified", 2),
    "compressed": (compressed, "verified", 1),
    "slice missing": (missing_one(Series.of(), 2), "failed", 0),
    "image of a time series missing": (missing_one(Series.of(3), 6), "failed", 0),
    "mosaic without CSA": (
        lambda folder: Series.of().write(folder, ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]),
        "unverified",
        0,
    ),
    "report": (alone(SOPClassUID=REPORT, Modality="SR", **NO_IMAGE), "skipped", 0),
    "screenshot": (alone(SOPClassUID=SCREENSHOT, Modality="OT"), "skipped", 0),
    "colour": (
        alone(SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0,
              BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=bytes(48)),
        "skipped",
        0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_kind_of_series(case: str, tmp_path: Path) -> None:
    write, status, volumes = CASES[case]
    write(tmp_path / "in")
    [converted] = convert(tmp_path / "in").series
    assert converted.status == status, converted.reason
    paths = [made.path for made in converted.outputs]
    assert len([path for path in paths if path.endswith(".nii.gz")]) == volumes
    assert (converted.reason != "") == (status != "verified")
    assert [f"nifti/{name}" for name in names(tmp_path)] == paths


@pytest.mark.parametrize("option", ["jpeg", "j2k", "jpegls", "rle", "implicit", "deflated"])
def test_each_way_to_compress(option: str, tmp_path: Path) -> None:
    series = Series(np.arange(3 * 2 * 40 * 48, dtype=np.int16).reshape(3, 2, 40, 48))
    converter = shutil.which("gdcmconv", path=str(BIN))
    assert converter is not None
    for file in series.write(tmp_path / "in").iterdir():
        options = ["--raw", "--deflated"] if option == "deflated" else [f"--{option}"]
        subprocess.run([converter, *options, file, file], check=True, capture_output=True)
    [converted] = convert(tmp_path / "in").series
    assert converted.status == "verified", converted.reason
    image: Any = nibabel.load(tmp_path / "nifti" / "001_protocol-1.nii.gz")
    values = np.asanyarray(image.dataobj)
    assert sorted(values.ravel()) == list(range(values.size))


def test_values_and_places_are_those_of_the_images(tmp_path: Path) -> None:
    series = Series.of(3, orientation=OBLIQUE)
    series.write(tmp_path / "in")
    [converted] = convert(tmp_path / "in").series
    image: Any = nibabel.load(tmp_path / "nifti" / "001_protocol-1.nii.gz")
    expected = series.nifti()
    assert np.array_equal(np.asanyarray(image.dataobj), np.asanyarray(expected.dataobj))
    assert np.allclose(image.affine, expected.affine, atol=1e-3)
    assert converted.order == "InstanceNumber"


def test_enhanced_multiframe(tmp_path: Path) -> None:
    """Whatever the converter makes of it: right, or not kept."""
    dicoms.write(tmp_path / "in" / "image.dcm", enhanced(4))
    [converted] = convert(tmp_path / "in").series
    assert converted.status in ("verified", "failed")
    assert bool(converted.outputs) == (converted.status == "verified")


def test_a_series_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    missing_one(Series.of(), 2, SeriesNumber=1)(tmp_path / "in" / "a")
    Series.of().write(tmp_path / "in" / "b", 2)
    alone(series=3, Modality="SR", **NO_IMAGE)(tmp_path / "in" / "c")
    (tmp_path / "in" / "notes.txt").write_text("no image")
    conversion = convert(tmp_path / "in", jobs=3)
    assert statuses(conversion) == [("failed", 0), ("verified", 2), ("skipped", 0)]
    assert conversion.series[0].reason.startswith("dcm2niix: ")
    assert conversion.series[2].reason == "1 images: it has no image"


def test_images_that_cannot_be_placed_are_set_aside(tmp_path: Path) -> None:
    Series.of().write(tmp_path / "in")
    dicoms.write(tmp_path / "in" / "x.dcm", dicoms.image(1, 99, SOPClassUID=SCREENSHOT))
    [converted] = convert(tmp_path / "in").series
    assert converted.status == "verified"
    assert converted.reason == "1 images: it has no ImagePositionPatient, so its place is not known"


Converter = Callable[[Path, Path], None]


def faulty(right: Converter, change: Callable[[Path], object]) -> Converter:
    def run(source: Path, made: Path) -> None:
        right(source, made)
        for path in made.glob("*.nii"):
            change(path)

    return run


def cut_off(path: Path) -> None:
    os.truncate(path, 360)


def one_pixel(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[400] ^= 1
    path.write_bytes(content)


def moved(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[292:296] = np.float32(5.0).tobytes()  # srow_x[3]
    path.write_bytes(content)


@pytest.mark.parametrize("change", [one_pixel, moved, cut_off, Path.unlink])
def test_what_a_converter_makes_wrong_is_never_kept(
    change: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, {name: faulty(right, change) for name, right in CONVERTERS.items()})
    Series.of(2).write(tmp_path / "in")
    [converted] = convert(tmp_path / "in").series
    assert (converted.status, converted.outputs) == ("failed", ())
    assert names(tmp_path) == []


def only(monkeypatch: pytest.MonkeyPatch, converters: dict[str, Converter]) -> None:
    """Have these and no others."""
    for name in list(CONVERTERS):
        monkeypatch.delitem(CONVERTERS, name)
    for name, converter in converters.items():
        monkeypatch.setitem(CONVERTERS, name, converter)


def test_another_converter_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_luck(source: Path, made: Path) -> None:
        raise Mismatch("no file", "it cannot")

    only(monkeypatch, {"pydicom": no_luck, **CONVERTERS})
    Series.of().write(tmp_path / "in")
    [converted] = convert(tmp_path / "in").series
    assert converted.status == "verified"
    assert converted.converter.startswith("dcm2niix ")
    assert converted.reason == "pydicom: it cannot"


def test_no_identity_in_any_file(tmp_path: Path) -> None:
    texts: dict[str, Any] = {
        "ImageComments": "Mustermann called",
        "PatientComments": "Mustermann",
        "OperatorsName": "Mustermann",
        "InstitutionName": "General Hospital",
        "InstitutionalDepartmentName": "Ward",
        "StationName": "STATION1",
        "DeviceSerialNumber": "SERIAL1",
        "AccessionNumber": "ACC123",
        "ReferringPhysicianName": "Doe^John",
        "StudyDescription": "of Erika",
        "StudyID": "STUDY77",
    }
    Series.of(2).write(tmp_path / "in", **texts)
    Series.of().write(tmp_path / "in" / "b", 2, ProtocolName="T1 Mustermann")
    conversion = convert(tmp_path / "in")
    assert [each.outputs[0].path for each in conversion.series] == [
        "nifti/001_protocol-1.json",
        "nifti/002_t1-mprage-2.json",
    ]
    told = ["mustermann", "erika", "id4711", "19640812", "hospital", "ward", "station1"]
    told += ["serial1", "acc123", "doe", "study77"]
    for path in [tmp_path / "series.json", *(tmp_path / "nifti").iterdir()]:
        content = path.read_bytes()
        text = gzip.decompress(content) if path.suffix == ".gz" else content
        where = text[:352] if path.suffix == ".gz" else text
        found = [word for word in told if word.encode() in where.lower()]
        assert (path.name, found) == (path.name, [])
    sidecar = json.loads((tmp_path / "nifti" / "001_protocol-1.json").read_bytes())
    assert sidecar["SeriesDescription"] == "t1 mprage 1"
    assert sidecar["EchoTime"] == 0.0025
    assert list(sidecar) == sorted(sidecar)


def test_same_tarball_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    echoes(tmp_path / "in")
    Series.of(3).write(tmp_path / "in" / "b", 2)
    convert(tmp_path / "in")
    tarball = tmp_path / "store" / "study" / "visit_dicom.tar"
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("LC_ALL", "C")
    (Path.home() / ".dcm2nii.ini").write_text("isGZ=0\nfilename=%n\n")
    before = os.umask(0o077)
    try:
        convert_tarball(tarball, tmp_path / "elsewhere" / "deep", jobs=4)
    finally:
        os.umask(before)
    one, other = (
        {path.name: path.read_bytes() for path in (folder / "nifti").iterdir()}
        for folder in (tmp_path, tmp_path / "elsewhere" / "deep")
    )
    assert one == other
    text = (tmp_path / "series.json").read_bytes()
    assert text == (tmp_path / "elsewhere" / "deep" / "series.json").read_bytes()
    report = json.loads(text)
    assert [each["SeriesNumber"] for each in report["series"]] == [1, 2]


def test_run_again(tmp_path: Path) -> None:
    Series.of().write(tmp_path / "in")
    convert(tmp_path / "in")
    paths = [tmp_path / "series.json", *(tmp_path / "nifti").iterdir()]
    made = {path: path.stat() for path in paths}
    assert all(stat.S_IMODE(info.st_mode) == 0o644 for info in made.values())
    convert(tmp_path / "in")
    assert {path: path.stat().st_mtime_ns for path in made} == {
        path: info.st_mtime_ns for path, info in made.items()
    }
    (tmp_path / "nifti" / "001_protocol-1.json").write_text("mine")
    with pytest.raises(OtherContent, match="is there with other content"):
        convert(tmp_path / "in")
    assert (tmp_path / "nifti" / "001_protocol-1.json").read_text() == "mine"
    assert len(names(tmp_path)) == len(made) - 1


def test_series_by_number(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        Series.of().write(tmp_path / "in" / str(number), number)
    conversion = convert(tmp_path / "in", numbers=(3, 1))
    assert [each.number for each in conversion.series] == [1, 3]
    with pytest.raises(NoSeries, match=r"no series 7, 9 in .*; it has 1, 2, 3"):
        convert(tmp_path / "in", numbers=(1, 9, 7))


def test_series_of_the_same_name(tmp_path: Path) -> None:
    """As two studies in one visit have them."""
    for number in (1, 2):
        Series.of().write(
            tmp_path / "in" / str(number), number, SeriesNumber=5, ProtocolName="a/b c"
        )
    conversion = convert(tmp_path / "in", jobs=2)
    names = {each.outputs[1].path for each in conversion.series}
    assert len(names) == 2
    assert all(name.startswith("nifti/005_a-b-c_") for name in names)


def test_no_image_at_all(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("text")
    assert convert(tmp_path / "in").series == ()


@pytest.mark.slow
def test_real_images(test_data: Path, tmp_path: Path) -> None:
    store = StorePath(tmp_path / "store", Visit("study", "visit"))
    build(test_data / "dcm_qa_nih" / "In", store, allow_identifying=True)
    conversion = convert_tarball(store.tarball, tmp_path, jobs=2)
    assert statuses(conversion) == [("verified", 2)] * 8


def cut(size: int) -> Callable[[Path], object]:
    return lambda path: os.truncate(path, path.stat().st_size + size if size < 0 else size)


def without(keyword: str) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        image = pydicom.dcmread(path)
        delattr(image, keyword)
        image.save_as(path)

    return change


@pytest.mark.parametrize("change", [cut(-10), without("ImagePositionPatient")])
def test_a_series_with_an_image_that_cannot_be_used_is_not_kept(
    change: Callable[[Path], object], tmp_path: Path
) -> None:
    change(Series.of().write(tmp_path / "in") / "im0004.dcm")
    [converted] = convert(tmp_path / "in").series
    assert (converted.status, converted.outputs) == ("failed", ())


@pytest.mark.parametrize("change", [cut(300), without("SeriesInstanceUID")])
def test_images_that_are_in_no_series_are_counted(
    change: Callable[[Path], object], tmp_path: Path
) -> None:
    change(Series.of().write(tmp_path / "in") / "im0004.dcm")
    assert convert(tmp_path / "in").report.unreadable == 1
    report = json.loads((tmp_path / "series.json").read_bytes())
    assert report["unreadable"] == 1


@pytest.mark.parametrize(
    ("lost", "by_slice"),
    [((0, 1, 2, 0), True), ((1, 0, 0, 1), True), ((1, 0, 0, 0), False), ((2, 0, 1, 2), True)],
)
def test_a_time_series_that_lost_an_image_at_each_place(
    lost: tuple[int, ...], by_slice: bool, tmp_path: Path
) -> None:
    """dcm2niix makes fewer volumes of it, of images that were not taken together."""
    folder = Series.of(3).write(tmp_path / "in")
    for index, volume in enumerate(lost):
        (folder / f"im{1 + volume * 4 + index:04}.dcm").unlink()
    for file in folder.iterdir() if by_slice else ():
        image = pydicom.dcmread(file)
        volume, index = divmod(int(image.InstanceNumber) - 1, 4)
        image.InstanceNumber = index * 3 + volume + 1
        image.save_as(file)
    [converted] = convert(tmp_path / "in").series
    assert converted.status == "failed"


@pytest.mark.parametrize(
    ("charset", "name", "protocol"),
    [
        ("ISO_IR 192", "Müller^Ä", "T1 Müller"),
        ("GB18030", "王^小东", "MRI 王小东"),
        ("ISO_IR 144", "Люкceмбypг", "T1 Люкceмбypг"),
        ("ISO_IR 100", "Müller^Ä", "T1 Mueller"),
        (None, "Doe^John", "T1_doe_x"),
        ("ISO_IR 192", "Müller^Eva", "t1 MÃ¼ller"),
    ],
)
def test_no_identity_in_any_script(
    charset: str | None, name: str, protocol: str, tmp_path: Path
) -> None:
    Series.of().write(
        tmp_path / "in",
        SpecificCharacterSet=charset,
        PatientName=name,
        ProtocolName=protocol,
        SeriesDescription=None,
    )
    [converted] = convert(tmp_path / "in").series
    assert converted.status == "verified"
    sidecar = json.loads((tmp_path / "nifti" / "001.json").read_bytes())
    assert "ProtocolName" not in sidecar


def test_identity_of_another_image(tmp_path: Path) -> None:
    folder = Series.of().write(
        tmp_path / "in", ProtocolName="t1 Mustermann", SeriesDescription=None
    )
    first = pydicom.dcmread(folder / "im0001.dcm")
    first.PatientName, first.PatientID = "Anon", "A"
    first.save_as(folder / "im0001.dcm")
    [converted] = convert(tmp_path / "in").series
    assert [made.path for made in converted.outputs] == ["nifti/001.json", "nifti/001.nii.gz"]
    for path in (tmp_path / "nifti").glob("*.json"):
        assert b"mustermann" not in path.read_bytes().lower()


def test_reasons_do_not_tell_paths(tmp_path: Path) -> None:
    missing_one(Series.of(), 2)(tmp_path / "in" / "Mustermann_Erika")
    [converted] = convert(tmp_path / "in").series
    assert converted.status == "failed"
    assert "Mustermann" not in (tmp_path / "series.json").read_text()


@pytest.mark.parametrize(
    "elements",
    [
        {"RescaleSlope": ["1", "2"]},
        {"InstanceNumber": "9" * 12},
        {"BitsStored": 0},
        {"ImageOrientationPatient": ["1", "0", "0", "1", "0", "0"]},
        {"PixelSpacing": ["0", "0"]},
        {"SeriesNumber": -5},
    ],
)
def test_odd_elements_stop_nothing(elements: dict[str, Any], tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Series.of().write(tmp_path / "in" / "a", 1, **elements)
    Series.of().write(tmp_path / "in" / "b", 2)
    conversion = convert(tmp_path / "in")
    assert ("verified", 2) in statuses(conversion)
    assert len(conversion.series) == 2
    assert all(name[0] == "0" for name in names(tmp_path))


def test_one_at_a_time(tmp_path: Path) -> None:
    Series.of().write(tmp_path / "in")
    (tmp_path / ".icf-convert-killed").mkdir(parents=True)
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(FolderLocked):
        convert(tmp_path / "in")
    os.close(handle)
    convert(tmp_path / "in")
    assert [name for name in os.listdir(tmp_path) if name[0] == "."] == []


def test_reports_of_one_tarball_are_joined_and_of_two_are_not(tmp_path: Path) -> None:
    for number in (1, 2):
        Series.of().write(tmp_path / "in" / str(number), number)
    convert(tmp_path / "in", numbers=(2,))
    convert(tmp_path / "in", numbers=(1,))
    report = json.loads((tmp_path / "series.json").read_bytes())
    assert [each["SeriesNumber"] for each in report["series"]] == [1, 2]
    before = names(tmp_path)
    other = tmp_path / "other" / "in"
    Series.of(2).write(other, 7)
    convert(other)
    tarball = tmp_path / "other" / "store" / "study" / "visit_dicom.tar"
    with pytest.raises(OtherContent):
        convert_tarball(tarball, tmp_path)
    assert names(tmp_path) == before


def test_what_a_converter_calls_its_files_may_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dcm2niix puts the name of a coil there."""
    plain = CONVERTERS["dcm2niix"]

    def run(source: Path, made: Path) -> None:
        plain(source, made)
        for path in list(made.iterdir()):
            path.rename(path.with_name(path.name.replace("out", "out_cMustermann")))

    only(monkeypatch, {"dcm2niix": run})
    Series.of().write(tmp_path / "in")
    [converted] = convert(tmp_path / "in").series
    assert (converted.status, converted.outputs) == ("failed", ())
    assert "Mustermann" not in (tmp_path / "series.json").read_text()
