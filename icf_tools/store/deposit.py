"""What a visit has in the store, told from names and small files alone."""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from icf_tools.errors import Damaged, NotFound
from icf_tools.model.visit import StorePath, Visit

_FILE = re.compile(
    r"(.+)_(dicom\.tar|dicom\.tar\.md5sum|metadata_(?:dicoms|tarball|series)\.json|versions\.json"
    r"|XDLRA--refs|XDLRA--repo-export)"
)


class NoStore(NotFound):
    message = "no store at {}; give the folder that holds the studies"


class NoStudy(NotFound):
    message = "no study {} in the store {}; icf status without a study lists them"


class NoVisit(NotFound):
    message = "no visit {} in the store {}; icf status with the study alone lists them"


class BadRecord(Damaged):
    message = "{} does not give the MD5 of a tarball; take it from a copy of the store"


@dataclass(frozen=True, slots=True)
class VisitStatus:
    """Which steps a visit has behind it."""

    visit: Visit
    tarball: int | None  #: bytes; None where there is none
    recorded: int | None  #: bytes of the tarball by its metadata; None where there is none
    md5sum: bool
    metadata: bool
    versions: int  #: of the dataset, as recorded; 0 where that cannot be read
    dataset: bool
    series: dict[str, int]  #: how many have each status of icf derive; empty where none was made

    @property
    def missing(self) -> tuple[str, ...]:
        """What a run of `icf add` would make; a tarball may have been removed for good."""
        kept_elsewhere = self.tarball is None and (self.metadata or self.dataset)
        steps = {
            "tarball": self.tarball is not None or kept_elsewhere,
            "md5sum": self.md5sum or self.metadata or kept_elsewhere,
            "metadata": self.metadata or self.dataset,
            "dataset": self.dataset,
        }
        return tuple(name for name, there in steps.items() if not there)

    @property
    def damaged(self) -> bool:
        """Whether the tarball has another size than the one that was indexed."""
        return None not in (self.tarball, self.recorded) and self.tarball != self.recorded


def statuses(root: Path, study: str | None = None, visit: str | None = None) -> list[VisitStatus]:
    """The visits of the store, of one study, or one visit; sorted.

    Raises NoStore, NoStudy and NoVisit.
    """
    if not root.is_dir():
        raise NoStore(root)
    if study is None:
        return [status(StorePath(root, each)) for each in sorted(_visits(root))]
    if visit is not None:
        one = StorePath(root, Visit(study, visit))
        if not any(file.exists() for file in one.files):
            raise NoVisit(one.visit, root)
        return [status(one)]
    if not StorePath(root, Visit(study, "any")).study.is_dir():
        raise NoStudy(study, root)
    return [status(StorePath(root, each)) for each in visits_of(root, study)]


def status(store: StorePath) -> VisitStatus:
    """One visit, which may have nothing."""
    return VisitStatus(
        visit=store.visit,
        tarball=store.tarball.stat().st_size if store.tarball.exists() else None,
        recorded=_recorded_size(store.tarball_json),
        md5sum=store.md5sum.exists(),
        metadata=store.tarball_json.exists() and store.dicoms_json.exists(),
        versions=_versions(store.versions_json),
        dataset=store.refs.exists() and store.repo_export.exists(),
        series=_series(store.series_json),
    )


def recorded_md5(store: StorePath) -> str | None:
    """The tarball's MD5 as the store has it on record, None where it has not.

    Raises BadRecord.
    """
    readers: tuple[tuple[Path, Callable[[bytes], str]], ...] = (
        (store.md5sum, lambda content: content[:32].decode("ascii", "replace").lower()),
        (store.tarball_json, lambda content: str(json.loads(content)["md5"])),
        (store.versions_json, lambda content: str(json.loads(content)[-1]["tarball"]["md5"])),
    )
    for path, read in readers:
        try:
            digest = read(path.read_bytes())
        except FileNotFoundError:
            continue
        except (ValueError, LookupError, TypeError, RecursionError) as err:
            raise BadRecord(path) from err
        if re.fullmatch("[0-9a-f]{32}", digest) is None:
            raise BadRecord(path)
        return digest
    return None


def _recorded_size(path: Path) -> int | None:
    try:
        return int(json.loads(path.read_bytes())["size"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _versions(path: Path) -> int:
    try:
        return len(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError):
        return 0


def _series(path: Path) -> dict[str, int]:
    try:
        found = Counter(str(each["status"]) for each in json.loads(path.read_bytes())["series"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return {}
    return dict(sorted(found.items()))


def _visits(root: Path) -> Iterator[Visit]:
    for study in root.iterdir():
        # a study may be closed to this user
        if study.is_dir() and os.access(study, os.R_OK | os.X_OK):
            yield from visits_of(root, study.name)


def visits_with_metadata(root: Path, study: str) -> set[str]:
    """The names of those that have both metadata files."""
    names = os.listdir(root / study)
    any_of_it = StorePath(root, Visit(study, "any"))
    ends = [
        file.name.removeprefix("any") for file in (any_of_it.tarball_json, any_of_it.dicoms_json)
    ]
    found = [{name.removesuffix(end) for name in names if name.endswith(end)} for end in ends]
    return set.intersection(*found)


def visits_of(root: Path, study: str) -> list[Visit]:
    """The visits of a study, sorted."""
    if not Visit.is_name(study):
        return []
    found = {match[1] for name in os.listdir(root / study) if (match := _FILE.fullmatch(name))}
    return [Visit(study, visit) for visit in sorted(found) if Visit.is_name(visit)]
