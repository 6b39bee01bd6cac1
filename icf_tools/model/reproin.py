"""What a series is, read from a name that follows ReproIn.

in: fields of its sidecar    out: Reading, or None where no name of it is such a name

Source: ReproNim, README of ReproIn; the naming is specified in the header of heudiconv's
heuristic `reproin.py`, "Sequence naming on the scanner console":

    [PREFIX:][WIP ]<datatype[-suffix]>[_ses-..][_task-..][_acq-..][_run-..][_dir-..]..[__anything]
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from icf_tools.model.bids_terms import FORMS

AUTOMATIC = "+"
"""A run that the name leaves to be counted."""

_DATATYPES = ("anat", "func", "fmap", "dwi")
_MAPS = {"ADC": "ADC", "FA": "FA", "EXP": "expADC", "TRACEW": "trace"}
"""ImageType of what a scanner computes from diffusion images under the same ProtocolName."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a name says; its values are as they were written."""

    datatype: str
    suffix: str = ""  #: empty where neither the name nor the image tells it
    entities: Mapping[str, str] = field(default_factory=dict)
    session: str = ""
    scout: bool = False  #: left out by the convention


def read(fields: Mapping[str, Any]) -> Reading | None:
    """Of ProtocolName; of SeriesDescription where that says nothing."""
    protocol, description = (
        str(fields.get(key) or "").strip() for key in ("ProtocolName", "SeriesDescription")
    )
    words = _words(protocol) or _words(description)
    if not words:
        return None
    datatype, _, suffix = words[0].partition("-")
    entities: dict[str, str] = {}
    session = ""
    for word in words[1:]:
        key, dash, value = word.partition("-")
        if not dash and key[-1:] in ("+", "="):
            key, value = key[:-1], key[-1]
        if key == "ses":
            # `+`, `{date}` and `DATE` depend on other visits and on the day: not on this name
            session = "" if re.search(r"[+={}()]|\ADATE\Z", value) else value
        elif key == "run" and value in ("+", "="):
            # `=` is for another name, and each name has its own count here
            entities["run"] = AUTOMATIC
        elif value:
            entities[key] = value
        elif not suffix and _known(datatype, key):
            suffix = key  # as BIDS has it: anat_acq-mprage_T1w
    kinds = [str(kind) for kind in _list(fields.get("ImageType"))]
    scout = suffix.lower().startswith("scout") or "_scout" in description.lower()
    if scout or (description and description.lower() == f"{protocol.lower()}_setter"):
        return Reading(datatype, session=session, scout=True)
    if "MOCO" in kinds:
        entities.setdefault("rec", "moco")
    if mip := next((kind for kind in kinds if kind.startswith("MIP")), ""):
        direction = "".join(kind for kind in kinds if kind in ("SAG", "COR", "TRA"))
        entities["acq"] = entities.get("acq", "") + mip + direction
    suffix = _suffix(datatype, suffix, kinds, "dir" in entities, description)
    return Reading(datatype, suffix, entities, session)


def _words(text: str) -> list[str]:
    """What stands between underscores, datatype first; none where it is no ReproIn name."""
    text = re.sub(r"\A[A-Z]*:", "", text)
    text = re.sub(r"\AWIP[ _]", "", text)  # Philips puts it first
    words = text.partition("__")[0].strip().split("_")
    if words[0] == "bids":
        words = words[1:]
    if words and words[0] == "scout":
        words[0] = "anat-scout"
    return words if words and words[0].partition("-")[0] in _DATATYPES else []


def _known(datatype: str, suffix: str) -> str:
    """The suffix as BIDS writes it, or nothing."""
    known = {each.lower(): each for each in FORMS[datatype]}
    return known.get(suffix.lower(), "")


def _suffix(datatype: str, said: str, kinds: list[str], has_dir: bool, description: str) -> str:
    if description.endswith("_SBRef") and "sbref" in FORMS[datatype]:
        return "sbref"
    if datatype == "dwi" and said in ("", "dwi"):
        maps = [suffix for kind, suffix in _MAPS.items() if kind in kinds]
        return maps[0] if maps else "dwi"
    if said:
        return _known(datatype, said) or said
    if datatype == "fmap":
        # of a gradient-echo field map, the image says later which one it is
        return "epi" if has_dir or "DIFFUSION" in kinds else "magnitude"
    return "bold" if datatype == "func" else ""


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]
