"""Files of web servers, by HTTP Range (RFC 9110, section 14), with DataLad's credentials.

in: URL    out: Source

Nothing is believed: the range that comes must be the one that was asked for.
A credential goes to the realm that asked for it, and to no other server.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from threading import RLock
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from icf_tools.access.credential import Ask, Credential, Credentials, Realm, origin_of, shown
from icf_tools.access.source import (
    BadAnswer,
    Interrupted,
    NoRange,
    NotAllowed,
    NotThere,
    OtherTarball,
)
from icf_tools.errors import RemoteFailed, UsageError

_PATIENCE = (10.0, 30.0)  # s: to connect; between two bytes
_CONNECTIONS = 16
_REDIRECTS = 5
_AGAIN = {408, 425, 429, 500, 502, 503, 504}
_MOVED = {301, 302, 303, 307, 308}
_BAD_PROXY = (
    requests.exceptions.InvalidSchema,  # SOCKS, without what it needs
    requests.exceptions.InvalidProxyURL,
)


class NotTrusted(RemoteFailed):
    message = (
        "the certificate of {} is not trusted; set REQUESTS_CA_BUNDLE to the file with that of "
        "who signed it"
    )


class BadProxy(UsageError):
    message = (
        "the proxy to {} that the environment names cannot be used; give another by HTTPS_PROXY "
        "or HTTP_PROXY, or name the host in NO_PROXY"
    )


class NoAuthority(UsageError):
    message = "there are no certificates at {!r}; set REQUESTS_CA_BUNDLE to a file with some"


class Web:
    """Connections and credentials that all files share."""

    def __init__(self, ask: Ask | None = None, patience: tuple[float, float] = _PATIENCE) -> None:
        self._credentials = Credentials(ask)
        self._patience = patience
        self._begin()
        # by the folder that they are for, and the server that wants them
        self._known: dict[tuple[str, str], tuple[Realm, Credential]] = {}
        self.let_in: dict[Realm, Credential] = {}

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = RLock()
        self._session = requests.Session()
        adapter = HTTPAdapter(pool_maxsize=_CONNECTIONS)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    def file(self, url: str) -> "WebFile":
        return WebFile(self, url)

    def close(self) -> None:
        self._session.close()

    def get(self, url: str, headers: dict[str, str]) -> requests.Response:
        """The answer, wherever it leads, with a credential where one is wanted."""
        if self._process != os.getpid():  # a fork would read what its parent asked for
            self._begin()
        at = url
        for _ in range(_REDIRECTS + 1):
            answer = self._authenticated(url, at, headers)
            if answer.status_code not in _MOVED:
                return answer
            answer.close()
            try:
                before, at = urlsplit(at), urljoin(at, answer.headers.get("Location", ""))
                after = urlsplit(at)
            except ValueError as err:
                raise BadAnswer(shown(url), "leads to what is no URL") from err
            if after.scheme not in ("https", before.scheme):
                raise BadAnswer(shown(url), "leads to where nothing is encrypted")
            if "@" in after.netloc:
                raise BadAnswer(shown(url), "leads to a URL with a user in it")
        raise BadAnswer(shown(url), f"leads to another place more than {_REDIRECTS} times")

    def _authenticated(self, url: str, at: str, headers: dict[str, str]) -> requests.Response:
        """The answer at a place to which a URL leads."""
        known = self._known_for(url, at)
        answer = self._send(at, headers, known)
        if answer.status_code != 401:
            return answer
        answer.close()
        with self._lock:  # one question, whoever else wants to know
            newer = self._known_for(url, at)
            if newer is not None and newer is not known:
                answer = self._send(at, headers, newer)
                if answer.status_code != 401:
                    return answer
                answer.close()
                known = newer
            realm = Realm.of(at, answer.headers.get("WWW-Authenticate", ""))
            rejected = known[1] if known and known[0] == realm else None
            for found in self._credentials_for(realm, rejected):
                answer = self._send(at, headers, (realm, found))
                if answer.status_code != 401:
                    self._known[_folder(url), origin_of(at)] = realm, found
                    if answer.status_code != 403 and answer.status_code < 500:  # it was looked at
                        self.let_in[realm] = self._credentials.keep(realm, found)
                    return answer
                answer.close()
                rejected = found
            self._known.pop((_folder(url), origin_of(at)), None)
            raise self._credentials.refusal(realm, rejected)

    def _known_for(self, url: str, at: str) -> tuple[Realm, Credential] | None:
        """What opened the same server for a file of the same folder, or of one above."""
        known, server = self._known.copy(), origin_of(at)
        folders = [folder for folder, of in known if of == server and url.startswith(folder)]
        return known[max(folders, key=len), server] if folders else None

    def _credentials_for(self, realm: Realm, rejected: Credential | None) -> Iterator[Credential]:
        if rejected is None and realm in self.let_in:
            yield self.let_in[realm]
        yield from self._credentials.find(realm, rejected)

    def _send(
        self, at: str, headers: dict[str, str], known: tuple[Realm, Credential] | None
    ) -> requests.Response:
        def add(request: requests.PreparedRequest) -> requests.PreparedRequest:
            if known is not None:
                request.headers["Authorization"] = known[1].header
            return request  # and not what ~/.netrc has

        url = shown(at)
        try:
            return self._session.get(
                at,
                headers={"Accept-Encoding": "identity", **headers},
                auth=add,
                stream=True,
                allow_redirects=False,
                timeout=self._patience,
            )
        except requests.exceptions.SSLError as err:
            raise NotTrusted(urlsplit(url).netloc) from err
        except requests.Timeout as err:
            raise Interrupted(url, "the server does not answer in time") from err
        except requests.ConnectionError as err:
            raise Interrupted(url, "the server cannot be reached") from err
        except _BAD_PROXY as err:
            raise BadProxy(urlsplit(url).netloc) from err
        except (requests.RequestException, ValueError) as err:
            raise BadAnswer(url, "is none of HTTP") from err
        except OSError as err:
            raise NoAuthority(os.environ.get("REQUESTS_CA_BUNDLE", "")) from err


@dataclass(frozen=True, slots=True)
class WebFile:
    """A file of a web server."""

    web: Web
    address: str

    @property
    def url(self) -> str:
        """What is shown of it."""
        return shown(self.address)

    def open(self, start: int, end: int | None) -> "_WebBytes":
        whole = start == 0 and end is None
        last = "" if end is None else str(end - 1)
        headers = {} if whole else {"Range": f"bytes={start}-{last}"}
        answer = self.web.get(self.address, headers)
        try:
            return self._checked(answer, start, end, whole=whole)
        except BaseException:
            answer.close()
            raise

    def _checked(
        self, answer: requests.Response, start: int, end: int | None, *, whole: bool
    ) -> "_WebBytes":
        status, given = answer.status_code, answer.headers
        if status in (404, 410):
            raise NotThere(self.url)
        if status == 403:
            raise NotAllowed(self.url)
        if status in _AGAIN:
            raise Interrupted(self.url, f"the server answers {status}")
        if status == 416:
            raise OtherTarball(self.url, f"ends before byte {start}")
        if status not in (200, 206):
            raise BadAnswer(self.url, f"has the status {status}")
        if given.get("Content-Encoding", "identity").lower() != "identity":
            raise BadAnswer(self.url, "has a Content-Encoding")
        length = _number(given.get("Content-Length"))
        if status == 200:
            if whole or (start == 0 and length is not None and length == end):
                return _WebBytes(self.url, answer, length, length)
            raise NoRange(self.url)
        match = re.fullmatch(
            r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)",
            given.get("Content-Range", "").strip(),
        )
        if match is None or whole:
            raise BadAnswer(self.url, "does not tell which bytes it has")
        first, last = int(match[1]), int(match[2])
        if first != start or last < first or (end is not None and last >= end):
            raise BadAnswer(self.url, "has other bytes than those asked for")
        return _WebBytes(self.url, answer, last + 1 - first, _number(match[3]))


class _WebBytes:
    def __init__(
        self, url: str, answer: requests.Response, length: int | None, total: int | None
    ) -> None:
        self._url = url
        self._answer = answer
        self._left = length
        self.total = total

    def read(self, most: int) -> bytes:
        wanted = most if self._left is None else min(most, self._left)
        if not wanted:
            return b""
        try:
            data: bytes = self._answer.raw.read(wanted, decode_content=False)
        except (urllib3.exceptions.TimeoutError, TimeoutError) as err:
            raise Interrupted(self._url, "the server stopped sending") from err
        except (urllib3.exceptions.HTTPError, OSError) as err:
            raise Interrupted(self._url, "the connection broke") from err
        if self._left is not None:
            if not data:
                raise Interrupted(self._url, "the connection broke")
            self._left -= len(data)
        return data

    def close(self) -> None:
        self._answer.close()


def _folder(url: str) -> str:
    """What a credential for this file is for (RFC 7617, section 2.2)."""
    return url.rpartition("/")[0] + "/"


def _number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch("[0-9]{1,18}", text) else None
