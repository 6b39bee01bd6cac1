"""What commands say: progress on standard error, results on standard output."""

import json
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from icf_tools.model.progress import Progress

if TYPE_CHECKING:
    from icf_tools.archive.build import Built
    from icf_tools.dataset.write import Deposited
    from icf_tools.index.deposit import Indexed

_SECONDS_BETWEEN_LINES = 10
_MOST_PROBLEMS = 20
_MOST_SINGLE = 5


@contextmanager
def progress(*, rate: bool = False) -> Iterator[Progress]:
    """A bar on a terminal; elsewhere a line now and then. With `rate` what is counted are bytes."""
    if not sys.stderr.isatty():
        yield _lines(rate=rate)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        ProgressColumn,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bars

    columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn()]
    columns += [DownloadColumn(), TransferSpeedColumn()] if rate else [TaskProgressColumn()]
    columns.append(TimeRemainingColumn())
    bars = Bars(*columns, console=Console(stderr=True), transient=True)
    try:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            bars.start()  # not before: whoever is asked for a password must see it
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield show
    finally:
        bars.stop()


def _lines(*, rate: bool) -> Progress:
    last, before = time.monotonic(), 0

    def show(what: str, done: int, total: int) -> None:
        nonlocal last, before
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES:
            speed = f", {megabytes(int((done - before) / (now - last)))}/s" if rate else ""
            last, before = now, done
            note(f"{what}: {100 * done // total} %{speed}")

    return show


def megabytes(count: int) -> str:
    """A number of bytes, for a person."""
    return f"{count / 1e6:.1f} MB"


def note(text: str) -> None:
    """Something to know that is not the result."""
    print(plain(text), file=sys.stderr)


def failures(reasons: Mapping[str, str]) -> None:
    """Which files did not come, and why; those with the same reason together."""
    for why, count in Counter(reasons.values()).most_common(_MOST_PROBLEMS):
        paths = [path for path, reason in reasons.items() if reason == why]
        many = f"{count} files, the first " if count > _MOST_SINGLE else ""
        for path in paths[: 1 if many else None]:
            note(f"{many}{path}: {why}")


def plain(text: str) -> str:
    """What others wrote, without what moves the cursor or colours a terminal."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text
    )


def result(value: Any, lines: list[str], as_json: bool) -> None:
    """The outcome, for a script or for a person."""
    if as_json:
        print(json.dumps(value, default=str, indent=1))
    else:
        print(plain("\n".join(lines)))


def built_lines(built: "Built") -> list[str]:
    """What became of the tarball; what is strange goes to standard error."""
    what = "made" if built.made else "was there, of the same content"
    if not built.images:
        note(f"no DICOM image among the {built.members} files; is it the right folder?")
    if built.renamed:
        note(f"{built.renamed} names were replaced; the metadata keeps the originals")
    for member in built.unreadable[:_MOST_PROBLEMS]:
        note(f"{member}: says that it is DICOM and cannot be parsed; kept as a plain file")
    return [f"tarball {what}: {built.path} ({built.members} files, {built.size} bytes)"]


def indexed_lines(indexed: "Indexed") -> list[str]:
    """What became of the metadata, likewise."""
    what = "made" if indexed.made else "was there"
    for problem in indexed.problems[:_MOST_PROBLEMS]:
        note(f"{problem.path}: {problem.reason}")
    if len(indexed.problems) > _MOST_PROBLEMS:
        note(f"... and {len(indexed.problems) - _MOST_PROBLEMS} more, listed in the metadata")
    counts = f"{indexed.images} images in {indexed.series} series, {indexed.files} other files"
    return [f"metadata {what}: {counts}"]


def deposited_lines(deposited: "Deposited") -> list[str]:
    """What became of the dataset, and how to clone it."""
    what = "made" if deposited.made else "was there"
    return [
        f"dataset {what}: version {deposited.version}, commit {deposited.commits['master']}",
        f"clone it with: datalad clone {shlex.quote(deposited.clone_url)} {deposited.visit}",
    ]
