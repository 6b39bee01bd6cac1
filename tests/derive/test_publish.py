"""icf derive in the store: versions, what is done again, and what a kill leaves."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from icf_tools.dataset.branch import PathClash
from icf_tools.dataset.versions import read_versions, tree
from icf_tools.dataset.write import OtherDeposit, dataset
from icf_tools.derive.asked import Asked, NoPreviews
from icf_tools.derive.converters import CONVERTERS
from icf_tools.derive.make import NoSeries
from icf_tools.derive.publish import Derived, LostReport, derive, wanted
from icf_tools.derive.report import Converter, Target, read_report
from icf_tools.index.deposit import OtherTarball
from icf_tools.index.scan import NoTarball
from icf_tools.model.dicom import RECORDED
from icf_tools.model.visit import StorePath, Visit
from icf_tools.pipeline import add
from icf_tools.settings import Settings
from icf_tools.store.files import VisitLocked, locked
from tests.derive.series import Series

URL = "https://data.example.org/store"
NIFTI = ["nifti/001_protocol-1.json", "nifti/001_protocol-1.nii.gz"]


@pytest.fixture
def visit(store: StorePath, tmp_path: Path) -> StorePath:
    """A deposited visit with a series of two volumes and one that lacks an image."""
    known = {"BodyPartExamined": "BRAIN", "ManufacturerModelName": "Magnet"}
    Series.of(2).write(tmp_path / "in" / "a", 1, **known)
    Series.of().write(tmp_path / "in" / "b", 2)
    (tmp_path / "in" / "b" / "im0002.dcm").unlink()
    add(tmp_path / "in", store, store_url=URL, tags=RECORDED)
    return store


def run(store: StorePath, *targets: Target, **given: Any) -> Derived:
    numbers = given.pop("numbers", ())
    settings = Settings(**given)
    return derive(store, wanted(store, settings, targets, numbers, None), None)


def content(store: StorePath) -> dict[str, bytes]:
    """By path, all that the study has, without what is hidden."""
    files = (path for path in store.study.rglob("*") if path.is_file())
    return {
        str(path.relative_to(store.study)): path.read_bytes()
        for path in files
        if path.name[0] != "."
    }


def git(store: StorePath, folder: Path, *arguments: str) -> str:
    if not folder.exists():
        with zipfile.ZipFile(store.repo_export) as archive:
            archive.extractall(folder)
    command = ["git", f"--git-dir={folder}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_new_version_has_what_was_made(visit: StorePath, tmp_path: Path) -> None:
    [first] = read_versions(visit.versions_json)
    derived = run(visit)
    assert [entry.status for entry in derived.series] == ["verified", "failed"]
    versions = read_versions(visit.versions_json)
    assert versions[0] == first
    assert versions[1].timestamp == first.timestamp + 1
    assert versions[1].commits == derived.dataset.commits
    assert sorted(tree(versions)) == [*NIFTI, "series.json"]
    for path, key in tree(versions).items():
        assert (visit.annex / key).stat().st_size == int(key.split("-s")[1].split("--")[0]), path
    report = (visit.annex / tree(versions)["series.json"]).read_bytes()
    assert visit.series_json.read_bytes() == report
    assert sorted(os.listdir(visit.annex)) == sorted(tree(versions).values())
    bare = tmp_path / "bare"
    assert git(visit, bare, "fsck", "--strict", "--full") == ""
    for branch in ("master", "git-annex"):
        ids = git(visit, bare, "rev-list", branch).split()
        assert ids == [versions[1].commits[branch], first.commits[branch]]
        when = git(visit, bare, "log", "-1", "--format=%at %ct", branch)
        assert when == f"{first.timestamp + 1} {first.timestamp + 1}\n"


def test_run_again_there_is_nothing_to_do(
    visit: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(visit)
    before = content(visit)
    for name in list(CONVERTERS):
        monkeypatch.setitem(CONVERTERS, name, lambda *_: pytest.fail("it was converted again"))
    again = run(visit)
    assert not again.dataset.made
    assert content(visit) == before
    assert [entry.status for entry in again.series] == ["verified", "failed"]


def test_same_tarball_same_bytes(visit: StorePath, tmp_path: Path) -> None:
    other = StorePath(tmp_path / "elsewhere", visit.visit)
    shutil.copytree(visit.study, other.study)
    run(visit)
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
    before = os.umask(0o077)
    try:
        asked = wanted(other, Settings(), (), (), None)
        derive(other, asked, URL, jobs=3)
    finally:
        os.umask(before)
    assert content(other) == content(visit)


def newer(monkeypatch: pytest.MonkeyPatch, mark: bytes) -> None:
    """Another version of the converter, which writes something else into the JSON."""
    real = CONVERTERS["dcm2niix"]

    def run(source: Path, made: Path) -> None:
        real(source, made)
        for path in made.glob("*.json"):
            path.write_bytes(path.read_bytes().replace(b'"EchoTime"', b'"%b"' % mark))

    monkeypatch.setitem(CONVERTERS, "dcm2niix", run)
    for module in ("asked", "convert", "make"):
        monkeypatch.setattr(
            f"icf_tools.derive.{module}.version_of", lambda name: f"{name} {mark.decode()}"
        )


def test_a_newer_converter_is_a_new_version(
    visit: StorePath, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run(visit)
    newer(monkeypatch, b"RepetitionTimeExcitation")
    assert run(visit).dataset.version == 3
    first, second, third = read_versions(visit.versions_json)
    assert sorted(third.change.added) == [NIFTI[0], "series.json"]  # the volume is the same
    assert third.timestamp == first.timestamp + 2
    old = second.change.added[NIFTI[0]]
    assert b'"EchoTime"' in (visit.annex / old).read_bytes()
    shown = git(visit, tmp_path / "bare", "ls-tree", "-r", "--name-only", "git-annex")
    for key in (old, third.change.added[NIFTI[0]]):
        assert f"/{key}.log.web\n" in shown
    assert not run(visit).dataset.made


def test_what_was_right_stays_where_a_newer_converter_fails(
    visit: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(visit)
    before = content(visit)
    newer(monkeypatch, b"x")
    for name in list(CONVERTERS):
        monkeypatch.setitem(CONVERTERS, name, lambda *_: None)
    derived = run(visit, numbers=(1,))
    assert [entry.status for entry in derived.series] == ["failed"]
    assert content(visit) == before
    assert read_report(visit.series_json) == derived.report


def test_series_by_number(visit: StorePath) -> None:
    run(visit, numbers=(2,))
    report = read_report(visit.series_json)
    assert report is not None
    assert [(entry.number, entry.status) for entry in report.entries] == [(2, "failed")]
    run(visit, numbers=(1,))
    _, second, third = read_versions(visit.versions_json)
    assert third.change.run["cmd"] == "icf convert icf/visit_dicom.tar --to nifti --series 1"
    assert third.change.run["inputs"] == ["icf/visit_dicom.tar", "series.json"]
    assert (second.change.run["exit"], third.change.run["exit"]) == (10, 0)
    report = read_report(visit.series_json)
    assert report is not None
    assert [entry.number for entry in report.entries] == [1, 2]
    with pytest.raises(NoSeries):
        run(visit, numbers=(3,))
    assert len(read_versions(visit.versions_json)) == 3


def test_the_deposit_is_made_again_with_all_versions(visit: StorePath) -> None:
    run(visit, numbers=(2,))
    run(visit)
    before = content(visit)
    for gone in ([visit.refs], [visit.refs, visit.repo_export]):
        for path in gone:
            path.unlink()
        assert dataset(visit, None).made
        assert content(visit) == before
    assert not dataset(visit, None).made


def test_a_deposit_of_an_earlier_version_is_brought_up_to_date(visit: StorePath) -> None:
    """As a kill leaves it between the files."""
    stages = [content(visit)]
    for numbers in ((2,), (1,)):
        run(visit, numbers=numbers)
        stages.append(content(visit))
    for stage in stages[:2]:
        for behind in ([visit.refs], [visit.refs, visit.repo_export]):
            for path in behind:
                path.write_bytes(stage[path.name])
            assert dataset(visit, None).version == 3
            assert content(visit) == stages[2]


def test_a_report_that_is_lost_comes_from_its_other_place(visit: StorePath) -> None:
    run(visit)
    before = content(visit)
    key = tree(read_versions(visit.versions_json))["series.json"]
    visit.series_json.unlink()
    assert not run(visit).dataset.made
    (visit.annex / key).write_bytes(b"x")
    assert not run(visit).dataset.made
    assert content(visit) == before
    shutil.rmtree(visit.annex)
    assert not run(visit).dataset.made
    assert content(visit) == before
    (visit.annex / key).unlink()
    visit.series_json.write_bytes(b"{}")
    with pytest.raises(LostReport, match=r"neither MD5E-.* nor visit_metadata_series\.json"):
        run(visit)


def test_content_that_is_lost_is_made_again(visit: StorePath) -> None:
    run(visit)
    before = content(visit)
    for path in NIFTI:
        (visit.annex / tree(read_versions(visit.versions_json))[path]).unlink()
    assert not run(visit).dataset.made
    assert content(visit) == before


KILL_AT = ("fsync", "replace", "link")


@pytest.mark.slow
@pytest.mark.parametrize("call", KILL_AT)
@pytest.mark.parametrize("count", range(0, 12, 2))
def test_killed_at_any_moment_it_is_completed(
    visit: StorePath, tmp_path: Path, call: str, count: int
) -> None:
    whole = StorePath(tmp_path / "whole", visit.visit)
    shutil.copytree(visit.study, whole.study)
    run(whole)
    script = f"""
