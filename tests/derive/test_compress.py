"""Compressed files: whole, the same everywhere, and read by everyone."""

import gzip
import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from icf_tools.derive.compress import compress

BLOCK = 1 << 20
SIZES = (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 5 * BLOCK + 12345)


def content(size: int) -> bytes:
    """Half of it noise, and the rest the same again and again."""
    noise = np.random.default_rng(size).integers(0, 256, BLOCK // 2, dtype=np.uint8).tobytes()
    return (noise + bytes(BLOCK // 2)) * (size // BLOCK) + noise[: size % BLOCK]


@pytest.mark.parametrize("size", SIZES)
def test_what_goes_in_comes_out(size: int, tmp_path: Path, require: Callable[[str], str]) -> None:
    plain, packed = tmp_path / "plain.nii", tmp_path / "packed.nii.gz"
    plain.write_bytes(content(size))
    told = compress(plain, packed)
    assert told == hashlib.sha256(plain.read_bytes()).hexdigest()
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
    done = subprocess.run([require("gzip"), "-dc", packed], capture_output=True, check=True)
    assert done.stdout == plain.read_bytes()


def test_the_same_on_any_number_of_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tmp_path / "plain.nii"
    plain.write_bytes(content(SIZES[-1]))
    made = set()
    for cores in (1, 3, 16):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        compress(plain, tmp_path / f"{cores}.gz")
        made.add((tmp_path / f"{cores}.gz").read_bytes())
    [one] = made
    assert one[3:9] == bytes(6)  # no name, no time
    assert len(one) < plain.stat().st_size * 0.6


def test_blocks_know_what_stands_before_them(tmp_path: Path) -> None:
    """Else what repeats itself over their edges would not be found."""
    piece = np.random.default_rng(1).integers(0, 256, 16 << 10, dtype=np.uint8).tobytes()
    (tmp_path / "plain").write_bytes(piece * 192)  # of 3 blocks
    compress(tmp_path / "plain", tmp_path / "packed")
    assert (tmp_path / "packed").stat().st_size < 4 * len(piece)
