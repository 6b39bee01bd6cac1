"""Files get the places that BIDS has for them; the validator of BIDS agrees."""

import json
import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import dcm2niix
import nibabel
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from icf_tools.derive.bids import Arranged, Candidate, ManySessions, arrange
from icf_tools.derive.scrub import sidecar
from icf_tools.model.bids import check_labels
from icf_tools.model.bids_plan import plan_of
from icf_tools.model.bids_terms import FORMS, ORDER
from icf_tools.model.bids_texts import (
    dataset_description,
    participants_json,
    participants_tsv,
    readme,
)
from icf_tools.model.visit import Visit

VISIT = Visit("study", "P1")
FOUR = (".nii.gz", ".json", ".bval", ".bvec")


def file(
    number: int, protocol: str, *kinds: str, volumes: int = 1, name: str = "", **fields: Any
) -> Candidate:
    """One of series `number`; `kinds` are the third and later values of ImageType."""
    sidecar: dict[str, Any] = {"ProtocolName": protocol, "Modality": "MR", **fields}
    if kinds:
        sidecar["ImageType"] = ["ORIGINAL", "PRIMARY", *kinds]
    gradients = "EPI" in kinds or "DIFFUSION" in kinds
    return Candidate(
        f"1.2.{number}",
        number,
        name or f"{number:03}_{re.sub('[^A-Za-z0-9]+', '-', protocol)}{''.join(kinds[:1])}",
        sidecar,
        FOUR if gradients else FOUR[:2],
        volumes,
    )


def bold(number: int, protocol: str = "task-rest", *kinds: str, **fields: Any) -> Candidate:
    given = {"volumes": 5, "RepetitionTime": 2.0, "EchoTime": 0.03} | fields
    return file(number, protocol, *kinds, **given)


def rules(*given: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"rules": list(given), **more}


T1W: dict[str, Any] = {"match": {"ProtocolName": "t1*"}, "datatype": "anat", "suffix": "T1w"}
BOLD: dict[str, Any] = {
    "match": {"ProtocolName": {"re": "task-(?P<task>.*?)(_|$)"}},
    "datatype": "func",
    "suffix": "bold",
}
SBREF = BOLD | {"match": BOLD["match"] | {"SeriesDescription": "*_SBRef"}, "suffix": "sbref"}
DWI: dict[str, Any] = {"match": {"ProtocolName": "dti*"}, "datatype": "dwi", "suffix": "dwi"}
FIELD_MAP: dict[str, Any] = {
    "match": {"ProtocolName": "*field_map*"},
    "datatype": "fmap",
    "suffix": "phasediff",
    "intended_for": ["func/*_bold.nii.gz"],
}


def names(arranged: Arranged) -> dict[str, str]:
    """Where the volumes are: the name of a candidate by what follows the subject."""
    assert all(path.startswith(f"{arranged.labels.folder}/") for path in arranged.files)
    return {
        re.sub(r"\.nii\.gz$", "", path.rpartition("/")[2]).removeprefix(
            f"{arranged.labels.prefix}_"
        ): name
        for path, (name, suffix) in arranged.files.items()
        if suffix == ".nii.gz"
    }


def arranged(given: Mapping[str, Any], *candidates: Candidate) -> Arranged:
    return arrange(candidates, plan_of(given), VISIT)


def told(given: Mapping[str, Any], *candidates: Candidate) -> list[str]:
    """Names in the order of the candidates; reasons of those that have none."""
    shuffled = list(candidates)
    random.Random(4711).shuffle(shuffled)
    result = arranged(given, *shuffled)
    assert result == arranged(given, *candidates), "the order of what is given counts"
    by_name = {name: path for path, name in names(result).items()}
    reasons = {each.name: why for each, why in (*result.unmatched, *result.skipped)}
    assert by_name.keys() | reasons.keys() == {each.name for each in candidates}
    assert not by_name.keys() & reasons.keys()
    return [(by_name | reasons)[each.name] for each in candidates]


