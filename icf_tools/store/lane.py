"""Work handed to one other thread, in order and never far ahead."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

_BACKLOG = 4  # batches that may wait; bounds the memory they hold


class Lane:
    """A thread for work that releases the interpreter lock, as hashing does.

    Leaving the context waits for all of it; an error raised in the thread is
    raised by `put` or on leaving.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._waiting: deque[Future[Any]] = deque()

    def put(self, work: Callable[..., object], *args: object) -> None:
        """Have `work(*args)` done after all that was put before."""
        if len(self._waiting) >= _BACKLOG:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(work, *args))

    def __enter__(self) -> "Lane":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            while self._waiting:
                self._waiting.popleft().result()
        self._thread.shutdown(wait=True, cancel_futures=kind is not None)
