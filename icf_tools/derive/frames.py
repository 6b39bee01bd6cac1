"""Place each frame of a DICOM file in the patient's coordinates.

in: the bytes of one file    out: its Frames: stored values, position, order; or why it has none

Geometry and stored values are read here without any converter, so that what a
converter makes can be held against them. Coordinates are in mm and LPS: to the
left, to the back, to the head (DICOM PS3.3 C.7.6.2).
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from icf_tools.derive import diffusion
from icf_tools.dicom.header import Header, MoreNeeded, Unreadable, Wanted, read_header
from icf_tools.errors import Damaged
from icf_tools.model.dicom import SERIES, Tag, Value

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Vector = NDArray[np.float64]  # of 3, mm, LPS
Values = NDArray[Any]  # (rows, columns), as stored

_TAGS = (
    Tag("SOPClassUID", 0x00080016, "UI"),
    Tag("ImageType", 0x00080008, "CS", many=True),
    Tag("AcquisitionTime", 0x00080032, "TM"),
    Tag("ContentTime", 0x00080033, "TM"),
    Tag("SliceThickness", 0x00180050, "DS"),  # mm
    Tag("SpacingBetweenSlices", 0x00180088, "DS"),  # mm
    Tag("SeriesInstanceUID", 0x0020000E, "UI"),
    Tag("EchoTime", 0x00180081, "DS"),
    Tag("EchoNumbers", 0x00180086, "IS"),
    Tag("AcquisitionNumber", 0x00200012, "IS"),
    Tag("InstanceNumber", 0x00200013, "IS"),
    Tag("ImagePositionPatient", 0x00200032, "DS", many=True),
    Tag("ImageOrientationPatient", 0x00200037, "DS", many=True),
    Tag("TemporalPositionIdentifier", 0x00200100, "IS"),
    Tag("SamplesPerPixel", 0x00280002, "US"),
    Tag("PhotometricInterpretation", 0x00280004, "CS"),
    Tag("NumberOfFrames", 0x00280008, "IS"),
    Tag("Rows", 0x00280010, "US"),
    Tag("Columns", 0x00280011, "US"),
    Tag("PixelSpacing", 0x00280030, "DS", many=True),  # mm, rows then columns
    Tag("BitsAllocated", 0x00280100, "US"),
    Tag("BitsStored", 0x00280101, "US"),
    Tag("HighBit", 0x00280102, "US"),
    Tag("PixelRepresentation", 0x00280103, "US"),
    Tag("RescaleIntercept", 0x00281052, "DS"),
    Tag("RescaleSlope", 0x00281053, "DS"),
    Tag("TransferSyntaxUID", 0x00020010, "UI"),
)
_CLASS = 0x00080016
_CSA_CREATOR, _CSA = 0x00290010, 0x00291010
_PIXEL_DATA = 0x7FE00010
_WANTED = Wanted.of(
    _TAGS, {_CSA_CREATOR: "LO", _CSA: "OB", _PIXEL_DATA - 1: "UN"} | diffusion.WANTED
)
_WINDOWS = (64 << 10, 1 << 20)  # bytes of a file that are looked at for its header
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")  # values follow each other in little endian
_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # what was on a screen; so are the classes below it
_NO_IMAGE = tuple(f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("4.2", "66"))  # spectra, raw data
_ENHANCED = tuple(f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("4.1", "4.4", "2.1", "2.2", "130"))
ORDERS = ("InstanceNumber", "TemporalPositionIdentifier", "AcquisitionTime", "ContentTime")
"""What may say in which order frames of the same place were taken."""


class NoFrames(Damaged):
    message = "{}"


class NoGeometry(NoFrames):
    """It has grey pixels and does not say where they lie: nothing can be held against them."""


class Broken(NoFrames):
    """It ought to have frames, and they cannot be read."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A plane of pixels, and where it lies."""

    path: str  #: of its file
    series: str  #: its SeriesInstanceUID
    number: int  #: in its file, from 0; of a mosaic the tile
    stored: Values
    corner: Vector  #: the centre of the first pixel
    across: Vector  #: from a column to the next
    down: Vector  #: from a row to the next
    slope: float  #: a real value is slope times the stored one, plus intercept
    intercept: float
    order: tuple[float | None, ...]  #: by each of ORDERS; None where it is not known
    kind: tuple[str, ...] = ()  #: echo, and magnitude or phase: a volume is of one kind
    acquisition: str = ""  #: its AcquisitionNumber
    b_value: float | None = None  #: s/mm²; None where the image does not tell
    gradient: diffusion.Direction | None = None  #: None where it does not tell, or has none


