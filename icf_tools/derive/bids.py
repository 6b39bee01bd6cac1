"""Give the verified files of a visit their places in a BIDS tree.

in: Candidates, the Plan of the study, a Visit    out: Arranged

Nothing is written or copied: a path is to hold the content of a candidate's file, and
only a text that says more than the converter did (TaskName, say) is made here.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from icf_tools.derive.bids_names import Candidate, Image, image_of, name_images
from icf_tools.errors import Conflict
from icf_tools.model import reproin
from icf_tools.model.bids import Labels, Meaning, Plan, Skipped, label, like
from icf_tools.model.bids_terms import FORMS, ORDER
from icf_tools.model.visit import Visit

__all__ = ["Arranged", "Candidate", "ManySessions", "arrange"]

_VOLUME = (".nii.gz", ".nii")
_GRADIENTS = (".bval", ".bvec")
_NO_RULE = "no rule matches it"
_CORRECTED = ("anat", "dwi", "func", "perf")


class ManySessions(Conflict):
    message = (
        "the names of the series of {} give it the sessions {}; "
        "let `visit` in the section bids of study.yaml give the session"
    )


@dataclass(frozen=True, slots=True)
class Arranged:
    """Where the files of a visit belong; paths are below the root of the BIDS tree."""

    labels: Labels
    files: dict[str, tuple[str, str]]  #: path -> name and suffix of a candidate's file
    made: dict[str, bytes]  #: path -> content that no file of a candidate has
    unmatched: tuple[tuple[Candidate, str], ...]  #: and why it has no place
    skipped: tuple[tuple[Candidate, str], ...]  #: and who leaves it out


def arrange(candidates: Iterable[Candidate], plan: Plan, visit: Visit) -> Arranged:
    """Where the plan puts them. Raises NoLabels, ManySessions."""
    unmatched: list[tuple[Candidate, str]] = []
    skipped: list[tuple[Candidate, str]] = []
    images: list[Image] = []
    sessions: set[str] = set()
    spelled: dict[tuple[str, str], str] = {}
    unknown = {criterion.field for rule in plan.rules for criterion in rule.match}
    for candidate in sorted(candidates, key=_by_series):
        # these two a rule can ask for, too; of the number, the sidecar may know better
        fields = {"SeriesNumber": candidate.number, **candidate.sidecar}
        fields["Volumes"] = candidate.volumes
        unknown -= fields.keys()
        if plan.names_sessions and (reading := reproin.read(fields)):
            sessions |= {label(reading.session)} - {""}
        match plan.meaning(fields):
            case Meaning() as meaning:
                images.append(image_of(candidate, meaning, spelled))
            case Skipped(reason):
                skipped.append((candidate, reason))
            case None:
                unmatched.append((candidate, _NO_RULE))
    labels = _labels(plan, visit, sessions)
    while refused := name_images(images, labels) or _intend(images, labels):
        unmatched += [(images[place].candidate, why) for place, why in refused.items()]
        images = [image for place, image in enumerate(images) if place not in refused]
    if unknown:
        said = f"no rule matches it; no series of the visit has {', '.join(sorted(unknown))}"
        unmatched = [(each, why.replace(_NO_RULE, said)) for each, why in unmatched]
    unmatched.sort(key=lambda each: _by_series(each[0]))
    places: dict[str, tuple[str, str]] = {}
    made: dict[str, bytes] = {}
    for image in images:
        gradients = _GRADIENTS if FORMS[image.datatype][image.suffix].gradients else ()
        for suffix in image.candidate.suffixes:
            if suffix in (*_VOLUME, ".json", *gradients):
                places[image.path + suffix] = image.candidate.name, suffix
        if image.sidecar != image.candidate.sidecar:
            places.pop(f"{image.path}.json", None)
            made[f"{image.path}.json"] = _json(image.sidecar)
        if image.rule.aslcontext:
            made[_context_path(image, labels)] = _context(image)
    order = dict(sorted(places.items())), dict(sorted(made.items()))
    return Arranged(labels, *order, tuple(unmatched), tuple(skipped))


def _by_series(candidate: Candidate) -> tuple[int, str, str]:
    return candidate.number, candidate.series, candidate.name


def _labels(plan: Plan, visit: Visit, sessions: set[str]) -> Labels:
    """What the plan says of the visit counts before what the names of its series say."""
    labels = plan.labels(visit.visit)
    if not sessions or labels.session:
        return labels
    if len(sessions) > 1:
        raise ManySessions(visit, ", ".join(sorted(sessions)))
    return plan.labels(visit.visit, *sessions)


def _intend(images: Sequence[Image], labels: Labels) -> dict[int, str]:
    """Say in field maps what they are for; or which of them need to, and cannot.

    BIDS URIs: BIDS specification, "Common principles"; paths without `bids::` are deprecated.
    """
    paths = [image.path + _volume(image) for image in images if image.datatype in _CORRECTED]
    refused = {}
    for place, image in enumerate(images):
        below = {path: path.removeprefix(f"{labels.folder}/") for path in paths}
        fit = sorted(
            path
            for path, short in below.items()
            if path != image.path + _volume(image)
            and any(like(short, pattern) for pattern in image.rule.intended_for)
        )
        if fit and (image.datatype == "fmap" or image.suffix == "m0scan"):
            image.sidecar["IntendedFor"] = [f"bids::{path}" for path in fit]
        if "IntendedFor" in FORMS[image.datatype][image.suffix].fields and not fit:
            refused[place] = "its rule has to have intended_for, and a file has to fit that"
    return refused


def _volume(image: Image) -> str:
    return next((suffix for suffix in _VOLUME if suffix in image.candidate.suffixes), "")


def _json(content: dict[str, Any]) -> bytes:
    """As `scrub.sidecar` writes it."""
    return json.dumps(content, indent=1, sort_keys=True).encode() + b"\n"


def _context_path(image: Image, labels: Labels) -> str:
    names = [
        f"{key}-{image.entities[key]}"
        for key in ORDER
        if key in image.entities and key not in ("echo", "part")
    ]
    stem = "_".join([labels.prefix, *names, "aslcontext"])
    return f"{labels.folder}/{image.datatype}/{stem}.tsv"


def _context(image: Image) -> bytes:
    """What each volume is; BIDS specification, "aslcontext.tsv"."""
    types = image.rule.aslcontext
    rows = [types[volume % len(types)] for volume in range(image.candidate.volumes)]
    return "\n".join(["volume_type", *rows, ""]).encode()
