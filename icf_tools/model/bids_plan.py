"""Read the section `bids` of study.yaml.

in: what YAML or JSON made of it    out: Plan

What is wrong is said with its place, so that the line can be named.
"""

import math
import re
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias, TypeVar

from icf_tools.model.bids import About, Criterion, How, Plan, Rule, label
from icf_tools.model.bids_terms import FORMS, INDICES, ORDER, VALUES, VOLUME_TYPES, Form
from icf_tools.model.dicom import DENIED

Place: TypeAlias = tuple[str | int, ...]
T = TypeVar("T")

TEXTS = ("name", "license", "acknowledgements", "how_to_acknowledge", "dataset_doi", "readme")
LISTS = ("authors", "keywords", "funding", "ethics_approvals", "references_and_links")
"""What the study says of itself; fields of dataset_description.json in lower case, and README."""
_KEYS = (*TEXTS, *LISTS, "visit", "leave_out", "rules", "reproin")
_RULE = ("match", "skip", "reproin", "datatype", "suffix", "entities", "add", "intended_for",
         "aslcontext")  # fmt: skip
_HOW: tuple[How, ...] = ("lt", "gt", "in", "all", "re")
_OWN = ("B0FieldIdentifier", "CogAtlasID", "CogPOID")
"""Fields of BIDS that name no one, though DENIED takes them for identifiers."""
_LONGEST = 10_000  # characters of a text


class BadPlan(ValueError):
    """What is wrong, and where: keys and indices from the section down."""

    def __init__(self, place: Place, said: str) -> None:
        super().__init__(place, said)
        self.place = place
        self.said = said

    def __str__(self) -> str:
        return f"{'.'.join(map(str, ('bids', *self.place)))}: {self.said}"


def plan_of(raw: object) -> Plan:
    """The inverse of Plan.to_json. Raises BadPlan."""
    content = _mapping(raw, (), _KEYS)
    about: About = {}
    for key in TEXTS:
        if key in content:
            about[key] = _text(content[key], (key,), lines=key == "readme")
    for key in LISTS:
        if key in content:
            about[key] = _list(content[key], (key,), _text)
    doi = str(about.get("dataset_doi", "doi:10.0/0"))
    if not re.fullmatch(r"doi:10\.[0-9.]+/\S+", doi):
        raise BadPlan(("dataset_doi",), f"{doi!r} is not a DOI; write it as doi:10.1234/abc")
    visit = ""
    if "visit" in content:
        visit = _regex(content["visit"], ("visit",), ("subject", "session"))
        if "subject" not in re.compile(visit).groupindex:
            raise BadPlan(("visit",), "it has no group (?P<subject>...)")
    rules = _list(content.get("rules", []), ("rules",), _rule, empty=True)
    if _flag(content, "reproin", ()):
        rules.append(Rule(reproin=True))
    if not rules:
        raise BadPlan((), "it has no rules; give rules, or reproin: true")
    left = _list(content.get("leave_out", []), ("leave_out",), _text, empty=True)
    return Plan(tuple(rules), visit, about, tuple(left))


def _rule(raw: object, place: Place) -> Rule:
    content = _mapping(raw, place, _RULE)
    skip, reproin = _flag(content, "skip", place), _flag(content, "reproin", place)
    match = _match(content.get("match", {}), (*place, "match"))
    if not match and not reproin:
        raise BadPlan(place, "it has no criteria, so it would take every series; give `match`")
    given = [key for key in _RULE if content.get(key)]
    allowed = {"match", "skip"} if skip else set(_RULE) - {"skip"}
    if reproin:
        allowed -= {"datatype", "suffix", "aslcontext"}
    if wrong := [key for key in given if key not in allowed]:
        raise BadPlan((*place, wrong[0]), f"it means nothing with {'skip' if skip else 'reproin'}")
    entities = _entities(content.get("entities", {}), (*place, "entities"))
    groups = _groups(match, place)
    if twice := sorted(groups & entities.keys()):
        raise BadPlan((*place, "entities", twice[0]), f"a group gives {twice[0]}, too")
    rule = Rule(
        match=match,
        skip=skip,
        reproin=reproin,
        datatype=_text(content["datatype"], (*place, "datatype")) if "datatype" in content else "",
        suffix=_text(content["suffix"], (*place, "suffix")) if "suffix" in content else "",
        entities=entities,
        add=_fields(content.get("add", {}), (*place, "add")),
        intended_for=tuple(
            _list(content.get("intended_for", []), (*place, "intended_for"), _text, empty=True)
        ),
        aslcontext=tuple(
            _list(content.get("aslcontext", []), (*place, "aslcontext"), _volume_type, empty=True)
        ),
    )
    if not skip and not reproin:
        _check_form(rule, groups | entities.keys(), place)
    return rule


