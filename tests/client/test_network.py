"""Encrypted, with a password for each study, on a slow network; bytes are counted at the server."""

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.link import Link, shaped_link
from tests import dicoms
from tests.client.archive import TARBALL
from tests.dataset.clients import ICF_REMOTE, Client, Clone, Deposit, deposit, fill
from tests.servers import Authority, WebServer, web_server

pytestmark = [pytest.mark.annex, pytest.mark.slow]

COUNT, SIZE = 48, 200_000
SERIES = "study_visit/b"


@dataclass(frozen=True, slots=True)
class Network:
    deposit: Deposit
    server: WebServer
    client: Client
    clone: Clone  #: that no test changes
    realm: str
    link: Link


@contextmanager
def network(folder: Path, require: Callable[[str], str]) -> Iterator[Network]:
    authority = Authority.new(folder / "authority", require("openssl"))
    source = dicoms.visit(folder / "incoming")
    noise = random.Random(4)
    names = [f"{series}/im{number:03}" for series in "abc" for number in range(COUNT // 3)]
    fill(source, {name: noise.randbytes(SIZE) for name in names})
    (folder / "store").mkdir()
    with (
        web_server(folder / "store", folder / "web", require("nginx"), tls=authority) as server,
        shaped_link(server.port) as link,
    ):
        server.allow("study", "lab", "correct horse")
        url = f"https://127.0.0.1:{link.port}"
        made = deposit(folder / "store", source, url)
        client = Client.new(folder / "user", authority.certificate)
        client.install("icf", ICF_REMOTE)
        client.set_credential("mystudy", f"{url}/study", "lab", "correct horse")
        clone = client.clone(made.clone_url, folder / "clone")
        yield Network(made, server, client, clone, f"{url}/study", link)


@pytest.fixture
def there(tmp_path: Path, require: Callable[[str], str]) -> Iterator[Network]:
    with network(tmp_path, require) as there:
        yield there


def sent(there: Network, since: int) -> int:
    time.sleep(0.2)  # nginx notes what it sent when it sees that a connection was closed
    return there.server.sent(TARBALL) - since


def test_a_life_behind_a_password_and_a_slow_network(there: Network) -> None:
    clone, server = there.clone, there.server
    clone.annex("get", f"{SERIES}/im003")
    one = sent(there, 0)
    assert SIZE <= one <= 1.05 * SIZE + (64 << 10)

    clone.annex("get", SERIES)
    series = COUNT // 3 * SIZE
    assert sent(there, one) <= 1.4 * series + (2 << 20)  # the first ones of so short a series

    clone.client.run("icf", "get", cwd=clone.path)
    assert clone.content() == there.deposit.expected
    assert clone.here == set(there.deposit.expected)
    clone.annex("fsck", "--fast", "--from", "icf", "study_visit/c")
    refused = [each for each in server.requests() if each.status == 401]
    assert {each.path.rpartition("/")[0] for each in refused} == {"/study"}
    assert len(refused) <= 12, "once for each process, and never for the next file"

    server.allow("study", "lab", "another")
    clone.annex("drop", "--force", "study_visit/a/im001")
    done = clone.attempt("git", "annex", "get", "--from", "icf", "study_visit/a/im001")
    assert done.returncode == 1
    assert f"{there.realm} does not accept the credential of user lab" in done.stdout + done.stderr
    done = clone.attempt("icf", "get", "study_visit/a/im001")
    assert done.returncode == 8
    assert "correct horse" not in done.stdout + done.stderr


def test_a_server_that_is_started_again(there: Network) -> None:
    clone, folder = there.clone, there.server.folder
    options: list[str | Path] = ["-p", folder, "-e", folder / "start.log"]
    command = ["nginx", *options, "-c", folder / "nginx.conf"]
    path = f"{os.environ['PATH']}:/usr/sbin"
    started: list[subprocess.Popen[bytes]] = []
    before = there.link.passed()

    def restart() -> None:
        deadline = time.monotonic() + 60
        while there.link.passed() < before + (3 << 20) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(int((folder / "nginx.pid").read_text()), signal.SIGTERM)
        time.sleep(0.7)
        started.append(subprocess.Popen(command, env={"PATH": path}))

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        done = clone.attempt("icf", "get")
        thread.join()
        assert done.returncode == 0, done.stderr
        assert clone.content() == there.deposit.expected
        [again] = [each.range for each in there.server.requests() if each.status == 206]
        assert int(again.removeprefix("bytes=").partition("-")[0]) > 3 << 20, "not from its start"
    finally:
        thread.join()
        for process in started:
            process.terminate()
            process.wait()
