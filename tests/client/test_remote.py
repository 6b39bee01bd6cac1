"""git-annex with the program git-annex-remote-icf, on servers that do well and badly."""

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import dicoms, faults
from tests.client.archive import TARBALL, Archive, served_archive
from tests.conftest import BIN, missing
from tests.dataset.clients import ICF_REMOTE, Client, Clone, deposit, md5
from tests.faults import Fault
from tests.servers import shell_server

pytestmark = pytest.mark.annex

COUNT, SIZE = 24, 60_000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    images = random.Random(1)
    files = {f"raw/im{number:03}.bin": images.randbytes(SIZE) for number in range(COUNT)}
    files |= {"raw/ä b.bin": b"", "raw/twice.bin": b"same", "raw/twice 2.bin": b"same"}
    with served_archive(tmp_path_factory.mktemp("served"), files) as archive:
        yield archive


def image(number: int) -> str:
    return f"study_visit/raw/im{number:03}.bin"


@pytest.mark.oldest
def test_one_image_comes_by_its_range(archive: Archive, clone: Clone) -> None:
    clone.annex("get", image(7))
    assert md5(clone.path / image(7)) == archive.deposit.expected[image(7)]
    assert clone.here == {image(7)}
    assert len(archive.asked) == 1
    assert archive.sent <= SIZE * 1.05 + (64 << 10)


@pytest.mark.oldest
def test_all_come_by_few_requests(archive: Archive, clone: Clone) -> None:
    clone.get("study_visit")
    assert clone.content() == archive.deposit.expected
    assert clone.here == set(archive.deposit.expected), "without the tarball"
    assert len(archive.asked) <= 4
    assert archive.sent <= archive.deposit.store.tarball.stat().st_size
    clone.annex("fsck")


def test_jobs_share_one_process(archive: Archive, clone: Clone) -> None:
    clone.annex("get", "-J4", "study_visit")
    assert clone.content() == archive.deposit.expected
    assert len(archive.asked) <= 12
    assert archive.sent <= 1.5 * archive.deposit.store.tarball.stat().st_size


def test_git_annex_tests_it(clone: Clone) -> None:
    clone.annex("get", image(0))
    said = clone.attempt("git", "annex", "testremote", "icf", f"--test-readonly={image(0)}")
    assert said.returncode == 0, said.stdout
    assert "All " in said.stdout


def test_where_it_is_can_be_read(archive: Archive, clone: Clone) -> None:
    said = clone.annex("whereis", image(3))
    assert f"icf: {archive.server.url}{TARBALL} bytes " in said
    assert "untrusted locations may also have copies" in said


PASSING = [
    faults.Cut(after=20_000),
    faults.Cut(after=0),
    faults.Status(503),
    faults.Reset(),
    faults.Short(),
]


@pytest.mark.parametrize("fault", PASSING, ids=repr)
def test_what_passes_delays(archive: Archive, clone: Clone, fault: Fault) -> None:
    archive.server.faults = [fault]
    clone.annex("get", "--from", "icf", image(5))
    assert md5(clone.path / image(5)) == archive.deposit.expected[image(5)]


DECLINED: list[tuple[Fault, str]] = [
    (faults.Whole(), "comes as a whole where some bytes were asked for"),
    (faults.WrongRange(start=0), "has other bytes than those asked for"),
    (faults.WrongRange(total=12), "has 12 bytes and not"),
    (faults.Encoded(), "has a Content-Encoding"),
    (faults.Garbage(after=0), "has no member of"),
    (faults.Garbage(after=512), "is not what the dataset says"),
    (faults.Garbage(after=SIZE), "is not what the dataset says"),
    (faults.Status(403), "may not be read"),
    (faults.Status(404), "there is no"),
    (faults.Status(416), "ends before byte"),
]


