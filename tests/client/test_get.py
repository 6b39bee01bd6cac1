"""icf get: whole series in one stream, and git-annex agrees with all of it."""

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from tests import faults
from tests.client.archive import Archive, served_archive
from tests.dataset.clients import Client, Clone, Done, md5
from tests.faults import Fault

pytestmark = pytest.mark.annex

LARGE = "study_visit/raw/large.bin"
AWKWARD = {
    "odd/with blank + ä.dcm": b"one",
    "odd/-f": b"two",
    "odd/100%.dcm": b"three",
    "odd/empty": b"",
    "odd/[a]*?.dcm": b"four",
    "odd/twice.dcm": b"same",
    "odd/twice 2.dcm": b"same",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    files = AWKWARD | {"raw/large.bin": random.Random(2).randbytes(6 << 20)}
    with served_archive(tmp_path_factory.mktemp("served"), files) as archive:
        yield archive


def get(clone: Clone, *arguments: object, below: str = "", code: int = 0) -> Done:
    done = clone.client.attempt("icf", "get", *arguments, cwd=clone.path / below)
    assert done.returncode == code, done.stdout + done.stderr
    return done


@contextmanager
def getting(clone: Clone, *arguments: str, who: Sequence[str] = ()) -> Iterator[Popen[str]]:
    """While it runs; `who` is put in front of the command."""
    command = [*who, str(clone.client.bin / "icf"), "get", *arguments]
    environment = clone.client.environment
    with Popen(command, cwd=clone.path, env=environment, stderr=PIPE, text=True) as process:
        yield process


def wait_for(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 50
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def parts(clone: Clone) -> list[Path]:
    """What is not complete."""
    return list((clone.path / ".git/annex/objects").rglob("icf-get.part"))


def begun(clone: Clone) -> Iterator[int]:
    """How many bytes there are of what is not complete."""
    for part in parts(clone):
        with suppress(FileNotFoundError):  # it is complete now
            yield part.stat().st_size


@pytest.mark.oldest
def test_all_images_come_in_one_stream(archive: Archive, clone: Clone) -> None:
    done = get(clone, "--json")
    told = json.loads(done.stdout)
    count = len(archive.deposit.expected)
    assert (told["files"], told["here"], told["got"], told["failed"]) == (count, 0, count, {})
    assert clone.content() == archive.deposit.expected
    assert clone.here == set(archive.deposit.expected), "without the tarball"
    assert len(archive.asked) == 1
    assert archive.sent == told["bytes"] <= archive.deposit.store.tarball.stat().st_size
    assert "images to get, 6." in done.stderr
    assert all(report["success"] for report in clone.records("fsck", "study_visit"))
    assert clone.run("git", "status", "--porcelain") == ""
    [where] = clone.records("whereis", LARGE)
    assert any(place["here"] for place in where["whereis"])
    for link in clone.here:
        found = (clone.path / link).resolve()
        assert found.stat().st_mode & 0o222 == 0
        assert found.parent.stat().st_mode & 0o222 == 0


def test_again_there_is_nothing_to_do(archive: Archive, clone: Clone) -> None:
    get(clone)
    archive.server.requests.clear()
    done = get(clone)
    count = len(archive.deposit.expected)
    assert done.stdout == f"got 0 files; {count} were here\n"
    assert archive.asked == []


def test_by_path_from_a_folder_below(archive: Archive, clone: Clone) -> None:
    get(clone, "with blank + ä.dcm", "./[a]*?.dcm", "--", "-f", below="study_visit/odd")
    assert {Path(path).name for path in clone.here} == {"with blank + ä.dcm", "[a]*?.dcm", "-f"}
    get(clone, "../series_1", below="study_visit/odd")
    assert len(clone.here) == 6


def test_by_what_is_known_of_images(clone: Clone) -> None:
    get(clone, "--series", "1")
    assert {path.split("/")[1] for path in clone.here} == {"series_1"}
    done = get(clone, "--series", "77", code=3)
    assert "no image of" in done.stderr
    assert "the series there have the numbers 1, 2\n" in done.stderr
    get(clone, "--modality", "mr", "--series", "1", "--series", "2")
    assert {path.split("/")[1] for path in clone.here} == {"series_1", "series_2"}
    get(clone, "--protocol", "nothing like it", code=3)


def test_the_tarball_comes_where_it_is_named(archive: Archive, clone: Clone) -> None:
    get(clone, "../../icf/visit_dicom.tar", below="study_visit/odd")
    assert clone.here == {archive.deposit.tarball}
    archive.server.requests.clear()
    get(clone)
    assert archive.asked == [], "images are read from the tarball in the clone"
    clone.fsck()


@pytest.mark.parametrize(
    "fault", [faults.Cut(after=3_000_000), faults.Status(502), faults.Short()], ids=repr
)
def test_what_passes_delays(archive: Archive, clone: Clone, fault: Fault) -> None:
    archive.server.faults = [fault]
    get(clone)
    assert clone.content() == archive.deposit.expected
    assert len(archive.asked) == 2


def test_a_server_of_whole_files(archive: Archive, clone: Clone) -> None:
    archive.server.faults = [faults.Whole()] * 5
    get(clone)
    assert clone.content() == archive.deposit.expected


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (faults.Status(403), 8, "may not be read; see"),
        (faults.Status(404), 3, "there is no"),
        (faults.WrongRange(total=99), 5, "has 99 bytes and not"),
        (faults.WrongRange(start=0), 9, "has other bytes than those asked for"),
    ],
    ids=repr,
)
def test_what_does_not_is_one_sentence(
    archive: Archive, clone: Clone, fault: Fault, code: int, said: str
) -> None:
    archive.server.faults = [fault] * 9
    done = get(clone, code=code)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("icf: ")
    assert said in last
    assert clone.here == set()


