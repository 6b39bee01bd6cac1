"""Admins run the steps of a visit in the container; lab members need none of it."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

import icf_tools
from icf_tools.derive.report import read_report
from icf_tools.model.visit import StorePath, Visit
from tests import dicoms
from tests.dataset.clients import Client, digests, icf, md5
from tests.servers import web_server
from tests.singularity.conftest import NOBODY, TOP, Container

pytestmark = pytest.mark.annex


ORDINARY = pytest.mark.parametrize("container", ["ordinary user"], indirect=True)
World = tuple[Container, Path, Path]


@pytest.fixture
def world(container: Container) -> World:
    """A user, a store and incoming images, which lie where no container looks by itself."""
    folder = container.folder / "some where"
    dicoms.visit(folder / "incoming")
    (folder / "store").mkdir()
    subprocess.run(["chown", "-R", str(container.user), folder], check=True)
    return container, folder / "store", folder / "incoming"


def listed(root: Path) -> dict[str, str]:
    return {name: digest for name, digest in digests(root, ".").items() if ".lock" not in name}


def steps(store: Path, incoming: Path, url: str, visit: str = "visit") -> list[tuple[object, ...]]:
    ids = ("--store-dir", store, "--id", "study", visit)
    return [
        ("make_studyvisit_archive", *ids, "--allow-identifying", incoming),
        ("deposit_visit_metadata", *ids),
        ("deposit_visit_dataset", *ids, "--store-url", url),
    ]


def made(root: Path, visit: str) -> dict[str, str]:
    """Digest by path of what was derived; uncompressed, as compressors differ."""
    report = read_report(StorePath(root, Visit("study", visit)).series_json)
    assert report is not None
    return {file.path: file.sha256 for file in report.files}


def deposit_by_scripts(
    container: Container, store: Path, incoming: Path, url: str, visit: str = "visit"
) -> None:
    """The three steps as the admin's page has them."""
    user = container.bound(store, f"{incoming}:{incoming}:ro")
    for command in steps(store, incoming, url, visit):
        done = user.run(*command)
        assert done.returncode == 0, done.stderr


def test_labels_tell_version_and_revision(container: Container) -> None:
    done = container.run(verb="inspect")
    labels = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert labels["org.opencontainers.image.version"] == icf_tools.__version__
    revision = labels["org.opencontainers.image.revision"]
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", revision)
    commit = ["git", "-c", f"safe.directory={TOP}", "cat-file", "-t", revision[:40]]
    assert subprocess.check_output(commit, cwd=TOP, text=True) == "commit\n"


def test_usage(container: Container) -> None:
    help_text = container.run(verb="run-help").stdout
    assert help_text.startswith("usage: singularity run ")
    nothing = container.run()
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (2, "", help_text)
    asked = container.run("--help")
    assert (asked.returncode, asked.stdout, asked.stderr) == (0, help_text, "")
    for command in ("deposit", "exit", "if"):  # the shell has the latter two
        unknown = container.run(command)
        assert (unknown.returncode, unknown.stdout) == (2, "")
        assert unknown.stderr == f"icf.sif: there is no command {command}; --help lists them\n"
    assert container.run("--version").stdout == f"icf {icf_tools.__version__}\n"


@ORDINARY
def test_seed_workflow_on_real_images(
    container: Container, test_data: Path, tmp_path: Path, require: Callable[[str], str]
) -> None:
    sources = {
        "structural": test_data / "example-dicom-structural" / "dicoms",
        "siemens": test_data / "dcm_qa_nih" / "In" / "20180918Si",
        "ge": test_data / "dcm_qa_nih" / "In" / "20180918GE",
    }
    root = container.folder / "store"
    root.mkdir(mode=0o755)
    os.chown(root, container.user, -1)
    outside = tmp_path / "outside"
    outside.mkdir()
    client = Client.new(tmp_path / "user")
    with web_server(root, tmp_path / "web", require("nginx")) as server:
        for visit, source in sources.items():
            deposit_by_scripts(container, root, source, server.url, visit)
            known = ("add", "study", visit, source, "--allow-identifying")
            icf(*known, store_dir=outside, store_url=server.url)
        status = container.bound(root).run("icf", "status", "--store-dir", root, "--json")
        assert [visit["missing"] for visit in json.loads(status.stdout)] == [[]] * 3

        inside = listed(root)
        assert inside.keys() == listed(outside).keys()
        different = {name for name, digest in listed(outside).items() if inside[name] != digest}
        assert different <= {f"./study/{visit}_XDLRA--repo-export" for visit in sources}

        server.allow("study", "lab", "secret")
        client.set_credential("study", server.realm("study"), "lab", "secret")
        for visit, source in sources.items():
            url = StorePath(root, Visit("study", visit)).visit.clone_url(server.url)
            clone = client.clone(url, tmp_path / visit)
            clone.get(f"study_{visit}")
            assert clone.content() == digests(source, f"study_{visit}")

            targets = ("--to", "nifti", "--to", "minc", "-j", "2")
            ids = ("--store-dir", root, "--id", "study", visit)
            done = container.bound(root).run("derive_visit", *ids, *targets)
            assert done.returncode == 0, done.stderr
            icf("derive", "study", visit, *targets, store_dir=outside)
            assert made(root, visit) == made(outside, visit)
            clone.run("datalad", "update", "--how", "merge")
            clone.get("nifti", "minc")
            kinds = {path.partition("/")[0] for path in clone.here}
            assert {"nifti", "minc"} <= kinds


