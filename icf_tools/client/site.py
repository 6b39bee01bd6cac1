"""The store of a user: known to DataLad and to this package by one setting of git.

in: store URL    out: `datalad.clone.url-substitute.icf`; and back

DataLad replaces `icf://STUDY/VISIT` as the setting says (DataLad
documentation, `datalad clone`), so such a clone needs nothing of this package.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from icf_tools.access.source import Interrupted, IsFolder, NotThere, Opener
from icf_tools.access.web import NotTrusted
from icf_tools.client.files import Clone, CommandFailed, files_of, run_git, urls_of
from icf_tools.errors import AccessDenied, Conflict, NotFound, RemoteFailed, UsageError
from icf_tools.model.url import checked_url
from icf_tools.model.visit import BadIdentifier, Visit

SETTING = "datalad.clone.url-substitute.icf"
SCHEME = "icf://"

# around the store URL, the study and the visit
_BEGIN, _, _END = Visit("study", "visit").clone_url("store:").partition("store:/study/visit")
_MATCH = rf"^{SCHEME}([^/]+)/([^/]+)$"
_SUBSTITUTE = re.compile(
    rf"(.){re.escape(_MATCH)}\1{re.escape(_BEGIN)}(.+)/\\1/\\2{re.escape(_END)}", re.DOTALL
)
_ORIGIN = re.compile(rf"(.+)/([^/]+)/(?:[^/]+_|bids/){re.escape(_END.removeprefix('_'))}")
_TARBALL = re.compile(r"(.+)/([^/]+)/[^/]+_dicom\.tar")


class NoStoreUrl(UsageError):
    message = "no store URL is known; run icf setup-client --store-url URL, or give --store-url"


class NoStudyHere(UsageError):
    message = "{} is in no clone of a visit; name the study, or change to the folder of a clone"


class OtherStore(Conflict):
    message = (
        "in your git configuration icf:// stands for {} and not for {}; "
        f"run git config --global --unset-all {SETTING} and then this again"
    )


class NoStore(NotFound):
    message = "there is no folder {}; see that the URL of the store is right"


class NoStudy(NotFound):
    message = "there is no study {} at {}; see that its name and the store URL are right"


class StudyDenied(AccessDenied):
    message = (
        "study {} at {} may not be read, or is not there; see that its name is right, "
        "or ask who runs the store for access"
    )


@dataclass(frozen=True, slots=True)
class Study:
    """A study of a store."""

    store_url: str
    name: str

    def __post_init__(self) -> None:
        if not Visit.is_name(self.name):
            raise BadIdentifier("study", self.name)

    @property
    def url(self) -> str:
        return f"{self.store_url}/{self.name}"


def url_substitute(store_url: str) -> str:
    """What DataLad makes of icf://STUDY/VISIT: separator, pattern, separator, replacement."""
    # datalad-next takes one level of quoting off; a comma is what separates
    return rf",{_MATCH},{_BEGIN}{quote(store_url, safe=':/@+=')}/\1/\2{_END}"


def store_url_of(value: str) -> str | None:
    """The inverse of `url_substitute`, with any separator; None where it is something else."""
    match = _SUBSTITUTE.fullmatch(value)
    return unquote(match[2]) if match else None


def store_url(given: str | None) -> str:
    """The one that is given, or else the one of the user's git configuration.

    Raises NoStoreUrl, BadUrl.
    """
    if given is None:
        given = next((url for value in _values() if (url := store_url_of(value))), None)
    if given is None:
        raise NoStoreUrl
    return checked_url(given)


def check_free(url: str) -> bool:
    """Whether there is no setting yet. Raises OtherStore where it is for another URL."""
    known = _values("--global")
    for value in known:
        other = store_url_of(value)
        if other != url:
            raise OtherStore(other or "something else", url)
    return not known


def remember(url: str) -> bool:
    """Write the setting; tell whether it was new. Raises OtherStore."""
    is_new = check_free(url)
    if is_new:
        run_git(Path.cwd(), "config", "--global", SETTING, url_substitute(url))
    return is_new


def _values(*scope: str) -> list[str]:
    try:
        said = run_git(Path.cwd(), "config", *scope, "-z", "--get-all", SETTING)
    except CommandFailed as err:
        if err.args[-1] == "code 1":  # there is none
            return []
        raise
    return said.decode("utf-8", "surrogateescape").split("\0")[:-1]


def study_of(folder: Path) -> Study:
    """The study of the dataset that a folder belongs to. Raises NoStudyHere."""
    try:
        clone = Clone.at(folder)
        origin = clone.settings.get("remote.origin.url", "")
        places = [_ORIGIN.fullmatch(unquote(origin.removeprefix(_BEGIN)))]
        if places == [None]:
            tarballs = files_of(clone, clone.top, [Path("icf")])
            urls = (url for file in tarballs for url in urls_of(clone, file.key))
            places = [_TARBALL.fullmatch(url) for url in urls]
    except NotFound as err:
        raise NoStudyHere(folder) from err
    for place in places:
        if place and Visit.is_name(place[2]):
            return Study(place[1], place[2])
    raise NoStudyHere(folder)


def reach(url: str) -> None:
    """See that there is a server, or a folder, at a store URL.

    Raises NoStore, NotAllowed, Interrupted, NotTrusted.
    """
    opener = Opener()
    try:
        opener(f"{url}/").open(0, None).close()
    except IsFolder:
        return
    except (Interrupted, NotTrusted):
        raise
    except NotThere as err:
        if not _is_web(url):
            raise NoStore(url) from err
        return
    except (AccessDenied, RemoteFailed):  # each study may want another credential
        if not _is_web(url):
            raise
        return
    finally:
        opener.close()
    if not _is_web(url):
        raise NoStore(url)


def is_there(study: Study, opener: Opener) -> bool:
    """Whether a store has the study, as far as it tells."""
    if opener.let_in:  # somebody asked for a password for it
        return True
    try:
        opener(f"{study.url}/").open(0, None).close()
    except IsFolder:
        return True
    except NotThere:
        return False
    except Interrupted:
        raise
    except (AccessDenied, RemoteFailed):
        return True
    return _is_web(study.url)


def _is_web(url: str) -> bool:
    return urlsplit(url).scheme in ("http", "https")
