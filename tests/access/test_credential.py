"""DataLad's credentials: found by its names, kept under them."""

import os
from pathlib import Path

import pytest

from icf_tools.access.credential import (
    BadRealm,
    BadSecret,
    Credential,
    Credentials,
    OtherScheme,
    Realm,
    variables,
)

URL = "https://data.example.org:8443/store/study/x.tar"
REALM = Realm("https://data.example.org:8443/study", "user_password")


@pytest.mark.parametrize(
    ("challenge", "name", "kind"),
    [
        ('Basic realm="study"', "https://data.example.org:8443/study", "user_password"),
        ('basic realm="study", charset="UTF-8"', "https://data.example.org:8443/study", None),
        ('Basic charset="UTF-8", realm="study"', "https://data.example.org:8443/study", None),
        ('Basic realm="/study"', "https://data.example.org:8443/study", None),
        ('Basic realm="a \\"b\\" c"', 'https://data.example.org:8443/a "b" c', None),
        ("Basic", "https://data.example.org:8443/", None),
        ("Basic realm=study", "https://data.example.org:8443/study", None),
        ("Basic realm=study, charset=UTF-8", "https://data.example.org:8443/study", None),
        ('Basic realm="http://["', "https://data.example.org:8443/http://[", None),
        ('Bearer realm="study"', "https://data.example.org:8443/study", "token"),
        ('Negotiate, Basic realm="study"', "https://data.example.org:8443/study", None),
        (
            'Basic realm="https://data.example.org:8443/all"',
            "https://data.example.org:8443/all",
            None,
        ),
    ],
)
def test_a_realm_has_the_name_that_datalad_gives_it(
    challenge: str, name: str, kind: str | None
) -> None:
    from datalad_next.utils.http_helpers import get_auth_realm
    from datalad_next.utils.requests_auth import parse_www_authenticate

    assert Realm.of(URL, challenge) == Realm(name, kind or "user_password")
    schemes = parse_www_authenticate(challenge)
    known = next(each for each in schemes if each in ("basic", "bearer"))
    assert get_auth_realm(URL, schemes, scheme=known) == name


@pytest.mark.parametrize(
    "realm", ["https://other.example.org/study", "http://data.example.org:8443/x"]
)
def test_a_realm_of_another_server_gets_no_password_of_that(realm: str) -> None:
    """DataLad would send it there."""
    assert Realm.of(URL, f'Basic realm="{realm}"').name.startswith("https://data.example.org:8443/")
    assert Realm.of(URL, f'Basic realm="{realm}"').name != realm


def test_a_realm_that_would_forge_the_prompt() -> None:
    with pytest.raises(BadRealm):
        Realm.of(URL, 'Basic realm="\x1b[2K\x1b[1Ghttps://data.example.org/study"')


@pytest.mark.parametrize("token", ["s3cr3t\r\n", "s3cr3t\n", "s3 cr3t", "s3cr3tä", ""])
def test_a_token_that_no_request_can_carry(token: str) -> None:
    with pytest.raises(BadSecret) as refusal:
        _ = Credential("", token, "mystudy").header
    assert "cr3t" not in str(refusal.value)


@pytest.mark.parametrize("challenge", ["", "Negotiate", 'Digest realm="study", nonce="1"'])
def test_what_cannot_be_answered(challenge: str) -> None:
    with pytest.raises(OtherScheme):
        Realm.of(URL, challenge)


def test_nothing_shows_a_password() -> None:
    credential = Credential("lab", "hunter2", "study")
    assert "hunter2" not in repr(credential)
    assert credential.header == "Basic bGFiOmh1bnRlcjI="
    assert Credential("", "hunter2").header == "Bearer hunter2"


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = Credential("lab", "pä:ss", asked=True)
    for name, value in variables(REALM, typed).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DATALAD_CREDENTIAL_OTHER_REALM", "https://elsewhere/x")
    monkeypatch.setenv("DATALAD_CREDENTIAL_OTHER_SECRET", "no")
    monkeypatch.setenv("DATALAD_CREDENTIAL_", "odd")
    [found] = Credentials(None).find(REALM, None)
    assert (found.user, found.secret, found.name) == ("lab", "pä:ss", "")
    assert list(Credentials(None).find(Realm("https://elsewhere/y", "user_password"), None)) == []
    assert list(Credentials(None).find(REALM, found)) == [], "not the same one again"


def test_what_was_typed_is_known_to_datalad(isolated: Path) -> None:
    import datalad

    answers = iter([("lab", "first"), ("lab", "right")])
    credentials = Credentials(lambda realm: next(answers))
    typed = credentials.find(REALM, None)
    first, right = next(typed), next(typed)
    assert (first.secret, right.secret) == ("first", "right")
    kept = credentials.keep(REALM, right)
    assert kept.name == "data.example.org:8443/study"
    datalad.cfg.reload(force=True)
    [found] = Credentials(None).find(REALM, None)
    assert (found.user, found.secret, found.name) == ("lab", "right", kept.name)
    written = [path for path in isolated.rglob("*") if path.is_file()]
    assert not [
        path for path in written if path.name == ".gitconfig" and b"right" in path.read_bytes()
    ]


def test_a_keyring_that_is_locked_knows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from datalad_next.credman import CredentialManager
    from datalad_next.exceptions import CommandError
    from keyring.errors import KeyringLocked

    typed = Credential("lab", "right", "name", asked=True)
    for error in (KeyringLocked("locked"), CommandError("git config")):

        def fail(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(CredentialManager, "query", fail)
        monkeypatch.setattr(CredentialManager, "set", fail)
        assert list(Credentials(None).find(REALM, None)) == []
        assert Credentials(None).keep(REALM, typed).name == ""


def test_without_a_keyring_or_git_it_is_known_until_the_end(
    isolated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keyring
    from keyring.backends.fail import Keyring

    monkeypatch.setattr(keyring.core, "_keyring_backend", Keyring())
    typed = Credential("lab", "right", "name", asked=True)
    assert Credentials(None).keep(REALM, typed).name == ""
    monkeypatch.setenv("PATH", os.devnull)
    assert Credentials(None).keep(REALM, typed).name == ""
    assert list(Credentials(None).find(REALM, None)) == []
