"""Make files of the series of a tarball; only what passes the plane check comes out.

in: a tarball, the Records of its members    out: Converted for each series, and its files

Each series is worked on in a folder of its own, several at a time. A converter
is never believed: whatever its exit code, its files are held against the images.
"""

import hashlib
import mmap
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from icf_tools.archive.identity import IDENTIFYING, Identity
from icf_tools.derive import scrub
from icf_tools.derive.asked import Asked
from icf_tools.derive.children import stopped
from icf_tools.derive.converters import CONVERTERS, version_of
from icf_tools.derive.files import File, minc_files, nifti_files, preview_files, stems
from icf_tools.derive.frames import Broken, Frame, NoFrames, NoGeometry, header_of, read_frames
from icf_tools.derive.gradients import check_gradients
from icf_tools.derive.planes import Match, check
from icf_tools.derive.report import Entry, Status, Target
from icf_tools.derive.volumes import Mismatch, Volumes
from icf_tools.dicom.header import Wanted
from icf_tools.index.scan import Record
from icf_tools.model.dicom import SERIES
from icf_tools.model.progress import Progress
from icf_tools.store.files import NoRoom

_LARGEST_NUMBER = 99_999_999  # of a series
_BURNED_IN = 0x00280301
_TELLING = Wanted.of((), {**IDENTIFYING, _BURNED_IN: "CS"})


class WrongGradients(Mismatch):
    """The volumes are right, and their b-values or b-vectors are not."""


@dataclass(frozen=True, slots=True)
class Series:
    """Images that belong together."""

    uid: str  #: SeriesInstanceUID
    number: int  #: SeriesNumber; 0 where there is none
    descriptions: tuple[str, ...]  #: ProtocolName, SeriesDescription; the first may tell a name
    images: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Converted:
    """What came of a series, and its files where they are until they are moved."""

    entry: Entry  #: its outputs are still to be told
    files: tuple[File, ...] = ()


def series_of(records: Iterable[Record], deny: Collection[str] = ()) -> list[Series]:
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
        told = [tags.get(key) for key in ("ProtocolName", "SeriesDescription") if key not in deny]
        texts = tuple(str(text) for text in told if text)
        found.append(Series(uid, number, texts, tuple(members)))
    return sorted(found, key=lambda series: (series.number, series.uid))


def convert(
    tarball: Path,
    series: Sequence[Series],
    asked: Asked,
    work: Path,
    names: dict[str, str],
    telling: "Telling",
    *,
    jobs: int = 1,
    progress: Progress = lambda *_: None,
) -> Iterator[Converted]:
    """In the order of the series, up to `jobs` of them at a time.

    Their files lie in `work`, an empty folder, until the next one is asked for.
    `names` is what the files of each begin with; what is `telling` is in no name and
    no file. Raises NoRoom, Stopped.
    """
    total = sum(len(each.images) for each in series)
    done = 0
    with tarball.open("rb") as file:
        # ends with the last image that is read from it
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    pool = ThreadPoolExecutor(jobs)
    try:

        def start(each: Series) -> Future[Converted]:
            folder = work / names[each.uid]
            folder.mkdir()
            name = names[each.uid]
            return pool.submit(_convert, each, name, asked, content, folder, telling)

        waiting = list(series)
        running: list[Future[Converted]] = []
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(start(waiting.pop(0)))
            converted = running.pop(0).result()
            yield converted
            shutil.rmtree(work / names[converted.entry.uid])
            done += converted.entry.images
            progress("convert", done, total)
    except BaseException:
        with stopped(work):
            pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()