def read_frames(path: str, data: memoryview) -> list[Frame]:
    """The frames of a file.

    Raises NoFrames with the reason that it has none to be placed, NoGeometry where
    it is an image for all that, and Broken where it ought to have some.
    """
    try:
        header = header_of(data, _WANTED)
        if header is None:
            raise NoFrames("it is not DICOM")
        try:
            return _read(path, data, header)
        except NoGeometry as err:
            if not _is_image(header, data):
                raise NoFrames(*err.args) from err
            raise
    except NoFrames:
        raise
    except Exception as err:  # a damaged element is what it likes to be
        raise Broken(f"it cannot be read: {type(err).__name__}") from err


def _is_image(header: Header, data: memoryview) -> bool:
    """Whether a scanner made it, as far as its class tells, and it has pixel data."""
    if f"{header.text(_CLASS)}.".startswith(f"{_CAPTURE}."):
        return False
    # what is compressed, or not as it is mostly written, is looked at once more
    return header.pixel_data(data) is not None or "PixelData" in _dataset(data)


def _read(path: str, data: memoryview, header: Header) -> list[Frame]:
    values = header.values(_TAGS)
    if not {"Rows", "Columns"} <= values.keys() or values.get("SOPClassUID") in _NO_IMAGE:
        raise NoFrames("it has no image")
    meaning = str(values.get("PhotometricInterpretation", "MONOCHROME2"))
    if values.get("SamplesPerPixel", 1) != 1 or not meaning.startswith("MONOCHROME"):
        raise NoFrames("its pixels have colours")
    if "NumberOfFrames" in values and (
        "ImagePositionPatient" not in values or values.get("SOPClassUID") in _ENHANCED
    ):
        return list(_multiframe(path, str(values.get(SERIES, "")), data))
    for keyword, count in (
        ("ImagePositionPatient", 3),
        ("ImageOrientationPatient", 6),
        ("PixelSpacing", 2),
    ):
        if len(_numbers(values.get(keyword, []))) != count:
            raise NoGeometry(f"it has no {keyword}, so its place is not known")
    stored = _stored(values, header, data)
    if stored.ndim != 2:
        raise NoGeometry("it has several frames and does not say where they lie")
    if "MOSAIC" in _words(values.get("ImageType", [])):
        return list(_tiles(path, values, header, stored))
    across, down = _steps(values["ImageOrientationPatient"], values["PixelSpacing"])
    corner = np.array(_numbers(values["ImagePositionPatient"]))
    uid, scale = str(values.get(SERIES, "")), _scale(values, header)
    told = diffusion.told_by(header, _csa(header) if diffusion.may_tell(header, _CSA) else {})
    order, kind, acquired = _about(values)
    return [Frame(path, uid, 0, stored, corner, across, down, *scale, order, kind, acquired, *told)]


def header_of(data: memoryview, wanted: Wanted) -> Header | None:
    """Of a whole file. Raises NoFrames where it cannot be parsed."""
    for window in _WINDOWS:
        try:
            return read_header(bytes(data[:window]), wanted, whole=False, size=len(data))
        except (MoreNeeded, Unreadable):
            continue
    try:
        return read_header(bytes(data), wanted, whole=True)
    except Unreadable as err:
        raise Broken(str(err)) from err


