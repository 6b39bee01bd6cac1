import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import pytest

from icf_tools.access.parts import bytes_of, read_parts, spans
from icf_tools.access.ranges import Ranges, Window
from icf_tools.access.source import Interrupted, NoRange, OtherTarball

MB = 1 << 20


@dataclass
class Memory:
    """Bytes in the place of a file, which note what was asked for."""

    data: bytes
    url: str = "test://tarball"
    total: int | None = None
    cuts: list[int] = field(default_factory=list)  #: after so many bytes of each request
    is_whole: bool = False
    asked: list[tuple[int, int]] = field(default_factory=list)
    sent: int = 0

    def open(self, start: int, end: int | None) -> "MemoryBytes":
        if self.is_whole and (start, end) != (0, None):
            raise NoRange(self.url)
        last = len(self.data) if end is None else end
        self.asked.append((start, last))
        return MemoryBytes(self, start, last, self.cuts.pop(0) if self.cuts else None)


@dataclass
class MemoryBytes:
    memory: Memory
    position: int
    end: int
    cut: int | None

    @property
    def total(self) -> int | None:
        return len(self.memory.data) if self.memory.total is None else self.memory.total

    def read(self, most: int) -> bytes:
        if self.cut is not None:
            most = min(most, self.cut)
            self.cut -= most
            if not most:
                raise Interrupted(self.memory.url, "cut")
        data = self.memory.data[self.position : min(self.end, self.position + most)]
        self.position += len(data)
        self.memory.sent += len(data)
        return data

    def close(self) -> None:
        self.end = self.position


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody waits; what would have been waited is noted."""
    waited: list[float] = []
    monkeypatch.setattr("icf_tools.access.ranges.time.sleep", waited.append)
    return waited


@cache
def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def joined(pieces: Iterator[bytes] | Iterator[memoryview]) -> bytes:
    return b"".join(map(bytes, pieces))


def test_a_range_is_what_lies_there() -> None:
    memory = Memory(noise(3 * MB))
    assert joined(Ranges(memory, 3 * MB).pieces(5, 2 * MB)) == memory.data[5 : 2 * MB]
    assert memory.asked == [(5, 2 * MB)]


@pytest.mark.parametrize("seed", range(5))
def test_cuts_at_random_places_change_nothing(seed: int) -> None:
    random.seed(seed)
    memory = Memory(noise(4 * MB), cuts=[random.randrange(1, 2 * MB) for _ in range(4)])
    assert joined(Ranges(memory, 4 * MB).pieces(11, 4 * MB - 7)) == memory.data[11:-7]
    starts = [start for start, _ in memory.asked]
    assert starts == sorted(set(starts)), "each request begins where the one before stopped"
    assert memory.sent == 4 * MB - 18


def test_what_brings_nothing_is_given_up(waits: list[float]) -> None:
    memory = Memory(noise(MB), cuts=[0] * 99)
    tarball = Ranges(memory, MB)
    with pytest.raises(Interrupted, match="does not come: cut; try"):
        joined(tarball.pieces(0, MB))
    assert len(memory.asked) == 6
    assert waits == sorted(waits)
    assert sum(waits) < 10
    with pytest.raises(Interrupted):
        joined(tarball.pieces(9, MB))
    assert len(memory.asked) == 6, "a server that is down is left in peace"


def test_a_server_that_is_back_is_asked_again(
    waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(noise(MB), cuts=[0] * 6)
    tarball = Ranges(memory, MB)
    for _ in range(20):
        with pytest.raises(Interrupted):
            joined(tarball.pieces(0, MB))
    assert len(waits) == 5, "only the first one waits"
    now = time.monotonic()
    monkeypatch.setattr("icf_tools.access.ranges.time.monotonic", lambda: now + 21)
    assert joined(tarball.pieces(0, MB)) == memory.data


def test_slow_progress_is_no_reason_to_give_up() -> None:
    memory = Memory(noise(12 * MB), cuts=[MB] * 11)
    assert joined(Ranges(memory, 12 * MB).pieces(0, 12 * MB)) == memory.data


def test_another_size_is_another_tarball() -> None:
    memory = Memory(noise(MB), total=MB + 512)
    with pytest.raises(OtherTarball, match=f"has {MB + 512} bytes and not {MB}"):
        joined(Ranges(memory, MB).pieces(0, 10))
    with pytest.raises(OtherTarball, match="too short"):
        joined(Ranges(memory, MB).pieces(0, MB + 1))
    assert memory.sent == 0


def test_whole_files_are_refused_or_read_up_to_the_range() -> None:
    memory = Memory(noise(MB), is_whole=True)
    with pytest.raises(NoRange):
        joined(Ranges(memory, MB).pieces(70, 100))
    tarball = Ranges(memory, MB, whole=True)
    assert joined(tarball.pieces(700_000, 700_100)) == memory.data[700_000:700_100]
    assert tarball.is_whole


SIZE, STEP = 200_000, 200_704  # bytes of an image, and from one to the next in a tarball
COUNT = 128


def window(count: int = 3 * COUNT) -> tuple[Window, Memory, list[tuple[int, int]]]:
    memory = Memory(noise(STEP * count))
    images = [(number * STEP, number * STEP + SIZE) for number in range(count)]
    return Window(Ranges(memory, len(memory.data))), memory, images


def requested(memory: Memory) -> int:
    return sum(end - start for start, end in memory.asked)


def test_one_image_costs_its_bytes() -> None:
    shared, memory, images = window()
    assert joined(shared.pieces(*images[70])) == memory.data[slice(*images[70])]
    assert memory.asked == [images[70]]


def test_a_series_costs_few_requests_and_little_more_than_its_bytes() -> None:
    shared, memory, images = window()
    series = images[COUNT : 2 * COUNT]
    for start, end in series:
        assert joined(shared.pieces(start, end)) == memory.data[start:end]
    assert len(memory.asked) <= 9
    assert requested(memory) <= 1.35 * SIZE * COUNT


def test_all_images_are_asked_for_once() -> None:
    shared, memory, images = window()
    for start, end in images:
        assert joined(shared.pieces(start, end)) == memory.data[start:end]
    assert requested(memory) <= len(memory.data)
    assert len(memory.asked) <= 14


@pytest.mark.parametrize("step", [2, 3, 7, 50])
def test_what_is_asked_for_in_vain_is_bounded(step: int) -> None:
    shared, memory, images = window()
    used = 0
    for start, end in images[::step]:
        assert joined(shared.pieces(start, end)) == memory.data[start:end]
        used += end - start
    assert memory.sent <= 1.25 * used + 2 * MB + SIZE


@pytest.mark.parametrize("seed", range(4))
def test_pairs_at_random_places_waste_little(seed: int) -> None:
    random.seed(seed)
    shared, memory, images = window()
    used = 0
    for _ in range(40):
        first = random.randrange(len(images) - 1)
        for start, end in images[first : first + 2]:
            assert joined(shared.pieces(start, end)) == memory.data[start:end]
            used += end - start
    assert memory.sent <= 1.25 * used + 3 * MB


@pytest.mark.parametrize("jobs", [2, 4, 8])
def test_jobs_share_the_window(jobs: int) -> None:
    shared, memory, images = window()
    waiting = list(reversed(images))
    wrong: list[tuple[int, int]] = []
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if not waiting:
                    return
                start, end = waiting.pop()
            if joined(shared.pieces(start, end)) != memory.data[start:end]:
                wrong.append((start, end))

    threads = [threading.Thread(target=work) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert memory.sent <= 1.3 * len(memory.data)


def test_a_reader_that_stops_in_the_middle_harms_no_other() -> None:
    shared, memory, images = window()
    for start, end in images[:3]:
        pieces = shared.pieces(start, end)
        next(pieces)
        pieces.close()
    for start, end in images[:6]:
        assert joined(shared.pieces(start, end)) == memory.data[start:end]


def test_after_a_failure_the_window_works_again() -> None:
    shared, memory, images = window()
    memory.cuts = [0] * 6
    with pytest.raises(Interrupted):
        joined(shared.pieces(*images[0]))
    shared, memory, images = window()
    memory.total = 5
    with pytest.raises(OtherTarball):
        joined(shared.pieces(*images[0]))
    memory.total = None
    assert joined(shared.pieces(*images[0])) == memory.data[slice(*images[0])]


def test_an_image_larger_than_what_is_kept() -> None:
    memory = Memory(noise(40 * MB))
    shared = Window(Ranges(memory, 40 * MB))
    for start, end in ((0, 100), (512, 39 * MB), (39 * MB + 512, 40 * MB)):
        assert joined(shared.pieces(start, end)) == memory.data[start:end]


def test_parts_that_lie_together_come_by_one_request() -> None:
    parts = [(0, 100), (512, 600), (5 * MB, 6 * MB), (6 * MB, 7 * MB)]
    assert spans(parts) == [[(0, 100), (512, 600)], [(5 * MB, 6 * MB), (6 * MB, 7 * MB)]]
    assert bytes_of(parts) == 600 + 2 * MB
    memory = Memory(noise(8 * MB))
    got = {part: joined(pieces) for part, pieces in read_parts(Ranges(memory, 8 * MB), parts)}
    assert got == {part: memory.data[slice(*part)] for part in parts}
    assert memory.asked == [(0, 600), (5 * MB, 7 * MB)]


def test_parts_that_overlap_or_are_left_unread() -> None:
    parts = [(0, 1000), (500, 2000), (500, 2000), (3000, 3000), (4000, 5000)]
    memory = Memory(noise(8000))
    got = []
    for number, (part, pieces) in enumerate(read_parts(Ranges(memory, 8000), parts)):
        if number != 1:
            got.append((part, joined(pieces)))
    assert got == [(part, memory.data[slice(*part)]) for part in [parts[0], *parts[2:]]]


def test_a_server_of_whole_files_sends_at_most_two() -> None:
    parts = [(number * 2 * MB, number * 2 * MB + 100) for number in range(20)]
    memory = Memory(noise(40 * MB), is_whole=True)
    tarball = Ranges(memory, 40 * MB, whole=True)
    got = {part: joined(pieces) for part, pieces in read_parts(tarball, parts)}
    assert got == {part: memory.data[slice(*part)] for part in parts}
    assert len(memory.asked) == 2
