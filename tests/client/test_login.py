"""A credential is seen by the study's server, and kept when it was accepted."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from icf_tools.access.credential import NoCredential, Rejected
from icf_tools.access.source import Interrupted
from icf_tools.client.login import Login, login
from icf_tools.client.site import NoStudy, Study, StudyDenied
from tests.faults import FaultyServer, Status, faulty_server
from tests.servers import WebServer, free_port, web_server

PASSWORD = "correct horse"


class Person:
    """Answers what is asked, in order."""

    def __init__(self, *answers: tuple[str, str] | None) -> None:
        self.asked: list[str] = []
        self._answers = list(answers)

    def __call__(self, realm: str) -> tuple[str, str] | None:
        self.asked.append(realm)
        return self._answers.pop(0)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyServer]:
    """A server with one study."""
    with faulty_server({"/study/study.yaml": b""}) as server:
        server.user = ("lab", PASSWORD)
        yield server


@pytest.fixture(autouse=True)
def no_settings() -> None:
    """DataLad in this process reads a new home only when it is told to."""
    import datalad

    datalad.cfg.reload(force=True)


@pytest.fixture
def nginx(tmp_path: Path, require: Callable[[str], str]) -> Iterator[WebServer]:
    """One where each study has a password; there are no settings of it."""
    (tmp_path / "store/study").mkdir(parents=True)
    with web_server(tmp_path / "store", tmp_path / "nginx", require("nginx")) as server:
        server.allow("study", "lab", PASSWORD)
        yield server


def kept() -> str:
    """All that is in the home of the user."""
    files = (path for path in Path(os.environ["HOME"]).rglob("*") if path.is_file())
    return "\n".join(path.read_text(errors="replace") for path in files)


def test_a_password_is_asked_for_once_and_kept_by_datalad(nginx: WebServer) -> None:
    study, person = Study(nginx.url, "study"), Person(("lab", PASSWORD))
    realm = nginx.realm("study")
    done = login(study, person)
    assert done == Login("study", nginx.url, realm, "lab", realm.partition("://")[2])
    assert person.asked == [realm]
    assert login(study, None) == done
    assert PASSWORD not in (Path(os.environ["HOME"]) / ".gitconfig").read_text()


def test_a_wrong_password_may_be_followed_by_the_right_one(web: FaultyServer) -> None:
    person = Person(("lab", "wrong"), ("lab", PASSWORD))
    assert login(Study(web.url, "study"), person).user == "lab"
    assert len(person.asked) == 2


def test_three_wrong_passwords_are_the_end_and_nothing_is_kept(web: FaultyServer) -> None:
    person = Person(*[("lab", "wrong")] * 4)
    before = kept()
    with pytest.raises(Rejected) as caught:
        login(Study(web.url, "study"), person)
    assert (len(person.asked), kept()) == (3, before)
    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize("person", [None, Person(None)])
def test_where_nobody_answers_it_is_said_what_to_do(
    web: FaultyServer, person: Person | None
) -> None:
    with pytest.raises(NoCredential):
        login(Study(web.url, "study"), person)


def test_the_environment_is_enough(web: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"TYPE": "user_password", "USER": "lab", "SECRET": PASSWORD}
    for field, value in (fields | {"REALM": f"{web.url}/{web.realm}"}).items():
        monkeypatch.setenv(f"DATALAD_CREDENTIAL_JOB_{field}", value)
    done = login(Study(web.url, "study"))
    assert (done.user, done.credential) == ("lab", "")


def test_a_study_without_a_password_says_so(web: FaultyServer, tmp_path: Path) -> None:
    web.user = None
    try:
        assert login(Study(web.url, "study")).realm == ""
        with pytest.raises(NoStudy):
            login(Study(web.url, "other"))
    finally:
        web.user = ("lab", PASSWORD)
    (tmp_path / "study").mkdir()
    assert login(Study(tmp_path.as_uri(), "study")).realm == ""
    with pytest.raises(NoStudy):
        login(Study(tmp_path.as_uri(), "other"))


def test_who_is_let_in_but_denied_is_told_and_nothing_is_kept(web: FaultyServer) -> None:
    web.faults.append(Status(403))
    with pytest.raises(StudyDenied):
        login(Study(web.url, "study"), Person(("lab", PASSWORD)))
    assert PASSWORD not in kept()


def test_a_study_that_the_server_does_not_know_is_denied(nginx: WebServer) -> None:
    with pytest.raises(StudyDenied):
        login(Study(nginx.url, "other"), Person(("lab", PASSWORD)))
    assert PASSWORD not in kept()


def test_a_server_that_is_not_there_is_said_at_once() -> None:
    with pytest.raises(Interrupted):
        login(Study(f"http://127.0.0.1:{free_port()}", "study"))