def test_a_visit() -> None:
    plan = rules(
        {"match": {"ProtocolName": "*localizer*"}, "skip": True}, T1W, BOLD, SBREF, DWI, FIELD_MAP
    )
    result = arranged(
        plan,
        file(1, "AAlocalizer"),
        file(2, "t1_mprage", "M"),
        bold(3),
        file(4, "dti", "DIFFUSION", volumes=7),
        file(5, "report"),
    )
    assert result.files == {
        "sub-P1/anat/sub-P1_T1w.json": ("002_t1-mprageM", ".json"),
        "sub-P1/anat/sub-P1_T1w.nii.gz": ("002_t1-mprageM", ".nii.gz"),
        "sub-P1/dwi/sub-P1_dwi.bval": ("004_dtiDIFFUSION", ".bval"),
        "sub-P1/dwi/sub-P1_dwi.bvec": ("004_dtiDIFFUSION", ".bvec"),
        "sub-P1/dwi/sub-P1_dwi.json": ("004_dtiDIFFUSION", ".json"),
        "sub-P1/dwi/sub-P1_dwi.nii.gz": ("004_dtiDIFFUSION", ".nii.gz"),
        "sub-P1/func/sub-P1_task-rest_bold.nii.gz": ("003_task-rest", ".nii.gz"),
    }
    [(path, content)] = result.made.items()
    assert path == "sub-P1/func/sub-P1_task-rest_bold.json"
    assert json.loads(content) == {**bold(3).sidecar, "TaskName": "rest"}
    assert content.startswith(b'{\n "EchoTime": 0.03,\n')
    left = [(each.number, why.partition(";")[0]) for each, why in result.unmatched]
    assert left == [(5, "no rule matches it")]
    assert [(each.number, why) for each, why in result.skipped] == [(1, "a rule leaves it out")]


def test_repeated_series_are_runs() -> None:
    assert told(rules(T1W), file(3, "t1"), file(5, "t1")) == ["run-1_T1w", "run-2_T1w"]
    fixed = T1W | {"entities": {"run": 7}}
    first, last = told(rules(fixed), file(3, "t1"), file(5, "t1"))
    assert last == "run-7_T1w"
    assert first == "series 5 has the same name and came later, as after a run that was cancelled"


def test_what_has_no_place_takes_no_run() -> None:
    broken = bold(3, volumes=1)
    first, second = told(rules(BOLD), broken, bold(4))
    assert first == "func/bold has to have several volumes in BIDS, and it has 1"
    assert second == "task-rest_bold"


def test_a_reference_has_the_run_of_what_it_was_scanned_for() -> None:
    reference: dict[str, Any] = {"SeriesDescription": "x_SBRef", "volumes": 1}
    assert told(
        rules(SBREF, BOLD),
        bold(2, **reference),  # of a run that was cancelled
        bold(3, **reference),
        bold(4),
        bold(5),
        bold(6, **reference),
        bold(7),
    ) == [
        "task-rest_run-1_sbref",
        "task-rest_run-2_sbref",
        "task-rest_run-2_bold",
        "task-rest_run-3_bold",
        "task-rest_run-4_sbref",
        "task-rest_run-4_bold",
    ]


def echoes(number: int, *kinds: str, numbered: bool = True) -> list[Candidate]:
    return [
        bold(
            number,
            "task-rest",
            *kinds,
            name=f"{number}_e{echo}_{'-'.join(kinds)}",
            EchoTime=0.01 * echo,
            **({"EchoNumber": echo} if numbered else {}),
        )
        for echo in (1, 2, 3)
    ]


@pytest.mark.parametrize("numbered", [True, False])
def test_echoes_of_one_series(numbered: bool) -> None:
    [first, second, third] = echoes(3, numbered=numbered)
    assert told(rules(BOLD), third, second, first) == [
        "task-rest_echo-3_bold",
        "task-rest_echo-2_bold",
        "task-rest_echo-1_bold",
    ]
    assert told(rules(BOLD), *echoes(3, numbered=numbered), *echoes(4, numbered=numbered))[3:] == [
        "task-rest_run-2_echo-1_bold",
        "task-rest_run-2_echo-2_bold",
        "task-rest_run-2_echo-3_bold",
    ]


def test_echoes_that_are_series_of_their_own() -> None:
    # the first one has no number: dcm2niix gives one where it saw several
    four = [
        bold(3, EchoTime=0.01),
        bold(4, EchoTime=0.02, EchoNumber=2),
        bold(6, EchoTime=0.01),
        bold(7, EchoTime=0.02, EchoNumber=2),
    ]
    assert told(rules(BOLD), *four) == [
        "task-rest_run-1_echo-1_bold",
        "task-rest_run-1_echo-2_bold",
        "task-rest_run-2_echo-1_bold",
        "task-rest_run-2_echo-2_bold",
    ]


