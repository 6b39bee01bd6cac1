"""The rules by which a study's series become files of a BIDS dataset.

in: what a sidecar says, a visit    out: what the file is (Meaning), whose it is (Labels)

A Plan is what the section `bids` of study.yaml was read into, see bids_plan. It is
stored beside what was made by it, and reads back equal.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias

from icf_tools.errors import Conflict, UsageError
from icf_tools.model import reproin

How: TypeAlias = Literal["like", "lt", "gt", "in", "all", "re"]
About: TypeAlias = dict[str, str | list[str]]


class NoLabels(UsageError):
    message = (
        "the visit {} does not give a BIDS subject by the expression {!r}; "
        "change `visit` in the section bids of study.yaml"
    )


class LeftOut(UsageError):
    message = (
        "the visit {} is left out of the BIDS dataset by {!r}; "
        "change `leave_out` in the section bids of study.yaml"
    )


class SameLabels(Conflict):
    message = (
        "the visits {} and {} are both {} in BIDS, {}; "
        "change `visit` in the section bids of study.yaml"
    )


@dataclass(frozen=True, slots=True)
class Criterion:
    """One condition on one field of a sidecar."""

    field: str
    how: How
    value: Any

    def groups(self, fields: Mapping[str, Any]) -> dict[str, str] | None:
        """The named groups of a regular expression that matches; None where it does not hold.

        Of a list, one element has to be right, or all of them joined by backslashes,
        as DICOM writes them.
        """
        found = fields.get(self.field)
        if found is None:
            return None
        values = [*found, "\\".join(map(str, found))] if isinstance(found, list) else [found]
        if self.how == "re":
            matches = (re.search(self.value, str(value)) for value in values)
            match = next(filter(None, matches), None)
            return None if match is None else {k: v for k, v in match.groupdict().items() if v}
        return {} if self._holds(values) else None

    def _holds(self, values: list[Any]) -> bool:
        match self.how:
            case "lt":
                return any(_is_number(value) and value < self.value for value in values)
            case "gt":
                return any(_is_number(value) and value > self.value for value in values)
            case "in":
                return any(_like(value, each) for value in values for each in self.value)
            case "all":
                return all(any(_like(value, each) for value in values) for each in self.value)
        return any(_like(value, self.value) for value in values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _like(value: object, wanted: object) -> bool:
    if isinstance(wanted, str):
        return like(str(value), wanted)
    return isinstance(value, bool) == isinstance(wanted, bool) and value == wanted


def like(text: str, pattern: str) -> bool:
    """Whether the text fits the pattern of `*`, `?` and `[...]`, in whatever case."""
    return fnmatchcase(text.lower(), pattern.lower())


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a file is."""

    datatype: str
    suffix: str
    entities: Mapping[str, str]
    rule: "Rule"


@dataclass(frozen=True, slots=True)
class Skipped:
    """Left out, as it was said."""

    reason: str


@dataclass(frozen=True, slots=True)
class Rule:
    """What files that fulfil all criteria are."""

    match: tuple[Criterion, ...] = ()
    skip: bool = False  #: leave them out
    reproin: bool = False  #: their names tell it
    datatype: str = ""
    suffix: str = ""
    entities: Mapping[str, str] = field(default_factory=dict)
    add: Mapping[str, Any] = field(default_factory=dict)  #: to the sidecar
    intended_for: tuple[str, ...] = ()  #: patterns of paths below the subject or the session
    aslcontext: tuple[str, ...] = ()  #: what the volumes are; repeated to the last one

    def meaning(self, fields: Mapping[str, Any]) -> Meaning | Skipped | None:
        """None where not all criteria hold, or where the name is to tell it and does not."""
        entities: dict[str, str] = {}
        for criterion in self.match:
            groups = criterion.groups(fields)
            if groups is None:
                return None
            entities |= groups
        entities |= self.entities
        if self.skip:
            return Skipped("a rule leaves it out")
        if not self.reproin:
            return Meaning(self.datatype, self.suffix, entities, self)
        reading = reproin.read(fields)
        if reading is None:
            return None
        if reading.scout:
            return Skipped("a scout, which ReproIn leaves out")
        return Meaning(reading.datatype, reading.suffix, {**reading.entities, **entities}, self)

    def to_json(self) -> dict[str, Any]:
        """What it was read from."""
        match: dict[str, Any] = {}
        for each in self.match:
            value = list(each.value) if isinstance(each.value, tuple) else each.value
            if each.how == "like":
                match[each.field] = value
            else:
                match.setdefault(each.field, {})[each.how] = value
        content = {
            "match": match,
            "skip": self.skip,
            "reproin": self.reproin,
            "datatype": self.datatype,
            "suffix": self.suffix,
            "entities": dict(self.entities),
            "add": dict(self.add),
            "intended_for": list(self.intended_for),
            "aslcontext": list(self.aslcontext),
        }
        return {key: value for key, value in content.items() if value}


