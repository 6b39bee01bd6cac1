"""Many parts of one tarball by as few requests as it takes.

in: Ranges, the places of members in their order    out: the bytes of each
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import TypeAlias

from icf_tools.access.ranges import Ranges

Part: TypeAlias = tuple[int, int]
"""Bytes of a file, from the first up to, not including, the last."""
Pieces: TypeAlias = Iterator[memoryview]

_TOGETHER = 512 << 10  # bytes between two parts, up to which both come by one request


def spans(parts: Sequence[Part], together: int = _TOGETHER) -> list[list[Part]]:
    """The parts that one request asks for; what lies between them comes along."""
    found: list[list[Part]] = []
    for part in sorted(parts):
        if found and 0 <= part[0] - found[-1][-1][1] <= together:
            found[-1].append(part)
        else:
            found.append([part])
    return found


def bytes_of(parts: Sequence[Part]) -> int:
    """What has to be read for them."""
    return sum(span[-1][1] - span[0][0] for span in spans(parts))


def read_parts(
    ranges: Ranges, parts: Sequence[Part], together: int = _TOGETHER
) -> Iterator[tuple[Part, Pieces]]:
    """Each part with its pieces, in the order of the tarball.

    Read one to its end, or leave it, before the next. Raises what `Ranges.pieces` raises.
    """
    left = spans(parts, together)
    while left:
        span = left.pop(0)
        with closing(ranges.pieces(span[0][0], span[-1][1])) as pieces:
            reader = _Reader(pieces, span[0][0])
            for part in span:
                yield part, reader.part(*part)
        if ranges.is_whole and left:  # each request begins at the first byte: make one of them
            left = spans([part for each in left for part in each], ranges.size)


class _Reader:
    def __init__(self, pieces: Generator[bytes], position: int) -> None:
        self._pieces = pieces
        self._position = position
        self._piece = memoryview(b"")

    def part(self, start: int, end: int) -> Pieces:
        while self._position < end:
            if not self._piece:
                self._piece = memoryview(next(self._pieces))
            skipped = min(max(start - self._position, 0), len(self._piece))
            wanted = self._piece[skipped : skipped + end - max(start, self._position)]
            self._position += skipped + len(wanted)
            self._piece = self._piece[skipped + len(wanted) :]
            if wanted:
                yield wanted
