"""The search index: what is known of the series of many visits, in small files.

in: Rows, by visit    out: Shards, each a script that hands its data to the search page; and back

A visit belongs to one shard, and which one follows from the names of the
visits alone, wherever one is added: another begins with each name whose
digest says so. docs/formats.md specifies the files.
"""

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import md5, sha256
from itertools import accumulate, pairwise
from typing import Any, TypeAlias

from icf_tools.catalog.listing import Listed, Listing
from icf_tools.model.dicom import Scalar

FORMAT = 1
_LETTERS = {"verified": "v", "unverified": "u", "skipped": "s", "failed": "f", "none": "n"}
_FEW = 2048  # visits
_PER_MM = 10  # what boxes are rounded to
_VISIT = "{visit}"  # stands for its name in the clone URL
_STEM, _PACKED = slice(10, 26), slice(29, -4)  # of icf.data("STEM","PACKED");
Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SeriesRow:
    """A series."""

    profile: str  #: values by keyword as JSON; many series have the same
    number: int  #: SeriesNumber
    images: int
    status: str  #: one letter
    boxes: tuple[int, ...]  #: 12 for each: center, then the axes; 0.1 mm, LPS


@dataclass(frozen=True, slots=True)
class Row:
    """A visit."""

    visit: str
    size: int  #: bytes of the tarball
    dates: tuple[tuple[str, tuple[str, ...]], ...]  #: values YYYYMMDD by keyword
    url: str | None  #: what `datalad clone` wants, with _VISIT for the name
    series: tuple[SeriesRow, ...]


@dataclass(frozen=True, slots=True)
class Shard:
    """Some visits whose names follow each other."""

    first: str  #: visit
    visits: int
    series: int
    images: int
    size: int  #: bytes of the tarballs
    data: bytes  #: content of the file
    boxes: bytes | None  #: content of another, which is read where a sphere is asked for

    @property
    def stem(self) -> str:
        return _stem(self.data)

    @property
    def boxes_stem(self) -> str | None:
        return None if self.boxes is None else _stem(self.boxes)


def row_of(listing: Listing, dates: Iterable[str]) -> Row:
    """What the search page knows of the visit; `dates` are the keywords that are dates."""
    found = {keyword: listing.values(keyword) for keyword in sorted(dates)}
    url = listing.clone_url
    name = listing.visit.visit
    return Row(
        visit=name,
        size=listing.facts.size,
        dates=tuple((keyword, values) for keyword, values in found.items() if values),
        # an identifier has no character that a URL quotes
        url=url and url.replace(f"/{name}_{{{{", f"/{_VISIT}_{{{{"),
        series=tuple(_series_row(each, found) for each in listing.series),
    )


def _series_row(listed: Listed, dates: Mapping[str, object]) -> SeriesRow:
    values = {
        keyword: list(each)
        for keyword, each in listed.series.values.items()
        if keyword not in dates and keyword != "SeriesNumber" and each
    }
    numbers = tuple(
        round(number * _PER_MM)
        for box in listed.boxes
        for vector in (box.center, *box.axes)
        for number in vector
    )
    letter = _LETTERS[listed.status]
    return SeriesRow(_json(values), listed.series.number, listed.series.images, letter, numbers)


def per_shard(visits: int) -> int:
    """How many visits of so many are in a shard, on average.

    Few: one more visit is quickly written. Of very many, what series have in common
    would be in each of very many shards.
    """
    return 128 if visits < _FEW else 512


def split(rows: Iterable[Row], per_shard: int) -> Iterator[list[Row]]:
    """Rows in the order of their visits, by shard."""
    some: list[Row] = []
    for row in rows:
        if some and begins_shard(row.visit, per_shard):
            yield some
            some = []
        some.append(row)
    if some:
        yield some


def begins_shard(visit: str, per_shard: int) -> bool:
    """Whether the visit is the first of its shard, whatever others there are."""
    digest = md5(visit.encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:4]) % per_shard == 0


