"""What can be made of a tarball, in a folder, with a report of each series.

in: a tarball    out: FOLDER/nifti/<number>_<protocol>.nii.gz and the like, FOLDER/series.json

The same tarball gives the same bytes with the same tools. Nothing is replaced
but what was made here before.
"""

import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from icf_tools.derive.asked import DEFAULT, Asked
from icf_tools.derive.files import File
from icf_tools.derive.make import Outcome, make
from icf_tools.derive.report import REPORT, Made, Report, read_report, report_text
from icf_tools.index.scan import scan
from icf_tools.model.dicom import RECORDED
from icf_tools.model.key import AnnexKey
from icf_tools.model.progress import Progress
from icf_tools.store.container import NotBound, is_bound
from icf_tools.store.files import OtherContent, locked_folder, md5_of

_WORK = ".icf-convert-"


def convert_tarball(
    tarball: Path,
    folder: Path,
    asked: Asked = DEFAULT,
    *,
    jobs: int = 1,
    progress: Progress = lambda *_: None,
) -> Outcome:
    """Write the files of all series that are asked for.

    Raises NoTarball, DamagedTarball, NoSeries, OtherContent, FolderLocked, NotBound,
    BadReport, NoRoom.
    """
    scanned = scan(tarball, RECORDED, progress)
    if not is_bound(folder):
        raise NotBound(folder)
    if folder.exists() and not folder.is_dir():
        raise OtherContent(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked_folder(folder):
        for left in folder.glob(f"{_WORK}*"):  # by one that was killed
            shutil.rmtree(left)
        path = folder / REPORT
        before = read_report(path) if path.exists() else None
        if before is not None and before.tarball_md5 != scanned.md5:
            raise OtherContent(path)
        # beside its results: what is temporary may be as large as they are
        with tempfile.TemporaryDirectory(dir=folder, prefix=_WORK) as name:
            work = Path(name, "series")
            work.mkdir()
            shelf = _Folder.of(folder, before)
            outcome = make(
                tarball, scanned, asked, before, shelf, work, jobs=jobs, progress=progress
            )
            shelf.drop(outcome.report)
            text = report_text(outcome.report)
            if not path.exists() or path.read_bytes() != text:
                made = Path(name, REPORT)
                made.write_bytes(text)
                made.rename(path)  # it lists what is there, so it may be replaced
    return outcome


@dataclass(frozen=True, slots=True)
class _Folder:
    """A shelf on which files lie under their paths."""

    root: Path
    before: dict[str, str]  #: MD5 by path of what was made here

    @classmethod
    def of(cls, root: Path, report: Report | None) -> "_Folder":
        return cls(root, {made.path: made.md5 for made in (report.files if report else ())})

    def keep(self, file: File) -> None:
        path = self.root / file.made.path
        there = _digest(path)
        if there == file.made.md5:
            return
        if there is not None and there != self.before.get(file.made.path):
            raise OtherContent(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with file.path.open("rb") as made:
            os.fsync(made.fileno())
        file.path.replace(path)

    def has(self, made: Made) -> bool:
        return False  # it is made again, and compared

    def path(self, made: Made) -> Path:
        return self.root / made.path

    def drop(self, report: Report) -> None:
        """Remove what was made here before, and is not of the report any more."""
        for path in self.before.keys() - {made.path for made in report.files}:
            if _digest(self.root / path) == self.before[path]:
                (self.root / path).unlink()
                with suppress(OSError):  # others are in it
                    (self.root / path).parent.rmdir()

    def link(self, made: Made, place: Made) -> None:
        path = self.root / place.path
        copy = path.with_name(f".{path.name}.part")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.root / made.path, copy)
        try:
            self.keep(File(copy, place))
        finally:
            copy.unlink(missing_ok=True)


def _digest(path: Path) -> str | None:
    """The MD5 of what is there, also of a link of git-annex whose content is elsewhere."""
    if path.is_symlink() and not path.exists():
        try:
            return AnnexKey.of_target(str(path.readlink())).name[:32]
        except ValueError as err:
            raise OtherContent(path) from err
    if path.exists() and not path.is_file():
        raise OtherContent(path)
    return md5_of(path) if path.exists() else None
