"""Frames are placed and read as nibabel and pydicom place and read them, or refused."""

import gzip
import shutil
import subprocess
import sys
import warnings
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless

from icf_tools.derive.frames import Broken, Frame, NoFrames, NoGeometry, read_frames
from tests import dicoms
from tests.derive.series import OBLIQUE, Series

PYDICOM = Path(pydicom.__file__).parent / "data" / "test_files"
NIBABEL = Path(nibabel.__file__).parent / "nicom" / "tests" / "data"


def read(data: bytes) -> list[Frame]:
    return read_frames("image.dcm", memoryview(data))


def refusal(data: bytes) -> str:
    with pytest.raises(NoFrames) as caught:
        read(data)
    return str(caught.value)


def saved(folder: Path, dataset: Dataset) -> bytes:
    return dicoms.write(folder / "image.dcm", dataset).read_bytes()


def placed(**elements: Any) -> Dataset:
    """An image of 4 x 4 pixels that says where it lies."""
    given = {
        "ImagePositionPatient": ["-1.5", "2.5", "3"],
        "ImageOrientationPatient": [str(part) for part in OBLIQUE],
        "PixelSpacing": ["2", "3"],
    }
    return dicoms.image(**given | elements)


def test_a_plain_image(tmp_path: Path) -> None:
    [frame] = read(saved(tmp_path, placed(RescaleSlope="2", RescaleIntercept="-1024")))
    assert frame.stored.tolist() == [[257] * 4] * 4
    assert frame.corner.tolist() == [-1.5, 2.5, 3.0]
    assert np.allclose(frame.across, np.array(OBLIQUE[:3]) * 3)  # PixelSpacing: rows, then columns
    assert np.allclose(frame.down, np.array(OBLIQUE[3:]) * 2)
    assert (frame.slope, frame.intercept) == (2.0, -1024.0)
    assert frame.order == (1.0, None, None, None)
    assert frame.series == f"{dicoms.ROOT}.1"


