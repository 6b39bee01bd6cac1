"""The slow link is as slow as it was told, and carries every byte."""

import random
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from benchmarks.link import shaped_link
from tests.faults import Reset, faulty_server

pytestmark = pytest.mark.slow

LATENCY, RATE = 0.05, 12_500_000
DATA = random.Random(0).randbytes(2_500_000)


def quickest(work: Callable[[], object]) -> float:
    """Seconds; what else the machine does falls on some rounds only."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def test_an_answer_takes_a_round_trip_and_a_connection_another() -> None:
    with (
        faulty_server({"/a": b"a"}) as server,
        shaped_link(server.port, latency=LATENCY, rate=RATE) as link,
        requests.Session() as session,
    ):
        url = f"http://127.0.0.1:{link.port}/a"
        first = quickest(lambda: requests.get(url, timeout=30))
        session.get(url, timeout=30)
        next_ = quickest(lambda: session.get(url, timeout=30))
    assert 0.95 < first / (2 * LATENCY) < 1.5
    assert 0.95 < next_ / LATENCY < 1.5


def test_all_connections_share_the_rate_and_content_is_intact() -> None:
    with (
        faulty_server({"/data": DATA}) as server,
        shaped_link(server.port, latency=LATENCY, rate=RATE) as link,
        ThreadPoolExecutor(2) as pool,
    ):
        got: list[bytes] = []

        def get(_: int) -> None:
            got.append(requests.get(f"http://127.0.0.1:{link.port}/data", timeout=30).content)

        took = quickest(lambda: list(pool.map(get, range(2))))
        deadline = time.monotonic() + 5
        while link.passed() < 10 * len(DATA) and time.monotonic() < deadline:
            time.sleep(0.01)  # it is counted after it was sent
        passed = link.passed()
    assert set(got) == {DATA}
    assert 0.95 < took / (2 * len(DATA) / RATE + 2 * LATENCY) < 1.5
    assert 10 * len(DATA) < passed < 10 * (len(DATA) + 1000)


@pytest.mark.parametrize("closing", [True, False])
def test_a_client_that_reads_no_more_stops_the_flow(closing: bool) -> None:
    data, read = DATA * 10, 1_000_000
    with (
        faulty_server({"/data": data}) as server,
        shaped_link(server.port) as link,
        socket.socket() as client,
    ):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        client.connect(("127.0.0.1", link.port))
        client.sendall(b"GET /data HTTP/1.1\r\nHost: x\r\n\r\n")
        assert len(client.recv(read, socket.MSG_WAITALL)) == read
        if closing:
            client.close()
        time.sleep(0.5)
        passed, [request] = link.passed(), server.requests
        sent = request.sent
        time.sleep(0.2)
        assert (link.passed(), request.sent) == (passed, sent)
    assert read <= passed < read + 500_000
    assert sent < read + 1_500_000


def test_the_end_of_a_request_is_passed_on_and_so_is_a_reset() -> None:
    with faulty_server({"/a": b"a"}, [None, Reset()]) as server, shaped_link(server.port) as link:
        with socket.create_connection(("127.0.0.1", link.port), timeout=30) as client:
            client.sendall(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
            assert client.makefile("rb").read().endswith(b"\r\n\r\na")
        with pytest.raises(requests.exceptions.ConnectionError, match="reset by peer"):
            requests.get(f"http://127.0.0.1:{link.port}/a", timeout=30)
