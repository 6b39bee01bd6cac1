"""Conversations with git-annex, line by line."""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from icf_tools.client.protocol import Gone, Job, serve
from icf_tools.errors import Damaged


class Broken(Damaged):
    message = "{} is  broken; mend it"


@dataclass
class Answers:
    """What is asked of it, and refusals for some keys."""

    asked: list[tuple[str, ...]] = field(default_factory=list)
    both: threading.Barrier = field(default_factory=lambda: threading.Barrier(2, timeout=60))

    def retrieve(self, job: Job, key: str, path: str) -> None:
        self.asked.append((key, path, *job.ask_all(f"GETURLS {key} dl+archive:")))
        if key == "BROKEN":
            raise Broken(key)
        if key == "FULL":
            raise OSError(28, "No space left on device")
        if key == "STRANGE":
            raise KeyError("hunter2")
        if key.startswith("WAITS"):
            self.both.wait()
        job.progress(7)

    def check(self, job: Job, key: str) -> None:
        if key == "GONE":
            raise Gone(key)
        if key == "BROKEN":
            raise Broken(key)
        if key == "STRANGE":
            raise ValueError("hunter2")

    def whereis(self, job: Job, key: str) -> str:
        if key == "BROKEN":
            raise Broken(key)
        return "" if key == "GONE" else "https://host/x.tar bytes 0-9"


class Conversation:
    """git-annex's side of two pipes."""

    def __init__(self, remote: Answers) -> None:
        read, self._write = os.pipe()
        self._read, write = os.pipe()
        self._lines = os.fdopen(self._read, "rb")
        self._pipes = os.fdopen(read, "rb"), os.fdopen(write, "wb")
        self._thread = threading.Thread(target=serve, args=(remote, *self._pipes))
        self._thread.start()

    def say(self, line: str) -> None:
        os.write(self._write, f"{line}\n".encode())

    def hear(self) -> str:
        return self._lines.readline().decode().removesuffix("\n")

    def end(self) -> None:
        os.close(self._write)
        self._thread.join(20)
        assert not self._thread.is_alive()
        for pipe in (*self._pipes, self._lines):
            pipe.close()


@pytest.fixture
def remote() -> Answers:
    return Answers()


@pytest.fixture
def talk(remote: Answers) -> Iterator[Conversation]:
    talk = Conversation(remote)
    assert talk.hear() == "VERSION 1"
    yield talk
    talk.end()


SIMPLE = [
    ("INITREMOTE", "INITREMOTE-SUCCESS"),
    ("PREPARE", "PREPARE-SUCCESS"),
    ("GETCOST", "COST 150"),
    ("GETAVAILABILITY", "AVAILABILITY GLOBAL"),
    ("LISTCONFIGS", "CONFIGEND"),
    ("GETINFO", "INFOEND"),
    ("EXPORTSUPPORTED", "EXPORTSUPPORTED-FAILURE"),
    ("CLAIMURL dl+archive:x#path=y", "CLAIMURL-FAILURE"),
    ("CHECKURL http://host", "UNSUPPORTED-REQUEST"),
    ("NEWS", "UNSUPPORTED-REQUEST"),
    ("CHECKPRESENT KEY", "CHECKPRESENT-SUCCESS KEY"),
    ("CHECKPRESENT GONE", "CHECKPRESENT-FAILURE GONE"),
    ("CHECKPRESENT BROKEN", "CHECKPRESENT-UNKNOWN BROKEN BROKEN is broken; mend it"),
    (
        "CHECKPRESENT STRANGE",
        "CHECKPRESENT-UNKNOWN STRANGE ValueError in git-annex-remote-icf; "
        "report it, and use archivist meanwhile",
    ),
    ("WHEREIS KEY", "WHEREIS-SUCCESS https://host/x.tar bytes 0-9"),
    ("WHEREIS GONE", "WHEREIS-FAILURE"),
    ("WHEREIS BROKEN", "WHEREIS-FAILURE"),
    (
        "REMOVE KEY",
        "REMOVE-FAILURE KEY the tarballs of a store cannot be changed from a clone",
    ),
    (
        "TRANSFER STORE KEY some file",
        "TRANSFER-FAILURE STORE KEY the tarballs of a store cannot be changed from a clone",
    ),
]


def test_each_request_has_its_answer(talk: Conversation) -> None:
    talk.say("EXTENSIONS INFO GETGITREMOTENAME UNAVAILABLERESPONSE")
    assert talk.hear() == "EXTENSIONS INFO"
    for request, answer in SIMPLE:
        talk.say(request)
        assert talk.hear() == answer


def test_git_annex_without_extensions(talk: Conversation) -> None:
    talk.say("PREPARE")
    assert talk.hear() == "PREPARE-SUCCESS"


def test_a_transfer(talk: Conversation, remote: Answers) -> None:
    for key, answer in (
        ("KEY", "TRANSFER-SUCCESS RETRIEVE KEY"),
        ("BROKEN", "TRANSFER-FAILURE RETRIEVE BROKEN BROKEN is broken; mend it"),
        (
            "STRANGE",
            "TRANSFER-FAILURE RETRIEVE STRANGE KeyError in git-annex-remote-icf; "
            "report it, and use archivist meanwhile",
        ),
        ("FULL", "TRANSFER-FAILURE RETRIEVE FULL No space left on device"),
    ):
        talk.say(f"TRANSFER RETRIEVE {key} a file  with blanks")
        assert talk.hear() == f"GETURLS {key} dl+archive:"
        for url in ("dl+archive:one", "dl+archive:two words", ""):
            talk.say(f"VALUE {url}")
        if key == "KEY":
            assert talk.hear() == "PROGRESS 7"
        assert talk.hear() == answer
    assert remote.asked[0] == (
        *("KEY", "a file  with blanks"),
        *("dl+archive:one", "dl+archive:two words"),
    )


def test_jobs_at_the_same_time(talk: Conversation) -> None:
    """Each waits for the other, so both are under way."""
    talk.say("EXTENSIONS INFO ASYNC")
    assert talk.hear() == "EXTENSIONS INFO ASYNC"
    talk.say("J 1 PREPARE")
    assert talk.hear() == "J 1 PREPARE-SUCCESS"
    for number in (1, 2):
        talk.say(f"J {number} TRANSFER RETRIEVE WAITS{number} file {number}")
    heard = {talk.hear(), talk.hear()}
    assert heard == {f"J {number} GETURLS WAITS{number} dl+archive:" for number in (1, 2)}
    for number in (1, 2):
        talk.say(f"J {number} VALUE ")
    heard = {talk.hear() for _ in range(4)}
    assert {line for line in heard if "PROGRESS" not in line} == {
        f"J {number} TRANSFER-SUCCESS RETRIEVE WAITS{number}" for number in (1, 2)
    }
    talk.say("J 2 CHECKPRESENT KEY")
    assert talk.hear() == "J 2 CHECKPRESENT-SUCCESS KEY"


def test_bytes_that_are_no_text(remote: Answers, tmp_path: Path) -> None:
    talk = Conversation(remote)
    talk.hear()
    os.write(talk._write, b"CHECKPRESENT K\xff\xfeEY\n")
    assert talk._lines.readline() == b"CHECKPRESENT-SUCCESS K\xff\xfeEY\n"
    talk.end()
