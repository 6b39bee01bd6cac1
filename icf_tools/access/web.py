"""Files of web servers, by HTTP Range (RFC 9110, section 14), with DataLad's credentials.

in: URL    out: Source

Nothing is believed: the range that comes must be the one that was asked for.
A credential goes to the realm that asked for it, and to no other server.
"""

import os
import re
from dataclasses import dataclass
from threading import RLock
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from icf_tools.access.credential import Ask, Credential, Credentials, Realm
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
        self._session = requests.Session()
        adapter = HTTPAdapter(pool_maxsize=_CONNECTIONS)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        self._known: dict[str, Credential] = {}  # by the folder that they are for
        self.let_in: dict[Realm, Credential] = {}
        self._lock = RLock()

    def file(self, url: str) -> "WebFile":
        return WebFile(self, url)

    def close(self) -> None:
        self._session.close()

    def get(self, url: str, headers: dict[str, str]) -> requests.Response:
        """The answer, wherever it leads, with a credential where one is wanted."""
        at = url
        for _ in range(_REDIRECTS):
            answer = self._authenticated(at, headers)
            if answer.status_code not in _MOVED:
                return answer
            answer.close()
            try:
                before, at = at, urljoin(at, answer.headers.get("Location", ""))
                schemes = urlsplit(before).scheme, urlsplit(at).scheme
            except ValueError as err:
                raise BadAnswer(url, "leads to what is no URL") from err
            if schemes[1] not in ("https", schemes[0]):
                raise BadAnswer(url, "leads to where nothing is encrypted")
        raise BadAnswer(url, f"leads to another place more than {_REDIRECTS} times")

    def _authenticated(self, url: str, headers: dict[str, str]) -> requests.Response:
        credential = self._credential_for(url)
        answer = self._send(url, headers, credential)
        if answer.status_code != 401:
            return answer
        answer.close()
        with self._lock:  # one question, whoever else wants to know
            known = self._credential_for(url)
            if known is not None and known is not credential:
                answer = self._send(url, headers, known)
                if answer.status_code != 401:
                    return answer
                answer.close()
                credential = known
            realm = Realm.of(url, answer.headers.get("WWW-Authenticate", ""))
            rejected = credential
            for found in self._credentials.find(realm, rejected):
                answer = self._send(url, headers, found)
                if answer.status_code != 401:
                    self._known[_folder(url)] = found
                    if answer.status_code != 403 and answer.status_code < 500:  # it was looked at
                        self.let_in[realm] = self._credentials.keep(realm, found)
                    return answer
                answer.close()
                rejected = found
            self._known.pop(_folder(url), None)
            raise self._credentials.refusal(realm, rejected)

    def _credential_for(self, url: str) -> Credential | None:
        known = self._known.copy()
        return next((known[folder] for folder in known if url.startswith(folder)), None)

    def _send(
        self, url: str, headers: dict[str, str], credential: Credential | None
    ) -> requests.Response:
        def add(request: requests.PreparedRequest) -> requests.PreparedRequest:
            if credential is not None:
                request.headers["Authorization"] = credential.header
            return request  # and not what ~/.netrc has

        try:
            return self._session.get(
                url,
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
    url: str

    def open(self, start: int, end: int | None) -> "_WebBytes":
        whole = start == 0 and end is None
        last = "" if end is None else str(end - 1)
        headers = {} if whole else {"Range": f"bytes={start}-{last}"}
        answer = self.web.get(self.url, headers)
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
    return int(text) if text and text.isascii() and text.isdigit() else None