import os, pathlib, signal, sys
left = {count}
def dying(real):
    def call(*given, **named):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **named)
    return call
os.{call} = dying(os.{call})
sys.argv = ["icf", "derive", "study", "visit", "-o", {str(visit.root)!r}]
from icf_tools.cli.app import main
main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode in (-signal.SIGKILL, 10), done.stderr
    for path, found in content(visit).items():
        if not path.endswith(("versions.json", "refs", "export")):
            assert content(whole).get(path, found) == found
    run(visit)
    assert content(visit) == content(whole)
    assert [p.name for p in visit.study.iterdir() if p.name[0] == "."] == [".visit.lock"]


def test_refusals(visit: StorePath, tmp_path: Path) -> None:
    with pytest.raises(NoPreviews, match="previews: true"):
        run(visit, Target.PREVIEW)
    with pytest.raises(OtherDeposit, match="store URL"):
        derive(visit, Asked(), "https://other.example.org")
    with locked(visit):
        script = "from icf_tools.cli.app import main; main()"
        command = [sys.executable, "-c", script, "derive", "study", "visit", "-o", str(visit.root)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, VisitLocked(visit.visit).args[0]) == (7, visit.visit)
    tarball = visit.tarball.read_bytes()
    flipped = bytearray(tarball)
    flipped[2000] ^= 1
    visit.tarball.write_bytes(flipped)
    with pytest.raises(OtherTarball):
        run(visit)
    visit.tarball.unlink()
    with pytest.raises(NoTarball):
        run(visit)
    assert len(read_versions(visit.versions_json)) == 1
    assert not visit.annex.exists()


