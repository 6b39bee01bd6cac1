"""The rules of a study: what they say, what they refuse, and that they read back equal."""

import json
import pickle
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from icf_tools.model import reproin
from icf_tools.model.bids import (
    Criterion,
    Labels,
    Meaning,
    NoLabels,
    Plan,
    Rule,
    SameLabels,
    Skipped,
    check_labels,
    label,
)
from icf_tools.model.bids_plan import BadPlan, plan_of
from icf_tools.model.bids_terms import FORMS, ORDER
from icf_tools.model.bids_texts import (
    dataset_description,
    participants_json,
    participants_tsv,
    readme,
)

EXAMPLE = r"""
name: Faces in motion
license: CC0
authors: [Erika Mustermann, Paul Broca]
keywords: [faces]
how_to_acknowledge: Cite the paper.
funding: [Grant 1]
references_and_links: ["https://example.org/paper"]
dataset_doi: doi:10.1234/abc.5
readme: |
  Forty people looked at faces.
  Some of the faces moved.
visit: '(?P<subject>P[0-9]+)(_(?P<session>[0-9]+))?'
rules:
  - match: {ProtocolName: '*localizer*'}
    skip: true
  - match: {ProtocolName: 't1_mprage*', ImageType: NORM}
    datatype: anat
    suffix: T1w
  - match:
      SeriesDescription: {re: 'task-(?P<task>[a-z]+)'}
      EchoTime: {gt: 0.01, lt: 0.05}
      SeriesNumber: {in: [4, 5]}
      ImageType: {all: [ORIGINAL, M]}
    datatype: func
    suffix: bold
    entities: {acq: ep2d}
    add: {TaskDescription: Press a key., B0FieldSource: pepolar}
  - match: {SeriesDescription: {re: 'se_(?P<dir>AP|PA)'}}
    datatype: fmap
    suffix: epi
    intended_for: ['func/*_bold.nii.gz']
    add: {B0FieldIdentifier: pepolar}
  - match: {ProtocolName: 'pcasl*'}
    datatype: perf
    suffix: asl
    aslcontext: [control, label]
    add: {BackgroundSuppression: false, PostLabelingDelay: [1.5, 1.8]}
  - match: {ProtocolName: 'mtr*', FlipAngle: 8}
    datatype: anat
    suffix: MTR
    entities: {mt: on, run: 2}
reproin: true
"""


def read(text: str) -> Plan:
    return plan_of(yaml.safe_load(text))


def a_rule(**given: Any) -> dict[str, Any]:
    content = {"match": {"ProtocolName": "x"}, "datatype": "anat", "suffix": "T1w"} | given
    return {key: value for key, value in content.items() if value is not None}


def test_the_example_reads_back_equal() -> None:
    plan = read(EXAMPLE)
    assert plan_of(json.loads(json.dumps(plan.to_json()))) == plan
    assert [rule.datatype for rule in plan.rules] == [
        "",
        "anat",
        "func",
        "fmap",
        "perf",
        "anat",
        "",
    ]
    assert plan.rules[-1] == Rule(reproin=True)
    assert plan.rules[-2].entities == {"mt": "on", "run": "2"}
    assert Criterion("SeriesNumber", "in", (4, 5)) in plan.rules[2].match


