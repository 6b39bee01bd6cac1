"""What the pages tell of a visit, gathered from its files.

in: the files of a visit in the store    out: Listing

URLs are relative to a page in the folder catalog/view, so that they hold
wherever the store is served, and from file://.
"""

import gzip
import json
import struct
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from operator import mul
from pathlib import Path
from urllib.parse import quote

from icf_tools.dataset.versions import Version, read_versions
from icf_tools.derive.report import Entry, Made, Report, Target, read_report
from icf_tools.index.records import TarballFacts, read_tarball
from icf_tools.index.series import PLACE, Box, Series, Vector, read_series
from icf_tools.model.key import extension, key_file
from icf_tools.model.visit import StorePath, Visit
from icf_tools.settings import Settings

_NAMING = frozenset(["SeriesNumber", "ProtocolName", "SeriesDescription"])
_DATING = frozenset(["StudyDate", "StudyTime"])
NOT_DERIVED = "none"
"""Status of a series that nothing was made of yet; else see derive.report.Status."""


@dataclass(frozen=True, slots=True)
class Output:
    """A derived file that is in the store."""

    path: str  #: in the dataset
    url: str
    size: int  #: bytes
    alias: str = ""  #: a name that tells nothing

    @property
    def name(self) -> str:
        return self.alias or self.path.rpartition("/")[2]

    @property
    def target(self) -> str:
        """The folder that it is in: nifti, minc, preview or bids."""
        return self.path.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Preview:
    """Pictures of a NIfTI file, see derive.preview."""

    montage: Output
    thumbnail: Output
    width: int  #: px of the montage
    height: int
    plane: str  #: axial, coronal or sagittal
    edges: Mapping[str, str]  #: letter of the patient's side by left, right, top, bottom
    window: tuple[float, float]  #: real values that are black and white


@dataclass(frozen=True, slots=True)
class Volume:
    """A NIfTI file, with the pictures of it where there are some."""

    file: Output
    preview: Preview | None


@dataclass(frozen=True, slots=True)
class Listed:
    """A series, and what came of it."""

    anchor: str  #: unique in the visit; the number of the series as a rule
    series: Series
    status: str  #: of derive.report.Entry, or NOT_DERIVED
    reason: str
    lacking: Mapping[str, str]  #: why a target has no file of it
    outputs: tuple[Output, ...]
    volumes: tuple[Volume, ...]
    boxes: tuple[Box, ...]  #: mm, LPS

    @property
    def description(self) -> str:
        """The first that is there of SeriesDescription, ProtocolName."""
        series = self.series
        return str(series.first("SeriesDescription") or series.first("ProtocolName"))


@dataclass(frozen=True, slots=True)
class Listing:
    """A visit."""

    visit: Visit
    facts: TarballFacts
    series: tuple[Listed, ...]
    versions: tuple[Version, ...]  #: of the dataset, the oldest first; none where not on record
    clone_url: str | None  #: None where no deposit URL is known
    links: Mapping[str, str]  #: relative URL by file name: tarball, md5sum, metadata; those there
    timestamp: int = 0  #: seconds since 1970 of the newest image; 0 where it is not to be told

    @property
    def images(self) -> int:
        return sum(each.series.images for each in self.series)

    @property
    def dates(self) -> tuple[str, ...]:
        """StudyDate of its images, YYYYMMDD."""
        return self.values("StudyDate")

    def values(self, keyword: str) -> tuple[str, ...]:
        """Of all its series, as text."""
        found = {
            str(value) for each in self.series for value in each.series.values.get(keyword, ())
        }
        return tuple(sorted(found))


def list_visit(store: StorePath, settings: Settings, deposit_url: str | None) -> Listing:
    """Read what the store has of the visit.

    Nothing is told of elements that the settings do not name, and no pictures are shown
    unless they allow it. Raises NoMetadata, BadMetadata, BadReport and BadVersions.
    """
    told = frozenset(tag.keyword for tag in settings.tags)
    tells = _Tells(told.issuperset(PLACE), told.issuperset(_NAMING), settings.previews)
    facts = read_tarball(store)
    report = read_report(store.series_json) or Report(facts.md5)
    versions = read_versions(store.versions_json)
    if deposit_url is None and versions:
        deposit_url = versions[-1].deposit_url
    entries = report.by_uid if report.tarball_md5 == facts.md5 else {}
    there = _files_in(store.annex)
    found = read_series(store, facts, settings.tags)
    anchors = _anchors(found)
    return Listing(
        visit=store.visit,
        facts=facts,
        series=tuple(
            _listed(store, anchor, series, entries.get(series.uid), there, tells)
            for anchor, series in zip(anchors, found, strict=True)
        ),
        versions=versions,
        clone_url=None if deposit_url is None else store.visit.clone_url(deposit_url),
        links={file.name: f"../../{quote(file.name)}" for file in store.files if file.exists()},
        timestamp=facts.timestamp if told.issuperset(_DATING) else 0,
    )


@dataclass(frozen=True, slots=True)
class _Tells:
    """What the study lets be told."""

    place: bool  #: of images
    names: bool  #: of files; they are made of elements
    pictures: bool


