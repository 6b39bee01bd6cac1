"""Work handed to one other thread, in order and never far ahead."""

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from types import TracebackType

_BACKLOG = 4  # batches that may wait; bounds the memory they hold


class Lane:
    """A thread for work that releases the interpreter lock, as hashing does.

    Leaving the context waits for all of it; an error raised in the thread is
    raised by `put` or on leaving.
    """

    # Not an executor: a signal that stops the program may come while that one holds a lock in
    # Python, which its thread then waits for. What SimpleQueue does cannot be interrupted halfway.

    def __init__(self) -> None:
        self._todo: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()
        self._waiting = 0
        self._is_left = False
        self._thread = Thread(target=self._work, daemon=True)
        self._thread.start()

    def put(self, work: Callable[..., object], *args: object) -> None:
        """Have `work(*args)` done after all that was put before."""
        if self._waiting >= _BACKLOG:
            self._await()
        self._todo.put(lambda: work(*args))
        self._waiting += 1

    def _await(self) -> None:
        error = self._done.get()
        self._waiting -= 1
        if error is not None:
            raise error

    def _work(self) -> None:
        while (work := self._todo.get()) is not None:
            error = None
            try:
                if not self._is_left:
                    work()
            except BaseException as err:  # noqa: BLE001  it is raised in the other thread
                error = err
            self._done.put(error)

    def __enter__(self) -> "Lane":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            while kind is None and self._waiting:
                self._await()
        finally:
            self._is_left = True
            self._todo.put(None)
            self._thread.join()