def _stored(values: dict[str, Value], header: Header, data: memoryview) -> Values:
    """Stored values: (rows, columns), or (frames, rows, columns)."""
    shape = int(str(values["Rows"])), int(str(values["Columns"]))
    bits = values.get("BitsAllocated")
    place = header.pixel_data(data)
    if (
        place is None
        or values.get("TransferSyntaxUID") not in _NATIVE
        or bits not in (8, 16, 32)
        or values.get("NumberOfFrames", 1) != 1
    ):
        return _decoded(data)
    kind = f"<{'i' if values.get('PixelRepresentation') == 1 else 'u'}{int(str(bits)) // 8}"
    start, size = place
    count = shape[0] * shape[1]
    if size < count * np.dtype(kind).itemsize or start + size > len(data):
        raise Broken("its pixel data is cut off")
    words = np.frombuffer(data, kind, count, start).reshape(shape)
    used = int(str(values.get("BitsStored", bits)))
    high = int(str(values.get("HighBit", used - 1)))
    if used == bits:
        return words
    # what stands in the other bits, an overlay for example, is no part of the value; PS3.5 8.1.1
    plain = (words << (int(str(bits)) - 1 - high)) >> (int(str(bits)) - used)
    return words if np.array_equal(plain, words) else plain


def _dataset(data: memoryview) -> "Dataset":
    from pydicom import dcmread

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dcmread(BytesIO(data))


def _decoded(data: memoryview) -> Values:
    from pydicom.pixels.utils import pixel_array

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            values: Values = pixel_array(_dataset(data))
        except Exception as err:  # a decoder raises what it likes
            raise Broken(f"its pixel data cannot be decoded: {type(err).__name__}") from err
    return values


def _tiles(path: str, values: dict[str, Value], header: Header, stored: Values) -> Iterator[Frame]:
    """The slices of a Siemens mosaic, which lie in one image row by row.

    Its position is that of an image as large as the mosaic around the middle
    of the slices; nibabel documentation, "Siemens mosaic".
    """
    csa = _csa(header)
    count = int(next(iter(csa.get("NumberOfImagesInMosaic", [])), 0))
    normal = np.array(csa.get("SliceNormalVector", []), float)
    if count < 1 or normal.shape != (3,):
        raise NoGeometry("it is a mosaic without the CSA header that says where its slices lie")
    side = int(np.ceil(np.sqrt(count)))
    if stored.shape[0] % side or stored.shape[1] % side or side > min(stored.shape):
        raise Broken(f"it is no mosaic of {count} slices")
    rows, columns = stored.shape[0] // side, stored.shape[1] // side
    across, down = _steps(values["ImageOrientationPatient"], values["PixelSpacing"])
    corner = np.array(_numbers(values["ImagePositionPatient"]))
    corner = corner + down * (stored.shape[0] - rows) / 2 + across * (stored.shape[1] - columns) / 2
    spacing = _numbers(values.get("SpacingBetweenSlices", values.get("SliceThickness", [])))
    if len(spacing) != 1:
        raise NoGeometry("it is a mosaic and does not say how far apart its slices are")
    step = normal / np.linalg.norm(normal) * spacing[0]
    uid, scale = str(values.get(SERIES, "")), _scale(values, header)
    (order, kind, acquired), told = _about(values), diffusion.told_by(header, csa)
    for number in range(count):
        row, column = divmod(number, side)
        tile = stored[row * rows : (row + 1) * rows, column * columns : (column + 1) * columns]
        place = corner + number * step
        yield Frame(
            path, uid, number, tile, place, across, down, *scale, order, kind, acquired, *told
        )


def _csa(header: Header) -> dict[str, list[Any]]:
    """Items by name of the image's CSA header; empty where it has none."""
    raw = header.raw.get(_CSA, b"")
    if not raw or not header.text(_CSA_CREATOR).startswith("SIEMENS CSA HEADER"):
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel calls its readers experimental
        from nibabel.nicom import csareader

        try:
            tags = csareader.read(raw)["tags"]
        except Exception:
            return {}
    return {name: tag["items"] for name, tag in tags.items()}


