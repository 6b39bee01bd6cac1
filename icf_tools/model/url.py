"""URLs that go into the history of a dataset."""

import re
from urllib.parse import urlsplit

from icf_tools.errors import UsageError


class BadUrl(UsageError):
    message = "{} cannot be recorded as a URL: {}"


def checked_url(url: str) -> str:
    """The URL without a slash at its end. Raises BadUrl.

    Every clone keeps it for good, so it may not hold a password.
    """
    match = re.fullmatch(r"([a-z]+)://([^/\s]*)(/\S*)?", url, re.IGNORECASE)
    scheme = match[1].lower() if match else ""
    if match is None or scheme not in ("http", "https", "ssh", "file"):
        raise BadUrl(
            repr(url),
            "it needs http, https, ssh or file before :// and has no blanks; write %20 for one",
        )
    host, path = match[2], (match[3] or "").rstrip("/")
    if ("@" in host and scheme != "ssh") or ":" in host.rpartition("@")[0]:
        raise BadUrl(
            "what was given", "it holds a user name or password; leave it out, DataLad asks for it"
        )
    if scheme == "file" and (host or not path):
        raise BadUrl(repr(url), "a file URL has three slashes; write it as in file:///data/store")
    if scheme != "file" and not _names_host(url):
        raise BadUrl(repr(url), "it names no host; write it as in https://data.example.org/store")
    if re.search(r"[?#{}]|%(?![0-9A-Fa-f]{2})", url):
        raise BadUrl(repr(url), "it holds one of ? # { } %; write them as %3F %23 %7B %7D %25")
    return f"{scheme}://{host}{path}"


def _names_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # not a port
        return False