def test_a_changed_image_is_told_and_the_others_come(archive: Archive, clone: Clone) -> None:
    tarball = archive.deposit.store.tarball
    data = bytearray(tarball.read_bytes())
    place = data.index(b"three")
    data[place : place + 5] = b"THREE"
    tarball.write_bytes(data)
    done = get(clone, "--json", code=10)
    told = json.loads(done.stdout)
    assert list(told["failed"]) == ["study_visit/odd/100%.dcm"]
    assert "study_visit/odd/100%.dcm: what came from http" in done.stderr
    assert clone.here == set(archive.deposit.expected) - {"study_visit/odd/100%.dcm"}
    assert not parts(clone)


def test_killed_in_the_middle(archive: Archive, clone: Clone) -> None:
    """What came stays, git-annex learns of it, and a large image goes on where it stopped."""
    archive.server.faults = [faults.Stall(after=5_000_000)]
    with getting(clone) as process:
        wait_for(lambda: any(size > 2_000_000 for size in begun(clone)))
        done = clone.client.attempt("icf", "get", cwd=clone.path)
        assert (done.returncode, "another icf get works" in done.stderr) == (7, True)
        process.send_signal(signal.SIGKILL)
    archive.server.requests.clear()
    get(clone)
    assert archive.sent < 5 << 20
    assert clone.content() == archive.deposit.expected
    assert all(report["success"] for report in clone.records("fsck", "study_visit"))
    for report in clone.records("whereis", "study_visit"):
        assert any(place["here"] for place in report["whereis"]), report["file"]


def test_stopped_in_the_middle(archive: Archive, clone: Clone) -> None:
    archive.server.faults = [faults.Stall(after=5_000_000)]
    with getting(clone) as process:
        wait_for(lambda: clone.here)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=50)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "icf: stopped"
    for path in clone.here:
        [where] = clone.records("whereis", path)
        assert any(place["here"] for place in where["whereis"])


def test_a_damaged_part_is_not_kept(archive: Archive, clone: Clone) -> None:
    part = clone.path / os.readlink(clone.path / LARGE).removeprefix("../../")
    part.parent.mkdir(parents=True)
    part.with_name("icf-get.part").write_bytes(bytes(3 << 20))
    get(clone, LARGE)
    assert len(archive.asked) == 2, "what was left, then all of it"
    assert md5(clone.path / LARGE) == archive.deposit.expected[LARGE]


def test_a_damaged_tarball_in_the_clone(archive: Archive, clone: Clone) -> None:
    """What is wrong in it comes from the server."""
    get(clone, archive.deposit.tarball)
    tarball = (clone.path / archive.deposit.tarball).resolve()
    data = tarball.read_bytes()
    tarball.chmod(0o644)
    tarball.write_bytes(data.replace(b"three", b"THREE"))
    archive.server.requests.clear()
    get(clone)
    assert len(archive.asked) == 1
    assert archive.sent == len(b"three")
    assert clone.content() == archive.deposit.expected


