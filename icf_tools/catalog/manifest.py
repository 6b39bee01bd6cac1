"""Which shards a catalog has: search/manifest.js, and how visits come and go.

in: the Index before, Rows of visits that changed    out: the Index after, files to write
"""

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

from icf_tools.catalog.shards import Row, Shard, per_shard, read_rows, shard_of, split

FORMAT = 1
_CALL = "icf.manifest("
DATA = "data"
"""The folder of the shards, beside the manifest."""


@dataclass(frozen=True, slots=True)
class Item:
    """A shard, as the manifest tells it."""

    file: str
    boxes: str | None
    first: str  #: visit
    visits: int
    series: int
    images: int
    size: int  #: bytes of the tarballs


@dataclass(frozen=True, slots=True)
class Index:
    """The shards of a study, in the order of their visits."""

    study: str
    stamp: str  #: of what all pages depend on, beside the visits
    items: tuple[Item, ...]

    @property
    def visits(self) -> int:
        return sum(item.visits for item in self.items)

    @property
    def series(self) -> int:
        return sum(item.series for item in self.items)

    @property
    def images(self) -> int:
        return sum(item.images for item in self.items)

    @property
    def size(self) -> int:
        return sum(item.size for item in self.items)

    @property
    def files(self) -> frozenset[str]:
        """Relative to the manifest."""
        return frozenset(
            file for item in self.items for file in (item.file, item.boxes) if file is not None
        )


def manifest_text(indexes: Iterable[Index], base: str) -> bytes:
    """The script for the page; `base` leads from it to a study's catalog, with {study}."""
    studies = [
        {
            "study": index.study,
            "base": base.format(study=index.study),
            "visits": index.visits,
            "series": index.series,
            "stamp": index.stamp,
            "shards": [asdict(item) for item in index.items],
        }
        for index in indexes
    ]
    content = json.dumps({"format": FORMAT, "studies": studies}, separators=(",", ":"))
    return f"{_CALL}{content});\n".encode()


def read_index(path: Path, study: str) -> Index | None:
    """That of the study; None where there is none that can be read: all is made anew then."""
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text.removeprefix(_CALL).removesuffix(");\n"))
        if content["format"] != FORMAT:
            return None
        (found,) = (each for each in content["studies"] if each["study"] == study)
        items = tuple(Item(**item) for item in found["shards"])
        stamp = str(found["stamp"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    files = [PurePosixPath(file) for file in Index(study, stamp, items).files]
    if any(file.parts[:-1] != (DATA,) for file in files):
        return None
    if any(item.first >= after.first for item, after in pairwise(items)):
        return None
    return Index(study, stamp, items)


def index_of(study: str, stamp: str, rows: Sequence[Row]) -> tuple[Index, dict[str, bytes]]:
    """Of all rows, in the order of their visits; and the files by name."""
    files: dict[str, bytes] = {}
    items = tuple(_item(shard_of(some), files) for some in split(rows, per_shard(len(rows))))
    return Index(study, stamp, items), files


def changed(
    index: Index, changes: Mapping[str, Row | None], folder: Path
) -> tuple[Index, dict[str, bytes]]:
    """With other rows for some visits, or without them; and the files that may be new.

    The same as index_of makes of all rows, and reads only the shards that change.
    Raises OSError and ValueError where one of them is gone or broken, or all of them change.
    """
    firsts = [item.first for item in index.items]
    touched: set[int] = set()
    for visit in changes:
        place = max(bisect_right(firsts, visit) - 1, 0)
        touched.add(place)
        if place and firsts[place] == visit:  # without it the others belong to the one before
            touched.add(place - 1)
    rows: dict[str, Row] = {}
    for place in sorted(touched):
        if place < len(index.items):
            rows |= {row.visit: row for row in _read(index.items[place], folder)}
    for visit, row in changes.items():
        rows.pop(visit, None)
        if row is not None:
            rows[visit] = row
    kept = [item for place, item in enumerate(index.items) if place not in touched]
    per = per_shard(sum(item.visits for item in kept) + len(rows))
    if per != per_shard(index.visits):
        raise ValueError("other shards")
    files: dict[str, bytes] = {}
    runs = _runs(sorted(rows), [item.first for item in kept])
    made = [
        _item(shard_of(some), files) for run in runs for some in split([rows[v] for v in run], per)
    ]
    items = sorted([*kept, *made], key=lambda item: item.first)
    return Index(index.study, index.stamp, tuple(items)), files


def _runs(visits: list[str], firsts: list[str]) -> list[list[str]]:
    """Visits that no other shard lies between."""
    runs: dict[int, list[str]] = {}
    for visit in visits:
        runs.setdefault(bisect_right(firsts, visit), []).append(visit)
    return list(runs.values())


def _item(shard: Shard, files: dict[str, bytes]) -> Item:
    file = f"{DATA}/{shard.stem}.js"
    files[file] = shard.data
    boxes = None
    if shard.boxes is not None:
        boxes = f"{DATA}/{shard.boxes_stem}.js"
        files[boxes] = shard.boxes
    return Item(file, boxes, shard.first, shard.visits, shard.series, shard.images, shard.size)


def _read(item: Item, folder: Path) -> list[Row]:
    boxes = None if item.boxes is None else (folder / item.boxes).read_bytes()
    return read_rows((folder / item.file).read_bytes(), boxes)
