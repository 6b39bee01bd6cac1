"""Make files of a visit's tarball and add them to its dataset.

in: <visit>_dicom.tar, the deposit
out: <visit>_annex/<key>, <visit>_versions.json, the pair, <visit>_metadata_series.json

The version's commit has the command by which `datalad rerun` makes the same files
in a clone; it is `icf convert` with what the study has settled in icf/derive.json.
"""

import json
import os
import shlex
import shutil
import tempfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from icf_tools import __version__
from icf_tools.dataset.versions import Change, read_versions, tree
from icf_tools.dataset.write import Deposited, adopt, dataset, dataset_id, extend
from icf_tools.derive.asked import Asked, NoPreviews, NothingToScale, Settled
from icf_tools.derive.files import File
from icf_tools.derive.make import Outcome, make
from icf_tools.derive.report import (
    REPORT,
    Converter,
    Entry,
    Made,
    Report,
    Scale,
    Target,
    read_report,
    report_text,
)
from icf_tools.errors import Damaged, PartlyDone
from icf_tools.index.deposit import OtherTarball
from icf_tools.index.scan import NoTarball, scan
from icf_tools.model.dicom import RECORDED
from icf_tools.model.key import AnnexKey, key_file
from icf_tools.model.progress import Progress
from icf_tools.model.visit import StorePath
from icf_tools.settings import Settings
from icf_tools.store.deposit import NoStore, NoStudy, visits_of
from icf_tools.store.files import CannotWrite, locked, md5_of, new_file, sync_folder


class LostReport(Damaged):
    message = "of visit {} neither {} is what is on record; take one of them from a copy"


class LostWindows(Damaged):
    message = "of visit {} the scale of previews in {} is lost; give --window study or own"


class LostPreview(Damaged):
    message = "{} of visit {} is lost, or damaged; run icf derive for that visit first"


@dataclass(frozen=True, slots=True)
class Derived:
    """What came of a visit."""

    report: Report  #: of all that there is now
    series: tuple[Entry, ...]  #: those that were asked for
    dataset: Deposited  #: `made` is False where nothing was to be done


def derive(
    store: StorePath,
    asked: Asked,
    store_url: str | None,
    deposit_url: str | None = None,
    *,
    jobs: int = 1,
    progress: Progress = lambda *_: None,
) -> Derived:
    """Publish what is asked for as far as it is not there, or not of the present tools.

    Raises NoTarball, OtherTarball, DamagedTarball, NoSeries, LostReport, VisitLocked,
    NoRoom, PathClash, and what `dataset` raises.
    """
    if not store.tarball.exists():
        raise NoTarball(store.tarball)
    with locked(store):
        adopt(store, store_url, deposit_url)
        deposited = dataset(store, store_url, deposit_url)
        for left in store.study.glob(f"{store.work}*"):  # by one that was killed
            shutil.rmtree(left)
        versions = read_versions(store.versions_json)
        there = tree(versions)
        shelf = _Annex(store.annex)
        before = _recorded(store, shelf, there)
        scanned = scan(store.tarball, RECORDED, progress)
        if scanned.md5 != versions[-1].md5:
            raise OtherTarball(store.visit, "a tarball", scanned.md5, versions[-1].md5)
        # in the store: it has room for what is made, and a container's /tmp may have none
        with tempfile.TemporaryDirectory(dir=store.study, prefix=store.work) as name:
            work = Path(name, "series")
            work.mkdir()
            outcome = make(
                store.tarball, scanned, asked, before, shelf, work, jobs=jobs, progress=progress
            )
            files = [File.write(Path(name), REPORT, report_text(outcome.report))]
            if text := asked.settled.text:
                files.append(File.write(Path(name), store.visit.settings_path, text))
            wanted = _paths([*outcome.report.files, *(file.made for file in files)])
            for file in files:
                shelf.keep(file)
            sync_folder(store.annex)
            if wanted != there:
                for change in _changes(store, asked, outcome, there, wanted):
                    deposited = extend(store, change)
        _recorded(store, shelf, wanted)
    return Derived(outcome.report, outcome.series, deposited)


@dataclass(frozen=True, slots=True)
class _Annex:
    """A shelf on which files lie by their keys."""

    folder: Path

    def of(self, key: AnnexKey) -> Path:
        return self.folder / key_file(key)

    def path(self, made: Made) -> Path:
        return self.of(made.key)

    def keep(self, file: File) -> None:
        path = self.path(file.made)
        if self.has(file.made):
            return
        with file.path.open("rb") as made:
            os.fsync(made.fileno())
        try:
            self.folder.mkdir(exist_ok=True)
            file.path.replace(path)
        except PermissionError as err:  # which would name the file that is to be moved
            raise CannotWrite(self.folder) from err

    def has(self, made: Made) -> bool:
        path = self.path(made)
        return path.is_file() and path.stat().st_size == made.size and md5_of(path) == made.md5

    def link(self, made: Made, place: Made) -> None:
        pass  # it is the same key


def _recorded(store: StorePath, shelf: _Annex, there: dict[str, str]) -> Report | None:
    """What the newest version says of its series; see that it is in both of its places."""
    if REPORT not in there:
        return None
    key = AnnexKey.parse(there[REPORT])
    places = (shelf.of(key), store.series_json)
    right = [path for path in places if path.exists() and md5_of(path) == key.name[:32]]
    if not right:
        raise LostReport(store.visit, " nor ".join(path.name for path in places))
    for path in places:
        if path not in right:
            path.parent.mkdir(exist_ok=True)
            with new_file(path, replace=True) as out:
                out.write(right[0].read_bytes())
    return read_report(right[0])