def _files_in(annex: Path) -> frozenset[str]:
    try:
        return frozenset(path.name for path in annex.iterdir())
    except FileNotFoundError:
        return frozenset()


def _anchors(found: Collection[Series]) -> list[str]:
    """The numbers of the series; one that several have gets -2, -3 behind it."""
    seen: Counter[int] = Counter()
    anchors = []
    for series in found:
        seen[series.number] += 1
        times = seen[series.number]
        anchors.append(str(series.number) if times == 1 else f"{series.number}-{times}")
    return anchors


def _listed(
    store: StorePath,
    anchor: str,
    series: Series,
    entry: Entry | None,
    there: frozenset[str],
    tells: _Tells,
) -> Listed:
    if entry is None:
        return Listed(anchor, series, NOT_DERIVED, "", {}, (), (), series.boxes)
    made = {each.path: each for each in entry.outputs if key_file(each.key) in there}
    if not tells.pictures:
        made = {path: each for path, each in made.items() if each.target != Target.PREVIEW}
    aliases = dict.fromkeys(made, "") if tells.names else _aliases(anchor, made)
    outputs = {path: _output(store, each, aliases[path]) for path, each in made.items()}
    volumes = tuple(
        Volume(output, _preview(store, path, made, outputs))
        for path, output in outputs.items()
        if output.target == Target.NIFTI and path.endswith((".nii", ".nii.gz"))
    )
    return Listed(
        anchor=anchor,
        series=series,
        status=entry.status,
        reason=entry.reason,
        lacking=entry.lacking,
        outputs=tuple(outputs.values()),
        volumes=volumes,
        boxes=series.boxes or tuple(_boxes(store, made, volumes) if tells.place else ()),
    )


def _aliases(anchor: str, paths: Iterable[str]) -> dict[str, str]:
    """By path, names of a series' files that are made of its number alone."""
    aliases: dict[str, str] = {}
    for path in paths:
        target, end = path.partition("/")[0], extension(path)
        alias = f"{anchor}_{target}{end}"
        while alias in aliases.values():
            alias = f"{alias.removesuffix(end)}-{len(aliases) + 1}{end}"
        aliases[path] = alias
    return aliases


def _output(store: StorePath, made: Made, alias: str) -> Output:
    url = f"../../{quote(store.annex.name)}/{quote(key_file(made.key))}"
    return Output(made.path, url, made.size, alias)


def _preview(
    store: StorePath, nifti: str, made: Mapping[str, Made], outputs: Mapping[str, Output]
) -> Preview | None:
    """What was drawn of a NIfTI file; None where something of it is missing or broken."""
    stem = nifti.rpartition("/")[2].removesuffix(".gz").removesuffix(".nii")
    montage, thumbnail, text = (
        f"{Target.PREVIEW}/{stem}{end}" for end in (".webp", "_thumb.webp", ".json")
    )
    try:
        content = json.loads((store.annex / key_file(made[text].key)).read_bytes())
        window = content["window"]
        json.dumps(content, ensure_ascii=False, allow_nan=False).encode()  # all of it can be shown
        return Preview(
            montage=outputs[montage],
            thumbnail=outputs[thumbnail],
            width=int(content["montage"]["width"]),
            height=int(content["montage"]["height"]),
            plane=str(content["plane"]),
            edges={
                side: str(content["edges"][side]) for side in ("left", "right", "top", "bottom")
            },
            window=(float(window["low"]), float(window["high"])),
        )
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
        return None


def _boxes(
    store: StorePath, made: Mapping[str, Made], volumes: Collection[Volume]
) -> Iterator[Box]:
    """Of NIfTI files, where the images do not tell, as mosaics and enhanced ones do not."""
    for volume in volumes:
        path = store.annex / key_file(made[volume.file.path].key)
        try:
            yield _box_of(path)
        except (OSError, EOFError, ValueError, zlib.error, struct.error):
            continue


def _box_of(nifti: Path) -> Box:
    """Of its header. Source: NIfTI-1, nifti1.h: dim at byte 40, the sform at 280; RAS."""
    with (gzip.open if nifti.suffix == ".gz" else open)(nifti, "rb") as file:
        header = file.read(348)
    dim = struct.unpack_from("<8h", header, 40)
    rows = [struct.unpack_from("<4f", header, start) for start in (280, 296, 312)]
    if not all(map(isfinite, (number for row in rows for number in row))) or min(dim[1:4]) < 1:
        raise ValueError(nifti)
    x, y, z = (
        [sign * number for number in row] for sign, row in zip((-1, -1, 1), rows, strict=True)
    )  # LPS

    def vector(*weights: float) -> Vector:
        """Sum of the columns by their weights."""
        p, q, r = (sum(map(mul, row, weights)) for row in (x, y, z))
        return p, q, r

    a, b, c = dim[1:4]
    center = vector((a - 1) / 2, (b - 1) / 2, (c - 1) / 2, 1)
    return Box(center, (vector(a / 2, 0, 0, 0), vector(0, b / 2, 0, 0), vector(0, 0, c / 2, 0)))