def test_magnitude_and_phase() -> None:
    three = [
        bold(3, "task-rest", "M"),
        bold(4, "task-rest", "P", "PHASE"),
        bold(5, "task-rest", "M"),
    ]
    assert told(rules(BOLD), *three) == [
        "task-rest_run-1_part-mag_bold",
        "task-rest_run-1_part-phase_bold",
        "task-rest_run-2_bold",
    ]
    result = arranged(rules(BOLD), *three)
    [phase] = [text for path, text in result.made.items() if "phase" in path]
    assert json.loads(phase)["Units"] == "arbitrary"
    both = [*echoes(3, "M"), *echoes(4, "P")]
    assert told(rules(BOLD), *both)[2:4] == [
        "task-rest_echo-3_part-mag_bold",
        "task-rest_echo-1_part-phase_bold",
    ]
    no_part = {"match": {"ProtocolName": "*"}, "datatype": "anat", "suffix": "T1map"}
    mag, phase_too = told(rules(no_part), file(3, "x", "M"), file(4, "x", "P"))
    assert (mag, phase_too) == (
        "T1map",
        "it is beside its magnitude, and anat/T1map has no entity part in BIDS",
    )
    assert told(rules(no_part), file(4, "x", "P")) == ["T1map"]


def field_map(number: int, **fields: Any) -> list[Candidate]:
    """As Siemens has it: two magnitudes are one series, their difference is the next one."""
    return [
        file(number, "gre_field_map", "M", name=f"{number}_e1", EchoTime=0.00492, EchoNumber=1),
        file(number, "gre_field_map", "M", name=f"{number}_e2", EchoTime=0.00738, EchoNumber=2),
        file(number + 1, "gre_field_map", "P", EchoTime=0.00738, EchoNumber=2, **fields),
    ]


@pytest.mark.parametrize("suffix", ["phasediff", "magnitude", "magnitude1", "phase1"])
def test_field_maps_with_a_difference(suffix: str) -> None:
    given = rules(FIELD_MAP | {"suffix": suffix, "add": {"B0FieldIdentifier": "b0"}}, BOLD)
    difference = "phase1" if suffix == "phase1" else "phasediff"
    assert told(given, *field_map(3)) == ["magnitude1", "magnitude2", difference]
    assert told(given, *field_map(3), *field_map(7))[3:] == [
        "run-2_magnitude1",
        "run-2_magnitude2",
        f"run-2_{difference}",
    ]
    result = arranged(given, *field_map(3), bold(6))
    content = json.loads(result.made[f"sub-P1/fmap/sub-P1_{difference}.json"])
    assert content["IntendedFor"] == ["bids::sub-P1/func/sub-P1_task-rest_bold.nii.gz"]
    assert content["B0FieldIdentifier"] == "b0"
    if suffix != "phase1":
        assert (content["EchoTime1"], content["EchoTime2"]) == (0.00492, 0.00738)


