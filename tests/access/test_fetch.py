"""Files come out of a tarball as they went in, or not at all."""

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from icf_tools.access import fetch as module
from icf_tools.access.fetch import NO_NAME, OTHER_CONTENT, Fetched, Plan, fetch
from icf_tools.access.source import Interrupted, NotThere, OtherTarball
from icf_tools.access.stored import BadFacts, NoPlaces
from icf_tools.errors import Damaged
from icf_tools.model.choice import Choice
from icf_tools.model.visit import StorePath
from icf_tools.store.files import FolderLocked, NoRoom, OtherContent, locked_folder, new_file
from tests.access.stores import TARBALL, VISIT, change, described, files
from tests.faults import Cut, Garbage, Reset, Stall, Status, Whole, faulty_server
from tests.servers import free_port

ALL = Choice()
FIRST = f"{VISIT.prefix}/a/im0001.dcm"
NOTES = f"{VISIT.prefix}/notes.txt"
SUMS = f"{VISIT.visit}.md5"
Sources = dict[str, bytes]


def run(place: str | Path, folder: Path, choice: Choice = ALL) -> Fetched:
    visit = described(place)
    return fetch(visit, visit.chosen(choice), folder)


def came(folder: Path) -> Sources:
    """All files but the list of MD5s."""
    return {name: content for name, content in files(folder).items() if name != SUMS}


def check(folder: Path, require: Callable[[str], str]) -> str:
    """What md5sum says of the list; all of it must be right."""
    command = [require("md5sum"), "--check", "--strict", SUMS]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return os.fsdecode(done.stdout)


def of_series(sources: Sources, folder: str) -> Sources:
    prefix = f"{VISIT.prefix}/{folder}/"
    return {path: data for path, data in sources.items() if path.startswith(prefix)}


def test_all_files_come_with_a_list_of_their_md5s(
    stored: StorePath, sources: Sources, tmp_path: Path, require: Callable[[str], str]
) -> None:
    plans: list[Plan] = []
    seen: list[tuple[int, int]] = []
    visit, out = described(stored.root), tmp_path / "new" / "out"
    fetched = fetch(
        visit,
        visit.chosen(ALL),
        out,
        planned=plans.append,
        progress=lambda _, done, total: seen.append((done, total)),
    )
    size = sum(map(len, sources.values()))
    assert came(out) == sources
    assert fetched == Fetched(len(sources), 0, size, {}, out / SUMS, False)
    assert [(plan.files, plan.here, plan.room) for plan in plans] == [(len(sources), (), size)]
    assert size <= plans[0].size <= stored.tarball.stat().st_size
    assert seen[-1] == (size, size)
    assert seen == sorted(seen)
    assert check(out, require).count(": OK\n") == len(sources)
    assert (out / SUMS).read_bytes() == b"".join(
        b"%b  %b\n" % (hashlib.md5(data, usedforsecurity=False).hexdigest().encode(), path.encode())
        for path, data in sources.items()
    )


@pytest.mark.parametrize(
    ("choice", "folder"),
    [
        (Choice(frozenset([3])), "a"),
        (Choice(protocol="T1*"), "a"),
        (Choice(modality="pt"), "b"),
        (Choice(frozenset([3, 7]), "rest", "PT"), "b"),
        (Choice(frozenset([3]), "rest"), ""),
    ],
)
def test_a_choice_takes_images_only(
    stored: StorePath, sources: Sources, tmp_path: Path, choice: Choice, folder: str
) -> None:
    run(stored.root, tmp_path / "out", choice)
    assert came(tmp_path / "out") == (of_series(sources, folder) if folder else {})


def test_what_is_there_is_not_asked_for_again(
    stored: StorePath, sources: Sources, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with faulty_server(stored.root) as server:
        run(server.url, out)
        (out / FIRST).unlink()
        server.requests.clear()
        fetched = run(server.url, out)
        sent = [request.sent for request in server.requests if request.path.endswith(TARBALL)]
        assert sent == [len(sources[FIRST])]
        assert (fetched.files, fetched.here) == (1, len(sources) - 1)
        server.requests.clear()
        assert run(server.url, out).files == 0
        assert [each for each in server.requests if each.path.endswith(TARBALL)] == []
    assert came(out) == sources


def test_the_list_keeps_what_is_still_there(
    stored: StorePath, sources: Sources, tmp_path: Path, require: Callable[[str], str]
) -> None:
    out = tmp_path / "out"
    run(stored.root, out, Choice(frozenset([3])))
    (out / FIRST).unlink()
    run(stored.root, out, Choice(frozenset([7])))
    assert check(out, require).count(": OK\n") == len(came(out)) == len(sources) - 2


def _other_size(out: Path, path: Path) -> None:
    path.write_bytes(b"other")


def _other_content(out: Path, path: Path) -> None:
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))


def _folder(out: Path, path: Path) -> None:
    path.unlink()
    path.mkdir()


def _link(out: Path, path: Path) -> None:
    """To the same content, and as long itself."""
    path.rename(out.parent / "elsewhere")
    there = str(out.parent / "elsewhere")
    os.symlink(there.rjust(os.path.getsize(there), "/"), path)


