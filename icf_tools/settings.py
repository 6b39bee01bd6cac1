"""What a site and a study have settled.

in: site.yaml, study.yaml    out: Settings

One schema for both files; where both have a say the study's word wins, and
lists are joined. docs/settings.md lists the keys.
"""

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from icf_tools.errors import Refused, UsageError
from icf_tools.model.bids import Plan
from icf_tools.model.bids_plan import BadPlan, plan_of
from icf_tools.model.brand import NO_BRAND, BadBrand, Brand, brand_of
from icf_tools.model.dicom import RECORDED, Tag, is_denied
from icf_tools.model.search import DEFAULT, OWN, Element, ElementType
from icf_tools.model.url import BadUrl, checked_url
from icf_tools.model.visit import SITE_SETTINGS, STUDY_SETTINGS, StorePath

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

_TEXTS = {"CS", "DA", "DT", "LO", "SH", "TM", "UI"}
_NUMBERS = {"DS", "FD", "FL", "IS", "SL", "SS", "UL", "US"}


_MOST = 100_000  # values
_SAID = {
    "model_type": "it should have keys and values",
    "bool_type": "it should be true or false",
    "string_type": "it should be a text; quote it if it begins with # or looks like a number",
}
_ONLY_OF = {
    "min": [ElementType.NUMBER_RANGE],
    "max": [ElementType.NUMBER_RANGE],
    "auto_complete": [ElementType.TEXT],
}


class BadSettings(UsageError):
    message = "{}, line {}: {}"