def _paths(files: Iterable[Made]) -> dict[str, str]:
    return {made.path: str(made.key) for made in files}


def _changes(
    store: StorePath, asked: Asked, outcome: Outcome, there: dict[str, str], wanted: dict[str, str]
) -> Iterator[Change]:
    """What is settled comes first: it is an input of the command that makes the others."""
    visit, report = store.visit, outcome.report
    settings = visit.settings_path
    if there.get(settings) != wanted.get(settings):
        settled = {settings: wanted[settings]} if settings in wanted else {}
        title = f"Settle how files are made of {visit}"
        yield Change(settled, () if settled else (settings,), title)
    command = ["icf", "convert", visit.dataset_path]
    command += [word for target in asked.targets for word in ("--to", target)]
    command += [word for number in asked.numbers for word in ("--series", str(number))]
    command += ["--converter", asked.converter] if asked.converter else []
    command += [word for target in asked.dropped for word in ("--drop", target)]
    inputs = [visit.dataset_path]
    if settings in wanted:
        command += ["--settings", settings]
        inputs.append(settings)
    if REPORT in there:  # what it merges its own with
        inputs.append(REPORT)
    of_series = (made for entry in outcome.series for made in entry.outputs)
    tools = {tool for entry in report.entries for tools in entry.tools.values() for tool in tools}
    right = not report.unreadable and all(entry.is_right for entry in outcome.series)
    run: dict[str, Any] = {
        "chain": [],
        "cmd": shlex.join(command),
        "dsid": str(dataset_id(store)),
        "exit": 0 if right else PartlyDone.exit_code,
        "extra_inputs": [],
        "inputs": inputs,
        # what it does not make again must not be unlocked: without its content it would go
        "outputs": sorted({REPORT, *(made.path for made in (*report.outputs, *of_series))}),
        "pwd": ".",
        "tarball_md5": report.tarball_md5,
        "tools": sorted({f"icf_tools {__version__}", f"zlib {zlib.ZLIB_RUNTIME_VERSION}", *tools}),
    }
    changed = {path for path, key in wanted.items() if there.get(path) != key} - {settings}
    gone = sorted(there.keys() - wanted.keys() - {settings})
    counts = {"new": len(changed - there.keys()), "changed": len(changed & there.keys())}
    said = [f"{count} {what}" for what, count in (counts | {"gone": len(gone)}).items() if count]
    yield Change(
        added={path: wanted[path] for path in sorted(changed)},
        gone=tuple(gone),
        title=f"Make {', '.join(asked.targets)} of {visit}: {', '.join(said)}",
        run=run,
    )


def wanted(
    store: StorePath,
    settings: Settings,
    targets: Collection[Target],
    numbers: Collection[int],
    converter: Converter | None,
    scale: Scale | None = None,
) -> Asked:
    """What is asked for, with what the study has settled, and what there is already.

    Without targets: NIfTI. All that a visit has is kept up to date; previews keep their
    scale unless another is given. Raises NoStore, NoStudy, NoPreviews, NothingToScale, LostWindows,
    LostPreview, NoRules, NoLabels, WholeVisit.
    """
    if not store.root.is_dir():
        raise NoStore(store.root)
    if not store.study.is_dir():
        raise NoStudy(store.visit.study, store.root)
    if Target.PREVIEW in targets and not settings.previews:
        raise NoPreviews
    there = tree(read_versions(store.versions_json))
    folders = {path.partition("/")[0] for path in there}
    present = {target for target in Target if target in folders}
    kept = set(present)
    if not settings.previews:
        kept -= {Target.PREVIEW}
    if settings.bids is None:
        kept -= {Target.BIDS}
    elif Target.BIDS in {*targets, *kept}:
        settings.bids.labels(store.visit.visit)  # refused before anything is converted
    if scale is not None and Target.PREVIEW not in {*targets, *kept}:
        raise NothingToScale
    windows: Mapping[str, tuple[float, float]] = {}
    if scale is Scale.STUDY:
        windows = _windows_of_first(store)
    elif scale is None and Target.PREVIEW in {*targets, *kept}:
        windows = _windows_on_record(store, there)
    every = {*(targets or [Target.NIFTI]), *kept}
    plan = settings.bids if Target.BIDS in every else None
    settled = Settled(visit=store.visit, deny=settings.deny, windows=windows, bids=plan)
    return Asked.of(every, numbers, converter, settled, present - every)


def _windows_on_record(
    store: StorePath, there: dict[str, str]
) -> Mapping[str, tuple[float, float]]:
    if (text := there.get(store.visit.settings_path)) is None:
        return {}
    key = AnnexKey.parse(text)
    path = _Annex(store.annex).of(key)
    if not path.is_file() or md5_of(path) != key.name[:32]:
        raise LostWindows(store.visit, path.name)
    return Settled.read(path).windows


def _windows_of_first(store: StorePath) -> dict[str, tuple[float, float]]:
    """Those of the first visit of the study, by name, that has previews; of itself none."""
    for visit in visits_of(store.root, store.visit.study):
        first = StorePath(store.root, visit)
        report = read_report(first.series_json)
        previews = [
            made
            for entry in (report.entries if report else ())
            for made in entry.of(Target.PREVIEW)
            if made.path.endswith(".json")
        ]
        if visit >= store.visit:
            return {}
        if previews:
            shelf = _Annex(first.annex)
            if lost := [made.path for made in previews if not shelf.has(made)]:
                raise LostPreview(lost[0], visit)
            return {
                name: (window["low"], window["high"])
                for made in reversed(previews)  # of two of one name the first
                if (name := PurePosixPath(made.path).stem.partition("_")[2])
                for window in [json.loads(shelf.path(made).read_bytes())["window"]]
            }
    return {}