def shard_of(rows: Sequence[Row]) -> Shard:
    """Write one. There is at least one row."""
    series = [each for row in rows for each in row.series]
    profiles = {each.profile: None for each in series}
    place = {profile: number for number, profile in enumerate(profiles)}
    urls = {row.url: None for row in rows}
    url_place = {url: number for number, url in enumerate(urls)}
    keywords = sorted({keyword for row in rows for keyword, _ in row.dates})
    dates = [dict(row.dates) for row in rows]
    columns: Json = {
        "format": FORMAT,
        "names": [row.visit for row in rows],
        "sizes": [row.size for row in rows],
        "dates": {
            keyword: [_short(found.get(keyword, ())) for found in dates] for keyword in keywords
        },
        "urls": list(urls),
        "url": [url_place[row.url] for row in rows],
        "counts": [len(row.series) for row in rows],
        "profiles": [json.loads(profile) for profile in profiles],
        "profile": [place[each.profile] for each in series],
        "number": [each.number for each in series],
        "images": [each.images for each in series],
        "status": "".join(each.status for each in series),
    }
    boxes: Json = {
        "format": FORMAT,
        "counts": [len(each.boxes) // 12 for each in series],
        "numbers": [number for each in series for number in each.boxes],
    }
    return Shard(
        first=rows[0].visit,
        visits=len(rows),
        series=len(series),
        images=sum(each.images for each in series),
        size=sum(row.size for row in rows),
        data=_script(columns, 9),
        boxes=_script(boxes, 1) if boxes["numbers"] else None,
    )


def read_rows(data: bytes, boxes: bytes | None) -> list[Row]:
    """The inverse of shard_of. Raises ValueError where the data is broken."""
    try:
        return _rows(_content(data), None if boxes is None else _content(boxes))
    except (LookupError, TypeError, AttributeError, RecursionError, zlib.error) as err:
        raise ValueError("no shard") from err


def _rows(columns: Json, boxes: Json | None) -> list[Row]:
    placed = {"counts": [0] * len(columns["profile"]), "numbers": []}
    placed = placed if boxes is None else boxes
    numbers = placed["numbers"]
    ends = list(accumulate(12 * count for count in placed["counts"]))
    profiles = [_json(profile) for profile in columns["profiles"]]
    series = list(
        map(
            SeriesRow,
            [profiles[place] for place in columns["profile"]],
            columns["number"],
            columns["images"],
            columns["status"],
            [tuple(numbers[first:last]) for first, last in pairwise([0, *ends])],
        )
    )
    last = list(accumulate(columns["counts"]))
    rows = []
    for index, visit in enumerate(columns["names"]):
        dates = ((keyword, _long(each[index])) for keyword, each in columns["dates"].items())
        rows.append(
            Row(
                visit=visit,
                size=columns["sizes"][index],
                dates=tuple((keyword, values) for keyword, values in dates if values),
                url=columns["urls"][columns["url"][index]],
                series=tuple(series[last[index] - columns["counts"][index] : last[index]]),
            )
        )
    return rows


def _short(values: tuple[str, ...]) -> str | list[str]:
    return list(values) if len(values) > 1 else next(iter(values), "")


def _long(values: str | list[str]) -> tuple[str, ...]:
    return tuple(values) if isinstance(values, list) else (values,) if values else ()


def _json(content: Mapping[str, list[Scalar]] | Json) -> str:
    return json.dumps(content, separators=(",", ":"), allow_nan=False)


def _stem(script: bytes) -> str:
    return script[_STEM].decode()


def _script(content: Json, level: int) -> bytes:
    """The data, packed: whether a web server packs what it sends is not known here."""
    packer = zlib.compressobj(level, wbits=-15)
    packed = packer.compress(_json(content).encode()) + packer.flush()
    return _call(packed)


def is_whole(script: bytes, stem: str) -> bool:
    """Whether it is the script that has this stem, and nothing else."""
    try:
        packed = b64decode(script[_PACKED], validate=True)
    except ValueError:
        return False
    return script == _call(packed) and _stem(script) == stem


def _call(packed: bytes) -> bytes:
    stem = sha256(packed).hexdigest()[:16].encode()
    return b'icf.data("%s","%s");\n' % (stem, b64encode(packed))


def _content(script: bytes) -> Json:
    content = json.loads(zlib.decompress(b64decode(script[_PACKED], validate=True), wbits=-15))
    if not isinstance(content, dict) or content["format"] != FORMAT:
        raise ValueError("another format")
    return content