def test_reproin_may_stand_between_rules() -> None:
    raw = {"rules": [a_rule(), {"reproin": True, "add": {"B0FieldSource": "x"}}, a_rule()]}
    plan = plan_of(raw)
    assert [rule.reproin for rule in plan.rules] == [False, True, False]
    assert plan_of(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("raw", "place", "said"),
    [
        ([], (), "it should have keys and values"),
        ({}, (), "it has no rules"),
        ({"rules": []}, (), "it has no rules"),
        ({"reproin": False}, (), "it has no rules"),
        ({"reproin": 1}, ("reproin",), "true or false"),
        ({"title": "x"}, ("title",), "there is no 'title' here; there are name, license"),
        ({"name": 5}, ("name",), "it should be a text"),
        ({"name": " "}, ("name",), "it should be a text"),
        ({"name": "a\nb"}, ("name",), "not printable"),
        ({"authors": "Me"}, ("authors",), "it should be a list"),
        ({"authors": ["Me", 7]}, ("authors", 1), "it should be a text"),
        ({"dataset_doi": "10.1234/x"}, ("dataset_doi",), "write it as doi:10.1234/abc"),
        ({"visit": "("}, ("visit",), "it is no regular expression"),
        ({"visit": "a" * 20_000}, ("visit",), "it should be a text"),
        ({"visit": "P.*"}, ("visit",), "it has no group (?P<subject>...)"),
        ({"visit": "(?P<sub>.*)"}, ("visit",), "there is no group 'sub' here"),
        ({"rules": {}}, ("rules",), "it should be a list"),
        ({"rules": [3]}, ("rules", 0), "it should have keys and values"),
        ({"rules": [a_rule(), a_rule(suffixx="a")]}, ("rules", 1, "suffixx"), "there is no"),
        ({"rules": [a_rule(match={})]}, ("rules", 0), "would take every series"),
        ({"rules": [a_rule(datatype=None)]}, ("rules", 0), "it has no datatype"),
        ({"rules": [a_rule(suffix=None)]}, ("rules", 0), "it has no suffix"),
        (
            {"rules": [a_rule(datatype="pet")]},
            ("rules", 0, "datatype"),
            "there is no datatype 'pet' here; there are anat, dwi, fmap, func, perf",
        ),
        (
            {"rules": [a_rule(suffix="T1W")]},
            ("rules", 0, "suffix"),
            "anat has no suffix 'T1W'; it has T1w, T2w",
        ),
        ({"rules": [a_rule(suffix="FLASH")]}, ("rules", 0, "suffix"), "anat has no suffix"),
        ({"rules": [a_rule(skip=True)]}, ("rules", 0, "datatype"), "means nothing with skip"),
        ({"rules": [a_rule(reproin=True)]}, ("rules", 0, "datatype"), "nothing with reproin"),
        ({"rules": [{"match": {"A": "b"}, "skip": "yes"}]}, ("rules", 0, "skip"), "true or false"),
        (
            {"rules": [a_rule(datatype="func", suffix="bold")]},
            ("rules", 0, "suffix"),
            "func/bold needs the entity task",
        ),
        (
            {"rules": [a_rule(datatype="fmap", suffix="epi")]},
            ("rules", 0, "suffix"),
            "fmap/epi needs the entity dir",
        ),
        (
            {"rules": [a_rule(entities={"inv": 1})]},
            ("rules", 0, "entities", "inv"),
            "anat/T1w has no entity inv; it has task, acq",
        ),
        (
            {"rules": [a_rule(match={"ProtocolName": {"re": "(?P<dir>..)"}})]},
            ("rules", 0, "match"),
            "anat/T1w has no entity dir",
        ),
        ({"rules": [a_rule(entities={"sub": 1})]}, ("rules", 0, "entities", "sub"), "there is no"),
        ({"rules": [a_rule(entities={"acq": "a_b"})]}, ("rules", 0, "entities", "acq"), "no"),
        ({"rules": [a_rule(entities={"acq": "../x"})]}, ("rules", 0, "entities", "acq"), "no"),
        ({"rules": [a_rule(entities={"acq": "ä"})]}, ("rules", 0, "entities", "acq"), "a label"),
        ({"rules": [a_rule(entities={"acq": True})]}, ("rules", 0, "entities", "acq"), "a text"),
        ({"rules": [a_rule(entities={"run": "a"})]}, ("rules", 0, "entities", "run"), "a number"),
        ({"rules": [a_rule(entities={"part": "P"})]}, ("rules", 0, "entities", "part"), "mag, ph"),
        ({"rules": [a_rule(match={"A": {"re": "("}})]}, ("rules", 0, "match", "A", "re"), "no reg"),
        (
            {"rules": [a_rule(match={"A": {"re": "(?P<Task>.)"}})]},
            ("rules", 0, "match", "A", "re"),
            "there is no group 'Task' here; there are task, acq",
        ),
        (
            {"rules": [a_rule(match={"A": {"re": f"(?P<acq>{'(' * 99}"}})]},
            ("rules", 0, "match", "A", "re"),
            "no regular expression",
        ),
        (
            {"rules": [a_rule(match={"A": {"re": "(?P<acq>a)"}, "B": {"re": "(?P<acq>b)"}})]},
            ("rules", 0, "match", "B"),
            "two groups give acq",
        ),
        (
            {"rules": [a_rule(match={"A": {"re": "(?P<acq>a)"}}, entities={"acq": "b"})]},
            ("rules", 0, "entities", "acq"),
            "a group gives acq, too",
        ),
        ({"rules": [a_rule(match={"A": {}})]}, ("rules", 0, "match", "A"), "it is empty"),
        (
            {"rules": [a_rule(match={"A": ["b"]})]},
            ("rules", 0, "match", "A"),
            "in: [...]",
        ),
        ({"rules": [a_rule(match={"A": {"is": 1}})]}, ("rules", 0, "match", "A", "is"), "lt, gt"),
        ({"rules": [a_rule(match={"A": {"lt": "1"}})]}, ("rules", 0, "match", "A", "lt"), "a numb"),
        ({"rules": [a_rule(match={"A": {"lt": True}})]}, ("rules", 0, "match", "A", "lt"), "a num"),
        (
            {"rules": [a_rule(match={"A": {"gt": float("nan")}})]},
            ("rules", 0, "match", "A", "gt"),
            "a finite number",
        ),
        ({"rules": [a_rule(match={"A": {"in": []}})]}, ("rules", 0, "match", "A", "in"), "a list"),
        ({"rules": [a_rule(match={"A": {"in": [{}]}})]}, ("rules", 0, "match", "A", "in", 0), "a"),
        ({"rules": [a_rule(match={5: "x"})]}, ("rules", 0, "match", 5), "should be a text; quote"),
        (
            {"rules": [a_rule(match={"PatientName": "x"})]},
            ("rules", 0, "match", "PatientName"),
            "may identify",
        ),
        ({"rules": [a_rule(add={"StationName": "x"})]}, ("rules", 0, "add", "StationName"), "iden"),
        ({"rules": [a_rule(add={"a b": "x"})]}, ("rules", 0, "add", "a b"), "no name of a BIDS"),
        ({"rules": [a_rule(add={"A": {"b": 1}})]}, ("rules", 0, "add", "A"), "a text, a number"),
        (
            {"rules": [a_rule(intended_for=["func/*"])]},
            ("rules", 0, "intended_for"),
            "anat/T1w corrects nothing",
        ),
        ({"rules": [a_rule(aslcontext=["label"])]}, ("rules", 0, "aslcontext"), "nothing else"),
        (
            {"rules": [a_rule(datatype="perf", suffix="asl")]},
            ("rules", 0, "suffix"),
            "needs aslcontext",
        ),
        (
            {"rules": [a_rule(datatype="perf", suffix="asl", aslcontext=["x"])]},
            ("rules", 0, "aslcontext", 0),
            "'x' is no type of volume",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_place(
    raw: object, place: tuple[str | int, ...], said: str
) -> None:
    with pytest.raises(BadPlan) as caught:
        plan_of(raw)
    assert caught.value.place == place
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_refusal_survives_the_way_back_from_a_worker() -> None:
    error = BadPlan(("rules", 1), "it is wrong; change it")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.place) == ("bids.rules.1: it is wrong; change it", ("rules", 1))


def test_each_form_can_be_asked_for() -> None:
    for datatype, forms in FORMS.items():
        for suffix, form in forms.items():
            assert form.required <= form.allowed <= set(ORDER)
            entities = {key: {"mt": "on", "part": "mag"}.get(key, "1") for key in form.required}
            rule = a_rule(datatype=datatype, suffix=suffix, entities=entities)
            if (datatype, suffix) == ("perf", "asl"):
                rule["aslcontext"] = ["control", "label"]
            plan = plan_of({"rules": [rule]})
            assert plan_of(plan.to_json()) == plan


FIELDS = {
    "ProtocolName": "T1_MPRAGE [sag]",
    "SeriesNumber": 4,
    "EchoTime": 0.03,
    "ImageType": ["ORIGINAL", "PRIMARY", "M", "NORM"],
    "NonlinearGradientCorrection": True,
    "SliceTiming": [0.5, 1.5],
}


@pytest.mark.parametrize(
    ("match", "holds"),
    [
        ({"ProtocolName": "t1_mprage*"}, True),
        ({"ProtocolName": "t1_mprage"}, False),
        ({"ProtocolName": "*[[]sag]"}, True),
        ({"NoSuchField": "*"}, False),
        ({"ImageType": "norm"}, True),
        ({"ImageType": r"ORIGINAL\PRIMARY\M\*"}, True),
        ({"ImageType": "NOR"}, False),
        ({"ImageType": {"all": ["M", "NORM"]}}, True),
        ({"ImageType": {"all": ["P", "NORM"]}}, False),
        ({"ImageType": {"in": ["P", "M"]}}, True),
        ({"ImageType": {"re": "^M$"}}, True),
        ({"ImageType": {"re": r"PRIMARY\\M"}}, True),
        ({"ImageType": {"re": "^P$"}}, False),
        ({"SeriesNumber": 4}, True),
        ({"SeriesNumber": 4.0}, True),
        ({"SeriesNumber": "4"}, True),
        ({"SeriesNumber": {"in": [3, 5]}}, False),
        ({"SeriesNumber": {"in": [3, 4]}}, True),
        ({"EchoTime": {"lt": 0.03}}, False),
        ({"EchoTime": {"gt": 0.02, "lt": 0.04}}, True),
        ({"EchoTime": {"gt": 0.02, "lt": 0.03}}, False),
        ({"ProtocolName": {"lt": 5}}, False),
        ({"SliceTiming": {"gt": 1}}, True),
        ({"NonlinearGradientCorrection": True}, True),
        ({"NonlinearGradientCorrection": 1}, False),
        ({"NonlinearGradientCorrection": {"gt": 0}}, False),
        ({"ProtocolName": "t1*", "SeriesNumber": 4}, True),
        ({"ProtocolName": "t1*", "SeriesNumber": 5}, False),
    ],
)
def test_criteria(match: dict[str, Any], holds: bool) -> None:
    plan = plan_of({"rules": [a_rule(match=match)]})
    assert isinstance(plan.meaning(FIELDS), Meaning) == holds


def test_the_first_rule_that_matches_counts_and_groups_are_entities() -> None:
    rules = [
        a_rule(match={"ProtocolName": "nothing"}),
        a_rule(match={"ProtocolName": {"re": r"(?P<acq>[A-Z]+)_|(?P<rec>\d{9})"}}, suffix="T2w"),
        {"match": {"ProtocolName": "*"}, "skip": True},
    ]
    plan = plan_of({"rules": rules})
    meaning = plan.meaning({"ProtocolName": "SPACE_t2"})
    assert isinstance(meaning, Meaning)
    assert (meaning.suffix, dict(meaning.entities)) == ("T2w", {"acq": "SPACE"})
    assert isinstance(plan.meaning({"ProtocolName": "other"}), Skipped)
    assert plan.meaning({}) is None


@pytest.mark.parametrize(
    ("fields", "reading"),
    [
        ("anat-T1w", ("anat", "T1w", {}, "")),
        ("anat_T1w_acq-MPRAGE", ("anat", "T1w", {"acq": "MPRAGE"}, "")),
        ("anat_acq-mprage_t1W", ("anat", "T1w", {"acq": "mprage"}, "")),
        ("anat", ("anat", "", {}, "")),
        ("func-bold_task-rest_run-01", ("func", "bold", {"task": "rest", "run": "01"}, "")),
        ("func_task-rest_run+", ("func", "bold", {"task": "rest", "run": "+"}, "")),
        ("func_run=_task-a__dup-01", ("func", "bold", {"task": "a", "run": "+"}, "")),
        ("WIP func_ses-pre_task-a", ("func", "bold", {"task": "a"}, "pre")),
        (" PREFIX:bids_func_ses+_task-a  ", ("func", "bold", {"task": "a"}, "")),
        ("func_ses-{date}_task-a", ("func", "bold", {"task": "a"}, "")),
        ("func_ses-DATE_task-a", ("func", "bold", {"task": "a"}, "")),
        ("fmap_dir-AP", ("fmap", "epi", {"dir": "AP"}, "")),
        ("fmap_acq-4mm", ("fmap", "magnitude", {"acq": "4mm"}, "")),
        ("dwi_dir-AP_acq-98", ("dwi", "dwi", {"dir": "AP", "acq": "98"}, "")),
        ("func-pace_task-a", ("func", "pace", {"task": "a"}, "")),
        ("dwi_acq-a_foo-b", ("dwi", "dwi", {"acq": "a", "foo": "b"}, "")),
        ("nondbic_func-bold", None),
        ("cancelme_func-bold", None),
        ("t1_mprage_sag", None),
        ("perf_asl", None),
        ("__", None),
        ("", None),
        (
            {"ProtocolName": "func_task-a", "SeriesDescription": "func_task-a_SBRef"},
            ("func", "sbref", {"task": "a"}, ""),
        ),
        (
            {"ProtocolName": "x", "SeriesDescription": "anat-T2w"},
            ("anat", "T2w", {}, ""),
        ),
        (
            {"ProtocolName": "dwi", "ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "TRACEW"]},
            ("dwi", "trace", {}, ""),
        ),
        (
            {"ProtocolName": "fmap", "ImageType": ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]},
            ("fmap", "epi", {}, ""),
        ),
        (
            {"ProtocolName": "func_task-a", "ImageType": ["ORIGINAL", "PRIMARY", "M", "MOCO"]},
            ("func", "bold", {"task": "a", "rec": "moco"}, ""),
        ),
        (
            {"ProtocolName": "anat-angio", "ImageType": ["DERIVED", "PRIMARY", "MIP", "SAG"]},
            ("anat", "angio", {"acq": "MIPSAG"}, ""),
        ),
    ],
)
def test_reproin_names(
    fields: str | dict[str, Any], reading: tuple[str, str, dict[str, str], str] | None
) -> None:
    found = reproin.read({"ProtocolName": fields} if isinstance(fields, str) else fields)
    if reading is None:
        assert found is None
    else:
        assert found == reproin.Reading(*reading)


@pytest.mark.parametrize(
    "fields",
    [
        {"ProtocolName": "anat-scout_ses-pre"},
        {"ProtocolName": "scout"},
        {"ProtocolName": "anat-T1w", "SeriesDescription": "AAHead_Scout_32ch"},
        {"ProtocolName": "anat-T1w", "SeriesDescription": "anat-T1w_setter"},
    ],
)
def test_scouts_are_left_out(fields: dict[str, Any]) -> None:
    assert isinstance(plan_of({"reproin": True}).meaning(fields), Skipped)


def test_a_rule_has_the_last_word_over_a_reproin_name() -> None:
    rule = {"match": {"SeriesNumber": 7}, "reproin": True, "entities": {"run": 3}}
    meaning = plan_of({"rules": [rule]}).meaning(
        {"SeriesNumber": 7, "ProtocolName": "func_task-a_run-1"}
    )
    assert isinstance(meaning, Meaning)
    assert meaning.entities == {"task": "a", "run": "3"}


def labels(expression: str, visit: str, session: str = "") -> tuple[str, str]:
    plan = plan_of({"reproin": True} | ({"visit": expression} if expression else {}))
    its = plan.labels(visit, session)
    return its.folder, its.prefix


def test_labels_of_visits() -> None:
    some = r"(?P<subject>P\d+)(_(?P<session>\d+))?"
    assert labels("", "P000123") == ("sub-P000123", "sub-P000123")
    assert labels("", "sub-01_ses-2") == ("sub-sub01ses2", "sub-sub01ses2")
    assert labels("", "P1", "pre") == ("sub-P1/ses-pre", "sub-P1_ses-pre")
    assert labels(some, "P1_02") == ("sub-P1/ses-02", "sub-P1_ses-02")
    assert labels(some, "P1_02", "pre") == ("sub-P1/ses-02", "sub-P1_ses-02")
    assert labels(some, "P1", "pre") == ("sub-P1/ses-pre", "sub-P1_ses-pre")
    for expression, visit in ((some, "Q1"), (some, "P1_02_3"), ("(?P<subject>_*)x", "__x")):
        with pytest.raises(NoLabels, match="does not give a BIDS subject"):
            labels(expression, visit)
    with pytest.raises(NoLabels):
        Plan(()).labels("...")


@settings(deadline=None)
@given(st.text())
def test_labels_are_letters_and_digits(text: str) -> None:
    assert label(text) == "" or (label(text).isascii() and label(text).isalnum())
    assert label(label(text)) == label(text)


@pytest.mark.parametrize(
    ("visits", "said"),
    [
        ({"a.b": ("ab", ""), "ab": ("ab", "")}, "nothing tells them apart"),
        ({"ab": ("ab", ""), "AB": ("AB", "")}, "nothing tells them apart"),
        ({"a1": ("a", "1"), "a1b": ("a", "1")}, "nothing tells them apart"),
        ({"a1": ("a", "pre"), "a2": ("a", "Pre")}, "nothing tells them apart"),
        ({"a1": ("A", "1"), "a2": ("a", "2")}, "two people"),
        ({"a1": ("a", "1"), "a2": ("a", "2", "a-")}, "two people"),
        ({"a1": ("a", ""), "a2": ("a", "2")}, "not both have a session"),
    ],
)
def test_visits_that_would_share_files_are_refused(
    visits: dict[str, tuple[str, ...]], said: str
) -> None:
    found = {
        visit: Labels(subject, session, *(person or (subject,)))
        for visit, (subject, session, *person) in visits.items()
    }
    with pytest.raises(SameLabels, match=said) as caught:
        check_labels(found)
    assert all(visit in str(caught.value) for visit in visits)


def test_other_visits_are_not_refused() -> None:
    some = [("a1", "a", "1"), ("a2", "a", "2"), ("b", "b", "1"), ("c", "c", "")]
    check_labels({visit: Labels(subject, session, subject) for visit, subject, session in some})


def test_what_the_dataset_says_of_itself() -> None:
    plan = read(EXAMPLE)
    content = json.loads(dataset_description(plan, "faces", "3.1"))
    assert content["Name"] == "Faces in motion"
    assert content["Authors"] == ["Erika Mustermann", "Paul Broca"]
    assert content["DatasetDOI"] == "doi:10.1234/abc.5"
    assert content["GeneratedBy"] == [{"Name": "icf_tools", "Version": "3.1"}]
    assert "readme" not in map(str.lower, content)
    plain = plan_of({"reproin": True})
    assert json.loads(dataset_description(plain, "faces", "3.1"))["Name"] == "faces"
    assert participants_tsv(["b", "a", "b"]) == b"participant_id\nsub-a\nsub-b\n"
    assert list(json.loads(participants_json())) == ["participant_id"]
    assert b"Forty people" in readme(plan, "faces")
    assert readme(plan, "faces").startswith(b"Faces in motion\n===")
    assert len(readme(plain, "x")) > 150  # the validator finds less too little
