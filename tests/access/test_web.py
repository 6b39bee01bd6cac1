"""What a web server may answer, and what becomes of it."""

import os
import random
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
import requests

from icf_tools.access import ranges
from icf_tools.access.credential import NoCredential, OtherScheme, Rejected
from icf_tools.access.ranges import Ranges
from icf_tools.access.source import (
    BadAnswer,
    Interrupted,
    LocalFile,
    NoRange,
    NotAllowed,
    NotThere,
    Opener,
    OtherTarball,
    UnknownScheme,
    read_file,
)
from icf_tools.access.web import Web
from icf_tools.errors import IcfError
from tests import faults
from tests.faults import Fault, FaultyServer, faulty_server

DATA = random.Random(0).randbytes(3 << 20)
PATH = "/store/study/visit_dicom.tar"


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "_WAITS", (0.0,) * 5)


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with faulty_server({PATH: DATA}) as server:
        yield server


def got(
    server: FaultyServer, start: int, end: int, *, whole: bool = False, patience: float = 20
) -> bytes:
    web = Web(patience=(20, patience))
    tarball = Ranges(web.file(server.url + PATH), len(DATA), whole=whole)
    try:
        return b"".join(tarball.pieces(start, end))
    finally:
        web.close()


def test_a_range(server: FaultyServer) -> None:
    assert got(server, 1000, 2_000_000) == DATA[1000:2_000_000]
    assert [each.range for each in server.requests] == ["bytes=1000-1999999"]


@pytest.mark.parametrize(
    "fault",
    [
        faults.Cut(after=0),
        faults.Cut(after=777),
        faults.Cut(after=1_500_000),
        faults.Short(),
        faults.Reset(),
        faults.Status(503, retry_after=1),
        faults.Status(500),
        faults.Status(429),
        faults.Stall(after=0),
        faults.Stall(after=1_000_000),
    ],
    ids=repr,
)
def test_what_passes_is_tried_again(server: FaultyServer, fault: Fault) -> None:
    server.faults = [fault, None, fault]
    patience = 2 if isinstance(fault, faults.Stall) else 20
    assert got(server, 5, 2_000_000, patience=patience) == DATA[5:2_000_000]
    assert len(server.requests) == 2


@pytest.mark.parametrize("seed", range(4))
def test_connections_cut_at_random_places(server: FaultyServer, seed: int) -> None:
    random.seed(seed)
    server.faults = [faults.Cut(after=random.randrange(700_000)) for _ in range(5)]
    assert got(server, 99, 3_000_000) == DATA[99:3_000_000]


@pytest.mark.parametrize(
    ("fault", "refusal"),
    [
        (faults.Whole(), NoRange),
        (faults.WrongRange(start=6), BadAnswer),
        (faults.WrongRange(total=len(DATA) + 512), OtherTarball),
        (faults.WrongRange(total=len(DATA) - 512), OtherTarball),
        (faults.Encoded(), BadAnswer),
        (faults.Status(404), NotThere),
        (faults.Status(410), NotThere),
        (faults.Status(403), NotAllowed),
        (faults.Status(416), OtherTarball),
        (faults.Status(418), BadAnswer),
        (faults.Status(204), BadAnswer),
        (faults.Status(501), BadAnswer),
    ],
    ids=repr,
)
def test_what_does_not_pass_is_refused_at_once(
    server: FaultyServer, fault: Fault, refusal: type[IcfError]
) -> None:
    server.faults = [fault] * 9
    with pytest.raises(refusal, match=PATH):
        got(server, 5, 100_000)
    assert len(server.requests) == 1


def test_a_server_of_whole_files_serves_who_reads_all(server: FaultyServer) -> None:
    server.faults = [faults.Whole(), faults.Whole()]
    assert got(server, 2_000_000, 2_500_000, whole=True) == DATA[2_000_000:2_500_000]


def test_what_never_gets_better_is_given_up(server: FaultyServer) -> None:
    server.faults = [faults.Status(503)] * 20
    with pytest.raises(Interrupted, match="the server answers 503; try again later"):
        got(server, 0, 10)
    assert len(server.requests) == 6


