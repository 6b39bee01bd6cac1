"""A slow network on one machine: connections are passed on late, and not too fast.

in: ports, round trip, bytes per second    out: a port to connect to; bytes passed on so far

    python -m benchmarks.link PORT TARGET_PORT LATENCY RATE COUNT_FILE

runs until its standard input ends. PORT 0 is any free one; the port is printed once it listens.

Each way takes half of the round trip, and what a client gets is limited for all connections
together. Setting up a connection takes a round trip, too: nothing is read from it before. There
is no slow start and no loss. In all, little more than rate times round trip is on its way, so a
client that stops reading soon stops the server.
"""

import asyncio
import mmap
import os
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_PIECE = 1 << 14  # bytes read at once
_BUFFER = 1 << 16  # bytes that the kernel may keep at each end of the link
_LATE = 0.01  # seconds that a sleep may last too long without a loss of rate
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Link:
    """What stands between a client and a server, as seen from outside."""

    port: int
    count_file: Path

    def passed(self) -> int:
        """Bytes that clients were given so far."""
        return int.from_bytes(self.count_file.read_bytes(), "little")


@contextmanager
def shaped_link(port: int, *, latency: float = 0.05, rate: float = 12_500_000) -> Iterator[Link]:
    """Pass on to `port`, in a process of its own; latency in seconds, rate in bytes/s."""
    with tempfile.TemporaryDirectory(prefix="icf-link-") as folder:
        count_file = Path(folder, "passed")
        numbers = map(str, (0, port, latency, rate))
        command = [sys.executable, __file__, *numbers, str(count_file)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                yield Link(int(process.stdout.readline()), count_file)
            finally:
                process.stdin.close()
                process.wait()


@dataclass(slots=True)
class _Proxy:
    target: int
    latency: float
    rate: float
    count: mmap.mmap
    free: float = 0  #: when all that was read will have been sent
    line: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def on_the_way(self) -> int:
        """Pieces of one connection in one direction."""
        return int(self.rate * self.latency) // _PIECE + 1

    async def serve(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        connections = set()
        while True:
            client, _ = await loop.sock_accept(listener)
            connections.add(task := asyncio.create_task(self.connect(client)))
            task.add_done_callback(connections.discard)

    async def connect(self, client: socket.socket) -> None:
        with client, _socket() as server:
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.sleep(self.latency)
            try:
                await asyncio.get_running_loop().sock_connect(server, ("127.0.0.1", self.target))
                async with asyncio.TaskGroup() as both:
                    both.create_task(self.carry(client, server, None))
                    both.create_task(self.carry(server, client, self.line))
            except* OSError:  # a reset on one side is one on the other
                await asyncio.sleep(self.latency / 2)
                for each in client, server:
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    async def carry(
        self, source: socket.socket, sink: socket.socket, line: asyncio.Lock | None
    ) -> None:
        """Until the source has no more; then the sink is told so."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(self.on_the_way)
        async with asyncio.TaskGroup() as both:
            both.create_task(self.take(source, queue, line))
            both.create_task(self.give(queue, sink, line))

    async def take(
        self,
        source: socket.socket,
        queue: "asyncio.Queue[tuple[float, bytes]]",
        line: asyncio.Lock | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        piece = b"."
        while piece:
            piece = await loop.sock_recv(source, _PIECE)
            if line is not None:
                async with line:  # in the order of arrival
                    self.free = max(self.free, loop.time() - _LATE) + len(piece) / self.rate
                    await asyncio.sleep(self.free - loop.time())
            await queue.put((loop.time() + self.latency / 2, piece))

    async def give(
        self,
        queue: "asyncio.Queue[tuple[float, bytes]]",
        sink: socket.socket,
        line: asyncio.Lock | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, piece = await queue.get()
            await asyncio.sleep(due - loop.time())
            if not piece:
                with suppress(OSError):
                    sink.shutdown(socket.SHUT_WR)
                return
            await loop.sock_sendall(sink, piece)
            if line is not None:
                (before,) = struct.unpack("<Q", self.count[:])
                self.count[:] = struct.pack("<Q", before + len(piece))


def _socket() -> socket.socket:
    made = socket.socket()
    made.setblocking(False)
    for option in socket.SO_RCVBUF, socket.SO_SNDBUF:  # what is accepted has them, too
        made.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
    return made


async def _run(port: int, proxy: _Proxy) -> None:
    loop = asyncio.get_running_loop()
    with _socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen()
        print(listener.getsockname()[1], flush=True)
        end = loop.run_in_executor(None, sys.stdin.read)
        end.add_done_callback(lambda _: os._exit(0))  # open connections end with the process
        await proxy.serve(listener)


def main() -> None:
    port, target, latency, rate, count_file = sys.argv[1:]
    with open(count_file, "w+b") as file:
        file.write(bytes(8))
        file.flush()
        with mmap.mmap(file.fileno(), 8) as count:
            proxy = _Proxy(int(target), float(latency), float(rate), count)
            asyncio.run(_run(int(port), proxy))


if __name__ == "__main__":
    main()