def _check_form(rule: Rule, given: Collection[str], place: Place) -> None:
    """Whether BIDS has files of this kind, and with what the rule gives them."""
    form = _form(rule, place)
    kind = f"{rule.datatype}/{rule.suffix}"
    if wrong := [key for key in ORDER if key in given and key not in form.allowed]:
        known = ", ".join(key for key in ORDER if key in form.allowed)
        at = (*place, "entities", wrong[0]) if wrong[0] in rule.entities else (*place, "match")
        raise BadPlan(at, f"{kind} has no entity {wrong[0]}; it has {known}")
    # the number of an echo is in the sidecar
    if missing := [key for key in ORDER if key in form.required - {"echo"} and key not in given]:
        raise BadPlan(
            (*place, "suffix"),
            f"{kind} needs the entity {missing[0]}; give it under entities, or as a group",
        )
    if rule.intended_for and rule.datatype != "fmap" and kind != "perf/m0scan":
        raise BadPlan((*place, "intended_for"), f"{kind} corrects nothing; fmap and perf/m0scan do")
    if (kind == "perf/asl") != bool(rule.aslcontext):
        raise BadPlan(
            (*place, "aslcontext" if rule.aslcontext else "suffix"),
            "perf/asl, and nothing else, needs aslcontext; it says what each volume is",
        )


def _form(rule: Rule, place: Place) -> Form:
    for key in ("datatype", "suffix"):
        if not getattr(rule, key):
            raise BadPlan(place, f"it has no {key}; give it, or skip: true, or reproin: true")
    if rule.datatype not in FORMS:
        raise BadPlan(
            (*place, "datatype"),
            f"there is no datatype {rule.datatype!r} here; there are {', '.join(FORMS)}",
        )
    forms = FORMS[rule.datatype]
    if rule.suffix not in forms:
        raise BadPlan(
            (*place, "suffix"),
            f"{rule.datatype} has no suffix {rule.suffix!r}; it has {', '.join(forms)}",
        )
    return forms[rule.suffix]


def _match(raw: object, place: Place) -> tuple[Criterion, ...]:
    criteria = []
    for name, wanted in _mapping(raw, place).items():
        at = (*place, name)
        if DENIED.search(name):
            raise BadPlan(at, f"no sidecar has {name}, which may identify someone; take another")
        if isinstance(wanted, list):
            raise BadPlan(at, "it is a list; write in: [...] for any of them, all: [...] for all")
        if not isinstance(wanted, dict):
            criteria.append(Criterion(name, "like", _value(wanted, at)))
            continue
        if not wanted:
            raise BadPlan(at, f"it is empty; give a pattern, a number or {', '.join(_HOW)}")
        for how in _mapping(wanted, at, _HOW):
            value: Any = wanted[how]
            if how in ("lt", "gt"):
                value = _value(value, (*at, how), (int, float), "a number")
            elif how in ("in", "all"):
                value = tuple(_list(value, (*at, how), _value))
            else:
                value = _regex(value, (*at, how), ORDER)
            criteria.append(Criterion(name, next(each for each in _HOW if each == how), value))
    return tuple(criteria)


def _groups(match: Collection[Criterion], place: Place) -> set[str]:
    groups: set[str] = set()
    for each in match:
        if each.how == "re":
            new = set(re.compile(each.value).groupindex)
            if twice := sorted(groups & new):
                raise BadPlan((*place, "match", each.field), f"two groups give {twice[0]}")
            groups |= new
    return groups


