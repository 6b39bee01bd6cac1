"""The benchmarks run; how fast is not judged here."""

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import missing

ROOT = Path(__file__).parents[1]


@pytest.fixture
def no_scratch_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.mark.slow
def test_parts_without_git_annex_print_a_table_and_clean_up(no_scratch_left: Path) -> None:
    if "ICF_TEST_DATA" not in os.environ and importlib.util.find_spec("nibabel") is None:
        missing("test-data")
    parts = ["startup", "archive", "index", "dataset", "derive"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", *parts],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    heading, *rows, _ = done.stdout.splitlines()
    assert heading.startswith("what ")
    measured = {row.partition("  ")[0] for row in rows}
    assert measured >= {"icf --help", "icf archive", "icf index", "icf dataset", "icf derive"}
    assert list(no_scratch_left.iterdir()) == []


@pytest.mark.slow
def test_pages_are_measured(require: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    require("chromium")
    # the browser has a socket in there, whose path may have some 100 letters
    with tempfile.TemporaryDirectory(prefix="icf-", dir="/var/tmp") as scratch:
        monkeypatch.setenv("TMPDIR", scratch)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks", "--quick", "catalog"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        assert list(Path(scratch).iterdir()) == []
    measured = {row.partition("  ")[0] for row in done.stdout.splitlines()[1:-1]}
    assert measured >= {"icf catalog STUDY", "icf catalog STUDY VISIT", "search page: usable"}


@pytest.mark.slow
@pytest.mark.annex
def test_gets_are_measured(require: Callable[[str], str], no_scratch_left: Path) -> None:
    require("nginx")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "remote"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert list(no_scratch_left.iterdir()) == []
    measured = {row.partition("  ")[0] for row in done.stdout.splitlines()[1:-1]}
    assert measured >= {"git annex get IMAGE", "icf get .", "datalad get IMAGES, slow link"}


def test_an_unknown_part_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "nothing"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 2
    assert "no part nothing" in done.stderr
