"""Stack the images of a series into volumes, without any converter.

in: the Frames of one series    out: Volumes: an array and where its voxels lie; or NotRegular

Nothing is guessed and nothing resampled: what does not make a regular grid is
refused, and what does is held against the frames by the plane check.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icf_tools.derive.frames import ORDERS, Frame
from icf_tools.derive.planes import Match, check
from icf_tools.derive.volumes import TOLERANCE, Mismatch, Volumes
from icf_tools.errors import Damaged

_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM counts to the left and to the back
_COMPONENTS = {"M": "magnitude", "P": "phase", "R": "real", "I": "imaginary"}

_Table = NDArray[np.intp]  # (slices, volumes), which frame of the grid


class NotRegular(Damaged):
    message = (
        "the images of the series do not make a regular grid: {};"
        " convert them with icf convert, or read them one by one"
    )


@dataclass(frozen=True, slots=True)
class Volume:
    """Images of one series as an array, and where each voxel lies."""

    array: NDArray[Any]  #: (columns, rows, slices) or (columns, rows, slices, volumes)
    affine: NDArray[np.float64]  #: (4, 4), from voxel index to mm, RAS+ (right, front, head)
    kind: str  #: echo, and magnitude or phase, as far as the images tell; else empty
    order: str  #: the element by which volumes follow each other; empty with one


@dataclass(frozen=True, slots=True)
class _Grid:
    """Frames of one kind that lie evenly along a line."""

    frames: tuple[Frame, ...]
    places: NDArray[np.intp]  #: of each frame, counted along the normal
    volumes: int  #: frames at each place
    affine: NDArray[np.float64]

    def table(self, order: int) -> _Table | None:
        """None where that one of ORDERS does not tell how frames follow at each place."""
        if self.volumes == 1:
            return np.argsort(self.places)[:, np.newaxis]
        told = [frame.order[order] for frame in self.frames]
        moments = np.array([np.nan if moment is None else moment for moment in told])
        table = np.lexsort((moments, self.places)).reshape(-1, self.volumes)
        return table if (np.diff(moments[table]) > 0).all() else None


def stack(frames: Sequence[Frame]) -> tuple[Volume, ...]:
    """The frames of one series as arrays: one for each kind and each orientation of its slices.

    Columns and rows of the array run as in the images, slices along the normal, which
    is a row crossed with a column. Slices that are shifted evenly, as by a tilted
    gantry, make an affine that leans. A single slice does not tell how thick it is: it
    counts as 1 mm, which moves no voxel. Volumes follow each other as one of ORDERS
    tells, and arrays in the order of their first images, however the frames are given.

    Values are the stored integers where every frame of the array has slope 1 and
    intercept 0. Else they are real ones, each by the slope and intercept of its own
    frame: float32 if that tells all stored values apart, otherwise float64.

    Raises NotRegular where frames are missing, there twice, of several sizes, unevenly
    spaced or of no certain order, and where the plane check finds a fault.
    """
    if len({frame.series for frame in frames}) != 1:
        raise NotRegular("they are of several series" if frames else "there are none")
    for frame in frames:
        _check_plane(frame)
    grids = [_grid(group) for group in _groups(sorted(frames, key=_first))]
    arrays = [_empty(grid) for grid in grids]
    fault: Mismatch | None = None
    tried: list[list[_Table]] = []
    for order in range(len(ORDERS)):
        found = [grid.table(order) for grid in grids]
        tables = [table for table in found if table is not None]
        if len(tables) < len(grids) or any(_same(tables, other) for other in tried):
            continue
        tried.append(tables)
        for grid, array, table in zip(grids, arrays, tables, strict=True):
            _fill(array, grid, table)
        try:
            match = _proved(grids, arrays)
        except Mismatch as err:
            fault = fault or err
        else:
            return tuple(_volumes(grids, arrays, match))
    if fault is not None:
        raise NotRegular(fault.args[1]) from fault
    raise NotRegular("several lie at one place, and no element tells their order")


def _first(frame: Frame) -> tuple[object, ...]:
    """By the image's number, and by the rest of what is known, so that none is before another."""
    told = [np.inf if moment is None else moment for moment in frame.order]
    return *told, frame.path, frame.number


