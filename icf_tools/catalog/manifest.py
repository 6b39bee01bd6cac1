"""Which shards a catalog has: search/manifest.js, and how visits come and go.

in: the Index before, Rows of visits that changed    out: the Index after, files to write
"""

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any, TypeAlias

from icf_tools.catalog.shards import Row, Shard, is_whole, per_shard, read_rows, shard_of, split
from icf_tools.model.visit import Visit

Read: TypeAlias = Callable[[str], bytes | None]
"""Gives the content of a file by its path in the folder of the manifest."""

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
    stamp: str  #: of what all pages depend on, beside the visits; empty while it is written
    items: tuple[Item, ...]
    told: str = ""  #: digest of what the study lets be told
    node: str = ""  #: digest of the node that datalad-catalog has of the study

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
            "told": index.told,
            "node": index.node,
            "shards": [asdict(item) for item in index.items],
        }
        for index in indexes
    ]
    content = json.dumps({"format": FORMAT, "studies": studies}, separators=(",", ":"))
    return f"{_CALL}{content});\n".encode()


def read_index(text: bytes | None, study: str) -> Index | None:
    """That of the study; None where there is none that can be read: all is made anew then."""
    try:
        found = (text or b"").decode().removeprefix(_CALL).removesuffix(");\n")
        content = json.loads(found)
        if content["format"] != FORMAT:
            return None
        (mine,) = (each for each in content["studies"] if each["study"] == study)
        items = tuple(map(_checked, mine["shards"]))
        if any(item.first >= after.first for item, after in pairwise(items)):
            return None
        return Index(study, str(mine["stamp"]), items, str(mine["told"]), str(mine["node"]))
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def _checked(raw: dict[str, Any]) -> Item:
    item = Item(**raw)
    files = [item.file] if item.boxes is None else [item.file, item.boxes]
    if not all(re.fullmatch(rf"{DATA}/[0-9a-f]{{16}}\.js", file) for file in files):
        raise ValueError(files)
    counts = (item.visits, item.series, item.images, item.size)
    if not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError(counts)
    if not Visit.is_name(item.first):
        raise ValueError(item.first)
    return item


def index_of(study: str, stamp: str, rows: Sequence[Row]) -> tuple[Index, dict[str, bytes]]:
    """Of all rows, in the order of their visits; and the files by name."""
    files: dict[str, bytes] = {}
    items = tuple(_item(shard_of(some), files) for some in split(rows, per_shard(len(rows))))
    return Index(study, stamp, items), files


def changed(
    index: Index, changes: Mapping[str, Row | None], read: Read
) -> tuple[Index, dict[str, bytes]]:
    """With other rows for some visits, or without them; and the files that may be new.

    The same as index_of makes of all rows, and reads only the shards that change.
    Raises ValueError where one of them is gone or broken, or all of them change.
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
            rows |= {row.visit: row for row in _read(index.items[place], read)}
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
    return replace(index, items=tuple(items)), files


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


def read_shard(read: Read, name: str) -> bytes:
    """The script of this name. Raises ValueError where it is not there, or is another one."""
    script = read(name)
    if script is None or not is_whole(script, PurePosixPath(name).stem):
        raise ValueError(name)
    return script


def _read(item: Item, read: Read) -> list[Row]:
    boxes = None if item.boxes is None else read_shard(read, item.boxes)
    return read_rows(read_shard(read, item.file), boxes)
