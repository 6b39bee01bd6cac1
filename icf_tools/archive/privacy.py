"""Does a path or a description hold the identity of the person in the image?

in: Identity, texts    out: which of its parts the texts hold, never the parts themselves
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from icf_tools.errors import Refused

_PLACEHOLDERS = frozenset(
    {"anon", "anonym", "anonymous", "anonymised", "anonymized", "phantom", "test", "unknown"}
)
"""What stands in the place of a name in images of nobody."""

_SHORTEST_NAME = 3  # letters; shorter ones ("MR", "Li") are found only together with the others
_SHORTEST_WITHIN = 5  # letters; a longer name is found inside a longer word, too
_SHORTEST_ID = 3


class HoldsIdentity(Refused):
    message = (
        "{} of {} files hold the {} of an image, the first in {}; "
        "{}, or pass --allow-identifying if that is no one's"
    )


@dataclass(frozen=True, slots=True)
class Identity:
    """DICOM PatientName, PatientID and PatientBirthDate (YYYYMMDD), empty where unknown."""

    name: str
    patient_id: str
    birth_date: str

    def held_by(self, text: str) -> tuple[str, ...]:
        """The keywords of those elements that can be read from the text."""
        words = _words(text)
        found = []
        if self._name_in(words):
            found.append("PatientName")
        if self._id_in(words):
            found.append("PatientID")
        if self._birth_date_in(text):
            found.append("PatientBirthDate")
        return tuple(found)

    def without(self, identifiers: Iterable[str]) -> "Identity":
        """Less a name or id that is one of the identifiers the operator chose.

        It must hold a digit, as pseudonyms do: an identifier of letters alone
        may be the name itself.
        """
        chosen = {_joined(text) for text in identifiers}

        def keep(text: str) -> str:
            joined = _joined(text)
            return "" if joined in chosen and re.search("[0-9]", joined) else text

        return Identity(keep(self.name), keep(self.patient_id), self.birth_date)

    def _name_in(self, words: tuple[str, ...]) -> bool:
        parts = [part for part in _words(self.name) if part not in _PLACEHOLDERS]
        letters = [part for part in parts if not part.isdigit()]
        if not letters:
            return False
        for part in letters:
            if len(part) >= _SHORTEST_NAME and part in words:
                return True
            if len(part) >= _SHORTEST_WITHIN and any(part in word for word in words):
                return True
        for name in {"".join(parts), "".join(reversed(parts))}:
            if len(name) >= _SHORTEST_NAME and _run_is(words, name):
                return True
            if len(name) >= _SHORTEST_WITHIN and any(name in word for word in words):
                return True
        return False

    def _id_in(self, words: tuple[str, ...]) -> bool:
        name = _joined(self.patient_id)
        if len(name) < _SHORTEST_ID or name in _PLACEHOLDERS:
            return False
        if name.isdigit() and len(name) <= _SHORTEST_ID:
            return False  # any numbered file would hold it
        return _run_is(words, name)

    def _birth_date_in(self, text: str) -> bool:
        match = re.fullmatch(r"([0-9]{4})[.-]?([0-9]{2})[.-]?([0-9]{2})", self.birth_date)
        if match is None:
            return False
        year, month, day = match.groups()
        if year not in text:
            return False
        orders = (year, month, day), (day, month, year), (month, day, year)
        return any(
            re.search(rf"(?<![0-9]){'[-_. /]?'.join(order)}(?![0-9])", text) for order in orders
        )


@lru_cache(maxsize=1024)  # the parts of an identity are held against every path
def _words(text: str) -> tuple[str, ...]:
    """Runs of letters and runs of digits, without case and accents."""
    plain = unicodedata.normalize("NFKD", text)
    if not plain.isascii():
        plain = "".join(char for char in plain if not unicodedata.combining(char))
    return tuple(re.findall(r"[^\W\d_]+|\d+", plain.casefold()))


def _joined(text: str) -> str:
    return "".join(_words(text))


def _run_is(words: tuple[str, ...], name: str) -> bool:
    """Whether some words in a row, joined, are the name."""
    for first in range(len(words)):
        joined = ""
        for word in words[first:]:
            joined += word
            if joined == name:
                return True
            if not name.startswith(joined):
                break
    return False


class Leaks:
    """The files of a visit that hold an identity in a path, a description or the identifiers.

    An image is held against its own identity; another file, which has none,
    against those of all the images.
    """

    def __init__(self, identifiers: tuple[str, ...]) -> None:
        self._identifiers = identifiers
        self._identities: set[Identity] = set()
        self._others: list[str] = []
        self._count = 0
        self._first: tuple[tuple[str, ...], str, str] | None = None

    def look_at_image(self, path: str, identity: Identity, descriptions: Mapping[str, str]) -> None:
        """`path` is below the input folder; `descriptions` are by keyword what will be recorded."""
        identity = identity.without(self._identifiers)
        self._identities.add(identity)
        for text in self._identifiers:
            if fields := _held(identity, text):
                self._note(fields, "the study or visit identifier", "choose another one")
                return
        if fields := identity.held_by(path):
            self._note(fields, f"the path {_masked(path, identity)}")
            return
        for keyword, text in descriptions.items():
            if fields := _held(identity, text):
                remedy = f"write {keyword} under deny in study.yaml"
                self._note(fields, f"the {keyword} of {path}", remedy)
                return

    def look_at_other(self, path: str) -> None:
        """A file that is not DICOM."""
        self._others.append(path)

    def refuse(self, *, total: int) -> None:
        """Raises HoldsIdentity where something was found among `total` files."""
        for path in self._others:
            for identity in self._identities:
                if fields := identity.held_by(path):
                    self._note(fields, f"the path {_masked(path, identity)}")
                    break
        if self._first is not None:
            fields, *where_and_remedy = self._first
            raise HoldsIdentity(self._count, total, " and ".join(fields), *where_and_remedy)

    def _note(
        self, fields: tuple[str, ...], where: str, remedy: str = "rename the file or folder"
    ) -> None:
        self._count += 1
        self._first = self._first or (fields, where, remedy)


@lru_cache(maxsize=1024)  # images of a series share their descriptions
def _held(identity: Identity, text: str) -> tuple[str, ...]:
    return identity.held_by(text)


def _masked(path: str, identity: Identity) -> str:
    """The path without the parts that hold the identity."""
    parts = ["***" if identity.held_by(part) else part for part in path.split("/")]
    masked = "/".join(parts)
    return "/".join("***" for _ in parts) if identity.held_by(masked) else masked
