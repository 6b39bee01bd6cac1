"""Gzip with every core at work.

in: a file    out: the same compressed, and the SHA-256 of its content

The content is cut into blocks that are compressed at the same time, each with what
stands before it as its dictionary, as pigz does. Where they are cut does not depend
on the machine, so the same content is the same file. Format: RFC 1951, RFC 1952.
"""

import hashlib
import os
import struct
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

_LEVEL = 3  # 6 makes images half a percent smaller, and takes twice as long
_BLOCK = 1 << 20  # bytes
_WINDOW = 32 << 10  # bytes that deflate looks back
# neither name nor time, and of no operating system
_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"


def compress(plain: Path, packed: Path) -> str:
    """Write the compressed file; return the SHA-256 of the content."""
    digest, crc, size = hashlib.sha256(), 0, 0
    workers = len(os.sched_getaffinity(0))
    with packed.open("wb") as out, ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[bytes]] = deque()
        out.write(_HEADER)
        for block, before, last in _blocks(plain):
            waiting.append(pool.submit(_deflated, block, before, last))
            digest.update(block)
            crc = zlib.crc32(block, crc)
            size += len(block)
            if len(waiting) > 2 * workers:
                out.write(waiting.popleft().result())
        while waiting:
            out.write(waiting.popleft().result())
        out.write(struct.pack("<LL", crc, size & 0xFFFFFFFF))
    return digest.hexdigest()


def _blocks(path: Path) -> Iterator[tuple[bytes, bytes, bool]]:
    """Each with the end of the one before, and whether it is the last; an empty file has one."""
    with path.open("rb") as file:
        before, block = b"", file.read(_BLOCK)
        while following := file.read(_BLOCK):
            yield block, before, False
            before, block = block[-_WINDOW:], following
        yield block, before, True


def _deflated(block: bytes, before: bytes, last: bool) -> bytes:
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, zdict=before)
    return packer.compress(block) + packer.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)
