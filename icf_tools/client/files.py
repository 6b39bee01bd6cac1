"""The annexed files of a clone, and where their content is.

in: a folder in a clone, paths    out: File for each

git is asked twice, whatever the number of files: for the links, and for what
the branch git-annex says of their keys. Formats: git-annex documentation,
"internals".
"""

import base64
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from icf_tools.client.member import Member, member_of
from icf_tools.client.objects import content_of
from icf_tools.dataset.branch import log_paths
from icf_tools.dataset.repository import objects, tree
from icf_tools.errors import AccessDenied, IcfError, NotFound
from icf_tools.model.key import AnnexKey

_BRANCH = "refs/heads/git-annex"
_LINK, _FILES, _SUBDATASET = "120000", ("100644", "100755"), "160000"
_UNMERGED = ("--format=%(refname)", "refs/remotes/*/git-annex")


class NoClone(NotFound):
    message = "{} is in no clone of a dataset; change to the folder of one, or make it by icf clone"


class NotOwned(AccessDenied):
    message = (
        "the clone around {} belongs to another user, whose settings git does not obey; "
        "git config --global --add safe.directory with its path lets it"
    )


class NoSuchPath(NotFound):
    message = "the dataset has no {}; git ls-files lists what it has"


class NoSubdataset(NotFound):
    message = "the subdataset {0} is not in this clone; get it with datalad get --no-data {0}"


class CommandFailed(IcfError):
    message = "{} failed: {}; mend that and run it again"


@dataclass(frozen=True, slots=True)
class Clone:
    """A dataset on this disk."""

    top: Path  #: of the work tree
    git_dir: Path  #: the one that all work trees share
    uuid: str  #: of its annex
    settings: Mapping[str, str]  #: of git, by name in lower case

    @classmethod
    def at(cls, folder: Path) -> "Clone":
        """The one that a folder belongs to. Raises NoClone and NotOwned."""
        try:
            top, common = (_place(folder, what) for what in ("--show-toplevel", "--git-common-dir"))
        except (CommandFailed, NotADirectoryError, FileNotFoundError) as err:
            if "safe.directory" in str(err):
                raise NotOwned(folder) from err
            raise NoClone(folder) from err
        listed = run_git(folder, "config", "--list", "-z").decode("utf-8", "surrogateescape")
        pairs = (line.partition("\n") for line in listed.split("\0") if line)
        # a name without a value is true
        settings = {name.lower(): value if given else "true" for name, given, value in pairs}
        if "annex.uuid" not in settings:
            raise NoClone(folder)
        return cls(top, common, settings["annex.uuid"], settings)

    def has(self, setting: str) -> bool:
        """Whether a setting of git is true, which may be said in several ways."""
        value = self.settings.get(setting, "").lower()
        if re.fullmatch(r"[+-]?[0-9]+[kmg]?", value):
            return re.search("[1-9]", value) is not None
        return value in ("true", "yes", "on")


def _place(folder: Path, what: str) -> Path:
    """What `git rev-parse` says, which may be relative to the folder."""
    said = run_git(folder, "rev-parse", what).decode("utf-8", "surrogateescape")
    return Path(os.path.abspath(folder / said.removesuffix("\n")))


@dataclass(frozen=True, slots=True)
class File:
    """An annexed file."""

    path: str  #: from the top of the clone
    key: AnnexKey
    here: bool  #: whether its content is in the clone, and in this file
    places: str  #: the log of where it is
    members: tuple[Member, ...]  #: empty where it is in no tarball, or nobody knows where
    fields: Mapping[str, frozenset[str]] = field(default_factory=dict)  #: git-annex metadata

    def values(self, name: str) -> frozenset[str]:
        """Of a field of its metadata; case does not matter."""
        return self.fields.get(name.lower(), frozenset())


def by_clone(folder: Path, paths: Sequence[Path]) -> dict[Path, list[Path]]:
    """Paths that are relative to a folder, as those of a folder in the clone that each is in.

    That is the given one where the clone is its own, and the top of one that lies in or beside it,
    as a subdataset does.
    """
    home = _top(folder)
    found: dict[Path, list[Path]] = {}
    for path in paths:
        full = Path(os.path.normpath(folder / path))
        top = _top(full)
        if top == home:
            found.setdefault(folder, []).append(Path(os.path.relpath(full, folder)))
        else:
            place = top or full  # which is in none
            found.setdefault(place, []).append(full.relative_to(place))
    return found


def _top(path: Path) -> Path | None:
    """The top of the work tree that it is in, or is."""
    return next((each for each in (path, *path.parents) if os.path.lexists(each / ".git")), None)


def files_of(clone: Clone, folder: Path, paths: Sequence[Path]) -> list[File]:
    """The annexed files below paths that are relative to a folder.

    Raises NoSuchPath and NoSubdataset.
    """
    listed = list(_listed(folder, paths))
    links = [each for each in listed if each.mode == _LINK]
    targets = objects(clone.git_dir, [each.blob for each in links])
    keys = {each.path: _key(text) for each, (_, text) in zip(links, targets, strict=True)}
    for each in listed:
        if each.mode in _FILES:
            keys[each.path] = pointer_of(clone.top / each.path)
    logs = branch_logs(clone, {key for key in keys.values() if key is not None})
    found = []
    for each in listed:
        key = keys.get(each.path)
        if key is None:
            continue
        places, urls = log_paths(key)
        found.append(
            File(
                each.path,
                key,
                each.mode == _LINK and content_of(clone.git_dir, key) is not None,
                logs.get(places, ""),
                tuple(_members(_urls(logs.get(urls, "")))),
                fields_of(logs.get(f"{places}.met", "")),
            )
        )
    return found