def test_a_tarball_with_a_folder_of_the_same_name(tmp_path: Path) -> None:
    """The first tools, and others, call the folders in a tarball as they like."""
    folder = Series.of().write(tmp_path / "nifti")
    subprocess.run(["tar", "cf", tmp_path / "visit.tar", "-C", tmp_path, "nifti"], check=True)
    (folder / "im0001.dcm").rename(tmp_path / "nifti" / "001_protocol-1.json")
    clashing = tmp_path / "clash.tar"
    subprocess.run(["tar", "cf", clashing, "-C", tmp_path, "nifti"], check=True)
    for name, tarball in (("one", tmp_path / "visit.tar"), ("two", clashing)):
        store = StorePath(tmp_path / "store", Visit("study", name))
        store.study.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tarball, store.tarball)
        from icf_tools.index.deposit import index

        index(store)
        dataset(store, URL)
        if name == "one":
            assert run(store).dataset.version == 2
        else:
            with pytest.raises(PathClash, match=r"nifti/001_protocol-1\.json twice"):
                run(store)
            assert len(read_versions(store.versions_json)) == 1


def test_what_the_study_denies_is_in_no_file(visit: StorePath) -> None:
    run(visit)
    text = (visit.annex / tree(read_versions(visit.versions_json))[NIFTI[0]]).read_text()
    assert all(f'"{word}"' in text for word in ("BodyPart", "EchoTime", "ManufacturersModelName"))
    deny = ("BodyPartExamined", "EchoTime", "ManufacturerModelName", "ProtocolName",
            "SeriesDescription")  # fmt: skip
    run(visit, deny=deny)
    paths = tree(read_versions(visit.versions_json))
    assert sorted(paths) == ["icf/derive.json", "nifti/001.json", "nifti/001.nii.gz", "series.json"]
    text = (visit.annex / paths["nifti/001.json"]).read_text()
    for word in ("BodyPart", "EchoTime", "Model", "protocol", "mprage"):
        assert word not in text
    settled = json.loads((visit.annex / paths["icf/derive.json"]).read_bytes())
    assert settled == {"visit": "study/visit", "deny": sorted(deny)}
    command = read_versions(visit.versions_json)[-1].change.run["cmd"]
    assert command.endswith("--to nifti --settings icf/derive.json")
    run(visit)
    assert "icf/derive.json" not in tree(read_versions(visit.versions_json))


def test_a_converter_that_was_named_holds_for_that_command(visit: StorePath) -> None:
    """Else `datalad rerun` of a later version would make other files than that has."""
    only = wanted(visit, Settings(), (), (), Converter.DICOM2NIFTI)
    assert derive(visit, only, None).series[0].converter.startswith("dicom2nifti ")
    assert not derive(visit, only, None).dataset.made
    command = read_versions(visit.versions_json)[-1].change.run["cmd"]
    assert command == "icf convert icf/visit_dicom.tar --to nifti --converter dicom2nifti"
    assert run(visit).series[0].converter.startswith("dcm2niix ")


def test_two_at_once(visit: StorePath) -> None:
    command = [sys.executable, "-m", "icf_tools", "derive", "study", "visit", "-o", str(visit.root)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    codes = sorted(each.wait() for each in both)
    for each in both:
        assert each.stderr is not None
        each.stderr.close()
    assert codes in ([7, 10], [10, 10])
    assert len(read_versions(visit.versions_json)) == 2