def _check_plane(frame: Frame) -> None:
    if not np.isfinite([frame.corner, frame.across, frame.down]).all():
        raise NotRegular("the place of some is no number")
    area = np.linalg.norm(np.cross(frame.across, frame.down))
    # rows and columns that are nearly parallel, or of no length, span none
    lean = 1e-3 * np.linalg.norm(frame.across) * np.linalg.norm(frame.down)
    if not area > lean or min(frame.stored.shape) < 2:
        raise NotRegular("the rows and columns of some make no plane")


def _groups(frames: Sequence[Frame]) -> list[list[Frame]]:
    """By kind and orientation. Raises NotRegular where those of a group differ in size."""
    groups: list[list[Frame]] = []
    for frame in frames:
        same_kind = (group for group in reversed(groups) if group[0].kind == frame.kind)
        group = next((group for group in same_kind if _parallel(group[0], frame)), None)
        if group is None:
            groups.append([frame])
        elif frame.stored.shape != group[0].stored.shape:
            rows, columns = frame.stored.shape
            others = "{1} x {0}".format(*group[0].stored.shape)
            raise NotRegular(f"some have {others} pixels, others {columns} x {rows}")
        elif _apart(_edges(group[0]), _edges(frame)) > TOLERANCE * _pixel(frame):
            raise NotRegular("their pixels differ in size")
        else:
            group.append(frame)
    return groups


def _edges(frame: Frame) -> NDArray[np.float64]:
    """From the first pixel to the last of its row, and of its column, in mm."""
    rows, columns = frame.stored.shape
    return np.stack([frame.across * (columns - 1), frame.down * (rows - 1)])


def _pixel(frame: Frame) -> float:
    """The shorter side, in mm."""
    return float(min(np.linalg.norm(frame.across), np.linalg.norm(frame.down)))


