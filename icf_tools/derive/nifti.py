"""The series of a tarball as NIfTI files in a folder, with a report of each series.

in: a tarball    out: FOLDER/<number>_<protocol>.nii.gz and what belongs to it, FOLDER/series.json

The same tarball gives the same bytes with the same converter. Nothing is replaced.
"""

import json
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from icf_tools.derive.convert import Converted, convert, series_of
from icf_tools.errors import Conflict, NotFound
from icf_tools.index.scan import scan
from icf_tools.model.dicom import RECORDED
from icf_tools.model.progress import Progress
from icf_tools.store.container import NotBound, is_bound
from icf_tools.store.files import AlreadyThere, md5_of, new_file

FORMAT = 1
REPORT = "series.json"


class NoSeries(NotFound):
    message = "no series {} in {}; it has {}"


class OtherContent(Conflict):
    message = "{} is there with other content; move it away, or give another folder"


@dataclass(frozen=True, slots=True)
class Conversion:
    """What came of a tarball."""

    md5: str  #: of the tarball
    folder: Path
    series: tuple[Converted, ...]


def convert_tarball(
    tarball: Path,
    folder: Path,
    *,
    numbers: Collection[int] = (),
    jobs: int = 1,
    progress: Progress = lambda *_: None,
) -> Conversion:
    """Write the files of all series, or of those with the given numbers.

    Raises NoTarball, DamagedTarball, NoSeries, OtherContent, NotBound.
    """
    scanned = scan(tarball, RECORDED, progress)
    every = series_of(scanned.records)
    chosen = [each for each in every if not numbers or each.number in numbers]
    if missing := sorted(set(numbers) - {each.number for each in every}):
        there = ", ".join(str(each.number) for each in every) or "none"
        raise NoSeries(", ".join(map(str, missing)), tarball, there)
    if not is_bound(folder):
        raise NotBound(folder)
    folder.mkdir(parents=True, exist_ok=True)
    done = []
    # beside its results: what is temporary may be as large as they are
    with tempfile.TemporaryDirectory(dir=folder, prefix=".icf-convert-") as work:
        for converted in convert(tarball, chosen, Path(work), jobs=jobs, progress=progress):
            for output in converted.outputs:
                _put(output.path, folder / output.name)
            done.append(converted)
        conversion = Conversion(scanned.md5, folder, tuple(done))
        report = Path(work, REPORT)
        report.write_bytes(report_json(conversion))
        _put(report, folder / REPORT)
    return conversion


def report_json(conversion: Conversion) -> bytes:
    """What `series.json` says; docs/nifti.md specifies it."""
    content = {
        "format": FORMAT,
        "tarball_md5": conversion.md5,
        "series": [
            {
                "SeriesInstanceUID": each.series.uid,
                "SeriesNumber": each.series.number,
                "images": len(each.series.images),
                "status": each.status,
                "reason": each.reason,
                "converter": each.converter,
                "order": each.order,
                "mapping": each.mapping,
                "outputs": [
                    {"name": output.name, "sha256": output.sha256} for output in each.outputs
                ],
            }
            for each in conversion.series
        ],
    }
    return json.dumps(content, indent=1).encode() + b"\n"


def _put(made: Path, path: Path) -> None:
    """Have it under its name, whole or not at all; the same content may be there."""
    try:
        with new_file(path) as out, made.open("rb") as file:
            while piece := file.read(1 << 20):
                out.write(piece)
    except AlreadyThere:
        if md5_of(path) != md5_of(made):
            raise OtherContent(path) from None