@pytest.mark.parametrize(("fault", "said"), DECLINED, ids=repr)
def test_what_does_not_is_declined_and_archivist_serves(
    archive: Archive, clone: Clone, fault: Fault, said: str
) -> None:
    archive.server.faults = [fault]
    got = clone.attempt("git", "annex", "get", image(5))
    assert said in got.stdout + got.stderr
    assert got.returncode == 0, got.stdout + got.stderr
    assert md5(clone.path / image(5)) == archive.deposit.expected[image(5)]
    assert archive.asked[-1] == "", "archivist gets the tarball as a whole"


def test_another_tarball_of_the_same_size(archive: Archive, clone: Clone) -> None:
    tarball = archive.deposit.store.tarball
    data = tarball.read_bytes()
    place = data.index(b"same")
    tarball.write_bytes(data[:place] + b"SAME" + data[place + 4 :])
    clone.annex("get", "--from", "icf", "study_visit/raw/twice.bin")  # it is there once more
    clone.annex("drop", "--force", "study_visit/raw/twice.bin")
    tarball.write_bytes(data.replace(b"same", b"SAME"))
    got = clone.attempt("git", "annex", "get", "--from", "icf", "study_visit/raw/twice.bin")
    assert got.returncode == 1
    assert "is not what the dataset says; update the clone with datalad update" in (
        got.stdout + got.stderr
    )
    assert clone.here == set()
    clone.annex("get", "--from", "icf", image(1))
    assert md5(clone.path / image(1)) == archive.deposit.expected[image(1)]