def test_files_belong_to_the_caller(world: World) -> None:
    container, store, incoming = world
    before = os.umask(0o027)
    try:
        deposit_by_scripts(container, store, incoming, store.as_uri())
    finally:
        os.umask(before)
    files = [path for path in store.rglob("*") if path.is_file()]
    assert len(files) == 8  # seven, and the lock
    assert {path.stat().st_uid for path in store.rglob("*")} == {container.user}
    assert {oct(path.stat().st_mode & 0o777) for path in files if path.name[0] != "."} == {"0o640"}


def test_relative_folders_and_the_current_one(world: World) -> None:
    container, store, incoming = world
    here = container.with_options("--bind", str(container.folder))
    near, far = (os.path.relpath(folder, container.folder) for folder in (incoming, store))
    done = here.run("icf", "add", "study", "visit", near, "-o", far, "--store-url", "file:///x")
    assert done.returncode == 0, done.stderr
    in_store = Container(container.apptainer, container.image, store, container.user)
    assert "study/visit" in in_store.with_options("--bind", str(store)).run("icf", "status").stdout


def test_exit_codes_pass_through(world: World) -> None:
    container, store, incoming = world
    visit = ("--store-dir", store, "--id", "study", "visit")
    user = container.bound(store, incoming)
    url = ("--store-url", "file:///x")
    assert user.run("make_studyvisit_archive", *visit).returncode == 2
    assert user.run("deposit_visit_metadata", *visit).returncode == 3
    assert user.run("deposit_visit_dataset", *visit, *url).returncode == 3
    assert user.run("make_studyvisit_archive", *visit, incoming).returncode == 0
    (incoming / "series_1" / "im001.dcm").rename(incoming / "another.dcm")
    assert user.run("make_studyvisit_archive", *visit, incoming).returncode == 4
    named = ("--store-dir", store, "--id", "study", "Mustermann")
    refused = user.run("make_studyvisit_archive", *named, incoming)
    assert (refused.returncode, "Mustermann" in refused.stderr) == (6, False)
    with FileLock(store / "study" / ".visit.lock"):
        os.chown(store / "study" / ".visit.lock", container.user, -1)
        assert user.run("deposit_visit_metadata", *visit).returncode == 7
    with (store / "study" / "visit_dicom.tar").open("r+b") as tarball:
        tarball.truncate(5000)
    damaged = user.run("deposit_visit_metadata", *visit)
    assert (damaged.returncode, len(damaged.stderr.splitlines())) == (5, 1)


def test_a_mount_without_write_permission(world: World) -> None:
    container, store, incoming = world
    command = ("icf", "archive", "study", "visit", incoming, "--store-dir", store)
    done = container.bound(f"{store}:{store}:ro", incoming).run(*command)
    said = f"icf: cannot write to {store}/study, which is mounted for reading only; "
    assert (done.returncode, done.stderr.count("\n")) == (8, 1)
    assert done.stderr.startswith(said)
    if container.user == NOBODY:
        os.chown(store, 0, 0)
        store.chmod(0o755)
        done = container.bound(store, incoming).run(*command)
        assert (done.returncode, done.stderr.count("\n")) == (8, 1)
        assert done.stderr.startswith(f"icf: cannot write to {store}/study; give this user ")
    assert list(store.iterdir()) == []