def test_other_field_maps() -> None:
    first, _, phase = field_map(3)
    given = rules(FIELD_MAP)
    assert told(given, first, phase)[0] == "magnitude1"
    [why] = told(given, phase)
    assert why == ("fmap/phasediff has to have EchoTime1 in its sidecar; `add` it if you know it")
    far = file(4, "field_map", "P", EchoTime1=0.005, EchoTime2=0.05)
    assert told(given, far) == ["EchoTime2 has to be 0.1 to 10 ms after EchoTime1 in BIDS"]
    assert told(given, file(4, "field_map", "R")) == ["BIDS has no real or imaginary field maps"]
    phases = [
        file(4, "field_map", "P", name=f"e{echo}", EchoTime=0.005 * echo, EchoNumber=echo)
        for echo in (1, 2)
    ]
    assert told(given, *phases) == ["phase1", "phase2"]
    hertz = file(4, "field_map", "M", "FIELDMAPHZ", name="hz")
    assert told(given, hertz, file(4, "field_map", "M")) == ["fieldmap", "magnitude"]
    assert told(given, hertz) == ["fmap/fieldmap has to have a magnitude beside it in BIDS"]
    ge = rules(
        FIELD_MAP | {"match": {"ProtocolName": "mag"}},
        FIELD_MAP | {"match": {"ProtocolName": "b0"}, "suffix": "fieldmap", "add": {"Units": "Hz"}},
    )
    maps = [file(4, "b0", *kinds, name=kinds[0]) for kinds in (["M"], ["OTHER"])]
    assert told(ge, file(3, "mag", "M"), *maps) == [
        "magnitude1",
        *["images of its series cannot be told apart; give each a rule"] * 2,
    ]
    assert told(ge, file(3, "mag", "M"), maps[1]) == ["magnitude", "fieldmap"]
    four = [
        file(4, "field_map", "M", name=f"e{echo}", EchoTime=0.005 * echo, EchoNumber=echo)
        for echo in (1, 2, 3)
    ]
    assert told(given, *four) == ["magnitude1", "magnitude2", "there is no fmap/magnitude3 in BIDS"]
    thick = file(4, "field_map", "M", volumes=3)
    assert "has to have one volume" in told(given, thick)[0]
    two = rules(
        FIELD_MAP | {"suffix": "magnitude1", "match": {"SeriesNumber": 3}},
        FIELD_MAP | {"suffix": "magnitude2", "match": {"SeriesNumber": 4}},
    )
    assert told(two, file(3, "a", "M"), file(4, "a", "M")) == ["magnitude1", "magnitude2"]


def test_identifiers_of_field_maps_are_unique_within_a_subject() -> None:
    rule = FIELD_MAP | {"add": {"B0FieldIdentifier": "b0", "B0FieldSource": ["b0", "b1"]}}
    plan = plan_of(rules(rule, visit="(?P<subject>.*)_(?P<session>.*)"))
    result = arrange(field_map(3), plan, Visit("study", "P1_2"))
    content = json.loads(result.made["sub-P1/ses-2/fmap/sub-P1_ses-2_magnitude1.json"])
    assert content["B0FieldIdentifier"] == "b0_ses2"
    assert content["B0FieldSource"] == ["b0_ses2", "b1_ses2"]


@pytest.mark.parametrize(
    ("rule", "candidates", "why"),
    [
        (DWI, [file(3, "dti", volumes=7)], "dwi/dwi has to have .bval and .bvec in BIDS"),
        (T1W, [file(3, "t1", volumes=2)], "anat/T1w has to have one volume in BIDS"),
        (BOLD, [bold(3, "task-!!")], "func/bold has to have the entity task in BIDS"),
        (BOLD, [bold(3, RepetitionTime=None)], "has to have RepetitionTime or VolumeTiming"),
        (
            {**DWI, "match": {"ProtocolName": "dti"}},
            [
                file(3, "dti", "DIFFUSION", name=f"{echo}", EchoNumber=echo, volumes=3)
                for echo in (1, 2)
            ],
            "its series has 2 echoes, and dwi/dwi has no entity echo in BIDS",
        ),
        (
            T1W,
            [file(3, "t1", name=name) for name in ("a", "b")],
            "images of its series cannot be told apart; give each a rule",
        ),
        (
            T1W | {"match": {"ProtocolName": {"re": "t1_(?P<run>.*)"}}},
            [file(3, "t1_a")],
            "run is a number in BIDS",
        ),
        (
            T1W | {"match": {"ProtocolName": {"re": "t1_(?P<run>.*)"}}},
            [file(3, f"t1_{'1' * 5000}")],
            "run is a number in BIDS",
        ),
        (
            {"match": {"A": "*"}, "datatype": "anat", "suffix": "MEGRE"},
            [file(3, "t1", A="b")],
            "anat/MEGRE has to have EchoTime in its sidecar; `add` it if you know it",
        ),
        (
            {"match": {"A": "*"}, "datatype": "perf", "suffix": "m0scan"},
            [file(3, "x", A="b", RepetitionTimePreparation=1, EchoTime=1)],
            "its rule has to have intended_for, and a file has to fit that",
        ),
        ({"reproin": True}, [file(3, "func-pace_task-a")], "its name has a suffix that BIDS does"),
        ({"reproin": True}, [file(3, "anat_x-y")], "its name has an entity that BIDS does not"),
        ({"reproin": True}, [file(3, "anat")], "its name says anat, and not which kind of it"),
        ({"reproin": True}, [file(3, "anat-T1w_dir-a")], "anat/T1w has no entity dir in BIDS"),
    ],
)
def test_what_bids_does_not_take(
    rule: Mapping[str, Any], candidates: list[Candidate], why: str
) -> None:
    candidates = [
        Candidate(c.series, c.number, c.name,
                  {k: v for k, v in c.sidecar.items() if v is not None}, c.suffixes, c.volumes)
        for c in candidates
    ]  # fmt: skip
    assert all(each.startswith(why) or why in each for each in told(rules(rule), *candidates))


