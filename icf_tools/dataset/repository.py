"""Commits in a bare repository, written by git from one stream.

in: files of both branches    out: commit ids, and the repository as a folder

No work tree and no process per file; git itself writes the pack. Each commit
has the time and the author it is given, so its id depends on nothing else.
"""

import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, cast

from icf_tools.errors import IcfError

_AUTHOR = "icf_tools <icf_tools@localhost>"
BRANCHES = ("git-annex", "master")  # in the order of their names
_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n"


class GitFailed(IcfError):
    message = (
        "git fast-import failed: {}; see that git 2.30 or later is installed and the disk has room"
    )


@dataclass(frozen=True, slots=True)
class Commit:
    """What one branch holds."""

    message: str
    files: Iterable[tuple[str, str]]
    links: Iterable[tuple[str, str]] = ()
    gone: Iterable[str] = ()  #: paths that its parent has


def create(folder: Path) -> None:
    """Make an empty folder a bare repository without commits."""
    for name in ("objects/info", "objects/pack", "refs/heads"):
        (folder / name).mkdir(parents=True)
    (folder / "HEAD").write_text("ref: refs/heads/master\n")
    (folder / "config").write_text(_CONFIG)


def commit(
    folder: Path, commits: Mapping[str, Commit], when: int, parents: Mapping[str, str]
) -> dict[str, str]:
    """Add a commit to each branch, and a pack with what is new; return their ids.

    `when` is the time of the commits, in seconds since 1970; `parents` the ids
    of those before them, by branch; none for the first ones.
    """
    marks = folder / "marks"
    command = ["git", *_options(), "fast-import", "--quiet", "--done", "--date-format=raw"]
    command += ["--depth=0", f"--export-marks={marks}"]
    try:
        git = subprocess.Popen(
            command,
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
    except FileNotFoundError as err:
        raise GitFailed("there is no git") from err
    with git:
        with suppress(BrokenPipeError):  # what git says of it is raised below
            _send(cast("IO[bytes]", git.stdin), commits, when, parents)
        said = git.communicate()[1].decode(errors="replace").strip()
    if git.returncode:
        raise GitFailed(said.splitlines()[0] if said else f"exit code {git.returncode}")
    ids = dict(line.split() for line in marks.read_text().splitlines())
    marks.unlink()
    return {branch: ids[f":{mark}"] for mark, branch in enumerate(commits, start=1)}


def commit_time(folder: Path, tip: str) -> int:
    """When a commit was made, in seconds since 1970. Raises GitFailed where it is not there."""
    return int(_git(folder, ["log", "-1", "--format=%ct", tip, "--"]))


def contents(folder: Path, tip: str, paths: Iterable[str]) -> dict[str, str | None]:
    """What a commit has at each of these paths, None for a folder; what it lacks is left out."""
    wanted = list(paths)
    found = zip(wanted, objects(folder, [f"{tip}:{path}" for path in wanted]), strict=True)
    return {
        path: None if kind == "tree" else text for path, (kind, text) in found if kind != "missing"
    }


def tree(folder: Path, tip: str) -> dict[str, str]:
    """The id of every file of a commit by its path: of very many, faster than to ask by paths."""
    listed = _git(folder, ["ls-tree", "-r", "-z", tip]).split("\0")[:-1]
    return {
        path: facts.rpartition(" ")[2]
        for facts, _, path in (line.partition("\t") for line in listed)
    }


def objects(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Kind and content of objects, by what git calls them; `missing` is what it does not know."""
    asked = "".join(f"{name}\n" for name in names).encode("utf-8", "surrogateescape")
    answer = BytesIO(_run(folder, ["cat-file", "--batch", "--buffer"], asked))
    for _ in names:
        head = answer.readline().removesuffix(b"\n")
        if head.endswith(b" missing"):
            yield "missing", ""
        else:
            _, kind, size = head.split(b" ")
            yield kind.decode(), answer.read(int(size)).decode("utf-8", "surrogateescape")
            answer.read(1)


def _git(folder: Path, arguments: Sequence[str]) -> str:
    return _run(folder, arguments, b"").decode("utf-8", "surrogateescape")


def _run(folder: Path, arguments: Sequence[str], text: bytes) -> bytes:
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=_environment(folder),
        input=text,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise GitFailed(done.stderr.decode(errors="replace").strip())
    return done.stdout


def refs_text(ids: Mapping[str, str]) -> str:
    """What datalad-next's git remote helper makes of the repository's refs."""
    lines = (f"{ids[branch]} refs/heads/{branch}\n" for branch in BRANCHES)
    return "".join(lines) + "@refs/heads/master HEAD\n"


def packed_refs(ids: Mapping[str, str]) -> str:
    """The file packed-refs; format: git documentation, gitrepository-layout."""
    lines = (f"{ids[branch]} refs/heads/{branch}\n" for branch in BRANCHES)
    return "# pack-refs with: peeled fully-peeled sorted \n" + "".join(lines)


def export_files(folder: Path, ids: Mapping[str, str]) -> Iterator[tuple[str, bytes | Path]]:
    """What a clone needs of the repository, by path, in a fixed order."""
    packs = sorted((folder / "objects/pack").glob("pack-*"))
    names = "".join(f"P {pack.name}\n" for pack in packs if pack.suffix == ".pack")
    yield "HEAD", (folder / "HEAD").read_bytes()
    yield "config", _CONFIG.encode()
    yield "objects/info/packs", f"{names}\n".encode()
    for pack in packs:
        yield f"objects/pack/{pack.name}", pack
    yield "packed-refs", packed_refs(ids).encode()
    yield "refs/", b""
    yield "refs/heads/", b""


def _options() -> list[str]:
    # stored objects: the archive around them compresses better and faster
    settings = ("pack.compression=0", "core.compression=0", "fastimport.unpackLimit=0")
    return [word for setting in settings for word in ("-c", setting)]


def _environment(folder: Path) -> dict[str, str]:
    """This process's, less all that could change what git does."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {
        "GIT_DIR": str(folder),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "LC_ALL": "C",
    }


def _send(
    out: IO[bytes], commits: Mapping[str, Commit], when: int, parents: Mapping[str, str]
) -> None:
    """Format: git documentation, git-fast-import."""
    for mark, (branch, made) in enumerate(commits.items(), start=1):
        message = _data(made.message)
        head = f"commit refs/heads/{branch}\nmark :{mark}\ncommitter {_AUTHOR} {when} +0000\n"
        out.write(head.encode() + message)
        if branch in parents:
            out.write(f"from {parents[branch]}\n".encode())
        for path in made.gone:
            out.write(b"D " + _quoted(path) + b"\n")
        for mode, files in (("100644", made.files), ("120000", made.links)):
            for path, content in files:
                out.write(f"M {mode} inline ".encode() + _quoted(path) + b"\n" + _data(content))
    out.write(b"done\n")


def _data(text: str) -> bytes:
    content = text.encode("utf-8", "surrogateescape")
    return b"data %d\n%b\n" % (len(content), content)


def _quoted(path: str) -> bytes:
    raw = path.encode("utf-8", "surrogateescape")
    return b'"' + raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'