def test_what_is_not_bound_is_refused_before_it_is_lost(
    world: World,
) -> None:
    container, store, incoming = world
    (store / "elsewhere").symlink_to("/tmp")
    for options in ([], ["--writable-tmpfs"]):
        alone = container.bound(incoming).with_options(*options)
        for folder in (store, "/tmp/store", "/tmp", ".", "/var/tmp", "/srv", "/dev/shm/store"):
            done = alone.run("icf", "archive", "study", "visit", incoming, "--store-dir", folder)
            assert (done.returncode, done.stdout) == (3, ""), done.stderr
            assert "is not bound into the container; " in done.stderr
    leads_out = ("icf", "archive", "elsewhere", "visit", incoming, "--store-dir", store)
    assert container.bound(store, incoming).run(*leads_out).returncode == 3
    done = container.bound(store).run("icf", "archive", "study", "visit", incoming, "-o", store)
    assert (done.returncode, done.stdout) == (3, "")
    assert f"the folder {incoming} is not bound" in done.stderr
    inside = container.bound(store, incoming)
    new = inside.run("icf", "archive", "study", "visit", incoming, "-o", store / "new" / "one")
    assert new.returncode == 0, new.stderr
    ids = ("--id", "study", "visit")
    old = inside.run("make_studyvisit_archive", *ids, "--output-dir", store, incoming)
    assert old.returncode == 0, old.stderr
    study = container.bound(store / "study", incoming)
    assert "was there" in study.run("make_studyvisit_archive", *ids, "-o", store, incoming).stdout


def test_a_hostile_environment(world: World) -> None:
    container, store, incoming = world
    evil = container.folder / "evil"
    site = evil / ".local" / "lib" / "python3.11" / "site-packages"
    site.mkdir(parents=True)
    for folder in (evil, site):
        for module in ("sitecustomize", "usercustomize", "typer", "pydicom"):
            (folder / f"{module}.py").write_text("print('EVIL')\nraise SystemExit(66)\n")
    (evil / ".gitconfig").write_text("this is not [a configuration\n")
    (evil / ".profile").write_text("[ ! -e /.singularity.d ] || echo EVIL\n")
    reference = container.folder / "reference"
    reference.mkdir()
    os.chown(reference, container.user, -1)
    deposit_by_scripts(container, reference, incoming, "file:///x")
    hostile = container.with_options("--bind", f"{store},{incoming},{evil}").with_variables(
        HOME=str(evil),
        PYTHONPATH=str(evil),
        PYTHONHOME=str(evil),
        PYTHONEXECUTABLE=str(evil / "bin" / "python"),
        PYTHONUSERBASE=str(evil / ".local"),
        PYTHONSTARTUP=str(evil / "typer.py"),
        PYTHONINSPECT="1",
        PYTHONWARNINGS="error",
        PYTHONOPTIMIZE="2",
        PYTHONIOENCODING="ascii",
        PYTHONUTF8="0",
        BASH_ENV=str(evil / ".profile"),
        ENV=str(evil / ".profile"),
        GIT_DIR=str(evil),
        GIT_CONFIG_GLOBAL=str(evil / ".gitconfig"),
        GIT_CONFIG_COUNT="nonsense",
        GIT_AUTHOR_DATE="never",
        GIT_OBJECT_DIRECTORY=str(evil),
        LC_ALL="xx_YY.broken",
        LANG="xx_YY.broken",
        TZ="Nowhere/Land",
        TMPDIR="/does/not/exist",
        XDG_CONFIG_HOME=str(evil),
        VIRTUAL_ENV=str(evil),
        COLUMNS="1",
    )
    for command in steps(store, incoming, "file:///x"):
        done = hostile.run(*command)
        assert done.returncode == 0, done.stderr
        assert "EVIL" not in done.stdout + done.stderr
    assert listed(store) == listed(reference)
    executed = hostile.run("icf", "--version", verb="exec")  # not by way of the run script
    assert (executed.returncode, executed.stdout) == (0, f"icf {icf_tools.__version__}\n")


def test_paths_with_awkward_names(world: World) -> None:
    container, store, incoming = world
    awkward = store.with_name("50% & Größe's #1")
    store.rename(awkward)
    strange = incoming.with_name("in coming;日本")
    incoming.rename(strange)
    user = container.with_options("--bind", str(container.folder))
    for visit in ("one", "two"):
        at = ("--store-dir", awkward, "--store-url", awkward.as_uri())
        done = user.run("icf", "add", "study", visit, strange, *at)
        assert done.returncode == 0, done.stderr


