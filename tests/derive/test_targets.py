"""icf derive to MINC, previews and BIDS."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped,unused-ignore]
import pytest

from icf_tools.dataset.versions import read_versions, tree
from icf_tools.derive import minc
from icf_tools.derive.asked import Asked, NoRules, NothingToScale, Settled, WholeVisit
from icf_tools.derive.folder import convert_tarball
from icf_tools.derive.publish import Derived, derive, wanted
from icf_tools.derive.report import Scale, Target
from icf_tools.derive.volumes import Mismatch
from icf_tools.model.bids import NoLabels
from icf_tools.model.bids_plan import plan_of
from icf_tools.model.dicom import RECORDED
from icf_tools.model.visit import StorePath, Visit
from icf_tools.pipeline import add
from icf_tools.settings import Settings
from tests.derive.series import Series

URL = "https://data.example.org/store"
T1 = {"match": {"ProtocolName": "protocol 1"}, "datatype": "anat", "suffix": "T1w"}
BOLD = {
    "match": {"SeriesDescription": {"re": "mprage (?P<run>2)"}},
    "datatype": "func",
    "suffix": "bold",
    "entities": {"task": "rest"},
}
PLAN = plan_of({"rules": [T1, BOLD]})


def deposited(root: Path, visit: str, source: Path, **elements: Any) -> StorePath:
    """A visit with a volume, a time series, and one that no rule knows."""
    store = StorePath(root, Visit("study", visit))
    for number, volumes in ((1, 1), (2, 3), (3, 1)):
        Series.of(volumes).write(source / str(number), number, **elements)
    add(source, store, store_url=URL, tags=RECORDED)
    return store


@pytest.fixture
def store(tmp_path: Path) -> StorePath:
    return deposited(tmp_path / "store", "visit", tmp_path / "in")


def run(store: StorePath, *targets: Target, scale: Scale | None = None, **settings: Any) -> Derived:
    asked = wanted(store, Settings(**settings), targets, (), None, scale)
    return derive(store, asked, None, jobs=2)


def paths(store: StorePath) -> dict[str, str]:
    return tree(read_versions(store.versions_json))


def content(store: StorePath, path: str) -> bytes:
    return (store.annex / paths(store)[path]).read_bytes()


def test_bids_is_the_same_content_at_another_place(store: StorePath) -> None:
    derived = run(store, Target.BIDS, bids=PLAN)
    there = paths(store)
    assert sorted(path for path in there if path.startswith("bids/")) == [
        "bids/README",
        "bids/dataset_description.json",
        "bids/participants.json",
        "bids/participants.tsv",
        "bids/sub-visit/anat/sub-visit_T1w.json",
        "bids/sub-visit/anat/sub-visit_T1w.nii.gz",
        "bids/sub-visit/func/sub-visit_task-rest_run-2_bold.json",
        "bids/sub-visit/func/sub-visit_task-rest_run-2_bold.nii.gz",
    ]
    for bids, nifti in (
        ("anat/sub-visit_T1w.nii.gz", "001_protocol-1.nii.gz"),
        ("anat/sub-visit_T1w.json", "001_protocol-1.json"),
        ("func/sub-visit_task-rest_run-2_bold.nii.gz", "002_protocol-2.nii.gz"),
    ):
        assert there[f"bids/sub-visit/{bids}"] == there[f"nifti/{nifti}"]
    sidecar = json.loads(content(store, "bids/sub-visit/func/sub-visit_task-rest_run-2_bold.json"))
    assert sidecar["TaskName"] == "rest"
    assert {entry.number: entry.lacking for entry in derived.series} == {
        1: {},
        2: {},
        3: {"bids": "no rule matches it"},
    }
    assert all(entry.is_right for entry in derived.series)
    assert not run(store, bids=PLAN).dataset.made


def test_a_field_that_no_series_has_is_told(store: StorePath) -> None:
    rule = T1 | {"match": {"ProtcolName": "protocol 1"}}
    derived = run(store, Target.BIDS, bids=plan_of({"rules": [rule]}))
    assert {entry.lacking["bids"] for entry in derived.series} == {
        "no rule matches it; no series of the visit has ProtcolName"
    }


def test_other_rules_move_the_files(store: StorePath) -> None:
    run(store, Target.BIDS, bids=PLAN)
    before = {path: key for path, key in paths(store).items() if path.startswith("nifti/")}
    derived = run(store, bids=plan_of({"rules": [T1 | {"suffix": "T2w"}]}))
    assert derived.dataset.made
    assert "bids/sub-visit/anat/sub-visit_T2w.nii.gz" in paths(store)
    assert not any("T1w" in path or "bold" in path for path in paths(store))
    assert before.items() <= paths(store).items()
    last = read_versions(store.versions_json)[-1]
    assert "bids/sub-visit/anat/sub-visit_T1w.json" in last.change.gone
    run(store)  # no rules any more
    assert sorted(paths(store)) == sorted([*before, "series.json"])


def test_repeated_images_are_runs_whatever_they_were_made_of(tmp_path: Path) -> None:
    store = StorePath(tmp_path / "store", Visit("study", "visit"))
    for number, kind in ((1, ["ORIGINAL", "PRIMARY"]), (2, ["DERIVED", "PRIMARY", "M", "MOCO"])):
        Series.of(3).write(tmp_path / "in" / str(number), number, ImageType=kind)
    add(tmp_path / "in", store, store_url=URL, tags=RECORDED)
    every = {key: value for key, value in BOLD.items() if key != "match"}
    run(store, Target.BIDS, bids=plan_of({"rules": [{"match": {"Volumes": 3}, **every}]}))
    names = [path.rpartition("/")[2] for path in paths(store) if path.endswith("bold.nii.gz")]
    assert sorted(names) == [
        "sub-visit_task-rest_run-1_bold.nii.gz",
        "sub-visit_task-rest_run-2_bold.nii.gz",
    ]


def test_bids_that_cannot_be(store: StorePath) -> None:
    with pytest.raises(NoRules):
        run(store, Target.BIDS)
    with pytest.raises(WholeVisit):
        wanted(store, Settings(bids=PLAN), [Target.BIDS], (1,), None)
    with pytest.raises(NoLabels):
        run(store, Target.BIDS, bids=plan_of({"visit": "(?P<subject>P.*)", "rules": [T1]}))
    assert not store.annex.exists()


def test_previews_are_there_as_long_as_they_may_be(store: StorePath) -> None:
    run(store, Target.PREVIEW, previews=True)
    found = {path for path in paths(store) if path.startswith("preview/")}
    stems = ("001_protocol-1", "002_protocol-2", "003_protocol-3")
    assert found == {
        f"preview/{stem}{end}" for stem in stems for end in (".json", ".webp", "_thumb.webp")
    }
    assert content(store, "preview/001_protocol-1.webp")[8:12] == b"WEBP"
    assert not run(store, Target.PREVIEW, previews=True).dataset.made
    run(store)
    assert not any(path.startswith("preview/") for path in paths(store))
    assert not run(store).dataset.made


def window(store: StorePath, name: str) -> tuple[float, float]:
    told = json.loads(content(store, f"preview/{name}.json"))["window"]
    return told["low"], told["high"]


def test_previews_of_a_study_compare(store: StorePath, tmp_path: Path) -> None:
    brighter = {"RescaleSlope": "2", "RescaleIntercept": "100", "RescaleType": "US"}
    other = deposited(tmp_path / "store", "visit2", tmp_path / "other", **brighter)
    for each in (other, store):
        run(each, Target.PREVIEW, scale=Scale.STUDY, previews=True)
    own = window(store, "001_protocol-1")
    assert window(other, "001_protocol-1") != own
    run(other, scale=Scale.STUDY, previews=True)
    assert window(other, "001_protocol-1") == own
    with pytest.raises(NothingToScale):
        wanted(store, Settings(), [Target.MINC], (), None, Scale.STUDY)
    settled = Settled.read(other.annex / paths(other)["icf/derive.json"])
    assert settled.windows["protocol-1"] == own
    assert not run(other, previews=True).dataset.made  # it stays so until it is said otherwise
    assert run(other, previews=True, scale=Scale.OWN).dataset.made
    assert window(other, "001_protocol-1") != own


def test_minc_that_cannot_be_is_told(store: StorePath, monkeypatch: pytest.MonkeyPatch) -> None:
    run(store, Target.MINC)
    assert sorted(path for path in paths(store) if path.startswith("minc/")) == [
        "minc/001_protocol-1.mnc",
        "minc/002_protocol-2.mnc",
        "minc/003_protocol-3.mnc",
    ]
    real = minc.write_minc

    def wrong(nifti: Path, path: Path) -> None:
        real(nifti, path)
        # a child that another series starts meanwhile would hold the lock
        with h5py.File(path, "r+", locking=False) as file:
            file["minc-2.0/image/0/image"][0, 0, 0] += 1

    def refused(nifti: Path, path: Path) -> None:
        raise Mismatch(path.name, "it cannot say that")

    for fault, said in ((wrong, "has other values"), (refused, "it cannot say that")):
        monkeypatch.setattr(minc, "tools", lambda said=said: [said])  # of another version
        monkeypatch.setattr(minc, "write_minc", fault)
        derived = run(store, Target.NIFTI, Target.MINC)
        for entry in derived.series:
            assert entry.status == "verified"
            assert said in entry.lacking["minc"]
            assert not entry.is_right
        assert not any(path.startswith("minc/") for path in paths(store))
        assert "nifti/001_protocol-1.nii.gz" in paths(store)


def trees(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_bytes()


def test_a_folder_gets_the_same_files(store: StorePath, tmp_path: Path) -> None:
    targets = tuple(Target)
    run(store, *targets, previews=True, bids=PLAN)
    settled = Settled.read(store.annex / paths(store)["icf/derive.json"])
    convert_tarball(store.tarball, tmp_path / "out", Asked(targets, settled=settled))
    made = {"icf/derive.json": settled.text, **dict(trees(tmp_path / "out"))}
    assert made == {path: content(store, path) for path in paths(store)}
    convert_tarball(store.tarball, tmp_path / "out", Asked((Target.NIFTI,), (1,)))
    assert {"icf/derive.json": settled.text, **dict(trees(tmp_path / "out"))} == made
    other = Settled(settled.visit, bids=plan_of({"rules": [T1]}))
    convert_tarball(store.tarball, tmp_path / "out", Asked(targets, settled=other))
    assert not any("bold" in path for path, _ in trees(tmp_path / "out"))
