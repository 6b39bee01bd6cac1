"""Programs of others that are run for a user, found beside this one.

in: a command    out: its exit code, and what it said

They come with this package, so it does not matter whether the environment in
which it is installed is active.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import current_thread, main_thread

from icf_tools.errors import NotFound

FOLDER = Path(sys.executable).parent
"""Where the programs of this environment are."""
WANTED = ("datalad", "git-annex", "git-annex-remote-icf")
"""What a user needs on the path for datalad to do all that it can."""

# the first that is found: what git says of a helper that failed is never the reason
_SIGNS = tuple(
    re.compile(sign)
    for sign in (
        r"(?<=special remote error: ).+",
        r"Verification of content failed",
        r"(?<=fatal: )(?!Could not read|.*failed with exitcode).+",
        r"^(?!.*[0-9] failed).*(?:ERROR|[Ee]rror|[Ff]ailed).*",
    )
)


class NoProgram(NotFound):
    message = "there is no program {}; install it, or put its folder on the PATH"


def environment() -> dict[str, str]:
    """This process's, with the programs of this environment first on the path."""
    path = os.environ.get("PATH", os.defpath)
    return {**os.environ, "PATH": f"{FOLDER}{os.pathsep}{path}"}


def missing() -> list[str]:
    """Those that a user would not find."""
    return [program for program in WANTED if shutil.which(program) is None]


@contextmanager
def held() -> Iterator[None]:
    """What stops this program does so at the end of the block."""
    came: list[int] = []
    before = {}
    try:
        if current_thread() is main_thread():  # no other is ever stopped
            for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if callable(signal.getsignal(each)):
                    before[each] = signal.signal(each, lambda number, _: came.append(number))
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        for number in came:
            signal.raise_signal(number)


def run(command: Sequence[str], folder: Path, **more: str) -> tuple[int, str]:
    """Run a program in a folder, with `more` in its environment, until it ends or we do.

    It is in a session of its own: it asks nobody, and is stopped with all that it began.
    """
    process = None
    try:
        with held():  # a program that was started and nobody knows of would run on
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment() | more,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        said = process.communicate()[0]
    except FileNotFoundError as err:
        raise NoProgram(command[0]) from err
    except BaseException:
        if process is not None:
            with process, suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, said.decode(errors="replace")


def telling(said: str) -> str:
    """The line of an output that says why it failed."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    for sign in _SIGNS:
        for line in reversed(lines):
            if match := sign.search(line):
                return match[0].rstrip("']")
    return lines[-1] if lines else "it said nothing"
