"""Does a text hold the identity of the person in an image?

in: Identity, text    out: which elements can be read from it, never their values
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from icf_tools.dicom.header import Header

_PLACEHOLDERS = frozenset(
    [
        "anon",
        "anonym",
        "anonymous",
        "anonymised",
        "anonymized",
        "deid",
        "deidentified",
        "noname",
        "none",
        "patient",
        "phantom",
        "pilot",
        "removed",
        "subject",
        "test",
        "unknown",
        "volunteer",
    ]
)
"""What stands in the place of a name in images of nobody."""

_SHORTEST_WORD = 3  # letters of a name; shorter ones (Li, MR) are found only with the others
_SHORTEST_WITHIN = 5  # letters of a name that is found inside a longer word, too
_SHORTEST_ID = 3
_SHORTEST_NUMBER = 5  # digits of an id; any numbered file would hold a shorter one

_FAMILY_GIVEN_MIDDLE = 3  # components of a name; prefix and suffix follow. PS3.5 6.2.1.1
_CAMEL = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SPELT_OUT = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa", "æ": "ae", "ł": "l", "đ": "d"}
)

Words = tuple[str, ...]

_NAME, _ID, _BIRTH_DATE, _STUDY_DATE = 0x00100010, 0x00100020, 0x00100030, 0x00080020
IDENTIFYING = {_NAME: "PN", _ID: "LO", _BIRTH_DATE: "DA", _STUDY_DATE: "DA"}
"""VR by number of the elements that an Identity is made of."""


@dataclass(frozen=True, slots=True)
class Identity:
    """DICOM PatientName, PatientID and PatientBirthDate (YYYYMMDD), empty where unknown."""

    name: str
    patient_id: str
    birth_date: str

    @classmethod
    def of(cls, header: Header) -> "Identity":
        """That of an image, from a header in which IDENTIFYING was looked for."""
        birth_date = header.text(_BIRTH_DATE)
        if birth_date == header.text(_STUDY_DATE):
            birth_date = ""  # as images of phantoms have it; the study's date is no secret
        return cls(header.start(_NAME), header.start(_ID), birth_date)

    def held_by(self, text: str) -> tuple[str, ...]:
        """The keywords of those elements that can be read from the text, such as a path."""
        found = []
        if any(self._name_in(text, spelt_out) for spelt_out in (False, True)):
            found.append("PatientName")
        if any(self._id_in(part) for part in text.split("/")):
            found.append("PatientID")
        if self._birth_date_in(text):
            found.append("PatientBirthDate")
        return tuple(found)

    def without(self, identifiers: Iterable[str]) -> "Identity":
        """Less a name or id that stands in the identifiers the operator chose.

        It must hold a digit, as pseudonyms do: one of letters alone may be the
        name itself.
        """
        chosen = _words(" ".join(identifiers))

        def keep(text: str) -> str:
            joined = "".join(_words(text))
            return "" if re.search("[0-9]", joined) and _run_is(chosen, joined) else text

        return Identity(keep(self.name), keep(self.patient_id), self.birth_date)

    def _name_in(self, text: str, spelt_out: bool) -> bool:
        words = _words(text, spelt_out)
        return any(_found(words, part) for part in set(_spellings(self.name, spelt_out)))

    def _id_in(self, text: str) -> bool:
        joined = "".join(_words(self.patient_id))
        shortest = _SHORTEST_NUMBER if joined.isdigit() else _SHORTEST_ID
        if len(joined) < shortest or joined in _PLACEHOLDERS:
            return False
        return _run_is(_words(text), joined)

    def _birth_date_in(self, text: str) -> bool:
        match = re.fullmatch(r"([0-9]{4})[.-]?([0-9]{2})[.-]?([0-9]{2})", self.birth_date)
        if match is None or match[1] not in text:
            return False
        year, month, day = match.groups()
        orders = (year, month, day), (day, month, year), (month, day, year)
        return any(
            re.search(rf"(?<![0-9]){'[-_. /]?'.join(order)}(?![0-9])", text) for order in orders
        )


@lru_cache(maxsize=64)
def _spellings(name: str, spelt_out: bool) -> tuple[str, ...]:
    """Ways in which a name is written: its words, its components, several of them joined.

    A PatientName may be written in up to three scripts, separated by `=`.
    """
    return tuple(_each_spelling(name, spelt_out))


def _each_spelling(name: str, spelt_out: bool) -> Iterator[str]:
    for group in re.split(r"[=\\]", name):
        components = [
            words
            for component in group.split("^")[:_FAMILY_GIVEN_MIDDLE]
            if (words := tuple(w for w in _words(component, spelt_out) if w not in _PLACEHOLDERS))
        ]
        if not any(word.isalpha() for words in components for word in words):
            continue
        for words in components:
            yield from (word for word in words if word.isalpha())
        joined = ["".join(words) for words in components]
        yield from joined
        flat = [word for words in components for word in words]
        for row in (joined, joined[:2], flat, flat[:2]):
            yield "".join(row)
            yield "".join(reversed(row))


def _found(words: Words, part: str) -> bool:
    # a name of two Chinese characters is a whole one, and no blanks stand around it
    ideographic = part[:1] >= "\u2e80"
    if len(part) < (2 if ideographic else _SHORTEST_WORD):
        return False
    if _run_is(words, part):
        return True
    within = len(part) >= (2 if ideographic else _SHORTEST_WITHIN)
    return within and any(part in word for word in words)


@lru_cache(maxsize=1024)  # the parts of an identity are held against every path
def _words(text: str, spelt_out: bool = False) -> Words:
    """Runs of letters and runs of digits, without case and accents; CamelCase is two words."""
    text = _CAMEL.sub("_", text)
    if not text.isascii():
        if spelt_out:
            text = unicodedata.normalize("NFC", text).casefold().translate(_SPELT_OUT)
        text = unicodedata.normalize("NFKD", text)
        text = "".join(char for char in text if not unicodedata.combining(char))
    return tuple(re.findall(r"[^\W\d_]+|\d+", text.casefold()))


def _run_is(words: Words, name: str) -> bool:
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
