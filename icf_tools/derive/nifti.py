"""The series of a tarball as NIfTI files in a folder, with a report of each series.

in: a tarball    out: FOLDER/<number>_<protocol>.nii.gz and what belongs to it, FOLDER/series.json

The same tarball gives the same bytes with the same converter. Nothing is replaced.
"""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from icf_tools.derive.convert import Converted, convert, identities, series_of
from icf_tools.errors import Conflict, Locked, NotFound
from icf_tools.index.scan import DAMAGED, scan
from icf_tools.model.dicom import RECORDED, SERIES
from icf_tools.model.progress import Progress
from icf_tools.store.container import NotBound, is_bound
from icf_tools.store.files import NO_LINKS, md5_of

FORMAT = 1
REPORT = "series.json"


class NoSeries(NotFound):
    message = "no series {} in {}; it has {}"


class OtherContent(Conflict):
    message = "{} is there with other content; move it away, or give another folder"


class FolderLocked(Locked):
    message = "the folder {} is in use by another process; run it again when that one is done"


@dataclass(frozen=True, slots=True)
class Conversion:
    """What came of a tarball."""

    md5: str  #: of the tarball
    series: tuple[Converted, ...]
    unreadable: int  #: images that are in no series, as their header is damaged or names none


def convert_tarball(
    tarball: Path,
    folder: Path,
    *,
    numbers: Collection[int] = (),
    jobs: int = 1,
    progress: Progress = lambda *_: None,
) -> Conversion:
    """Write the files of all series, or of those with the given numbers.

    Raises NoTarball, DamagedTarball, NoSeries, OtherContent, FolderLocked, NotBound, NoRoom.
    """
    scanned = scan(tarball, RECORDED, progress)
    every = series_of(scanned.records)
    chosen = [each for each in every if not numbers or each.number in numbers]
    if missing := sorted(set(numbers) - {each.number for each in every}):
        there = ", ".join(str(each.number) for each in every) or "none"
        raise NoSeries(", ".join(map(str, missing)), tarball, there)
    lost = sum(problem.reason.startswith(DAMAGED) for problem in scanned.problems)
    lost += sum(record.tags is not None and SERIES not in record.tags for record in scanned.records)
    if not is_bound(folder):
        raise NotBound(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        for left in folder.glob(".icf-convert-*"):  # by one that was killed
            shutil.rmtree(left)
        earlier = _earlier(folder / REPORT, scanned.md5)
        everyone = identities(tarball, scanned.records)
        done = []
        # beside its results: what is temporary may be as large as they are
        with tempfile.TemporaryDirectory(dir=folder, prefix=".icf-convert-") as work:
            for converted in convert(
                tarball, chosen, Path(work), everyone, jobs=jobs, progress=progress
            ):
                if lost:
                    said = f"{lost} images of the tarball are in no series"
                    reason = "; ".join(filter(None, [converted.reason, said]))
                    converted = replace(converted, reason=reason)
                for output in converted.outputs:
                    _put(output.path, folder / output.name)
                done.append(converted)
            conversion = Conversion(scanned.md5, tuple(done), lost)
            made = Path(work, REPORT)
            made.write_bytes(report_json(conversion, earlier))
            report = folder / REPORT
            if not report.exists() or report.read_bytes() != made.read_bytes():
                made.rename(report)  # it lists what is there, so it may be replaced
    return conversion


def report_json(conversion: Conversion, earlier: Collection[dict[str, Any]] = ()) -> bytes:
    """What `series.json` says; docs/nifti.md specifies it.

    `earlier` is what it said of series of this tarball before.
    """
    series = {str(each["SeriesInstanceUID"]): each for each in earlier}
    series |= {each.series.uid: _entry(each) for each in conversion.series}
    content = {
        "format": FORMAT,
        "tarball_md5": conversion.md5,
        "unreadable": conversion.unreadable,
        "series": sorted(
            series.values(), key=lambda each: (each["SeriesNumber"], each["SeriesInstanceUID"])
        ),
    }
    return json.dumps(content, indent=1).encode() + b"\n"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Be the only one who writes to a folder, without a file of that in it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise FolderLocked(folder) from err
        yield
    finally:
        os.close(handle)


def _entry(converted: Converted) -> dict[str, Any]:
    return {
        "SeriesInstanceUID": converted.series.uid,
        "SeriesNumber": converted.series.number,
        "images": len(converted.series.images),
        "status": converted.status,
        "reason": converted.reason,
        "converter": converted.converter,
        "order": converted.order,
        "mapping": converted.mapping,
        "outputs": [{"name": each.name, "sha256": each.sha256} for each in converted.outputs],
    }


def _earlier(report: Path, md5: str) -> list[dict[str, Any]]:
    """What the report there says. Raises OtherContent where it is of another tarball."""
    if not report.exists():
        return []
    try:
        content = json.loads(report.read_bytes())
        if content["tarball_md5"] == md5 and content["format"] == FORMAT:
            return list(content["series"])
    except (ValueError, KeyError, TypeError):
        pass
    raise OtherContent(report)


def _put(made: Path, path: Path) -> None:
    """Have it under its name, whole or not at all; the same content may be there."""
    with made.open("rb") as file:
        os.fsync(file.fileno())
    try:
        os.link(made, path)
    except FileExistsError:
        if md5_of(path) != md5_of(made):
            raise OtherContent(path) from None
    except OSError as err:
        if err.errno not in NO_LINKS:
            raise
        made.rename(path)
