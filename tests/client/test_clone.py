"""A clone is there as a whole, or not at all and for a reason that is said."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from socket import gethostname

import pytest

from icf_tools.access.credential import NoCredential
from icf_tools.access.source import Interrupted, IsFolder, Opener
from icf_tools.client import programs
from icf_tools.client.clone import (
    CloneFailed,
    NoIdentity,
    NoRefs,
    NoVisit,
    PathTaken,
    _description,
    clone,
)
from icf_tools.client.enable import enable_remote
from icf_tools.client.files import NoClone, run_git
from icf_tools.client.programs import telling
from icf_tools.client.site import NoStudy, Study, StudyDenied, study_of
from icf_tools.model.visit import Visit
from tests import dicoms
from tests.conftest import BIN
from tests.dataset.clients import Client, Deposit, deposit
from tests.faults import FaultyServer, Redirect, Status, faulty_server
from tests.servers import ShellServer, free_port, shell_server

VISIT = Visit("study", "visit")
REFS = "/study/visit_XDLRA--refs"
EXPORT = "/study/visit_XDLRA--repo-export"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Deposit:
    """Two series of three images, in a folder that is awkward in a URL."""
    folder = tmp_path_factory.mktemp("small")
    source = dicoms.visit(folder / "incoming")
    (folder / "st o&re,%").mkdir()
    url = f"file://{folder}/st%20o&re,%25"
    return deposit(folder / "st o&re,%", source, url)


@pytest.fixture
def web() -> Iterator[FaultyServer]:
    """A public server that has nothing but one study."""
    with faulty_server({"/study/": b"index"}) as server:
        yield server


def fails(server: FaultyServer, path: Path, kind: type[Exception]) -> str:
    """What is said; and nothing is there."""
    with pytest.raises(kind) as caught:
        clone(VISIT, server.url, path)
    assert not path.exists()
    return str(caught.value)


def test_a_path_that_is_taken_is_left_alone(web: FaultyServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for path in (tmp_path, tmp_path / "file", tmp_path / "link", tmp_path / "file" / "deep"):
        with pytest.raises(PathTaken):
            clone(VISIT, web.url, path)
    assert web.requests == []
    assert (tmp_path / "file").read_text() == "mine"


def test_who_is_unknown_to_git_is_told_how_to_mend_it(
    web: FaultyServer, tmp_path: Path, isolated: Path
) -> None:
    (isolated / ".gitconfig").write_text("[user]\n\tuseConfigOnly = true\n")
    assert "git config --global user.email" in fails(web, tmp_path / "new", NoIdentity)
    assert web.requests == []


def test_it_is_said_which_name_is_wrong(web: FaultyServer, tmp_path: Path) -> None:
    assert "has no visit visit" in fails(web, tmp_path / "new", NoVisit)
    web.content = {"/other/": b"index"}
    assert f"no study study at {web.url}" in fails(web, tmp_path / "new", NoStudy)


def test_a_server_that_denies_is_told(web: FaultyServer, tmp_path: Path) -> None:
    web.faults.append(Status(403))
    fails(web, tmp_path / "new", StudyDenied)
    web.user = ("lab", "secret")
    assert "secret" not in fails(web, tmp_path / "new", NoCredential)


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under any number."""

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("icf_tools.client.clone.getuser", nobody)
    assert _description(Path("/data/P1")) == f"{os.getuid()}@{gethostname()}:/data/P1"


def test_a_server_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(Interrupted):
        clone(VISIT, f"http://127.0.0.1:{free_port()}", tmp_path / "new")
    assert time.monotonic() - begun < 7  # s; trying again takes longer


@pytest.mark.parametrize(
    "page", [b"<!DOCTYPE html><title>Log in</title>", b"", b"\0" * (2 << 20), b"0 refs/heads/x\n"]
)
def test_a_page_in_place_of_the_dataset_is_told(
    web: FaultyServer, tmp_path: Path, page: bytes
) -> None:
    web.content = {REFS: page, EXPORT: b""}
    fails(web, tmp_path / "new", NoRefs)


def test_half_a_dataset_is_none(small: Deposit, web: FaultyServer, tmp_path: Path) -> None:
    web.content = {REFS: small.store.refs.read_bytes(), "/study/": b""}
    fails(web, tmp_path / "new", NoVisit)


