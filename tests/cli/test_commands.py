"""The commands as a user runs them: output, exit codes, interruption."""

import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from icf_tools.model.visit import StorePath
from tests import dicoms
from tests.conftest import BIN, Run, missing

TOP = Path(__file__).parents[2]
URL = "https://data.example.org/store"


def hashes(store: StorePath) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in store.study.iterdir()
        if path != store.lock
    }


def adding(store: StorePath, folder: Path) -> list[str]:
    return [str(BIN / "icf"), "add", "study", "visit", str(folder), "-o", str(store.root)]


def test_the_whole_flow(icf: Run, store: StorePath, incoming: Path) -> None:
    where = ("study", "visit", "-o", store.root)
    assert "tarball made" in icf("archive", "study", "visit", incoming, "-o", store.root).stdout
    assert "metadata made: 6 images in 2 series" in icf("index", *where).stdout
    done = icf("dataset", *where, "--store-url", URL)
    assert "dataset made: version 1" in done.stdout
    assert f"datalad clone 'datalad-annex::?type=external&externaltype=uncurl&encryption=none&url={URL}/study/visit_{{{{annex_key}}}}'" in done.stdout  # fmt: skip # noqa: E501
    done = icf("add", "study", "visit", incoming, "-o", store.root, "--store-url", URL)
    assert done.returncode == 0
    assert done.stderr == ""
    for line in ("tarball was there", "metadata was there", "dataset was there"):
        assert line in done.stdout
    assert "study/visit\t" in icf("status", "-o", store.root).stdout


def test_json_for_scripts(icf: Run, store: StorePath, incoming: Path) -> None:
    environment = {"ICF_STORE_DIR": str(store.root), "ICF_STORE_URL": URL}
    done = icf(
        *("add", "study", "visit", incoming, "--json"),
        *("--deposit-url", "https://catalog.example.org"),
        env=environment,
    )
    added = json.loads(done.stdout)
    assert added["archive"]["members"] == 6
    assert added["index"]["images"] == 6
    assert added["dataset"]["made"] is True
    assert "url=https://catalog.example.org/study/visit_" in added["dataset"]["clone_url"]
    (status,) = json.loads(icf("status", "study", "visit", "--json", env=environment).stdout)
    assert status["missing"] == []
    assert status["versions"] == 1


def test_settings_are_read(icf: Run, store: StorePath, incoming: Path) -> None:
    store.root.mkdir()
    (store.root / "site.yaml").write_text(f"store_url: {URL}\n")
    done = icf("add", "study", "visit", incoming, "-o", store.root)
    assert (done.returncode, done.stderr) == (0, "")
    assert URL in done.stdout


def test_the_first_tools_programs(icf: Run, store: StorePath, incoming: Path) -> None:
    here = ("--store-dir", store.root, "--id", "study", "visit")
    done = icf(*here, incoming, program="make_studyvisit_archive")
    assert (done.returncode, done.stderr) == (0, "")
    done = icf(*here, program="deposit_visit_metadata")
    assert (done.returncode, done.stderr) == (0, "")
    done = icf(*here, "--store-url", URL, program="deposit_visit_dataset")
    assert (done.returncode, done.stderr) == (0, "")
    assert store.refs.exists()
    done = icf(
        "--output-dir", store.root, "--id", "study", "visit", incoming,
        program="make_studyvisit_archive",
    )  # fmt: skip
    assert done.returncode == 0
    assert "deprecated" in done.stderr
    assert icf(*here[:2], program="deposit_visit_metadata").returncode == 2


