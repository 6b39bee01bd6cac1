"""Every test has a home, a git identity and a time zone of its own."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn, Protocol

import pytest
from hypothesis import HealthCheck, settings

from icf_tools.model.visit import StorePath, Visit
from tests import dicoms

BIN = Path(sys.executable).parent

# a busy machine is slow, not broken
settings.register_profile(
    "icf", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("icf")


@pytest.fixture(scope="session", autouse=True)
def isolated_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For fixtures that several tests share; each test has its own, see `isolated`."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        _isolate(monkeypatch, tmp_path_factory.mktemp("home"))
        yield


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh HOME; programs of this environment come first on the path."""
    home = tmp_path_factory.mktemp("home")
    _isolate(monkeypatch, home)
    return home


def _isolate(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("GIT_", "DATALAD_", "XDG_", "APPTAINER", "SINGULARITY")) or (
            name.startswith("ICF_") and not name.startswith(("ICF_REQUIRE", "ICF_TEST_"))
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    (home / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(home / "tmp"))
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyrings.alt.file.PlaintextKeyring")
    monkeypatch.setenv("DATALAD_UI_PROGRESSBAR", "none")
    time.tzset()
    (home / ".gitconfig").write_text(
        "[user]\n\tname = Tester\n\temail = tester@example.org\n[init]\n\tdefaultBranch = main\n"
    )


@pytest.fixture
def require() -> Callable[[str], str]:
    """What `found` does."""
    return found


def found(program: str) -> str:
    """The path of an outside program; see `missing`."""
    path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if path is None:
        missing(program)
    return path


def missing(what: str) -> NoReturn:
    """Skip for want of something outside, or fail where it is required."""
    if what in os.environ.get("ICF_REQUIRE", "").replace(",", " ").split():
        pytest.fail(f"{what} is listed in ICF_REQUIRE and cannot be found")
    pytest.skip(f"{what} is not there")


def peak_memory(script: str, *arguments: object) -> int:
    """The most bytes that a Python script had in memory.

    Not ru_maxrss, which begins with what the process had that started it.
    """
    told = "\nprint(*[l for l in open('/proc/self/status') if l.startswith('VmHWM')])"
    command = [sys.executable, "-c", script + told, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[1]) << 10


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Real DICOM outside of the repository, where ICF_TEST_DATA names it."""
    folder = os.environ.get("ICF_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        missing("test-data")
    return Path(str(folder))


@pytest.fixture
def store(tmp_path: Path) -> StorePath:
    """Where visit study/visit would be; nothing is there yet."""
    return StorePath(tmp_path / "store", Visit("study", "visit"))


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    """A folder with two series of three images."""
    return dicoms.visit(tmp_path / "incoming")


class Run(Protocol):
    """What the fixture `icf` gives."""

    def __call__(
        self, *arguments: object, program: str = "icf", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def icf(tmp_path: Path) -> Run:
    """Run the command as a user does."""

    def run(
        *arguments: object, program: str = "icf", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = [str(BIN / program), *map(str, arguments)]
        environment = os.environ | (env or {})
        return subprocess.run(
            command, capture_output=True, text=True, timeout=300, cwd=tmp_path, env=environment
        )

    return run
