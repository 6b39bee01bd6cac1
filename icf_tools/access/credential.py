"""Who may read a realm: from the environment, DataLad's credentials, or the person at the terminal.

in: Realm    out: Credential

A realm is what a server calls the files that one password opens, here a study.
DataLad's names are kept, so what is known to it is known here, and back:
`scheme://host:port/realm` and the variables DATALAD_CREDENTIAL_NAME_PROPERTY.
"""

import base64
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from icf_tools.errors import AccessDenied, RemoteFailed

Ask = Callable[[str], tuple[str, str] | None]
"""Called with who asks, a realm; returns user and password, or None where nobody can be asked."""

_ATTEMPTS = 3
_REALM = re.compile(r'\brealm=(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))', re.IGNORECASE)
_VARIABLE = "DATALAD_CREDENTIAL_"


class NoCredential(AccessDenied):
    message = (
        "{} wants a user and a password and none is known; run icf login in a terminal, or set "
        "DATALAD_CREDENTIAL_X_USER, _SECRET, _REALM and _TYPE in the environment"
    )


class Rejected(AccessDenied):
    message = (
        "{} does not accept the credential of user {}, which {}; give another, in a terminal by "
        "icf login, or ask who runs the store"
    )


class BadSecret(AccessDenied):
    message = (
        "the token for {} has characters that a request cannot carry, as of a line's end; "
        "store it anew without them"
    )


class BadRealm(RemoteFailed):
    message = (
        "the server asks for a credential for {} by a name that cannot be shown; tell who runs it"
    )


class OtherScheme(RemoteFailed):
    message = "{} wants another kind of credential than a password or a token; use datalad get"