@pytest.mark.annex
@pytest.mark.slow
def test_a_damaged_dataset_leaves_nothing(
    small: Deposit, web: FaultyServer, tmp_path: Path
) -> None:
    web.content = {REFS: small.store.refs.read_bytes(), EXPORT: b"no ZIP"}
    fails(web, tmp_path / "not" / "there", CloneFailed)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    with pytest.raises(CloneFailed):
        clone(VISIT, web.url, tmp_path / "empty")
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.annex
@pytest.mark.slow
def test_a_clone_through_a_redirect_of_an_awkward_url(
    small: Deposit, web: FaultyServer, tmp_path: Path
) -> None:
    moved = [(REFS, small.store.refs), (EXPORT, small.store.repo_export)]
    web.content = {f"/new{name}": path.read_bytes() for name, path in moved}
    with faulty_server({}) as old:
        # of our requests and those of DataLad, in their order
        old.faults += [Redirect(f"{web.url}/new{name}") for name, _ in moved * 2]
        cloned = clone(VISIT, f"{old.url}/st%20o&re,%25", tmp_path / "new")
        paths = [each.path for each in old.requests]
    assert paths == [f"/st%20o&re,%25{name}" for name, _ in moved * 2]
    assert cloned.version == 1


@pytest.fixture(scope="module")
def cloned(small: Deposit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone, in a folder of a name that is awkward; nobody changes it."""
    path = tmp_path_factory.mktemp("clones") / "-a b" / "&%'"
    done = clone(VISIT, small.store_url, path)
    commit = run_git(path, "rev-parse", "HEAD").decode().strip()
    assert (done.path, done.version, done.commit) == (path, 1, commit)
    return path


@pytest.mark.annex
def test_a_clone_has_all_links_and_the_remote(small: Deposit, cloned: Path) -> None:
    listed = run_git(cloned, "ls-files", "--", "icf", "study_visit").decode().splitlines()
    assert set(listed) == {small.tarball, *small.expected}
    assert run_git(cloned, "config", "remote.icf.annex-uuid")
    assert run_git(cloned, "status", "--porcelain") == b""
    assert not enable_remote(cloned)


@pytest.mark.annex
def test_the_first_get_starts_no_other_program(
    small: Deposit, cloned: Path, tmp_path: Path
) -> None:
    """git-annex asks a program for its cost only where it is not noted."""
    for name in ("uncurl", "archivist"):
        assert run_git(cloned, "config", f"remote.{name}.annex-cost") == b"200.0\n"
    copy = tmp_path / "copy"
    shutil.copytree(cloned, copy, symlinks=True)
    path = sorted(small.expected)[0]
    command = ["git", "annex", "get", "--debug", path]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=True)
    assert "git-annex-remote-icf" in done.stderr
    assert "git-annex-remote-archivist" not in done.stderr
    assert "git-annex-remote-uncurl" not in done.stderr


@pytest.mark.annex
def test_the_study_of_a_clone_is_known(small: Deposit, cloned: Path, tmp_path: Path) -> None:
    assert study_of(cloned) == Study(small.store_url, "study")
    copy = tmp_path / "copy"
    run_git(tmp_path, "clone", "-q", str(cloned), str(copy))
    run_git(copy, "branch", "git-annex", "origin/git-annex")
    run_git(copy, "config", "annex.uuid", "00000000-0000-0000-0000-000000000001")
    assert study_of(copy) == Study(small.store_url, "study")  # of the tarball's URL


@pytest.mark.annex
@pytest.mark.slow
def test_the_remote_is_enabled_in_a_clone_made_without_the_program(
    small: Deposit, tmp_path: Path
) -> None:
    client = Client.new(tmp_path / "user")
    there = client.clone(VISIT.clone_url(small.store_url), tmp_path / "clone").path
    assert "remote.icf.annex-uuid" not in run_git(there, "config", "--list").decode()
    assert enable_remote(there)
    assert run_git(there, "config", "remote.icf.annex-uuid")
    assert not enable_remote(there)


def test_a_repository_of_something_else_has_no_such_remote(tmp_path: Path) -> None:
    with pytest.raises(NoClone):
        enable_remote(tmp_path)
    run_git(tmp_path, "init", "-q")
    run_git(tmp_path, "config", "annex.uuid", "00000000-0000-0000-0000-000000000001")
    assert not enable_remote(tmp_path)


@pytest.mark.annex
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle_it_leaves_nothing(
    small: Deposit, tmp_path: Path, sign: signal.Signals
) -> None:
    path, temporary = tmp_path / "deep" / "new", tmp_path / "tmp"
    temporary.mkdir()
    command = [BIN / "icf", "clone", str(VISIT), path, "--store-url", small.store_url]
    running = subprocess.Popen(
        list(map(str, command)),
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(temporary)},
    )
    while not list(tmp_path.glob(".icf-clone-*/new/.git")):
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(sign)
    said = running.communicate(timeout=50)[1]
    assert (running.returncode, said) == (128 + sign, "icf: stopped\n")
    time.sleep(0.5)  # nobody is left who would make it again
    assert list(tmp_path.iterdir()) == [temporary]
    assert list(temporary.iterdir()) == []


@pytest.mark.annex
def test_what_others_do_meanwhile_stays(
    small: Deposit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the path and the clone, and between the clone and its move."""
    path = tmp_path / "clone"

    def run(command: Sequence[str], folder: Path, **more: str) -> tuple[int, str]:
        path.mkdir()
        (path / "thesis.txt").write_text("precious")
        return programs.run(command, folder, **more)

    monkeypatch.setattr("icf_tools.client.clone.run", run)
    with pytest.raises(PathTaken):
        clone(VISIT, small.store_url, path)
    assert [each.name for each in tmp_path.iterdir()] == ["clone"]
    assert (path / "thesis.txt").read_text() == "precious"


@pytest.mark.annex
def test_into_the_current_folder(
    small: Deposit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    inode = Path.cwd().stat().st_ino
    clone(VISIT, small.store_url, Path())
    assert Path.cwd().stat().st_ino == inode
    assert sorted(os.listdir()) == [".datalad", ".git", ".gitattributes", "icf", "study_visit"]
    said = subprocess.check_output(["git", "annex", "info", "here"], text=True)
    assert f":{tmp_path / 'here'} [here]" in said


@pytest.fixture
def shell(tmp_path: Path, require: Callable[[str], str]) -> Iterator[ShellServer]:
    """An ssh server that lets nobody in yet."""
    require("ssh-keygen")
    with shell_server(tmp_path / "sshd", require("sshd")) as server:
        yield server


@pytest.mark.annex
@pytest.mark.slow
def test_a_store_behind_ssh(
    small: Deposit, shell: ShellServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client.new(tmp_path / "user")
    shell.introduce(client)
    monkeypatch.setenv("PATH", f"{client.bin}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "store").symlink_to(small.store.root)
    url = f"{shell.url}{tmp_path}/store"

    def icf(*arguments: object) -> tuple[int, str]:
        command = [str(BIN / "icf"), *map(str, arguments)]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=client.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout + done.stderr

    assert icf("setup-client", "--store-url", url)[0] == 9  # nobody is let in
    shell.let_in(client)
    assert icf("setup-client", "--store-url", f"{url}/no") == (
        3,
        f"icf: there is no folder {url}/no; see that the URL of the store is right\n",
    )
    assert icf("setup-client", "--store-url", url, "study")[0] == 0
    assert icf("login", "other")[0] == 3
    assert "has no visit other" in icf("clone", "study/other")[1]
    assert "no study other" in icf("clone", "other/visit")[1]
    code, said = icf("clone", "study/visit", "new")
    assert code == 0, said


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(IsFolder):
        Opener()(tmp_path.as_uri()).open(0, None)


def test_the_line_that_says_why() -> None:
    said = "[INFO] x\nfatal: CommandError('y' failed with exitcode 1)\n{}\n"
    git = "fatal: Could not read from remote repository.\n\nPlease make sure\nand exists.']]"
    assert telling(said.format("external special remote error: no space") + git) == "no space"
    assert telling("[X] fatal: couldn't find remote refs']]\n") == "couldn't find remote refs"
    assert telling("[ERROR] name\nand more") == "[ERROR] name"
    said = "[err: 'Verification of content failed\nget: 1 failed'])"
    assert telling(said) == "Verification of content failed"
    assert telling("\n") == "it said nothing"
