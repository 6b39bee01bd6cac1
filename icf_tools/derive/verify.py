"""Hold NIfTI files against a folder of DICOM, whatever made them.

in: NIfTI files, a folder    out: Verified for each: the series it holds, or what is wrong
"""

import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from icf_tools.derive.frames import Broken, Frame, NoFrames, read_frames
from icf_tools.derive.gradients import check_gradients
from icf_tools.derive.planes import Match, check, holds_any
from icf_tools.derive.volumes import Mismatch, Volumes
from icf_tools.errors import Damaged, NotFound
from icf_tools.model.progress import Progress


class NoFolder(NotFound):
    message = "no folder of DICOM at {}; give the one that the NIfTI files were made from"


class NoFile(NotFound):
    message = "no file at {}; see how it is called"


class NoContent(NotFound):
    message = "the content of {} is not here; get it first"


class DamagedImages(Damaged):
    message = "{} images in {} cannot be read, the first is {}; get them whole, or move them away"


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
    """In the order of the files. Raises NoFolder, NoFile, NoContent, NoImages."""
    if not folder.is_dir():
        raise NoFolder(folder)
    for file in files:
        if not file.exists():
            raise NoContent(file) if file.is_symlink() else NoFile(file)
    series: dict[str, list[Frame]] = {}
    paths = list(_files(folder))
    broken = []
    for done, path in enumerate(paths, start=1):
        try:
            for frame in read_frames(str(path.relative_to(folder)), _content(path)):
                series.setdefault(frame.series, []).append(frame)
        except Broken as err:
            broken.append(f"{path.relative_to(folder)}: {err}")
        except NoFrames:
            pass
        progress("read", done, len(paths))
    if broken:
        raise DamagedImages(len(broken), folder, broken[0])
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
        uids = [uid for uid, frames in series.items() if holds_any(volumes, frames)]
        # of series with the same images, one that no other file holds
        uid = next((uid for uid in uids if uid not in loaded), next(iter(uids), None))
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
        except Mismatch as err:
            fault = ": ".join(map(str, err.args[:2]))
            results |= {
                number: replace(made, file=files[number], fault=fault) for number, _ in group
            }
            continue
        made = replace(made, order=match.order, mapping=match.digest)
        for number, volumes in group:
            fault = _fault_of_gradients(files[number], volumes, match)
            results[number] = replace(made, file=files[number], fault=fault)
    return [results[number] for number in range(len(files))]


def _fault_of_gradients(path: Path, volumes: Volumes, match: Match) -> str:
    """What is wrong with the .bval and .bvec beside a file, if they are there."""
    stem = path.name.removesuffix(".gz").removesuffix(".nii")
    beside = [path.with_name(f"{stem}{suffix}") for suffix in (".bval", ".bvec")]
    values, vectors = (
        each.read_text("ascii", "replace") if each.exists() else None for each in beside
    )
    try:
        if check_gradients(volumes, values, vectors, match):
            return ""
    except Mismatch as err:
        return ": ".join(map(str, err.args[:2]))
    return f"{volumes.name}: it has b-values, and no image tells them"


def _files(folder: Path) -> Iterator[Path]:
    """All below the folder. Raises NoContent and OSError rather than pass over one."""

    def refuse(error: OSError) -> None:
        raise error

    for root, folders, names in os.walk(folder, onerror=refuse):
        folders.sort()
        for name in sorted(names):
            path = Path(root, name)
            if path.is_symlink() and not path.exists():
                raise NoContent(path)
            if path.is_file():
                yield path


def _content(path: Path) -> memoryview:
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
