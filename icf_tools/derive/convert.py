"""Convert the series of a tarball to NIfTI; only what passes the plane check comes out.

in: a tarball, the Records of its members    out: Converted for each series, and its files

Each series is worked on in a folder of its own, several at a time. A converter
is never believed: whatever its exit code, its files are held against the images.
"""

import gzip
import hashlib
import mmap
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from icf_tools.archive.identity import IDENTIFYING, Identity
from icf_tools.derive import scrub
from icf_tools.derive.converters import CONVERTERS, version_of
from icf_tools.derive.frames import Broken, Frame, NoFrames, header_of, read_frames
from icf_tools.derive.gradients import check_gradients
from icf_tools.derive.planes import Match, check
from icf_tools.derive.volumes import Mismatch, Volumes
from icf_tools.dicom.header import Wanted
from icf_tools.index.scan import Record
from icf_tools.model.dicom import SERIES
from icf_tools.model.progress import Progress
from icf_tools.store.files import NoRoom

_LEVEL = 3  # of compression: 6 makes images half a percent smaller, and takes twice as long
_LARGEST_NUMBER = 99_999_999  # of a series
_IDENTIFYING = Wanted.of((), IDENTIFYING)
Status = Literal["verified", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class Series:
    """Images that belong together."""

    uid: str  #: SeriesInstanceUID
    number: int  #: SeriesNumber; 0 where there is none
    description: str  #: ProtocolName, or SeriesDescription; what is made of it tells no name
    images: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Output:
    """A file that passed."""

    path: Path  #: where it is until it is moved
    sha256: str  #: of its content, uncompressed

    @property
    def name(self) -> str:
        return self.path.name


@dataclass(frozen=True, slots=True)
class Converted:
    """What came of a series."""

    series: Series
    status: Status
    reason: str = ""  #: why it is not verified; or what was set aside
    converter: str = ""  #: name and version
    order: str = ""  #: the element that orders the volumes; empty with one volume
    mapping: str = ""  #: SHA-256 of which image became which plane, see Match.digest
    outputs: tuple[Output, ...] = ()


def series_of(records: Iterable[Record]) -> list[Series]:
    """By number and UID. Images without a SeriesInstanceUID are in none."""
    images: dict[str, list[Record]] = {}
    for record in records:
        if record.tags and SERIES in record.tags:
            images.setdefault(str(record.tags[SERIES]), []).append(record)
    found = []
    for uid, members in images.items():
        tags = members[0].tags or {}
        number = tags.get("SeriesNumber", 0)
        if not isinstance(number, int) or not 0 <= number <= _LARGEST_NUMBER:
            number = 0
        text = tags.get("ProtocolName") or tags.get("SeriesDescription") or ""
        found.append(Series(uid, number, str(text), tuple(members)))
    return sorted(found, key=lambda series: (series.number, series.uid))


def convert(
    tarball: Path,
    series: Sequence[Series],
    work: Path,
    everyone: Collection[Identity],
    *,
    jobs: int = 1,
    progress: Progress = lambda *_: None,
) -> Iterator[Converted]:
    """In the order of the series, up to `jobs` of them at a time.

    Their outputs lie in `work`, an empty folder, until the next one is asked for.
    `everyone` are the identities of all images; what tells one is in no name and no file.
    Raises NoRoom.
    """
    total = sum(len(each.images) for each in series)
    done = 0
    with tarball.open("rb") as file:
        # ends with the last image that is read from it
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def told_by(text: str) -> bool:
        return any(identity.held_by(text) for identity in everyone)

    names = _names(series, told_by)
    with ThreadPoolExecutor(jobs) as pool:

        def start(each: Series) -> Future[Converted]:
            folder = work / names[each.uid]
            folder.mkdir()
            return pool.submit(_convert, each, names[each.uid], content, folder, told_by)

        waiting = list(series)
        running: list[Future[Converted]] = []
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(start(waiting.pop(0)))
            converted = running.pop(0).result()
            yield converted
            shutil.rmtree(work / names[converted.series.uid])
            done += len(converted.series.images)
            progress("convert", done, total)


def identities(tarball: Path, records: Iterable[Record]) -> set[Identity]:
    """Of all images. Raises NoFrames where a header cannot be read again."""
    with tarball.open("rb") as file:
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    found = set()
    for record in records:
        if record.tags is not None and record.offset is not None:
            image = content[record.offset : record.offset + record.size]
            header = header_of(image, _IDENTIFYING)
            if header is not None:
                found.add(Identity.of(header))
    return found


def _names(series: Sequence[Series], told_by: Callable[[str], bool]) -> dict[str, str]:
    """By UID, what the files of a series begin with; no two are the same."""
    counts = Counter(each.number for each in series)
    names = {}
    for each in series:
        words = re.findall("[A-Za-z0-9]+", each.description)
        description = "-".join(words)[:100]
        if not each.description.isascii() or told_by(each.description) or told_by(description):
            description = ""
        digest = hashlib.sha256(each.uid.encode()).hexdigest()[:8]
        parts = [f"{each.number:03}", description, digest if counts[each.number] > 1 else ""]
        names[each.uid] = "_".join(filter(None, parts))
    return names


def _convert(
    series: Series, name: str, data: memoryview, folder: Path, told_by: Callable[[str], bool]
) -> Converted:
    frames: list[Frame] = []
    aside: Counter[str] = Counter()
    broken: list[str] = []
    classes: dict[bool, set[object]] = {True: set(), False: set()}
    source = folder / "in"
    source.mkdir()
    for number, record in enumerate(series.images):
        if record.offset is None:
            broken.append("its place in the tarball is not known")
            continue
        image = data[record.offset : record.offset + record.size]
        try:
            # a path may tell who was scanned; a number does not
            frames += read_frames(f"image {number + 1}", image)
        except Broken as err:
            broken.append(f"image {number + 1}: {err}")
        except NoFrames as err:
            aside[str(err)] += 1
            classes[False].add((record.tags or {}).get("SOPClassUID"))
        else:
            classes[True].add((record.tags or {}).get("SOPClassUID"))
            (source / f"{number:06}.dcm").write_bytes(image)
    reasons = [f"{count} images: {reason}" for reason, count in sorted(aside.items())]
    if broken:
        more = f"; and {len(broken) - 1} more" if len(broken) > 1 else ""
        return Converted(series, "failed", "; ".join([f"{broken[0]}{more}", *reasons]))
    if not frames:
        return Converted(series, "skipped", "; ".join(reasons))
    if classes[True] & classes[False]:  # it is of the same kind as those that have a place
        return Converted(series, "failed", "; ".join(reasons))
    for converter, run in CONVERTERS.items():
        made = folder / converter
        made.mkdir()
        try:
            run(source, made)
            match = _prove(made, frames)
            outputs = tuple(_outputs(made, name, told_by))
        except (Mismatch, ValueError, subprocess.TimeoutExpired) as err:
            if shutil.disk_usage(folder).free < 2 * sum(record.size for record in series.images):
                raise NoRoom(folder, "the disk is full") from err
            why = err.args[1] if isinstance(err, Mismatch) else "what it wrote cannot be read"
            reasons.append(f"{converter}: {why}")
            continue
        used, said = version_of(converter), "; ".join(reasons)
        return Converted(series, "verified", said, used, match.order, match.digest, outputs)
    return Converted(series, "failed", "; ".join(reasons))


def _prove(folder: Path, frames: Sequence[Frame]) -> Match:
    """Hold what a converter made against the images. Raises Mismatch."""
    paths = sorted(folder.glob("*.nii"))
    if not paths:
        raise Mismatch("no file", "it made no file")
    for path in paths:
        scrub.nifti(path)
    files = [Volumes.load(path) for path in paths]
    for path, file in zip(paths, files, strict=True):
        values, vectors = path.with_suffix(".bval"), path.with_suffix(".bvec")
        if values.exists() or vectors.exists():
            check_gradients(path.name, _text(values), _text(vectors), file.stored.shape[3])
    return check(files, frames)


def _text(path: Path) -> str:
    return path.read_text("ascii", "replace") if path.exists() else ""


def _outputs(folder: Path, name: str, told_by: Callable[[str], bool]) -> Iterator[Output]:
    """The files under the names that they are to have; the converter calls them `out...`."""
    volumes = {path.stem for path in folder.glob("*.nii")}
    for made in sorted(folder.iterdir()):
        if made.stem not in volumes or made.suffix not in (".nii", ".json", ".bval", ".bvec"):
            continue
        suffix = made.name.removeprefix("out")
        if not re.fullmatch("[A-Za-z0-9._-]+", suffix) or told_by(suffix):
            raise Mismatch(name, "the name of a file that it made may tell who was scanned")
        path = made.with_name(f"{name}{suffix}")
        digest = hashlib.sha256()
        if made.suffix == ".nii":
            path = path.with_suffix(".nii.gz")
            # neither name nor time: the same volume is the same file
            with (
                made.open("rb") as plain,
                path.open("wb") as packed,
                gzip.GzipFile("", "wb", _LEVEL, packed, mtime=0) as out,
            ):
                while piece := plain.read(1 << 20):
                    digest.update(piece)
                    out.write(piece)
            made.unlink()
        else:
            content = made.read_bytes()
            if made.suffix == ".json":
                content = scrub.sidecar(content, told_by)
            made.unlink()
            path.write_bytes(content)
            digest.update(content)
        yield Output(path, digest.hexdigest())