@dataclass(frozen=True, slots=True)
class Telling:
    """What may tell who was scanned."""

    people: frozenset[Identity]
    burned_in: frozenset[str]  #: UIDs of series with images that say so, see BurnedInAnnotation

    @classmethod
    def of(cls, tarball: Path, records: Iterable[Record]) -> "Telling":
        """Of all images. Raises NoFrames where a header cannot be read again."""
        with tarball.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        people, burned_in = set(), set()
        for record in records:
            if record.tags is not None and record.offset is not None:
                image = content[record.offset : record.offset + record.size]
                header = header_of(image, _TELLING)
                if header is not None:
                    people.add(Identity.of(header))
                    if header.text(_BURNED_IN) == "YES":
                        burned_in.add(str(record.tags.get(SERIES)))
        return cls(frozenset(people), frozenset(burned_in))

    def by(self, text: str) -> bool:
        """Whether the text tells it."""
        return any(each.held_by(text) for each in self.people)


def names_of(series: Sequence[Series], told_by: Callable[[str], bool]) -> dict[str, str]:
    """By UID, what the files of a series begin with; no two are the same."""
    counts = Counter(each.number for each in series)
    names = {}
    for each in series:
        plain = (_plain(text, told_by) for text in each.descriptions)
        description = next(filter(None, plain), "")
        digest = hashlib.sha256(each.uid.encode()).hexdigest()[:8]
        parts = [f"{each.number:03}", description, digest if counts[each.number] > 1 else ""]
        names[each.uid] = "_".join(filter(None, parts))
    return names


def _plain(text: str, told_by: Callable[[str], bool]) -> str:
    """As part of a file's name; nothing where it could tell who was scanned."""
    name = "-".join(re.findall("[A-Za-z0-9]+", text))[:100]
    return "" if not text.isascii() or told_by(text) or told_by(name) else name


@dataclass(slots=True)
class _Images:
    """What the images of a series hold."""

    frames: list[Frame] = field(default_factory=list)
    aside: Counter[str] = field(default_factory=Counter)  #: why images have no place
    broken: list[str] = field(default_factory=list)
    unplaced: bool = False  #: whether some of those may be volumes all the same
    mixed: bool = False  #: whether some of those are of the same kind as those with a place

    @property
    def reasons(self) -> list[str]:
        return [f"{count} images: {reason}" for reason, count in sorted(self.aside.items())]


def _read(series: Series, data: memoryview, source: Path) -> _Images:
    """The frames of all images; those that have some are files in `source`, too."""
    images = _Images()
    classes: dict[bool, set[object]] = {True: set(), False: set()}
    for number, record in enumerate(series.images):
        # a path may tell who was scanned; a number does not
        name = f"image {number + 1}"
        if record.offset is None:
            images.broken.append(f"{name}: its place in the tarball is not known")
            continue
        image = data[record.offset : record.offset + record.size]
        try:
            images.frames += read_frames(name, image)
        except Broken as err:
            images.broken.append(f"{name}: {err}")
        except NoFrames as err:
            images.aside[str(err)] += 1
            images.unplaced |= isinstance(err, NoGeometry)
            classes[False].add((record.tags or {}).get("SOPClassUID"))
        else:
            classes[True].add((record.tags or {}).get("SOPClassUID"))
            (source / f"{number:06}.dcm").write_bytes(image)
    images.mixed = bool(classes[True] & classes[False])
    return images