def test_one_tarball_that_nobody_has_does_not_stop_the_others(
    archive: Archive, clone: Clone
) -> None:
    """Odd lines of its logs neither."""
    key = clone.annex("lookupkey", "study_visit/odd/100%.dcm").strip()
    gone = f"dl+archive:MD5E-s9999--{'0' * 32}.tar#path=x&size=5&atype=tar&offset=512"
    old = clone.annex("whereis", "--json", "--key", key)
    [url] = [url for place in json.loads(old)["whereis"] for url in place["urls"] if "#path" in url]
    clone.tell(key, ".log.web", f"\nodd\n2000000000s 0 :{url}\n2000000000s 1 :{gone}\n")
    clone.tell(key, ".log.met", "2000000000s seriesnumber +!zz +77\n \n")
    done = get(clone, "--json", code=10)
    assert list(json.loads(done.stdout)["failed"]) == ["study_visit/odd/100%.dcm"]
    assert "the dataset has no URL of tarball" in done.stderr
    assert clone.here == set(archive.deposit.expected) - {"study_visit/odd/100%.dcm"}
    assert len(done.stderr.splitlines()) == 3


def test_what_one_tarball_does_not_have_comes_from_another(archive: Archive, clone: Clone) -> None:
    path = "study_visit/odd/100%.dcm"
    key = clone.annex("lookupkey", path).strip()
    [url] = [url for url in clone.urls(path) if "#path" in url]
    gone = f"dl+archive:MD5E-s9999--{'0' * 32}.tar#path=x&size=5&atype=tar&offset=512"
    wrong = url.replace("offset=", "offset=1")
    clone.tell(key, ".log.web", f"1s 1 :{gone}\n2s 1 :{wrong}\n2000000000s 1 :{url}\n")
    done = get(clone, "--json")
    told = json.loads(done.stdout)
    assert (told["got"], told["failed"]) == (len(archive.deposit.expected), {})
    assert clone.content() == archive.deposit.expected


def test_two_keys_at_one_place(archive: Archive, clone: Clone) -> None:
    paths = ["study_visit/odd/100%.dcm", "study_visit/odd/-f"]
    other = clone.annex("lookupkey", "--", paths[1]).strip()
    [url] = [url for url in clone.urls(paths[0]) if "#path" in url]
    clone.tell(other, ".log.web", f"2000000000s 1 :{url}\n")
    get(clone, "--json", "--", *paths, code=10)
    assert paths[0] in clone.here


def test_a_private_clone_is_not_told_of(clone: Clone) -> None:
    clone.run("git", "config", "annex.private", "true")
    before = clone.run("git", "rev-parse", "git-annex")
    get(clone, "study_visit/odd/100%.dcm")
    assert clone.here == {"study_visit/odd/100%.dcm"}
    assert clone.run("git", "rev-parse", "git-annex") == before


def test_keys_of_another_backend_are_left_to_git_annex(archive: Archive, clone: Clone) -> None:
    path = "study_visit/odd/100%.dcm"
    get(clone, path)
    clone.annex("migrate", "--backend", "SHA256E", path)
    clone.annex("drop", "--force", path)
    done = clone.client.attempt("icf", "get", path, cwd=clone.path)
    assert "tell who runs the store" not in done.stderr


def test_what_stopped_runs_left_is_removed(archive: Archive, clone: Clone) -> None:
    clone.run("git", "branch", "icf-get-log/git-annex", "git-annex")
    clone.annex("get", LARGE)
    left = (clone.path / LARGE).resolve().with_name("icf-get.part")
    left.parent.chmod(0o755)
    left.write_bytes(b"of a run that was stopped")
    left.parent.chmod(0o555)
    get(clone)
    assert not left.exists()
    assert left.parent.stat().st_mode & 0o222 == 0
    assert clone.run("git", "for-each-ref", "refs/heads/icf-get-log") == ""


def test_unlocked_files(archive: Archive, clone: Clone) -> None:
    clone.annex("adjust", "--unlock")
    get(clone, "study_visit/odd")
    for path in archive.deposit.expected:
        if "/odd/" in path:
            assert md5(clone.path / path) == archive.deposit.expected[path]


def test_a_clone_for_a_group(clone: Clone, archive: Archive) -> None:
    """git-annex gives other permissions there, so it gets them."""
    clone.run("git", "config", "core.sharedRepository", "group")
    get(clone, "study_visit/odd")
    assert all(report["success"] for report in clone.records("fsck", "study_visit/odd"))
    assert len(clone.here) == len(AWKWARD)