def _multiframe(path: str, series: str, data: memoryview) -> Iterator[Frame]:
    """The frames of an enhanced image; PS3.3 C.7.6.16."""
    dataset = _dataset(data)
    each = dataset.get("PerFrameFunctionalGroupsSequence", [])
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    stored = _decoded(data)
    if stored.ndim == 2:
        stored = stored[np.newaxis]
    if not each or len(each) != len(stored):
        raise NoGeometry("it has several frames and does not say where they lie")
    instance = float(dataset.get("InstanceNumber") or 0)
    maker = str(dataset.get("Manufacturer", ""))
    for number, own in enumerate(each):

        def find(sequence: str, keyword: str, own: "Dataset" = own) -> Any:
            for groups in (own, shared):
                items = groups.get(sequence) if groups is not None else None
                if items and items[0].get(keyword) is not None:
                    return items[0].get(keyword)
            return None

        echo = find("MREchoSequence", "EffectiveEchoTime")
        part = find("MRImageFrameTypeSequence", "ComplexImageComponent")
        corner = find("PlanePositionSequence", "ImagePositionPatient")
        orientation = find("PlaneOrientationSequence", "ImageOrientationPatient")
        spacing = find("PixelMeasuresSequence", "PixelSpacing")
        if corner is None or orientation is None or spacing is None:
            raise NoGeometry(f"frame {number + 1} does not say where it lies")
        if (len(corner), len(orientation), len(spacing)) != (3, 6, 2):
            raise Broken(f"frame {number + 1} does not say where it lies")
        slope = find("PixelValueTransformationSequence", "RescaleSlope")
        intercept = find("PixelValueTransformationSequence", "RescaleIntercept")
        temporal = find("FrameContentSequence", "TemporalPositionIndex")
        yield Frame(
            path,
            series,
            number,
            stored[number],
            np.array([float(part) for part in corner]),
            *_steps([float(part) for part in orientation], [float(part) for part in spacing]),
            1.0 if slope is None else float(slope),
            0.0 if intercept is None else float(intercept),
            (instance + number / len(each), temporal, None, None),
            (str(echo), str(part)),
            "",
            *diffusion.told_by_groups(maker, own, shared),
        )


def _steps(orientation: Value, spacing: Value) -> tuple[Vector, Vector]:
    """From a column to the next, and from a row to the next, in mm; PS3.3 C.7.6.2.1.1."""
    cosines = np.array(_numbers(orientation))
    between_rows, between_columns = _numbers(spacing)
    return cosines[:3] * between_columns, cosines[3:] * between_rows


def _scale(values: dict[str, Value], header: Header) -> tuple[float, float]:
    for keyword, number in (("RescaleSlope", 0x00281053), ("RescaleIntercept", 0x00281052)):
        if header.raw.get(number, b"").strip(b" \0") and keyword not in values:
            raise Broken(f"its {keyword} is no number")
    slope, intercept = values.get("RescaleSlope", 1), values.get("RescaleIntercept", 0)
    return float(str(slope)), float(str(intercept))


def _about(values: dict[str, Value]) -> tuple[tuple[float | None, ...], tuple[str, ...], str]:
    """Order, kind and acquisition of a Frame."""
    order = tuple(_moment(keyword, values.get(keyword)) for keyword in ORDERS)
    part = [word for word in _words(values.get("ImageType", [])) if word in ("M", "P", "R", "I")]
    echo = values.get("EchoTime", 0)
    rounded = "" if isinstance(echo, list) else f"{float(echo):.2f}"
    kind = (rounded, str(values.get("EchoNumbers", "")), *part[:1])
    return order, kind, str(values.get("AcquisitionNumber", ""))


def _moment(keyword: str, value: Value | None) -> float | None:
    if value is None or isinstance(value, list):
        return None
    if not keyword.endswith("Time"):
        return float(value)
    digits = str(value).replace(":", "")
    try:  # HHMMSS.FFFFFF, PS3.5 6.2
        return int(digits[:2]) * 3600 + int(digits[2:4] or 0) * 60 + float(digits[4:] or 0)
    except ValueError:
        return None


def _numbers(value: Value) -> list[float]:
    parts = value if isinstance(value, list) else [value]
    return [float(part) for part in parts]


def _words(value: Value) -> list[str]:
    return [str(part) for part in value] if isinstance(value, list) else [str(value)]
