"""Pictures of a NIfTI file for the eye: a montage of its slices, and a thumbnail.

in: Volumes, a Window    out: STEM.webp, STEM_thumb.webp, STEM.json

However the voxels are stored, slices are drawn as a radiologist looks at them: the
patient's right on the left, anterior or head up, anterior on the left in sagittal ones.
An oblique slice is drawn as it was taken, and each edge has the letter that is nearest.
The pictures hold no text and no metadata; they are for recognizing, not for measuring.
"""

import json
import math
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from icf_tools.derive.volumes import Volumes
from icf_tools.errors import UsageError

FORMAT = 1  # of STEM.json, and of what is drawn
PERCENTILES = (1.0, 99.5)  # of the real values, shown black and white
VOLUME = 0
"""What is shown of several. The first has no diffusion weighting as a rule, and the most
contrast in a time series; it is at the same point of the protocol in each visit, however
early a scan was ended, which the middle one is not."""

_TILES = 16
_WIDE = 1024  # px, a montage, and no higher than that
_GAP = 2  # px of black between tiles; images that fill theirs would run together
_THUMBNAIL = 128  # px, its longer side
_ENLARGED = 2  # px for each voxel at most: more is bytes that show nothing new
_ALIKE = 0.9  # of the coarsest spacing: which of two is the slices' does not follow from less
_SAMPLE = 1 << 20  # voxels, about; of an eighth of them, percentiles are off by some 0.02
_LARGEST = 1e300  # of values that are counted, so that no difference of two is infinite
_SMOOTH = Image.Resampling.BILINEAR  # averages where it shrinks; never overshoots
# Lossless is 3 to 7 times the size; method 6 saves 2 to 6 % and takes about twice as long.
# One thread, as Pillow leaves it: the same bytes each time.
_WEBP: dict[str, Any] = {"format": "WEBP", "lossless": False, "quality": 80, "method": 4}
_ENDS = (("L", "R"), ("P", "A"), ("I", "S"))  # of each axis of the patient, RAS
_PLANES = ("sagittal", "coronal", "axial")  # by the patient's axis across them


class BadWindow(UsageError):
    message = "a window from {} to {} shows nothing; give two numbers, the lower one first"


@dataclass(frozen=True, slots=True)
class Window:
    """Which values are told apart. Files that are drawn with the same one compare."""

    low: float  #: real value that is black, as all below it
    high: float  #: real value that is white, as all above it
    #: which of the file's own values the two are; None where they are given
    percentiles: tuple[float, float] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.high - self.low < math.inf:  # as where one is no number
            raise BadWindow(self.low, self.high)


def tools() -> list[str]:
    """What the bytes depend on, beside this package."""
    return [f"Pillow {features.version('pil')}", f"libwebp {features.version('webp')}"]


def window_of(volumes: Volumes) -> Window:
    """Percentiles of the real values of the volume that is shown.

    Of a large one, a regular grid of some 10^5 voxels is looked at. What is no finite
    number is left out. Where nearly all values are the same, as in a mask, the window
    reaches from that one over the percentiles of all others.
    """
    volume = volumes.stored[..., VOLUME]
    step = math.ceil((volume.size / _SAMPLE) ** (1 / 3))
    values = _finite(volumes, volume[::step, ::step, ::step])
    low, high = np.percentile(values, PERCENTILES) if values.size else (0.0, 0.0)
    if not low < high:
        slices = (_finite(volumes, volume[:, :, each]) for each in range(volume.shape[2]))
        others = np.concatenate([real[real != low] for real in slices])
        if others.size:
            below, above = np.percentile(others, PERCENTILES)
            low, high = min(low, below), max(low, above)
    if not low < high:
        high = low + max(1.0, abs(low))
    return Window(float(low), float(high), PERCENTILES)