def test_names_that_follow_reproin() -> None:
    given = {"reproin": True}
    assert told(
        given,
        file(1, "anat-scout_ses-pre"),
        file(2, "anat-T1w"),  # cancelled
        file(3, "anat-T1w"),
        bold(4, "func_task-rest_run-01"),
        bold(5, "func_task-rest_run-01__dup"),
        bold(6, "func_task-a_run+"),
        bold(7, "func_task-a_run+"),
        bold(8, "func_task-b_run+"),
        file(10, "fmap_acq-4mm", "M", name="e1", EchoTime=0.005, EchoNumber=1),
        file(10, "fmap_acq-4mm", "M", name="e2", EchoTime=0.007, EchoNumber=2),
        file(11, "fmap_acq-4mm", "P", EchoTime=0.007),
        file(12, "dwi_dir-AP", "DIFFUSION", "NONE", volumes=7),
        file(13, "dwi_dir-AP", "DIFFUSION", "ADC"),
        file(14, "localizer"),
    ) == [
        "a scout, which ReproIn leaves out",
        "series 3 has the same name and came later, as after a run that was cancelled",
        "T1w",
        "series 5 has the same name and came later, as after a run that was cancelled",
        "task-rest_run-01_bold",
        "task-a_run-1_bold",
        "task-a_run-2_bold",
        "task-b_run-1_bold",
        "acq-4mm_magnitude1",
        "acq-4mm_magnitude2",
        "acq-4mm_phasediff",
        "dir-AP_dwi",
        "dir-AP_ADC",
        "no rule matches it",
    ]
    assert arranged(given, file(1, "anat-scout_ses-pre")).labels.folder == "sub-P1/ses-pre"


def test_the_session_of_names() -> None:
    two = [file(1, "anat-scout_ses-pre"), file(2, "anat-T1w_ses-post")]
    with pytest.raises(ManySessions, match="the sessions post, pre; let"):
        arranged({"reproin": True}, *two)
    settled = {"reproin": True, "visit": "(?P<subject>.)(?P<session>.)"}
    assert arranged(settled, *two).labels.folder == "sub-P/ses-1"
    assert arranged(rules(T1W), *two).labels.folder == "sub-P1"


def test_labels_that_differ_in_case_alone_become_one() -> None:
    assert told(rules(BOLD), bold(3, "task-Rest"), bold(4, "task-rest")) == [
        "task-Rest_run-1_bold",
        "task-Rest_run-2_bold",
    ]


def test_labels_are_cleaned() -> None:
    assert told(rules(BOLD), bold(3, "task-../../é_x")) == ["task-e_bold"]
    [long] = told(rules(BOLD), bold(3, f"task-{'a' * 300}"))
    assert long == "its name would be too long for a file system; give it shorter labels"


TEXTS = st.one_of(
    st.text(max_size=20),
    st.from_regex(
        r"(anat|func|fmap|dwi)(-(T1w|bold|epi|\.\.))?(_(ses|task|acq|run|echo|part|dir)-[^a]{0,3}){0,3}",
        fullmatch=True,
    ),
)