def _dangling_link(out: Path, path: Path) -> None:
    path.unlink()
    path.symlink_to(out.parent / "nowhere")


def _linked_folder(out: Path, path: Path) -> None:
    shutil.rmtree(path.parent)
    (out.parent / "elsewhere").mkdir()
    path.parent.symlink_to(out.parent / "elsewhere")


def _file_for_folder(out: Path, path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.write_text("text")


def _other_list(out: Path, path: Path) -> None:
    (out / SUMS).write_text("d41d8cd98f00b204e9800998ecf8427e  x\nand notes of mine\n")


def _linked_list(out: Path, path: Path) -> None:
    (out / SUMS).rename(out.parent / "elsewhere")
    (out / SUMS).symlink_to(out.parent / "elsewhere")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_other_size, FIRST),
        (_other_content, FIRST),
        (_folder, FIRST),
        (_link, FIRST),
        (_dangling_link, FIRST),
        (_linked_folder, f"{VISIT.prefix}/a"),
        (_file_for_folder, f"{VISIT.prefix}/a"),
        (_other_list, SUMS),
        (_linked_list, SUMS),
    ],
)
def test_what_is_taken_is_told_and_nothing_written(
    stored: StorePath, tmp_path: Path, change: Callable[[Path, Path], None], told: str
) -> None:
    out = tmp_path / "out"
    run(stored.root, out)
    (out / NOTES).unlink()
    change(out, out / FIRST)
    before = files(tmp_path)
    with pytest.raises(OtherContent, match=f"{told} is there with other content"):
        run(stored.root, out)
    assert files(tmp_path) == before


def test_another_content_leaves_no_file(
    stored: StorePath, sources: Sources, tmp_path: Path, require: Callable[[str], str]
) -> None:
    out = tmp_path / "out"
    start = described(stored.root).facts.files[0].offset or 0  # the text is the last one
    with faulty_server(stored.root, [None, None, Garbage(start - 512)]) as server:
        fetched = run(server.url, out)
        assert fetched.failed == {NOTES: OTHER_CONTENT}
        assert came(out) == {path: data for path, data in sources.items() if path != NOTES}
        assert NOTES not in check(out, require)
        assert run(server.url, out).failed == {}
    assert came(out) == sources


@pytest.mark.parametrize(
    "faults", [[Cut(5000), Cut(0), Cut(3000)], [Reset(), Status(503)]], ids=["cut", "reset"]
)
def test_a_broken_connection_is_taken_up_again(
    stored: StorePath, sources: Sources, tmp_path: Path, faults: list[Any], brief: None
) -> None:
    with faulty_server(stored.root, [None, None, *faults]) as server:
        run(server.url, tmp_path / "out")
    assert came(tmp_path / "out") == sources