def _entities(raw: object, place: Place) -> dict[str, str]:
    found = {}
    for key, value in _mapping(raw, place, ORDER).items():
        at = (*place, key)
        if key == "mt" and isinstance(value, bool):  # YAML 1.1 reads so what BIDS has: on and off
            value = "on" if value else "off"
        if key not in INDICES and not isinstance(value, str):
            raise BadPlan(at, f"{value!r} is a number, and a label is a text; quote it")
        text = str(_value(value, at, (str, int), "a text or a number"))
        if text != label(text) or not text:
            raise BadPlan(at, f"{text!r} is not a label; use letters A-Z a-z and digits only")
        if why := wrong_value(key, text):
            raise BadPlan(at, why)
        found[key] = text
    return found


def wrong_value(entity: str, text: str) -> str:
    """What is wrong with the value of an entity, or nothing."""
    if entity in INDICES and not re.fullmatch("[0-9]{1,9}", text):
        return f"{entity} is a number in BIDS, of at most 9 digits here"
    if text not in VALUES.get(entity, (text,)):
        return f"{entity} is one of {', '.join(VALUES[entity])} in BIDS"
    return ""


def _fields(raw: object, place: Place) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in _mapping(raw, place).items():
        at = (*place, key)
        if not re.fullmatch("[A-Z][A-Za-z0-9]*", key):
            raise BadPlan(at, f"{key!r} is no name of a BIDS field; they are like TaskName")
        if DENIED.search(key) and key not in _OWN:
            raise BadPlan(at, f"{key} may identify a person, a device or an institution; remove it")
        found[key] = _list(value, at, _value) if isinstance(value, list) else _value(value, at)
    return found


def _volume_type(raw: object, place: Place) -> str:
    text = _text(raw, place)
    if text not in VOLUME_TYPES:
        raise BadPlan(place, f"{text!r} is no type of volume; they are {', '.join(VOLUME_TYPES)}")
    return text


def _mapping(raw: object, place: Place, keys: Collection[str] = ()) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise BadPlan(place, "it should have keys and values")
    for key in raw:
        if not isinstance(key, str) or not key.isprintable():
            raise BadPlan((*place, key), f"the key {key!r} should be a text; quote it")
        if keys and key not in keys:
            raise BadPlan((*place, key), f"there is no {key!r} here; there are {', '.join(keys)}")
    return raw


def _list(
    raw: object, place: Place, read: Callable[[object, Place], T], *, empty: bool = False
) -> list[T]:
    if not isinstance(raw, list) or not (raw or empty):
        raise BadPlan(place, "it should be a list with at least one entry")
    return [read(each, (*place, number)) for number, each in enumerate(raw)]


def _flag(content: Mapping[str, Any], key: str, place: Place) -> bool:
    value = content.get(key, False)
    if not isinstance(value, bool):
        raise BadPlan((*place, key), "it should be true or false")
    return value


def _text(raw: object, place: Place, *, lines: bool = False) -> str:
    if not isinstance(raw, str) or not raw.strip() or len(raw) > _LONGEST:
        raise BadPlan(place, "it should be a text; quote it if it looks like something else")
    if not (raw.replace("\n", "") if lines else raw).isprintable():
        raise BadPlan(place, "it has characters that are not printable; remove them")
    return raw


def _value(
    raw: object,
    place: Place,
    kinds: tuple[type, ...] = (str, int, float, bool),
    said: str = "a text, a number, true or false",
) -> Any:
    if (isinstance(raw, bool) and bool not in kinds) or not isinstance(raw, kinds):
        raise BadPlan(place, f"it should be {said}")
    if isinstance(raw, float) and not math.isfinite(raw):
        raise BadPlan(place, "it should be a finite number")
    return _text(raw, place) if isinstance(raw, str) else raw


def _regex(raw: object, place: Place, groups: Collection[str]) -> str:
    text = _text(raw, place)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sets that a later Python may read otherwise
            compiled = re.compile(text)
    except (re.error, OverflowError, RecursionError) as err:
        raise BadPlan(place, f"it is no regular expression: {err}") from err
    if unknown := [name for name in compiled.groupindex if name not in groups]:
        raise BadPlan(
            place, f"there is no group {unknown[0]!r} here; there are {', '.join(groups)}"
        )
    return text
