"""What counts as the identity of a person in a path or a description."""

import pytest

from icf_tools.archive.identity import Identity

ERIKA = Identity("Mustermann^Erika^^Dr.", "ID4711", "19640812")


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("incoming/Mustermann_Erika/im001.dcm", ("PatientName",)),
        ("MUSTERMANN/im001.dcm", ("PatientName",)),
        ("erikamustermann.dcm", ("PatientName",)),
        ("scan of erika", ("PatientName",)),
        ("T1MustermannScan2", ("PatientName",)),
        ("x/ID4711/im.dcm", ("PatientID",)),
        ("x/id_4711.dcm", ("PatientID",)),
        ("born 1964-08-12", ("PatientBirthDate",)),
        ("12.08.1964.dcm", ("PatientBirthDate",)),
        ("ID4711_Mustermann_19640812", ("PatientName", "PatientID", "PatientBirthDate")),
        ("series_1/im001.dcm", ()),
        ("t1 mprage sagittal", ()),
        ("4711.dcm", ()),
        ("1.2.840.1196408121", ()),
    ],
)
def test_identity_is_found(text: str, fields: tuple[str, ...]) -> None:
    assert ERIKA.held_by(text) == fields


def test_accents_and_scripts() -> None:
    assert Identity("Müller^Jürgen", "", "").held_by("muller_t1") == ("PatientName",)
    assert Identity("山田^太郎", "", "").held_by("scans/山田太郎") == ("PatientName",)
    assert Identity("Ivanov=Иванов", "", "").held_by("иванов") == ("PatientName",)


@pytest.mark.parametrize(
    "nobody",
    [
        Identity("", "", ""),
        Identity("Anonymous", "anon", "00000000"),
        Identity("^^^^", "1", ""),
        Identity("MR^7T", "001", "19"),
    ],
)
def test_placeholders_and_short_names_are_nobody(nobody: Identity) -> None:
    assert nobody.held_by("001 anonymous mr_head 7t 1 19 unknown") == ()


def test_short_names_are_found_together() -> None:
    assert Identity("Li^Yu", "", "").held_by("li_yu/im.dcm") == ("PatientName",)
    assert Identity("Li^Yu", "", "").held_by("slice 1") == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "山田太郎/1.dcm"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "scan山田1.dcm"),
        ("Li^Yu^^Dr", "li_yu/im.dcm"),
        ("Li^Yu=李^玉", "YuLi/im.dcm"),
        ("Li^Yu^Anna", "li_yu/im.dcm"),
        ("Müller^Jürgen", "mueller/im.dcm"),
        ("Mueller^Juergen", "müller/im.dcm"),
        ("Müller^Jürgen", "MULLER/im.dcm"),
        ("Bjørnson^Åse", "bjoernson/im.dcm"),
        ("Wolf^Uwe", "WolfT1.dcm"),
        ("Wolf^Uwe", "UweScan/1.dcm"),
        ("van der Berg^A", "VanDerBerg1.dcm"),
        ("van der Berg^A", "vanderberg1.dcm"),
        ("McDonald^Ann", "mcdonald/1.dcm"),
        ("Jane_Doe", "doe_jane/1.dcm"),
    ],
)
def test_names_are_found_as_people_write_them(name: str, text: str) -> None:
    assert Identity(name, "", "").held_by(text) == ("PatientName",)


@pytest.mark.parametrize(
    ("identity", "text"),
    [
        (Identity("", "0001", ""), "IM-0001-0002.dcm"),
        (Identity("", "12345", ""), "1/23/45.dcm"),
        (Identity("Mustermann^Erika^^Dr^MD", "", ""), "dr/md/1.dcm"),
    ],
)
def test_what_is_no_identity(identity: Identity, text: str) -> None:
    assert identity.held_by(text) == ()


@pytest.mark.parametrize(
    ("pseudonym", "identifiers"),
    [
        ("memory_sub03", ("memory", "sub03")),
        ("P000123", ("study", "P000123_1")),
        ("P000123", ("study", "p-000123")),
    ],
)
def test_a_pseudonym_within_the_identifiers_is_not_counted(
    pseudonym: str, identifiers: tuple[str, ...]
) -> None:
    assert Identity(pseudonym, pseudonym, "").without(identifiers) == Identity("", "", "")


def test_a_pseudonym_chosen_as_identifier_is_not_counted() -> None:
    pseudonym = Identity("P000123", "P000123", "").without(["my-study", "P000123"])
    assert pseudonym.held_by("P000123/im.dcm") == ()


def test_a_name_chosen_as_identifier_is() -> None:
    named = ERIKA.without(["my-study", "Mustermann_Erika"])
    assert named.held_by("Mustermann_Erika") == ("PatientName",)