def test_a_tarball_that_grew_between_two_requests(server: FaultyServer) -> None:
    server.faults = [faults.Cut(after=100_000)]
    web = Web()
    pieces = Ranges(web.file(server.url + PATH), len(DATA)).pieces(0, len(DATA))
    next(pieces)
    server.content = {PATH: DATA + bytes(512)}
    with pytest.raises(OtherTarball, match=f"has {len(DATA) + 512} bytes"):
        list(pieces)
    web.close()


def test_a_redirect_is_followed_and_gets_no_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        faulty_server({PATH: DATA}) as other,
        faulty_server({PATH: DATA}, user=("lab", "secret")) as server,
    ):
        environment(monkeypatch, server, "lab", "secret")
        server.faults = [faults.Redirect(other.url + PATH), faults.Redirect(other.url + PATH)]
        assert got(server, 7, 700) == DATA[7:700]
        assert [each.authorized for each in other.requests] == [False]
        assert server.requests[-1].authorized


@pytest.mark.parametrize("url", ["http://[bad/x.tar", f"http://{'a' * 70}.example.org/x.tar"])
def test_a_redirect_to_what_is_no_url(server: FaultyServer, url: str) -> None:
    server.faults = [faults.Redirect(url)]
    with pytest.raises(BadAnswer):
        got(server, 0, 10)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("HTTP_PROXY", "http://", "the proxy to 127.0.0.1"),
        ("ALL_PROXY", "socks5://127.0.0.1:9", "the proxy to 127.0.0.1"),
    ],
)
def test_a_proxy_that_cannot_be_used(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(IcfError, match=said):
        got(server, 0, 10)


def test_a_redirect_to_itself_ends(server: FaultyServer) -> None:
    server.faults = [faults.Redirect(server.url + PATH)] * 50
    with pytest.raises(BadAnswer, match="leads to another place more than 5 times"):
        got(server, 0, 10)


def test_a_redirect_to_a_page_is_no_range(server: FaultyServer) -> None:
    server.content = {PATH: DATA, "/login": b"<html>"}
    server.faults = [faults.Redirect(server.url + "/login"), faults.Whole()]
    with pytest.raises(NoRange):
        got(server, 5, 10)


def test_no_server() -> None:
    web = Web()
    with pytest.raises(Interrupted, match="cannot be reached"):
        b"".join(Ranges(web.file("http://127.0.0.1:9/x.tar"), 10).pieces(0, 5))
    web.close()


def test_a_server_that_starts_again(server: FaultyServer) -> None:
    """Connections that were kept open are of no use then."""
    web = Web()
    tarball = Ranges(web.file(server.url + PATH), len(DATA))
    assert b"".join(tarball.pieces(0, 9)) == DATA[:9]
    server.faults = [faults.Reset(), faults.Reset()]
    assert b"".join(tarball.pieces(9, 20)) == DATA[9:20]
    web.close()


def environment(
    monkeypatch: pytest.MonkeyPatch, server: FaultyServer, user: str, password: str
) -> None:
    given = {"TYPE": "user_password", "REALM": f"{server.url}/{server.realm}"}
    for name, value in (given | {"USER": user, "SECRET": password}).items():
        monkeypatch.setenv(f"DATALAD_CREDENTIAL_MYSTUDY_{name}", value)


@pytest.fixture
def closed() -> Iterator[FaultyServer]:
    """One that wants a password."""
    with faulty_server({PATH: DATA}, user=("lab", "pä:ss w")) as server:
        yield server


def test_a_credential_of_the_environment(
    closed: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(monkeypatch, closed, "lab", "pä:ss w")
    web = Web()
    for start in (0, 100):
        tarball = Ranges(web.file(closed.url + PATH), len(DATA))
        assert b"".join(tarball.pieces(start, start + 10)) == DATA[start : start + 10]
    assert [each.status for each in closed.requests] == [401, 206, 206]
    web.close()


def test_none_is_known(closed: FaultyServer) -> None:
    with pytest.raises(NoCredential, match=f"{closed.url}/study wants a user and a password"):
        got(closed, 0, 10)


def test_a_wrong_one_is_said_without_the_password(
    closed: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(monkeypatch, closed, "lab", "hunter2")
    with pytest.raises(Rejected, match="does not accept the credential of user lab") as refusal:
        got(closed, 0, 10)
    assert "hunter2" not in str(refusal.value)
    assert "hunter2" not in repr(refusal.value)


def test_one_that_is_revoked_midway(closed: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, closed, "lab", "pä:ss w")
    closed.faults = [faults.Cut(after=100_000)]
    web = Web()
    pieces = Ranges(web.file(closed.url + PATH), len(DATA)).pieces(0, len(DATA))
    assert next(pieces) in DATA
    closed.user = ("lab", "another")
    with pytest.raises(Rejected):
        list(pieces)
    web.close()


def test_one_question_for_many_threads(closed: FaultyServer) -> None:
    asked: list[str] = []

    def ask(realm: str) -> tuple[str, str]:
        asked.append(realm)
        return ("lab", "pä:ss w")

    web = Web(ask)
    results: list[bytes] = []

    def read(start: int) -> None:
        tarball = Ranges(web.file(closed.url + PATH), len(DATA))
        results.append(b"".join(tarball.pieces(start, start + 10)))

    threads = [threading.Thread(target=read, args=(number * 10,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted(DATA[start : start + 10] for start in range(0, 80, 10))
    assert asked == [f"{closed.url}/study"]
    web.close()


def test_three_wrong_answers_are_enough(closed: FaultyServer) -> None:
    asked: list[str] = []

    def ask(realm: str) -> tuple[str, str]:
        asked.append(realm)
        return ("lab", f"guess {len(asked)}")

    web = Web(ask)
    with pytest.raises(Rejected):
        read_file(web.file(closed.url + PATH))
    assert len(asked) == 3
    web.close()


def test_another_kind_of_credential(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = requests.Response()
    answer.raw = BytesIO()
    answer.status_code, answer.headers["WWW-Authenticate"] = 401, "Negotiate"
    monkeypatch.setattr(Web, "_send", lambda *_: answer)
    with pytest.raises(OtherScheme, match="wants another kind of credential"):
        got(server, 0, 10)


def test_netrc_is_not_read(closed: FaultyServer, isolated: Path) -> None:
    (isolated / ".netrc").write_text("machine 127.0.0.1 login lab password wrong\n")
    (isolated / ".netrc").chmod(0o600)
    with pytest.raises(NoCredential):
        got(closed, 0, 10)


def test_a_fork_has_connections_of_its_own(closed: FaultyServer) -> None:
    """What the one asks for is not answered to the other."""
    web = Web(lambda _: ("lab", "pä:ss w"))
    tarball = Ranges(web.file(closed.url + PATH), len(DATA))
    assert b"".join(tarball.pieces(0, 9)) == DATA[:9]
    children = []
    for start in range(4):
        children.append(os.fork())
        if not children[-1]:
            wrong = 0
            for number in range(20):
                place = 1000 * start + number
                wrong += b"".join(tarball.pieces(place, place + 999)) != DATA[place : place + 999]
            os._exit(wrong)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    assert sum(each.status == 401 for each in closed.requests) == 1, "who is let in is known"
    web.close()


def test_a_length_that_is_none(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = requests.Response()
    answer.raw = BytesIO(b"0123456789")
    answer.status_code, answer.headers["Content-Length"] = 200, "9" * 5000
    monkeypatch.setattr(Web, "_send", lambda *_: answer)
    with pytest.raises(NoRange):
        got(server, 0, 10)


def test_a_small_file_as_a_whole(server: FaultyServer) -> None:
    server.faults = [faults.Cut(after=10), faults.Status(502)]
    open_url = Opener()
    assert read_file(open_url(server.url + PATH)) == DATA
    open_url.close()


def test_files_of_this_computer(tmp_path: Path) -> None:
    file = tmp_path / "with blank & ä%.tar"
    file.write_bytes(DATA)
    source = Opener()(file.as_uri())
    assert isinstance(source, LocalFile)
    assert b"".join(Ranges(source, len(DATA)).pieces(10, 2_000_000)) == DATA[10:2_000_000]
    assert read_file(source) == DATA
    with pytest.raises(NotThere):
        read_file(Opener()("file:///tmp/a%00b"))
    with pytest.raises(OtherTarball):
        b"".join(Ranges(source, len(DATA) + 1).pieces(10, 20))
    with pytest.raises(NotThere):
        read_file(Opener()((tmp_path / "none").as_uri()))
    with pytest.raises(UnknownScheme, match="ftp://host/x cannot be read"):
        Opener()("ftp://host/x")