def _convert(
    series: Series,
    name: str,
    asked: Asked,
    data: memoryview,
    folder: Path,
    telling: Telling,
) -> Converted:
    source = folder / "in"
    source.mkdir()
    images = _read(series, data, source)
    reasons = images.reasons
    entry = Entry(series.uid, series.number, len(series.images), "failed")
    # what may come out otherwise with other tools
    tools = {str(each): tuple(sorted(asked.all_tools(each))) for each in asked.converted}
    entry = replace(entry, tools=tools)
    if images.broken:
        more = f"; and {len(images.broken) - 1} more" if len(images.broken) > 1 else ""
        return Converted(replace(entry, reason="; ".join([images.broken[0] + more, *reasons])))
    if not images.frames:
        status: Status = "unverified" if images.unplaced else "skipped"
        return Converted(replace(entry, status=status, reason="; ".join(reasons)))
    decoded = sum(frame.stored.nbytes for frame in images.frames)
    _check_room(folder, 2 * decoded)
    tries = [] if images.mixed else [(each, True) for each in asked.converters]
    while tries:
        converter, with_gradients = tries.pop(0)
        made = folder / converter
        try:
            if with_gradients:
                made.mkdir()
                CONVERTERS[converter](source, made)
            match = _prove(made, images.frames, with_gradients)
            names = stems(made, name, telling.by)
            files, lacking = _files(names, asked, images.frames, telling)
        except subprocess.TimeoutExpired:
            reasons.append(f"{converter}: it took too long")
            entry = replace(entry, tools={})  # it may be in time the next time
            continue
        except (Mismatch, ValueError) as err:
            # what a full disk did has been removed again
            _check_room(folder, 4 * decoded, err)
            why = err.args[1] if isinstance(err, Mismatch) else "what it wrote cannot be read"
            reasons.append(f"{converter}: {why}")
            if isinstance(err, WrongGradients):  # the volumes are right, and the last resort
                tries.append((converter, False))
            continue
        if Target.MINC in lacking:
            _check_room(folder, 4 * decoded)
        if Target.PREVIEW in asked.targets and series.uid in telling.burned_in:
            lacking[str(Target.PREVIEW)] = "an image says that text is burned into it"
            files = [file for file in files if file.made.target != Target.PREVIEW]
        version = version_of(converter)
        entry = replace(
            entry,
            status="verified",
            reason="; ".join(reasons),
            converter=version,
            order=match.order,
            mapping=match.digest,
            tools={str(each): asked.tools(each, version) for each in asked.converted},
            lacking=lacking,
        )
        return Converted(entry, tuple(files))
    return Converted(replace(entry, reason="; ".join(reasons)))


def _files(
    names: dict[Path, str],
    asked: Asked,
    frames: Sequence[Frame],
    telling: Telling,
) -> tuple[list[File], dict[str, str]]:
    """The files, and why a target has none."""
    files: list[File] = []
    lacking = {}
    if Target.PREVIEW in asked.targets:
        for path, stem in names.items():
            files += preview_files(path, stem, asked.settled.windows)
    if Target.MINC in asked.targets:
        try:
            files += minc_files(names, frames)
        except Mismatch as err:
            lacking[str(Target.MINC)] = str(err.args[1])
    if Target.NIFTI in asked.targets:
        for path, stem in names.items():
            files += nifti_files(path, stem, telling.by, asked.settled.deny)
    return files, lacking


def _check_room(folder: Path, size: int, error: Exception | None = None) -> None:
    """See that it is not for want of room that something fails. Raises NoRoom."""
    if shutil.disk_usage(folder).free < size:
        raise NoRoom(folder, "the disk is full") from error


def _prove(folder: Path, frames: Sequence[Frame], with_gradients: bool = True) -> Match:
    """Hold what a converter made against the images. Raises Mismatch.

    Raises WrongGradients where it is right but for these; without them they are removed.
    """
    paths = sorted(folder.glob("*.nii"))
    if not paths:
        raise Mismatch("no file", "it made no file")
    for path in paths:
        scrub.nifti(path)
    files = [Volumes.load(path) for path in paths]
    match = check(files, frames)
    for path, file in zip(paths, files, strict=True):
        beside = path.with_suffix(".bval"), path.with_suffix(".bvec")
        values, vectors = map(_text, beside)
        try:
            kept = with_gradients and check_gradients(file, values, vectors, match)
        except Mismatch as err:
            raise WrongGradients(*err.args) from err
        for gradients in () if kept else beside:
            gradients.unlink(missing_ok=True)  # the volumes are right without
    return match


def _text(path: Path) -> str | None:
    return path.read_text("ascii", "replace") if path.exists() else None