@settings(deadline=None)
@given(st.lists(st.tuples(TEXTS, st.sampled_from(["M", "P", ""]), st.integers(0, 3)), max_size=6))
def test_no_name_leads_out_of_the_tree(given: list[tuple[str, str, int]]) -> None:
    plan = rules(
        BOLD | {"match": {"ProtocolName": {"re": r"(?s)(?P<task>.*)/(?P<run>.*)"}}},
        T1W | {"match": {"ProtocolName": {"re": "(?s)!(?P<acq>.*)"}}},
        reproin=True,
        visit="(?P<subject>.*)(?P<session>)",
    )
    candidates = [
        bold(number, protocol, kind, name=f"n{place}", volumes=volumes)
        for place, (protocol, kind, volumes) in enumerate(given)
        for number in [place // 2]
    ]
    try:
        result = arranged(plan, *candidates)
    except ManySessions:
        return
    for path in (*result.files, *result.made):
        assert re.fullmatch(
            r"sub-P1/(ses-\w+/)?(anat|func|fmap|dwi)/sub-P1_[A-Za-z0-9_-]+"
            r"\.(nii\.gz|json|bval|bvec)", path, re.ASCII
        ), path  # fmt: skip
    lower = [path.lower() for path in {*result.files, *result.made}]
    assert len(set(lower)) == len(lower)
    assert len(names(result)) + len(result.unmatched) + len(result.skipped) == len(candidates)


def test_perfusion() -> None:
    fields = {
        "ArterialSpinLabelingType": "PCASL",
        "PostLabelingDelay": 1.8,
        "BackgroundSuppression": False,
        "M0Type": "Separate",
        "TotalAcquiredPairs": 2,
        "RepetitionTimePreparation": 4.0,
        "LabelingDuration": 1.8,
    }
    asl = {
        "match": {"ProtocolName": "pcasl"},
        "datatype": "perf",
        "suffix": "asl",
        "aslcontext": ["control", "label"],
        "add": fields,
    }
    m0scan = {
        "match": {"ProtocolName": "m0"},
        "datatype": "perf",
        "suffix": "m0scan",
        "add": {"RepetitionTimePreparation": 4.0},
        "intended_for": ["perf/*_asl.nii.gz"],
    }
    known: dict[str, Any] = {
        "MagneticFieldStrength": 3,
        "MRAcquisitionType": "3D",
        "EchoTime": 0.01,
    }
    two = [file(3, "pcasl", volumes=4, **known), file(4, "m0", **known)]
    result = arranged(rules(asl, m0scan), *two)
    assert names(result) == {"asl": "003_pcasl", "m0scan": "004_m0"}
    text = "volume_type\ncontrol\nlabel\ncontrol\nlabel\n"
    assert result.made["sub-P1/perf/sub-P1_aslcontext.tsv"] == text.encode()
    odd = file(3, "pcasl", volumes=3, **known)
    assert "do not fill its 3 volumes" in told(rules(asl), odd)[0]
    without = asl | {"add": {k: v for k, v in fields.items() if k != "LabelingDuration"}}
    assert "has to have LabelingDuration" in told(rules(without), two[0])[0]


# the validator


def volume(path: Path, volumes: int = 1) -> None:
    """A small image with units, and RepetitionTime 2 s."""
    shape = (4, 5, 6) if volumes == 1 else (4, 5, 6, volumes)
    image = nibabel.Nifti1Image(np.ones(shape, np.int16), np.diag([-3.0, 3, 3, 1]))
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((3.0, 3.0, 3.0, 2.0)[: len(shape)])
    nibabel.save(image, path)


def write(folder: Path, candidates: Iterable[Candidate]) -> None:
    """The files of the candidates, under their own names."""
    folder.mkdir()
    for each in candidates:
        volume(folder / f"{each.name}.nii.gz", each.volumes)
        (folder / f"{each.name}.json").write_text(json.dumps(each.sidecar))
        if ".bval" in each.suffixes:
            row = " ".join(["0"] * each.volumes)
            (folder / f"{each.name}.bval").write_text(row + "\n")
            (folder / f"{each.name}.bvec").write_text(f"{row}\n{row}\n{row}\n")


def tree(root: Path, given: Mapping[str, Any], *visits: tuple[Arranged, Path]) -> Path:
    """A BIDS dataset; the images are links, as git-annex has them."""
    plan = plan_of(given)
    check_labels({str(folder): arranged.labels for arranged, folder in visits})
    root.mkdir()
    for each, folder in visits:
        for path, (name, suffix) in each.files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).symlink_to(folder / f"{name}{suffix}")
        for path, content in each.made.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
    (root / "dataset_description.json").write_bytes(dataset_description(plan, "study", "3.0"))
    (root / "README").write_bytes(readme(plan, "study"))
    (root / "participants.json").write_bytes(participants_json())
    subjects = [each.labels.subject for each, _ in visits]
    (root / "participants.tsv").write_bytes(participants_tsv(subjects))
    return root