def test_a_clone_made_before_the_program_was_installed(
    archive: Archive, tmp_path: Path, pristine: Clone
) -> None:
    before = Client.new(tmp_path / "user")
    clone = before.clone(archive.deposit.clone_url, tmp_path / "clone")
    assert "icf" not in clone.run("git", "remote")
    now = Clone(pristine.client, clone.path)
    done = get(now, "study_visit/odd/twice.dcm")
    assert "git-annex-remote-icf from now on" in done.stderr
    archive.server.requests.clear()
    now.annex("get", "--from", "icf", "study_visit/series_1/im001.dcm")
    assert "" not in archive.asked
    assert "from now on" not in get(now, "study_visit/odd/empty").stderr


def test_visits_in_a_superdataset(archive: Archive, clone: Clone, tmp_path: Path) -> None:
    client, top = clone.client, tmp_path / "top"
    top.mkdir()

    def run(*command: object, code: int = 0) -> Done:
        done = client.attempt(*command, cwd=top)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    run("git", "init")
    run("git", "annex", "init")
    visits = [Clone(client, top / name) for name in ("A", "B")]
    for visit in visits:
        shutil.copytree(clone.path, visit.path, symlinks=True)
        run("git", "submodule", "add", visit.path, visit.path.name)
    run("git", "commit", "-m", "visits")
    told = json.loads(
        run("icf", "get", "A/study_visit/odd", "B/study_visit/series_1", "--json").stdout
    )
    assert (told["files"], told["got"], told["failed"]) == (len(AWKWARD) + 3, len(AWKWARD) + 3, {})
    assert [len(visit.here) for visit in visits] == [len(AWKWARD), 3]
    assert run("icf", "get").stdout == "got 0 files; 0 were here\n", "as datalad get does"
    done = client.attempt(
        "icf", "get", ".", "../../B/study_visit/series_2", cwd=top / "A/study_visit"
    )
    assert (done.returncode, [len(visit.here) for visit in visits]) == (
        0,
        [len(archive.deposit.expected), 6],
    )

    key = visits[1].annex("lookupkey", "study_visit/odd/-f").strip()
    gone = f"dl+archive:MD5E-s9999--{'0' * 32}.tar#path=x&size=3&atype=tar&offset=512"
    [url] = [url for url in visits[1].urls("study_visit/odd/-f") if "#path" in url]
    visits[1].tell(key, ".log.web", f"2000000000s 0 :{url}\n2000000000s 1 :{gone}\n")
    told = json.loads(run("icf", "get", "B/study_visit/odd", "A", "--json", code=10).stdout)
    assert list(told["failed"]) == ["B/study_visit/odd/-f"]
    assert told["files"] == told["here"] + told["got"] + 1

    shutil.move(visits[1].path, tmp_path / "away")
    visits[1].path.mkdir()
    done = run("icf", "get", "B", code=3)
    assert done.stderr == (
        "icf: the subdataset B is not in this clone; get it with datalad get --no-data B\n"
    )
    assert "the dataset has no B/x" in run("icf", "get", "B/x", code=3).stderr


def test_no_clone_no_such_path_and_no_room(clone: Clone, tmp_path: Path) -> None:
    done = clone.client.attempt("icf", "get", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)
    assert "is in no clone of a dataset" in done.stderr
    done = get(clone, "no/such", code=3)
    assert done.stderr == "icf: the dataset has no no/such; git ls-files lists what it has\n"
    clone.run("git", "config", "annex.diskreserve", "5000 terabytes")
    done = get(clone, "study_visit/odd/100%.dcm", code=1)
    assert "5 bytes, and 5000000000000000 to spare by annex.diskreserve, are needed" in done.stderr
    assert clone.here == set()


def test_what_only_the_branch_of_the_remote_says(clone: Clone, archive: Archive) -> None:
    """git-annex joins the branches when it runs next; nobody has run it since `git fetch`."""
    tip = clone.run("git", "rev-parse", "git-annex").strip()
    tree = clone.run("git", "rev-parse", "git-annex:uuid.log").strip()
    empty = clone.client.attempt(
        "git", "mktree", cwd=clone.path, text=f"100644 blob {tree}\tuuid.log\n"
    )
    only = clone.run("git", "commit-tree", "-m", "empty", empty.stdout.strip()).strip()
    clone.run("git", "update-ref", "refs/heads/git-annex", only)
    clone.run("git", "update-ref", "refs/remotes/origin/git-annex", tip)
    get(clone, "study_visit/odd/100%.dcm")
    assert clone.here == {"study_visit/odd/100%.dcm"}
