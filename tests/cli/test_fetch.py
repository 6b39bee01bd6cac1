"""icf fetch as a user runs it."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from icf_tools.model.visit import StorePath
from tests.access.stores import VISIT, change, files, filled
from tests.cli.test_commands import without_override
from tests.conftest import BIN, Run, missing
from tests.faults import Status, Whole, faulty_server
from tests.servers import web_server

pytestmark = pytest.mark.slow

FIRST = f"{VISIT.prefix}/a/im0001.dcm"
USER = ("lab", "correct horse")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StorePath:
    return filled(tmp_path_factory.mktemp("original"))


def variables(realm: str, password: str) -> dict[str, str]:
    """A credential, and a PATH on which nothing is."""
    fields = {"TYPE": "user_password", "REALM": realm, "USER": USER[0], "SECRET": password}
    found = {f"DATALAD_CREDENTIAL_TESTER_{name}": value for name, value in fields.items()}
    return found | {"PATH": "/nowhere"}


def test_what_it_says(icf: Run, stored: StorePath, tmp_path: Path) -> None:
    done = icf("fetch", stored.root, "study", "P1", "--series", "7", "-o", "out")
    assert done.returncode == 0
    assert done.stderr == "8 files to fetch, 0.0 MB; 0 are here\n"
    assert done.stdout == "fetched 8 files; 0 were here; MD5s are in out/P1.md5\n"
    done = icf("fetch", stored.root.as_uri(), "study", "P1", "-o", "out", "--json")
    assert done.stderr == "5 files to fetch, 0.0 MB; 8 are here\n"
    size = sum(path.stat().st_size for path in (tmp_path / "out").rglob("a/*"))
    assert json.loads(done.stdout) == {
        "visit": "study/P1",
        "files": 13,
        "here": 8,
        "fetched": 5,
        "bytes": size + len("of the visit\n"),
        "failed": {},
        "md5sum": "out/P1.md5",
    }
    again = icf("fetch", stored.root, "study", "P1", "-o", "out")
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == "fetched 0 files; 13 were here; MD5s are in out/P1.md5\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("{store}", "study", "P2"), 3, "P2_metadata_tarball.json; see that the URL of the store"),
        (("{store}", "other", "P1"), 3, "see that the URL of the store, the study and the visit"),
        (("{server}/other", "study", "P1"), 3, "see that the URL of the store, the study and the"),
        (("nowhere", "study", "P1"), 3, "no store at nowhere"),
        (("https://lab:secret@127.0.0.1", "study", "P1"), 2, "it holds a user name or password"),
        (("ftp://127.0.0.1", "study", "P1"), 2, "it needs http, https, ssh or file"),
        (("{store}", "..", "P1"), 2, "the study identifier '..' is not a safe file name"),
        (("{store}", "study", "P1", "--series", "9"), 3, "study/P1 has no image that fits; its"),
        (("{store}", "study", "P1", "--series", "x"), 2, "Invalid value for '--series'"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    icf: Run, stored: StorePath, arguments: tuple[str, ...], code: int, said: str, tmp_path: Path
) -> None:
    with faulty_server(stored.root) as server:
        places = {"store": stored.root, "server": server.url}
        done = icf("fetch", *(each.format(**places) for each in arguments), "-o", "out")
    assert (done.returncode, done.stdout) == (code, "")
    assert said in " ".join(done.stderr.split())
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_without_git_the_environment_tells_the_password(
    icf: Run, stored: StorePath, tmp_path: Path
) -> None:
    with faulty_server(stored.root, user=USER) as server:
        command = ("fetch", server.url, "study", "P1", "-o", "out")
        none = icf(*command, env={"PATH": "/nowhere"})
        wrong = icf(*command, env=variables(f"{server.url}/study", "wrong"))
        right = icf(*command, env=variables(f"{server.url}/study", USER[1]))
        server.user = None
        server.faults = [Status(403)]
        denied = icf(*command, env={"PATH": "/nowhere"})
    assert [each.returncode for each in (none, wrong, right, denied)] == [8, 8, 0, 8]
    assert "none is known; run icf login" in none.stderr
    assert "does not accept the credential of user lab" in wrong.stderr
    assert "may not be read; see that its name is right" in denied.stderr
    assert [len(each.stderr.splitlines()) for each in (none, wrong, denied)] == [1, 1, 1]
    assert len(files(tmp_path / "out")) == 14


def test_as_nginx_serves_a_store(
    icf: Run, stored: StorePath, tmp_path: Path, require: Callable[[str], str]
) -> None:
    with web_server(stored.root, tmp_path / "nginx", require("nginx")) as server:
        server.allow("study", *USER)
        command = ("fetch", server.url, "study", "P1", "-o", "out", "--series", "3")
        done = icf(*command, env=variables(server.realm("study"), USER[1]))
        served = [each for each in server.requests() if each.path.endswith("_dicom.tar")]
    assert (done.returncode, done.stderr) == (0, "4 files to fetch, 0.0 MB; 0 are here\n")
    assert [each.status for each in served] == [206]
    assert len(files(tmp_path / "out")) == 5


def test_a_file_that_does_not_come_is_told(icf: Run, stored: StorePath, tmp_path: Path) -> None:
    store = StorePath(shutil.copytree(stored.root, tmp_path / "store"), VISIT)
    change(store.dicoms_json, lambda images: images[0].update(md5="0" * 32))
    done = icf("fetch", store.root, "study", "P1", "-o", "out", "--json")
    assert done.returncode == 10
    assert done.stderr.splitlines()[1:] == [
        f"{FIRST}: what came is not what the metadata tells; tell who runs the store",
        "icf: 1 of 13 files did not come; what is said of each tells why",
    ]
    assert list(json.loads(done.stdout)["failed"]) == [FIRST]
    assert not (tmp_path / "out" / FIRST).exists()
    (tmp_path / "out" / FIRST).write_text("other")
    done = icf("fetch", stored.root, "study", "P1", "-o", "out")
    assert done.returncode == 4
    assert done.stderr == (
        f"icf: out/{FIRST} is there with other content; move it away, or give another folder\n"
    )


def test_a_server_without_ranges_is_told(icf: Run, stored: StorePath) -> None:
    with faulty_server(stored.root, [None, None, *[Whole()] * 3]) as server:
        done = icf("fetch", server.url, "study", "P1", "--series", "7", "-o", "out")
    assert done.returncode == 0
    assert "answers no Range requests: the tarball was read from its start" in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path, require: Callable[[str], str]) -> Iterator[Path]:
    """A folder with room for some of the files."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = [require("mount"), "-t", "tmpfs", "-o", "size=32k", "none", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        missing("mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(icf: Run, stored: StorePath, small_disk: Path) -> None:
    command = ("fetch", stored.root, "study", "P1", "-o", small_disk)
    done = icf(*command)
    assert done.returncode == 1
    assert "no room to write" in done.stderr
    assert "No space left on device; free some and run the command again" in done.stderr
    left = files(small_disk)
    assert left
    assert not any(name.endswith(".part") for name in left)
    subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
    assert icf(*command).returncode == 0
    assert left.items() < files(small_disk).items()


def test_no_permission(stored: StorePath, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [str(BIN / "icf"), "fetch", str(stored.root), "study", "P1", "-o", str(out)]
    out.mkdir(mode=0o500)
    done = without_override(command)
    assert (done.returncode, len(done.stderr.splitlines())) == (8, 2)
    assert f"cannot write to {out}/study_P1/a; give this user permission" in done.stderr
    out.chmod(0o700)
    assert without_override(command).returncode == 0
    (out / FIRST).chmod(0)
    done = without_override(command)
    assert done.returncode == 8
    assert done.stderr == f"icf: no permission for {out / FIRST}; give it to this user\n"


def test_a_store_closed_to_this_user(stored: StorePath, tmp_path: Path) -> None:
    store = StorePath(shutil.copytree(stored.root, tmp_path / "store"), VISIT)
    store.tarball.chmod(0)
    command = [str(BIN / "icf"), "fetch", str(store.root), "study", "P1", "-o", str(tmp_path / "o")]
    done = without_override(command)
    assert done.returncode == 8
    assert done.stderr.splitlines()[-1] == (
        f"icf: {store.tarball} may not be read; see that its name is right, "
        "or ask who runs the store for access"
    )