def judged(root: Path) -> dict[str, list[dict[str, Any]]]:
    """What the validator says, by severity. It has no network, and no place for a cache."""
    program = str(shutil.which("bids-validator-deno"))
    environment = os.environ | {"DENO_DIR": "/dev/null/cache"}
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        environment[name] = "http://127.0.0.1:9"  # nobody answers
    done = subprocess.run(
        [program, "--format", "json", "--verbose", str(root)],
        capture_output=True, text=True, timeout=120, env=environment,
    )  # fmt: skip
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    issues: dict[str, list[dict[str, Any]]] = {"error": [], "warning": []}
    for issue in report["issues"]["issues"]:
        issues[issue["severity"]].append(issue)
    assert (done.returncode == 0) == (not issues["error"])
    assert report["summary"]["totalFiles"] == sum(path.is_file() for path in root.rglob("*"))
    assert not Path(os.environ["HOME"], ".cache").exists()
    return issues


@pytest.mark.slow
def test_the_validator_finds_mistakes(tmp_path: Path) -> None:
    candidates = [bold(3)]
    write(tmp_path / "in", candidates)
    given = rules(BOLD)
    root = tree(tmp_path / "bids", given, (arranged(given, *candidates), tmp_path / "in"))
    assert judged(root)["error"] == []
    (root / "sub-P1/func/sub-P1_task-rest_bold.json").unlink()
    codes = {issue["code"] for issue in judged(root)["error"]}
    assert codes == {"SIDECAR_KEY_REQUIRED"}


def test_the_validator_accepts_a_study(tmp_path: Path) -> None:
    given = rules(
        T1W,
        SBREF,
        BOLD | {"add": {"B0FieldSource": "b0"}},
        DWI,
        FIELD_MAP | {"add": {"B0FieldIdentifier": "b0"}},
        {
            "match": {"ProtocolName": {"re": "se_(?P<dir>AP|PA)"}},
            "datatype": "fmap",
            "suffix": "epi",
            "intended_for": ["dwi/*_dwi.nii.gz", "nothing"],
        },
        visit="(?P<subject>P[0-9])-(?P<session>[0-9])",
        name="Some study",
        license="CC0",
        authors=["Erika Mustermann", "Paul Broca"],
    )
    epi: dict[str, Any] = {"PhaseEncodingDirection": "j", "TotalReadoutTime": 0.05}
    candidates = [
        file(2, "t1_mprage", "M"),
        file(3, "t1_mprage", "M"),
        *echoes(4, "M"),
        *echoes(5, "P"),
        bold(6, SeriesDescription="x_SBRef", volumes=1),
        bold(7, name="again"),
        file(8, "dti", "DIFFUSION", volumes=7),
        *field_map(9),
        file(11, "se_AP", "EPI", volumes=2, **epi),
        file(12, "se_PA", **(epi | {"PhaseEncodingDirection": "j-"})),
    ]
    write(tmp_path / "in", candidates)
    visits = []
    for visit in ("P1-1", "P1-2", "P2-1"):
        result = arrange(candidates, plan_of(given), Visit("study", visit))
        assert (result.unmatched, result.skipped) == ((), ())
        assert len(names(result)) == len(candidates)
        visits.append((result, tmp_path / "in"))
    issues = judged(tree(tmp_path / "bids", given, *visits))
    assert issues["error"] == []
    codes = {issue["code"] for issue in issues["warning"]}
    # what can only be known to the study, or is not in these small files
    assert codes <= {"SIDECAR_KEY_RECOMMENDED", "JSON_KEY_RECOMMENDED", "EVENTS_TSV_MISSING",
                     "MISSING_SESSION", "GZIP_HEADER_FILENAME", "GZIP_HEADER_MTIME",
                     "NIFTI_PE_DIRECTION_CONSISTENCY"}  # fmt: skip


