"""What a BIDS dataset says of itself.

in: the Plan, the study, the labels of its subjects    out: the files beside the subjects

Source: BIDS specification 1.11.1, "Modality agnostic files".
"""

import json
from collections.abc import Iterable

from icf_tools.model.bids import Plan
from icf_tools.model.bids_terms import VERSION

_FIELDS = {
    "name": "Name",
    "license": "License",
    "authors": "Authors",
    "keywords": "Keywords",
    "acknowledgements": "Acknowledgements",
    "how_to_acknowledge": "HowToAcknowledge",
    "funding": "Funding",
    "ethics_approvals": "EthicsApprovals",
    "references_and_links": "ReferencesAndLinks",
    "dataset_doi": "DatasetDOI",
}


def dataset_description(plan: Plan, study: str, version: str) -> bytes:
    """dataset_description.json; `version` is that of icf_tools."""
    content = {
        "Name": study,
        "BIDSVersion": VERSION,
        "DatasetType": "raw",
        "GeneratedBy": [{"Name": "icf_tools", "Version": version}],
    } | {_FIELDS[key]: value for key, value in plan.about.items() if key in _FIELDS}
    return json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True).encode() + b"\n"


def participants_tsv(subjects: Iterable[str]) -> bytes:
    """participants.tsv: a row for each label, and nothing that tells who they are."""
    rows = [f"sub-{subject}" for subject in sorted(set(subjects))]
    return "\n".join(["participant_id", *rows, ""]).encode()


def participants_json() -> bytes:
    """participants.json: what the column means."""
    column = {"Description": "Label of the participant, made from the identifier of the visits"}
    return json.dumps({"participant_id": column}, indent=1).encode() + b"\n"


def readme(plan: Plan, study: str) -> bytes:
    """README: what the study says of itself, and where the files come from."""
    title = str(plan.about.get("name", study))
    said = str(plan.about.get("readme", "")).strip()
    made = (
        "The images were converted from the DICOM files of the visits of the study\n"
        f"{study}, and each NIfTI file was compared with its DICOM images, place and value.\n"
        "icf_tools named the files by the rules in the settings of the study. Files that fit\n"
        "none of these rules are not here; they are in the datasets of the visits."
    )
    parts = [title, "=" * len(title), "", *([said, ""] if said else []), made, ""]
    return "\n".join(parts).encode()
