"""Programs of others end with us."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import pytest

from icf_tools.client.programs import held, run


def test_a_signal_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        with held():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            assert came == []
        assert came == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGTERM)
        assert came == [signal.SIGTERM] * 2
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with held():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_any_thread_runs_programs(tmp_path: Path) -> None:
    said: list[tuple[int, str]] = []
    thread = Thread(target=lambda: said.append(run(["echo", "here"], tmp_path)))
    thread.start()
    thread.join()
    assert said == [(0, "here\n")]


def test_one_that_is_being_started_is_stopped_too(tmp_path: Path) -> None:
    """Wherever in the start of it the signal comes."""
    script = f"""
import signal, subprocess, sys, threading, os, time
from pathlib import Path
from icf_tools.client import programs

def stop(*_):
    sys.exit(3)

signal.signal(signal.SIGTERM, stop)
real = subprocess.Popen._execute_child
def slowly(*given, **named):
    real(*given, **named)
    while not Path("{tmp_path}/pid").exists() or not Path("{tmp_path}/pid").read_text():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.01)
subprocess.Popen._execute_child = slowly
programs.run(["sh", "-c", "echo $$ > {tmp_path}/pid; exec sleep 300"], Path("{tmp_path}"))
"""
    done = subprocess.run([sys.executable, "-c", script], timeout=60)
    assert done.returncode == 3
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
