"""icf get in clones that are not as usual; git-annex agrees with what it did."""

import json
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest

from tests import faults
from tests.client.archive import Archive, served_archive
from tests.client.test_get import get, getting, wait_for
from tests.dataset.clients import Clone, md5

pytestmark = [pytest.mark.annex, pytest.mark.slow]

LARGE = "study_visit/raw/large.bin"
OTHER, ONE, TWO = "study_visit/0.txt", "study_visit/a.txt", "study_visit/b.txt"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    files = {"raw/large.bin": random.Random(4).randbytes(3 << 20), "0.txt": b"other"}
    files |= dict.fromkeys(["a.txt", "b.txt"], b"same")
    with served_archive(tmp_path_factory.mktemp("served"), files) as archive:
        yield archive


def here(clone: Clone, path: str) -> bool:
    """Whether git-annex believes that the content is in the clone."""
    [where] = clone.records("whereis", path)
    return any(place["here"] for place in where["whereis"])


@pytest.mark.parametrize("path", [LARGE, ONE])
def test_what_a_killed_run_has_protected_is_no_obstacle(
    archive: Archive, clone: Clone, path: str, require: Callable[[str], str]
) -> None:
    """It was killed when the image was whole, and not yet where it belongs."""
    target = clone.path / os.readlink(clone.path / path).removeprefix("../" * path.count("/"))
    target.parent.mkdir(parents=True)
    part = target.with_name("icf-get.part")
    part.write_bytes(b"?" * (2 << 20))
    part.chmod(0o444)
    # root may write everywhere, unless it gives that up
    who = [] if os.geteuid() else [require("setpriv"), "--bounding-set=-all", "--inh-caps=-all"]
    done = clone.attempt(*who, "icf", "get", path)
    assert done.returncode == 0, done.stderr
    assert md5(clone.path / path) == archive.deposit.expected[path]
    assert (clone.path / path).resolve().stat().st_mode & 0o777 == 0o444


@pytest.mark.parametrize("size", [2 << 20, 5 << 20])
def test_what_was_begun_may_be_of_any_length(archive: Archive, clone: Clone, size: int) -> None:
    get(clone, LARGE)
    content = (clone.path / LARGE).read_bytes()
    target = (clone.path / LARGE).resolve()
    clone.annex("drop", "--force", LARGE)
    target.parent.mkdir(parents=True)
    target.with_name("icf-get.part").write_bytes((content + bytes(5 << 20))[:size])
    archive.server.requests.clear()
    get(clone, LARGE)
    assert archive.sent == max(len(content) - size, 1), "no more than was missing"
    assert (clone.path / LARGE).read_bytes() == content


def test_git_annex_may_be_first(
    archive: Archive, clone: Clone, require: Callable[[str], str]
) -> None:
    who = [] if os.geteuid() else [require("setpriv"), "--bounding-set=-all", "--inh-caps=-all"]
    over = Event()
    archive.server.faults = [faults.Stall(2_000_000, over)]
    with getting(clone, LARGE, who=who) as process:
        wait_for(lambda: list(clone.path.glob(".git/annex/objects/*/*/*/icf-get.part")))
        clone.annex("get", LARGE)
        over.set()
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 0, said
    assert here(clone, LARGE)
    assert all(report["success"] for report in clone.records("fsck", LARGE))
    assert not list(clone.path.glob(".git/annex/objects/*/*/*/icf-get.part"))


def test_what_is_dropped_meanwhile_is_not_here(archive: Archive, clone: Clone) -> None:
    archive.server.faults = [faults.Stall(after=3_000_000)]
    with getting(clone) as process:
        wait_for(lambda: {ONE, TWO} <= clone.here)
        clone.annex("drop", "--force", ONE)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    assert not here(clone, ONE)
    assert clone.here == {OTHER}
    assert here(clone, OTHER)
    assert all(report["success"] for report in clone.records("fsck", "--fast"))


