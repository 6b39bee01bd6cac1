"""Safe member names: what is replaced, and that nothing is lost."""

import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icf_tools.model.names import (
    can_be_checked_out,
    can_be_fetched,
    checkout_name,
    readable,
    safe_names,
)

FILE_NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)


@pytest.mark.parametrize(
    ("original", "safe"),
    [
        (b"a#b&c\\d.dcm", "a_b_c_d.dcm"),
        (b"line\nbreak\ttab\x7f", "line_break_tab_"),
        ("next\x85line\u2028sep".encode(), "next_line_sep"),
        (b"latin-1 \xe9.dcm", "latin-1 _.dcm"),
        (b".git", "_git"),
        (b".gitmodules", "_gitmodules"),
        (b".GitAttributes", "_GitAttributes"),
        (b"git~1", "_git~1"),
        (b"GITMOD~2", "_GITMOD~2"),
        (b"gi7eba~1", "_gi7eba~1"),
        (".g\u200cit".encode(), "_git"),
    ],
)
def test_names_that_hurt_are_replaced(original: bytes, safe: str) -> None:
    assert safe_names([original]) == {original: safe}


@pytest.mark.parametrize(
    "name", ["IM 0001", "größe", "50%", "it's", '"x"', ".hidden", "a.b.c", "digit", "日本語", "=;,"]
)
def test_other_names_stay(name: str) -> None:
    assert safe_names([name.encode()]) == {name.encode(): name}


def test_collisions_are_resolved_whatever_the_order() -> None:
    names = [b"a_b.dcm", b"a#b.dcm", b"a&b.dcm", b"a\\b.dcm"]
    expected = safe_names(names)
    assert expected[b"a_b.dcm"] == "a_b.dcm"
    assert len(set(expected.values())) == 4
    assert all(name.startswith("a_b-") for name in expected.values() if name != "a_b.dcm")
    for seed in range(5):
        random.Random(seed).shuffle(names)
        assert safe_names(names) == expected


def test_the_first_of_those_replaced_takes_the_plain_name() -> None:
    names = [b"a#b", b"a&b", b"a\\b"]
    expected = safe_names(names)
    assert expected[b"a#b"] == "a_b"
    for seed in range(10):
        random.Random(seed).shuffle(names)
        assert safe_names(names) == expected


@given(st.sets(FILE_NAMES, max_size=20))
def test_safe_names_are_safe_and_distinct(names: set[bytes]) -> None:
    result = safe_names(names)
    assert result.keys() == names
    assert len(set(result.values())) == len(names)
    for safe in result.values():
        assert can_be_fetched(safe)
        assert can_be_checked_out(safe)
        assert "/" not in safe
    assert safe_names([safe.encode() for safe in result.values()]) == {
        safe.encode(): safe for safe in result.values()
    }


def test_the_original_reads_as_text() -> None:
    assert readable(b"caf\xe9/x") == r"caf\xe9/x"


HOSTILE = [".git", ".GIT", ".gitmodules", "git~1", "gitmod~1", "GITMOD~4", "gi7eba~1", ".git ", "x"]


@pytest.mark.parametrize("name", HOSTILE)
def test_git_itself_agrees_on_what_can_be_checked_out(tmp_path: Path, name: str) -> None:
    def add(path: str) -> int:
        link = subprocess.run(
            ["git", "hash-object", "-w", "--stdin"],
            cwd=tmp_path, input="target", text=True, capture_output=True, check=True,
        ).stdout.strip()  # fmt: skip
        entry = ["git", "update-index", "--add", "--cacheinfo", f"120000,{link},{path}"]
        return subprocess.run(entry, cwd=tmp_path, capture_output=True).returncode

    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    assert add(checkout_name(name)) == 0
    assert can_be_checked_out(name) == (add(name) == 0) or name in (".gitignore",)


LONG = ["x" * 250, "é" * 127, "x" * 200 + ".dcm"]


@pytest.mark.parametrize("stem", LONG)
def test_a_told_apart_name_is_not_too_long(stem: str) -> None:
    names = [f"{stem}#".encode()[:255], f"{stem}_".encode()[:255], f"{stem}&".encode()[:255]]
    result = safe_names(names)
    assert len(set(result.values())) == len(set(names))
    assert all(len(name.encode()) <= 255 for name in result.values())


def test_a_name_from_elsewhere_may_be_too_long() -> None:
    name = "ä" * 200
    assert not can_be_checked_out(name)
    assert len(checkout_name(name).encode()) <= 255
    assert checkout_name(name) != checkout_name(name + "x")
