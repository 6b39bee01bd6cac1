"""The two metadata files of a visit, written and read.

in: Scan    out: <visit>_metadata_dicoms.json, <visit>_metadata_tarball.json; and back

The names and keys of the first ICF tools keep their meaning: the one file is
an array of images, the other an object about the tarball. What they did not
have is added there. docs/formats.md specifies both.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icf_tools.errors import Damaged, NotFound
from icf_tools.index.scan import Problem, Record, Scan
from icf_tools.model.dicom import FIRST_TOOLS, SERIES, Value
from icf_tools.model.visit import LATEST, StorePath, Visit

FORMAT = 1
"""Version of what is added to the keys of the first tools."""

_BASIC = ("path", "md5", "size", "offset", "original_path")
_OLD_KEYS = tuple(tag.keyword for tag in FIRST_TOOLS)
_AT_IMAGE = frozenset({*_OLD_KEYS, SERIES})


class NoMetadata(NotFound):
    message = "no metadata of visit {} in {}; make it from the tarball with icf index"


class BadMetadata(Damaged):
    message = "{} is not metadata of a visit: {}; remove it and run icf index"


@dataclass(frozen=True, slots=True)
class TarballFacts:
    """What <visit>_metadata_tarball.json says of the tarball."""

    size: int  #: bytes
    md5: str
    dataset_path: str
    store_path: str
    timestamp: int  #: seconds since 1970 of the newest member; 0 where it is not known
    series: dict[str, dict[str, Value]]  #: what all images of a series have in common
    files: tuple[Record, ...]  #: members that are not DICOM
    problems: tuple[Problem, ...]


def dicoms_json(scan: Scan) -> Iterator[bytes]:
    """The array of images, one to a line."""
    series = _common(scan.records)
    separator = b"[\n"
    for record in scan.records:
        if record.tags is None:
            continue
        tags = record.tags
        common = series.get(str(tags.get(SERIES, "")), {})
        image: dict[str, Value] = {"path": record.path, "md5": record.md5, "size": record.size}
        image |= {keyword: tags.get(keyword, "") for keyword in _OLD_KEYS}
        image |= _added(record)
        image |= {
            keyword: value
            for keyword, value in tags.items()
            if keyword in _AT_IMAGE or keyword not in common
        }
        yield separator + json.dumps(image).encode()
        separator = b",\n"
    yield b"[]\n" if separator == b"[\n" else b"\n]\n"


def tarball_json(scan: Scan, store: StorePath) -> bytes:
    """The object about the tarball."""
    files = (record for record in scan.records if record.tags is None)
    content = {
        "size": scan.size,
        "md5": scan.md5,
        "dspath": store.visit.dataset_path,
        "storepath": store.visit.store_path,
        "format": FORMAT,
        "timestamp": scan.timestamp,
        "series": {
            uid: {keyword: value for keyword, value in common.items() if keyword != SERIES}
            for uid, common in _common(scan.records).items()
        },
        "files": [
            {"path": file.path, "md5": file.md5, "size": file.size, **_added(file)}
            for file in files
        ],
        "problems": [{"path": p.path, "reason": p.reason} for p in scan.problems],
    }
    return json.dumps(content, indent=1).encode() + b"\n"


def read_tarball(store: StorePath) -> TarballFacts:
    """What is known of the tarball, also from a file of the first tools.

    Raises NoMetadata and BadMetadata.
    """
    path = store.tarball_json
    return parse_tarball(_content(path, store), path, store.visit)


def parse_tarball(data: bytes, path: object, visit: Visit) -> TarballFacts:
    """The same of the file's content; `path` is what errors call it. Raises BadMetadata."""
    content = _parsed(data, path)
    if not isinstance(content, dict):
        raise BadMetadata(path, "it is not an object")
    try:
        for key in ("dspath", "storepath"):
            _check_path(content[key], path)
        if content["storepath"] != visit.store_path:
            raise BadMetadata(path, f"it is of {content['storepath']}")
        facts = TarballFacts(
            size=_size(content["size"]),
            md5=_md5(content["md5"]),
            dataset_path=content["dspath"],
            store_path=content["storepath"],
            timestamp=_time(content.get("timestamp", 0)),
            series=dict(content.get("series", {})),
            files=tuple(_record(item, None, path) for item in content.get("files", ())),
            problems=tuple(Problem(**item) for item in content.get("problems", ())),
        )
    except KeyError as err:
        raise BadMetadata(path, f"it has no {err.args[0]!r}") from err
    except (TypeError, ValueError, AttributeError, RecursionError) as err:
        raise BadMetadata(path, "a value has the wrong type") from err
    return facts