def test_a_second_work_tree(archive: Archive, clone: Clone, tmp_path: Path) -> None:
    """git-annex has not yet made it its own."""
    tree = Clone(clone.client, tmp_path / "tree")
    no_hooks = ("-c", "core.hooksPath=/dev/null")
    clone.run("git", *no_hooks, "worktree", "add", "--no-checkout", tree.path)
    tree.run("git", "read-tree", "HEAD")
    get(tree, "study_visit/series_1")
    assert all(here(clone, path) for path in archive.deposit.expected if "/series_1/" in path)
    assert all(report["success"] for report in clone.records("fsck", "--fast"))
    shutil.rmtree(tree.path)
    clone.run("git", "worktree", "prune")
    assert {path.split("/")[1] for path in clone.here} == {"series_1"}


def test_an_unlocked_file_of_the_same_content(archive: Archive, clone: Clone) -> None:
    clone.annex("unlock", TWO)
    get(clone, ONE)
    assert md5(clone.path / TWO) == archive.deposit.expected[TWO]
    assert (clone.path / TWO).is_file()
    assert here(clone, ONE)


def test_a_file_that_only_points_to_what_is_here_is_told(clone: Clone) -> None:
    get(clone, ONE)
    clone.annex("unlock", TWO)
    content = (clone.path / TWO).read_bytes()
    clone.annex("drop", "--force", ONE)
    pointer = (clone.path / TWO).read_bytes()
    assert pointer != content
    get(clone, ONE)
    (clone.path / TWO).write_bytes(pointer)
    done = get(clone, TWO, code=10)
    assert f"{TWO}: its content is in the clone and not in this file" in done.stderr


@pytest.mark.parametrize("value", ["1", "yes", "On", None])
def test_a_private_clone_however_it_is_said(clone: Clone, value: str | None) -> None:
    with (clone.path / ".git/config").open("a") as config:
        config.write("[annex]\n\tprivate" + ("" if value is None else f" = {value}") + "\n")
    before = clone.run("git", "rev-parse", "git-annex")
    get(clone, ONE)
    assert clone.here >= {ONE}
    assert clone.run("git", "rev-parse", "git-annex") == before


def test_a_setting_that_is_off(archive: Archive, clone: Clone) -> None:
    clone.run("git", "config", "annex.securehashesonly", "off")
    clone.run("git", "config", "annex.crippledfilesystem", "0")
    get(clone, ONE)
    assert len(archive.asked) == 1, "by icf get itself, not by two processes of git-annex"


def test_a_key_of_a_kind_that_is_not_ours(clone: Clone) -> None:
    (clone.path / "own.txt").write_text("own")
    clone.annex("add", "--backend=WORM", "own.txt")
    assert "-m" in os.readlink(clone.path / "own.txt")
    assert get(clone, "own.txt").stdout == "got 0 files; 1 were here\n"
    clone.annex("drop", "--force", "own.txt")
    done = get(clone, "own.txt", "--json", code=10)
    assert list(json.loads(done.stdout)["failed"]) == ["own.txt"]


def test_a_folder_with_a_line_end_in_its_name(archive: Archive, clone: Clone) -> None:
    odd = clone.path.with_name("line\nend\u2028")
    shutil.move(clone.path, odd)
    moved = Clone(clone.client, odd)
    get(moved, ONE)
    assert md5(odd / ONE) == archive.deposit.expected[ONE]


def test_a_branch_of_a_name_like_ours(clone: Clone) -> None:
    clone.run("git", "branch", "icf-get")
    get(clone, ONE)
    assert here(clone, ONE)


def test_something_else_in_the_folder_of_a_key(archive: Archive, clone: Clone) -> None:
    """As git-annex has its locks there."""
    target = clone.path / os.readlink(clone.path / OTHER).removeprefix("../")
    target.parent.mkdir(parents=True)
    target.with_name("KEY.lck").touch()
    archive.server.faults = [faults.Garbage(after=0)]
    done = get(clone, OTHER, code=10)
    assert "is not what the dataset has" in done.stderr
    get(clone, OTHER)
