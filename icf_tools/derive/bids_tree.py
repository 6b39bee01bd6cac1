"""The BIDS tree of a visit: other places for the NIfTI files that it has.

in: the Report of a visit, the study's Plan    out: the Report with the files below bids/

No volume is copied: the same content has two paths. docs/bids.md tells about rules.
"""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel

from icf_tools import __version__
from icf_tools.derive.bids import Candidate, arrange
from icf_tools.derive.files import File
from icf_tools.derive.report import Entry, Made, Report, Target
from icf_tools.derive.shelf import Shelf
from icf_tools.model import bids_texts
from icf_tools.model.bids import Plan
from icf_tools.model.visit import Visit

_VOLUME = ".nii.gz"
_SUFFIXES = (_VOLUME, ".json", ".bval", ".bvec")
ROOT = f"{Target.BIDS}/"


@dataclass(frozen=True, slots=True)
class _Volume:
    """A NIfTI file of a series, with what belongs to it."""

    entry: Entry
    candidate: Candidate
    files: dict[str, Made]  #: by suffix


def place(report: Report, plan: Plan, visit: Visit, shelf: Shelf, work: Path) -> Report:
    """Give all verified files their places; `work` is a folder for what is written.

    Raises NoLabels, ManySessions.
    """
    volumes = {volume.candidate.name: volume for volume in _volumes(report, shelf)}
    found = arrange((volume.candidate for volume in volumes.values()), plan, visit)
    outputs: dict[str, list[Made]] = {entry.uid: [] for entry in report.entries}
    series = {}  # of each path without its suffix
    for path, (name, suffix) in found.files.items():
        there = volumes[name].files[suffix]
        made = replace(there, path=f"{ROOT}{path}")
        shelf.link(there, made)
        outputs[volumes[name].entry.uid].append(made)
        series[path.removesuffix(suffix)] = volumes[name].entry.uid
    own: list[Made] = []
    for path, content in {**found.made, **_texts(plan, visit, found.labels.subject)}.items():
        file = File.write(work, f"{ROOT}{path}", content)
        shelf.keep(file)
        outputs.get(series.get(path.removesuffix(".json"), ""), own).append(file.made)
    lacking: dict[str, list[str]] = {}
    for candidate, why in (*found.unmatched, *found.skipped):
        lacking.setdefault(candidate.series, []).append(why)
    return replace(
        report,
        outputs=tuple(sorted(own, key=lambda made: made.path)),
        entries=tuple(
            _placed(entry, outputs[entry.uid], lacking.get(entry.uid, []))
            for entry in report.entries
        ),
    )


def _placed(entry: Entry, outputs: list[Made], why: list[str]) -> Entry:
    others = [made for made in entry.outputs if made.target != Target.BIDS]
    lacking = {target: said for target, said in entry.lacking.items() if target != Target.BIDS}
    if why:
        lacking[str(Target.BIDS)] = "; ".join(sorted(set(why)))
    ordered = sorted([*others, *outputs], key=lambda made: made.path)
    return replace(entry, outputs=tuple(ordered), lacking=lacking)


def _volumes(report: Report, shelf: Shelf) -> Iterator[_Volume]:
    for entry in report.entries:
        files = {Path(made.path).name: made for made in entry.of(Target.NIFTI)}
        for name in files if entry.status == "verified" else ():
            if name.endswith(_VOLUME):
                stem = name.removesuffix(_VOLUME)
                mine = {
                    suffix: files[stem + suffix] for suffix in _SUFFIXES if stem + suffix in files
                }
                text = shelf.path(mine[".json"]).read_bytes() if ".json" in mine else b"{}"
                count = _count(shelf.path(mine[_VOLUME]))
                candidate = Candidate(
                    entry.uid, entry.number, stem, json.loads(text), tuple(mine), count
                )
                yield _Volume(entry, candidate, mine)


def _count(path: Path) -> int:
    """How many volumes a file has."""
    with gzip.open(path) as file:
        header = nibabel.Nifti1Header.from_fileobj(file)
    shape = header.get_data_shape()
    return int(shape[3]) if len(shape) > 3 else 1


def _texts(plan: Plan, visit: Visit, subject: str) -> dict[str, bytes]:
    """What makes a dataset of the tree."""
    return {
        "README": bids_texts.readme(plan, visit.study),
        "dataset_description.json": bids_texts.dataset_description(plan, visit.study, __version__),
        "participants.json": bids_texts.participants_json(),
        "participants.tsv": bids_texts.participants_tsv([subject]),
    }
