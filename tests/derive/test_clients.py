"""What is made of a visit, as lab members get it with stock DataLad."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import pytest

from icf_tools.archive.build import build
from icf_tools.dataset.versions import read_versions
from icf_tools.derive.converters import version_of
from icf_tools.index.deposit import index
from icf_tools.model.visit import StorePath, Visit
from tests.conftest import BIN
from tests.dataset.clients import Client, Deposit, deposit, icf, md5
from tests.derive.series import Series
from tests.servers import WebServer

pytestmark = pytest.mark.annex

MADE = {"nifti/001_protocol-1.json", "nifti/001_protocol-1.nii.gz", "series.json"}
MADE |= {"nifti/002_protocol-2.json", "nifti/002_protocol-2.nii.gz"}


def source(folder: Path) -> Path:
    """A visit with two series."""
    for number in (1, 2):
        Series.of(number).write(folder / str(number), number)
    return folder


def derive(made: Deposit, *options: str) -> None:
    visit = made.store.visit
    icf("derive", visit.study, visit.visit, *options, store_dir=made.store.root)


def in_store(store: StorePath, key: str) -> str:
    return md5(store.annex / key)


def shape(path: Path) -> tuple[int, ...]:
    return nibabel.Nifti1Image.from_filename(path).shape


@pytest.mark.oldest
def test_clones_old_and_new_get_what_was_made(client: Client, tmp_path: Path) -> None:
    made = deposit(tmp_path / "store", source(tmp_path / "in"), f"file://{tmp_path}/store")
    old = client.clone(made.clone_url, tmp_path / "old")
    derive(made)
    new = client.clone(made.clone_url, tmp_path / "new")
    assert set(old.links) | MADE == set(new.links)
    old.run("datalad", "update", "--how", "merge")
    for clone in (old, new):
        assert set(clone.links) == {made.tarball, *made.expected, *MADE}
        clone.get("nifti", "series.json")
        assert clone.here == MADE
        for path in MADE:
            key = clone.annex("lookupkey", path).strip()
            assert md5(clone.path / path) == in_store(made.store, key)
            assert clone.urls(path) == [f"{made.store_url}/study/visit_annex/{key}"]
        assert shape(clone.path / "nifti/002_protocol-2.nii.gz") == (6, 5, 4, 2)
        clone.annex("drop", "nifti")  # the store has a copy
        assert clone.here == {"series.json"}
        clone.get(".")
        clone.fsck()
        assert clone.run("git", "status", "--porcelain") == ""
    assert old.run("git", "rev-parse", "HEAD") == new.run("git", "rev-parse", "HEAD")


def test_over_http_with_the_credential_of_the_tarball(
    client: Client, web: WebServer, tmp_path: Path
) -> None:
    web.allow("study", "member", "secret")
    made = deposit(web.root, source(tmp_path / "in"), web.url, "study/1+2=3,x")
    derive(made, "--series", "1")
    client.set_credential("lab", web.realm("study"), "member", "secret")
    clone = client.clone(made.clone_url, tmp_path / "clone")
    clone.get("nifti", f"{made.store.visit.prefix}/2")
    assert (clone.path / "nifti/001_protocol-1.nii.gz").stat().st_size > 0
    fetched = [path for user, path, status in web.served() if (user, status) == ("member", "200")]
    assert any("_annex/MD5E-" in path and path.endswith(".nii.gz") for path in fetched)
    derive(made)
    clone.run("datalad", "update", "--how", "merge")
    clone.get("nifti")
    assert (clone.path / "nifti/002_protocol-2.nii.gz").stat().st_size > 0
    refused = Client.new(tmp_path / "nobody").attempt(
        "datalad", "clone", made.clone_url, tmp_path / "not", cwd=tmp_path
    )
    assert refused.returncode != 0


def with_icf(client: Client) -> Client:
    """One who has installed this package."""
    client.program("icf", f'#!/bin/sh\nexec {sys.executable} {BIN / "icf"} "$@"\n')
    return client


def test_rerun_makes_the_same_files(client: Client, tmp_path: Path) -> None:
    made = deposit(tmp_path / "store", source(tmp_path / "in"), f"file://{tmp_path}/store")
    derive(made, "--series", "2")
    (made.store.study / "study.yaml").write_text("deny: [EchoTime]\n")
    derive(made, "-j", "2")
    clone = with_icf(client).clone(made.clone_url, tmp_path / "clone")
    head = clone.run("git", "rev-parse", "HEAD")
    for _ in range(2):  # without content, and with all of it
        clone.run("datalad", "rerun")
        assert clone.run("git", "rev-parse", "HEAD") == head
        assert clone.run("git", "status", "--porcelain") == ""
        assert clone.here >= MADE
    # all of it again, beginning with the first version
    clone.run("datalad", "rerun", "--onto", "", "--branch", "again", "--since", "HEAD~3")
    assert clone.run("git", "diff", head.strip()) == ""
    message = clone.run("git", "log", "-1", "--format=%B", head.strip())
    record = json.loads(message.partition(" ===\n")[2].partition("\n^^^")[0])
    assert version_of("dcm2niix") in record["tools"]
    assert record["cmd"] == "icf convert icf/visit_dicom.tar --to nifti --settings icf/derive.json"


def test_a_deposit_of_the_first_tools_goes_on(client: Client, tmp_path: Path) -> None:
    """With random ids, of which nothing is on record but the pair itself."""
    store = StorePath(tmp_path / "store", Visit("study", "visit"))
    build(source(tmp_path / "in"), store)
    index(store)
    module = [sys.executable, "-m", "benchmarks.addurls_way", str(store.root)]
    (Path.home() / ".gitconfig").write_text("[user]\n\tname = T\n\temail = t@example.org\n")
    subprocess.run(module, cwd=Path(__file__).parents[2], check=True, capture_output=True)
    theirs = store.refs.read_text()
    made = Deposit(store, tmp_path / "in", f"file://{store.root}")
    old = client.clone(made.clone_url, tmp_path / "old")
    icf("derive", "study", "visit", store_dir=store.root, store_url=made.store_url)
    first, second = read_versions(store.versions_json)
    assert all(tip in theirs for tip in first.commits.values())
    assert second.timestamp == first.timestamp + 1
    old.run("datalad", "update", "--how", "merge")
    assert old.run("git", "rev-parse", "HEAD").strip() == second.commits["master"]
    with_icf(client)
    old.run("datalad", "rerun")
    assert old.run("git", "rev-parse", "HEAD").strip() == second.commits["master"]
    new = client.clone(made.clone_url, tmp_path / "new")
    for clone in (old, new):
        clone.get(".")
        clone.fsck()
    icf("derive", "study", "visit", "--to", "minc", store_dir=store.root)
    assert "made: version 3" not in icf("derive", "study", "visit", store_dir=store.root)


def test_rerun_where_a_series_fails(client: Client, tmp_path: Path) -> None:
    folder = source(tmp_path / "in")
    os.unlink(folder / "2" / "im0003.dcm")
    made = deposit(tmp_path / "store", folder, f"file://{tmp_path}/store")
    visit = made.store.visit
    command = [sys.executable, "-m", "icf_tools", "derive", visit.study, visit.visit]
    done = client.attempt(*command, "-o", made.store.root, cwd=tmp_path)
    assert done.returncode == 10, done.stderr
    clone = with_icf(client).clone(made.clone_url, tmp_path / "clone")
    head = clone.run("git", "rev-parse", "HEAD")
    clone.run("datalad", "rerun")
    assert clone.run("git", "rev-parse", "HEAD") == head


def test_real_images(client: Client, test_data: Path, tmp_path: Path) -> None:
    root, url = tmp_path / "store", f"file://{tmp_path}/store"
    (root / "study").mkdir(parents=True)
    (root / "study" / "study.yaml").write_text("deny: [ProtocolName]\n")
    folders = {"qa": "dcm_qa_nih/In", "structural": "example-dicom-structural/dicoms"}
    for visit, (name, folder) in enumerate(folders.items()):
        made = deposit(root, test_data / folder, url, f"study/{name}")
        derive(made, "-j", "2")
        clone = client.clone(made.clone_url, tmp_path / name)
        clone.get("nifti", "series.json")
        report = json.loads((clone.path / "series.json").read_bytes())
        assert {each["status"] for each in report["series"]} == {"verified"}
        assert len(report["series"]) == (8, 1)[visit]
        files = sorted(path for path in clone.links if path.endswith(".nii.gz"))
        assert len(files) == (8, 1)[visit]
        shapes = {shape(clone.path / path) for path in files}
        assert shapes == ({(72, 72, 5, 2), (64, 64, 15, 10)}, {(274, 384, 96)})[visit]