def _key(text: str) -> AnnexKey | None:
    """What a link, or a pointer, leads to."""
    if "annex/objects/" not in text:
        return None
    try:
        return AnnexKey.of_target(text.partition("\n")[0])
    except ValueError:
        return None


def branch_logs(clone: Clone, keys: Iterable[AnnexKey]) -> dict[str, str]:
    """What the branch git-annex has of these keys, by the path of the log."""
    wanted = [
        path for key in keys for log, urls in [log_paths(key)] for path in (log, urls, f"{log}.met")
    ]
    unmerged = run_git(clone.top, "for-each-ref", f"--no-merged={_BRANCH}", *_UNMERGED)
    merged: dict[str, str] = {}
    for ref in [_BRANCH, *unmerged.decode().split()]:
        there = tree(clone.git_dir, ref)
        paths = [path for path in wanted if path in there]
        logs = objects(clone.git_dir, [there[path] for path in paths])
        for path, (_, text) in zip(paths, logs, strict=True):
            merged[path] = merged.get(path, "") + text  # git-annex, too, joins the lines
    return merged


def urls_of(clone: Clone, key: AnnexKey) -> list[str]:
    """Where git-annex knows that the content is."""
    return list(_urls(branch_logs(clone, [key]).get(log_paths(key)[1], "")))


def present(log: str) -> list[str]:
    """What a log of places, or of URLs, says is there: the newest line of each counts."""
    last: dict[str, bool] = {}
    for _, rest in log_lines(log):
        state, _, what = rest.partition(" ")
        last[what] = state == "1"
    return [what for what, is_there in last.items() if is_there]


def log_lines(log: str) -> list[tuple[float, str]]:
    """Time and content of each line of a log, the oldest first; what is none is left out."""
    found = []
    for line in log.split("\n"):
        when, _, rest = line.partition("s ")
        if re.fullmatch(r"[0-9]+(\.[0-9]*)?", when):
            found.append((float(when), rest))
    return sorted(found, key=lambda each: each[0])


def _urls(log: str) -> Iterator[str]:
    for url in present(log):
        yield url.removeprefix(":")


def fields_of(log: str) -> dict[str, frozenset[str]]:
    """The values of each field, once all lines of a metadata log are applied."""
    fields: dict[str, set[str]] = {}
    for _, line in log_lines(log):
        name = ""
        for word in line.split(" "):
            if word[:1] not in ("+", "-") or not name:
                name = word.lower()
                continue
            value = word[1:]
            if value.startswith("!"):
                value = _decoded(value[1:])
            values = fields.setdefault(name, set())
            (values.add if word[0] == "+" else values.discard)(value)
    return {name: frozenset(values) for name, values in fields.items() if values}


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text).decode("utf-8", "surrogateescape")
    except ValueError:  # git-annex would not have written it
        return text


def run_git(folder: Path, *arguments: str) -> bytes:
    """What git prints. Raises CommandFailed with its own words."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=False)
    except FileNotFoundError as err:
        if folder.is_dir():
            raise CommandFailed("git", "it is not installed") from err
        raise
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        name = next(each for each in arguments if not each.startswith("-"))
        raise CommandFailed(f"git {name}", said[-1] if said else f"code {done.returncode}")
    return done.stdout


@dataclass(frozen=True, slots=True)
class _Listed:
    mode: str
    blob: str
    path: str


def _listed(folder: Path, paths: Sequence[Path]) -> Iterator[_Listed]:
    """What the index has."""
    for path in paths:
        command = ("--literal-pathspecs", "ls-files", "--stage", "--full-name", "-z", "--")
        said = run_git(folder, *command, str(path))
        if not said:
            raise NoSuchPath(path)
        found = []
        for line in said.decode("utf-8", "surrogateescape").split("\0")[:-1]:
            facts, _, name = line.partition("\t")
            mode, blob, _ = facts.split(" ")
            found.append(_Listed(mode, blob, name))
        if {each.mode for each in found} == {_SUBDATASET}:
            raise NoSubdataset(path)
        yield from found


def unlocked(clone: Clone) -> set[AnnexKey]:
    """The keys of all unlocked files whose content is not there."""
    listed = _listed(clone.top, [Path()])
    keys = (pointer_of(clone.top / each.path) for each in listed if each.mode in _FILES)
    return {key for key in keys if key is not None}


def pointer_of(path: Path) -> AnnexKey | None:
    """The key that stands in an unlocked file until its content is there."""
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError:
        return None
    if not start.startswith(b"/annex/objects/"):
        return None
    return _key(start.decode("utf-8", "surrogateescape"))


def _members(urls: Iterable[str]) -> Iterator[Member]:
    for url in urls:
        member = member_of(url)
        if member is not None:
            yield member
