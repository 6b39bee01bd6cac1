"""Bytes of one tarball, asked for again from where they stopped, in windows that grow.

in: Source, ranges of members    out: their bytes, never others

A member that follows another one is read from a request that is still open,
or from one that asks for more than the member: git-annex asks for files one
after another, each of which would cost a round trip. What is asked for in vain
is at most a quarter of what was wanted and 2 MiB.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from threading import Condition
from typing import TypeVar

from icf_tools.access.source import Interrupted, NoRange, Opened, OtherTarball, Source

_T = TypeVar("_T")

PIECE = 256 << 10  # bytes; what is read at once
_WAITS = (0.2, 0.5, 1.0, 2.0, 4.0)  # s before each further attempt without progress
_PROGRESS = 1 << 20  # bytes after which attempts are counted anew
_GAP = 64 << 10  # bytes between two members, one of which still follows the other
_FREE = 2 << 20  # bytes that may be asked for in vain
_SHARE = 4  # of the wanted bytes, one part in so many may be, too
_WIDEST = 64 << 20  # bytes that are asked for at once
_KEPT = 16 << 20  # bytes behind the last one, for a member that is asked for late
_DOWN = 20.0  # s during which nothing is asked of a server that did not answer


def retried(attempt: Callable[[], _T]) -> _T:
    """Its result; try again where it is interrupted, with longer and longer waits."""
    for wait in _WAITS:
        try:
            return attempt()
        except Interrupted:
            time.sleep(wait)
    return attempt()


class Ranges:
    """Ranges of a tarball of a known size, in bytes.

    A server that sends whole files only is refused, unless `whole` lets it: then what comes
    before a range is read and left.
    """

    def __init__(self, source: Source, size: int, *, whole: bool = False) -> None:
        self._source = source
        self._size = size
        self._may_be_whole = whole
        self.is_whole = False  #: whether the server has sent a whole file
        self._down: tuple[float, Interrupted] | None = None

    @property
    def url(self) -> str:
        return self._source.url

    @property
    def size(self) -> int:
        return self._size

    def pieces(self, start: int, end: int) -> Generator[bytes]:
        """The bytes from `start` to `end`, in order, whatever interrupts them.

        Raises what `Source.open` raises; OtherTarball where the file has another size.
        """
        position, counted, fruitless = start, start, 0
        while position < end:
            try:
                for piece in self._attempt(position, end):
                    position += len(piece)
                    yield piece
            except Interrupted as err:
                if self._down and err is self._down[1]:
                    raise
                if position - counted >= _PROGRESS:
                    counted, fruitless = position, 0
                if fruitless == len(_WAITS):
                    self._down = time.monotonic(), err
                    raise
                time.sleep(_WAITS[fruitless])
                fruitless += 1

    def _attempt(self, start: int, end: int) -> Iterator[bytes]:
        if self._down and time.monotonic() - self._down[0] < _DOWN:
            raise self._down[1]
        if end > self._size:
            raise OtherTarball(self.url, "is too short for what the dataset says of it")
        opened = self._open(start, end)
        try:
            if opened.total not in (None, self._size):
                what = f"has {opened.total} bytes and not {self._size} as the one of the dataset"
                raise OtherTarball(self.url, what)
            self._down = None
            while start < end:
                piece = opened.read(min(PIECE, end - start))
                if not piece:
                    raise Interrupted(self.url, f"it ended at byte {start}")
                start += len(piece)
                yield piece
        finally:
            opened.close()

    def _open(self, start: int, end: int) -> Opened:
        if not self.is_whole:
            try:
                return self._source.open(start, end)
            except NoRange:
                if not self._may_be_whole:
                    raise
                self.is_whole = True
        opened = self._source.open(0, None)
        while start and (piece := opened.read(min(PIECE, start))):
            start -= len(piece)
        return opened


class Window:
    """Members of a tarball, each read as part of a stream where it follows another one.

    Threads may share it: they are served one at a time, in the order of the tarball.
    """

    def __init__(self, ranges: Ranges) -> None:
        self._ranges = ranges
        self._turn = Condition()
        self._busy = False
        self._waiting: list[int] = []
        self._kept: deque[tuple[int, bytes]] = deque()  # what was read last, and where it begins
        self._stream: Generator[bytes] | None = None
        self._begin = 0  # of what is kept
        self._position = 0  # behind it
        self._limit = 0  # behind what was asked for
        self._asked = 0  # bytes, of all requests
        self._used = 0
        self._late = 0  # behind what was asked for late

    @property
    def url(self) -> str:
        return self._ranges.url

    def pieces(self, start: int, end: int) -> Generator[memoryview]:
        """The bytes from `start` to `end`. Raises what `Ranges.pieces` raises."""
        with self._turn:
            self._waiting.append(start)
            self._turn.wait_for(lambda: not self._busy and start == min(self._waiting))
            self._busy = True
            self._waiting.remove(start)
        try:
            if self._is_late(start):
                self._late = end
                self._asked += end - start
                self._used += end - start
                for piece in self._ranges.pieces(start, end):
                    yield memoryview(piece)
                return
            furthest = min(self._limit + max(_GAP, self._spare), self._position + _FREE)
            if self._stream is None or not self._begin <= start <= furthest:
                self._restart(start)
            yield from self._serve(start, end)
        except BaseException:
            self._stream = None  # one that failed, or was left in the middle, is not read on
            raise
        finally:
            with self._turn:
                self._busy = False
                self._turn.notify_all()

    def _is_late(self, start: int) -> bool:
        """Whether it is asked for by itself, as what follows it was read before."""
        is_behind = self._stream is not None and 0 < self._begin - start <= _KEPT
        return is_behind and not 0 <= start - self._late <= _GAP

    @property
    def _spare(self) -> int:
        """Bytes that may still be asked for in vain."""
        return max(0, _FREE + self._used // _SHARE - (self._asked - self._used))

    def _restart(self, start: int) -> None:
        if self._stream is not None:
            self._stream.close()
        self._kept.clear()
        self._asked -= max(0, self._limit - self._position - _GAP)  # a closed request sends no more
        self._begin = self._position = self._limit = start

    def _serve(self, start: int, end: int) -> Iterator[memoryview]:
        for offset, piece in tuple(self._kept):
            if part := _part(offset, piece, start, end):
                yield part
        exact = self._limit == self._begin
        stream = self._stream
        while self._position < end:
            if stream is None or self._position == self._limit:
                stream = self._ask(end, exact=exact)
            piece = next(stream)
            offset, self._position = self._position, self._position + len(piece)
            self._keep(offset, piece)
            if part := _part(offset, piece, start, end):
                yield part
        self._used += end - start

    def _ask(self, end: int, *, exact: bool) -> Generator[bytes]:
        """A stream that goes on to `end` at least."""
        ahead = 0 if exact else min(self._spare, _WIDEST)
        limit = max(end, min(end + ahead, self._ranges.size))
        self._asked += limit - self._position
        self._stream, self._limit = self._ranges.pieces(self._position, limit), limit
        return self._stream

    def _keep(self, offset: int, piece: bytes) -> None:
        self._kept.append((offset, piece))
        while self._position - self._kept[0][0] > _KEPT:
            self._kept.popleft()
        self._begin = self._kept[0][0]


def _part(offset: int, piece: bytes, start: int, end: int) -> memoryview | None:
    """What of a piece lies between two places."""
    first, last = max(start - offset, 0), min(end - offset, len(piece))
    return memoryview(piece)[first:last] if first < last else None