def test_a_server_without_ranges_is_read_once(
    stored: StorePath, sources: Sources, tmp_path: Path
) -> None:
    with faulty_server(stored.root, [None, None, Whole(), Whole(), Whole()]) as server:
        visit = described(server.url)
        out, chosen = tmp_path / "out", [visit.records[0], visit.records[-1]]
        assert fetch(visit, chosen, out).whole
        whole = [each for each in server.requests if each.path.endswith(TARBALL)]
    assert came(out) == {each.path: sources[each.path] for each in chosen}
    assert [each.range for each in whole][1:] == [""]  # what the first one sends is not read
    assert whole[1].sent <= stored.tarball.stat().st_size


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other at once."""
    monkeypatch.setattr("icf_tools.access.ranges._WAITS", (0.0,) * 5)


def test_what_came_before_the_server_went_stays(
    stored: StorePath, sources: Sources, tmp_path: Path, brief: None
) -> None:
    out = tmp_path / "out"
    with faulty_server(stored.root, [None, None, Cut(9000), *[Reset()] * 9]) as server:
        with pytest.raises(Interrupted):
            run(server.url, out)
        left = came(out)
        assert 0 < len(left) < len(sources)
        assert left.items() <= sources.items()
        server.faults.clear()
        assert run(server.url, out).here == len(left)
    assert came(out) == sources


def test_nobody_answers(tmp_path: Path, brief: None) -> None:
    with pytest.raises(Interrupted, match="the server cannot be reached; try again later"):
        run(f"http://127.0.0.1:{free_port()}", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_tarball_is_refused(stored: StorePath, tmp_path: Path) -> None:
    with stored.tarball.open("ab") as tarball:
        tarball.write(bytes(512))
    with faulty_server(stored.root) as server, pytest.raises(OtherTarball, match="bytes and not"):
        run(server.url, tmp_path / "out")
    stored.tarball.unlink()
    with pytest.raises(NotThere, match=r"P1_dicom\.tar; see that the URL"):
        run(stored.root, tmp_path / "out")
    assert files(tmp_path / "out") == {}


def _first(key: str, value: Any) -> Callable[[Any], object]:
    return lambda images: images[0].update({key: value})


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (_first("path", "../escaped"), "not a path within"),
        (_first("path", "/escaped"), "not a path within"),
        (_first("path", "a/../../escaped"), "not a path within"),
        (_first("path", "a//b"), "not a path within"),
        (_first("path", "a\0b"), "not a path within"),
        (_first("path", f"{VISIT.prefix}/b"), "is a file and a folder"),
        (_first("path", f"{VISIT.prefix}/b/im0001.dcm"), "has a path twice"),
        (_first("offset", 10**9), "does not lie in the tarball"),
        (_first("size", 10**18), "does not lie in the tarball"),
        (_first("offset", -512), "wrong type"),
        (_first("size", "7"), "wrong type"),
        (_first("md5", "../../x"), "wrong type"),
        (lambda images: images[0].pop("md5"), "has no 'md5'"),
        (lambda images: images.insert(0, []), "wrong type"),
    ],
)
def test_hostile_metadata_is_refused_before_anything_is_written(
    stored: StorePath, tmp_path: Path, how: Callable[[Any], object], why: str
) -> None:
    change(stored.dicoms_json, how)
    with faulty_server(stored.root) as server:
        for place in (stored.root, server.url):
            with pytest.raises(BadFacts, match=why):
                run(place, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize("name", ["tarball_json", "dicoms_json"])
@pytest.mark.parametrize("text", [b"<html>log in</html>", b"", b"\xff", b"7", b"[" * 9999])
def test_a_page_of_something_else_is_no_metadata(
    stored: StorePath, tmp_path: Path, name: str, text: bytes
) -> None:
    getattr(stored, name).write_bytes(text)
    with pytest.raises(Damaged, match="; tell who runs the store") as caught:
        run(stored.root, tmp_path / "out")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "path", ["x" * 300, "a/.b.part", SUMS, f"{SUMS}/x", ".ssh/authorized_keys", ".profile"]
)
def test_a_name_that_cannot_be_is_told_and_the_others_come(
    stored: StorePath, sources: Sources, tmp_path: Path, path: str
) -> None:
    change(stored.dicoms_json, _first("path", path))
    fetched = run(stored.root, tmp_path / "out")
    assert fetched.failed == {path: NO_NAME}
    assert came(tmp_path / "out") == {name: data for name, data in sources.items() if name != FIRST}


def test_names_of_all_kinds_stand_in_the_list(
    stored: StorePath, tmp_path: Path, require: Callable[[str], str]
) -> None:
    names = ["a\\b\\\\c", " blank ", "\u5c71", "*star", "-dash", "byte\udcff"]

    def rename(images: Any) -> None:
        for image, name in zip(images, names, strict=False):
            image["path"] = name

    change(stored.dicoms_json, rename)
    for choice in (ALL, Choice(frozenset([7]))):  # the list is read back the second time
        run(stored.root, tmp_path / "out", choice)
        assert check(tmp_path / "out", require).count(": OK\n") == 13
    assert {os.fsencode(name) for name in names} <= set(os.listdir(os.fsencode(tmp_path / "out")))


def test_metadata_of_the_first_tools_tells_no_places(stored: StorePath, tmp_path: Path) -> None:
    change(stored.dicoms_json, lambda images: [image.pop("offset") for image in images])
    with pytest.raises(NoPlaces, match="datalad clone and datalad get"):
        run(stored.root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_at_once_do_not_disturb_each_other(
    stored: StorePath, sources: Sources, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with locked_folder(out), pytest.raises(FolderLocked):
        run(stored.root, out)
    assert files(out) == {}
    run(stored.root, out)
    assert came(out) == sources


def test_too_little_room_is_seen_before(
    stored: StorePath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=5000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(NoRoom, match="bytes are needed, 5000 are free"):
        run(stored.root, tmp_path / "out")
    assert files(tmp_path / "out") == {}


def test_no_room_in_the_midst_ends_it(
    stored: StorePath, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    @contextmanager
    def full(path: Path, **how: Any) -> Iterator[Any]:
        written.append(path)
        if len(written) > 3:
            raise NoRoom(path, os.strerror(errno.ENOSPC))
        with new_file(path, **how) as out:
            yield out

    monkeypatch.setattr(module, "new_file", full)
    with pytest.raises(NoRoom):
        run(stored.root, tmp_path / "out")
    monkeypatch.undo()
    assert len(came(tmp_path / "out")) == 3
    assert run(stored.root, tmp_path / "out").here == 3
    assert came(tmp_path / "out") == sources


def test_a_killed_one_is_completed(stored: StorePath, sources: Sources, tmp_path: Path) -> None:
    out, script = tmp_path / "out", "import sys; from icf_tools.cli.app import main; main()"
    command = [sys.executable, "-c", script, "fetch"]
    with faulty_server(stored.root, [None, None, Stall(9000)]) as server:
        with subprocess.Popen([*command, server.url, "study", "P1", "-o", out]) as process:
            deadline = time.monotonic() + 50
            while not list(out.rglob("*.part")):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        left = {path: data for path, data in came(out).items() if not path.endswith(".part")}
        assert left.items() <= sources.items()
        server.requests.clear()
        assert run(server.url, out).here == len(left)
    assert came(out) == sources
