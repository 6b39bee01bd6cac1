"""Files appear whole or not at all; a visit has one writer."""

import errno
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from icf_tools.model.visit import StorePath, Visit
from icf_tools.store.files import AlreadyThere, VisitLocked, locked, md5_of, new_file
from icf_tools.store.lane import Lane


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with new_file(path) as out:
        out.write(b"content")
        assert not path.exists()
    assert path.read_bytes() == b"content"
    assert os.listdir(tmp_path) == ["x"]
    assert md5_of(path) == "9a0364b9e99bb480dd25e1f0284c8555"


def test_file_and_folder_are_on_disk_before_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = []
    fsync = os.fsync

    def note(handle: int) -> None:
        flushed.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", note)
    with new_file(tmp_path / "x") as out:
        out.write(b"content")
    assert flushed == [".x.part", tmp_path.name]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), new_file(tmp_path / "x") as out:
        out.write(b"half")
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_a_file_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("first")
    with pytest.raises(AlreadyThere), new_file(path):
        pass
    path.unlink()
    with pytest.raises(AlreadyThere), new_file(path) as out:
        out.write(b"second")
        path.write_text("meanwhile")
    assert path.read_text() == "meanwhile"
    assert os.listdir(tmp_path) == ["x"]


def test_the_umask_holds(tmp_path: Path) -> None:
    for mask, mode in ((0o077, 0o600), (0o022, 0o644)):
        before = os.umask(mask)
        try:
            with new_file(tmp_path / str(mask)) as out:
                out.write(b"x")
        finally:
            os.umask(before)
        assert (tmp_path / str(mask)).stat().st_mode & 0o777 == mode


def test_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on CIFS and exFAT."""

    def no_link(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no links here")

    monkeypatch.setattr(os, "link", no_link)
    path = tmp_path / "x"
    with new_file(path) as out:
        out.write(b"content")
    assert path.read_bytes() == b"content"
    path.unlink()
    with pytest.raises(AlreadyThere), new_file(path) as out:
        path.write_text("meanwhile")
    assert path.read_text() == "meanwhile"
    assert os.listdir(tmp_path) == ["x"]


def hold(root: Path, held: "multiprocessing.synchronize.Event") -> None:
    with locked(StorePath(root, Visit("study", "visit"))):
        held.set()
        signal_forever = multiprocessing.Event()
        signal_forever.wait()


@pytest.fixture
def holder(store: StorePath) -> Iterator[multiprocessing.Process]:
    context = multiprocessing.get_context("fork")
    held = context.Event()
    process = context.Process(target=hold, args=(store.root, held))
    process.start()
    assert held.wait(10)
    yield process  # type: ignore[misc]
    process.kill()
    process.join()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_one_works_and_the_other_says_so(store: StorePath, holder: multiprocessing.Process) -> None:
    with pytest.raises(VisitLocked, match="study/visit is in use"), locked(store):
        pass
    with locked(StorePath(store.root, Visit("study", "other"))):
        pass
    holder.kill()
    holder.join()
    with locked(store):
        pass


def test_a_holder_may_take_it_again_and_clears_what_was_left(store: StorePath) -> None:
    store.study.mkdir(parents=True)
    left = store.study / ".visit_dicom.tar.part"
    others = store.study / ".visit_2_dicom.tar.part"
    for path in (left, others):
        path.write_text("half")
    with locked(store):
        assert not left.exists()
        assert others.exists()
        left.write_text("mine")
        with locked(store):
            assert left.exists()


def test_a_lane_keeps_the_order_and_passes_errors_on() -> None:
    done: list[int] = []
    with Lane() as lane:
        for number in range(100):
            lane.put(done.append, number)
    assert done == list(range(100))

    def fail() -> None:
        raise ValueError("in the lane")

    with pytest.raises(ValueError, match="in the lane"), Lane() as lane:
        lane.put(fail)
    with pytest.raises(ZeroDivisionError), Lane() as lane:
        lane.put(done.append, 1)
        raise ZeroDivisionError
