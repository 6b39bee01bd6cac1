"""Make what is asked for of a tarball, and keep it on a shelf: a folder, or a visit's annex.

in: a tarball, Asked, the Report of what there is    out: a Report of what there is then
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from icf_tools.derive.asked import Asked
from icf_tools.derive.bids_tree import place
from icf_tools.derive.convert import Series, convert, identities, names_of, series_of
from icf_tools.derive.converters import version_of
from icf_tools.derive.report import Entry, Report, Target
from icf_tools.derive.shelf import Shelf
from icf_tools.errors import NotFound
from icf_tools.index.scan import DAMAGED, Scan
from icf_tools.model.dicom import SERIES
from icf_tools.model.progress import Progress


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
    report = replace(before or Report(scanned.md5), unreadable=lost)
    known = report.by_uid
    todo = [each for each in wanted if not is_current(known.get(each.uid), asked, shelf)]
    failed = {}
    if todo:
        everyone = identities(tarball, scanned.records)

        def told_by(text: str) -> bool:
            return any(identity.held_by(text) for identity in everyone)

        names = names_of(every, told_by)
        for converted in convert(
            tarball, todo, asked, work, names, told_by, jobs=jobs, progress=progress
        ):
            entry = replace(converted.entry, outputs=tuple(f.made for f in converted.files))
            if lost:
                said = f"{lost} images of the tarball are in no series"
                entry = replace(entry, reason="; ".join(filter(None, [entry.reason, said])))
            earlier = known.get(entry.uid)
            if earlier is not None and earlier.status == "verified" != entry.status:
                failed[entry.uid] = entry  # what was right stays so
                continue
            entry = _kept(entry, earlier, shelf)
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


def _kept(entry: Entry, earlier: Entry | None, shelf: Shelf) -> Entry:
    """With the files that were there before in place of those of the same content."""
    before = [made for made in (earlier.outputs if earlier else ()) if shelf.has(made)]
    there = {(made.path, made.sha256): made for made in before}
    outputs = (there.get((made.path, made.sha256), made) for made in entry.outputs)
    return replace(entry, outputs=tuple(sorted(outputs, key=lambda made: made.path)))


def targets_of(report: Report | None, series: Collection[Series]) -> set[str]:
    """The targets that these series have files of."""
    uids = {each.uid for each in series}
    entries = report.entries if report else ()
    return {made.target for entry in entries if entry.uid in uids for made in entry.outputs}