def test_a_tarball_that_lost_its_end(archive: Archive, clone: Clone) -> None:
    tarball = archive.deposit.store.tarball
    size = tarball.stat().st_size
    tarball.write_bytes(tarball.read_bytes()[: size // 2])
    got = clone.attempt("git", "annex", "get", "--from", "icf", image(0))
    assert got.returncode == 1
    assert f"has {size // 2} bytes and not {size}" in got.stdout + got.stderr
    assert clone.here == set()


def test_fsck_looks_at_the_member_and_not_only_at_the_size(archive: Archive, clone: Clone) -> None:
    def bad() -> set[str]:
        done = clone.attempt("git", "annex", "fsck", "--fast", "--from", "icf", "study_visit")
        lines = done.stdout.splitlines()
        return {line.split()[1] for line in lines if line.startswith("fsck ") and "ok" not in line}

    tarball = archive.deposit.store.tarball
    assert bad() == set()
    content = tarball.read_bytes()
    tarball.write_bytes(bytes(len(content)))
    assert len(bad()) > COUNT
    tarball.write_bytes(content)
    clone.annex("fsck", "--fast", "--from", "icf", "study_visit")


def test_a_server_that_is_down_is_no_proof_of_absence(archive: Archive, clone: Clone) -> None:
    archive.server.faults = [faults.Status(503)] * 99
    done = clone.attempt("git", "annex", "fsck", "--fast", "--from", "icf", image(2))
    assert "the server answers 503" in done.stdout + done.stderr
    archive.server.faults.clear()
    clone.annex("get", "--from", "icf", image(2))


def test_it_never_lets_the_last_copy_go(archive: Archive, clone: Clone) -> None:
    """Neither of an image, nor of the tarball, of which archivist asks all remotes."""
    clone.get(image(4), archive.deposit.tarball)
    archive.deposit.store.tarball.unlink()
    for path in (archive.deposit.tarball, image(4)):
        clone.attempt("git", "annex", "drop", path)
    assert archive.deposit.tarball in clone.here


def test_the_tarball_in_the_clone_is_read_first(archive: Archive, clone: Clone) -> None:
    clone.get(archive.deposit.tarball)
    archive.server.requests.clear()
    clone.annex("get", "--from", "icf", image(6))
    assert archive.asked == []


def test_a_url_of_no_use_does_not_stand_in_the_way(archive: Archive, clone: Clone) -> None:
    key = clone.annex("lookupkey", archive.deposit.tarball).strip()
    fifo = clone.path.parent / "fifo"
    os.mkfifo(fifo)
    good = clone.urls(archive.deposit.tarball)[0]
    bad = ("ftp://host/x.tar", "http://[bad/x.tar", "ssh://a:99999/x.tar", fifo.as_uri())
    clone.tell(key, ".log.web", "".join(f"2000000000s 1 :{url}\n" for url in (*bad, good)))
    clone.annex("get", "--from", "icf", image(2))
    assert md5(clone.path / image(2)) == archive.deposit.expected[image(2)]


def test_what_came_of_an_image_is_not_asked_for_again(archive: Archive, clone: Clone) -> None:
    key = clone.annex("lookupkey", image(9)).strip()
    part = clone.path / ".git/annex/tmp" / key
    part.parent.mkdir(exist_ok=True)
    whole = (archive.deposit.source / "raw/im009.bin").read_bytes()
    part.write_bytes(whole[:50_000])
    clone.annex("get", "--from", "icf", image(9))
    assert archive.sent == SIZE - 50_000
    assert md5(clone.path / image(9)) == archive.deposit.expected[image(9)]


def test_a_wrong_beginning_is_not_kept(archive: Archive, clone: Clone) -> None:
    key = clone.annex("lookupkey", image(9)).strip()
    part = clone.path / ".git/annex/tmp" / key
    part.parent.mkdir(exist_ok=True)
    part.write_bytes(b"wrong" * 10_000)
    clone.attempt("git", "annex", "get", "--from", "icf", image(9))
    clone.annex("get", "--from", "icf", image(9))
    assert md5(clone.path / image(9)) == archive.deposit.expected[image(9)]


@pytest.mark.slow
def test_an_old_git_annex(archive: Archive, tmp_path: Path) -> None:
    """The one of Debian 12."""
    old = shutil.which("git-annex", path="/usr/bin")
    if old is None:
        missing("git-annex-old")
    client = Client.new(tmp_path / "user")
    for name in ("git-annex", "git-annex-shell"):
        client.bin.joinpath(name).unlink()
        client.bin.joinpath(name).symlink_to(old)
    client.install(ICF_REMOTE)
    said = client.run("git-annex", "version", cwd=client.home)
    assert "git-annex version: 10.2023" in said
    clone = client.clone(archive.deposit.clone_url, tmp_path / "clone")
    archive.server.requests.clear()
    clone.annex("get", "-J2", "study_visit/raw")
    assert archive.asked
    assert "" not in archive.asked
    clone.annex("fsck", "--fast", "--from", "icf", "study_visit/raw")
    clone.annex("testremote", "icf", f"--test-readonly={image(0)}")


@pytest.mark.slow
def test_a_tarball_behind_ssh(tmp_path: Path, require: Callable[[str], str]) -> None:
    require("ssh-keygen")
    source = dicoms.visit(tmp_path / "incoming")
    with shell_server(tmp_path / "sshd", require("sshd")) as server:
        client = Client.new(tmp_path / "user")
        client.install(ICF_REMOTE)
        server.introduce(client)
        server.let_in(client)
        made = deposit(tmp_path / "store", source, f"{server.url}{tmp_path}/store")
        clone = client.clone(made.clone_url, tmp_path / "clone")
        clone.annex("get", "-J2", "--from", "icf", "study_visit")
        assert clone.content() == made.expected
        assert made.tarball not in clone.here
        clone.annex("fsck", "--fast", "--from", "icf", "study_visit")


def test_a_tarball_in_a_folder(tmp_path: Path) -> None:
    source = dicoms.visit(tmp_path / "incoming")
    made = deposit(tmp_path / "a store", source, f"file://{tmp_path}/a%20store")
    client = Client.new(tmp_path / "user")
    client.install(ICF_REMOTE)
    url = made.clone_url.replace("a%20store", "a%2520store")
    clone = client.clone(url, tmp_path / "clone")
    clone.annex("get", "--from", "icf", "study_visit")
    assert clone.content() == made.expected
    assert made.tarball not in clone.here


def test_it_ends_with_git_annex(tmp_path: Path) -> None:
    done = subprocess.run([BIN / ICF_REMOTE], input=b"", capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"VERSION 1\n", b"")
