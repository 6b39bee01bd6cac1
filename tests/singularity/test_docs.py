"""The commands of the container's pages run one after the other."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

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
