"""What BIDS calls the files of an MR scanner, and what it asks of each.

in: nothing    out: FORMS by folder and suffix, ORDER of the entities

Source: BIDS specification 1.11.1, its machine-readable schema: `rules/entities.yaml`,
`rules/files/raw/{anat,func,dwi,fmap,perf}.yaml`, `rules/sidecars/*.yaml`, and the text
of "Magnetic Resonance Imaging". Deprecated suffixes (T2star, FLASH, PD, phase) are left out.
"""

from dataclasses import dataclass, replace
from typing import Literal

VERSION = "1.11.1"

ORDER = ("task", "acq", "ce", "rec", "dir", "run", "mod", "echo", "flip", "inv", "mt", "part",
         "chunk")  # fmt: skip
"""The entities of raw MR files beside `sub` and `ses`, as they follow each other in a name."""
INDICES = frozenset({"run", "echo", "flip", "inv", "chunk"})
"""Entities whose value is a number; leading zeros tell nothing apart."""
VALUES = {"part": ("mag", "phase", "real", "imag"), "mt": ("on", "off")}
"""Entities that have no other values."""

ENTITY_FIELDS = {"echo": "EchoTime", "flip": "FlipAngle", "inv": "InversionTime", "mt": "MTState"}
"""What the sidecar has to say where the name has the entity (`sidecars/entity_rules.yaml`)."""
VOLUME_TYPES = ("control", "label", "m0scan", "deltam", "cbf", "noRF", "n/a")
"""What a volume of a perfusion series may be (aslcontext.tsv)."""


@dataclass(frozen=True, slots=True)
class Form:
    """What BIDS asks of files with one suffix in one folder."""

    allowed: frozenset[str]  #: entities, the required ones among them
    required: frozenset[str] = frozenset()
    fields: tuple[str, ...] = ()  #: of the sidecar; `A|B` where either will do
    volumes: Literal["", "one volume", "several volumes"] = ""
    gradients: Literal["", "may", "must"] = ""  #: have .bval and .bvec


_MRI = frozenset({"acq", "ce", "rec", "run", "chunk"})
_EPI = _MRI | {"dir", "part"}


def _form(allowed: frozenset[str], required: str = "", fields: str = "") -> Form:
    needed = frozenset(required.split())
    return Form(allowed | needed, needed, tuple(fields.split()))


def _same(suffixes: str, form: Form) -> dict[str, Form]:
    return dict.fromkeys(suffixes.split(), form)


_STRUCTURAL = _MRI | {"task", "echo", "part"}
_SHOTS = "RepetitionTimeExcitation RepetitionTimePreparation NumberShots"
_ANAT = {
    **_same("T1w T2w PDw T2starw FLAIR inplaneT1 inplaneT2 PDT2 angio", _form(_STRUCTURAL)),
    **_same("T1map T2map T2starmap R1map R2map R2starmap PDmap MTRmap MTsat UNIT1 T1rho MWFmap "
            "MTVmap Chimap S0map M0map", _form(_MRI | {"task"})),
    "defacemask": _form(_MRI | {"task", "mod"}),
    "MEGRE": _form(_STRUCTURAL, "echo"),
    "MESE": _form(_STRUCTURAL | {"dir"}, "echo"),
    "VFA": _form(_STRUCTURAL, "flip", "PulseSequenceType RepetitionTimeExcitation"),
    "IRT1": _form(_MRI | {"task", "part"}, "inv"),
    "MP2RAGE": _form(_STRUCTURAL | {"flip"}, "inv", f"FlipAngle MagneticFieldStrength {_SHOTS}"),
    **_same("MPM MTS", _form(_STRUCTURAL, "flip mt", "RepetitionTimeExcitation")),
    "MTR": _form(_MRI | {"task", "part"}, "mt"),
}  # fmt: skip
_ANAT["T1w"] = replace(_ANAT["T1w"], volumes="one volume")