def read_images(store: StorePath, facts: TarballFacts) -> Iterator[Record]:
    """The images in the order of the file, each with all its tags.

    Holds one image at a time. Raises NoMetadata and BadMetadata.
    """
    path = store.dicoms_json
    yield from parse_images(_content(path, store), path, facts)


def parse_images(data: bytes, path: object, facts: TarballFacts) -> Iterator[Record]:
    """The same of the file's content; `path` is what errors call it. Raises BadMetadata."""
    for item in _array(data, path):
        try:
            common = facts.series.get(item.get(SERIES, ""), {})
            yield _record(item, common, path)
        except KeyError as err:
            raise BadMetadata(path, f"an image has no {err.args[0]!r}") from err
        except (TypeError, ValueError, AttributeError, RecursionError) as err:
            raise BadMetadata(path, "a value has the wrong type") from err


def read_items(store: StorePath) -> list[dict[str, Any]]:
    """The objects of the images as they are in the file, all at once and unchecked.

    Raises NoMetadata, and BadMetadata where it is no array of objects.
    """
    items = _parsed(_content(store.dicoms_json, store), store.dicoms_json)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise BadMetadata(store.dicoms_json, "it is not an array of objects")
    return items


def _added(record: Record) -> dict[str, Value]:
    added: dict[str, Value] = {}
    if record.offset is not None:
        added["offset"] = record.offset
    if record.original_path is not None:
        added["original_path"] = record.original_path
    return added


def _common(records: Iterable[Record]) -> dict[str, dict[str, Value]]:
    """By series, the tags that every one of its images has with the same value."""
    series: dict[str, dict[str, Value]] = {}
    for record in records:
        if not record.tags or SERIES not in record.tags:
            continue
        uid = str(record.tags[SERIES])
        common = series.get(uid)
        if common is None:
            series[uid] = dict(record.tags)
        elif not common.items() <= record.tags.items():
            series[uid] = {
                keyword: value
                for keyword, value in common.items()
                if record.tags.get(keyword) == value
            }
    return dict(sorted(series.items()))


def _content(path: Path, store: StorePath) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as err:
        raise NoMetadata(store.visit, path.parent) from err


def _parsed(data: bytes, path: object) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as err:
        raise BadMetadata(path, "it is not JSON") from err


def _array(data: bytes, path: object) -> Iterator[Any]:
    """The items of a JSON array, decoded one at a time."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as err:
        raise BadMetadata(path, "it is not JSON") from err
    decode = json.JSONDecoder().raw_decode
    gap = re.compile(r"[ \t\n\r]*")

    def after_gap(position: int) -> int:
        match = gap.match(text, position)
        return position if match is None else match.end()

    position = after_gap(0)
    if text[position : position + 1] != "[":
        raise BadMetadata(path, "it is not an array")
    position = after_gap(position + 1)
    mark = "]" if text[position : position + 1] == "]" else ","
    if mark == "]":
        position = after_gap(position + 1)
    while mark == ",":
        try:
            item, position = decode(text, position)
        except (ValueError, RecursionError) as err:
            raise BadMetadata(path, "it is not JSON") from err
        yield item
        position = after_gap(position)
        mark = text[position : position + 1]
        position = after_gap(position + 1)
    if mark != "]" or position != len(text):
        raise BadMetadata(path, "it is not JSON")


def _record(item: dict[str, Any], common: dict[str, Value] | None, path: object) -> Record:
    _check_path(item["path"], path)
    own = {key: value for key, value in item.items() if key not in _BASIC}
    own = {key: value for key, value in own.items() if value not in ("", None)}
    # what is no text could not be written to git; a path may hold any bytes
    item["path"].encode("utf-8", "surrogateescape")
    for value in own.values():
        for text in value if isinstance(value, list) else [value]:
            str(text).encode("utf-8")
    offset = item.get("offset")
    return Record(
        path=item["path"],
        size=_size(item["size"]),
        offset=None if offset is None else _size(offset),
        md5=_md5(item["md5"]),
        original_path=item.get("original_path"),
        tags=None if common is None else common | own,
    )


def _check_path(text: str, path: object) -> None:
    parts = text.split("/")
    if any(part in ("", ".", "..") for part in parts) or any(char in text for char in "\0\r\n"):
        raise BadMetadata(path, f"{text!r} is not a path within the dataset")


def _time(seconds: int) -> int:
    if type(seconds) is not int or not 0 <= seconds <= LATEST:
        raise ValueError(seconds)
    return seconds


def _size(number: int) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(number)
    return number


def _md5(text: str) -> str:
    if re.fullmatch("[0-9a-f]{32}", text) is None:
        raise ValueError(text)
    return text
