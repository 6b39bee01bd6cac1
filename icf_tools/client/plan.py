"""What getting files of a clone takes, before any of it.

in: a folder, paths, a Choice    out: a Plan for each clone that they are in
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from icf_tools.access.parts import bytes_of
from icf_tools.client.files import Clone, File, by_clone, files_of, present, unlocked
from icf_tools.client.member import Member
from icf_tools.errors import NotFound
from icf_tools.model.choice import Choice
from icf_tools.model.key import AnnexKey

_BACKENDS = ("MD5E", "MD5")
WORTH_KEEPING = 1 << 20  # bytes of a file of which a part is of use


class NothingFits(NotFound):
    message = "no image of {} fits; the series there have the numbers {}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A key to get out of a tarball."""

    paths: tuple[str, ...]  #: of the files that have it
    key: AnnexKey
    members: tuple[Member, ...]  #: at least one; all are the same content
    places: str  #: the log of where it is

    @property
    def member(self) -> Member:
        """The one to read."""
        return self.members[0]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done in a clone, before any of it."""

    clone: Clone
    inside: str  #: put before its paths where they are shown; empty for the clone one is in
    files: int  #: that were asked for
    here: int  #: of them in the clone already
    wanted: tuple[Wanted, ...]  #: in the order of the tarballs
    others: tuple[str, ...]  #: paths that are left to git-annex
    #: keys that are here, and git-annex does not know it, with the logs of where they are
    unnoted: tuple[tuple[AnnexKey, str], ...]
    whole: tuple[AnnexKey, ...]  #: keys that are here, and large

    @property
    def size(self) -> int:
        """Bytes to read from tarballs."""
        return sum(
            bytes_of([(each.member.offset, each.member.end) for each in group])
            for _, group in by_tarball(self.wanted)
        )

    @property
    def room(self) -> int:
        """Bytes of disk that it takes."""
        return sum(each.member.size for each in self.wanted)


def by_tarball(wanted: Sequence[Wanted]) -> Iterator[tuple[str, list[Wanted]]]:
    """Those that follow each other and are read from the same tarball, with its key."""
    for tarball, group in groupby(wanted, key=lambda each: each.member.tarball):
        yield tarball, list(group)


def plans(folder: Path, paths: Sequence[Path], choice: Choice) -> list[Plan]:
    """What getting these paths, relative to the folder, takes.

    Raises NoClone, NotOwned, NoSuchPath, NoSubdataset, and NothingFits where nothing does.
    """
    found = []
    refused = []
    for place, below in by_clone(folder, paths).items():
        try:
            found.append(_plan(folder, place, below, choice))
        except NothingFits as err:
            refused.append(err)
    if not found:
        raise refused[0]
    return found


def _plan(home: Path, folder: Path, paths: Sequence[Path], choice: Choice) -> Plan:
    """For those that are relative to the folder, in a clone. Raises NoSuchPath, NothingFits."""
    clone = Clone.at(folder)
    named = {Path(os.path.normpath(folder / path)) for path in paths}
    found = files_of(clone, folder, paths)
    files = [
        file
        for file in found
        if (choice.takes(file.values) if choice else not _is_aside(file, clone, named))
    ]
    if choice and not files:
        numbers = {number for file in found for number in file.values("SeriesNumber")}
        raise NothingFits(clone.top, ", ".join(sorted(numbers, key=_by_size)) or "of none")
    left_to_git_annex = _protects_otherwise(clone)
    pointers = unlocked(clone)  # git-annex fills them as it gets the content, and not later
    wanted: dict[AnnexKey, list[File]] = {}
    taken: dict[tuple[str, int], AnnexKey] = {}
    others = []
    for file in files:
        if file.here:
            continue
        if (
            left_to_git_annex
            or not file.members
            or file.key in pointers
            or file.key.backend not in _BACKENDS
            or taken.setdefault(_place(file.members[0]), file.key) != file.key
        ):
            others.append(file.path)
        else:
            wanted.setdefault(file.key, []).append(file)
    return Plan(
        clone=clone,
        inside="" if folder == home else f"{os.path.relpath(folder, home)}/",
        files=len(files),
        here=sum(file.here for file in files),
        wanted=tuple(sorted(map(_wanted, wanted.values()), key=lambda each: each.member)),
        others=tuple(others),
        unnoted=tuple(
            (file.key, file.places)
            for file in files
            if file.here and clone.uuid not in present(file.places)
        ),
        whole=tuple(
            file.key for file in files if file.here and (file.key.size or 0) > WORTH_KEEPING
        ),
    )


def _wanted(files: Sequence[File]) -> Wanted:
    """What is wanted where these have the same key."""
    first = files[0]
    paths = tuple(file.path for file in files)
    return Wanted(paths, first.key, first.members, first.places)


def _place(member: Member) -> tuple[str, int]:
    return member.tarball, member.offset


def _by_size(number: str) -> tuple[int, str]:
    return len(number), number


def _is_aside(file: File, clone: Clone, named: set[Path]) -> bool:
    """Whether it is a tarball that nobody named: it would double what is on disk."""
    if not (file.path.startswith("icf/") and file.path.endswith("_dicom.tar")):
        return False
    return named.isdisjoint((clone.top / file.path, clone.top / "icf"))


def _protects_otherwise(clone: Clone) -> bool:
    """Whether git-annex keeps content in another way than in most clones."""
    others = ("core.bare", "annex.crippledfilesystem", "annex.securehashesonly", "annex.private")
    return (
        any(map(clone.has, others))
        or clone.settings.get("core.sharedrepository", "false") not in ("false", "umask", "0")
        or "annex.freezecontent-command" in clone.settings
    )
