"""Make what is asked for of a tarball, and keep it on a shelf: a folder, or a visit's annex.

in: a tarball, Asked, the Report of what there is    out: a Report of what there is then
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from icf_tools.derive.asked import SETTINGS, Asked
from icf_tools.derive.bids_tree import place
from icf_tools.derive.convert import Series, Telling, convert, names_of, series_of
from icf_tools.derive.converters import version_of
from icf_tools.derive.report import Entry, Report, Target
from icf_tools.derive.shelf import Shelf
from icf_tools.errors import NotFound
from icf_tools.index.scan import DAMAGED, Scan
from icf_tools.model.dicom import SERIES
from icf_tools.model.progress import Progress

T = TypeVar("T")


class NoSeries(NotFound):
    message = "no series {} in {}; it has {}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run."""

    report: Report  #: of all that there is now
    series: tuple[Entry, ...]  #: those that were asked for; what failed has replaced nothing


def chosen(tarball: Path, scanned: Scan, asked: Asked) -> tuple[list[Series], list[Series]]:
    """All series, and those that are asked for. Raises NoSeries."""
    every = series_of(scanned.records, asked.settled.deny)
    if missing := sorted(set(asked.numbers) - {each.number for each in every}):
        there = ", ".join(str(each.number) for each in every) or "none"
        raise NoSeries(", ".join(map(str, missing)), tarball, there)
    return every, [each for each in every if not asked.numbers or each.number in asked.numbers]


def make(
    tarball: Path,
    scanned: Scan,
    asked: Asked,
    before: Report | None,
    shelf: Shelf,
    work: Path,
    *,
    jobs: int = 1,
    progress: Progress = lambda *_: None,
) -> Outcome:
    """Convert what `before` does not have; `work` is an empty folder. Raises NoSeries, NoRoom."""
    every, wanted = chosen(tarball, scanned, asked)
    lost = sum(problem.reason.startswith(DAMAGED) for problem in scanned.problems)
    lost += sum(record.tags is not None and SERIES not in record.tags for record in scanned.records)
    report = (before or Report(scanned.md5)).without(asked.dropped)
    report = replace(report, unreadable=lost)
    known = report.by_uid
    todo = [each for each in wanted if not is_current(known.get(each.uid), asked, shelf)]
    failed = {}
    if todo:
        telling = Telling.of(tarball, scanned.records)
        names = names_of(every, telling.by)
        for converted in convert(
            tarball, todo, asked, work, names, telling, jobs=jobs, progress=progress
        ):
            entry = replace(converted.entry, outputs=tuple(f.made for f in converted.files))
            if lost:
                said = f"{lost} images of the tarball are in no series"
                entry = replace(entry, reason="; ".join(filter(None, [entry.reason, said])))
            earlier = known.get(entry.uid)
            if earlier is not None and _stays(earlier, entry, asked):
                failed[entry.uid] = entry
                continue
            entry = _kept(entry, earlier, asked, shelf)
            for file in converted.files:
                if file.made in entry.outputs:
                    shelf.keep(file)
            report = report.with_entries([entry])
    if asked.settled.bids and asked.settled.visit and Target.BIDS in asked.targets:
        report = place(report, asked.settled.bids, asked.settled.visit, shelf, work)
    now = report.by_uid | failed
    return Outcome(report, tuple(now[each.uid] for each in wanted))


def is_current(entry: Entry | None, asked: Asked, shelf: Shelf) -> bool:
    """Whether nothing would come out otherwise if the series were converted again."""
    if entry is None or not all(map(shelf.has, entry.outputs)):
        return False
    if entry.status != "verified":  # any other tool may do better
        return all(
            set(entry.tools.get(each, ())) == asked.all_tools(each) for each in asked.converted
        )
    return entry.converter in map(version_of, asked.converters) and all(
        entry.tools.get(each) == asked.tools(each, entry.converter) for each in asked.converted
    )


def _stays(earlier: Entry, entry: Entry, asked: Asked) -> bool:
    """Whether what was right before is to be kept, as nothing right came out now.

    Not where the study denies something else since: it may be in the files.
    """
    if not earlier.status == "verified" != entry.status:
        return False
    tools = earlier.tools.get(Target.NIFTI, ())
    before = {tool for tool in tools if tool.startswith(SETTINGS)}
    return before == {asked.settled.digest(Target.NIFTI)} - {""} or not earlier.of(Target.NIFTI)


def _kept(entry: Entry, earlier: Entry | None, asked: Asked, shelf: Shelf) -> Entry:
    """With the files that were there before in place of those of the same content.

    So are those of targets that are not asked for.
    """
    earlier = earlier or entry
    there = {(made.path, made.sha256): made for made in earlier.outputs if shelf.has(made)}
    outputs = [there.get((made.path, made.sha256), made) for made in entry.outputs]
    outputs += [made for made in earlier.outputs if made.target not in asked.targets]
    return replace(
        entry,
        outputs=tuple(sorted(outputs, key=lambda made: made.path)),
        tools=_others(earlier.tools, asked) | dict(entry.tools),
        lacking=_others(earlier.lacking, asked) | dict(entry.lacking),
    )


def _others(told: Mapping[str, T], asked: Asked) -> dict[str, T]:
    return {target: each for target, each in told.items() if target not in asked.targets}