@pytest.mark.parametrize(
    ("text", "seconds"), [("101112.5", 36672.5), ("1011", 36660.0), ("10", 36000.0), ("x", None)]
)
def test_times(text: str, seconds: float | None, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = saved(tmp_path, placed(AcquisitionTime=text))
    assert read(data)[0].order[2] == seconds


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"Rows": None}, "it has no image"),
        ({"SamplesPerPixel": 3, "PixelData": bytes(96)}, "its pixels have colours"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "its pixels have colours"),
        ({"ImagePositionPatient": None}, "it has no ImagePositionPatient, so its place"),
        ({"ImageOrientationPatient": None}, "it has no ImageOrientationPatient, so its place"),
        ({"PixelSpacing": None}, "it has no PixelSpacing, so its place"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, "it is a mosaic without the CSA"),
        ({"PixelData": bytes(30)}, "its pixel data is cut off"),
        ({"PixelData": None}, "its pixel data cannot be decoded"),
        ({"NumberOfFrames": 2, "PixelData": bytes(64)}, "it has several frames and does not say"),
    ],
)
def test_what_cannot_be_placed_is_refused(
    elements: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    assert refusal(saved(tmp_path, placed(**elements))).startswith(reason)


def test_what_is_no_dicom() -> None:
    for data in (b"", b"text", bytes(1000)):
        assert refusal(data) == "it is not DICOM"


def test_a_file_that_is_cut_off(tmp_path: Path) -> None:
    whole = saved(tmp_path, placed())
    for size in range(200, len(whole), 7):
        with pytest.raises(NoFrames):
            read(whole[:size])


def test_a_header_longer_than_the_first_look(tmp_path: Path) -> None:
    image = placed()
    image.add_new(0x00091001, "OB", bytes(3 << 20))
    assert read(saved(tmp_path, image))[0].stored.tolist() == [[257] * 4] * 4


@pytest.mark.parametrize(
    "name",
    [
        *("MR_small_implicit", "MR_small_bigendian", "MR_small_RLE", "MR_small_padded"),
        *("MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "MR_small_expb"),
    ],
)
def test_another_transfer_syntax_gives_the_same(name: str) -> None:
    [frame] = read((PYDICOM / f"{name}.dcm").read_bytes())
    [plain] = read((PYDICOM / "MR_small.dcm").read_bytes())
    assert np.array_equal(frame.stored, plain.stored)
    assert frame.stored.dtype.itemsize == plain.stored.dtype.itemsize
    assert np.array_equal(frame.corner, plain.corner)


@pytest.mark.parametrize(
    "option", ["--jpeg", "--j2k", "--jpegls", "--rle", "--implicit", "--deflated"]
)
def test_what_gdcm_compresses_is_read(option: str, tmp_path: Path) -> None:
    stored = np.arange(2 * 40 * 48, dtype=np.int16).reshape(1, 2, 40, 48)
    folder = Series(stored, orientation=OBLIQUE).write(tmp_path / "dicom")
    packed = tmp_path / "packed.dcm"
    converter = shutil.which("gdcmconv", path=str(Path(sys.executable).parent))
    assert converter is not None
    for file in sorted(folder.iterdir()):
        command = [converter, *([option] if option != "--deflated" else ["--raw", "--deflated"])]
        subprocess.run([*command, file, packed], check=True, capture_output=True)
        [frame] = read(packed.read_bytes())
        [plain] = read(file.read_bytes())
        assert np.array_equal(frame.stored, plain.stored)
        assert np.allclose(frame.across, plain.across)


def test_run_length_encoding(tmp_path: Path) -> None:
    image = placed()
    image.compress(RLELossless)
    assert read(saved(tmp_path, image))[0].stored.tolist() == [[257] * 4] * 4


def judge(name: str) -> tuple[bytes, NDArray[Any], NDArray[np.float64]]:
    """A file of nibabel's wheel; what nibabel makes of it: values and affine, LPS."""
    data = gzip.decompress((NIBABEL / name).read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nibabel.nicom import dicomwrappers

        with gzip.open(NIBABEL / name) as file:
            dataset = pydicom.dcmread(file)
        wrapper = dicomwrappers.wrapper_from_data(dataset)
        return data, wrapper.get_data(), wrapper.affine


def assert_same(frames: list[Frame], values: NDArray[Any], affine: NDArray[np.float64]) -> None:
    assert len(frames) == values.shape[2]
    for number, frame in enumerate(frames):
        assert frame.number == number
        assert np.array_equal(frame.stored, values[:, :, number])
        assert np.allclose(frame.corner, affine[:3] @ [0, 0, number, 1], atol=1e-3)
        assert np.allclose(frame.down, affine[:3, 0])  # nibabel counts rows first
        assert np.allclose(frame.across, affine[:3, 1])


@pytest.mark.parametrize("name", ["siemens_dwi_0.dcm.gz", "siemens_dwi_1000.dcm.gz"])
def test_a_mosaic_is_placed_as_nibabel_places_it(name: str) -> None:
    data, values, affine = judge(name)
    assert_same(read(data), values, affine)


def test_an_enhanced_image_of_a_scanner() -> None:
    data = gzip.decompress((NIBABEL / "philips_mprage.dcm.gz").read_bytes())
    dataset = pydicom.dcmread(BytesIO(data))
    frames = read(data)
    assert len(frames) == 176
    assert np.array_equal(np.stack([frame.stored for frame in frames]), dataset.pixel_array)
    for frame, groups in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        place = groups.PlanePositionSequence[0].ImagePositionPatient
        assert np.allclose(frame.corner, [float(part) for part in place])
    steps = np.diff([frame.corner for frame in frames], axis=0)
    normal = np.cross(frames[0].across, frames[0].down)
    assert np.allclose(
        np.abs(steps @ normal), np.linalg.norm(steps[0]) * np.linalg.norm(normal), rtol=1e-3
    )


def enhanced(frames: int, **changed: Any) -> Dataset:
    dataset = dicoms.image(
        NumberOfFrames=frames,
        PixelData=b"".join(bytes([number, 0]) * 16 for number in range(frames)),
    )
    shared, each = Dataset(), []
    orientation, measures, scale = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [str(part) for part in OBLIQUE]
    measures.PixelSpacing = ["2", "3"]
    scale.RescaleSlope, scale.RescaleIntercept = "4", "5"
    shared.PlaneOrientationSequence = Sequence([orientation])
    shared.PixelMeasuresSequence = Sequence([measures])
    for number in range(frames):
        own, position, content, own_scale = Dataset(), Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = ["0", "0", str(number)]
        content.TemporalPositionIndex = 1 + number // 2
        own.PlanePositionSequence = Sequence([position])
        own.FrameContentSequence = Sequence([content])
        if number == 1:
            own_scale.RescaleSlope, own_scale.RescaleIntercept = "8", "0"
            own.PixelValueTransformationSequence = Sequence([own_scale])
        each.append(own)
    shared.PixelValueTransformationSequence = Sequence([scale])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(each)
    for keyword, value in changed.items():
        setattr(dataset, keyword, value)
    return dataset


def test_functional_groups_of_a_frame_come_before_the_shared_ones(tmp_path: Path) -> None:
    frames = read(saved(tmp_path, enhanced(4)))
    assert [frame.number for frame in frames] == [0, 1, 2, 3]
    assert [frame.corner[2] for frame in frames] == [0, 1, 2, 3]
    assert [int(frame.stored[0, 0]) for frame in frames] == [0, 1, 2, 3]
    assert [(frame.slope, frame.intercept) for frame in frames] == [(4, 5), (8, 0), (4, 5), (4, 5)]
    assert [frame.order[1] for frame in frames] == [1, 1, 2, 2]


def test_enhanced_images_that_do_not_say_where_they_lie(tmp_path: Path) -> None:
    without = enhanced(3)
    del without.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence
    assert refusal(saved(tmp_path, without)) == "frame 2 does not say where it lies"
    fewer = enhanced(3)
    del fewer.PerFrameFunctionalGroupsSequence[2]
    assert refusal(saved(tmp_path, fewer)).startswith("it has several frames and does not say")
    none = enhanced(3, PerFrameFunctionalGroupsSequence=Sequence([]))
    assert refusal(saved(tmp_path, none)).startswith("it has several frames and does not say")


@pytest.mark.parametrize("path", sorted(PYDICOM.glob("*.dcm")), ids=lambda path: path.stem)
def test_odd_files_are_read_or_refused(path: Path) -> None:
    frames = []
    with suppress(NoFrames):
        frames = read(path.read_bytes())
    assert all(np.isfinite(frame.corner).all() for frame in frames)
    assert all(frame.stored.ndim == 2 for frame in frames)


def test_bits_that_are_no_part_of_the_value(tmp_path: Path) -> None:
    words = np.array([0x0FFF, 0x8FFF, 0x7001, 0x0800], "<u2").repeat(4)
    given = {"BitsStored": 12, "HighBit": 11, "PixelData": words.tobytes()}
    [frame] = read(saved(tmp_path, placed(**given)))
    assert frame.stored[:, 0].tolist() == [0xFFF, 0xFFF, 1, 0x800]
    [frame] = read(saved(tmp_path, placed(**given, PixelRepresentation=1)))
    assert frame.stored[:, 0].tolist() == [-1, -1, 1, -2048]


def test_a_mosaic_of_more_slices_than_it_can_hold() -> None:
    data = gzip.decompress((NIBABEL / "siemens_dwi_1000.dcm.gz").read_bytes())
    place = data.index(b"NumberOfImagesInMosaic")
    number = data.index(b"48 ", place)
    assert "it is no mosaic of" in refusal(data[:number] + b"9999999 " + data[number + 8 :])


def test_a_slope_that_is_no_number(tmp_path: Path) -> None:
    data = saved(tmp_path, placed(RescaleSlope="1.25"))
    assert refusal(data.replace(b"1.25", b"1,25")) == "its RescaleSlope is no number"


CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
NO_PLACE: dict[str, Any] = {"ImagePositionPatient": None}


@pytest.mark.parametrize(
    ("elements", "kind"),
    [
        # a converter might make a file of these
        (NO_PLACE, NoGeometry),
        (NO_PLACE | {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1"}, NoGeometry),  # ultrasound
        (NO_PLACE | {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.1"}, NoGeometry),
        ({"PixelSpacing": None}, NoGeometry),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, NoGeometry),
        ({"NumberOfFrames": 2, "PixelData": bytes(64)}, NoGeometry),
        # and not of these
        (NO_PLACE | {"SOPClassUID": CAPTURE}, NoFrames),
        (NO_PLACE | {"SOPClassUID": f"{CAPTURE}.2", "NumberOfFrames": 1}, NoFrames),
        (NO_PLACE | {"PixelData": None}, NoFrames),
        (NO_PLACE | {"Rows": None, "Columns": None}, NoFrames),
        (NO_PLACE | {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4.2"}, NoFrames),  # spectroscopy
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4.2", "PixelData": None}, NoFrames),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66"}, NoFrames),  # raw data
        (NO_PLACE | {"SamplesPerPixel": 3, "PixelData": bytes(96)}, NoFrames),
        # these ought to have a place and pixels
        ({"PixelData": None}, Broken),
        ({"PixelData": bytes(30)}, Broken),
    ],
)
def test_what_has_no_place_is_told_from_what_is_no_image(
    elements: dict[str, Any], kind: type[NoFrames], tmp_path: Path
) -> None:
    with pytest.raises(NoFrames) as caught:
        read(saved(tmp_path, placed(**elements)))
    assert caught.type is kind


def test_a_capture_that_says_where_it_lies_is_placed(tmp_path: Path) -> None:
    """As what a scanner computed of its images is at times saved."""
    [frame] = read(saved(tmp_path, placed(SOPClassUID=CAPTURE)))
    assert frame.corner.tolist() == [-1.5, 2.5, 3.0]


def test_a_compressed_image_without_a_place(tmp_path: Path) -> None:
    image = placed(**NO_PLACE)
    image.compress(RLELossless)
    with pytest.raises(NoGeometry):
        read(saved(tmp_path, image))


def test_enhanced_images_without_a_place() -> None:
    without = enhanced(3)
    del without.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence
    out = BytesIO()
    without.save_as(out, enforce_file_format=True)
    with pytest.raises(NoGeometry, match="frame 2"):
        read(out.getvalue())
