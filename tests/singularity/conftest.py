"""The image of this checkout, built once for one content, and users who run it."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from filelock import FileLock

from tests.conftest import missing
from tests.dataset.clients import Done

TOP = Path(__file__).resolve().parents[2]
NOBODY = 65534


@dataclass(frozen=True, slots=True)
class Container:
    """How a user runs commands of the image."""

    apptainer: str
    image: Path
    folder: Path  #: the user's current folder
    user: int = 0
    options: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    def start(self, *arguments: object, verb: str = "run") -> subprocess.Popen[str]:
        command = [self.apptainer, "--quiet", verb, *self.options, str(self.image)]
        return subprocess.Popen(
            [*self.prefix, *command, *map(str, arguments)],
            cwd=self.folder,
            env={**os.environ, "PWD": str(self.folder), **self.variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: object, verb: str = "run") -> Done:
        with self.start(*arguments, verb=verb) as process:
            out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def with_options(self, *options: str) -> "Container":
        return replace(self, options=[*self.options, *options])

    def with_variables(self, **variables: str) -> "Container":
        return replace(self, variables={**self.variables, **variables})

    def bound(self, *folders: object) -> "Container":
        """Nothing of the caller is there but these folders."""
        bind = [word for folder in folders for word in ("--bind", str(folder))]
        return self.with_options("--containall", *bind)

    @property
    def prefix(self) -> list[str]:
        if self.user == os.geteuid():
            return []
        return [
            shutil.which("setpriv") or missing("setpriv"),
            *(f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"),
        ]


@pytest.fixture(scope="session")
def apptainer() -> str:
    """The program that ICF_TEST_APPTAINER names."""
    return os.environ.get("ICF_TEST_APPTAINER") or missing("apptainer")


@pytest.fixture(scope="session")
def built(apptainer: str) -> Path:
    """The image, in build/; what it was built from is in its name."""
    image = TOP / "build" / f"icf-{_digest()}.sif"
    image.parent.mkdir(exist_ok=True)
    with FileLock(image.with_name(".image.lock")):
        if not image.exists():
            for old in image.parent.glob("icf-*.sif"):
                old.unlink()
            _build(apptainer, image)
    return image


def _build(apptainer: str, image: Path) -> None:
    options = ["--mksquashfs-args", "-comp zstd -Xcompression-level 3"]  # quick, not small
    if base := os.environ.get("ICF_TEST_BASE"):
        options += ["--build-arg", "BOOTSTRAP=localimage", "--build-arg", f"BASE={base}"]
    done = subprocess.run(
        [TOP / "singularity" / "build", image, *options],
        env=os.environ | {"PATH": f"{Path(apptainer).parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        umask=0o077,  # all may run the image, all the same
    )
    assert done.returncode == 0, done.stdout + done.stderr


def sources() -> list[Path]:
    """The files that the recipe copies into the image."""
    text = (TOP / "icf.def").read_text()
    section = text.partition("\n%files\n")[2].partition("\n%")[0]
    names = [line.split()[0] for line in section.splitlines() if line.strip()]
    files = [TOP / name for name in names if (TOP / name).is_file()]
    for name in set(names) - {str(file.relative_to(TOP)) for file in files}:
        found = [file for file in (TOP / name).rglob("*") if "__pycache__" not in file.parts]
        files += [file for file in found if file.is_file() and file.name[0] != "."]
    return sorted(files)


def _digest() -> str:
    digest = hashlib.sha256(os.environ.get("ICF_TEST_BASE", "").encode())
    for file in [TOP / "icf.def", TOP / "singularity" / "build", *sources()]:
        digest.update(f"{file.relative_to(TOP)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


@pytest.fixture(scope="module")
def public(built: Path) -> Iterator[Path]:
    """A folder that every user may read, with the image in it as icf.sif."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="icf-test-"))
    folder.chmod(0o755)
    try:
        shutil.copy(built, folder / "icf.sif")
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(params=["caller", "ordinary user"])
def container(
    request: pytest.FixtureRequest, apptainer: str, public: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Container]:
    """A user with a folder and without a home: the one who runs the tests, and an ordinary one."""
    user = os.geteuid()
    if request.param == "ordinary user" and user == 0:
        user = NOBODY
    folder = public / "work"
    folder.mkdir()
    os.chown(folder, user, -1)
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("TMPDIR", "/nonexistent")
    try:
        yield Container(apptainer, public / "icf.sif", folder, user)
    finally:
        shutil.rmtree(folder)
