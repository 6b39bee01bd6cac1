"""The series of a visit: what their images have in common, what differs, where they lie.

in: the two metadata files    out: Series
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import hypot, isfinite
from typing import Any, TypeAlias

from icf_tools.index.records import BadMetadata, TarballFacts, read_items
from icf_tools.model.dicom import SERIES, Scalar, Tag, Value, is_of_images
from icf_tools.model.visit import StorePath

Vector: TypeAlias = tuple[float, float, float]
_Axes: TypeAlias = tuple[Vector, Vector, Vector]

_ORIENTATION, _POSITION = "ImageOrientationPatient", "ImagePositionPatient"
PLACE = frozenset([_ORIENTATION, _POSITION])
"""Elements that tell where images lie."""
_FRAME = "FrameOfReferenceUID"
_PLANE = 0.5  # sine of the angle of row and column, at least
_MOST = 64  # values of an element that are told apart


@dataclass(frozen=True, slots=True)
class Box:
    """A part of space that images fill; mm in the patient's coordinates of DICOM, LPS."""

    center: Vector
    axes: _Axes  #: to the middle of three sides


@dataclass(frozen=True, slots=True)
class Series:
    """What the images with one SeriesInstanceUID say."""

    uid: str  #: empty where they name none
    number: int  #: SeriesNumber; 0 where there is none
    images: int
    size: int  #: bytes of the images
    #: each value that one of them has; of a list in its order where all have the same one
    values: Mapping[str, tuple[Scalar, ...]]
    boxes: tuple[Box, ...]  #: one for each orientation; none where images do not say it
    frame: str = ""  #: FrameOfReferenceUID; empty where it is not the same one for all, or untold

    def first(self, keyword: str) -> Scalar:
        """The value, the least of several, or "" without one."""
        return next(iter(self.values.get(keyword, ())), "")


