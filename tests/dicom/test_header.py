"""The fast header reader against pydicom, on every file that can be had."""

import glob
import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from icf_tools.dicom import header as module
from icf_tools.dicom.header import Header, MoreNeeded, Unreadable, Wanted, read_header
from icf_tools.model.dicom import RECORDED
from tests import dicoms

WANTED = Wanted.of(RECORDED)
WHEELS = sorted(
    glob.glob(f"{Path(pydicom.__file__).parent}/data/test_files/**/*", recursive=True)
    + glob.glob(f"{Path(nibabel.__file__).parent}/nicom/tests/data/*.dcm")
    + glob.glob(f"{Path(nibabel.__file__).parent}/tests/data/*.dcm")
)
FILES = [Path(name) for name in WHEELS if Path(name).is_file()]


def recorded(header: Header) -> dict[str, Any]:
    return header.values(RECORDED)


def with_pydicom(data: bytes) -> dict[str, Any] | None:
    """What pydicom makes of the same elements, as JSON has it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = pydicom.dcmread(BytesIO(data), stop_before_pixels=True)
        except pydicom.errors.InvalidDicomError:
            return None
        values = {}
        for tag in RECORDED:
            source = dataset.file_meta if tag.number >> 16 == 2 else dataset
            try:
                value = source[tag.number].value if tag.number in source else None
                if value is None or value == "" or (isinstance(value, MultiValue) and not value):
                    continue
                values[tag.keyword] = plain(value, tag.vr, tag.many)
            except (ValueError, TypeError, OverflowError):
                continue  # a number that is none
    return {keyword: value for keyword, value in values.items() if value not in (None, "")}


def plain(value: Any, vr: str, many: bool) -> Any:
    if isinstance(value, MultiValue | list):
        parts = [plain(each, vr, False) for each in value]
        return parts if many or vr in ("DS", "IS", "US") else "\\".join(parts)
    single = {"DS": float, "IS": int, "US": int}.get(vr, lambda text: str(text).strip(" \0"))(value)
    return [single] if many else single


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_wheels_images_read_as_pydicom_reads_them(path: Path) -> None:
    data = path.read_bytes()
    expected = with_pydicom(data)
    if path.name == "rtplan_truncated.dcm":  # pydicom reads what is left of it
        with pytest.raises(Unreadable):
            read_header(data, WANTED, whole=True)
        return
    header = read_header(data, WANTED, whole=True)
    if expected is None:
        assert header is None
    else:
        assert header is not None
        values = recorded(header)
        if "liver" in path.name:  # enhanced: more stands in its shared groups
            assert expected.items() <= values.items()
            assert values["SliceThickness"] == 1.0
        else:
            assert values == expected


def test_real_images_read_as_pydicom_reads_them(test_data: Path) -> None:
    files = [path for path in sorted(test_data.rglob("*")) if path.suffix in (".dcm", ".ima")]
    assert len(files) > 500
    for path in files[::7]:
        data = path.read_bytes()
        header = read_header(data, WANTED, whole=True)
        assert header is not None
        assert recorded(header) == with_pydicom(data), path


def encoded(dataset: Dataset, syntax: UID) -> bytes:
    dataset.file_meta.TransferSyntaxUID = syntax
    out = BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian],
)
def test_other_encodings_give_the_same(syntax: UID) -> None:
    image = dicoms.image(EchoNumbers=[1, 2], PixelSpacing=[1.5, 2])
    plain_header = read_header(encoded(image, ExplicitVRLittleEndian), WANTED, whole=True)
    header = read_header(encoded(image, syntax), WANTED, whole=True)
    assert header is not None
    assert plain_header is not None
    assert recorded(header) == recorded(plain_header) | {"TransferSyntaxUID": syntax}
    assert recorded(header)["EchoNumbers"] == [1, 2]
    assert recorded(header)["PixelSpacing"] == [1.5, 2.0]
    assert recorded(header)["Rows"] == 4


@pytest.mark.parametrize("defined_length", [True, False])
def test_sequences_before_a_tag_are_passed_over(defined_length: bool) -> None:
    inner = Dataset()
    inner.ReferencedSOPInstanceUID = "1.2.3"
    inner.SeriesDescription = "of another image"
    inner.ReferencedSeriesSequence = [Dataset()]
    inner["ReferencedSeriesSequence"].is_undefined_length = not defined_length
    image = dicoms.image(ReferencedImageSequence=[inner, inner])
    image["ReferencedImageSequence"].is_undefined_length = not defined_length
    for item in image.ReferencedImageSequence:
        item.is_undefined_length_sequence_item = not defined_length
    header = read_header(encoded(image, ExplicitVRLittleEndian), WANTED, whole=True)
    assert header is not None
    assert recorded(header)["SeriesDescription"] == "t1 mprage 1"
    assert recorded(header)["ProtocolName"] == "protocol 1"


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian]
)
@pytest.mark.parametrize("frames", [None, 1])
def test_an_enhanced_image_has_its_shared_values(syntax: UID, frames: int | None) -> None:
    echo, timing, pixels, shared = Dataset(), Dataset(), Dataset(), Dataset()
    echo.EffectiveEchoTime = 4.5
    timing.RepetitionTime = "2000"
    pixels.PixelSpacing = [2, 2]
    pixels.SliceThickness = 9
    shared.MREchoSequence = [echo]
    shared.MRTimingAndRelatedParametersSequence = [timing]
    shared.PixelMeasuresSequence = [pixels]
    elements: dict[str, Any] = {"NumberOfFrames": frames, "SliceThickness": 3}
    image = dicoms.image(EchoTime=None, SharedFunctionalGroupsSequence=[shared], **elements)
    header = read_header(encoded(image, syntax), WANTED, whole=True)
    assert header is not None
    values = recorded(header)
    assert values["RepetitionTime"] == 2000.0
    assert values["PixelSpacing"] == [2.0, 2.0]
    assert values["EchoTime"] == 4.5
    assert values["SliceThickness"] == 3.0  # what stands at the top counts


@pytest.mark.parametrize(
    ("charset", "raw", "text"),
    [
        ("ISO_IR 100", "größe".encode("latin-1"), "größe"),
        ("ISO_IR 192", "größe 頭".encode(), "größe 頭"),
        ("GB18030", "头部".encode("gb18030"), "头部"),
        ("ISO 2022 IR 6\\ISO 2022 IR 87", b"\x1b$B;3ED\x1b(B", "山田"),
        ("", b"\xe9", "é"),
        ("", "größe".encode(), "größe"),
        ("NONSENSE", b"\xe9", "é"),
        ("ISO_IR 999", b"\xe9", "é"),
        ("\\\\ISO 2022 IR 87", b"\x1b$B;3ED\x1b(B", "山田"),
        ("ISO_IR_100", "größe".encode("latin-1"), "größe"),
        ("undefined", b"\xe9", "é"),
        ("idna", b"\xe9.", "é."),
        ("punycode", b"\xe9", "é"),
    ],
)
def test_character_sets(charset: str, raw: bytes, text: str) -> None:
    header = Header({0x00080005: charset.encode(), 0x0008103E: raw})
    assert header.values(RECORDED) == {"SeriesDescription": text}


def test_values_are_numbers_or_absent() -> None:
    tags = {tag.keyword: tag for tag in RECORDED}

    def value(keyword: str, raw: bytes) -> Any:
        return Header({tags[keyword].number: raw}).values([tags[keyword]]).get(keyword)

    assert value("SeriesNumber", b"3 ") == 3
    assert value("SeriesNumber", b"3.0") == 3
    assert value("SeriesNumber", b"3x") is None
    assert value("SeriesNumber", b"1_0") is None
    assert value("EchoTime", b"2.5\\7") == [2.5, 7.0]
    assert value("EchoTime", b"nan") is None
    assert value("EchoTime", b"1e999") is None
    assert value("PixelSpacing", b"1\\x") is None
    assert value("Rows", b"\x04\x00") == 4
    assert value("Rows", b"\x04") is None
    assert value("SeriesDescription", b"a\x07b\r\nc \0") == "ab  c"
    assert value("SeriesDescription", b"a\x00b") is None
    assert value("StudyDate", b"2024PN") is None
    assert value("SeriesInstanceUID", b"1.2.x") is None
    assert value("SeriesNumber", "٣".encode()) is None
    assert value("SeriesDescription", b"x" * 20_000) is None
    assert value("ProtocolName", b"one\\two") == "one\\two"
    assert value("ImageType", b"ORIGINAL \\PRIMARY") == ["ORIGINAL", "PRIMARY"]


def test_every_cut_of_a_header_asks_for_more_or_is_unreadable() -> None:
    data = encoded(dicoms.image(), ExplicitVRLittleEndian)
    whole = read_header(data, WANTED, whole=True)
    assert whole is not None
    outcomes = set()
    for cut in range(len(data)):
        try:
            header = read_header(data[:cut], WANTED, whole=False)
            assert header == whole
            outcomes.add("read")
        except MoreNeeded:
            outcomes.add("more")
        try:
            read_header(data[:cut], WANTED, whole=True)
        except Unreadable:
            outcomes.add("unreadable")
    assert outcomes == {"read", "more", "unreadable"}


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_a_broken_header_is_unreadable_and_nothing_else(data: st.DataObject) -> None:
    content = bytearray(encoded(dicoms.image(), ExplicitVRLittleEndian))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(132, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        header = read_header(bytes(content), WANTED, whole=True)
    except Unreadable:
        return
    assert header is None or isinstance(recorded(header), dict)


def test_text_is_the_same_whatever_unicode_the_interpreter_knows() -> None:
    raw = "a\U0001fae8\U0002ebf0\u00a0\u202eb".encode()
    header = Header({0x00080005: b"ISO_IR 192", 0x0008103E: raw})
    assert header.values(RECORDED) == {"SeriesDescription": raw.decode()}


def test_a_wrong_length_brings_no_other_element_into_a_value() -> None:
    data = bytearray(encoded(dicoms.image(), ExplicitVRLittleEndian))
    at = data.index(struct.pack("<HH2s", 0x0008, 0x103E, b"LO"))
    data[at + 6] = 66
    header = read_header(bytes(data), WANTED, whole=True)
    assert header is not None
    assert "SeriesDescription" not in recorded(header)


@pytest.mark.parametrize(
    ("number", "vr", "raw"),
    [
        (0x00200011, b"US", b"\x35\x00"),
        (0x00280010, b"IS", b"44"),
        (0x00280010, b"SS", b"\xff\xff"),
        (0x00180081, b"FL", b"\x00\x00\x20\x40"),
    ],
)
def test_an_element_of_another_vr_is_absent(number: int, vr: bytes, raw: bytes) -> None:
    start = encoded(dicoms.image(), ExplicitVRLittleEndian)
    start = start[: start.index(struct.pack("<HH", 8, 8))]
    element = struct.pack("<HH2sH", number >> 16, number & 0xFFFF, vr, len(raw)) + raw
    for _ in range(2):  # the second time it is known by its beginning
        header = read_header(start + element, WANTED, whole=True)
        assert header is not None
        assert recorded(header).keys() == {"TransferSyntaxUID"}


def test_a_file_that_denies_its_vrs_is_read() -> None:
    image = dicoms.image()
    plain = encoded(image, ExplicitVRLittleEndian)
    lying = plain.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0")
    header = read_header(lying, WANTED, whole=True)
    assert header is not None
    assert recorded(header)["SeriesDescription"] == "t1 mprage 1"


def test_private_groups_of_an_enhanced_image_are_left_alone() -> None:
    inner, shared = Dataset(), Dataset()
    inner.ProtocolName = "Mustermann"
    shared.add_new(0x20051010, "LO", "private")
    shared.add_new(0x2005100F, "SQ", [inner])
    image = dicoms.image(ProtocolName=None, SharedFunctionalGroupsSequence=[shared])
    header = read_header(encoded(image, ExplicitVRLittleEndian), WANTED, whole=True)
    assert header is not None
    assert "ProtocolName" not in recorded(header)


def test_deep_nesting_is_unreadable() -> None:
    start = encoded(dicoms.image(), ImplicitVRLittleEndian)
    start = start[: start.index(struct.pack("<HH", 8, 8))]
    sequence = struct.pack("<HHI", 8, 6, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    with pytest.raises(Unreadable):
        read_header(start + (sequence + item) * 5000, WANTED, whole=True)


def test_a_deflate_bomb_is_not_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGEST_INFLATED", 1 << 20)
    image = encoded(dicoms.image(), DeflatedExplicitVRLittleEndian)
    meta_end = image.index(DeflatedExplicitVRLittleEndian.encode()) + 22
    private = struct.pack("<HH2sHI", 0x0009, 0x0010, b"OB", 0, 1 << 28)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = deflate.compress(private + bytes(1 << 26)) + deflate.flush()
    with pytest.raises(Unreadable):
        read_header(image[:meta_end] + bomb, WANTED, whole=True)
