"""A person at a terminal, who answers the questions of a program."""

import fcntl
import os
import pty
import select
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_PATIENCE = 60  # s


def at_terminal(
    command: Sequence[object],
    answers: Sequence[tuple[str, str]],
    cwd: Path,
    environment: Mapping[str, str],
) -> tuple[int, str]:
    """Wait for each question and give its answer; return the exit code and what was to see.

    A question that nobody expects is not answered, so the program would not end.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        list(map(str, command)),
        cwd=cwd,
        env=dict(environment),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    seen, unread, pending = "", "", list(answers)
    deadline = time.monotonic() + _PATIENCE
    try:
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 1)[0]:
                continue
            try:
                piece = os.read(ours, 4096).decode(errors="replace")
            except OSError:  # nobody has it open any more
                break
            seen, unread = seen + piece, unread + piece
            if pending and pending[0][0] in unread:
                unread = unread.partition(pending[0][0])[2]
                os.write(ours, f"{pending.pop(0)[1]}\n".encode())
        else:
            process.kill()
        return process.wait(), seen
    finally:
        process.kill()
        process.wait()
        os.close(ours)
