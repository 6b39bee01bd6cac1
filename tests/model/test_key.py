"""Keys and the paths made of them, against git-annex itself."""

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icf_tools.model.key import (
    AnnexKey,
    branch_directory,
    extension,
    key_file,
    object_directory,
    symlink_target,
)

MD5 = "0cc175b9c0f1b6a831c399e269772661"
NAMES = (
    "a.dcm",
    "IM0001",
    "a.dicom",
    "a.d_c",
    "a.DCM",
    "x.1.2.IMA",
    "foo.tar.gz",
    "MR.1.2.840.113619.2.1",
    ".a.b",
    "a..b",
    "a...b",
    "a.b..",
    "a.",
    "a.b.",
    "..x.y",
    "a. b",
    "a.b ",
    "a.é",
    "a.日本",
    "a.日",
    "a.éé.x",
    "a.x y.z",
    "a.abcd",
    "a.abcde.f",
    "a.ü-.f",
)
ANY = "abAB01._- éß日😀%&:,'\"~+=#"
IN_EXTENSIONS = "abAB01éß日😀"


@pytest.fixture(scope="module")
def names() -> list[str]:
    """Some with a reason, and so many by chance that the rare cases are among them."""
    chance = random.Random(4)

    def word(alphabet: str, longest: int) -> str:
        return "".join(chance.choice(alphabet) for _ in range(chance.randint(0, longest)))

    made = {word(ANY, 14) for _ in range(2500)}
    made |= {f"{word(ANY, 3)}.{word(IN_EXTENSIONS, 5)}" for _ in range(500)}
    made |= {".".join(word(IN_EXTENSIONS, 4) for _ in range(4)) for _ in range(1500)}
    found = [*NAMES, *sorted(name for name in made if name.strip(". "))]
    assert len(found) > 3800
    return found


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("annex")
    git(folder, "init")
    git(folder, "config", "user.name", "Tester")
    git(folder, "config", "user.email", "tester@example.org")
    git(folder, "annex", "init")
    return folder


@given(
    st.builds(
        AnnexKey,
        backend=st.from_regex("[A-Z0-9_]+", fullmatch=True),
        size=st.none() | st.integers(min_value=0),
        name=st.text(min_size=1),
    )
)
def test_a_key_reads_back_equal(key: AnnexKey) -> None:
    assert AnnexKey.parse(str(key)) == key


def test_the_size_of_an_empty_file_is_kept() -> None:
    assert str(AnnexKey("MD5E", 0, MD5)) == f"MD5E-s0--{MD5}"
    assert str(AnnexKey("MD5E", None, MD5)) == f"MD5E--{MD5}"


@pytest.mark.parametrize(
    "text", ["", "MD5", "MD5-s5", "MD5-s5--", "md5-s5--a", "MD5-s--a", "MD5-s-1--a", " MD5--a"]
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a git-annex key"):
        AnnexKey.parse(text)


@pytest.mark.annex
def test_extensions_are_those_of_git_annex(names: list[str], repository: Path) -> None:
    lines = [f"MD5-s5--{MD5} {name}" for name in names]
    reports = examined(repository, lines, "--migrate-to-backend=MD5E")
    ours = {name: str(AnnexKey.md5e(f"some.folder/{name}", 5, MD5)) for name in names}
    assert ours == {name: report["key"] for name, report in zip(names, reports, strict=True)}
    assert len({extension(name) for name in names}) > 500


@pytest.mark.annex
def test_extensions_that_are_no_text_are_counted_in_bytes(repository: Path) -> None:
    names = [
        b"a.\xf6",
        b"a.\xf6\xff\xf6\xf6",
        b"a.\xf6\xff\xf6\xf6\xf6",
        b"a.\xf6.\xc3",
        b"a.\xf6-",
    ]
    done = subprocess.run(
        ["git", "annex", "examinekey", "--batch", "--migrate-to-backend=MD5E"],
        cwd=repository,
        input=b"".join(b"MD5-s5--%b %b\n" % (MD5.encode(), name) for name in names),
        capture_output=True,
        check=True,
    )
    ours = [str(AnnexKey.md5e(os.fsdecode(name), 5, MD5)) for name in names]
    assert ours == os.fsdecode(done.stdout).splitlines()


@pytest.mark.annex
def test_a_link_tells_its_key(names: list[str]) -> None:
    for name in names:
        key = AnnexKey.md5e(name, 5, MD5)
        assert AnnexKey.of_target(symlink_target(f"a/{name}", key)) == key


def test_directories_are_those_of_git_annex(names: list[str], repository: Path) -> None:
    keys = [AnnexKey.md5e(name, size, MD5) for size, name in enumerate(names)]
    # no md5 key needs escapes, a URL key does
    keys += [AnnexKey("URL", None, f"http://x/{name}".replace(" ", "_")) for name in names]
    reports = examined(repository, list(map(str, keys)))
    for key, report in zip(keys, reports, strict=True):
        assert report["key"] == str(key)
        assert report["hashdirlower"] == f"{branch_directory(key)}/"
        assert report["hashdirmixed"] == f"{object_directory(key)}/"
        name = key_file(key)
        assert report["objectpath"] == f".git/annex/objects/{object_directory(key)}/{name}/{name}"
        assert os.path.normpath(f"a/b/{symlink_target('a/b/c', key)}") == report["objectpath"]
        assert symlink_target("c", key) == report["objectpath"]


@pytest.mark.annex
def test_the_branch_keeps_logs_where_git_annex_looks(repository: Path) -> None:
    keys = [AnnexKey.md5e("a.dcm", 5, MD5), AnnexKey("URL", None, "http://x/100%&a:b")]
    for key in keys:
        git(repository, "annex", "setpresentkey", str(key), str(UUID(int=7)), "1")
    git(repository, "annex", "merge")  # commits what is in the journal
    listed = git(repository, "ls-tree", "-r", "-z", "--name-only", "git-annex").split("\0")
    assert {f"{branch_directory(key)}/{key_file(key)}.log" for key in keys} <= set(listed)


def git(repository: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=repository, check=True, capture_output=True, text=True
    ).stdout


def examined(repository: Path, lines: list[str], *options: str) -> list[dict[str, Any]]:
    """What git-annex says of each."""
    done = subprocess.run(
        ["git", "annex", "examinekey", "--batch", "--json", *options],
        cwd=repository,
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    return [json.loads(line) for line in done.stdout.splitlines()]
