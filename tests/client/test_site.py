"""The store of a user, as one setting of git."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from datalad.support.strings import get_replacement_dict  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from icf_tools.access.source import Interrupted, Opener
from icf_tools.client.site import (
    SETTING,
    NoStore,
    NoStoreUrl,
    NoStudyHere,
    OtherStore,
    Study,
    is_there,
    reach,
    remember,
    store_url,
    store_url_of,
    study_of,
    url_substitute,
)
from icf_tools.model.url import BadUrl, checked_url
from icf_tools.model.visit import BadIdentifier, Visit
from tests.faults import Status, faulty_server
from tests.servers import free_port

URL = "https://data.example.org/store"
DOCUMENT = Path(__file__).parents[2] / "docs" / "access.md"
AWKWARD = "file:///st%20ore&x,y/a=b'c\\d$1%25"

paths = st.text(
    st.characters(exclude_characters="?#{}%", exclude_categories=["Z", "C"]), max_size=20
)


def setting() -> list[str]:
    done = subprocess.run(
        ["git", "config", "--global", "--get-all", SETTING], capture_output=True, text=True
    )
    return done.stdout.splitlines()


@given(scheme=st.sampled_from(["https://data.example.org", "ssh://u@h:22", "file://"]), path=paths)
def test_what_is_written_reads_back_equal(scheme: str, path: str) -> None:
    url = checked_url(f"{scheme}/store/{path}")
    assert store_url_of(url_substitute(url)) == url


@pytest.mark.parametrize("url", [URL, AWKWARD, "ssh://u@h:22/st%20ore"])
def test_datalad_makes_the_clone_url_of_it(url: str) -> None:
    visit = Visit("my-study", "P1+a=b@c,d")
    [(pattern, replacement)] = get_replacement_dict([url_substitute(checked_url(url))]).items()
    made = re.sub(pattern, replacement, f"icf://{visit}")
    assert made.replace("%2C", ",") == visit.clone_url(url)
    assert re.match(pattern, "https://example.org/my-study") is None


def test_the_setting_of_the_documentation_is_understood() -> None:
    written = re.findall(r"'(.\^icf://.*)'", DOCUMENT.read_text())
    assert [store_url_of(value) for value in written] == [URL]


def test_another_separator_is_understood() -> None:
    value = url_substitute(URL)
    assert store_url_of("|^" + value[2:].replace(",", "|")) == URL


@pytest.mark.parametrize("value", ["", ",", ",^icf://(.+)$,https://example.org/\\1", URL])
def test_another_setting_is_not_ours(value: str) -> None:
    assert store_url_of(value) is None


def test_what_is_given_comes_before_the_configuration() -> None:
    remember(URL)
    assert store_url("file:///data/store/") == "file:///data/store"
    assert store_url(None) == URL


def test_without_a_url_it_is_said_how_to_set_it() -> None:
    with pytest.raises(NoStoreUrl, match="icf setup-client --store-url URL"):
        store_url(None)


def test_a_setting_of_somebody_else_is_no_store() -> None:
    subprocess.run(["git", "config", "--global", SETTING, ",^icf://,https://example.org/"])
    with pytest.raises(NoStoreUrl):
        store_url(None)
    with pytest.raises(OtherStore, match="something else"):
        remember(URL)


@pytest.mark.parametrize("url", ["https://user:secret@example.org/store", "data/store", "icf://a"])
def test_a_url_that_cannot_be_one_is_refused(url: str) -> None:
    with pytest.raises(BadUrl) as caught:
        store_url(url)
    assert "secret" not in str(caught.value)


def test_the_same_store_again_changes_nothing() -> None:
    assert remember(AWKWARD)
    before = setting()
    assert not remember(AWKWARD)
    assert setting() == before == [url_substitute(AWKWARD)]


def test_another_store_is_refused_with_the_command_that_helps() -> None:
    remember(URL)
    with pytest.raises(OtherStore) as caught:
        remember("file:///other")
    command = re.findall(r"run (git config .*) and then", str(caught.value))
    subprocess.run(command[0].split(), check=True)
    assert remember("file:///other")
    assert setting() == [url_substitute("file:///other")]


def test_a_folder_is_reached_and_nothing_else_on_a_disk(tmp_path: Path) -> None:
    reach(tmp_path.as_uri())
    (tmp_path / "file").write_text("no store")
    for name in ("file", "nothing"):
        with pytest.raises(NoStore):
            reach(f"{tmp_path.as_uri()}/{name}")


@pytest.mark.parametrize("code", [200, 401, 403, 404, 418])
def test_a_server_that_answers_is_reached(code: int) -> None:
    with faulty_server({"/store/": b"page"}, faults=[Status(code)]) as server:
        reach(f"{server.url}/store")
        assert len(server.requests) == 1


def test_a_port_where_nobody_is_is_not_reached() -> None:
    with pytest.raises(Interrupted):
        reach(f"http://127.0.0.1:{free_port()}/store")


@pytest.mark.parametrize(("code", "there"), [(404, False), (403, True), (301, True), (200, True)])
def test_a_study_is_there_unless_the_server_denies_it(code: int, there: bool) -> None:
    with faulty_server({"/store/study/": b"page"}, faults=[Status(code)]) as server:
        assert is_there(Study(f"{server.url}/store", "study"), Opener()) is there


def test_the_study_of_a_clone_is_that_of_its_origin(clone: Callable[[str], Path]) -> None:
    here = clone(Visit("my-study", "P1").clone_url(AWKWARD))
    assert study_of(here) == Study(AWKWARD, "my-study")
    (here / "deep").mkdir()
    assert study_of(here / "deep") == Study(AWKWARD, "my-study")


def test_a_folder_without_a_visit_has_no_study(
    clone: Callable[[str], Path], tmp_path: Path
) -> None:
    for folder in (tmp_path, clone("https://example.org/code.git")):
        with pytest.raises(NoStudyHere):
            study_of(folder)


@pytest.fixture
def clone(tmp_path: Path) -> Callable[[str], Path]:
    """What looks like a clone that has an origin."""

    def make(origin: str) -> Path:
        folder = tmp_path / "clone"
        settings = {"annex.uuid": "00000000-0000-0000-0000-000000000001"}
        subprocess.run(["git", "init", "-q", folder], check=True)
        for name, value in (settings | {"remote.origin.url": origin}).items():
            subprocess.run(["git", "-C", folder, "config", name, value], check=True)
        return folder

    return make


@pytest.mark.parametrize("name", ["..", "", "a b", "a/b", "a&b", "%2e", "-x"])
def test_a_hostile_name_is_no_study(name: str) -> None:
    with pytest.raises(BadIdentifier):
        Study(URL, name)
