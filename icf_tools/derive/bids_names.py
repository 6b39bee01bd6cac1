"""Name the images of a visit as BIDS does, or say why one has no name.

in: Images, each with what a rule says of it    out: the same with path and sidecar; Refusals

Which run, echo and part a file is, and which image of a field map, shows only beside the
others of the visit. Source: BIDS specification 1.11.1, "Magnetic Resonance Imaging", and
its schema, `rules/checks` and `rules/sidecars`.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from icf_tools.model import reproin
from icf_tools.model.bids import Labels, Meaning, Rule, label
from icf_tools.model.bids_plan import wrong_value
from icf_tools.model.bids_terms import (
    ENTITY_FIELDS,
    FORMS,
    GRADIENT_ECHO,
    INDICES,
    ORDER,
    PERF_FIELDS,
    family,
)

_LONGEST = 240  # bytes; 255 in most file systems, less what follows
_ECHO_DISTANCE = (0.0001, 0.01)  # seconds between EchoTime1 and EchoTime2; checks/fmap.yaml
_B0 = ("B0FieldIdentifier", "B0FieldSource")
_PARTS = {"phase": {"P", "PHASE"}, "real": {"R", "REAL"}, "imag": {"I", "IMAGINARY"},
          "mag": {"M", "MAGNITUDE"}, "hz": {"FIELDMAPHZ"}}  # fmt: skip
"""Values of ImageType from the third on: those of vendors, and what dcm2niix adds to them."""

Refusals: TypeAlias = dict[int, str]  # place in the list of images -> why


@dataclass(frozen=True, slots=True)
class Candidate:
    """A verified NIfTI file, and what belongs to it."""

    series: str  #: SeriesInstanceUID
    number: int  #: SeriesNumber
    name: str  #: of the file, without extensions
    sidecar: Mapping[str, Any]  #: its JSON; empty where there is none
    suffixes: tuple[str, ...]  #: of its files, such as `.nii.gz` and `.json`
    volumes: int  #: size of the 4th dimension; 1 where there is none


@dataclass(slots=True, eq=False)
class Image:
    """A candidate on its way to a name."""

    candidate: Candidate
    rule: Rule
    datatype: str
    said: str  #: the suffix, as a rule has it
    told: dict[str, str]  #: entities, as a rule has them
    part: str = ""  #: mag, phase, real, imag or hz: what was made of the signal
    problem: str = ""
    echo: int = 1
    suffix: str = ""  #: the final one, as all below
    entities: dict[str, str] = field(default_factory=dict)
    sidecar: dict[str, Any] = field(default_factory=dict)
    path: str = ""  #: without extension

    @property
    def in_field_map(self) -> bool:
        """Whether it is one of the images of a gradient-echo field map."""
        return self.datatype == "fmap" and self.said in GRADIENT_ECHO

    @property
    def kind(self) -> tuple[str, str]:
        """Images of one kind, of one run, differ in their echo alone.

        What does not say of what it was made is taken for a magnitude.
        """
        return ("gradient echo" if self.in_field_map else self.said), self.part or "mag"

    @property
    def group(self) -> tuple[object, ...]:
        """Images of one group belong together, or repeat each other."""
        left_out = ["echo", "part"]
        if self.told.get("run") == reproin.AUTOMATIC:
            left_out.append("run")
        return self.datatype, family(self.datatype, self.said), _key(self.told, left_out)

    @property
    def name(self) -> tuple[object, ...]:
        """Equal for names that BIDS takes for the same."""
        return self.datatype, self.suffix, _key(self.entities)


def _key(entities: Mapping[str, str], left_out: Iterable[str] = ()) -> tuple[object, ...]:
    """With 01 as 1, and without case."""
    return tuple(
        (key, int(value) if key in INDICES and value.isdecimal() else value.lower())
        for key, value in sorted(entities.items())
        if key not in left_out
    )


def image_of(candidate: Candidate, meaning: Meaning, spelled: dict[tuple[str, str], str]) -> Image:
    """With labels as BIDS allows them.

    Labels that differ in case alone become the one that came first, which `spelled` keeps.
    """
    told: dict[str, str] = {}
    problem = ""
    for key, value in meaning.entities.items():
        if key not in ORDER:  # it is not repeated here: the scanner wrote it
            problem = "its name has an entity that BIDS does not have for MR"
        elif key == "run" and value == reproin.AUTOMATIC:
            told[key] = value
        elif text := label(value):
            told[key] = spelled.setdefault((key, text.lower()), text)
            problem = problem or wrong_value(key, text)
    image = Image(candidate, meaning.rule, meaning.datatype, meaning.suffix, told, problem=problem)
    types = candidate.sidecar.get("ImageType")
    values = {str(each) for each in types[2:]} if isinstance(types, list) else set()
    parts = [part for part, names in _PARTS.items() if values & names]
    if "hz" in parts and image.in_field_map:
        image.said, image.part = "fieldmap", "hz"
    elif told.get("part"):
        image.part = told["part"]
    elif len(parts) == 1:  # with more, dcm2niix left magnitude and phase in one file
        image.part = parts[0]
    elif image.in_field_map:
        image.part = "mag" if image.said.startswith("magnitude") else "phase"
    return image


def name_images(images: Sequence[Image], labels: Labels) -> Refusals:
    """Give each its path and sidecar; or say which have to go before it can be done.

    They are in the order of their series. What has no place must not take a run
    from others, so call it again with the rest until none has to go.
    """
    if refused := _each(images, _unfit):
        return refused
    groups: dict[tuple[object, ...], list[Image]] = {}
    for image in images:
        groups.setdefault(image.group, []).append(image)
    for group in groups.values():
        _number_echoes(group)
    if refused := _alike(images, lambda image: (image.group, image.kind, image.echo)):
        return refused
    for group in groups.values():
        runs = _runs(group)
        for number, run in enumerate(runs, start=1):
            for image in run:
                _finish(image, run, number if len(runs) > 1 else 0, labels)
    if refused := _each(images, _incomplete):
        return refused
    if refused := _alike(images, lambda image: image.name):
        return refused
    last = {image.name: image.candidate for image in images}
    return _each(
        images,
        lambda image: (
            ""
            if last[image.name] is image.candidate
            else f"series {last[image.name].number} has the same name and came later, "
            "as after a run that was cancelled"
        ),
    )


def _alike(images: Sequence[Image], key: Callable[[Image], object]) -> Refusals:
    found = Counter((image.candidate.series, key(image)) for image in images)
    said = "images of its series cannot be told apart; give each a rule"
    return _each(images, lambda each: said if found[each.candidate.series, key(each)] > 1 else "")


def _each(images: Sequence[Image], why: Callable[[Image], str]) -> Refusals:
    reasons = ((place, why(image)) for place, image in enumerate(images))
    return {place: reason for place, reason in reasons if reason}


def _unfit(image: Image) -> str:
    """Why BIDS has no place for it, whatever there is beside it."""
    if image.problem:
        return image.problem
    if not image.said:
        return f"its name says {image.datatype}, and not which kind of it"
    # which image of a field map it is comes out later; they do not differ in this
    form = FORMS[image.datatype].get(image.said)
    if form is None:
        return f"its name has a suffix that BIDS does not have for {image.datatype}"
    what = f"{image.datatype}/{image.said}"
    if wrong := [key for key in ORDER if key in image.told and key not in form.allowed]:
        return f"{what} has no entity {wrong[0]} in BIDS"
    if missing := [key for key in ORDER if key in form.required - {"echo"} - image.told.keys()]:
        return f"{what} has to have the entity {missing[0]} in BIDS"
    if form.gradients == "must" and not {".bval", ".bvec"} <= set(image.candidate.suffixes):
        return f"{what} has to have .bval and .bvec in BIDS"
    volumes = image.candidate.volumes
    if form.volumes and (form.volumes == "one volume") != (volumes == 1):
        return f"{what} has to have {form.volumes} in BIDS, and it has {volumes}"
    types = image.rule.aslcontext
    if types and volumes % len(types):
        return f"aslcontext has {len(types)} entries, which do not fill its {volumes} volumes"
    return ""


def _number_echoes(group: Sequence[Image]) -> None:
    """By EchoNumber; where a converter does not tell it, by EchoTime within the series."""
    for image in group:
        alike = [
            each
            for each in group
            if each.candidate.series == image.candidate.series and each.kind == image.kind
        ]
        number = image.candidate.sidecar.get("EchoNumber")
        times = {_seconds(each.candidate.sidecar.get("EchoTime")) for each in alike}
        if image.told.get("echo"):
            image.echo = int(image.told["echo"])
        elif len(alike) == 1 and image.in_field_map and image.said[-1].isdecimal():
            image.echo = int(image.said[-1])  # as of magnitude2, in a series of its own
        elif isinstance(number, int) and number > 0 and number is not True:
            image.echo = number
        else:
            image.echo = 1 + sorted(times).index(_seconds(image.candidate.sidecar.get("EchoTime")))


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _runs(group: Sequence[Image]) -> list[list[Image]]:
    """Series that belong together: as long as no image comes a second time.

    So a magnitude and its phase are one run, and so are a time series and the reference
    (sbref) that was scanned for it, always before it.
    """
    runs: list[list[Image]] = []
    taken: set[object] = set()
    series: dict[tuple[int, str], list[Image]] = {}
    for image in group:
        series.setdefault((image.candidate.number, image.candidate.series), []).append(image)
    for images in series.values():
        keys = {(image.kind, image.echo) for image in images}
        reference = all(image.said == "sbref" for image in images)
        after = reference and any(image.said != "sbref" for image in (runs[-1] if runs else []))
        if not runs or taken & keys or after:
            runs.append([])
            taken = set()
        runs[-1] += images
        taken |= keys
    return runs


def _finish(image: Image, run: Sequence[Image], number: int, labels: Labels) -> None:
    """Everything of it, beside the others of its run; `number` is 0 if it is the only one."""
    form = FORMS[image.datatype][image.said]
    echoes = sorted({each.echo for each in run if each.kind == image.kind})
    image.suffix = _of_field_map(image, run, echoes) if image.in_field_map else image.said
    image.entities = dict(image.told)
    if image.told.get("run") == reproin.AUTOMATIC:
        image.entities["run"] = str(number or 1)
    elif number and "run" not in image.told and not image.rule.reproin:
        image.entities["run"] = str(number)
    if "echo" in form.allowed and (len(echoes) > 1 or "echo" in form.required):
        image.entities["echo"] = str(image.echo)
    parts = {each.part for each in run if each.said == image.said} - {""}
    if "part" in form.allowed and image.part and (image.part != "mag" or len(parts) > 1):
        image.entities["part"] = image.part
    names = [f"{key}-{image.entities[key]}" for key in ORDER if key in image.entities]
    stem = "_".join([labels.prefix, *names, image.suffix])
    image.path = f"{labels.folder}/{image.datatype}/{stem}"
    image.problem = _problem(image, run, len(echoes), parts)
    image.sidecar = _sidecar(image, run, labels)


def _problem(image: Image, run: Sequence[Image], echoes: int, parts: Collection[str]) -> str:
    """Why it cannot be named beside the others of its run."""
    allowed = FORMS[image.datatype][image.said].allowed
    what = f"{image.datatype}/{image.said}"
    if image.said == "fieldmap" and not any(each.in_field_map for each in run):
        return f"{what} has to have a magnitude beside it in BIDS"
    if image.in_field_map:
        return "" if image.part in ("mag", "phase") else "BIDS has no real or imaginary field maps"
    if echoes > 1 and "echo" not in allowed:
        return f"its series has {echoes} echoes, and {what} has no entity echo in BIDS"
    if len(parts) > 1 and image.part != "mag" and "part" not in allowed:
        return f"it is beside its magnitude, and {what} has no entity part in BIDS"
    return ""


def _of_field_map(image: Image, run: Sequence[Image], echoes: Sequence[int]) -> str:
    """The suffix; BIDS specification, "Fieldmap data", cases 1 to 3."""
    several = str(echoes.index(image.echo) + 1) if len(echoes) > 1 else ""
    if image.part == "phase":
        alone = image.said if image.said.startswith("phase") else "phasediff"
        return f"phase{several}" if several else alone
    if image.part != "mag":
        return image.said
    if any(each.said == "fieldmap" for each in run) and several in ("", "1"):
        return "magnitude"
    if several:
        return f"magnitude{several}"
    return image.said if image.said in ("magnitude1", "magnitude2") else "magnitude1"


def _sidecar(image: Image, run: Sequence[Image], labels: Labels) -> dict[str, Any]:
    """What the converter said, and what BIDS wants to be said beside it."""
    content = dict(image.candidate.sidecar)
    if "task" in image.entities:
        content["TaskName"] = image.entities["task"]
    if "mt" in image.entities:
        content["MTState"] = image.entities["mt"] == "on"
    if image.entities.get("part") == "phase":
        content.setdefault("Units", "arbitrary")  # which it is, unless someone knows better
    if image.part == "hz":
        content["Units"] = "Hz"  # dcm2niix says so of its own FIELDMAPHZ
    if image.suffix == "phasediff" and "EchoTime1" not in content:
        times = sorted(_seconds(each.candidate.sidecar.get("EchoTime")) for each in run
                       if each.in_field_map and each.part == "mag")  # fmt: skip
        if len(times) == 2 and times[0] > 0:
            content |= {"EchoTime1": times[0], "EchoTime2": times[1]}
    content |= image.rule.add
    for key in _B0:
        if key in content and labels.session:  # it has to be unique among all of a subject
            value, tail = content[key], f"_ses{labels.session}"
            several = isinstance(value, list)
            content[key] = [f"{each}{tail}" for each in value] if several else f"{value}{tail}"
    return content


def _incomplete(image: Image) -> str:
    """Why BIDS does not take it as it is now."""
    form = FORMS[image.datatype].get(image.suffix)
    if image.problem or form is None:
        return image.problem or f"there is no {image.datatype}/{image.suffix} in BIDS"
    if len(image.path.rpartition("/")[2]) > _LONGEST:
        return "its name would be too long for a file system; give it shorter labels"
    what = f"{image.datatype}/{image.suffix}"
    if form.volumes == "one volume" and image.candidate.volumes != 1:
        return f"{what} has to have one volume in BIDS, and it has {image.candidate.volumes}"
    wanted = [*form.fields, *(ENTITY_FIELDS[key] for key in ENTITY_FIELDS if key in image.entities)]
    if image.datatype == "perf":
        for key, values, then in PERF_FIELDS:
            if image.sidecar.get(key) in values:
                wanted.append(then)
    for each in wanted:
        if each != "IntendedFor" and not any(key in image.sidecar for key in each.split("|")):
            either = each.replace("|", " or ")
            return f"{what} has to have {either} in its sidecar; `add` it if you know it"
    if image.suffix == "phasediff":
        first, second = (_seconds(image.sidecar[key]) for key in ("EchoTime1", "EchoTime2"))
        if not _ECHO_DISTANCE[0] <= second - first <= _ECHO_DISTANCE[1]:
            return "EchoTime2 has to be 0.1 to 10 ms after EchoTime1 in BIDS"
    return ""
