"""What the search page of a catalog asks for, as a study has settled it.

in: the section `search` of study.yaml or site.yaml    out: Elements
"""

from dataclasses import dataclass
from enum import StrEnum

from icf_tools.model.dicom import is_of_images

VISIT = "Visit"
STUDY = "Study"
IMAGES = "NumberOfSeriesRelatedInstances"  # (0020,1209): counted, not read
STATUS = "DerivativeStatus"
COVERAGE = "Coverage"
OWN = (VISIT, STUDY, IMAGES, STATUS, COVERAGE)
"""Keywords beside those of the recorded elements: of what is known, not read."""

_NUMBERS = frozenset(["DS", "FD", "FL", "IS", "SL", "SS", "UL", "US"])


class ElementType(StrEnum):
    """What is asked for; on the page, one or several fields of a form."""

    TEXT = "text"
    NUMBER_RANGE = "number-range"
    DATE_RANGE = "date-range"
    DROP_DOWN = "drop-down"
    SPHERE = "sphere"

    def takes(self, keyword: str, vr: str) -> bool:
        """Whether it can ask for the keyword; the VR is empty where that is one of OWN."""
        if keyword == COVERAGE or self is ElementType.SPHERE:
            return keyword == COVERAGE and self is ElementType.SPHERE
        if is_of_images(keyword, vr):
            return False
        if self is ElementType.NUMBER_RANGE:
            return vr in _NUMBERS or keyword == IMAGES
        return (vr == "DA") == (self is ElementType.DATE_RANGE)


@dataclass(frozen=True, slots=True)
class Element:
    """One filter. A series passes that has a fitting value of any of the keywords."""

    type: ElementType
    keyword: str
    label: str
    alternate_keywords: tuple[str, ...] = ()
    min: float | None = None  #: the least number that can be asked for
    max: float | None = None
    auto_complete: bool = False  #: of a text: whether values are proposed
    enabled: bool = True

    @property
    def keywords(self) -> tuple[str, ...]:
        return (self.keyword, *self.alternate_keywords)


def _default(kind: ElementType, keyword: str, label: str, *alternate: str) -> Element:
    return Element(kind, keyword, label, alternate, auto_complete=kind is ElementType.TEXT)


_T, _N, _D = ElementType.TEXT, ElementType.NUMBER_RANGE, ElementType.DROP_DOWN
DEFAULT = (
    Element(_T, VISIT, "Text", ("SeriesDescription", "ProtocolName", "ManufacturerModelName")),
    _default(_D, STUDY, "Study"),
    _default(_D, "Modality", "Modality"),
    _default(_T, "SeriesDescription", "Series or protocol", "ProtocolName"),
    _default(_D, "ManufacturerModelName", "Scanner"),
    _default(ElementType.DATE_RANGE, "StudyDate", "Date"),
    _default(_N, "RepetitionTime", "TR (ms)"),
    _default(_N, "EchoTime", "TE (ms)"),
    _default(_N, "FlipAngle", "Flip angle (degrees)"),
    _default(_N, "MagneticFieldStrength", "Field strength (T)"),
    _default(_N, IMAGES, "Images in the series"),
    _default(_D, STATUS, "Conversion"),
    _default(ElementType.SPHERE, COVERAGE, "Covers a sphere (patient coordinates, mm)"),
)
"""Where nothing is settled. The page leaves out what no series has."""
