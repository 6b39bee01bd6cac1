"""What a site and a study have settled.

in: site.yaml, study.yaml    out: Settings

One schema for both files; where both have a say the study's word wins, and
lists are joined. docs/settings.md lists the keys.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icf_tools.errors import Refused, UsageError
from icf_tools.model.bids import Plan
from icf_tools.model.bids_plan import BadPlan, plan_of
from icf_tools.model.dicom import RECORDED, Tag, is_denied
from icf_tools.model.url import BadUrl, checked_url
from icf_tools.model.visit import SITE_SETTINGS, STUDY_SETTINGS, StorePath

if TYPE_CHECKING:
    from pydantic import ValidationError

_TEXTS = {"CS", "DA", "DT", "LO", "SH", "TM", "UI"}
_NUMBERS = {"DS", "FD", "FL", "IS", "SL", "SS", "UL", "US"}


class BadSettings(UsageError):
    message = "{}, line {}: {}"


class DeniedSetting(Refused):
    message = (
        "{}, line {}: {} may identify a person, a device or an institution and is never "
        "recorded; remove it from the tags"
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings that hold for one study."""

    store_url: str | None = None
    deposit_url: str | None = None
    tags: tuple[Tag, ...] = RECORDED  #: the elements to record
    deny: tuple[str, ...] = ()  #: keywords of elements of which nothing is to be told
    previews: bool = False  #: whether pictures may be shown, in which a face may be known
    bids: Plan | None = None  #: how visits become a BIDS dataset


def read_settings(store: StorePath) -> Settings:
    """The settings of the visit's study. Raises BadSettings and DeniedSetting."""
    files = [store.root / SITE_SETTINGS, store.study / STUDY_SETTINGS]
    for file in files:
        if file.with_suffix(".yml").exists():
            raise BadSettings(file.with_suffix(".yml"), 1, f"it is not read; name it {file.name}")
    files = [file for file in files if file.is_file()]
    if not files:
        return Settings()
    given: dict[str, str] = {}
    added: list[Tag] = []
    denied: set[str] = set()
    previews, plan = False, None
    for file in files:
        content, lines = _load(file)
        for key in ("store_url", "deposit_url"):
            if content[key] is not None:
                given[key] = _url(content[key], file, lines[key,])
        if content["previews"] is not None:
            previews = content["previews"]
        if content["bids"] is not None:
            plan = _plan(content["bids"], file, lines)
        for place, keyword in enumerate(content["tags"]):
            added.append(_tag(keyword, file, lines["tags", place]))
        for place, keyword in enumerate(content["deny"]):
            _number(keyword, file, lines["deny", place])
            denied.add(keyword)
    tags = {tag.keyword: tag for tag in (*RECORDED, *added)}
    return Settings(
        store_url=given.get("store_url"),
        deposit_url=given.get("deposit_url"),
        tags=tuple(tag for keyword, tag in tags.items() if keyword not in denied),
        deny=tuple(sorted(denied)),
        previews=previews,
        bids=plan,
    )


def _load(file: Path) -> tuple[dict[str, Any], dict[tuple[Any, ...], int]]:
    """The checked content, and the line of each of its places."""
    import yaml
    from pydantic import BaseModel, ConfigDict, ValidationError

    class Schema(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True)

        store_url: str | None = None
        deposit_url: str | None = None
        tags: list[str] = []
        deny: list[str] = []
        previews: bool | None = None
        bids: dict[Any, Any] | None = None

    try:
        loader = _loader(file.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        lines = dict(_lines(node, ()))
        _check_keys(node, file)
        content = loader.construct_document(node) if node is not None else {}
    except yaml.MarkedYAMLError as err:
        mark = err.problem_mark or err.context_mark
        raise BadSettings(
            file, mark.line + 1 if mark else 1, f"it is not YAML: {err.problem}"
        ) from err
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as err:
        raise BadSettings(file, 1, "it is not YAML in UTF-8, or a value is not valid") from err
    try:
        return Schema.model_validate(content or {}).model_dump(), lines
    except ValidationError as err:
        raise _refusal(file, err, lines, list(Schema.model_fields)) from err


def _loader(text: str) -> Any:
    """Of YAML 1.2: in 1.1 a label 07 would be the number 7, 010 be 8, and `on` be true.

    Source: YAML 1.2.2, "Core Schema".
    """
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    kept = {
        first: [each for each in resolvers if each[0].rpartition(":")[2] in ("null", "merge")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    setattr(Loader, "yaml_implicit_resolvers", kept)  # noqa: B010
    number = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)"
    for kind, pattern, first in (
        ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
        ("int", "[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
        ("float", rf"(?=.*[.eE]){number}([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ):
        Loader.add_implicit_resolver(
            f"tag:yaml.org,2002:{kind}", re.compile(rf"^(?:{pattern})$"), list(first)
        )
    return Loader(text)


def _check_keys(node: Any, file: Path) -> None:
    """Refuse a key that is given twice: YAML would take the last one in silence."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                said = f"the key {key.value!r} is there a second time; join the two"
                raise BadSettings(file, key.start_mark.line + 1, said)
            seen.add(str(key.value))
            _check_keys(value, file)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check_keys(value, file)


def _lines(node: Any, place: tuple[Any, ...]) -> Iterable[tuple[tuple[Any, ...], int]]:
    import yaml

    if node is not None:
        yield place, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _lines(value, (*place, key.value))
            yield (*place, key.value), key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from _lines(value, (*place, number))


def _refusal(
    file: Path, err: "ValidationError", lines: dict[tuple[Any, ...], int], keys: list[str]
) -> BadSettings:
    first = err.errors()[0]
    name = ".".join(map(str, first["loc"])) or "the file"
    if first["type"] == "extra_forbidden":
        said = f"there is no setting {name!r}; the settings are {', '.join(keys)}"
    else:
        said = f"{name}: {first['msg'].lower()}"
    return BadSettings(file, lines.get(tuple(first["loc"]), 1), said)


def _url(text: str, file: Path, line: int) -> str:
    try:
        return checked_url(text)
    except BadUrl as err:
        raise BadSettings(file, line, str(err)) from err


def _plan(raw: dict[Any, Any], file: Path, lines: dict[tuple[Any, ...], int]) -> Plan:
    try:
        return plan_of(raw)
    except BadPlan as err:
        place: tuple[Any, ...] = ("bids", *err.place)
        while place not in lines:  # a key that is no text has no line
            place = place[:-1]
        raise BadSettings(file, lines[place], str(err)) from err


def _number(keyword: str, file: Path, line: int) -> int:
    from pydicom.datadict import tag_for_keyword

    number = tag_for_keyword(keyword)
    if not keyword or number is None:
        raise BadSettings(file, line, f"{keyword!r} is not a keyword of the DICOM dictionary")
    return number


def _tag(keyword: str, file: Path, line: int) -> Tag:
    from pydicom.datadict import dictionary_VM, dictionary_VR

    number = _number(keyword, file, line)
    known = {tag.keyword: tag for tag in RECORDED}
    if keyword in known:
        return known[keyword]
    vr = dictionary_VR(number)
    if is_denied(number, keyword, vr):
        raise DeniedSetting(file, line, keyword)
    if vr not in _TEXTS | _NUMBERS:
        raise BadSettings(file, line, f"{keyword} holds no short text or number (VR {vr})")
    return Tag(keyword, number, vr, many=dictionary_VM(number) not in ("1", "1-1"))
