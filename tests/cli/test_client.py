"""What a user of a store runs, at a terminal and in a job."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import dicoms
from tests.client.terminal import at_terminal
from tests.conftest import BIN, Run, found
from tests.dataset.clients import Client, Deposit, deposit
from tests.servers import WebServer, free_port, web_server

pytestmark = pytest.mark.slow

USER, PASSWORD = "lab", "correct horse"
RIGHT = (("user: ", USER), ("password: ", PASSWORD))
WRONG = (("user: ", USER), ("password: ", "wrong"))
SETTING = "datalad.clone.url-substitute.icf"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """A store with the study `study`, which wants a password, and its visit."""
    folder = tmp_path_factory.mktemp("web")
    (folder / "store/study").mkdir(parents=True)
    with web_server(folder / "store", folder / "nginx", found("nginx")) as server:
        server.allow("study", USER, PASSWORD)
        yield server


@pytest.fixture(scope="module")
def visit(web: WebServer) -> Deposit:
    """Its only visit."""
    return deposit(web.root, dicoms.visit(web.folder / "incoming"), web.url)


def kept(home: Path) -> list[Path]:
    """Files of a home that have the password."""
    files = (path for path in home.rglob("*") if path.is_file() and not path.is_symlink())
    return [path for path in files if PASSWORD.encode() in path.read_bytes()]


def test_nothing_is_asked_where_there_is_no_terminal(icf: Run, web: WebServer) -> None:
    for command in (("login", "study"), ("clone", "study/visit")):
        done = icf(*command, "--store-url", web.url)
        assert (done.returncode, done.stdout) == (8, "")
        assert done.stderr.startswith(f"icf: {web.url}/study wants a user and a password")
        assert done.stderr.count("\n") == 1


def test_a_password_is_asked_for_until_it_is_right(
    web: WebServer, tmp_path: Path, isolated: Path
) -> None:
    command = (BIN / "icf", "login", "study", "--store-url", web.url)
    code, seen = at_terminal(command, (*WRONG, *RIGHT), tmp_path, os.environ)
    assert code == 0, seen
    assert f"user {USER} is let in to {web.url}/study" in seen
    assert seen.count(f"{web.url}/study asks for a user and a password") == 1
    again = f"{web.url}/study does not accept that, and asks for a user and a password"
    assert seen.count(again) == 1
    assert PASSWORD not in seen
    assert [path.name for path in kept(isolated)] == []  # it is in base64 in the keyring
    code, seen = at_terminal(command, (), tmp_path, os.environ)
    assert (code, seen.count("\n")) == (0, 1)


def test_a_wrong_password_is_refused_in_the_end(
    web: WebServer, tmp_path: Path, isolated: Path
) -> None:
    command = (BIN / "icf", "clone", "study/visit", "--store-url", web.url)
    code, seen = at_terminal(command, WRONG * 3, tmp_path, os.environ)
    assert (code, seen.count("password: ")) == (8, 3)
    assert f"does not accept the credential of user {USER}" in seen
    assert not (isolated / ".local").exists()
    assert "credential" not in (isolated / ".gitconfig").read_text()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "code"),
    [
        *(("../visit", 2), ("study/..", 2), ("a b/visit", 2), ("study/a&b", 2), ("study/%2e", 2)),
        *(("study", 2), ("study/visit/", 2), ("icf://study", 2), ("-x/visit", 2)),
    ],
)
def test_a_hostile_name_reaches_no_server(
    icf: Run, web: WebServer, name: str, code: int, tmp_path: Path
) -> None:
    before = len(web.requests())
    done = icf("clone", "--store-url", web.url, "--", name)
    assert (done.returncode, len(web.requests())) == (code, before)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_port_is_said_in_one_sentence(icf: Run) -> None:
    url = f"http://127.0.0.1:{free_port()}/store"
    for command in (("login", "study"), ("clone", "study/visit"), ("setup-client",)):
        begun = time.monotonic()
        done = icf(*command, "--store-url", url)
        assert (done.returncode, done.stderr.count("\n")) == (9, 1), done.stderr
        assert "the server cannot be reached" in done.stderr
        assert time.monotonic() - begun < 7  # s; trying again takes longer


def test_without_setup_it_is_said_what_to_do(icf: Run) -> None:
    done = icf("clone", "study/visit")
    assert (done.returncode, done.stdout) == (2, "")
    assert "icf setup-client --store-url URL" in done.stderr
    assert icf("setup-client").returncode == 2
    assert icf("login").returncode == 2


def test_setup_for_another_store_is_a_conflict(icf: Run, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = (f"file://{tmp_path}/{name}" for name in ("one", "two"))
    assert "setting made" in icf("setup-client", "--store-url", one).stdout
    assert "setting was there" in icf("setup-client", "--store-url", one).stdout
    done = icf("setup-client", "--store-url", two)
    assert (done.returncode, done.stdout) == (4, "")
    assert f"git config --global --unset-all {SETTING}" in done.stderr
    assert json.loads(icf("setup-client", "--store-url", one, "--json").stdout)["made"] is False
    assert icf("setup-client", "--store-url", f"{one}/no").returncode == 3


def test_a_program_that_a_user_does_not_find_is_named(icf: Run, tmp_path: Path) -> None:
    git = Path(str(shutil.which("git"))).parent
    url = f"file://{tmp_path}"
    done = icf("setup-client", "--store-url", url, env={"PATH": f"{git}"})
    for program in {"datalad", "git-annex-remote-icf"}:
        assert f"{program} is not on the PATH; put {BIN} on it" in done.stderr
    assert icf("setup-client", "--store-url", url).stderr == ""


@pytest.mark.annex
def test_from_nothing_to_an_image(
    visit: Deposit, web: WebServer, tmp_path: Path, require: Callable[[str], str]
) -> None:
    """The shortest way: one question in all of it, in an environment that is not active."""
    client = Client.new(tmp_path / "user")
    setup = (BIN / "icf", "setup-client", "--store-url", web.url, "study")
    code, seen = at_terminal(setup, RIGHT, client.home, client.environment)
    assert code == 0, seen
    assert "setting made" in seen
    done = json.loads(client.run(BIN / "icf", "clone", "study/visit", "--json", cwd=tmp_path))
    assert done | {"commit": ""} == {
        "study": "study",
        "visit": "visit",
        "path": str(tmp_path / "visit"),
        "version": 1,
        "commit": "",
    }
    clone = tmp_path / "visit"
    login = json.loads(client.run(BIN / "icf", "login", "--json", cwd=clone))
    assert (login["user"], login["realm"]) == (USER, web.realm("study"))
    image = "study_visit/series_1/im001.dcm"
    # at a terminal: nobody is asked a thing
    code, seen = at_terminal(("datalad", "get", image), (), clone, client.environment)
    assert code == 0, seen
    assert (clone / image).read_bytes() == (visit.source / "series_1/im001.dcm").read_bytes()
    assert kept(clone) == []
    client.run("datalad", "clone", "icf://study/visit", "stock", cwd=tmp_path)
    head = client.run("git", "rev-parse", "HEAD", cwd=tmp_path / "stock")
    assert head.strip() == done["commit"]


@pytest.mark.annex
def test_setup_in_an_older_clone_enables_the_remote(
    tmp_path: Path, icf: Run, visit: Deposit
) -> None:
    client = Client.new(tmp_path / "user")
    url = f"file://{visit.store.root}"
    clone = client.clone(visit.store.visit.clone_url(url), tmp_path / "clone")
    command = (BIN / "icf", "setup-client", "--store-url", url)
    done = clone.attempt(*command)
    assert "enabled in this clone: git-annex-remote-icf" in done.stdout, done.stderr
    assert "git-annex-remote-icf is not on the PATH" in done.stderr
    assert clone.run("git", "config", "remote.icf.annex-uuid")
    assert "enabled" not in clone.run(*command)
