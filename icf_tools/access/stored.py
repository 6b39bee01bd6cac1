"""A visit as its store describes it, and its images as they are read out of the tarball.

in: the two metadata files    out: StoredVisit; of it StoredSeries, bytes, arrays

Nothing of the metadata is believed: paths, sizes and places are looked at
before anything is read, and the MD5 of an image before it is handed out.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from icf_tools.access.parts import Part, Pieces, read_parts
from icf_tools.access.ranges import Ranges
from icf_tools.access.source import Source, read_file
from icf_tools.errors import Damaged, NotFound, UsageError
from icf_tools.index.records import BadMetadata, TarballFacts, parse_images, parse_tarball
from icf_tools.index.scan import Record
from icf_tools.index.series import key_of
from icf_tools.model.choice import Choice
from icf_tools.model.progress import Progress
from icf_tools.model.visit import Visit

if TYPE_CHECKING:
    from icf_tools.access.fetch import Fetched
    from icf_tools.derive.frames import Frame
    from icf_tools.derive.stack import Volume

_NEAR = 16 << 10  # bytes between two images of a series, up to which both come by one request
_WIDEST = 40  # characters of a text in a table
_LARGEST_NUMBER = 99_999_999  # of a series


class BadFacts(Damaged):
    message = "{} is not metadata of a visit: {}; tell who runs the store"


class NoPlaces(NotFound):
    message = (
        "the metadata of visit {} does not tell where its files lie in the tarball; have it made "
        "anew by icf index, or use datalad clone and datalad get"
    )


class WrongContent(Damaged):
    message = "{} came with another content than the metadata tells; tell who runs the store"


class SeveralVolumes(UsageError):
    message = "series {} makes {} arrays and not one: {}; take them from volumes()"


@dataclass(frozen=True, slots=True, repr=False)
class StoredVisit:
    """What a visit has, and where."""

    visit: Visit
    facts: TarballFacts
    records: tuple[Record, ...]  #: of the images, with their tags
    tarball: Source

    @classmethod
    def described(
        cls, visit: Visit, facts: Source, records: Source, tarball: Source
    ) -> "StoredVisit":
        """By its two metadata files. Raises BadFacts and what `read_file` raises."""
        try:
            told = parse_tarball(read_file(facts), facts.url, visit)
            images = tuple(parse_images(read_file(records), records.url, told))
        except BadMetadata as err:
            raise BadFacts(*err.args) from err
        _check(images + told.files, told.size, records.url)
        return cls(visit, told, images, tarball)

    def chosen(self, choice: Choice) -> tuple[Record, ...]:
        """The images that fit; all members where nothing is said."""
        if not choice:
            return self.records + self.facts.files
        return tuple(each for each in self.records if choice.takes(partial(_values, each)))

    def series(
        self, number: int | None = None, protocol: str = "", modality: str = ""
    ) -> "SeriesTable":
        """By number and UID, those whose first image fits; patterns are as of file names.

        Images that name no series belong to those of their number and description.
        """
        found: dict[tuple[str, ...], list[Record]] = {}
        for record in self.records:
            found.setdefault(key_of(record.tags or {}), []).append(record)
        choice = Choice(frozenset(() if number is None else [number]), protocol, modality)
        fitting = (
            StoredSeries(self, key[0], tuple(images))
            for key, images in found.items()
            if choice.takes(partial(_values, images[0]))
        )
        return SeriesTable(sorted(fitting, key=lambda each: (each.number, each.uid)))

    def ranges(self) -> Ranges:
        """The tarball, from a server that knows no ranges as a whole."""
        return Ranges(self.tarball, self.facts.size, whole=True)

    def place(self, record: Record) -> Part:
        """Where in the tarball a member is. Raises NoPlaces."""
        if record.offset is None:
            raise NoPlaces(self.visit)
        return record.offset, record.offset + record.size

    def fetch(self, folder: str | Path, progress: Progress = lambda *_: None) -> "Fetched":
        """Its files in a folder; see `icf_tools.access.fetch.fetch`."""
        from icf_tools.access.fetch import fetch

        return fetch(self, self.chosen(Choice()), Path(folder), progress=progress)

    def __repr__(self) -> str:
        return f"<visit {self.visit}: {len(self.records)} images, {_megabytes(self.facts.size)} MB>"


@dataclass(frozen=True, slots=True, repr=False)
class StoredSeries:
    """Images that belong together."""

    visit: StoredVisit
    uid: str  #: SeriesInstanceUID; empty where they name none
    records: tuple[Record, ...]  #: at least one, each with its tags

    @property
    def number(self) -> int:
        """SeriesNumber; 0 where there is none."""
        number = (self.records[0].tags or {}).get("SeriesNumber")
        return number if isinstance(number, int) and 0 <= number <= _LARGEST_NUMBER else 0

    @property
    def description(self) -> str:
        return self._text("SeriesDescription")

    @property
    def protocol(self) -> str:
        return self._text("ProtocolName")

    @property
    def modality(self) -> str:
        return self._text("Modality")

    @property
    def images(self) -> int:
        return len(self.records)

    @property
    def size(self) -> int:
        """Bytes of the images."""
        return sum(record.size for record in self.records)

    def _text(self, keyword: str) -> str:
        return ", ".join(sorted(_values(self.records[0], keyword)))

    def read(self) -> Iterator[tuple[Record, bytes]]:
        """Each image, in the order of the tarball.

        No more is read than the images and little gaps between them. Raises NoPlaces,
        WrongContent and what `Ranges.pieces` raises.
        """
        for record, pieces in read(self.visit, self.visit.ranges(), self.records, _NEAR):
            data = b"".join(pieces)
            if hashlib.md5(data, usedforsecurity=False).hexdigest() != record.md5:
                raise WrongContent(record.path)
            yield record, data

    def volumes(self) -> tuple["Volume", ...]:
        """Arrays with affines, one for each kind of image; see `icf_tools.derive.stack.stack`.

        Raises NotRegular, and what `read` raises.
        """
        from icf_tools.derive.stack import stack

        return stack(self._frames())

    def volume(self) -> "Volume":
        """The only one. Raises SeveralVolumes, and what `volumes` raises."""
        found = self.volumes()
        if len(found) > 1:
            shapes = (" x ".join(map(str, each.array.shape)) for each in found)
            kinds = (f"{each.kind} ({shape})" for each, shape in zip(found, shapes, strict=True))
            raise SeveralVolumes(self.number, len(found), ", ".join(map(str.strip, kinds)))
        return found[0]

    def _frames(self) -> "list[Frame]":
        """As icf convert takes them: images without a place only beside those of another kind."""
        from icf_tools.derive.frames import Broken, NoFrames, read_frames
        from icf_tools.derive.stack import NotRegular

        frames: list[Frame] = []
        classes: dict[bool, set[str]] = {True: set(), False: set()}
        reason = ""
        for number, (record, data) in enumerate(self.read(), start=1):
            try:
                frames += read_frames(record.path, memoryview(data))
            except Broken as err:
                raise NotRegular(f"image {number}: {err}") from err
            except NoFrames as err:
                reason = reason or f"image {number}: {err}"
                classes[False] |= _values(record, "SOPClassUID")
            else:
                classes[True] |= _values(record, "SOPClassUID")
        if reason and (not frames or classes[True] & classes[False]):
            raise NotRegular(reason)
        return frames

    def fetch(self, folder: str | Path, progress: Progress = lambda *_: None) -> "Fetched":
        """Its files in a folder; see `icf_tools.access.fetch.fetch`."""
        from icf_tools.access.fetch import fetch

        return fetch(self.visit, self.records, Path(folder), progress=progress)

    def __repr__(self) -> str:
        name = _shown(self.protocol or self.description)
        size = _megabytes(self.size)
        return f"<series {self.number} {name!r}: {self.images} images, {size} MB>"


class SeriesTable(tuple[StoredSeries, ...]):
    """Series that show as a table, in a terminal and in a notebook."""

    __slots__ = ()

    def _rows(self) -> Iterator[tuple[str, ...]]:
        yield "number", "images", "MB", "modality", "protocol", "description"
        for each in self:
            texts = map(_shown, (each.modality, each.protocol, each.description))
            yield str(each.number), str(each.images), _megabytes(each.size), *texts

    def __repr__(self) -> str:
        rows = list(self._rows())
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for row in rows:
            numbers = [cell.rjust(width) for cell, width in zip(row[:3], widths[:3], strict=True)]
            texts = [cell.ljust(width) for cell, width in zip(row[3:], widths[3:], strict=True)]
            lines.append("  ".join([*numbers, *texts]).rstrip())
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head, *rows = self._rows()
        lines = [_html_row("th", head), *(_html_row("td", row) for row in rows)]
        return "<table>\n" + "\n".join(lines) + "\n</table>"


def read(
    visit: StoredVisit, ranges: Ranges, records: Sequence[Record], near: int | None = None
) -> Iterator[tuple[Record, Pieces]]:
    """Members with their bytes, in the order of the tarball.

    Up to `near` bytes between two are read along with them; see `read_parts`. Read the
    pieces of one to their end, or leave them, before the next. Raises NoPlaces and what
    `Ranges.pieces` raises.
    """
    ordered = sorted(records, key=visit.place)
    parts = [visit.place(record) for record in ordered]
    asked = read_parts(ranges, parts) if near is None else read_parts(ranges, parts, near)
    for record, (_, pieces) in zip(ordered, asked, strict=True):
        yield record, pieces


def _check(records: Sequence[Record], size: int, name: str) -> None:
    """See that each is a file of its own within the tarball. Raises BadFacts."""
    paths = {record.path for record in records}
    if len(paths) < len(records):
        raise BadFacts(name, "it has a path twice")
    for folder in dict.fromkeys(PurePosixPath(record.path).parent for record in records):
        for above in map(str, (folder, *folder.parents)):
            if above in paths:
                raise BadFacts(name, f"{above!r} is a file and a folder")
    for record in records:
        if (record.offset or 0) + record.size > size:
            raise BadFacts(name, f"{record.path!r} does not lie in the tarball")


def _values(record: Record, keyword: str) -> frozenset[str]:
    """Of an element, as text."""
    value = (record.tags or {}).get(keyword)
    if value is None:
        return frozenset()
    return frozenset(map(str, value if isinstance(value, list) else [value]))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"


def _shown(text: str) -> str:
    """On a line, whatever the text holds."""
    plain = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return plain if len(plain) <= _WIDEST else f"{plain[: _WIDEST - 1]}\N{HORIZONTAL ELLIPSIS}"


def _html_row(kind: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{kind}>{escape(cell)}</{kind}>' for cell in cells)}</tr>"
