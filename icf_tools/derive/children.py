"""Programs that are run for us, and stop when we do.

in: a command    out: its exit code
"""

import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from icf_tools.errors import IcfError

_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_lock = Lock()  # one is begun and listed, or another thread stops what is listed
_running: dict["subprocess.Popen[bytes]", Path] = {}
_stopped: set[Path] = set()  # nothing is begun in these folders


class Stopped(IcfError):
    message = "{} was stopped by {}; see that the machine has memory for it, and run it again"


def run(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, seconds: float
) -> int:
    """Wait for it in `folder`. Whatever it prints may tell a name, so nobody sees it.

    Raises Stopped where it did not end by itself: that says nothing of what it worked
    on. Raises subprocess.TimeoutExpired after so many seconds.
    """
    name = Path(command[0]).name
    with _lock:
        if any(map(folder.is_relative_to, _stopped)):
            raise Stopped(name, signal.SIGKILL.name)
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _running[process] = folder
    with process:
        try:
            code = process.wait(seconds)
        finally:
            process.kill()
            del _running[process]
    if -code in _FROM_OUTSIDE:
        raise Stopped(name, signal.Signals(-code).name)
    return code


@contextmanager
def stopped(folder: Path) -> Iterator[None]:
    """Have those that other threads run below a folder end, and none begin meanwhile."""
    with _lock:
        _stopped.add(folder)
        for process, place in list(_running.items()):
            if place.is_relative_to(folder):
                process.kill()
    try:
        yield
    finally:
        _stopped.discard(folder)
