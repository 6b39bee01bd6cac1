"""Programs that are run for us, and stop when we do.

in: a command    out: its exit code
"""

import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from icf_tools.errors import IcfError

_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_running: set["subprocess.Popen[bytes]"] = set()


class Stopped(IcfError):
    message = "{} was stopped by {}; see that the machine has memory for it, and run it again"


def run(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, seconds: float
) -> int:
    """Wait for it in `folder`. Whatever it prints may tell a name, so nobody sees it.

    Raises Stopped where it did not end by itself: that says nothing of what it worked
    on. Raises subprocess.TimeoutExpired after so many seconds.
    """
    with subprocess.Popen(
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        _running.add(process)
        try:
            code = process.wait(seconds)
        finally:
            process.kill()
            _running.discard(process)
    if -code in _FROM_OUTSIDE:
        raise Stopped(Path(command[0]).name, signal.Signals(-code).name)
    return code


def stop_all() -> None:
    """Have those that other threads wait for end now."""
    for process in list(_running):
        process.kill()
