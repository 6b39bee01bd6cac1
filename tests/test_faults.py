"""The faulty server is right where it is to be right, and wrong as it was told."""

import gzip
import socket
from pathlib import Path

import pytest
import requests

from tests.faults import (
    Cut,
    Encoded,
    Fault,
    Garbage,
    Redirect,
    Reset,
    Short,
    Stall,
    Status,
    Unauthorized,
    Whole,
    WrongRange,
    faulty_server,
)

PATH = "/store/study/visit_dicom.tar"
DATA = bytes(range(256)) * 400
PART = {"Range": "bytes=1000-50999"}


def ask(url: str, **options: object) -> requests.Response:
    return requests.get(url, timeout=30, **options)  # type: ignore[arg-type]


def test_ranges_are_answered_as_by_nginx() -> None:
    with faulty_server({PATH: DATA}) as server, requests.Session() as session:
        url = server.url + PATH
        for header, part in {
            "bytes=0-0": (0, 1),
            "bytes=512-1023": (512, 1024),
            "bytes=102000-": (102_000, 102_400),
            "bytes=-5": (102_395, 102_400),
            "bytes=102300-999999": (102_300, 102_400),
        }.items():
            answer = session.get(url, headers={"Range": header}, timeout=30)
            assert answer.status_code == 206
            assert answer.content == DATA[slice(*part)]
            said = f"bytes {part[0]}-{part[1] - 1}/{len(DATA)}"
            assert answer.headers["Content-Range"] == said
        whole = session.get(url, timeout=30)
        assert (whole.status_code, whole.content) == (200, DATA)
        assert whole.headers["Accept-Ranges"] == "bytes"
        head = session.head(url, timeout=30)
        assert head.headers["Content-Length"] == str(len(DATA))
        beyond = session.get(url, headers={"Range": "bytes=102400-"}, timeout=30)
        assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, "bytes */102400")
        assert session.get(server.url, timeout=30).status_code == 404
    assert [request.sent for request in server.requests][:6] == [1, 512, 400, 5, 100, len(DATA)]
    assert [request.method for request in server.requests].count("HEAD") == 1
    assert server.requests[1].range == "bytes=512-1023"


def test_content_may_change_and_its_tag_with_it() -> None:
    with faulty_server({PATH: DATA}) as server:
        tag = ask(server.url + PATH, headers=PART).headers["ETag"]
        conditional = PART | {"If-Range": tag}
        assert ask(server.url + PATH, headers=conditional).status_code == 206
        server.content = {PATH: DATA[::-1]}
        changed = ask(server.url + PATH, headers=conditional)
    assert (changed.status_code, changed.content) == (200, DATA[::-1])
    assert changed.headers["ETag"] != tag


def test_a_folder_is_served(tmp_path: Path) -> None:
    (tmp_path / "a b%.txt").write_bytes(b"text")
    with faulty_server(tmp_path) as server:
        assert ask(f"{server.url}/a%20b%25.txt").content == b"text"
        assert ask(f"{server.url}/other").status_code == 404


def test_a_user_is_asked_for_and_costs_no_fault() -> None:
    with faulty_server({PATH: DATA}, [Status(503)], user=("lab", "pw"), realm="r 1") as server:
        refused = ask(server.url + PATH)
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"] == 'Basic realm="r 1"'
        assert ask(server.url + PATH, auth=("lab", "PW")).status_code == 401
        assert ask(server.url + PATH, auth=("lab", "pw")).status_code == 503
        assert ask(server.url + PATH, auth=("lab", "pw")).content == DATA
    assert [request.authorized for request in server.requests] == [False, True, True, True]


@pytest.mark.parametrize(
    ("fault", "status", "content", "head"),
    [
        (None, 206, DATA[1000:51000], "bytes 1000-50999/102400"),
        (Whole(), 200, DATA, None),
        (WrongRange(start=5), 206, DATA[5:50005], "bytes 5-50004/102400"),
        (WrongRange(total=7), 206, DATA[1000:51000], "bytes 1000-50999/7"),
        (Short(), 206, DATA[1000:26000], "bytes 1000-50999/102400"),
        (Status(503), 503, b"", None),
        (Unauthorized(), 401, b"", None),
    ],
    ids=str,
)
def test_answers_that_are_wrong_in_themselves(
    fault: Fault | None, status: int, content: bytes, head: str | None
) -> None:
    with faulty_server({PATH: DATA}, [fault]) as server:
        answer = ask(server.url + PATH, headers=PART)
        assert (answer.status_code, answer.content) == (status, content)
        assert answer.headers.get("Content-Range") == head
        assert ask(server.url + PATH, headers=PART).content == DATA[1000:51000]
    assert server.requests[0].status == status


def test_a_cut_answer_ends_after_so_many_bytes() -> None:
    broken = pytest.raises(requests.exceptions.ChunkedEncodingError, match="20000 bytes read")
    with faulty_server({PATH: DATA}, [Cut(after=20_000)]) as server, broken:
        ask(server.url + PATH, headers=PART)
    assert server.requests[0].sent == 20_000


def test_a_stalled_answer_waits_for_the_client() -> None:
    with faulty_server({PATH: DATA}, [Stall(after=20_000)]) as server:
        with requests.get(server.url + PATH, timeout=2, stream=True) as answer:
            assert answer.raw.read(20_000) == DATA[:20_000]
            with pytest.raises(requests.exceptions.ConnectionError, match="timed out"):
                next(answer.iter_content(1))
        assert server.requests[0].sent == 20_000


def test_a_stall_ends_with_the_server() -> None:
    with faulty_server({PATH: DATA}, [Stall(after=0)]) as server:
        client = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        client.sendall(f"GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert client.recv(12) == b"HTTP/1.1 200"
    with client:
        while client.recv(4096):
            pass


def test_an_encoded_answer_is_gzip() -> None:
    with faulty_server({PATH: DATA}, [Encoded()]) as server:
        answer = ask(server.url + PATH, headers=PART, stream=True)
        assert answer.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(answer.raw.read(decode_content=False)) == DATA[1000:51000]
        answer.close()


def test_garbage_begins_where_it_was_told() -> None:
    with faulty_server({PATH: DATA}, [Garbage(after=10)]) as server:
        answer = ask(server.url + PATH, headers=PART)
    assert answer.content[:10] == DATA[1000:1010]
    assert all(a ^ b == 255 for a, b in zip(answer.content[10:], DATA[1010:51000], strict=True))


def test_a_reset_connection_gives_no_answer() -> None:
    with faulty_server({PATH: DATA}, [Reset()]) as server:
        with pytest.raises(requests.exceptions.ConnectionError, match="reset by peer"):
            ask(server.url + PATH)
        assert ask(server.url + PATH).content == DATA
    assert server.requests[0].status == 0


def test_a_redirect_leads_elsewhere() -> None:
    faults = [Redirect("/b"), Status(503, retry_after=7)]
    with faulty_server({"/a": b"a", "/b": b"b"}, faults) as server:
        answer = ask(f"{server.url}/a", allow_redirects=False)
        assert (answer.status_code, answer.headers["Location"]) == (302, "/b")
        assert ask(f"{server.url}/a").headers["Retry-After"] == "7"
        server.faults = [Redirect(f"{server.url}/b")]
        assert ask(f"{server.url}/a").content == b"b"
    assert [request.path for request in server.requests] == ["/a", "/a", "/a", "/b"]