def draw(volumes: Volumes, window: Window, folder: Path, stem: str) -> None:
    """Write the montage, the thumbnail and the JSON into a folder to work in.

    Slices follow each other towards the patient's right, anterior or head, row by row.
    The thumbnail is the middle one. "slices" and "axis" count from 0, as they are stored.
    """
    view = _View.of(volumes)
    count = volumes.stored.shape[view.axis]
    shown = min(count, _TILES)
    # the middle of each of as many parts: the outermost slices show least
    slices = [(2 * part + 1) * count // (2 * shown) for part in range(shown)]
    if not view.rising[view.axis]:
        slices = [count - 1 - index for index in slices]
    columns = math.isqrt(shown - 1) + 1
    rows = -(-shown // columns)
    width, height = tile = view.fit((_WIDE + _GAP) // columns - _GAP)
    montage = Image.new("L", (columns * (width + _GAP) - _GAP, rows * (height + _GAP) - _GAP))
    middle = slices[shown // 2]
    for number, index in enumerate(slices):
        picture = view.picture(volumes, window, index)
        row, column = divmod(number, columns)
        corner = (column * (width + _GAP), row * (height + _GAP))
        montage.paste(picture.resize(tile, _SMOOTH), corner)
        if index == middle:
            thumbnail = picture.resize(view.fit(_THUMBNAIL), _SMOOTH)
    bounds = {"low": float(window.low), "high": float(window.high)}  # 0 is written as 0.0 is
    content = {
        "format": FORMAT,
        "window": {**bounds, "percentiles": window.percentiles},
        "volume": VOLUME,
        "axis": view.axis,
        "slices": slices,
        "plane": _PLANES[view.patient[view.axis]],
        "order": _ENDS[view.patient[view.axis]],
        "convention": "radiological",
        "edges": view.edges,
        "grid": {"columns": columns, "rows": rows, "gap": _GAP},
        "tile": {"width": width, "height": height},
        "montage": {"width": montage.width, "height": montage.height},
        "thumbnail": {"width": thumbnail.width, "height": thumbnail.height, "slice": middle},
    }
    montage.save(folder / f"{stem}.webp", **_WEBP)
    thumbnail.save(folder / f"{stem}_thumb.webp", **_WEBP)
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
    (folder / f"{stem}.json").write_bytes(text.encode() + b"\n")


@dataclass(frozen=True, slots=True)
class _View:
    """Which axis of the voxels, 0 to 2, runs where in a picture."""

    axis: int  #: slices lie one after another along it
    across: int  #: left and right in a picture
    down: int
    patient: tuple[int, ...]  #: of each axis, which one of RAS it is, or is nearest to
    rising: tuple[bool, ...]  #: of each axis, whether it runs to R, A or S
    voxel: tuple[float, ...]  #: mm
    shape: tuple[int, ...]

    @classmethod
    def of(cls, volumes: Volumes) -> "_View":
        shape = volumes.stored.shape[:3]
        steps = volumes.affine[:3, :3]  # (3, 3): a column for each axis of the voxels
        voxel = np.linalg.norm(steps, axis=0)
        # by the product none has a cosine of 0, so that each has a side to run to
        cosines = np.abs(steps / voxel)
        patient = max(permutations(range(3)), key=lambda axes: cosines[axes, range(3)].prod())
        rising = tuple(bool(steps[nearest, axis] > 0) for axis, nearest in enumerate(patient))
        axis = _slice_axis(voxel, voxel * shape)
        # an axis of RAS runs up rather than S, A, R in this order
        across, down = sorted({0, 1, 2} - {axis}, key=lambda each: patient[each])
        return cls(axis, across, down, patient, rising, tuple(voxel.tolist()), shape)

    @property
    def edges(self) -> dict[str, str]:
        right, left = _ENDS[self.patient[self.across]]
        bottom, top = _ENDS[self.patient[self.down]]
        return {"left": left, "right": right, "top": top, "bottom": bottom}

    def fit(self, box: int) -> tuple[int, int]:
        """Width and height in px of a slice that fits into a square, with the aspect it has."""
        sides = [self.shape[axis] * self.voxel[axis] for axis in (self.across, self.down)]
        finest = min(self.voxel[self.across], self.voxel[self.down])
        scale = min(box / max(sides), _ENLARGED / finest)  # px/mm
        width, height = (max(1, min(box, round(side * scale))) for side in sides)
        return width, height

    def picture(self, volumes: Volumes, window: Window, index: int) -> Image.Image:
        """A slice with a px for each voxel, turned as it is looked at."""
        # not take(), which copies all of a volume that is in Fortran's order
        plane = np.moveaxis(volumes.stored[..., VOLUME], self.axis, 0)[index]
        if self.across < self.down:
            plane = plane.T  # rows run down
        # to the left is R or A, up is A or S: what rises is turned round
        down, across = (-1 if self.rising[axis] else 1 for axis in (self.down, self.across))
        return Image.fromarray(_shades(plane[::down, ::across], volumes, window))


def _slice_axis(voxel: NDArray[np.float64], extent: NDArray[np.float64]) -> int:
    """The axis across the slices that were taken; voxel and extent (3,) in mm.

    A slab is cut across its thin side: any other way gives strips. Otherwise it is the
    coarsest axis; of those about as coarse the last, where converters have slices or head.
    """
    thinnest = int(extent.argmin())
    if 2 * extent[thinnest] < np.median(extent):
        return thinnest
    return int(np.flatnonzero(voxel >= _ALIKE * voxel.max())[-1])


def _finite(volumes: Volumes, stored: NDArray[Any]) -> NDArray[np.float64]:
    """The real values (any number,) of stored ones, but for those that are none."""
    with np.errstate(over="ignore", invalid="ignore"):
        real = stored.astype(np.float64).ravel("K") * volumes.slope + volumes.intercept
    return np.compress(np.abs(real) < _LARGEST, real)  # never so of NaN


def _shades(plane: NDArray[Any], volumes: Volumes, window: Window) -> NDArray[np.uint8]:
    """Stored values (row, column) as 0 to 255; what is no number is black."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        shades = plane.astype(np.float64)
        shades *= volumes.slope
        shades += volumes.intercept - window.low
        shades /= window.high - window.low
        shades *= 255
    np.fmax(shades, 0, out=shades)  # also in place of NaN
    np.fmin(shades, 255, out=shades)
    return np.rint(shades, out=shades).astype(np.uint8)
