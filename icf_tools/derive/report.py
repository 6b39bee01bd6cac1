"""What came of each series of a tarball: `series.json`.

in: Entries    out: the text of series.json, which is <visit>_metadata_series.json, too; and back

docs/formats.md specifies it.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, get_args

from icf_tools.errors import Damaged
from icf_tools.model.key import AnnexKey

FORMAT = 1
REPORT = "series.json"


class Target(StrEnum):
    """What can be made; also the folder that it is in."""

    NIFTI = "nifti"
    MINC = "minc"
    PREVIEW = "preview"
    BIDS = "bids"


class Converter(StrEnum):
    """A program that makes NIfTI, in the order in which they are tried."""

    DCM2NIIX = "dcm2niix"
    DICOM2NIFTI = "dicom2nifti"


class Scale(StrEnum):
    """Which real values previews show black and white."""

    STUDY = "study"  #: those of the study's first visit, so that visits compare
    OWN = "own"  #: percentiles of each file


Status = Literal["verified", "unverified", "skipped", "failed"]


class BadReport(Damaged):
    message = "{} is not what icf derive writes; take it from a copy, or remove it"


@dataclass(frozen=True, slots=True)
class Made:
    """A file that was made, by its path in the dataset."""

    path: str
    size: int  #: bytes
    md5: str
    sha256: str  #: of its content, uncompressed

    @property
    def key(self) -> AnnexKey:
        return AnnexKey.md5e(self.path, self.size, self.md5)

    @property
    def target(self) -> str:
        """The folder that it is in."""
        return self.path.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Entry:
    """What came of a series."""

    uid: str  #: SeriesInstanceUID
    number: int  #: SeriesNumber; 0 where there is none
    images: int
    status: Status
    reason: str = ""  #: why it is not verified; or what was set aside
    converter: str = ""  #: name and version
    order: str = ""  #: the element that orders the volumes; empty with one volume
    mapping: str = ""  #: SHA-256 of which image became which plane, see planes.Match.digest
    tools: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  #: by target
    lacking: Mapping[str, str] = field(default_factory=dict)  #: why a target has no file of it
    outputs: tuple[Made, ...] = ()

    @property
    def is_right(self) -> bool:
        """Whether all that was asked for is there, and can be."""
        return self.status in ("verified", "skipped") and Target.MINC not in self.lacking

    def without(self, targets: Collection[str]) -> "Entry":
        """Less all that was made of these targets."""
        return replace(
            self,
            outputs=tuple(made for made in self.outputs if made.target not in targets),
            tools={each: tools for each, tools in self.tools.items() if each not in targets},
            lacking={each: why for each, why in self.lacking.items() if each not in targets},
        )

    def of(self, target: str) -> tuple[Made, ...]:
        return tuple(made for made in self.outputs if made.target == target)


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a tarball."""

    tarball_md5: str
    unreadable: int = 0  #: images that are in no series: their header is damaged or names none
    entries: tuple[Entry, ...] = ()  #: by number and UID
    outputs: tuple[Made, ...] = ()  #: of no single series

    @property
    def files(self) -> tuple[Made, ...]:
        """All that was made, by path."""
        every = [*self.outputs, *(made for entry in self.entries for made in entry.outputs)]
        return tuple(sorted(every, key=lambda made: made.path))

    @property
    def by_uid(self) -> dict[str, Entry]:
        return {entry.uid: entry for entry in self.entries}

    def without(self, targets: Collection[str]) -> "Report":
        """Less all that was made of these targets."""
        return replace(
            self,
            outputs=tuple(made for made in self.outputs if made.target not in targets),
            entries=tuple(entry.without(targets) for entry in self.entries),
        )

    def with_entries(self, entries: Iterable[Entry]) -> "Report":
        """Those in the place of what it has of the same series."""
        merged = self.by_uid | {entry.uid: entry for entry in entries}
        ordered = sorted(merged.values(), key=lambda entry: (entry.number, entry.uid))
        return replace(self, entries=tuple(ordered))


def report_text(report: Report) -> bytes:
    """The content of the file."""
    content = {
        "format": FORMAT,
        "tarball_md5": report.tarball_md5,
        "unreadable": report.unreadable,
        "outputs": [asdict(made) for made in report.outputs],
        "series": [_item(entry) for entry in report.entries],
    }
    return json.dumps(content, indent=1).encode() + b"\n"


def read_report(path: Path) -> Report | None:
    """What the file says, None where there is none. Raises BadReport."""
    try:
        content = json.loads(path.read_bytes())
        if content["format"] != FORMAT:
            raise ValueError(content["format"])
        return Report(
            str(content["tarball_md5"]),
            int(content["unreadable"]),
            tuple(map(_entry, content["series"])),
            tuple(map(_made, content["outputs"])),
        )
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as err:
        raise BadReport(path) from err


def _item(entry: Entry) -> dict[str, Any]:
    item = asdict(entry)
    first = {"SeriesInstanceUID": item.pop("uid"), "SeriesNumber": item.pop("number")}
    by_target = {key: dict(sorted(item[key].items())) for key in ("tools", "lacking")}
    return first | item | by_target


def _entry(item: dict[str, Any]) -> Entry:
    rest = dict(item)
    uid, number = str(rest.pop("SeriesInstanceUID")), int(rest.pop("SeriesNumber"))
    rest["tools"] = {target: tuple(tools) for target, tools in rest["tools"].items()}
    rest["outputs"] = tuple(map(_made, rest["outputs"]))
    if rest["status"] not in get_args(Status):
        raise ValueError(rest["status"])
    for text in (rest["reason"], *dict(rest["lacking"]).values()):
        text.encode()  # what is no text, or cannot be written, is none of ours
    return Entry(uid, number, **rest)


def _made(item: dict[str, Any]) -> Made:
    made = Made(**item)
    if any(part in ("", ".", "..") for part in made.path.split("/")):
        raise ValueError(made.path)
    if not re.fullmatch("[0-9a-f]{32}", made.md5) or type(made.size) is not int:
        raise ValueError(made)
    return made
