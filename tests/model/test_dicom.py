"""What is recorded, and what never is."""

import pytest
from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import dictionary_VM, dictionary_VR, tag_for_keyword

from icf_tools.model.dicom import ANNEX_METADATA, RECORDED, DeniedElement, Tag, is_denied


@pytest.mark.parametrize("tag", RECORDED, ids=lambda tag: tag.keyword)
def test_recorded_elements_are_those_of_the_standard(tag: Tag) -> None:
    assert tag_for_keyword(tag.keyword) == tag.number
    assert dictionary_VR(tag.number) == tag.vr
    if tag.keyword != "EchoNumbers":  # 1-n, and one in practice
        assert tag.many == (dictionary_VM(tag.number) != "1")


def test_annex_metadata_is_recorded() -> None:
    assert set(ANNEX_METADATA) <= {tag.keyword for tag in RECORDED}


DENIED = [
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "PatientAddress",
    "PatientTelephoneNumbers",
    "OtherPatientIDs",
    "IssuerOfPatientID",
    "EthnicGroup",
    "Occupation",
    "MilitaryRank",
    "AdditionalPatientHistory",
    "PatientComments",
    "ImageComments",
    "StudyComments",
    "InstitutionName",
    "InstitutionAddress",
    "InstitutionalDepartmentName",
    "StationName",
    "OperatorsName",
    "OperatorIdentificationSequence",
    "ReferringPhysicianName",
    "ReferringPhysicianTelephoneNumbers",
    "PerformingPhysicianName",
    "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy",
    "RequestingPhysician",
    "RequestingService",
    "AccessionNumber",
    "DeviceSerialNumber",
    "PersonName",
    "PersonAddress",
    "PersonTelephoneNumbers",
    "CountryOfResidence",
    "InsurancePlanIdentification",
    "AdmissionID",
    "ClinicalTrialSubjectID",
    "PatientState",
    "VerifyingObserverName",
    "ContentCreatorName",
    "TextComments",
    "RequestedProcedureComments",
    "OrderCallbackPhoneNumber",
    "OrderEntererLocation",
    "ContactDisplayName",
    "HangingProtocolCreator",
    "OwnerID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSiteID",
    "VerifyingOrganization",
    "GantryID",
    "DetectorID",
    "DeviceID",
    "PlateID",
    "AdmittingDiagnosesDescription",
    "ReasonForStudy",
    "BoardingPassID",
    "StudyID",
]


@pytest.mark.parametrize("keyword", DENIED)
def test_identifying_elements_are_denied(keyword: str) -> None:
    number = tag_for_keyword(keyword)
    assert number is not None
    with pytest.raises(DeniedElement, match=keyword):
        Tag(keyword, number, dictionary_VR(number))


def test_every_name_of_the_dictionary_is_denied() -> None:
    for number, (vr, _, _, _, keyword) in DicomDictionary.items():
        technical = number >> 16 in (0x2, 0x8, 0x18, 0x20, 0x28, 0x54)
        if not technical:
            assert is_denied(number, keyword, vr), keyword
        words = ("Birth", "Address", "Institution", "Operator", "Physician", "Comment")
        if vr == "PN" or number >> 16 == 0x10 or any(word in keyword for word in words):
            assert is_denied(number, keyword, vr), keyword


def test_private_elements_are_denied() -> None:
    assert is_denied(0x00291010, "", "LO")


@pytest.mark.parametrize("keyword", ["ReceiveCoilName", "InversionTime", "PatientPosition"])
def test_technical_elements_may_be_recorded(keyword: str) -> None:
    number = tag_for_keyword(keyword)
    assert number is not None
    assert Tag(keyword, number, dictionary_VR(number)).keyword == keyword
