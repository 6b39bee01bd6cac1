"""Where a member lies, as the dataset says it.

in: a URL of the branch git-annex    out: Member

Format: docs/formats.md, "Branch git-annex"; what `dataset.branch.member_url` writes.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from icf_tools.errors import IcfError, NotFound
from icf_tools.model.key import AnnexKey

_P = TypeVar("_P")
_R = TypeVar("_R")

MEMBERS = "dl+archive:"
"""Begins the URL of a member."""

_URL = re.compile(
    rf"{re.escape(MEMBERS)}([^#]+\.tar)#path=.*&size=([0-9]{{1,18}})&atype=tar&offset=([0-9]{{1,18}})",
    re.DOTALL,
)


class NoTarballUrl(NotFound):
    message = "the dataset has no URL of tarball {}; update the clone with datalad update"


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """Bytes of a tarball."""

    tarball: str  #: its key
    offset: int  #: bytes from the start of the tarball
    size: int  #: bytes

    @property
    def end(self) -> int:
        return self.offset + self.size

    @property
    def tarball_size(self) -> int:
        return AnnexKey.parse(self.tarball).size or 0


def from_first(places: Iterable[_P], attempt: Callable[[_P], _R], missing: IcfError) -> _R:
    """What the first place gives that gives anything; else what the first one was refused for."""
    refused: IcfError | None = None
    for place in places:
        try:
            return attempt(place)
        except IcfError as err:
            refused = refused or err
    raise refused or missing


def member_of(url: str) -> Member | None:
    """None where it does not tell where the member begins, as URLs of the first tools do not."""
    match = _URL.fullmatch(url)
    if match is None:
        return None
    try:
        AnnexKey.parse(match[1])
    except ValueError:
        return None
    return Member(match[1], int(match[3]), int(match[2]))
