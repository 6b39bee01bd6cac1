"""Pack a visit's folder into its tarball.

in: a folder    out: <visit>_dicom.tar and <visit>_dicom.tar.md5sum

Same files, same bytes: members are sorted bytewise, owner, mode and header
format are fixed, and times come from the images.
"""

import hashlib
import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from icf_tools.archive.collect import CannotRead, Collection, Source, collect
from icf_tools.errors import Conflict, Damaged
from icf_tools.model.dicom import RECORDED, Tag
from icf_tools.model.names import ORIGINAL, readable
from icf_tools.model.progress import Progress
from icf_tools.model.visit import StorePath
from icf_tools.store.deposit import recorded_md5
from icf_tools.store.files import PIECE, locked, md5_of, new_file
from icf_tools.store.lane import Lane


class OtherInput(Conflict):
    message = (
        "visit {} has a tarball of other content (MD5 {}, the input gives {}); "
        "archive the input under another visit identifier"
    )


class DamagedInStore(Damaged):
    message = "{} has MD5 {}, on record is {}; take the file from a copy"


class InputChanged(Damaged):
    message = "{} changed while it was packed; wait until the visit is complete, then run again"


@dataclass(frozen=True, slots=True)
class Built:
    """A visit's tarball in the store."""

    path: Path
    md5: str
    size: int  #: bytes
    members: int
    images: int  #: members that are DICOM
    made: bool  #: False where it was there before
    renamed: int  #: members whose name was replaced
    unreadable: tuple[str, ...]  #: members that say they are DICOM and cannot be parsed


def build(
    folder: Path,
    store: StorePath,
    *,
    tags: tuple[Tag, ...] = RECORDED,
    allow_identifying: bool = False,
    progress: Progress = lambda *_: None,
) -> Built:
    """Pack the folder, or find that the tarball there is of the same content.

    Raises a refusal of `collect`, OtherInput, InputChanged, VisitLocked.
    """
    collection = collect(
        folder, store, tags, allow_identifying=allow_identifying, progress=progress
    )
    return pack(collection, store, progress)


def pack(collection: Collection, store: StorePath, progress: Progress = lambda *_: None) -> Built:
    """Write what was collected, or find that the tarball there is of the same content."""
    with locked(store):
        made = not store.tarball.exists()
        if made:
            size, md5 = _write(store, collection, progress)
        else:
            md5 = _digest(collection, progress)
            _check_tarball(store, md5)
            size = store.tarball.stat().st_size
        if not store.md5sum.exists():
            with new_file(store.md5sum) as out:
                out.write(f"{md5}  {store.tarball.name}\n".encode())
    return Built(
        path=store.tarball,
        md5=md5,
        size=size,
        members=len(collection.sources),
        images=collection.images,
        made=made,
        renamed=sum(source.renamed for source in collection.sources),
        unreadable=collection.unreadable,
    )


def tar_stream(collection: Collection, progress: Progress = lambda *_: None) -> Iterator[bytes]:
    """The bytes of the tarball, in pieces of about a megabyte at most.

    Format: POSIX pax interchange, as tarfile writes it.
    """
    newest = collection.timestamp
    written = 0
    for done, source in enumerate(collection.sources):
        progress("pack", done, len(collection.sources))
        for piece in _member(source, newest):
            written += len(piece)
            yield piece
    end = 2 * tarfile.BLOCKSIZE
    yield bytes(end + -(written + end) % tarfile.RECORDSIZE)


def _member(source: Source, newest: int) -> Iterator[bytes]:
    header = tarfile.TarInfo(source.member)
    header.size = source.size
    header.mtime = newest if source.mtime is None else source.mtime
    header.mode = 0o644
    header.uname = header.gname = "root"
    if source.original is not None:
        header.pax_headers = {"comment": ORIGINAL + source.original}
    head = header.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
    left = source.size
    for piece in _content(source):
        left -= len(piece)
        if left < 0:
            break
        if left == 0:
            piece += bytes(-source.size % tarfile.BLOCKSIZE)
        yield head + piece
        head = b""
    if left != 0:
        raise InputChanged(readable(source.file))
    if head:
        yield head


def _content(source: Source) -> Iterator[bytes]:
    try:
        with open(source.file, "rb", buffering=0) as file:
            while piece := file.read(PIECE):
                yield piece
    except PermissionError as err:
        raise CannotRead(readable(source.file)) from err
    except FileNotFoundError as err:
        raise InputChanged(readable(source.file)) from err


def _write(store: StorePath, collection: Collection, progress: Progress) -> tuple[int, str]:
    digest = hashlib.md5(usedforsecurity=False)
    size = 0
    with new_file(store.tarball) as out:
        with Lane() as lane:
            for batch in _batches(tar_stream(collection, progress)):
                lane.put(_update, digest, batch)
                for piece in batch:
                    size += out.write(piece)
        _check_record(store, digest.hexdigest())
        out.flush()
        os.utime(out.fileno(), (collection.timestamp, collection.timestamp))
    return size, digest.hexdigest()


def _digest(collection: Collection, progress: Progress) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with Lane() as lane:
        for batch in _batches(tar_stream(collection, progress)):
            lane.put(_update, digest, batch)
    return digest.hexdigest()


def _update(digest: "hashlib._Hash", batch: Iterable[bytes]) -> None:
    for piece in batch:
        digest.update(piece)


def _batches(pieces: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece)
        if size >= PIECE:
            yield batch
            batch, size = [], 0
    yield batch


def _check_tarball(store: StorePath, md5: str) -> None:
    """Read the tarball that is there, and compare."""
    there = md5_of(store.tarball)
    known = recorded_md5(store)
    if known not in (None, there):
        raise DamagedInStore(store.tarball, there, known)
    if there != md5:
        raise OtherInput(store.visit, there, md5)


def _check_record(store: StorePath, md5: str) -> None:
    """Compare with the digest of a tarball that was there before."""
    known = recorded_md5(store)
    if known not in (None, md5):
        raise OtherInput(store.visit, known, md5)
