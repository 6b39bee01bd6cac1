"""A user for each test, and servers that hold the store."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.dataset.clients import Client
from tests.servers import ShellServer, WebServer, shell_server, web_server


@pytest.fixture
def client(tmp_path: Path) -> Client:
    """A user who has nothing yet."""
    return Client.new(tmp_path / "user")


@pytest.fixture
def web(tmp_path: Path, require: Callable[[str], str]) -> Iterator[WebServer]:
    """A web server that knows no user yet."""
    root = tmp_path / "store"
    root.mkdir()
    with web_server(root, tmp_path / "web", require("nginx")) as server:
        yield server


@pytest.fixture
def shell(tmp_path: Path, require: Callable[[str], str]) -> Iterator[ShellServer]:
    """An ssh server that lets nobody in yet."""
    require("ssh-keygen")
    with shell_server(tmp_path / "sshd", require("sshd")) as server:
        yield server
