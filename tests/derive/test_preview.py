"""A preview shows each patient's side where it belongs, in the right grey, the same each time."""

import itertools
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from icf_tools.derive.preview import BadWindow, Window, draw, tools, window_of
from icf_tools.derive.volumes import Volumes
from tests.conftest import peak_memory
from tests.derive.series import AXIAL, CORONAL, OBLIQUE, SAGITTAL, Series

Array = NDArray[Any]
EDGES = {
    "axial": {"left": "R", "right": "L", "top": "A", "bottom": "P"},
    "coronal": {"left": "R", "right": "L", "top": "S", "bottom": "I"},
    "sagittal": {"left": "A", "right": "P", "top": "S", "bottom": "I"},
}
PLANES = list(EDGES)


def volumes(
    stored: Array,
    voxel: tuple[float, ...] = (1, 1, 1),
    affine: Array | None = None,
    scale: tuple[float, float] = (1, 0),
) -> Volumes:
    """Voxels along R, A and S if no affine is given."""
    given = np.diag([*voxel, 1.0]) if affine is None else affine
    return Volumes("x.nii", stored.reshape(*stored.shape[:3], -1), given, *scale)


@dataclass(frozen=True)
class Drawn:
    folder: Path
    told: dict[str, Any]

    @property
    def montage(self) -> Array:
        return grey(self.folder / "x.webp")

    @property
    def thumbnail(self) -> Array:
        return grey(self.folder / "x_thumb.webp")

    @property
    def tiles(self) -> list[Array]:
        grid, tile, montage = self.told["grid"], self.told["tile"], self.montage
        found = []
        for number in range(len(self.told["slices"])):
            row, column = divmod(number, grid["columns"])
            top, left = row * (tile["height"] + grid["gap"]), column * (tile["width"] + grid["gap"])
            found.append(montage[top : top + tile["height"], left : left + tile["width"]])
        return found

    @property
    def pictures(self) -> tuple[bytes, bytes]:
        return (self.folder / "x.webp").read_bytes(), (self.folder / "x_thumb.webp").read_bytes()


def grey(path: Path) -> Array:
    with Image.open(path) as image:
        return np.asarray(image.convert("L")).astype(float)


def drawn(volumes: Volumes, folder: Path, window: Window | None = None) -> Drawn:
    folder.mkdir(exist_ok=True)
    draw(volumes, window or window_of(volumes), folder, "x")
    assert sorted(path.name for path in folder.iterdir()) == ["x.json", "x.webp", "x_thumb.webp"]
    return Drawn(folder, json.loads((folder / "x.json").read_bytes()))


def mark(rows: int, columns: int) -> Array:
    """A picture that is another one however it is turned: long and low, in the upper left."""
    picture = np.zeros((rows, columns), np.int16)
    picture[1:9, 1:5] = 1000
    return picture


def turns(picture: Array) -> list[Array]:
    """All eight; the first is the picture itself."""
    return [
        turned[::down, ::across]
        for turned in (picture, picture.T)
        for down in (1, -1)
        for across in (1, -1)
    ]


@pytest.mark.parametrize(
    ("orientation", "plane", "order"),
    [
        (AXIAL, "axial", [0, 1, 2, 3]),
        (CORONAL, "coronal", [3, 2, 1, 0]),  # its normal points to P
        (SAGITTAL, "sagittal", [0, 1, 2, 3]),  # and its to R: LPS -x
        (OBLIQUE, "coronal", [3, 2, 1, 0]),
    ],
)
def test_a_slice_is_drawn_as_the_scanner_shows_it(
    orientation: tuple[float, ...], plane: str, order: list[int], tmp_path: Path
) -> None:
    """DICOM's rows and columns of the three usual planes are in the radiological order."""
    stored = np.stack([mark(20, 20) * (index + 1) for index in range(4)])[None]
    series = Series(stored, orientation=orientation, spacing=(2.0, 2.0), distance=30.0)
    image = series.nifti()
    made = drawn(volumes(np.asanyarray(image.dataobj), affine=image.affine), tmp_path)
    assert made.told["slices"] == order
    assert (made.told["plane"], made.told["edges"]) == (plane, EDGES[plane])
    for tile, index in zip(made.tiles, order, strict=True):
        shown = np.kron(stored[0, index], np.ones((2, 2))) / 4000 * 255
        apart = [np.abs(tile - turned).mean() / shown.mean() for turned in turns(shown)]
        assert apart[0] < 0.35 < 1 < min(apart[1:])


