"""The nodes of datalad-catalog: what its page shows of a study and of its visits.

in: Listing, Brand    out: JSON objects, each with its place below the catalog's folder

They are what its own `catalog_add` makes of the same values, which a test compares. That
takes ten times as long, cannot replace a visit and has no lock.

The page shows all strings as text but a description that is a list, and texts in Markdown;
there are none here. So nothing is escaped.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import md5
from pathlib import PurePosixPath
from shlex import quote
from typing import Any, TypeAlias
from uuid import UUID, uuid5

from icf_tools.catalog.listing import NOT_DERIVED, Listed, Listing
from icf_tools.catalog.pages import date, number, numbers, size
from icf_tools.dataset.versions import tree
from icf_tools.model.brand import Brand
from icf_tools.model.key import AnnexKey
from icf_tools.model.visit import Visit

Node: TypeAlias = dict[str, Any]

METADATA = PurePosixPath("metadata")
HOME = METADATA / "super.json"
STUDY_VERSION = "latest"
"""Always the same, so that the study stays where it is; the page shows 7 characters."""

_NAMESPACE = UUID("5b7f43f5-1c8e-4b86-9d0c-0f6f2f1c9a51")
_SOURCE = "icf_tools"
_SOURCE_VERSION = "1"  # of these nodes; that of the package would change all with each release
_SPLIT = 3  # SPLIT_INDEX of the page
_MASTER = "master"
_KEYWORDS = 20
_LONG_KEYWORD = 40  # characters
_LONG = 200
_UNMAPPED = ("type", "dataset_id", "dataset_version", "children", "metadata_sources")
"""Keys of which catalog_add does not say where they are from."""

# What is no character to see, and what turns the direction of the text behind it.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


@dataclass(frozen=True, slots=True)
class File:
    """A file of a visit's dataset."""

    path: str
    size: int | None  #: bytes
    url: str = ""  #: relative to the catalog's folder; empty where it cannot be fetched singly


def study_id(study: str) -> str:
    """What the page knows the study by; no visit has the same, as these have a slash."""
    return str(uuid5(_NAMESPACE, study))


def visit_id(visit: Visit) -> str:
    """Its nodes of all versions are in the folder METADATA / visit_id."""
    return str(uuid5(_NAMESPACE, str(visit)))


def visit_version(listing: Listing) -> str:
    """The commit that a clone has; without one on record the digest of the tarball."""
    if listing.versions:
        return listing.versions[-1].commits[_MASTER]
    return listing.facts.md5


def node_path(dataset_id: str, version: str, directory: str = "") -> PurePosixPath:
    """Where the node of a dataset, or of a directory in it, lies below the catalog's folder."""
    name = f"{dataset_id}-{version}-{directory}" if directory else f"{dataset_id}-{version}"
    digest = md5(name.encode(), usedforsecurity=False).hexdigest()
    return METADATA / dataset_id / version / digest[:_SPLIT] / f"{digest[_SPLIT:]}.json"


