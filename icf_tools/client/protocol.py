"""The external special remote protocol of git-annex, with several jobs at a time.

in: lines of git-annex    out: calls of a Remote, and its answers

Format: git-annex documentation, "external special remote protocol" and its
appendix "async". A remote that reads can do several things at once, so one
process serves all jobs of `git annex get -J`, each in a thread of its own.
"""

import os
from collections.abc import Iterable
from queue import SimpleQueue
from threading import Lock, Thread
from typing import BinaryIO, Protocol

from icf_tools.errors import IcfError


class Ended(Exception):
    """git-annex has gone."""


class Gone(IcfError):
    """What is asked for is certainly not there."""


class Job:
    """One conversation: what is said and asked in it."""

    def __init__(self, prefix: str, out: BinaryIO, lock: Lock) -> None:
        self.heard: SimpleQueue[str | None] = SimpleQueue()
        self._prefix = prefix
        self._out = out
        self._lock = lock

    def say(self, line: str) -> None:
        data = f"{self._prefix}{line}\n".encode("utf-8", "surrogateescape")
        try:
            with self._lock:
                self._out.write(data)
                self._out.flush()
        except (OSError, ValueError) as err:  # ValueError: it was closed
            raise Ended from err

    def ask(self, line: str) -> str:
        """The value that git-annex has for it."""
        self.say(line)
        return self._value()

    def ask_all(self, line: str) -> list[str]:
        """All values; an empty one ends them."""
        self.say(line)
        return list(iter(self._value, ""))

    def progress(self, done: int) -> None:
        """How many bytes of the file have come."""
        self.say(f"PROGRESS {done}")

    def _value(self) -> str:
        line = self.heard.get()
        if line is None:
            raise Ended
        return line.partition(" ")[2]


class Remote(Protocol):
    """What answers. A refusal is said to git-annex in its own words."""

    def retrieve(self, job: Job, key: str, path: str) -> None:
        """Write the content of a key to a file, which may have its beginning already."""

    def check(self, job: Job, key: str) -> None:
        """See that the content is there. Raises Gone where it is certainly not."""

    def whereis(self, job: Job, key: str) -> str:
        """Where a person finds it; "" where nothing can be said."""


def serve(remote: Remote, lines: Iterable[bytes], out: BinaryIO) -> None:
    """Talk with git-annex until it ends."""
    lock = Lock()
    jobs: dict[str, Job] = {}
    prefix = ""
    first = Job("", out, lock)
    first.say("VERSION 1")
    for data in lines:
        line = data.decode("utf-8", "surrogateescape").removesuffix("\n")
        if not jobs and line.startswith("EXTENSIONS "):
            known = [name for name in ("INFO", "ASYNC") if name in line.split()]
            first.say(" ".join(["EXTENSIONS", *known]))
            continue
        if line.startswith("J "):
            _, number, line = line.split(" ", 2)
            prefix = f"J {number} "
        if prefix not in jobs:
            jobs[prefix] = Job(prefix, out, lock)
            Thread(target=_work, args=(remote, jobs[prefix]), daemon=True).start()
        jobs[prefix].heard.put(line)
    for job in jobs.values():
        job.heard.put(None)


def _work(remote: Remote, job: Job) -> None:
    try:
        while (line := job.heard.get()) is not None:
            job.say(_answer(remote, job, line))
    except Ended:
        os._exit(1)


def _answer(remote: Remote, job: Job, line: str) -> str:
    command, _, rest = line.partition(" ")
    match command:
        case "INITREMOTE" | "PREPARE":
            return f"{command}-SUCCESS"
        case "GETCOST":
            return "COST 150"
        case "GETAVAILABILITY":
            return "AVAILABILITY GLOBAL"
        case "LISTCONFIGS":
            return "CONFIGEND"
        case "GETINFO":
            return "INFOEND"
        case "CLAIMURL" | "EXPORTSUPPORTED":  # archivist keeps the URLs of members
            return f"{command}-FAILURE"
        case "WHEREIS":
            try:
                where = remote.whereis(job, rest)
            except Ended:
                raise
            except Exception:  # noqa: BLE001  git-annex waits for an answer
                where = ""
            return f"WHEREIS-SUCCESS {where}" if where else "WHEREIS-FAILURE"
        case "CHECKPRESENT":
            return _check(remote, job, rest)
        case "TRANSFER":
            return _transfer(remote, job, rest)
        case "REMOVE":
            return f"REMOVE-FAILURE {rest} the tarballs of a store cannot be changed from a clone"
        case _:
            return "UNSUPPORTED-REQUEST"


def _check(remote: Remote, job: Job, key: str) -> str:
    try:
        remote.check(job, key)
    except Gone:
        return f"CHECKPRESENT-FAILURE {key}"
    except Ended:
        raise
    except Exception as err:  # noqa: BLE001  git-annex waits for an answer
        return f"CHECKPRESENT-UNKNOWN {key} {_sentence(err)}"
    return f"CHECKPRESENT-SUCCESS {key}"


def _transfer(remote: Remote, job: Job, rest: str) -> str:
    direction, key, path = rest.split(" ", 2)
    if direction != "RETRIEVE":
        why = "the tarballs of a store cannot be changed from a clone"
        return f"TRANSFER-FAILURE {direction} {key} {why}"
    try:
        remote.retrieve(job, key, path)
    except Ended:
        raise
    except Exception as err:  # noqa: BLE001  git-annex waits for an answer
        return f"TRANSFER-FAILURE RETRIEVE {key} {_sentence(err)}"
    return f"TRANSFER-SUCCESS RETRIEVE {key}"


def _sentence(err: Exception) -> str:
    """git-annex waits for an answer, whatever went wrong; what is not ours may tell a secret."""
    if isinstance(err, IcfError):
        text = str(err)
    elif isinstance(err, OSError):
        text = err.strerror or type(err).__name__
    else:
        text = (
            f"{type(err).__name__} in git-annex-remote-icf; report it, and use archivist meanwhile"
        )
    return " ".join(text.split())