def read_series(store: StorePath, facts: TarballFacts, tags: Collection[Tag]) -> tuple[Series, ...]:
    """All series, by number and UID, with what they say of these elements.

    Images that name no series belong to those of their number and description.
    Raises NoMetadata and BadMetadata.
    """
    wanted = frozenset(tag.keyword for tag in tags if not is_of_images(tag.keyword, tag.vr))
    given = {tag.keyword for tag in tags}
    found: dict[tuple[str, ...], _Images] = {}
    try:
        for item in read_items(store):
            key = key_of(item)
            images = found.get(key)
            if images is None:
                images = found[key] = _Images(facts.series.get(key[0], {}), wanted)
            images.add(item)
        series = [images.series(key[0], given) for key, images in found.items()]
    except KeyError as err:
        raise BadMetadata(store.dicoms_json, f"an image has no {err.args[0]!r}") from err
    except (TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as err:
        raise BadMetadata(store.dicoms_json, "a value has the wrong type") from err
    return tuple(sorted(series, key=lambda each: (each.number, each.uid)))


def key_of(item: Mapping[str, Any]) -> tuple[str, ...]:
    """What images of one series share: its UID, or in place of that "", number, description."""
    uid = item.get(SERIES)
    if uid:
        return (str(uid),)
    return ("", str(item.get("SeriesNumber")), str(item.get("SeriesDescription")))


class _Images:
    """What is gathered of a series."""

    __slots__ = ("boxes", "common", "count", "lists", "size", "values", "wanted")

    def __init__(self, common: Mapping[str, Value], wanted: frozenset[str]) -> None:
        self.common = common
        self.wanted = wanted
        self.count = 0
        self.size = 0
        #: keys of a dict, as sets have no order
        self.values: dict[str, dict[Scalar, None]] = {}
        self.lists: dict[str, list[Scalar]] = {}  #: as long as all have the same
        self.boxes = _Boxes()

    def add(self, item: dict[str, Any]) -> None:
        self.count += 1
        self.size += _size(item["size"])
        for keyword in self.wanted.intersection(item):
            value = item[keyword]
            if value == "" or value is None:
                continue
            if isinstance(value, list):
                self._add_list(keyword, value)
            else:
                self.values.setdefault(keyword, {})[value] = None
                self.lists.pop(keyword, None)
        orientation, position = [
            item.get(key) or self.common.get(key) for key in (_ORIENTATION, _POSITION)
        ]
        if isinstance(orientation, list) and isinstance(position, list):
            self.boxes.add(orientation, position)

    def _add_list(self, keyword: str, value: list[Scalar]) -> None:
        known = self.values.setdefault(keyword, {})
        if not known:
            self.lists[keyword] = value
        elif self.lists.get(keyword) != value:
            self.lists.pop(keyword, None)
        known |= dict.fromkeys(value)

    def series(self, uid: str, given: Collection[str]) -> Series:
        values = {keyword: _several(each) for keyword, each in self.values.items()}
        values |= {keyword: tuple(_clean(each)) for keyword, each in self.lists.items()}
        for keyword in self.wanted.intersection(self.common):
            value = self.common[keyword]
            values[keyword] = tuple(_clean(value if isinstance(value, list) else [value]))
        number = next(iter(values.get("SeriesNumber", ())), 0)
        is_placed = PLACE.issubset(given) and "MOSAIC" not in values.get("ImageType", ())
        boxes = self.boxes.all(values) if is_placed else ()
        frame = str(self.common.get(_FRAME, "")) if _FRAME in given else ""
        found = dict(sorted(values.items()))
        return Series(uid, int(number), self.count, self.size, found, boxes, frame)


def _size(count: Any) -> int:
    if type(count) is not int or count < 0:
        raise ValueError(count)
    return count


def _clean(values: Iterable[Scalar]) -> Iterator[Scalar]:
    """Files of other origin may hold what is no text and no number. Raises TypeError."""
    for value in values:
        if isinstance(value, str):
            yield value.encode(errors="replace").decode()
        elif isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(value)
        elif isfinite(value):
            yield value


def _several(values: Iterable[Scalar]) -> tuple[Scalar, ...]:
    """In their order; of very many the first and the last, between which the others lie."""
    ordered = sorted(_clean(values), key=lambda value: (isinstance(value, str), value))
    return tuple(ordered) if len(ordered) <= _MOST else (ordered[0], ordered[-1])


class _Boxes:
    """How far the corners of images reach, by their orientation."""

    __slots__ = ("found", "last")

    def __init__(self) -> None:
        self.found: dict[tuple[float, ...], tuple[_Axes, list[float]]] = {}
        self.last: tuple[object, _Axes, list[float]] | None = None

    def add(self, orientation: list[Any], position: list[Any]) -> None:
        if self.last is None or self.last[0] != orientation:
            axes = _axes(orientation)
            if axes is None:
                return
            key = tuple(round(number, 3) for axis in axes for number in axis)
            first = [float("inf")] * 3 + [float("-inf")] * 3
            self.last = orientation, *self.found.setdefault(key, (axes, first))
        _, axes, reach = self.last
        x, y, z = position
        for place, (a, b, c) in enumerate(axes):
            along = a * x + b * y + c * z
            if along < reach[place]:
                reach[place] = along
            if along > reach[place + 3]:
                reach[place + 3] = along

    def all(self, values: Mapping[str, tuple[Scalar, ...]]) -> tuple[Box, ...]:
        """DICOM PS3.3, C.7.6.2.1.1: PixelSpacing is between rows, then between columns."""
        try:
            down, across = map(float, values["PixelSpacing"])
            rows, columns = (float(values[keyword][0]) for keyword in ("Rows", "Columns"))
            thickness = values.get("SpacingBetweenSlices") or values.get("SliceThickness") or (0,)
            thick = abs(float(thickness[0]))
        except (KeyError, ValueError):
            return ()
        before = (across / 2, down / 2, thick / 2)  # a position is that of a voxel's middle
        after = ((columns - 0.5) * across, (rows - 0.5) * down, thick / 2)
        boxes = []
        for axes, reach in self.found.values():
            low = [reach[place] - before[place] for place in range(3)]
            high = [reach[place + 3] + after[place] for place in range(3)]
            if all(map(isfinite, (*low, *high))):
                boxes.append(_box(axes, low, high))
        return tuple(boxes)


def _box(axes: _Axes, low: list[float], high: list[float]) -> Box:
    (a, b, c), (d, e, f), (g, h, i) = axes
    u, v, w = ((first + last) / 2 for first, last in zip(low, high, strict=True))
    p, q, r = ((last - first) / 2 for first, last in zip(low, high, strict=True))
    center = (u * a + v * d + w * g, u * b + v * e + w * h, u * c + v * f + w * i)
    return Box(center, ((p * a, p * b, p * c), (q * d, q * e, q * f), (r * g, r * h, r * i)))


def _axes(orientation: list[Any]) -> _Axes | None:
    """Along a row, along a column, across both; of length 1. None where they span no plane."""
    a, b, c, d, e, f = orientation
    row, column = hypot(a, b, c), hypot(d, e, f)
    if not (row > 0 and column > 0):
        return None
    a, b, c, d, e, f = a / row, b / row, c / row, d / column, e / column, f / column
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    return ((a, b, c), (d, e, f), normal) if hypot(*normal) > _PLANE else None