def rotation(degrees: float, axis: int) -> Array:
    turn = np.eye(3)
    one, other = (axis + 1) % 3, (axis + 2) % 3
    turn[one, one] = turn[other, other] = math.cos(math.radians(degrees))
    turn[other, one] = math.sin(math.radians(degrees))
    turn[one, other] = -turn[other, one]
    return turn


@pytest.mark.parametrize("degrees", [0, 15, -20])
@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("flips", list(itertools.product((1, -1), repeat=3)))
def test_left_anterior_superior_is_where_it_belongs(
    plane: str, degrees: float, flips: tuple[int, ...], tmp_path: Path
) -> None:
    across = PLANES[::-1].index(plane)  # the axis of RAS
    voxel = np.where(np.arange(3) == across, 6.0, 4.0)
    shape = np.where(np.arange(3) == across, 16, 24)
    affine = np.eye(4)
    affine[:3, :3] = rotation(degrees, across) @ np.diag(voxel * flips)
    affine[:3, 3] = -affine[:3, :3] @ ((shape - 1) / 2)
    places = (
        np.moveaxis(np.indices(tuple(shape.tolist())), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    )
    near = np.linalg.norm(places - [-20.0, 20.0, 20.0], axis=-1) < 10  # mm, RAS
    made = drawn(volumes(near.astype(np.float32), affine=affine), tmp_path)
    tile = made.tiles[int(np.argmax([tile.mean() for tile in made.tiles]))]
    height, width = tile.shape
    right, below = tile[:, width // 2 :].sum(), tile[height // 2 :].sum()
    assert below < 0.05 * tile.sum()  # it is anterior, or superior
    assert (right > 0.95 * tile.sum()) if plane != "sagittal" else (right < 0.05 * tile.sum())
    # slices go to R, A, S
    lit = [bool(tile.max() > 128) for tile in made.tiles]
    where = np.flatnonzero(lit).mean()
    assert (where < 7.5) if plane == "sagittal" else (where > 7.5)


@pytest.mark.parametrize("turned", [np.eye(3), rotation(20, 0) @ rotation(15, 2)])
def test_however_it_is_stored_the_pictures_are_the_same(turned: Array, tmp_path: Path) -> None:
    random = np.random.default_rng(4711)
    affine = np.eye(4)
    affine[:3, :3] = turned @ np.diag([2.0, 1.5, 4.0])
    image = nibabel.Nifti1Image(random.normal(100, 30, (10, 14, 21)).astype(np.float32), affine)
    pictures, axes = set(), set()
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            other = image.as_reoriented(np.array(list(zip(order, flips, strict=True))))
            made = drawn(volumes(np.asanyarray(other.dataobj), affine=other.affine), tmp_path)
            pictures.add(made.pictures)
            axes.add((made.told["axis"], made.told["slices"][0] < made.told["slices"][-1]))
    assert len(pictures) == 1
    assert len(axes) == 6


@pytest.mark.parametrize(
    ("shape", "voxel", "size"),
    [
        ((30, 30, 3), (1, 3, 9), (60, 180)),
        ((30, 30, 3), (3, 1, 9), (180, 60)),
        ((64, 64, 20), (3, 3, 4), (128, 128)),
        ((256, 192, 30), (1, 1, 4), (254, 190)),
        ((512, 512, 1), (0.5, 0.5, 5), (1024, 1024)),
        ((512, 256, 3), (0.5, 1.0, 5), (511, 511)),
    ],
)
def test_aspect_and_size(
    shape: tuple[int, ...], voxel: tuple[float, ...], size: tuple[int, int], tmp_path: Path
) -> None:
    made = drawn(volumes(np.ones(shape, np.uint8), voxel), tmp_path)
    assert (made.told["tile"]["width"], made.told["tile"]["height"]) == size


@pytest.mark.parametrize(
    ("shape", "voxel", "axis"),
    [
        ((64, 64, 36), (3, 3, 3), 2),
        ((256, 256, 150), (1, 1, 1.2), 2),
        ((160, 256, 256), (1.2, 1, 1), 0),
        ((256, 150, 256), (1, 1.2, 1), 1),
        ((256, 256, 240), (1.0, 0.95, 0.94), 2),  # about as coarse
        ((240, 256, 256), (0.94, 1.0, 0.95), 2),
        ((274, 384, 96), (0.7, 0.667, 0.667), 2),
        ((400, 400, 60), (0.98, 0.98, 0.6), 2),  # a slab: strips across x or y
        ((60, 400, 400), (0.6, 0.98, 0.98), 0),
        ((100, 100, 1), (3, 3, 1), 2),
    ],
)
def test_the_axis_of_the_slices(
    shape: tuple[int, ...], voxel: tuple[float, ...], axis: int, tmp_path: Path
) -> None:
    stored = np.broadcast_to(np.int16(1), shape)
    assert drawn(volumes(stored, voxel), tmp_path, Window(0, 2)).told["axis"] == axis


@pytest.mark.parametrize("scale", [(1, 0), (2.5, -1024), (-0.5, 3)])
@pytest.mark.parametrize("kind", [np.int16, np.float32, ">i2"])
def test_the_window_is_of_percentiles_of_real_values(scale: tuple[float, float], kind: Any) -> None:
    stored = np.random.default_rng(4711).normal(500, 200, (20, 21, 22)).astype(kind)
    window = window_of(volumes(stored, scale=scale))
    real = stored.astype(float) * scale[0] + scale[1]
    assert (window.low, window.high) == pytest.approx(tuple(np.percentile(real, [1, 99.5])))
    assert window.percentiles == (1.0, 99.5)


def test_the_window_of_a_large_volume_is_about_that_of_all_its_voxels() -> None:
    stored = np.random.default_rng(4711).normal(500, 100, (300, 200, 100)).astype(np.int16)
    window = window_of(volumes(stored))
    assert (window.low, window.high) == pytest.approx(tuple(np.percentile(stored, [1, 99.5])), 0.01)
    stored[:] = 7
    stored[1, 1, 1] = 900  # beside the voxels that are looked at
    assert window_of(volumes(stored)) == Window(7, 900)


def sparse(*values: float, other: float = 0.0, kind: Any = np.float32) -> Array:
    """These, among 10000 others."""
    stored = np.full(10000, other, kind)
    stored[500 : 500 + len(values)] = values
    return stored.reshape(100, 10, 10)


@pytest.mark.parametrize(
    ("stored", "window"),
    [
        (sparse(), (0, 1)),
        (sparse(other=5), (5, 10)),
        (sparse(other=-1024, kind=np.int16), (-1024, 0)),
        (sparse(9), (0, 9)),
        (sparse(-9), (-9, 0)),
        (sparse(-8, 8), (-7.84, 7.92)),
        (sparse(*[3] * 30), (0, 3)),
        (sparse(math.nan, math.inf, -math.inf, 4), (0, 4)),
        (sparse(*[math.nan] * 9000), (0, 1)),
        (sparse(1e308, -1e308, kind=np.float64), (0, 1)),
        (sparse(2**62 + 1, other=2**62, kind=np.int64), (2**62, 2**63)),
        (np.full((4, 4, 4), math.nan, np.float32), (0, 1)),
        (np.full((4, 4, 4), -math.inf, np.float32), (0, 1)),
        (np.full((1, 1, 1), 3, np.uint8), (3, 6)),
    ],
)
def test_the_window_of_odd_values(
    stored: Array, window: tuple[float, float], tmp_path: Path
) -> None:
    found = window_of(volumes(stored))
    assert (found.low, found.high) == pytest.approx(window)
    drawn(volumes(stored), tmp_path)


def test_one_bright_voxel_does_not_make_the_rest_dark() -> None:
    stored = np.random.default_rng(4711).integers(0, 200, (20, 20, 20)).astype(np.float32)
    stored[3, 3, 3] = 1e9
    assert window_of(volumes(stored)).high < 200
    few = sparse(*[100.0] * 20, *[110.0] * 20, 1e9)
    assert window_of(volumes(few)).high < 1e9


@pytest.mark.parametrize(
    "bounds", [(1, 1), (2, 1), (math.nan, 1), (0, math.inf), (-math.inf, 0), (-1e308, 1e308)]
)
def test_a_window_that_shows_nothing(bounds: tuple[float, float]) -> None:
    with pytest.raises(BadWindow, match="the lower one first"):
        Window(*bounds)


def steps() -> Array:
    """Real values 0, 100, ... 900 of ten slices."""
    return np.broadcast_to(np.arange(10) * 100, (16, 16, 10)).astype(np.int16)


def shades(made: Drawn) -> list[float]:
    return [float(tile.mean()) for tile in made.tiles]


def test_a_given_window_is_applied_and_told(tmp_path: Path) -> None:
    made = drawn(volumes(steps()), tmp_path, Window(200, 700))
    assert made.told["window"] == {"low": 200.0, "high": 700.0, "percentiles": None}
    expected = [0, 0, 0, 51, 102, 153, 204, 255, 255, 255]
    assert shades(made) == pytest.approx(expected, abs=2.5)
    own = drawn(volumes(steps()), tmp_path)
    assert own.told["window"] == {"low": 0.0, "high": 900.0, "percentiles": [1.0, 99.5]}


@pytest.mark.parametrize("scale", [(4.0, -1000.0), (-0.25, 12.0)])
def test_slope_and_intercept_are_honoured(scale: tuple[float, float], tmp_path: Path) -> None:
    stored = ((steps() - scale[1]) / scale[0]).astype(np.float64)
    one = drawn(volumes(stored, scale=scale), tmp_path / "a", Window(0, 900))
    other = drawn(volumes(steps()), tmp_path / "b", Window(0, 900))
    assert one.pictures == other.pictures


def test_what_is_no_number_is_black_and_infinite_is_white(tmp_path: Path) -> None:
    stored = np.full((16, 16, 4), 50.0, np.float32)
    for index, value in enumerate((math.nan, math.inf, -math.inf)):
        stored[..., index] = value
    made = drawn(volumes(stored), tmp_path, Window(0, 100))
    assert shades(made) == pytest.approx([0, 255, 0, 128], abs=2.5)


@pytest.mark.parametrize(
    ("count", "slices", "grid"),
    [
        (1, [0], (1, 1)),
        (2, [0, 1], (2, 1)),
        (5, [0, 1, 2, 3, 4], (3, 2)),
        (16, list(range(16)), (4, 4)),
        (17, [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16], (4, 4)),
        (160, list(range(5, 160, 10)), (4, 4)),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_slices_are_evenly_spaced_and_each_is_in_its_place(
    count: int, slices: list[int], grid: tuple[int, int], sign: int, tmp_path: Path
) -> None:
    ramp = np.broadcast_to(np.arange(count)[::sign], (10, 10, count)).astype(np.uint8)
    made = drawn(volumes(ramp, (1, 1, 3 * sign)), tmp_path, Window(0, count))
    assert made.told["slices"] == [each if sign > 0 else count - 1 - each for each in slices]
    assert (made.told["grid"]["columns"], made.told["grid"]["rows"]) == grid
    assert shades(made) == pytest.approx([255 * each / count for each in slices], abs=2.5)
    middle = slices[len(slices) // 2]
    assert made.thumbnail.mean() == pytest.approx(255 * middle / count, abs=2.5)
    assert made.told["thumbnail"]["slice"] == made.told["slices"][len(slices) // 2]


def test_the_first_of_several_volumes_is_shown(tmp_path: Path) -> None:
    first = np.random.default_rng(4711).integers(0, 200, (12, 12, 5)).astype(np.int16)
    several = np.stack([first, first[::-1] * 50, first * 0], axis=3)
    alone, among = (drawn(volumes(each), tmp_path) for each in (first, several))
    assert among.told == alone.told
    assert among.told["volume"] == 0
    assert among.pictures == alone.pictures


def test_same_input_same_bytes(tmp_path: Path) -> None:
    stored = np.random.default_rng(4711).integers(0, 4000, (40, 50, 30)).astype(np.int16)
    one = drawn(volumes(stored), tmp_path / "a")
    other = drawn(volumes(np.asfortranarray(stored)), tmp_path / "b")
    assert one.pictures == other.pictures
    text = (tmp_path / "a" / "x.json").read_bytes()
    assert text == (tmp_path / "b" / "x.json").read_bytes()
    assert text == json.dumps(one.told, indent=1, sort_keys=True).encode() + b"\n"


def test_the_pictures_hold_nothing_but_the_image(tmp_path: Path) -> None:
    stored = np.random.default_rng(4711).integers(0, 4000, (40, 50, 30)).astype(np.int16)
    for content in drawn(volumes(stored), tmp_path).pictures:
        assert (content[:4], content[8:12]) == (b"RIFF", b"WEBP")
        chunks, at = [], 12
        while at < len(content):
            chunks.append(content[at : at + 4])
            size = int.from_bytes(content[at + 4 : at + 8], "little")
            at += 8 + size + size % 2
        assert chunks == [b"VP8 "]


def test_what_the_json_tells(tmp_path: Path) -> None:
    made = drawn(volumes(np.ones((64, 32, 40), np.int16), (1, 1, 3)), tmp_path, Window(0, 2))
    assert made.told == {
        "axis": 2,
        "convention": "radiological",
        "edges": EDGES["axial"],
        "format": 1,
        "grid": {"columns": 4, "gap": 2, "rows": 4},
        "montage": {"height": 262, "width": 518},
        "order": ["I", "S"],
        "plane": "axial",
        "slices": [1, 3, 6, 8, 11, 13, 16, 18, 21, 23, 26, 28, 31, 33, 36, 38],
        "thumbnail": {"height": 64, "slice": 21, "width": 128},
        "tile": {"height": 64, "width": 128},
        "volume": 0,
        "window": {"high": 2.0, "low": 0.0, "percentiles": None},
    }
    assert made.montage.shape == (262, 518)
    assert made.thumbnail.shape == (64, 128)


@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1), (1, 1, 40), (1, 500, 1), (3, 2000, 2), (1, 32767, 3), (2500, 2000, 1), (9, 1, 1)],
)
@pytest.mark.parametrize("voxel", [(1, 1, 1), (0.01, 30, 2)])
def test_odd_shapes(shape: tuple[int, ...], voxel: tuple[float, ...], tmp_path: Path) -> None:
    stored = np.random.default_rng(4711).integers(0, 255, shape).astype(np.uint8)
    made = drawn(volumes(stored, voxel), tmp_path)
    assert max(made.montage.shape) <= 1024
    assert max(made.thumbnail.shape) <= 128
    told = made.told["montage"]
    assert (told["height"], told["width"]) == made.montage.shape


LARGE = """
import sys
from pathlib import Path
import numpy as np
from icf_tools.derive.preview import draw, window_of
from icf_tools.derive.volumes import Volumes
stored = np.zeros((512, 512, 200, 1), np.int16, order="F")
for index in range(200):
    stored[..., index, 0] = np.arange(512)[:, None] + index
volumes = Volumes("x.nii", stored, np.diag([1, 1, float(sys.argv[2]), 1]), 1.0, 0.0)
if len(sys.argv) > 3:
    draw(volumes, window_of(volumes), Path(sys.argv[1]), "x")
"""


@pytest.mark.slow
@pytest.mark.parametrize("thick", [0.5, 3.0])
def test_a_large_volume_is_not_copied(thick: float, tmp_path: Path) -> None:
    bare = peak_memory(LARGE, tmp_path, thick)
    begun = time.monotonic()
    assert peak_memory(LARGE, tmp_path, thick, "draw") < bare + (60 << 20)  # it has 100 MiB
    assert time.monotonic() - begun < 30
    assert (tmp_path / "x.webp").exists()


def test_tools_are_named() -> None:
    pillow, webp = (tool.split() for tool in tools())
    assert (pillow[0], webp[0]) == ("Pillow", "libwebp")
    assert pillow[1][0].isdigit()
    assert webp[1][0].isdigit()