_TASK = _form(_EPI | {"echo"}, "task")
_FUNC = {
    "bold": replace(_TASK, fields=("RepetitionTime|VolumeTiming",), volumes="several volumes"),
    **_same("cbv sbref", _TASK),
    "noRF": _form(_TASK.allowed | {"mod"}, "task"),
}
_DWI = {
    "dwi": replace(_form(_EPI - {"ce"}), gradients="must"),
    "sbref": _form(_EPI - {"ce"}),
    # maps that the scanner computes
    **_same("ADC FA S0map colFA expADC trace", _form(_EPI - {"ce", "part"})),
}

_GRADIENT_ECHO = frozenset({"acq", "run", "chunk"})
_RF = _MRI | {"echo", "flip", "inv", "part"}
_MAGNITUDE = replace(_form(_GRADIENT_ECHO), volumes="one volume")
_FMAP = {
    "magnitude": _form(_GRADIENT_ECHO),
    **_same("magnitude1 magnitude2", _MAGNITUDE),
    "phasediff": _form(_GRADIENT_ECHO, fields="EchoTime1 EchoTime2"),
    **_same("phase1 phase2", _form(_GRADIENT_ECHO, fields="EchoTime")),
    "fieldmap": _form(_GRADIENT_ECHO, fields="Units"),
    # the schema says that `dir` is optional, the text of the specification that it is required
    "epi": replace(
        _form(_EPI, "dir", "PhaseEncodingDirection TotalReadoutTime|EffectiveEchoSpacing"),
        gradients="may",
    ),
    "m0scan": _form(_EPI),
    "TB1DAM": _form(_RF - {"echo"}, "flip"),
    "TB1EPI": _form(_RF, "echo flip", "TotalReadoutTime MixingTime"),
    "TB1AFI": _form(_RF, fields="RepetitionTimeExcitation"),
    **_same("TB1TFL TB1RFM RB1COR", _form(_RF)),
    "TB1SRGE": _form(_RF, "flip inv", _SHOTS),
    **_same("TB1map RB1map", _form(_MRI)),
}
_LABELLED = frozenset({"acq", "rec", "dir", "run", "echo", "part"})
_PERF = {
    "asl": _form(
        _LABELLED,
        fields="ArterialSpinLabelingType PostLabelingDelay BackgroundSuppression M0Type "
        "TotalAcquiredPairs RepetitionTimePreparation MagneticFieldStrength MRAcquisitionType "
        "EchoTime",
    ),
    "m0scan": _form(_LABELLED, fields="RepetitionTimePreparation EchoTime IntendedFor"),
    "noRF": _form(_LABELLED | {"mod"}, fields="EchoTime"),
}

FORMS = {"anat": _ANAT, "dwi": _DWI, "fmap": _FMAP, "func": _FUNC, "perf": _PERF}
"""By datatype (which is the name of the folder), then by suffix."""

PERF_FIELDS = (
    ("MRAcquisitionType", ("2D",), "SliceTiming"),
    ("ArterialSpinLabelingType", ("CASL", "PCASL"), "LabelingDuration"),
    ("ArterialSpinLabelingType", ("PASL",), "BolusCutOffFlag"),
    ("BolusCutOffFlag", (True,), "BolusCutOffDelayTime"),
    ("BolusCutOffFlag", (True,), "BolusCutOffTechnique"),
    ("M0Type", ("Estimate",), "M0Estimate"),
)
"""In `perf`: a field, values of it, and the field that these require (`sidecars/asl.yaml`)."""

GRADIENT_ECHO = ("magnitude", "magnitude1", "magnitude2", "phasediff", "phase1", "phase2")
"""Suffixes of images of one field map; which one is right depends on what there is."""


def family(datatype: str, suffix: str) -> str:
    """What has the same run as its companions: a reference and its time series, say."""
    if datatype == "fmap" and suffix in (*GRADIENT_ECHO, "fieldmap"):
        return "fieldmaps"
    return "" if datatype in ("func", "dwi", "perf") else suffix
