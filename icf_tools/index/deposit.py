"""Deposit a visit's metadata beside its tarball.

in: <visit>_dicom.tar    out: <visit>_metadata_dicoms.json, <visit>_metadata_tarball.json
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from icf_tools.errors import Conflict
from icf_tools.index.records import dicoms_json, read_images, read_tarball, tarball_json
from icf_tools.index.scan import NoTarball, Problem, Record, scan
from icf_tools.model.dicom import RECORDED, SERIES, Tag
from icf_tools.model.progress import Progress
from icf_tools.model.visit import StorePath
from icf_tools.store.deposit import recorded_md5
from icf_tools.store.files import locked, new_file


class OtherTarball(Conflict):
    message = (
        "visit {} has {} with MD5 {}, on record is {}; "
        "find out which is right, then remove the other"
    )


class OtherSize(Conflict):
    message = (
        "{} describes a tarball of {} bytes, the one in the store has {}; "
        "find out which is right, then remove the other"
    )


class OtherMetadata(Conflict):
    message = "{} says something else than the tarball; remove it and run icf index again"


@dataclass(frozen=True, slots=True)
class Indexed:
    """A visit's metadata in the store."""

    md5: str  #: of the tarball
    images: int
    files: int  #: members that are not DICOM
    series: int
    made: bool  #: False where all of it was there before
    problems: tuple[Problem, ...]


def index(
    store: StorePath,
    *,
    tags: tuple[Tag, ...] = RECORDED,
    progress: Progress = lambda *_: None,
) -> Indexed:
    """Read the tarball once and write what it holds, or find that it is there.

    Raises NoTarball, DamagedTarball, OtherTarball, OtherMetadata, VisitLocked.
    """
    if not store.tarball.exists() and not store.tarball_json.exists():
        raise NoTarball(store.tarball)
    with locked(store):
        if store.tarball_json.exists() and store.dicoms_json.exists():
            return _there(store)
        found = scan(store.tarball, tags, progress)
        known = recorded_md5(store)
        if known not in (None, found.md5):
            raise OtherTarball(store.visit, "a tarball", found.md5, known)
        _complete(store.dicoms_json, dicoms_json(found))
        _complete(store.tarball_json, [tarball_json(found, store)])
    images = [record for record in found.records if record.tags is not None]
    files = len(found.records) - len(images)
    return _indexed(found.md5, images, files, tuple(found.problems), made=True)


def _there(store: StorePath) -> Indexed:
    facts = read_tarball(store)
    known = recorded_md5(store)
    if known not in (None, facts.md5):
        raise OtherTarball(store.visit, "metadata of a tarball", facts.md5, known)
    if store.tarball.exists() and store.tarball.stat().st_size != facts.size:
        raise OtherSize(store.tarball_json, facts.size, store.tarball.stat().st_size)
    images = read_images(store, facts)
    return _indexed(facts.md5, images, len(facts.files), facts.problems, made=False)


def _indexed(
    md5: str, images: Iterable[Record], files: int, problems: tuple[Problem, ...], *, made: bool
) -> Indexed:
    count = 0
    series = set()
    for image in images:
        count += 1
        series.add((image.tags or {}).get(SERIES))
    return Indexed(md5, count, files, len(series - {None}), made, problems)


def _complete(path: Path, content: Iterable[bytes]) -> None:
    """Write the file, or see that it has this content."""
    if not path.exists():
        with new_file(path) as out:
            out.writelines(content)
    elif path.read_bytes() != b"".join(content):
        raise OtherMetadata(path)
