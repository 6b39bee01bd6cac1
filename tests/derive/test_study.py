"""icf derive STUDY --to bids: one dataset of the trees of all visits."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from icf_tools.dataset.study import OtherTree
from icf_tools.dataset.versions import BadVersions
from icf_tools.derive.asked import NoRules
from icf_tools.derive.publish import derive, wanted
from icf_tools.derive.report import Target
from icf_tools.derive.study import DerivedStudy, NoTrees, OddTree, OldSettings, derive_study
from icf_tools.model.bids import LeftOut, SameLabels
from icf_tools.model.bids_plan import plan_of
from icf_tools.model.dicom import RECORDED
from icf_tools.model.visit import StorePath, TreePath, Visit
from icf_tools.pipeline import add
from icf_tools.settings import Settings
from icf_tools.store.deposit import NoStudy, statuses
from tests.conftest import BIN, Run
from tests.dataset.clients import Client
from tests.derive.series import Series
from tests.servers import WebServer

RULES: dict[str, Any] = {
    "name": "A study",
    "license": "CC0",
    "authors": ["N. N."],
    "visit": "(?P<subject>P[0-9]+)_(?P<session>[0-9]+)",
    "rules": [
        {"match": {"SeriesNumber": {"in": [1]}}, "datatype": "anat", "suffix": "T1w"},
        {
            "match": {"SeriesNumber": {"in": [2]}},
            "datatype": "func",
            "suffix": "bold",
            "entities": {"task": "rest"},
        },
    ],
}
PLAN = plan_of(RULES)
VISITS = ("P1_1", "P1_2", "P2_1")


def deposit(root: Path, visit: str, url: str = "https://data.example.org/store") -> StorePath:
    """A visit with a volume that all have, and a time series of its own."""
    store = StorePath(root, Visit("study", visit))
    source = root.parent / "incoming" / visit
    Series.of(1).write(source / "1", 1)
    own = Series(Series.of(3).stored + int(visit[1]) + int(visit[-1]))
    own.write(source / "2", 2, RepetitionTime="2000")
    add(source, store, store_url=url, tags=RECORDED)
    return store


def place(store: StorePath, rules: dict[str, Any] = RULES) -> None:
    asked = wanted(store, Settings(bids=plan_of(rules)), [Target.BIDS], (), None)
    derive(store, asked, None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for visit in VISITS[:2]:
        place(deposit(tmp_path / "store", visit))
    return tmp_path / "store"


def content(root: Path) -> dict[str, bytes]:
    folder = TreePath(root, "study").folder
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def study(root: Path, rules: dict[str, Any] = RULES) -> DerivedStudy:
    return derive_study(root, "study", Settings(bids=plan_of(rules)))


def test_it_has_what_the_visits_have(root: Path) -> None:
    derived = study(root)
    assert derived.subjects == ("P1",)
    assert [visit.visit for visit in derived.visits] == list(VISITS[:2])
    assert (derived.missing, derived.dataset.version, derived.dataset.made) == ((), 1, True)
    assert sorted(content(root)) == ["XDLRA--refs", "XDLRA--repo-export", "versions.json"]
    [version] = json.loads(content(root)["versions.json"])
    assert sorted(version["texts"]) == [
        "README",
        "dataset_description.json",
        "participants.json",
        "participants.tsv",
    ]
    urls = [f"https://data.example.org/store/study/{visit}_annex" for visit in VISITS[:2]]
    assert sorted(version["added"]) == urls
    assert sorted(version["added"][urls[1]]) == [
        "sub-P1/ses-2/anat/sub-P1_ses-2_T1w.json",
        "sub-P1/ses-2/anat/sub-P1_ses-2_T1w.nii.gz",
        "sub-P1/ses-2/func/sub-P1_ses-2_task-rest_bold.json",
        "sub-P1/ses-2/func/sub-P1_ses-2_task-rest_bold.nii.gz",
    ]
    assert [each.visit.visit for each in statuses(root)] == list(VISITS[:2])


def test_run_again_there_is_nothing_to_do(root: Path) -> None:
    study(root)
    before = content(root)
    assert not study(root).dataset.made
    assert content(root) == before


def test_same_visits_same_bytes(root: Path, tmp_path: Path) -> None:
    study(root)
    before = content(root)
    other = tmp_path / "elsewhere" / "store"
    for visit in reversed(VISITS[:2]):
        place(deposit(other, visit))
    study(other)
    assert content(other) == before


def test_a_new_visit_is_a_new_version(root: Path) -> None:
    first = study(root)
    before = content(root)
    place(deposit(root, VISITS[2]))
    second = study(root)
    assert (second.dataset.version, second.subjects) == (2, ("P1", "P2"))
    one, two = json.loads(content(root)["versions.json"])
    assert [one] == json.loads(before["versions.json"])
    assert two["timestamp"] == one["timestamp"] + 1
    assert list(two["texts"]) == ["participants.tsv"]
    after = content(root)
    for behind in (["XDLRA--refs"], ["XDLRA--refs", "XDLRA--repo-export"]):  # as a kill leaves it
        for name in behind:
            (TreePath(root, "study").folder / name).write_bytes(before[name])
        assert study(root).dataset.made
        assert content(root) == after
    for name in ("XDLRA--refs", "XDLRA--repo-export"):
        (TreePath(root, "study").folder / name).unlink()
        study(root)
        assert content(root) == after
    assert first.dataset.commits != second.dataset.commits


def test_visits_that_cannot_be_in_it_are_told(root: Path) -> None:
    deposit(root, VISITS[2])
    other = {**RULES, "rules": RULES["rules"][:1]}
    first = StorePath(root, Visit("study", VISITS[0]))
    place(first, other)
    derived = study(root)
    assert [visit.visit for visit in derived.visits] == [VISITS[1]]
    assert [(visit.visit, why) for visit, why in derived.missing] == [
        (VISITS[0], "its BIDS tree is not by the present settings"),
        (VISITS[2], "it has no BIDS tree"),
    ]
    place(first)
    assert study(root).dataset.version == 2
    place(first, other)
    with pytest.raises(OldSettings, match=r"P1_1 \(1 in all\) .*; run icf derive study VISIT"):
        study(root)


def test_what_the_study_says_of_itself_may_change(root: Path) -> None:
    study(root)
    again = study(root, {**RULES, "authors": ["N. N.", "M. M."]})
    assert (again.dataset.version, again.missing) == (2, ())
    _, second = json.loads(content(root)["versions.json"])
    assert list(second["texts"]) == ["dataset_description.json"]


def test_visits_that_are_no_more_leave_it(root: Path) -> None:
    study(root)
    for path in (root / "study").glob(f"{VISITS[0]}_*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    derived = study(root)
    assert ([visit.visit for visit in derived.visits], derived.missing) == ([VISITS[1]], ())
    assert derived.gone == (VISITS[0],)
    _, second = json.loads(content(root)["versions.json"])
    assert len(second["gone"]) == 4


def test_refusals(root: Path) -> None:
    with pytest.raises(NoRules):
        derive_study(root, "study", Settings())
    with pytest.raises(NoStudy):
        derive_study(root, "nothing", Settings(bids=PLAN))
    with pytest.raises(NoTrees):
        study(root, {**RULES, "rules": RULES["rules"][:1]})
    assert not TreePath(root, "study").folder.exists()
    study(root)
    path = TreePath(root, "study").versions_json
    whole = json.loads(path.read_bytes())
    for broken in ("[]", "{}", "[1]", "text", '[{"n": 1}]'):
        path.write_text(broken)
        with pytest.raises(BadVersions):
            study(root)
    whole[0]["commits"]["master"] = "0" * 40
    path.write_text(json.dumps(whole))
    with pytest.raises(OtherTree):
        study(root)


def test_what_is_denied_later_is_made_again_first(root: Path) -> None:
    study(root)
    settings = Settings(bids=PLAN, deny=("EchoTime",))
    with pytest.raises(OldSettings):
        derive_study(root, "study", settings)
    for visit in VISITS[:2]:
        store = StorePath(root, Visit("study", visit))
        derive(store, wanted(store, settings, [Target.BIDS], (), None), None)
    assert derive_study(root, "study", settings).dataset.version == 2


def test_visits_that_are_none_of_it(root: Path) -> None:
    deposit(root, "P9_9")
    assert [str(visit) for visit, _ in study(root).missing] == ["study/P9_9"]
    left = {**RULES, "leave_out": ["p9_*"]}
    assert study(root, left).missing == ()
    with pytest.raises(LeftOut, match=r"'p9_\*'"):
        place(StorePath(root, Visit("study", "P9_9")), left)


def test_a_visit_without_a_named_series_is_no_participant(root: Path) -> None:
    other = {**RULES, "rules": [{"match": {"SeriesNumber": 9}, "skip": True}, *RULES["rules"]]}
    store = StorePath(root, Visit("study", "P3_1"))
    Series.of().write(root.parent / "P3", 9)
    add(root.parent / "P3", store, store_url="https://data.example.org/store", tags=RECORDED)
    for visit in (*VISITS[:2], "P3_1"):
        place(StorePath(root, Visit("study", visit)), other)
    derived = study(root, other)
    assert derived.subjects == ("P1",)
    assert [(v.visit, why) for v, why in derived.missing] == [
        ("P3_1", "none of its series has a name")
    ]
    nothing = {**RULES, "rules": [{"match": {"Modality": "MR"}, "skip": True}]}
    with pytest.raises(OldSettings):
        study(root, nothing)


def test_two_visits_of_one_label(root: Path) -> None:
    one = {**RULES, "visit": "(?P<subject>P[0-9]+)_.*"}
    for visit in VISITS[:2]:
        place(StorePath(root, Visit("study", visit)), one)
    with pytest.raises(SameLabels, match=r"P1_1 and P1_2 are both sub-P1"):
        study(root, one)
    assert not TreePath(root, "study").folder.exists()


def test_a_record_that_was_edited_reaches_no_other_visit(root: Path) -> None:
    path = StorePath(root, Visit("study", VISITS[1])).versions_json
    text = path.read_text().replace("sub-P1/ses-2/anat/", "sub-P1/ses-1/anat/")
    path.write_text(text)
    with pytest.raises(OddTree):
        study(root)


def test_the_command(root: Path, icf: Run) -> None:
    (root / "study" / "study.yaml").write_text(json.dumps({"bids": RULES}))
    deposit(root, VISITS[2])
    done = icf("derive", "study", "--to", "bids", "-o", root)
    assert done.returncode == 10
    said, hint = done.stderr.splitlines()
    assert said == "study/P2_1: it has no BIDS tree; run icf derive study P2_1 --to bids"
    assert hint.startswith("icf: 1 of 3 visits are not in the BIDS dataset; ")
    assert done.stdout.startswith("BIDS dataset of the study study: subjects: 1, visits: 2\n")
    assert icf("derive", "study", "P2_1", "--to", "bids", "-o", root).returncode == 0
    done = icf("derive", "study", "--to", "bids", "-o", root, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["visits"] == list(VISITS)
    for wrong in ([], ["--to", "nifti"], ["--to", "bids", "--series", "1"]):
        assert icf("derive", "study", *wrong, "-o", root).returncode == 2


@pytest.mark.annex
def test_lab_members_get_a_valid_dataset(client: Client, web: WebServer, tmp_path: Path) -> None:
    web.allow("study", "member", "secret")
    client.set_credential("lab", web.realm("study"), "member", "secret")
    for visit in VISITS[:2]:
        place(deposit(web.root, visit, web.url))
    clone = client.clone(study(web.root).dataset.clone_url, tmp_path / "clone")
    assert clone.here == set()
    clone.get("sub-P1/ses-1")
    place(deposit(web.root, VISITS[2], web.url))
    study(web.root)
    clone.run("datalad", "update", "--how", "merge")
    clone.get(".")
    clone.fsck()
    assert clone.run("git", "status", "--porcelain") == ""
    done = subprocess.run(
        [BIN / "bids-validator-deno", "--format", "json", clone.path],
        capture_output=True,
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        text=True,
    )
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []
    assert done.returncode == 0
    texts = (clone.path / "participants.tsv").read_text()
    assert texts == "participant_id\nsub-P1\nsub-P2\n"
    # the same volume of two visits is one key, from either
    one = clone.annex("lookupkey", "sub-P1/ses-1/anat/sub-P1_ses-1_T1w.nii.gz")
    assert one == clone.annex("lookupkey", "sub-P2/ses-1/anat/sub-P2_ses-1_T1w.nii.gz")
    assert len(clone.urls("sub-P1/ses-1/anat/sub-P1_ses-1_T1w.nii.gz")) == 3


def test_two_at_once(root: Path) -> None:
    (root / "study" / "study.yaml").write_text(json.dumps({"bids": RULES}))
    command = [sys.executable, "-m", "icf_tools", "derive", "study", "--to", "bids", "-o", root]
    words = list(map(str, command))
    both = [subprocess.Popen(words, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert sorted(each.wait() for each in both) in ([0, 0], [0, 7])
    assert not study(root).dataset.made
