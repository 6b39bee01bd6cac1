"""Run commands in turn, as whole processes.

in: Command by name    out: by name a Run per round; Row, as a line of the table

Commands take turns (A B A B ...) so that what else the machine does falls on
all of them, and a ratio is the median of the ratios of each round. Every file
system is synced before each run, so none writes back what another left.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter

ICF = (sys.executable, "-m", "icf_tools")
_HEADINGS = ("what", "size", "ours", "peer", "peer's", "ratio", "target", "ours/peer's memory")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_SAMPLING = 0.02  # seconds


@dataclass(frozen=True, slots=True)
class Command:
    """A program, and what is done before it runs, which is not measured."""

    argv: Sequence[str | Path]
    before: Callable[[], object] = lambda: None
    failing: bool = False  #: whether it is to end with a refusal


@dataclass(frozen=True, slots=True)
class Run:
    wall: float  #: seconds
    memory: int  #: bytes: the process and its children together, at their peak
    others: float  #: cores that other processes kept busy meanwhile


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    what: str
    size: str
    ours: Sequence[Run]
    peer: str = ""
    peers: Sequence[Run] = ()
    target: str = ""
    ratio: str | None = None  #: of the walls, ours over the peer's, unless given

    def cells(self) -> tuple[str, ...]:
        pairs = list(zip(self.ours, self.peers, strict=False))
        ratio = f"{median(a.wall / b.wall for a, b in pairs):.3g}" if pairs else ""
        memory = "/".join(f"{_memory(runs) >> 20}" for runs in (self.ours, self.peers) if runs)
        return (
            self.what,
            self.size,
            f"{wall(self.ours):.2f} s",
            self.peer,
            f"{wall(self.peers):.2f} s" if self.peers else "",
            ratio if self.ratio is None else self.ratio,
            self.target,
            f"{memory} MiB",
        )


def wall(runs: Sequence[Run]) -> float:
    """The median, in seconds."""
    return median(run.wall for run in runs)


def take_turns(rounds: int, **commands: Command) -> dict[str, list[Run]]:
    """Run each command in every round."""
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            runs[name].append(run(command))
    return runs


def run(command: Command) -> Run:
    """Run once. What it prints is shown where it fails."""
    command.before()
    os.sync()
    with tempfile.TemporaryFile() as said:
        start, busy = perf_counter(), _busy()
        process = subprocess.Popen(command.argv, stdout=said, stderr=said)
        done = threading.Event()
        sampled: list[int] = []
        sampler = threading.Thread(target=_sample, args=(process.pid, done, sampled))
        sampler.start()
        # not process.wait(): the kernel's own peak comes with the exit status
        _, status, usage = os.wait4(process.pid, 0)
        seconds = perf_counter() - start
        others = (_busy() - busy - usage.ru_utime - usage.ru_stime) / seconds
        done.set()
        sampler.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        if bool(process.returncode) is not command.failing:
            said.seek(0)
            raise SystemExit(f"{command.argv} failed: {said.read().decode(errors='replace')}")
    # until a new process starts its program it seems to hold all that its parent does:
    # a peak counts from two samples on; a shorter one of a single process is in its maxrss
    lasting = max(map(min, pairwise(sampled)), default=0)
    return Run(seconds, max(usage.ru_maxrss << 10, lasting), max(0.0, others))


def warm(path: Path) -> int:
    """Have the files in the page cache, as all measurements have; return their bytes."""
    size = 0
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb", buffering=0) as content:
                while piece := content.read(1 << 20):
                    size += len(piece)
    return size


def aside(work: Callable[..., object], *args: object) -> None:
    """Do it in another process: a child is never seen to use less memory than its parent."""
    process = multiprocessing.get_context("fork").Process(target=work, args=args)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{work.__name__} failed")


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder below TMPDIR that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="icf-benchmarks-") as name:
        yield Path(name)


def show(rows: Sequence[Row]) -> None:
    """Print the table."""
    table = [_HEADINGS, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        print("  ".join(map(str.ljust, cells, widths)).rstrip())
    others = median(run.others for row in rows for run in (*row.ours, *row.peers))
    print(f"{os.cpu_count()} cores, of which other processes kept {others:.1f} busy meanwhile")


def main(*parts: Callable[[bool], Sequence[Row]]) -> None:
    """Be a benchmark's program."""
    parser = argparse.ArgumentParser(description="Measure icf_tools beside its peers.")
    parser.add_argument("--quick", action="store_true", help="small and once, to see that it runs")
    quick = parser.parse_args().quick
    show([row for part in parts for row in part(quick)])


def _busy() -> float:
    """Seconds that all cores have worked since the machine was started."""
    with open("/proc/stat") as file:
        user, nice, system = map(int, file.readline().split()[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def _memory(runs: Sequence[Run]) -> int:
    return max(run.memory for run in runs)


def _sample(pid: int, done: threading.Event, sampled: list[int]) -> None:
    while not done.wait(_SAMPLING):
        sampled.append(_resident(pid))


def _resident(pid: int) -> int:
    """Bytes that a process and all below it have in memory now."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            size = int(file.read().split()[1]) * _PAGE
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                size += sum(_resident(int(child)) for child in file.read().split())
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return size
