"""The plane check: a NIfTI file holds the images it was made from, each where it lies.

in: NIfTI files, the Frames of one series    out: Match: which frame became which plane

Each frame is placed in the voxels of each file. It must lie on one plane of
exactly one file, exactly once, with the same values; no plane may be left that
no frame explains; the planes of one place must follow each other in the order
in which they were taken. Whatever a converter did, a file that passes is right.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icf_tools.derive.frames import ORDERS, Frame
from icf_tools.derive.volumes import TOLERANCE, Mismatch, Volumes

_TO_RAS = np.diag([-1.0, -1.0, 1.0])  # DICOM counts to the left and to the back, NIfTI does not


Place = tuple[float, ...]  # of a frame's corner, mm, to 0.01


@dataclass(frozen=True, slots=True)
class Plane:
    """One plane of one volume of a file."""

    file: str
    index: int  #: along the axis that the frames are stacked on
    volume: int


@dataclass(frozen=True, slots=True)
class Match:
    """What came of each frame."""

    planes: tuple[tuple[Frame, Plane], ...]
    order: str  #: the element by which the volumes follow each other; empty with one volume

    @property
    def digest(self) -> str:
        """SHA-256 of which image became which plane: a line per frame, in their order."""
        digest = hashlib.sha256()
        for frame, plane in self.planes:
            line = f"{frame.path}\t{frame.number}\t{plane.file}\t{plane.index}\t{plane.volume}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Fit:
    """How frames of one kind lie in the voxels of a file."""

    across: int  #: axis that a row runs along
    down: int  #: axis that a column runs along
    flipped: tuple[bool, bool]  #: whether the row, the column runs against its axis

    def planes(self, stored: NDArray[Any]) -> NDArray[Any]:
        """A view: (plane, volume, row, column)."""
        stacked = 3 - self.across - self.down
        view = stored.transpose(stacked, 3, self.down, self.across)
        rows, columns = (slice(None, None, -1 if flip else 1) for flip in self.flipped[::-1])
        return view[:, :, rows, columns]


def check(files: Sequence[Volumes], frames: Sequence[Frame]) -> Match:
    """Hold files against the frames of one series. Raises Mismatch with the first fault."""
    if not files:
        raise Mismatch("no file", "none was made")
    places = [dict(_places(file, frames)) for file in files]
    for number, frame in enumerate(frames):
        if not any(number in place for place in places):
            what = ", ".join(file.name for file in files)
            raise Mismatch(what, f"no plane is where {_name(frame)} was taken")
    faults = []
    several = sum(file.stored.shape[3] for file in files) > 1
    if several:
        _check_complete(files[0].name, frames)
    for position, name in enumerate(ORDERS):
        order = [frame.order[position] for frame in frames]
        if None in order and (several or name != ORDERS[0]):
            continue
        moments = [moment or 0.0 for moment in order]
        try:
            taken = _assign(files, frames, places, moments)
            _check_kinds(frames, taken)
            if several:
                _check_together(frames, taken, moments, exact=not name.endswith("Time"))
        except Mismatch as err:
            faults.append(err)
        else:
            planes = tuple((frames[number], plane) for number, plane in sorted(taken.items()))
            one_after_another = any(file.stored.shape[3] > 1 for file in files)
            return Match(planes, name if one_after_another else "")
    if not faults:
        raise Mismatch(files[0].name, "no element of the images tells the order of its volumes")
    raise faults[0]


def _check_together(
    frames: Sequence[Frame], taken: dict[int, Plane], order: Sequence[float], *, exact: bool
) -> None:
    """See that the planes of one volume were taken together, and volumes one after another.

    From a volume to the first one, the order differs by the same at each
    place; and what else tells which volume an image is of does not contradict.
    """
    volumes: dict[tuple[str, int], list[int]] = {}
    for number, plane in taken.items():
        volumes.setdefault((plane.file, plane.volume), []).append(number)
    firsts: dict[frozenset[Place], dict[Place, int]] = {}
    last: dict[tuple[str, Place], float] = {}
    for (file, volume), numbers in sorted(volumes.items()):
        places = {tuple(np.round(frames[number].corner, 2)): number for number in numbers}
        first = firsts.setdefault(frozenset(places), places)
        apart = [order[places[place]] - order[first[place]] for place in places]
        room = 1e-6 if exact else abs(sum(apart)) / len(apart) / 2
        if max(apart) - min(apart) > room:
            raise Mismatch(file, f"volume {volume + 1} holds images that were not taken together")
        for place, number in places.items():
            moment = frames[number].order[ORDERS.index("AcquisitionTime")]
            if moment is not None and 0 < last.get((file, place), moment) - moment < 43200:
                raise Mismatch(file, f"volume {volume + 1} was taken before the volume before it")
            if moment is not None:
                last[file, place] = moment
    for name, told in (
        ("AcquisitionNumber", {number: frames[number].acquisition or None for number in taken}),
        ("TemporalPositionIdentifier", {number: frames[number].order[1] for number in taken}),
    ):
        for file in {file for file, _ in volumes}:
            mine = [number for number, plane in taken.items() if plane.file == file]
            values = {told[number] for number in mine}
            at = {(told[number], *np.round(frames[number].corner, 2)) for number in mine}
            # it counts volumes where it never says the same twice of one place
            if None in values or len(at) < len(mine) or len(values) in (1, len(mine)):
                continue
            for (other, volume), numbers in volumes.items():
                if other == file and len({told[number] for number in numbers}) > 1:
                    raise Mismatch(file, f"volume {volume + 1} holds images of several {name}s")


def _check_complete(name: str, frames: Sequence[Frame]) -> None:
    """Whichever element orders the volumes, a gap in the numbers is an image that is lost."""
    moments = [frame.order[0] for frame in frames if frame.order[0] is not None]
    numbers = {int(moment) for moment in moments}
    if numbers and max(numbers) - min(numbers) + 1 > len(numbers):
        raise Mismatch(name, "images are missing: InstanceNumber has gaps")


def _check_kinds(frames: Sequence[Frame], taken: dict[int, Plane]) -> None:
    kinds: dict[str, set[tuple[str, ...]]] = {}
    for number, plane in taken.items():
        kinds.setdefault(plane.file, set()).add(frames[number].kind)
    for file, found in kinds.items():
        if len(found) > 1:
            raise Mismatch(file, "it holds images of several echoes, or of magnitude and phase")


def holds_any(file: Volumes, frames: Sequence[Frame]) -> bool:
    """Whether some frame lies in the file with the same values; few of them are looked at."""
    places = dict(_places(file, frames))
    some = sorted(places, key=lambda number: places[number][1])
    middle = some[len(some) // 2 :][:1]
    for number in middle:
        fit, index = places[number]
        view = fit.planes(file.stored)
        there = [other for other in places if places[other] == (fit, index)]
        return any(
            _equal(view[index, volume], file, frames[other])
            for other in there
            for volume in range(view.shape[1])
        )
    return False


def _places(file: Volumes, frames: Sequence[Frame]) -> Iterator[tuple[int, tuple[_Fit, int]]]:
    """Frames by number that lie on a plane of the file, how, and on which plane."""
    inverse = np.linalg.inv(file.affine)
    turn = inverse[:3, :3] @ _TO_RAS
    first = np.array([frame.corner for frame in frames]) @ turn.T + inverse[:3, 3]
    sizes = np.array([frame.stored.shape for frame in frames]) - 1  # rows, columns
    across = np.array([frame.across for frame in frames]) @ turn.T * sizes[:, 1:]
    down = np.array([frame.down for frame in frames]) @ turn.T * sizes[:, :1]
    corners = np.stack([first, first + across, first + down])
    nearest = np.rint(corners)
    exact = (np.abs(corners - nearest) <= TOLERANCE).all(axis=(0, 2))
    inside = ((nearest >= 0) & (nearest < np.array(file.stored.shape[:3]))).all(axis=(0, 2))
    cells = nearest.astype(int)
    for number in map(int, np.flatnonzero(exact & inside)):
        origin, right, below = cells[:, number]
        fit = _fit(right - origin, below - origin, frames[number], file)
        if fit is not None:
            stacked = 3 - fit.across - fit.down
            yield number, (fit, int(origin[stacked]))


def _fit(
    across: NDArray[np.int_], down: NDArray[np.int_], frame: Frame, file: Volumes
) -> _Fit | None:
    """None unless it covers a whole plane, along two axes."""
    axes = [np.flatnonzero(step) for step in (across, down)]
    rows, columns = frame.stored.shape
    if [len(axis) for axis in axes] != [1, 1] or axes[0][0] == axes[1][0]:
        return None
    first, second = int(axes[0][0]), int(axes[1][0])
    if (file.stored.shape[first], file.stored.shape[second]) != (columns, rows):
        return None
    return _Fit(first, second, (bool(across[first] < 0), bool(down[second] < 0)))


def _assign(
    files: Sequence[Volumes],
    frames: Sequence[Frame],
    places: Sequence[dict[int, tuple[_Fit, int]]],
    order: Sequence[float],
) -> dict[int, Plane]:
    """The plane of each frame, by its number. Raises Mismatch."""
    taken: dict[int, Plane] = {}
    in_order = sorted(range(len(frames)), key=lambda number: order[number])
    for file, place in zip(files, places, strict=True):
        stacks: dict[int, list[int]] = {}
        for number in in_order:
            if number in place:
                stacks.setdefault(place[number][1], []).append(number)
        depth = _depth(file, (fit for fit, _ in place.values()))
        views: dict[_Fit, NDArray[Any]] = {
            fit: fit.planes(file.stored) for fit, _ in place.values()
        }
        kinds = _kinds(file, frames, stacks, views, place)
        for index in range(depth):
            waiting = [number for number in stacks.get(index, ()) if number not in taken]
            last = None
            for volume in range(file.stored.shape[3]):
                waiting.sort(key=lambda number: frames[number].kind not in kinds)
                equal = (
                    number
                    for number in waiting
                    if _equal(views[place[number][0]][index, volume], file, frames[number])
                )
                # planes may be equal, such as those of background: the next in time is meant
                found = None
                for number in equal:
                    found = number
                    if last is None or order[number] > order[last]:
                        break
                where = f"plane {index + 1} of volume {volume + 1}"
                if found is None:
                    raise Mismatch(file.name, _why(where, waiting, frames, file, views, place))
                if last is not None and not order[last] < order[found]:
                    raise Mismatch(file.name, f"{where} was taken before the volume before it")
                waiting.remove(found)
                taken[found] = Plane(file.name, index, volume)
                last = found
    for number, frame in enumerate(frames):
        if number not in taken:
            what = ", ".join(file.name for file in files)
            raise Mismatch(what, f"{_name(frame)} is in no volume")
    return taken


def _kinds(
    file: Volumes,
    frames: Sequence[Frame],
    stacks: dict[int, list[int]],
    views: dict[_Fit, NDArray[Any]],
    place: dict[int, tuple[_Fit, int]],
) -> set[tuple[str, ...]]:
    """The kind of the file, by a plane that only one kind explains; all of them if none does."""
    every = {frames[number].kind for number in place}
    for index, numbers in stacks.items() if len(every) > 1 else ():
        found = {
            frames[number].kind
            for number in numbers
            if _equal(views[place[number][0]][index, 0], file, frames[number])
        }
        if len(found) == 1:
            return found
    return every


def _depth(file: Volumes, fits: Iterable[_Fit]) -> int:
    """How many planes are stacked; all frames of a file lie along the same axes."""
    axes = {3 - fit.across - fit.down for fit in fits}
    if len(axes) != 1:
        raise Mismatch(file.name, "no image lies in it" if not axes else "its images cross")
    return int(file.stored.shape[axes.pop()])


def _equal(plane: NDArray[Any], file: Volumes, frame: Frame) -> bool:
    """Whether the values are the same: the stored ones and their scale, or what they mean."""
    # NIfTI-1 keeps the scale in 32 bit
    same_scale = np.float32(file.slope) == np.float32(frame.slope) and (
        np.float32(file.intercept) == np.float32(frame.intercept)
    )
    if same_scale and np.array_equal(plane, frame.stored):
        return True
    exact = np.abs(frame.stored).max(initial=0) < 2**24  # so 32 bit hold each value
    if same_scale and (plane.dtype.kind in "iu" or exact):
        return False
    made = plane.astype(np.float64) * file.slope + file.intercept
    scaled = frame.stored.astype(np.float64) * frame.slope
    room = 4 * np.finfo(np.float32).eps * (np.abs(scaled) + abs(frame.intercept))
    return bool((np.abs(made - (scaled + frame.intercept)) <= room).all())


def _why(
    where: str,
    waiting: Sequence[int],
    frames: Sequence[Frame],
    file: Volumes,
    views: dict[_Fit, NDArray[Any]],
    place: dict[int, tuple[_Fit, int]],
) -> str:
    """What is wrong with a plane that is none of the frames that wait for it."""
    if not waiting:
        return f"{where} is of no image that lies there"
    frame = frames[waiting[0]]
    view = views[place[waiting[0]][0]]
    for index, volume in np.ndindex(*view.shape[:2]):
        if np.array_equal(view[index, volume], frame.stored):
            found = f"plane {index + 1} of volume {volume + 1}"
            if found != where:
                return f"{where} should be {_name(frame)}, which is {found}"
            scales = (
                f"{file.slope:g} and {file.intercept:g}, {frame.slope:g} and {frame.intercept:g}"
            )
            return f"slope and intercept of {where} are not those of {_name(frame)}: {scales}"
    return f"{where} has other values than {_name(frame)}"


def _name(frame: Frame) -> str:
    return f"frame {frame.number + 1} of {frame.path}" if frame.number else frame.path