@pytest.mark.parametrize(
    "name",
    ["make_studyvisit_archive", "deposit_visit_metadata", "deposit_visit_dataset", "derive_visit"],
)
def test_the_programs_run_from_a_checkout(name: str, tmp_path: Path) -> None:
    checkout = tmp_path / "a checkout"
    for folder in ("bin", "icf_tools"):
        shutil.copytree(TOP / folder, checkout / folder)
    with (checkout / "icf_tools" / "__init__.py").open("a") as file:
        file.write("print(__file__)\n")  # what is installed is another
    program = checkout / "bin" / name
    done = subprocess.run(
        [sys.executable, program, "--help"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stdout.startswith(f"{checkout}/icf_tools/__init__.py\n")
    assert f"Usage: {name}" in done.stdout
    assert os.access(program, os.X_OK)


def test_refusals_are_one_line_and_a_code(icf: Run, store: StorePath, incoming: Path) -> None:
    o = ("-o", store.root)
    cases: list[tuple[int, list[object]]] = [
        (2, ["archive", "study"]),
        (2, ["archive", "..", "visit", incoming, *o]),
        (2, ["add", "study", "visit", incoming, *o]),
        (2, ["add", "study", "visit", incoming, *o, "--store-url", "nonsense"]),
        (3, ["archive", "study", "visit", incoming / "nowhere", *o]),
        (3, ["index", "study", "visit", *o]),
        (3, ["dataset", "study", "visit", *o, "--store-url", URL]),
        (3, ["status", *o]),
        (6, ["archive", "study", "Mustermann", incoming, *o]),
    ]
    for code, arguments in cases:
        done = icf(*arguments)
        assert done.returncode == code, (arguments, done.stderr)
        assert "Traceback" not in done.stderr
        if arguments != ["archive", "study"]:  # there the usage is shown, too
            assert len(done.stderr.splitlines()) == 1
            assert done.stderr.startswith("icf: ")
        assert done.stdout == ""
    leftovers = [path for path in store.root.rglob("*") if path.is_file()]
    assert [path.name for path in leftovers] in ([], [".visit.lock"])
    icf("add", "study", "visit", incoming, *o, "--store-url", URL)
    dicoms.write(incoming / "more", dicoms.image(5))
    assert icf("archive", "study", "visit", incoming, *o).returncode == 4
    broken = StorePath(store.root, type(store.visit)("study", "broken"))
    broken.tarball.write_bytes(store.tarball.read_bytes()[:9000])
    done = icf("index", "study", "broken", *o)
    assert done.returncode == 5
    assert "broken_dicom.tar: member 'study_visit/" in done.stderr


def test_refused_before_anything_is_written(icf: Run, store: StorePath, incoming: Path) -> None:
    assert icf("add", "study", "visit", incoming, "-o", store.root).returncode == 2
    assert not store.root.exists()


@pytest.mark.slow
def test_kill_at_any_moment(store: StorePath, incoming: Path, tmp_path: Path) -> None:
    """Fifty times; what is there under its name is whole, and the next run completes it."""
    for number in range(20):
        dicoms.write(incoming / f"more/{number}.dcm", dicoms.image(7, number))

    def add(to: StorePath) -> "subprocess.Popen[bytes]":
        command = [*adding(to, incoming), "--store-url", URL]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL)

    durations = []
    for turn in range(3):
        first = StorePath(tmp_path / f"first{turn}", store.visit)
        start = time.monotonic()
        assert add(first).wait() == 0
        durations.append(time.monotonic() - start)
    seconds = min(durations)
    assert add(store).wait() == 0
    expected = hashes(store)
    chance = random.Random(2)
    moments: set[frozenset[str]] = set()
    for turn in range(300):
        if turn >= 50 and len(moments) > 2:
            break
        killed = StorePath(tmp_path / f"killed{turn}", store.visit)
        process = add(killed)
        # the first third of a run is the start of Python
        time.sleep(chance.uniform(0.3, 1.05) * seconds)
        process.kill()
        process.wait()
        if killed.study.exists():
            left = hashes(killed)
            moments.add(frozenset(left))
            visible = {name: digest for name, digest in left.items() if name[0] != "."}
            assert visible.items() <= expected.items()
        assert add(killed).wait() == 0
        assert hashes(killed) == expected
        shutil.rmtree(killed.root)
    assert len(moments) > 2, "every kill came too early or too late"


def test_a_folder_without_images_is_questioned(icf: Run, store: StorePath, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("x")
    done = icf("archive", "study", "visit", tmp_path / "docs", "-o", store.root)
    assert done.returncode == 0
    assert "no DICOM image among the 1 files" in done.stderr


def test_two_at_once(store: StorePath, incoming: Path) -> None:
    """One works; the other says so, or finds the work done."""
    for number in range(200):
        dicoms.write(incoming / f"more/{number}.dcm", dicoms.image(7, number))
    command = adding(store, incoming)
    for turn in range(3):
        processes = [
            subprocess.Popen([*command, "--store-url", URL], stderr=subprocess.PIPE, text=True,
                             stdout=subprocess.DEVNULL)
            for _ in range(3)
        ]  # fmt: skip
        results = [(process.communicate()[1], process.returncode) for process in processes]
        codes = sorted(code for _, code in results)
        assert codes[0] == 0
        assert set(codes) <= {0, 7}
        for said, code in results:
            assert ("in use by another process" in said) == (code == 7)
        names = sorted(path.name for path in store.study.iterdir())
        assert len(names) == 8, turn


def test_output_that_cannot_be_written(store: StorePath) -> None:
    store.root.mkdir()
    command = [str(BIN / "icf"), "status", "--store-dir", str(store.root)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert done.stderr.startswith("icf: No space left on device")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_nothing(store: StorePath, tmp_path: Path, number: int) -> None:
    folder = tmp_path / "big"
    folder.mkdir()
    for name in range(8):
        with (folder / str(name)).open("wb") as file:
            file.truncate(1 << 30)
    command = [str(BIN / "icf"), "archive", "study", "visit", str(folder), "-o", str(store.root)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    part = store.study / ".visit_dicom.tar.part"
    deadline = time.monotonic() + 50
    while not part.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    for _ in range(20):  # a process group in a container gets it twice
        process.send_signal(number)
        time.sleep(0.001)
    _, said = process.communicate(timeout=50)
    assert process.returncode == 128 + number
    assert said == "icf: stopped\n"
    assert hashes(store) == {}


def limited(command: list[str], size: int) -> "subprocess.CompletedProcess[str]":
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)


def test_no_room_for_the_file(icf: Run, store: StorePath, incoming: Path) -> None:
    command = adding(store, incoming)
    for size in (100, 2000, 5000):
        done = limited([*command, "--store-url", URL], size)
        assert done.returncode == 1
        assert "no room to write" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert hashes(store) == {}
    assert icf(*command[1:], "--store-url", URL).returncode == 0


def test_a_full_disk(icf: Run, store: StorePath, incoming: Path) -> None:
    store.root.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(store.root)]
    if subprocess.run(mount, capture_output=True).returncode:
        missing("mount")
    try:
        command = ("add", "study", "visit", incoming, "-o", store.root, "--store-url", URL)
        done = icf(*command)
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
        left = hashes(store)
        subprocess.run(["mount", "-o", "remount,size=1m", str(store.root)], check=True)
        assert icf(*command).returncode == 0
        assert left.items() < hashes(store).items()
    finally:
        subprocess.run(["umount", str(store.root)], check=True)


def without_override(command: list[str]) -> "subprocess.CompletedProcess[str]":
    """Run it so that file modes bind the superuser, too."""
    setpriv = shutil.which("setpriv") or ""
    prefix: list[str] = []
    if os.geteuid() == 0:
        if not setpriv:
            missing("setpriv")  # without it the superuser may do everything
        prefix = [setpriv, "--bounding-set=-dac_override,-dac_read_search"]
    return subprocess.run([*prefix, *command], capture_output=True, text=True)


def test_no_permission(store: StorePath, incoming: Path) -> None:
    command = adding(store, incoming)
    command[1] = "archive"
    secret = incoming / "series_1" / "im001.dcm"
    secret.chmod(0)
    done = without_override(command)
    assert (done.returncode, len(done.stderr.splitlines())) == (8, 1)
    assert "cannot read" in done.stderr
    secret.chmod(0o600)
    secret.parent.chmod(0)
    assert without_override(command).returncode == 8
    secret.parent.chmod(0o700)
    secret.chmod(0o600)
    assert not store.root.exists()
    store.root.mkdir(mode=0o500)
    done = without_override(command)
    assert (done.returncode, len(done.stderr.splitlines())) == (8, 1)
    assert "cannot write" in done.stderr
    store.root.chmod(0o700)
    store.study.mkdir(mode=0o500)
    assert without_override(command).returncode == 8
    store.study.chmod(0o700)


def test_help_is_quick_and_loads_nothing_heavy(icf: Run) -> None:
    script = (
        "import sys; from icf_tools.cli.app import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'pydicom', 'numpy', 'datalad', 'yaml', 'pydantic', 'rich', 'filelock'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr == "[]\n"


def test_closed_or_narrow_output_is_no_error(icf: Run, store: StorePath, incoming: Path) -> None:
    command = f"{BIN / 'icf'} add study visit {incoming} -o 'st\u00f8 \u5c71' --store-url {URL}"
    done = subprocess.run(
        ["sh", "-c", f"{command} && {BIN / 'icf'} status -o 'st\u00f8 \u5c71' >&-"],
        cwd=incoming.parent, capture_output=True, encoding="latin-1",
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
    )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)


def test_version(icf: Run) -> None:
    from icf_tools import __version__

    assert icf("--version").stdout == f"icf {__version__}\n"
    assert icf().returncode == 2
