"""A web server that goes wrong as it is told, one request at a time.

in: content by path, faults    out: FaultyServer: what was asked for and what was sent

Without a fault it answers as nginx does: ranges, `If-Range`, `ETag`, keep-alive.
"""

import base64
import gzip
import hashlib
import os
import re
import socket
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_PIECE = 1 << 14  # bytes sent at once


class Fault:
    """What goes wrong with one request."""


@dataclass(frozen=True, slots=True)
class Cut(Fault):
    """The connection is closed in the midst of the body."""

    after: int  #: bytes of the body


@dataclass(frozen=True, slots=True)
class Whole(Fault):
    """200 with everything, as by a server that knows no ranges."""


@dataclass(frozen=True, slots=True)
class WrongRange(Fault):
    """206 of another part, or of a file of another size; what is said of the part is so."""

    start: int | None = None  #: first byte of the part
    total: int | None = None  #: bytes of the file


@dataclass(frozen=True, slots=True)
class Status(Fault):
    code: int
    retry_after: int | None = None  #: seconds


@dataclass(frozen=True, slots=True)
class Redirect(Fault):
    """302."""

    url: str


@dataclass(frozen=True, slots=True)
class Stall(Fault):
    """No more comes, and the connection stays open until the client closes it, or it is `over`."""

    after: int  #: bytes of the body
    over: threading.Event | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Encoded(Fault):
    """The right part, packed by gzip, as its head says."""


@dataclass(frozen=True, slots=True)
class Garbage(Fault):
    """All bits are flipped from some byte on; the head is right."""

    after: int  #: bytes of the body


@dataclass(frozen=True, slots=True)
class Reset(Fault):
    """The connection is reset before any answer."""


@dataclass(frozen=True, slots=True)
class Short(Fault):
    """A whole answer with half of the bytes that its Content-Range says."""


@dataclass(frozen=True, slots=True)
class Unauthorized(Fault):
    """401, whatever credential was sent."""


@dataclass(slots=True)
class Request:
    """A request; it grows while it is answered."""

    method: str
    path: str  #: as it was asked for, percent-encoded
    range: str  #: the header, or nothing
    authorized: bool  #: whether there was an Authorization header
    status: int = 0  #: 0 where there was no answer
    sent: int = 0  #: bytes of the body; the last 0.2 MB may not have arrived


@dataclass(slots=True)
class FaultyServer:
    """Everything but `port` may be changed between requests; an ETag follows the content."""

    content: Mapping[str, bytes] | Path  #: by path from the root, not percent-encoded; or a folder
    faults: list[Fault | None]  #: of the next requests, first come first served; None: no fault
    user: tuple[str, str] | None = None  #: and password; requests without get 401 and no fault
    realm: str = "study"
    port: int = 0
    requests: list[Request] = field(default_factory=list)  #: in the order in which they came

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def find(self, path: str) -> bytes | None:
        if isinstance(self.content, Path):
            file = self.content / path.lstrip("/")
            return file.read_bytes() if file.is_file() else None
        return self.content.get(path)


@contextmanager
def faulty_server(
    content: Mapping[str, bytes] | Path,
    faults: Sequence[Fault | None] = (),
    *,
    user: tuple[str, str] | None = None,
    realm: str = "study",
) -> Iterator[FaultyServer]:
    """Serve in threads; open connections are cut at the end."""
    state = FaultyServer(content, list(faults), user, realm)
    with _Server(state) as server:
        state.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            server.hang_up()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # they are waited for

    def __init__(self, state: FaultyServer) -> None:
        self.state = state
        self.lock = threading.Lock()
        self.open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)

    def hang_up(self) -> None:
        with self.lock:
            for connection in self.open:
                with suppress(OSError):  # the client was quicker
                    connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.lock:
            self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self.lock:
            self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, *_: Any) -> None:
        """Clients may go as they like."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        state, given = self.server.state, self.headers["Authorization"]
        self.asked = Request(
            self.command, self.path, self.headers["Range"] or "", given is not None
        )
        with self.server.lock:
            state.requests.append(self.asked)
            allowed = state.user is None or given == _basic(*state.user)
            fault = state.faults.pop(0) if allowed and state.faults else None
        content = state.find(unquote(urlsplit(self.path).path))
        match fault:
            case Reset():
                self.connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
                os.close(self.connection.detach())
                self.close_connection = True
            case _ if not allowed or isinstance(fault, Unauthorized):
                self._answer(401, {"WWW-Authenticate": f'Basic realm="{state.realm}"'})
            case Status(code, None):
                self._answer(code)
            case Status(code, seconds):
                self._answer(code, {"Retry-After": str(seconds)})
            case Redirect(url):
                self._answer(302, {"Location": url})
            case _ if content is None:
                self._answer(404)
            case _:
                self._content(content, fault)

    def _content(self, content: bytes, fault: Fault | None) -> None:
        tag = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
        head = {"ETag": tag, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        part = _part(self.headers["Range"], len(content))
        if isinstance(fault, Whole) or self.headers["If-Range"] not in (None, tag):
            part = None
        if part is None:
            self._body(200, head, content, fault)
            return
        if not part:
            self._answer(416, {"Content-Range": f"bytes */{len(content)}"})
            return
        total = len(content)
        if isinstance(fault, WrongRange):
            if fault.start is not None:
                part = range(fault.start, min(fault.start + len(part), total))
            total = total if fault.total is None else fault.total
        head["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{total}"
        body = content[part.start : part.stop]
        self._body(206, head, body[: len(body) // 2] if isinstance(fault, Short) else body, fault)

    def _body(self, status: int, head: dict[str, str], body: bytes, fault: Fault | None) -> None:
        stop = None
        match fault:
            case Encoded():
                head, body = head | {"Content-Encoding": "gzip"}, gzip.compress(body, mtime=0)
            case Garbage(after):
                body = body[:after] + bytes(byte ^ 0xFF for byte in body[after:])
            case Cut(after) | Stall(after, _):
                stop = after
        self._answer(status, head, body, stop)
        if stop is not None:
            self.close_connection = True
        if isinstance(fault, Stall) and fault.over is not None:
            fault.over.wait(60)
        elif isinstance(fault, Stall):
            self.connection.recv(1)  # nothing more is asked for: it returns at the end

    def _answer(
        self,
        status: int,
        head: dict[str, str] | None = None,
        body: bytes = b"",
        stop: int | None = None,
    ) -> None:
        self.asked.status = status
        self.send_response(status)
        for name, value in ((head or {}) | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        sent = memoryview(body)[:stop]
        for start in range(0, len(sent), _PIECE):
            piece = sent[start : start + _PIECE]
            self.asked.sent += len(piece)  # before: a client that has it may look
            self.wfile.write(piece)


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _part(header: str | None, size: int) -> range | None:
    """Which bytes are wanted; none where they lie beyond the end; None for all of them."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        return range(max(0, size - int(last)), size)
    return range(int(first), min(int(last) + 1, size) if last else size)
