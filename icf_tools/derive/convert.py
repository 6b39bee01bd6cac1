"""Convert the series of a tarball to NIfTI; only what passes the plane check comes out.

in: a tarball, the Records of its members    out: Converted for each series, and its files

Each series is worked on in a folder of its own, several at a time. A converter
is never believed: whatever its exit code, its files are held against the images.
"""

import gzip
import hashlib
import mmap
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from icf_tools.archive.identity import IDENTIFYING, Identity
from icf_tools.derive import scrub
from icf_tools.derive.frames import Frame, NoFrames, header_of, read_frames
from icf_tools.derive.gradients import check_gradients
from icf_tools.derive.planes import Match, Mismatch, Volumes, check
from icf_tools.dicom.header import Wanted
from icf_tools.index.scan import Record
from icf_tools.model.dicom import SERIES
from icf_tools.model.progress import Progress

_LEVEL = 3  # of compression: 6 makes images half a percent smaller, and takes twice as long
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
        text = tags.get("ProtocolName") or tags.get("SeriesDescription") or ""
        found.append(
            Series(uid, number if isinstance(number, int) else 0, str(text), tuple(members))
        )
    return sorted(found, key=lambda series: (series.number, series.uid))


def convert(
    tarball: Path,
    series: Sequence[Series],
    work: Path,
    *,
    jobs: int = 1,
    progress: Progress = lambda *_: None,
) -> Iterator[Converted]:
    """In the order of the series, up to `jobs` of them at a time.

    Their outputs lie in `work`, an empty folder, until the next one is asked for.
    """
    total = sum(len(each.images) for each in series)
    done = 0
    with tarball.open("rb") as file:
        # ends with the last image that is read from it
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    identities = {each.uid: _identity(each, content) for each in series}
    names = _names(series, identities)
    with ThreadPoolExecutor(jobs) as pool:

        def start(each: Series) -> Future[Converted]:
            folder = work / names[each.uid]
            folder.mkdir()
            identity = identities[each.uid]
            return pool.submit(_convert, each, names[each.uid], content, folder, identity)

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


def _identity(series: Series, content: memoryview) -> Identity:
    """Who is in it; what tells that is in no name and no file."""
    record = series.images[0]
    start = record.offset or 0
    header = header_of(content[start : start + record.size], _IDENTIFYING)
    return Identity("", "", "") if header is None else Identity.of(header)


def _names(series: Sequence[Series], identities: Mapping[str, Identity]) -> dict[str, str]:
    """By UID, what the files of a series begin with; no two are the same."""
    plain = {}
    for each in series:
        told = identities[each.uid].held_by(each.description)
        words = re.findall("[A-Za-z0-9]+", "" if told else each.description)
        plain[each.uid] = "_".join(filter(None, [f"{each.number:03}", "-".join(words)[:100]]))
    counts = Counter(name.lower() for name in plain.values())
    return {
        uid: name
        if counts[name.lower()] == 1
        else f"{name}_{hashlib.sha256(uid.encode()).hexdigest()[:8]}"
        for uid, name in plain.items()
    }


def _convert(
    series: Series, name: str, data: memoryview, folder: Path, identity: Identity
) -> Converted:
    frames: list[Frame] = []
    aside: Counter[str] = Counter()
    source = folder / "in"
    source.mkdir()
    for number, record in enumerate(series.images):
        if record.offset is None:
            aside["its place in the tarball is not known"] += 1
            continue
        image = data[record.offset : record.offset + record.size]
        try:
            frames += read_frames(record.path, image)
        except NoFrames as err:
            aside[str(err)] += 1
        else:
            (source / f"{number:06}.dcm").write_bytes(image)
    reasons = [f"{count} images: {reason}" for reason, count in sorted(aside.items())]
    if not frames:
        return Converted(series, "skipped", "; ".join(reasons))
    for converter, run in CONVERTERS.items():
        made = folder / converter
        made.mkdir()
        try:
            run(source, made)
            match = _prove(made, frames)
        except Mismatch as err:
            reasons.append(f"{converter}: {err.args[1]}")
            continue
        outputs = tuple(_outputs(made, name, identity))
        used, said = _version(converter), "; ".join(reasons)
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


def _outputs(folder: Path, name: str, identity: Identity) -> Iterator[Output]:
    """The files under the names that they are to have; the converter calls them `out...`."""
    for made in sorted(folder.iterdir()):
        path = made.with_name(f"{name}{made.name.removeprefix('out')}")
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
                content = scrub.sidecar(content, identity)
            made.unlink()
            path.write_bytes(content)
            digest.update(content)
        yield Output(path, digest.hexdigest())


def _dcm2niix(source: Path, made: Path) -> None:
    import dcm2niix

    # -g i: no settings of the user; -ba y: anonymous; -p n: the slope that DICOM has
    options = ["-g", "i", "-b", "y", "-ba", "y", "-z", "n", "-p", "n", "-f", "out"]
    done = subprocess.run(
        [dcm2niix.bin, *options, "-o", str(made), str(source)],
        env={"PATH": os.defpath, "HOME": str(made), "LC_ALL": "C", "TZ": "UTC"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    for path in made.iterdir():
        # what it resampled beside the volume is no image any more
        if re.search("_(Eq|Tilt)(_|\\.)", path.name):
            path.unlink()
    if not any(made.glob("*.nii")):
        raise Mismatch("no file", f"it made no file (exit code {done.returncode})")


CONVERTERS: dict[str, Callable[[Path, Path], None]] = {"dcm2niix": _dcm2niix}
"""What is tried, in this order: each writes out*.nii, and what belongs to them."""


def _version(converter: str) -> str:
    from importlib.metadata import version

    return f"{converter} {version(converter)}"
