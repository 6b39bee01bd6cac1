"""The commands of the container's pages run one after the other."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import dicoms
from tests.singularity.conftest import TOP
from tests.test_docs import PASSWORD, blocks, credential, run_script, world

pytestmark = pytest.mark.annex

EXECUTED = {  # page: some of what its commands must say
    "container.md": (
        "usage: singularity run -B DIR icf.sif",
        "tarball was there",
        "dataset made: version 1",
        "my-study/P000123\t10240 bytes\tcomplete",
        "get(ok)",
        "tarball made",
        "my-study/P000124\t10240 bytes\tcomplete",
        "download(ok)",
        "metadata made",
    ),
    "../singularity/README.md": (
        "org.opencontainers.image.revision: ",
        "ok    tests itself, with --containall",
        "Verified signature(s)",
        "icf 0.1.0",
    ),
}


@pytest.mark.parametrize("name", EXECUTED)
def test_commands_of_the_page_run(
    name: str,
    apptainer: str,
    built: Path,
    tmp_path: Path,
    require: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = "\n".join(blocks(name, "bash"))
    work = tmp_path / "work"
    work.mkdir()
    (work / "singularity").symlink_to(TOP / "singularity")
    shutil.copy(built, work / "icf.sif")
    installed = tmp_path / "usr" / "bin"
    installed.mkdir(parents=True)
    (installed / "singularity").symlink_to(apptainer)
    sudo = installed / "sudo"
    sudo.write_text('#!/bin/sh\nexec "$@"\n')
    sudo.chmod(0o755)
    conf = tmp_path / "icf-utils.conf"
    if name == "container.md":
        (installed / "icf-utils").symlink_to(TOP / "singularity" / "icf-utils")
        conf.write_text(f"ICF_IMAGE={work}/icf.sif\n")
    else:
        monkeypatch.setenv("ICF_IMAGE", f"{tmp_path}/usr/lib/icf/icf.sif")
    monkeypatch.setenv("ICF_CONF", str(conf))
    monkeypatch.setenv("PATH", f"{installed}:{Path(apptainer).parent}", prepend=os.pathsep)
    (tmp_path / "home").mkdir()
    script += "\n: https://data.example.org/store\n"  # the page relies on a store that is served
    with world(tmp_path, script, require, tarball_only=True) as names:
        elsewhere = f"export APPTAINER_KEYSDIR={tmp_path}/keys\n"  # the image is taken there
        here = {
            "/usr/local": f"{tmp_path}/usr",
            "/etc/icf-utils.conf": str(conf),
            "apptainer key import": f"{elsewhere}apptainer key import",
            **names,
        }
        said = run_script(script, here, work, credential(names["https://data.example.org"]))
    assert [wanted for wanted in EXECUTED[name] if wanted not in said] == [], said
    assert PASSWORD not in said


@pytest.fixture
def site(apptainer: str, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """icf-utils is installed; three visits came in, and one is still being copied."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "icf-utils").symlink_to(TOP / "singularity" / "icf-utils")
    for visit in ("P1", "P2", ".P3", "P 4"):
        dicoms.visit(tmp_path / "incoming" / "my-study" / visit)
    series = tmp_path / "incoming" / "my-study" / "P2" / "series_1"
    series.rename(series.with_name("of Mustermann"))
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "site.yaml").write_text("store_url: https://data.example.org/store\n")
    conf = tmp_path / "icf-utils.conf"
    conf.write_text(f"ICF_IMAGE={built}\nICF_BIND={tmp_path}/store,{tmp_path}/incoming\n")
    monkeypatch.setenv("ICF_CONF", str(conf))
    path = f"{programs}{os.pathsep}{Path(apptainer).parent}"
    monkeypatch.setenv("PATH", f"{path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return tmp_path


def run_as_script(number: int, site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One of the README's scripts, with the folders of the site."""
    text = blocks("../singularity/README.md", "sh")[number].replace("/data/", f"{site}/")
    (site / "script").write_text(text)
    (site / "script").chmod(0o755)
    return subprocess.run(
        [site / "script", *arguments], cwd="/", capture_output=True, text=True, check=False
    )


def test_what_cron_runs(site: Path) -> None:
    done = run_as_script(0, site, "my-study")
    assert done.returncode == 10
    assert done.stderr == ""
    first, second = done.stdout.splitlines()  # P1 went well, and .P3 is not looked at
    assert first.startswith("my-study P 4, exit code 2: icf: the visit identifier 'P 4' is not ")
    assert second.startswith("my-study P2, exit code 6: icf: 3 of 6 files hold the PatientName ")
    made = {path.name for path in (site / "store" / "my-study").glob("*--refs")}
    assert made == {"P1_XDLRA--refs"}
    assert run_as_script(0, site, "my-study").stdout == done.stdout
    assert run_as_script(0, site, "no-study").returncode == 3


def test_what_slurm_runs(site: Path) -> None:
    done = run_as_script(1, site, "P1")
    assert done.returncode == 0, done.stderr
    assert "dataset made" in done.stdout
    assert run_as_script(1, site, "P2").returncode == 6
    assert run_as_script(1, site, "P9").returncode == 3