def test_a_signal_stops_it_and_the_next_run_completes_it(
    world: World,
) -> None:
    container, store, incoming = world
    blocks = os.urandom(1 << 20)
    for number in range(300):
        (incoming / f"large{number}").write_bytes(blocks)
    user = container.bound(store, incoming)
    command = ("icf", "archive", "study", "visit", incoming, "-o", store)
    part = store / "study" / ".visit_dicom.tar.part"
    stops = [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
    for number, code in [*stops * 3, (signal.SIGKILL, -9)]:
        with user.start(*command) as process:
            deadline = time.monotonic() + 60
            while not part.exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            if number == signal.SIGKILL:
                process.kill()
            else:
                os.killpg(process.pid, number)  # as a terminal does
            said = process.communicate(timeout=60)[1]
            assert process.returncode == code, said
            assert said == ("" if number == signal.SIGKILL else "icf: stopped\n")
        if number != signal.SIGKILL:
            assert not part.exists()
        assert not (store / "study" / "visit_dicom.tar").exists()
    deadline = time.monotonic() + 60
    while (done := user.run(*command)).returncode == 7 and time.monotonic() < deadline:
        time.sleep(0.1)  # until what was killed has let go of the lock
    assert done.returncode == 0, done.stderr
    assert not part.exists()
    tarball = store / "study" / "visit_dicom.tar"
    assert tarball.with_suffix(".tar.md5sum").read_text().split()[0] == md5(tarball)


def test_the_wrapper(world: World) -> None:
    container, store, incoming = world
    conf = container.folder / "icf-utils.conf"
    conf.write_text(
        f"ICF_IMAGE={container.image}\nICF_BIND={shlex.quote(str(incoming))}:/incoming:ro\n"
    )
    command = ["icf", "add", "study", "visit", "/incoming", "--store-url", "file:///x"]
    environment = {
        "PATH": f"{Path(container.apptainer).parent}:/usr/bin:/bin",
        "ICF_CONF": str(conf),
        "ICF_STORE_DIR": str(store),
    }
    for made in ("made", "was there"):
        done = subprocess.run(
            [*container.prefix, TOP / "singularity" / "icf-utils", *command],
            cwd="/",
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert f"dataset {made}" in done.stdout
    assert {path.stat().st_uid for path in (store / "study").iterdir()} == {container.user}


@ORDINARY
def test_check_finds_nothing_wrong(container: Container) -> None:
    shutil.copytree(
        TOP / "singularity", container.folder.parent / "singularity", dirs_exist_ok=True
    )
    folder = container.folder / "our store"
    folder.mkdir()
    os.chown(folder, container.user, -1)
    done = subprocess.run(
        [*container.prefix, container.folder.parent / "singularity" / "check", container.image,
         folder],
        env={"PATH": f"{Path(container.apptainer).parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert f"version: {icf_tools.__version__}\n" in done.stdout
    assert re.search(r"^\d+ ms to start icf", done.stdout, re.MULTILINE)
    assert list(folder.iterdir()) == []


@ORDINARY
def test_check_tells_how_the_image_is_signed(
    container: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPTAINER_KEYSDIR", str(tmp_path / "keys"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    image = tmp_path / "signed.sif"
    shutil.copy(container.image, image)

    def check(image: Path, program: str = "exit 1") -> subprocess.CompletedProcess[str]:
        # what runs the image does not matter here
        only_verify = tmp_path / "bin" / "apptainer"
        only_verify.parent.mkdir(exist_ok=True)
        only_verify.write_text(
            f'#!/bin/sh\n[ "$1" != verify ] || exec {container.apptainer} "$@"\n{program}\n'
        )
        only_verify.chmod(0o755)
        return subprocess.run(
            [TOP / "singularity" / "check", image],
            env=os.environ | {"PATH": f"{only_verify.parent}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )

    assert "\nsignature: none\n" in f"\n{check(image).stdout}"
    key = ["--name", "Tester", "--email", "tester@example.org", "--password", "", "--push=false"]
    for command in (["key", "newpair", "--comment", "test", *key], ["sign", str(image)]):
        subprocess.run([container.apptainer, *command], check=True, capture_output=True)
    assert "ok    signed by a key of this user's key ring\n" in check(image).stdout
    with image.open("r+b") as file:
        file.seek(-5_000_000, os.SEEK_END)
        file.write(b"changed")
    changed = check(image)
    assert (changed.returncode, "FAIL  it is not what was signed" in changed.stdout) == (1, True)
    monkeypatch.setenv("APPTAINER_KEYSDIR", str(tmp_path / "other keys"))
    assert "signature: by a key that is not in this user's key ring\n" in check(image).stdout