@dataclass(frozen=True, slots=True)
class Labels:
    """Whose files they are, and of which time."""

    subject: str
    session: str  #: may be empty
    person: str  #: what the label of the subject was made of

    @property
    def folder(self) -> str:
        return f"sub-{self.subject}" + (f"/ses-{self.session}" if self.session else "")

    @property
    def prefix(self) -> str:
        """What the name of each file begins with."""
        return self.folder.replace("/", "_")


@dataclass(frozen=True, slots=True)
class Plan:
    """How the study's visits become a BIDS dataset."""

    rules: tuple[Rule, ...]
    visit: str = ""  #: regular expression with the groups subject and session
    about: About = field(default_factory=dict)  #: of the dataset: name, license, authors...
    leave_out: tuple[str, ...] = ()  #: patterns of visits that are none of it

    def meaning(self, fields: Mapping[str, Any]) -> Meaning | Skipped | None:
        """By the first rule that matches."""
        for rule in self.rules:
            if (meaning := rule.meaning(fields)) is not None:
                return meaning
        return None

    def leaves_out(self, visit: str) -> bool:
        """Whether the visit is none of the dataset, as one of a phantom."""
        return any(like(visit, pattern) for pattern in self.leave_out)

    @property
    def names_sessions(self) -> bool:
        """Whether names of series may tell the session."""
        return any(rule.reproin for rule in self.rules)

    def labels(self, visit: str, session: str = "") -> Labels:
        """Of a visit; `session` counts where the expression gives none.

        Raises NoLabels and LeftOut.
        """
        if self.leaves_out(visit):
            raise LeftOut(visit, ", ".join(self.leave_out))
        person = visit
        if self.visit:
            match = re.fullmatch(self.visit, visit)
            if match is None:
                raise NoLabels(visit, self.visit)
            groups = match.groupdict()
            person, session = groups["subject"] or "", groups.get("session") or session
        subject = label(person)
        if not subject:
            raise NoLabels(visit, self.visit)
        return Labels(subject, label(session), person)

    def to_json(self) -> dict[str, Any]:
        """What `bids_plan.plan_of` reads an equal plan from."""
        rules = [rule.to_json() for rule in self.rules]
        left = list(self.leave_out)
        content = {"visit": self.visit, "leave_out": left, **self.about, "rules": rules}
        return {key: value for key, value in content.items() if value}


def label(text: str) -> str:
    """The letters and digits of it, as ASCII. BIDS allows `+`, too, which many tools do not."""
    plain = unicodedata.normalize("NFKD", text)
    return re.sub("[^0-9A-Za-z]", "", plain)


def check_labels(labels: Mapping[str, Labels]) -> None:
    """Refuse visits (the keys) that would get into each other's files. Raises SameLabels.

    Names that differ in case alone are one (BIDS, "Case collision intolerance").
    """
    seen: dict[str, list[tuple[str, Labels]]] = {}
    for visit, its in sorted(labels.items()):
        same = seen.setdefault(its.subject.lower(), [])
        for other, there in same:
            if there.folder.lower() == its.folder.lower():
                raise SameLabels(other, visit, its.folder, "and nothing tells them apart")
            if (there.person, there.subject) != (its.person, its.subject):
                raise SameLabels(
                    other, visit, f"sub-{its.subject}", "though they may be two people"
                )
            if not (there.session and its.session):
                raise SameLabels(other, visit, f"sub-{its.subject}", "and not both have a session")
        same.append((visit, its))
