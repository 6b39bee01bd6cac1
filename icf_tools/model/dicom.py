"""Which DICOM elements are recorded, and which never are.

Names, tags and value representations: DICOM PS3.6, chapter 6.
"""

import re
from dataclasses import dataclass
from typing import TypeAlias

from icf_tools.errors import Refused

Scalar: TypeAlias = str | int | float
Value: TypeAlias = Scalar | list[Scalar]


class DeniedElement(Refused):
    message = (
        "the element {} may identify a person, a device or an institution and is never "
        "recorded; remove it from the tags of the study's settings"
    )


@dataclass(frozen=True, slots=True)
class Tag:
    """A DICOM element that is recorded as JSON under its keyword."""

    keyword: str
    number: int  #: group << 16 | element
    vr: str
    many: bool = False  #: value multiplicity above 1: recorded as a list

    def __post_init__(self) -> None:
        if is_denied(self.number, self.keyword, self.vr):
            raise DeniedElement(self.keyword)

    @property
    def is_text(self) -> bool:
        return self.vr in ("CS", "LO", "SH")


DENIED = re.compile(
    "Patient(?!Position|Orientation)|Person|Participant|Subject|Birth|Age$|Sex$|Ethnic|Religio"
    "|Address|Phone|Telecom|Contact|Residence|Insurance|Military|Occupation|Owner|Itinerary"
    "|Institution|Organi[sz]ation|Department|Site|Locat|StationName"
    "|Operator|Physician|Performer|Reviewer|Verif|Author|Creator|Custodian|Observer"
    "|Comment|Diagnos|Reason|History"
    "|Accession|Admission|SerialNumber|DeviceUID|Requesting|OrderNumber|Identifier|(?<!U)IDs?$"
)
"""Keywords of elements that are never recorded, whatever the settings say.

Beside them: VR PN, the free text VRs and every group but those that describe the
acquisition, so the Patient group (0010,eeee) and private elements, see `is_denied`.
It errs on the side of denying.
"""

_DENIED_VRS = frozenset({"PN", "LT", "ST", "UT", "UC", "UN", "OB", "OW", "SQ"})
_TECHNICAL_GROUPS = frozenset({0x0002, 0x0008, 0x0018, 0x0020, 0x0028, 0x0054})
_EXEMPT = frozenset(
    {"ImagePositionPatient", "ImageOrientationPatient", "TemporalPositionIdentifier"}
)


def is_denied(number: int, keyword: str, vr: str) -> bool:
    """Whether the element could carry a name, an address, free text or the like."""
    if keyword in _EXEMPT:
        return False
    return (
        number >> 16 not in _TECHNICAL_GROUPS  # private ones are odd; 0010 is the patient
        or vr in _DENIED_VRS
        or DENIED.search(keyword) is not None
    )


FIRST_TOOLS = (
    Tag("SeriesDescription", 0x0008103E, "LO"),
    Tag("SeriesNumber", 0x00200011, "IS"),
    Tag("Modality", 0x00080060, "CS"),
    Tag("MRAcquisitionType", 0x00180023, "CS"),
    Tag("ProtocolName", 0x00181030, "LO"),
    Tag("PulseSequenceName", 0x00189005, "SH"),
)
"""Recorded for every image under the same keys since the first ICF tools."""

RECORDED = (
    *FIRST_TOOLS,
    Tag("SeriesInstanceUID", 0x0020000E, "UI"),
    Tag("SOPInstanceUID", 0x00080018, "UI"),
    Tag("InstanceNumber", 0x00200013, "IS"),
    Tag("AcquisitionNumber", 0x00200012, "IS"),
    Tag("ImageType", 0x00080008, "CS", many=True),
    Tag("EchoTime", 0x00180081, "DS"),  # ms
    Tag("EchoNumbers", 0x00180086, "IS"),
    Tag("RepetitionTime", 0x00180080, "DS"),  # ms
    Tag("FlipAngle", 0x00181314, "DS"),  # degrees
    Tag("ImagePositionPatient", 0x00200032, "DS", many=True),  # mm, LPS
    Tag("ImageOrientationPatient", 0x00200037, "DS", many=True),
    Tag("PixelSpacing", 0x00280030, "DS", many=True),  # mm, rows then columns
    Tag("SliceThickness", 0x00180050, "DS"),  # mm
    Tag("SpacingBetweenSlices", 0x00180088, "DS"),  # mm
    Tag("Rows", 0x00280010, "US"),
    Tag("Columns", 0x00280011, "US"),
    Tag("NumberOfFrames", 0x00280008, "IS"),
    Tag("BodyPartExamined", 0x00180015, "CS"),
    Tag("Manufacturer", 0x00080070, "LO"),
    Tag("ManufacturerModelName", 0x00081090, "LO"),
    Tag("MagneticFieldStrength", 0x00180087, "DS"),  # T
    Tag("StudyInstanceUID", 0x0020000D, "UI"),
    Tag("FrameOfReferenceUID", 0x00200052, "UI"),
    Tag("StudyDate", 0x00080020, "DA"),
    Tag("StudyTime", 0x00080030, "TM"),
    Tag("AcquisitionTime", 0x00080032, "TM"),
    Tag("TransferSyntaxUID", 0x00020010, "UI"),
    Tag("SOPClassUID", 0x00080016, "UI"),
)
"""Every element that is recorded unless a study denies it; the one list."""

ANNEX_METADATA = (*(tag.keyword for tag in FIRST_TOOLS), "EchoTime", "ImageType")
"""Recorded as git-annex metadata, too, under the keyword in lower case."""

_OF_IMAGES = frozenset(
    ["InstanceNumber", "AcquisitionNumber", "ImageOrientationPatient", "ImagePositionPatient"]
)


def is_of_images(keyword: str, vr: str) -> bool:
    """Whether the element tells images apart: it counts them, or is a place, a time or an id."""
    return keyword in _OF_IMAGES or vr in ("UI", "TM", "DT")


SERIES = "SeriesInstanceUID"
"""The keyword that says which series an image belongs to."""