def origin_of(url: str) -> str:
    """Scheme, host and port, without whoever else is named there."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def shown(url: str) -> str:
    """A URL without what may be a secret in it: user, password, query."""
    return origin_of(url) + urlsplit(url).path


@dataclass(frozen=True, slots=True)
class Realm:
    """What a server asks a credential for."""

    name: str  #: as DataLad keeps it
    kind: str  #: user_password or token

    @classmethod
    def of(cls, url: str, challenge: str) -> "Realm":
        """From the header WWW-Authenticate. Raises OtherScheme."""
        match = re.search(r"\b(Basic|Bearer)\b", challenge, re.IGNORECASE)
        if match is None:
            raise OtherScheme(shown(url))
        given = _REALM.search(challenge, match.end())
        said = re.sub(r"\\(.)", r"\1", given[1] or given[2] or "") if given else ""
        if not said.isprintable():  # what is shown where a password is typed
            raise BadRealm(shown(url))
        server = origin_of(url)
        # DataLad believes a realm that names another server, which then gets that one's password
        if said != server and not said.startswith(f"{server}/"):
            said = f"{server}{'' if said.startswith('/') else '/'}{said}"
        return cls(said, "token" if match[1].lower() == "bearer" else "user_password")


@dataclass(frozen=True, slots=True)
class Credential:
    """What opens a realm."""

    user: str  #: empty with a token
    secret: str = field(repr=False)
    name: str = ""  #: what it is kept by; empty where it is not
    asked: bool = False  #: whether it was typed just now

    @property
    def origin(self) -> str:
        """Where it comes from, for the sentence that it is not accepted."""
        if self.asked:
            return "was typed just now"
        if self.name:
            return f"DataLad keeps as {self.name!r}"
        return "the environment has as DATALAD_CREDENTIAL_..."

    @property
    def header(self) -> str:
        """The value of Authorization (RFC 7617, RFC 6750). Raises BadSecret."""
        if not self.user:
            if re.fullmatch(r"[\x21-\x7e]+", self.secret) is None:
                raise BadSecret(self.name)
            return f"Bearer {self.secret}"
        both = f"{self.user}:{self.secret}".encode()
        return f"Basic {base64.b64encode(both).decode()}"


class Credentials:
    """Those that are known, and what is asked where none is."""

    def __init__(self, ask: Ask | None) -> None:
        self._ask = ask

    def find(self, realm: Realm, rejected: Credential | None) -> Iterator[Credential]:
        """One to try, and another one after it failed."""
        if rejected is None:
            for known in (_from_environment, _from_datalad):
                found = known(realm)
                if found is not None:
                    yield found
                    break
        if self._ask is None or realm.kind != "user_password":
            return
        said = realm.name
        if rejected is not None:
            said = f"{realm.name} does not accept what {rejected.origin}, and"
        for _ in range(_ATTEMPTS):
            typed = self._ask(said)
            said = f"{realm.name} does not accept that, and"
            if typed is None:
                return
            yield Credential(*typed, name=_name(realm), asked=True)

    def keep(self, realm: Realm, credential: Credential) -> Credential:
        """Have DataLad know what was typed: nobody is asked twice.

        Without git, or a keyring, it has no name afterwards: it is known until the end.
        """
        if not credential.asked:
            return credential
        if shutil.which("git") is None:  # DataLad's settings are those of git
            return replace(credential, name="")
        from datalad_next.credman import CredentialManager

        try:
            CredentialManager().set(
                credential.name,
                _lastused=True,
                type=realm.kind,
                realm=realm.name,
                user=credential.user,
                secret=credential.secret,
            )
        except _unavailable():
            return replace(credential, name="")
        return credential

    def refusal(self, realm: Realm, rejected: Credential | None) -> AccessDenied:
        """What is said when nothing opened it."""
        if rejected is None:
            return NoCredential(realm.name)
        return Rejected(realm.name, rejected.user, rejected.origin)


def _from_environment(realm: Realm) -> Credential | None:
    given: dict[str, dict[str, str]] = {}
    for variable, value in sorted(os.environ.items()):
        name, _, what = variable.removeprefix(_VARIABLE).rpartition("_")
        if variable.startswith(_VARIABLE) and name:
            given.setdefault(name, {})[what] = value
    for each in given.values():
        if each.get("REALM") == realm.name and each.get("SECRET"):
            return Credential(each.get("USER", ""), each["SECRET"])
    return None


def variables(realm: Realm, credential: Credential) -> dict[str, str]:
    """What DataLad finds it by in the environment."""
    given = {"TYPE": realm.kind, "REALM": realm.name, "SECRET": credential.secret}
    given |= {"USER": credential.user} if credential.user else {}
    return {f"{_VARIABLE}ICF_{name}": value for name, value in given.items()}


def _from_datalad(realm: Realm) -> Credential | None:
    if shutil.which("git") is None:
        return None
    from datalad_next.credman import CredentialManager

    try:
        known = CredentialManager().query(_sortby="last-used", type=realm.kind, realm=realm.name)
    except _unavailable():
        return None
    for name, each in known:
        if each.get("secret"):
            return Credential(each.get("user", ""), each["secret"], name)
    return None


def _unavailable() -> tuple[type[Exception], ...]:
    """What a keyring that is locked, or settings that cannot be written, end in."""
    from datalad_next.exceptions import CommandError
    from keyring.errors import KeyringError

    return KeyringError, CommandError, OSError


def _name(realm: Realm) -> str:
    return realm.name.partition("://")[2]


def ask_terminal(realm: str) -> tuple[str, str] | None:
    """Ask the person at the terminal, whatever becomes of standard input and output."""
    from getpass import getpass

    try:
        # one for each direction: a terminal cannot be sought in, which "r+" asks for
        with (
            open("/dev/tty", "w", encoding="utf-8", errors="replace") as shown,
            open("/dev/tty", encoding="utf-8", errors="replace") as typed,
        ):
            print(f"{realm} asks for a user and a password", file=shown)
            print("user: ", end="", file=shown, flush=True)
            user = typed.readline().strip()
            if not user:
                return None
            return user, getpass("password: ")
    except (OSError, EOFError):
        return None
