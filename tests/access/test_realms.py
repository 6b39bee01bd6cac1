"""Several studies of one server: each password goes where it belongs, and into no message."""

import base64
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from icf_tools.access import ranges
from icf_tools.access.credential import (
    Credential,
    Credentials,
    NoCredential,
    Realm,
    Rejected,
    variables,
)
from icf_tools.access.source import BadAnswer, Interrupted, read_file
from icf_tools.access.web import Web
from icf_tools.errors import IcfError
from tests.servers import free_port

USERS = {"A": ("ua", "secret-a"), "B": ("ub", "secret-b")}


class Server(ThreadingHTTPServer):
    """/A and /B want passwords of their own; /X/moved/... leads to /dl/... of the same realm."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str]] = []  # path, and who asks for it
        self.moved = "/dl/{}?signature=hidden"
        self.challenge = 'Basic realm="{}"'

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: Any) -> None:
        """Clients may go as they like."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        given = self.headers["Authorization"] or "Basic "
        user = base64.b64decode(given.removeprefix("Basic ")).decode()
        path = urlsplit(self.path).path
        self.server.seen.append((path, user.partition(":")[0]))
        words = path.split("/")[1:]
        realm = words[1] if words[0] == "dl" else words[0]
        if user != ":".join(USERS[realm]):
            challenge = self.server.challenge.format(realm)
            self.answer(401, {"WWW-Authenticate": challenge})
        elif words[-1] == "moved":
            self.answer(302, {"Location": self.server.moved.format(realm)})
        else:
            self.answer(200, {}, path.encode())

    def answer(self, status: int, head: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (head | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(ranges, "_WAITS", ())
    with serving() as server:
        yield server


@pytest.fixture
def known(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment has both passwords."""
    for study, (user, secret) in USERS.items():
        realm = Realm(f"{server.url}/{study}", "user_password")
        for name, value in variables(realm, Credential(user, secret)).items():
            monkeypatch.setenv(name.replace("_ICF_", f"_{study}_"), value)


def read(web: Web, url: str) -> str:
    return read_file(web.file(url)).decode()


@pytest.mark.usefixtures("known")
def test_a_password_stays_in_its_study(server: Server) -> None:
    with closing(Web()) as web:
        for path in ("/A/x", "/B/x", "/A/below/y", "/B/y"):
            assert read(web, server.url + path) == path
    assert server.seen == [
        *(("/A/x", ""), ("/A/x", "ua"), ("/B/x", ""), ("/B/x", "ub")),
        *(("/A/below/y", "ua"), ("/B/y", "ub")),
    ]


@pytest.mark.usefixtures("known")
def test_also_where_both_lead_to_one_place(server: Server) -> None:
    with closing(Web()) as web:
        assert read(web, f"{server.url}/A/moved") == "/dl/A"
        assert read(web, f"{server.url}/B/moved") == "/dl/B"
        assert read(web, f"{server.url}/A/moved") == "/dl/A"
    assert not [each for each in server.seen if "/A" in each[0] and each[1] == "ub"]
    assert not [each for each in server.seen if "/B" in each[0] and each[1] == "ua"]
    assert server.seen[-2:] == [("/A/moved", "ua"), ("/dl/A", "ua")]


def test_one_question_for_each_realm(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever its files are, also where nothing can be kept."""
    monkeypatch.setattr(Credentials, "keep", lambda _self, _realm, credential: credential)
    asked: list[str] = []

    def ask(realm: str) -> tuple[str, str]:
        asked.append(realm.rpartition("/")[2])
        return USERS[asked[-1]]

    with closing(Web(ask)) as web:
        for path in ("/A/below/x", "/A/beside/x", "/B/x", "/A/x", "/A/below/y"):
            assert read(web, server.url + path) == path
    assert asked == ["A", "B"]


def test_another_realm_above_does_not_hide_the_own_one(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(USERS, "x", ("ux", "secret-x"))
    with closing(Web(lambda realm: USERS[realm.rpartition("/")[2]])) as web:
        assert read(web, f"{server.url}/x") == "/x"
        assert read(web, f"{server.url}/A/x") == "/A/x"
        assert read(web, f"{server.url}/A/y") == "/A/y"
    assert server.seen[-1] == ("/A/y", "ua"), "the nearest is tried"


@pytest.mark.usefixtures("known")
def test_a_realm_without_quotes(server: Server) -> None:
    server.challenge = "Basic realm={}, charset=UTF-8"
    with closing(Web()) as web:
        assert read(web, f"{server.url}/A/x") == "/A/x"


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("moved", "refusal"),
    [
        ("http://127.0.0.1:{port}/x?X-Amz-Signature=hidden", Interrupted),
        ("http://lab:hidden@127.0.0.1:{port}/x", BadAnswer),
        ("http://data.example.org:study%20asks@127.0.0.1:{port}/hidden", BadAnswer),
    ],
)
def test_nothing_secret_is_told(server: Server, moved: str, refusal: type[IcfError]) -> None:
    server.moved = moved.format(port=free_port())
    with closing(Web()) as web, pytest.raises(refusal) as refused:
        read(web, f"{server.url}/A/moved")
    assert "hidden" not in str(refused.value)


def test_nor_what_a_dataset_has_in_its_url(server: Server) -> None:
    url = f"http://lab:hidden@127.0.0.1:{server.server_port}/A/x?token=hidden"
    with closing(Web()) as web, pytest.raises(NoCredential) as refused:
        read(web, url)
    assert str(refused.value).startswith(f"{server.url}/A wants a user and a password")
    with closing(Web(lambda _: ("lab", "guess"))) as web, pytest.raises(Rejected) as rejected:
        read(web, url)
    assert "hidden" not in str(rejected.value)
    assert web.file(url).url == f"{server.url}/A/x"