def test_the_validator_accepts_each_form_with_all_its_entities(tmp_path: Path) -> None:
    values = {"part": "phase", "mt": "on", "run": "1", "mod": "T1w"}
    known: dict[str, Any] = {
        "EchoTime": 0.03, "FlipAngle": 8, "InversionTime": 0.9, "RepetitionTime": 2.0,
        "PulseSequenceType": "x", "RepetitionTimeExcitation": 0.005, "MixingTime": 0.1,
        "RepetitionTimePreparation": 5.0, "NumberShots": 100, "MagneticFieldStrength": 3,
        "PhaseEncodingDirection": "j", "TotalReadoutTime": 0.05, "EchoTime1": 0.005,
        "EchoTime2": 0.007, "Units": "arbitrary", "ArterialSpinLabelingType": "PASL",
        "PostLabelingDelay": 1.8, "BackgroundSuppression": False, "M0Type": "Separate",
        "TotalAcquiredPairs": 2, "MRAcquisitionType": "2D", "BolusCutOffFlag": True,
        "BolusCutOffDelayTime": 0.7, "BolusCutOffTechnique": "QUIPSS",
        "SliceTiming": [0, 0.1, 0.2, 0.3, 0.4, 0.5],
    }  # fmt: skip
    some = []
    candidates: list[Candidate] = []
    for datatype, forms in FORMS.items():
        for suffix, form in forms.items():
            number = len(candidates) + 1
            entities = {key: values.get(key, "2") for key in ORDER if key in form.allowed}
            if datatype == "fmap":  # those of one field map would be named beside each other
                entities["acq"] = {"fieldmap": "magnitude"}.get(suffix, suffix)
            rule: dict[str, Any] = {
                "match": {"SeriesNumber": number},
                "datatype": datatype,
                "suffix": suffix,
                "entities": entities,
            }
            if suffix == "fieldmap":
                rule["add"] = {"Units": "Hz"}
            if suffix == "asl":
                rule["aslcontext"] = ["control", "label"]
            if (datatype, suffix) == ("perf", "m0scan"):
                rule["intended_for"] = ["perf/*_asl.nii.gz"]
            some.append(rule)
            kinds = ["DIFFUSION"] if form.gradients else []
            volumes = 4 if form.volumes == "several volumes" or suffix in ("asl", "PDT2") else 1
            fields = known | {"SeriesNumber": number}
            if suffix == "bold":
                fields.pop("SliceTiming")
            candidates.append(file(number, "x", *kinds, volumes=volumes, **fields))
    result = arranged(rules(*some), *candidates)
    found = {path for path in result.files if path.endswith(".nii.gz")}
    assert [(each.number, why) for each, why in result.unmatched] == []
    assert len(found) == len(candidates)
    write(tmp_path / "in", candidates)
    issues = judged(tree(tmp_path / "bids", rules(*some), (result, tmp_path / "in")))
    assert issues["error"] == []


REAL = r"""
name: Four directions
rules:
  - match: {ProtocolName: {re: 'PE=(?P<dir>AP|PA|LR|RL)'}}
    datatype: func
    suffix: bold
    entities: {task: rest, acq: siemens}
  - match: {Manufacturer: GE*, EchoTime: {lt: 1}}
    datatype: func
    suffix: bold
    entities: {task: rest, acq: ge}
"""


def test_the_validator_accepts_real_images(test_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    candidates = []
    for place, series in enumerate(sorted((test_data / "dcm_qa_nih/In").glob("*/mr_*"))):
        options = ["-g", "i", "-b", "y", "-ba", "y", "-z", "i", "-f", f"{place}"]
        command = [dcm2niix.bin, *options, "-o", str(folder), str(series)]
        subprocess.run(command, check=True, capture_output=True)
        text = folder / f"{place}.json"
        text.write_bytes(sidecar(text.read_bytes(), lambda _: False))
        fields = json.loads(text.read_bytes())
        image: Any = nibabel.load(folder / f"{place}.nii.gz")
        number = fields["SeriesNumber"]
        candidates.append(
            Candidate(series.name, number, str(place), fields, FOUR[:2], image.shape[3])
        )
    given = yaml.safe_load(REAL)
    result = arranged(given, *candidates)
    assert sorted(names(result)) == sorted(
        [
            *(f"task-rest_acq-siemens_dir-{each}_bold" for each in ("AP", "PA", "LR", "RL")),
            *(f"task-rest_acq-ge_run-{each}_bold" for each in (1, 2, 3, 4)),
        ]
    )
    assert judged(tree(tmp_path / "bids", given, (result, folder)))["error"] == []
