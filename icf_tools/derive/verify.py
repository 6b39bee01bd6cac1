"""Hold NIfTI files against a folder of DICOM, whatever made them.

in: NIfTI files, a folder    out: Verified for each: the series it holds, or what is wrong
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from icf_tools.derive.frames import Frame, NoFrames, read_frames
from icf_tools.derive.planes import Mismatch, Volumes, check, holds_any
from icf_tools.errors import NotFound
from icf_tools.model.progress import Progress


class NoFolder(NotFound):
    message = "no folder of DICOM at {}; give the one that the NIfTI files were made from"


class NoImages(NotFound):
    message = "no image in {} says where it lies; give the folder that the files were made from"


@dataclass(frozen=True, slots=True)
class Verified:
    """What came of one NIfTI file."""

    file: Path
    series: str = ""  #: SeriesInstanceUID; empty where no series holds it
    images: int = 0  #: that the series has
    order: str = ""  #: the element that orders the volumes; empty with one volume
    mapping: str = ""  #: SHA-256 of which image became which plane, see Match.digest
    fault: str = ""  #: empty where it is right


def verify(
    files: Sequence[Path], folder: Path, progress: Progress = lambda *_: None
) -> list[Verified]:
    """In the order of the files. Raises NoFolder and NoImages."""
    if not folder.is_dir():
        raise NoFolder(folder)
    series: dict[str, list[Frame]] = {}
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for done, path in enumerate(paths, start=1):
        for frame in _frames(path, folder):
            series.setdefault(frame.series, []).append(frame)
        progress("read", done, len(paths))
    if not series:
        raise NoImages(folder)
    loaded: dict[str, list[tuple[int, Volumes]]] = {}
    results = {}
    for number, path in enumerate(files):
        try:
            volumes = Volumes.load(path)
        except Mismatch as err:
            results[number] = Verified(path, fault=str(err.args[1]))
            continue
        # files of one name in two folders are told apart
        volumes = replace(volumes, name=str(path))
        uid = next((uid for uid, frames in series.items() if holds_any(volumes, frames)), None)
        if uid is None and len(series) == 1:
            uid = next(iter(series))
        if uid is None:
            fault = f"no image of the {len(series)} series lies in it with the same values"
            results[number] = Verified(path, fault=fault)
        else:
            loaded.setdefault(uid, []).append((number, volumes))
    for uid, group in loaded.items():
        made = Verified(Path(), series=uid, images=len({frame.path for frame in series[uid]}))
        try:
            match = check([volumes for _, volumes in group], series[uid])
            made = replace(made, order=match.order, mapping=match.digest)
        except Mismatch as err:
            made = replace(made, fault=": ".join(map(str, err.args[:2])))
        for number, _ in group:
            results[number] = replace(made, file=files[number])
    return [results[number] for number in range(len(files))]


def _frames(path: Path, folder: Path) -> Iterator[Frame]:
    try:
        yield from read_frames(str(path.relative_to(folder)), memoryview(path.read_bytes()))
    except NoFrames:
        return