def _apart(some: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    return float(np.abs(some - others).max())


def _parallel(some: Frame, other: Frame) -> bool:
    """Whether turning the one as the other lies moves no pixel of it."""
    turned = [
        np.linalg.norm(mine) * theirs / np.linalg.norm(theirs)
        for mine, theirs in ((some.across, other.across), (some.down, other.down))
    ]
    rows, columns = some.stored.shape
    edges = np.stack([turned[0] * (columns - 1), turned[1] * (rows - 1)])
    return _apart(_edges(some), edges) <= TOLERANCE * _pixel(some)


def _grid(frames: Sequence[Frame]) -> _Grid:
    """Raises NotRegular."""
    first = frames[0]
    corners = np.array([frame.corner for frame in frames])
    across, down = first.across, first.down
    normal = np.cross(across, down)
    normal /= np.linalg.norm(normal)
    heights = corners @ normal
    upwards = np.argsort(heights, kind="stable")
    # the distance of slices is not known yet, that of pixels is
    steps = np.diff(heights[upwards]) > TOLERANCE * _pixel(first)
    places = np.empty(len(frames), np.intp)
    places[upwards] = np.concatenate([[0], np.cumsum(steps)])
    counts = np.bincount(places)
    centres = np.stack([np.bincount(places, axis) for axis in corners.T], 1) / counts[:, np.newaxis]
    step = (centres[-1] - centres[0]) / (len(counts) - 1) if len(counts) > 1 else normal
    matrix = np.column_stack([across, down, step])
    beside = corners - centres[0] - places[:, np.newaxis] * step
    if not (np.abs(np.linalg.solve(matrix, beside.T)) <= TOLERANCE).all():
        gaps = np.diff(centres @ normal)
        if len(gaps) and np.ptp(gaps) > TOLERANCE * gaps.min():
            raise NotRegular(f"slices are {gaps.min():.5g} to {gaps.max():.5g} mm apart")
        raise NotRegular("slices are not in one line")
    if counts.min() < counts.max():
        what = f"{counts.min()} at one place and {counts.max()} at another"
        raise NotRegular(f"there are {what}, so some are missing or there twice")
    affine = np.eye(4)
    affine[:3] = np.column_stack([matrix, centres[0]])
    return _Grid(tuple(frames), places, int(counts[0]), _TO_RAS @ affine)


def _empty(grid: _Grid) -> NDArray[Any]:
    """(columns, rows, slices, volumes), in memory as NIfTI has it."""
    rows, columns = grid.frames[0].stored.shape
    shape = grid.volumes, len(grid.frames) // grid.volumes, rows, columns
    return np.empty(shape, _dtype(grid.frames)).T


def _dtype(frames: Sequence[Frame]) -> np.dtype[Any]:
    if not any(_scaled(frame) for frame in frames):
        return np.result_type(*{frame.stored.dtype for frame in frames})
    return np.dtype(np.float32 if {_fits(frame) for frame in frames} == {True} else np.float64)


def _scaled(frame: Frame) -> bool:
    return (frame.slope, frame.intercept) != (1.0, 0.0)


def _fits(frame: Frame) -> bool:
    """Whether numbers of 32 bit lie closer to each other than its real values do."""
    ends = float(frame.stored.min()), float(frame.stored.max())
    largest = max(abs(end * frame.slope + frame.intercept) for end in ends)
    if not np.isfinite(largest) or not frame.slope:
        raise NotRegular("slope and intercept of some give no values")
    if frame.stored.dtype.kind not in "iu" or largest > float(np.finfo(np.float32).max):
        return False
    return bool(np.spacing(np.float32(largest)) < abs(frame.slope))


def _values(frame: Frame, dtype: np.dtype[Any]) -> NDArray[Any]:
    if not _scaled(frame):
        return frame.stored.astype(dtype)
    return (frame.stored.astype(np.float64) * frame.slope + frame.intercept).astype(dtype)


def _fill(array: NDArray[Any], grid: _Grid, table: _Table) -> None:
    for (place, volume), number in np.ndenumerate(table):
        array[:, :, place, volume] = _values(grid.frames[number], array.dtype).T


def _same(some: Sequence[_Table], others: Sequence[_Table]) -> bool:
    return all(np.array_equal(*pair) for pair in zip(some, others, strict=True))


def _proved(grids: Sequence[_Grid], arrays: Sequence[NDArray[Any]]) -> Match:
    """Hold the arrays against the frames of all. Raises Mismatch."""
    named = {f"array {number + 1}": array for number, array in enumerate(arrays)}
    files = [
        Volumes(name, array, grid.affine, 1.0, 0.0)
        for (name, array), grid in zip(named.items(), grids, strict=True)
    ]
    match = check(files, [frame for grid in grids for frame in grid.frames])
    # of real values the check sees seven digits, which may be fewer than they have
    for frame, plane in match.planes:
        array = named[plane.file]
        if array.dtype.kind == "f" and not np.array_equal(
            array[:, :, plane.index, plane.volume].T, _values(frame, array.dtype)
        ):
            where = f"plane {plane.index + 1} of volume {plane.volume + 1}"
            raise Mismatch(plane.file, f"{where} has not the values of its image")
    return match


def _volumes(
    grids: Sequence[_Grid], arrays: Sequence[NDArray[Any]], match: Match
) -> Iterator[Volume]:
    for grid, array in zip(grids, arrays, strict=True):
        kind = _text(grid.frames[0].kind)
        if grid.volumes == 1:
            yield Volume(array[..., 0], grid.affine, kind, "")
        else:
            yield Volume(array, grid.affine, kind, match.order)


def _text(kind: Sequence[str]) -> str:
    """An echo time of 0 is that of images that have none."""
    parts = []
    for position, part in enumerate(kind):
        if part in ("", "None", "0.00"):
            continue
        if position == 0:
            parts.append(f"echo time {part} ms")
        elif part.isdecimal():
            parts.append(f"echo {part}")
        else:
            parts.append(_COMPONENTS.get(part, part.lower()))
    return ", ".join(parts)