def node_text(node: Mapping[str, Any]) -> bytes:
    """The content of the file."""
    return json.dumps(node, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def home(study: str) -> Node:
    """The content of HOME: which dataset the page begins with."""
    return {"dataset_id": study_id(study), "dataset_version": STUDY_VERSION}


def study_node(study: str, brand: Brand, entries: Iterable[Node]) -> Node:
    """The home page: all visits, by name. Of a node made before, entries are `subdatasets`."""
    entries = sorted(entries, key=lambda entry: str(entry["dataset_path"]))
    counts = Counter(keyword for entry in entries for keyword in entry["keywords"])
    frequent = sorted(counts, key=lambda keyword: (-counts[keyword], keyword))
    images, total = (sum(entry[key] for entry in entries) for key in ("images", "size"))
    dataset = {
        "type": "dataset",
        "dataset_id": study_id(study),
        "dataset_version": STUDY_VERSION,
        "name": brand.name or study,
        "description": brand.description or f"The visits of study {study}.",
        "authors": [],
        "keywords": frequent[:_KEYWORDS],
        "subdatasets": entries,
        "top_display": _pills(Visits=number(len(entries)), Images=number(images), Size=size(total)),
        "children": [
            {"type": "dataset", "name": entry["dataset_path"]}
            | {key: entry[key] for key in ("dataset_id", "dataset_version")}
            for entry in entries
        ],
    }
    time = max((entry["source_time"] for entry in entries), default=0)
    return dataset | _sources(time, dataset)


def visit_entry(listing: Listing) -> Node:
    """What the study's node says of a visit: all that the list of visits shows."""
    visit = listing.visit
    return {
        "dataset_id": visit_id(visit),
        "dataset_version": visit_version(listing),
        "dataset_path": visit.visit,
        "dirs_from_path": [visit.visit],
        "name": visit.visit,
        "authors": [],  # the page's filter fails without
        "keywords": _keywords(listing),
        "source_time": listing.timestamp,
        "images": listing.images,
        "size": listing.facts.size,
    }


def visit_node(listing: Listing, files: Iterable[File] = ()) -> Node:
    """The page of a visit; with its files, also the first level of its content."""
    visit = listing.visit
    outputs = sum(len(each.outputs) for each in listing.series)
    dataset: Node = {
        "type": "dataset",
        "dataset_id": visit_id(visit),
        "dataset_version": visit_version(listing),
        "name": visit.visit,
        "description": _description(listing),
        "authors": [],
        "keywords": _keywords(listing),
        "top_display": _pills(
            Date=", ".join(map(date, listing.dates)),
            Tarball=size(listing.facts.size),
            Series=number(len(listing.series)),
            Images=number(listing.images),
            **{"Derived files": number(outputs)} if outputs else {},
        ),
        "additional_display": [
            {"name": "DICOM", "icon": "fas fa-magnet", "content": _dicom(listing)}
        ],
        "icf_page": {"name": "See series and pictures", "url": f"view/{visit.visit}.html"},
        "children": _tree(listing, files).get("", []),
    }
    if listing.clone_url is not None:
        # The page writes it behind `datalad clone`. A shell would split it at each &, and
        # what is cloned then is empty.
        dataset["url"] = f"{quote(listing.clone_url)} {quote(visit.visit)}"
    return dataset | _sources(listing.timestamp, dataset)


def content_nodes(listing: Listing, files: Iterable[File]) -> Iterator[tuple[PurePosixPath, Node]]:
    """The directories of a visit's dataset, with what is in each."""
    names = {"dataset_id": visit_id(listing.visit), "dataset_version": visit_version(listing)}
    for path, children in sorted(_tree(listing, files).items()):
        if path:
            node = {"type": "directory", "path": path, "name": path.rpartition("/")[2]}
            place = node_path(names["dataset_id"], names["dataset_version"], path)
            yield place, node | names | {"children": children}


def dataset_files(listing: Listing, items: Iterable[Mapping[str, Any]]) -> tuple[File, ...]:
    """All files of a visit's dataset, by path; items are those of index.records.read_items."""
    facts = listing.facts
    paths = ((str(item["path"]), item["size"]) for item in items)
    files = {path: File(_text(path), each) for path, each in paths}
    files |= {each.path: File(_text(each.path), each.size) for each in facts.files}
    for path, key in tree(listing.versions).items():
        files[path] = File(_text(path), AnnexKey.parse(key).size)
    outputs = (output for each in listing.series for output in each.outputs)
    for output in outputs:
        files[output.path] = File(_text(output.path), output.size, _from_catalog(output.url))
    tarball = listing.links.get(facts.store_path.rpartition("/")[2])
    url = "" if tarball is None else _from_catalog(tarball)
    files[facts.dataset_path] = File(facts.dataset_path, facts.size, url)
    return tuple(files[path] for path in sorted(files))


def _from_catalog(url: str) -> str:
    """A URL of a listing, which is relative to a folder below."""
    return url.removeprefix("../")


def _tree(listing: Listing, files: Iterable[File]) -> dict[str, list[Node]]:
    """What each directory holds, by its path; the top's is empty."""
    names = {"dataset_id": visit_id(listing.visit), "dataset_version": visit_version(listing)}
    source = {"sources": [_source(listing.timestamp)]}
    found: dict[str, list[Node]] = {"": []}

    def within(path: str) -> list[Node]:
        """The list of a directory, which stands in the one above."""
        if path not in found:
            above, _, name = path.rpartition("/")
            directory = {"type": "directory", "name": name, "path": path}
            within(above).append(directory | names)
            found[path] = []
        return found[path]

    for file in files:
        folder, _, name = file.path.rpartition("/")
        node: Node = {"type": "file", "name": name, "path": file.path} | names
        if file.size is not None:
            node["contentbytesize"] = file.size
        if file.url:
            node["url"] = file.url
        within(folder).append(node | {"metadata_sources": source})
    return found if len(found) > 1 or found[""] else {}


def _source(time: int) -> Node:
    return {"source_name": _SOURCE, "source_version": _SOURCE_VERSION, "source_time": time}


def _sources(time: int, dataset: Node) -> Node:
    mapped = {key: [_SOURCE] for key, value in dataset.items() if value and key not in _UNMAPPED}
    return {"metadata_sources": {"key_source_map": mapped, "sources": [_source(time)]}}


def _pills(**values: str) -> list[Node]:
    return [{"name": name, "value": _shown(value)} for name, value in values.items() if value]


def _description(listing: Listing) -> str:
    visit = listing.visit
    when = " and ".join(map(date, listing.dates))
    scanner = ", ".join(_scanners(listing))
    return _shown(
        f"Visit {visit.visit} of study {visit.study}"
        + (f", scanned on {when}" if when else "")
        + (f" with {scanner}" if scanner else "")
        + "."
    )


def _keywords(listing: Listing) -> list[str]:
    """Modalities, then what the series are called, in the order of their numbers."""
    texts = [*listing.values("Modality"), *(each.description for each in listing.series)]
    keywords = dict.fromkeys(_shown(text, _LONG_KEYWORD) for text in texts)
    keywords.pop("", None)
    return list(keywords)[:_KEYWORDS]


def _scanners(listing: Listing) -> list[str]:
    """Manufacturer and model of each scanner."""
    names = {
        " ".join(str(each.series.first(key)) for key in ("Manufacturer", "ManufacturerModelName"))
        for each in listing.series
    }
    return sorted(filter(None, map(_shown, names)))


def _dicom(listing: Listing) -> Node:
    """The tab DICOM: a row for each of these, a line in it for each of a list or an object."""
    content: Node = {
        "Scanner": _scanners(listing),
        "Field strength": _of_all(listing, "MagneticFieldStrength", " T"),
        "Date": list(map(_shown, map(date, listing.dates))),
        "Modality": list(map(_shown, listing.values("Modality"))),
        "Body part": list(map(_shown, listing.values("BodyPartExamined"))),
    }
    rows = {name: value for name, value in content.items() if value}
    # never a number alone, which would stand first, nor "@context", which is set apart
    return rows | {f"Series {each.anchor}": _series(each) for each in listing.series}


def _of_all(listing: Listing, keyword: str, unit: str) -> list[str]:
    values = {value for each in listing.series for value in each.series.values.get(keyword, ())}
    return [_shown(number(value)) + unit for value in sorted(values, key=str)]


def _series(each: Listed) -> dict[str, str]:
    def told(keyword: str, unit: str = "") -> str:
        values: Sequence[Any] = each.series.values.get(keyword, ())
        return numbers(values) + unit if values else ""

    texts = {
        "Description": each.description,
        "Protocol": told("ProtocolName"),
        "Images": number(each.series.images),
        "Size": size(each.series.size),
        "Type": told("MRAcquisitionType"),
        "TR": told("RepetitionTime", "\u00a0ms"),
        "TE": told("EchoTime", "\u00a0ms"),
        "Flip angle": told("FlipAngle", "\u00b0"),
        "Conversion": "" if each.status == NOT_DERIVED else each.status,
    }
    return {name: _shown(text) for name, text in texts.items() if text}


def _shown(text: str, most: int = _LONG) -> str:
    """In one line that is not endless, and that stays where it is put."""
    text = _UNSEEN.sub("\ufffd", text).strip()
    return text if len(text) <= most else f"{text[: most - 1]}\u2026"


def _text(path: str) -> str:
    """A path that the page can take the digest of; bytes that are no UTF-8 it cannot."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