class DeniedSetting(Refused):
    message = (
        "{}, line {}: {} may identify a person, a device or an institution and is never "
        "recorded; remove it"
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
    brand: Brand = NO_BRAND  #: what its pages say of it
    logo: Path | None = None  #: a picture for them
    elements: tuple[Element, ...] = DEFAULT  #: what its search page asks for


def read_settings(store: StorePath) -> Settings:
    """The settings of the visit's study. Raises BadSettings and DeniedSetting."""
    return _read([store.root / SITE_SETTINGS, store.study / STUDY_SETTINGS])


def read_site_settings(root: Path) -> Settings:
    """Those for no study. Raises BadSettings and DeniedSetting."""
    return _read([root / SITE_SETTINGS])


def _read(files: list[Path]) -> Settings:
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
    search: tuple[list[dict[str, Any]], Path, dict[tuple[Any, ...], int]] | None = None
    said: dict[str, Any] = {}
    logo: Path | None = None
    for file in files:
        content, lines = _load(file)
        for key in ("store_url", "deposit_url"):
            if content[key] is not None:
                given[key] = _url(content[key], file, lines[key,])
        if content["previews"] is not None:
            previews = content["previews"]
        if content["bids"] is not None:
            plan = _plan(content["bids"], file, lines)
        if content["search"] is not None:
            search = content["search"]["elements"], file, lines
        if content["catalog"] is not None:
            _check_brand(content["catalog"], file, lines)
            said |= content["catalog"]
            if content["catalog"].get("logo"):
                logo = file.with_name(content["catalog"]["logo"])
        for place, keyword in enumerate(content["tags"]):
            added.append(_tag(keyword, file, lines["tags", place]))
        for place, keyword in enumerate(content["deny"]):
            _number(keyword, file, lines["deny", place])
            denied.add(keyword)
    tags = {tag.keyword: tag for tag in (*RECORDED, *added) if tag.keyword not in denied}
    elements: tuple[Element, ...] = DEFAULT
    if search is not None:
        # what a study adds is not known to the settings of the site
        known = None if search[1].name == SITE_SETTINGS else {*tags, *OWN}
        elements = tuple(_elements(*search, known))
    return Settings(
        store_url=given.get("store_url"),
        deposit_url=given.get("deposit_url"),
        tags=tuple(tags.values()),
        deny=tuple(sorted(denied)),
        previews=previews,
        bids=plan,
        brand=brand_of(said),
        logo=logo,
        elements=elements,
    )


def _load(file: Path) -> tuple[dict[str, Any], dict[tuple[Any, ...], int]]:
    """The checked content, and the line of each of its places."""
    import yaml
    from pydantic import BaseModel, Field, ValidationError

    class ElementSchema(BaseModel, extra="forbid", strict=True, allow_inf_nan=False):
        type: Literal["text", "number-range", "date-range", "drop-down", "sphere"]
        keyword: str
        label: str = ""
        alternate_keywords: list[str] = []
        min: float | None = None
        max: float | None = None
        auto_complete: bool = False
        enabled: bool = True

    class SearchSchema(BaseModel, extra="forbid", strict=True):
        elements: list[ElementSchema]

    class CatalogSchema(BaseModel, extra="forbid", strict=True):
        name: str = ""
        description: str = ""
        logo: str = ""
        link_color: str = ""
        link_hover_color: str = ""
        links: dict[str, str] = Field(default_factory=dict)
        content: bool = False
        site: bool = True

    class Schema(BaseModel, extra="forbid", strict=True):
        store_url: str | None = None
        deposit_url: str | None = None
        tags: list[str] = []
        deny: list[str] = []
        previews: bool | None = None
        bids: dict[Any, Any] | None = None
        catalog: CatalogSchema | None = None
        search: SearchSchema | None = None

    try:
        loader = _loader(file.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if _count(node, {}) > _MOST:
            raise BadSettings(file, 1, f"its aliases unfold to more than {_MOST} values")
        lines = dict(_lines(node, ()))
        _check_keys(node, file)
        content = loader.construct_document(node) if node is not None else {}
        json.dumps(content, ensure_ascii=False).encode()  # half of a character has no UTF-8
    except yaml.MarkedYAMLError as err:
        mark = err.problem_mark or err.context_mark
        raise BadSettings(
            file, mark.line + 1 if mark else 1, f"it is not YAML: {err.problem}"
        ) from err
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as err:
        raise BadSettings(file, 1, "it is not YAML in UTF-8, or a value is not valid") from err
    try:
        given = Schema.model_validate(content or {})
        said = given.catalog.model_dump(exclude_unset=True) if given.catalog else None
        return given.model_dump() | {"catalog": said}, lines
    except ValidationError as err:
        kinds: dict[str, type[BaseModel]] = {
            "catalog": CatalogSchema,
            "search": SearchSchema,
            "elements": ElementSchema,
        }
        raise _refusal(file, err, lines, Schema, kinds) from err


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


def _count(node: Any, known: dict[int, int]) -> int:
    """How many values there are once aliases are unfolded; a few make any number."""
    if id(node) not in known:
        known[id(node)] = 0  # one that holds itself
        inner = getattr(node, "value", ())
        pairs = [each for each in inner if not isinstance(each, str)]
        parts = [part for each in pairs for part in (each if isinstance(each, tuple) else [each])]
        known[id(node)] = 1 + sum(_count(part, known) for part in parts)
    return known[id(node)]


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
    file: Path,
    err: "ValidationError",
    lines: dict[tuple[Any, ...], int],
    schema: "type[BaseModel]",
    sections: "dict[str, type[BaseModel]]",
) -> BadSettings:
    # a key that is misspelt is missing, too
    first = min(err.errors(), key=lambda each: each["type"] != "extra_forbidden")
    name = ".".join(map(str, first["loc"])) or "the file"
    if first["type"] == "extra_forbidden":
        inner = [sections[part] for part in map(str, first["loc"]) if part in sections]
        keys = [schema, *inner][-1].model_fields
        said = f"there is no setting {name!r}; the settings are {', '.join(keys)}"
    else:
        said = f"{name}: {_SAID.get(first['type'], first['msg'].lower())}"
    place = tuple(first["loc"])
    while place not in lines and place:  # what is missing has no line
        place = place[:-1]
    return BadSettings(file, lines.get(place, 1), said)


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


def _check_brand(raw: dict[str, Any], file: Path, lines: dict[tuple[Any, ...], int]) -> None:
    try:
        brand_of(raw)
    except BadBrand as err:
        line = lines["catalog", *err.place]
        raise BadSettings(file, line, f"catalog.{'.'.join(err.place)}: {err.said}") from err


def _elements(
    items: list[dict[str, Any]],
    file: Path,
    lines: dict[tuple[Any, ...], int],
    known: Collection[str] | None,
) -> Iterable[Element]:
    """Those of a section; `known` are the keywords that may be asked for, where that is known."""
    seen: set[str] = set()
    for place, item in enumerate(items):
        line = lines["search", "elements", place]
        kind = ElementType(item["type"])
        keywords = [item["keyword"], *item["alternate_keywords"]]
        for keyword in keywords:
            if not kind.takes(keyword, _vr(keyword, file, line)):
                raise BadSettings(file, line, f"{keyword} cannot be asked for by a {kind}")
            if known is not None and keyword not in known:
                raise BadSettings(file, line, f"{keyword} is not recorded; put it under tags")
        if item["keyword"] in seen:
            said = f"{item['keyword']} has an element already; join them by alternate_keywords"
            raise BadSettings(file, line, said)
        seen.add(item["keyword"])
        for key, kinds in _ONLY_OF.items():
            if item[key] and kind not in kinds:
                raise BadSettings(file, line, f"{key} means nothing for a {kind}")
        rest = {key: item[key] for key in ("min", "max", "auto_complete", "enabled")}
        if None not in (item["min"], item["max"]) and not item["min"] <= item["max"]:
            raise BadSettings(file, line, "its min is above its max")
        yield Element(kind, keywords[0], item["label"] or keywords[0], tuple(keywords[1:]), **rest)


def _vr(keyword: str, file: Path, line: int) -> str:
    """The value representation of an element that can be asked for; "" of what is no element."""
    from pydicom.datadict import dictionary_VR

    if keyword in OWN:
        return ""
    number = _number(keyword, file, line)
    vr = dictionary_VR(number)
    if is_denied(number, keyword, vr):
        raise DeniedSetting(file, line, keyword)
    return vr


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
