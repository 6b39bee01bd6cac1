"""icf catalog as a user runs it."""

import json
from pathlib import Path

import pytest

from icf_tools.model.visit import StorePath
from tests import dicoms
from tests.conftest import Run

URL = "https://data.example.org/store"


@pytest.fixture
def deposited(icf: Run, store: StorePath, incoming: Path) -> StorePath:
    assert icf("add", "study", "visit", incoming, "-o", store.root, "--store-url", URL).stdout
    return store


def test_a_study_and_a_visit(icf: Run, deposited: StorePath) -> None:
    where = ("-o", deposited.root, "--deposit-url", URL)
    done = icf("catalog", "study", *where)
    assert (done.returncode, done.stderr) == (0, "")
    assert "catalog of study: 1 visits, 2 series; 1 pages made, 0 removed" in done.stdout
    page = deposited.study / "catalog" / "search" / "index.html"
    assert f"begin at {page}" in done.stdout
    program = "catalogify_studyvisit_from_meta"
    done = icf("--store-dir", deposited.root, "--id", "study", "visit", program=program)
    assert done.returncode == 0
    assert "no deposit URL is known" in done.stderr
    done = icf("catalog", "study", "visit", "--json", *where)
    assert json.loads(done.stdout) == {
        "page": str(page),
        "visits": 1,
        "series": 2,
        "made": ["visit"],  # with the URL again
        "gone": [],
        "left_out": {},
    }


def test_the_site(icf: Run, deposited: StorePath) -> None:
    done = icf("catalog", "--site", "-o", deposited.root)
    assert (done.returncode, "icf catalog STUDY" in done.stderr) == (3, True)
    icf("catalog", "study", "-o", deposited.root)
    done = icf("catalog", "--site", "-o", deposited.root)
    assert "catalog of the site: 1 studies, 1 visits, 2 series" in done.stdout
    done = icf("catalog", "--site", "--json", "-o", deposited.root)
    assert json.loads(done.stdout)["studies"] == ["study"]
    assert "--site" not in icf("catalog", "study", "-o", deposited.root).stderr
    other = deposited.study.parent / "in2"
    dicoms.visit(other, series=1)
    icf("add", "study", "more", other, "-o", deposited.root, "--store-url", URL)
    assert "run icf catalog --site" in icf("catalog", "study", "more", "-o", deposited.root).stderr


@pytest.mark.parametrize("arguments", [(), ("study", "--site"), ("study", "visit", "--site")])
def test_one_or_the_other(icf: Run, store: StorePath, arguments: tuple[str, ...]) -> None:
    done = icf("catalog", *arguments, "-o", store.root)
    assert done.returncode == 2
    assert "--site alone" in done.stderr


def test_refusals(icf: Run, deposited: StorePath) -> None:
    at = ("-o", deposited.root)
    assert icf("catalog", "other", *at).returncode == 3
    assert icf("catalog", "study", "other", *at).returncode == 3
    assert icf("catalog", "../study", *at).returncode == 2
    assert icf("catalog", "study", "a b", *at).returncode == 2
    deposited.dicoms_json.write_text("[")
    done = icf("catalog", "study", *at)
    assert (done.returncode, "study/visit: " in done.stderr) == (10, True)
    assert icf("catalog", "study", "visit", *at).returncode == 5
    (deposited.study / "study.yaml").write_text("search: {elements: [{type: text}]}")
    done = icf("catalog", "study", *at)
    assert (done.returncode, "study.yaml, line 1" in done.stderr) == (2, True)
