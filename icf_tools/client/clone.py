"""A clone of a visit by stock DataLad, once the store is seen to have it.

in: Visit, store URL    out: Cloned, a folder; or nothing at all

DataLad tells a wrong name, a wrong password and a silent server by one and the
same sentence, so the small file is read first that a clone begins with.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path
from socket import gethostname
from tempfile import TemporaryDirectory, mkdtemp

from icf_tools.access.credential import Ask, variables
from icf_tools.access.source import NotAllowed, NotThere, Opener
from icf_tools.client.files import Clone, CommandFailed, NoClone, run_git
from icf_tools.client.programs import run, telling
from icf_tools.client.site import NoStudy, Study, StudyDenied, is_there
from icf_tools.dataset.branch import ARCHIVIST, UNCURL
from icf_tools.errors import Conflict, NotFound, RemoteFailed, UsageError
from icf_tools.model.visit import StorePath, Visit

_MOST = 1 << 20  # bytes of a file of refs
_COST = "200.0"  # what git-annex notes for a remote whose program names none
_REFS = re.compile(r"(?:(?:[0-9a-f]{40,64} refs/\S+|@refs/\S+ HEAD)\n)+")


class PathTaken(Conflict):
    message = "{} is there and no empty folder; give another path, or remove it"


class NoIdentity(UsageError):
    message = (
        "git cannot tell who you are, which a clone notes ({}); run git config --global user.name "
        "NAME and git config --global user.email ADDRESS"
    )


class NoVisit(NotFound):
    message = (
        "study {} at {} has no visit {}, or no dataset of it; see that its name is right, "
        "or ask who runs the store"
    )


class NoRefs(RemoteFailed):
    message = (
        "what comes from {} is no list of a dataset's branches, as where a server sends a page "
        "instead; see that the store URL is right, or tell who runs the store"
    )


class CloneFailed(RemoteFailed):
    message = (
        "datalad clone failed and nothing of it was kept: {}; try again, or tell who runs the store"
    )


@dataclass(frozen=True, slots=True)
class Cloned:
    """A visit on this disk."""

    visit: Visit
    path: Path
    version: int
    commit: str


def clone(visit: Visit, store_url: str, path: Path, ask: Ask | None = None) -> Cloned:
    """Clone a visit into a folder that is not there, or is empty.

    Raises PathTaken and NoIdentity before anything; NoVisit, NoStudy, StudyDenied, NoRefs and what
    reading a store raises; CloneFailed. Nothing is left of a clone that failed.
    """
    path = path.absolute()
    nearest = _free(path)
    try:
        run_git(nearest, "var", "GIT_COMMITTER_IDENT")
    except CommandFailed as err:
        raise NoIdentity(err.args[-1]) from err
    known = _see(visit, store_url, ask)
    with _workplace(nearest) as work:
        made = work / path.name
        # datalad-next works in the repository that surrounds the current folder
        with TemporaryDirectory(prefix="icf-clone-") as elsewhere:
            url = visit.clone_url(store_url)
            command = ["datalad", "clone", "--description", _description(path), url, str(made)]
            code, said = run(command, Path(elsewhere), TMPDIR=elsewhere, **known)
        if code:
            raise CloneFailed(telling(said))
        tree = ("ls-tree", "HEAD", "--", visit.dataset_path)
        if not made.joinpath(".git").exists() or not run_git(made, *tree):
            raise CloneFailed(f"it has no {visit.dataset_path}")
        commit, count = (
            run_git(made, *command).decode().strip()
            for command in (("rev-parse", "HEAD"), ("rev-list", "--count", "HEAD"))
        )
        _tell_costs(made)
        _move(made, path)
    return Cloned(visit, path, int(count), commit)


def _tell_costs(made: Path) -> None:
    """Spare the first get the start of programs of DataLad that git-annex would only ask this.

    It has noted their costs but for the remote that it enabled last, and so for any of them.
    """
    with suppress(NoClone):
        settings = Clone.at(made).settings
        for name in (UNCURL, ARCHIVIST):
            cost = f"remote.{name}.annex-cost"
            if f"remote.{name}.annex-uuid" in settings and cost not in settings:
                run_git(made, "config", cost, _COST)


def _description(path: Path) -> str:
    """What git-annex calls a clone at this path."""
    try:
        user = getuser()
    except (KeyError, OSError):  # one without a name, as in a container
        user = str(os.getuid())
    return f"{user}@{gethostname()}:{path}"


def _see(visit: Visit, store_url: str, ask: Ask | None) -> dict[str, str]:
    """See that there is what a clone begins with; how DataLad is told who is let in."""
    study = Study(store_url, visit.study)
    files = StorePath(Path(), visit)
    url = f"{store_url}/{files.refs.as_posix()}"
    opener = Opener(ask)
    data = b""
    try:
        with closing(opener(url).open(0, None)) as opened:
            while len(data) <= _MOST and (piece := opened.read(_MOST)):
                data += piece
        opener(f"{store_url}/{files.repo_export.as_posix()}").open(0, None).close()
    except NotThere as err:
        if is_there(study, opener):
            raise NoVisit(visit.study, store_url, visit.visit) from err
        raise NoStudy(visit.study, store_url) from err
    except NotAllowed as err:
        raise StudyDenied(visit.study, store_url) from err
    finally:
        opener.close()
    if not _REFS.fullmatch(data.decode(errors="replace")):
        raise NoRefs(url)
    return {
        name: value
        for realm, credential in opener.let_in.items()
        if credential.asked and not credential.name
        for name, value in variables(realm, credential).items()
    }


def _free(path: Path) -> Path:
    """The folder that is there of a path; itself where it is an empty one. Raises PathTaken."""
    if os.path.lexists(path):
        if not path.is_dir() or any(path.iterdir()):
            raise PathTaken(path)
        return path
    nearest = path.parent
    while not os.path.lexists(nearest):
        nearest = nearest.parent
    if not nearest.is_dir():
        raise PathTaken(nearest)
    return nearest


@contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """A folder of our own, of which nothing is left: what others put beside it stays."""
    work = Path(mkdtemp(prefix=".icf-clone-", dir=folder))
    try:
        yield work
    finally:
        for below, _, _ in os.walk(work):
            os.chmod(below, 0o700)  # git-annex protects some
        shutil.rmtree(work)


def _move(made: Path, path: Path) -> None:
    """Have a clone where it was wanted; another one may have come there meanwhile."""
    try:
        if not path.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            made.rename(path)
            return
        # the folder itself stays: it may be somebody's current one
        if {each.name for each in path.iterdir()} != {made.parent.name}:
            raise PathTaken(path)
        for each in sorted(made.iterdir(), reverse=True):  # .git is the last
            each.rename(path / each.name)
    except OSError as err:
        raise PathTaken(path) from err
