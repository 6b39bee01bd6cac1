"""From a tarball to the two metadata files, and back."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from icf_tools.archive.build import build
from icf_tools.errors import Damaged
from icf_tools.index.deposit import OtherMetadata, OtherSize, OtherTarball, index
from icf_tools.index.members import DamagedTarball
from icf_tools.index.records import BadMetadata, NoMetadata, read_images, read_tarball
from icf_tools.index.scan import NoTarball
from icf_tools.model.dicom import FIRST_TOOLS, RECORDED
from icf_tools.model.visit import StorePath, Visit
from tests import dicoms
from tests.conftest import peak_memory

OLD_KEYS = {"path", "md5", "size", *(tag.keyword for tag in FIRST_TOOLS)}


def deposited(store: StorePath) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return json.loads(store.tarball_json.read_bytes()), json.loads(store.dicoms_json.read_bytes())


def put(store: StorePath, *members: tuple[str, bytes]) -> None:
    """A tarball made elsewhere."""
    store.study.mkdir(parents=True, exist_ok=True)
    with tarfile.open(store.tarball, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mtime = 1_600_000_000
            tar.addfile(info, io.BytesIO(content))


def image(**elements: Any) -> bytes:
    out = io.BytesIO()
    dicoms.image(**elements).save_as(out, enforce_file_format=True)
    return out.getvalue()


def test_a_tarball_is_described(store: StorePath, incoming: Path) -> None:
    (incoming / "notes.txt").write_text("no image")
    built = build(incoming, store)
    indexed = index(store)
    assert (indexed.images, indexed.files, indexed.series, indexed.made) == (6, 1, 2, True)
    tarball, images = deposited(store)
    assert tarball["size"] == store.tarball.stat().st_size
    assert tarball["md5"] == built.md5
    assert tarball["dspath"] == "icf/visit_dicom.tar"
    assert tarball["storepath"] == "study/visit_dicom.tar"
    assert tarball["timestamp"] == 1709201472
    data = store.tarball.read_bytes()
    for item in (*images, *tarball["files"]):
        content = data[item["offset"] : item["offset"] + item["size"]]
        original = incoming / item["path"].removeprefix("study_visit/")
        assert content == original.read_bytes()
        assert item["md5"] == hashlib.md5(content).hexdigest()
    assert [item["path"] for item in tarball["files"]] == ["study_visit/notes.txt"]


def test_old_readers_find_their_keys(store: StorePath, incoming: Path) -> None:
    build(incoming, store)
    index(store)
    for item in deposited(store)[1]:
        assert item.keys() >= OLD_KEYS
    assert item["SeriesDescription"] == "t1 mprage 2"
    assert item["SeriesNumber"] == 2
    assert item["PulseSequenceName"] == ""


def test_what_a_series_has_in_common_stands_once(store: StorePath, incoming: Path) -> None:
    dicoms.write(incoming / "series_1" / "im004.dcm", dicoms.image(1, 4, EchoTime=None))
    build(incoming, store)
    index(store)
    tarball, images = deposited(store)
    common = tarball["series"][f"{dicoms.ROOT}.1"]
    assert common["Manufacturer"] == "Example"
    assert common["ImageType"] == ["ORIGINAL", "PRIMARY"]
    assert "EchoTime" not in common
    assert tarball["series"][f"{dicoms.ROOT}.2"]["EchoTime"] == 2.5
    first = images[0]
    assert "Manufacturer" not in first
    assert first["EchoTime"] == 2.5
    assert first["SOPInstanceUID"] == f"{dicoms.ROOT}.1.1"
    assert "EchoTime" not in next(i for i in images if i["path"].endswith("series_1/im004.dcm"))


def test_what_is_written_reads_back_equal(store: StorePath, incoming: Path) -> None:
    from icf_tools.index.scan import scan

    dicoms.write(incoming / "series_1" / "x#4.dcm", dicoms.image(1, 4, EchoTime=None))
    dicoms.write(incoming / "none.dcm", dicoms.image(3, 1, SeriesInstanceUID=None))
    (incoming / "notes.txt").write_text("no image")
    build(incoming, store)
    index(store)
    found = scan(store.tarball, RECORDED)
    facts = read_tarball(store)
    images = list(read_images(store, facts))
    assert images == [record for record in found.records if record.tags is not None]
    assert [*facts.files] == [record for record in found.records if record.tags is None]
    assert any(image.original_path == "series_1/x#4.dcm" for image in images)


def test_the_same_tarball_gives_the_same_bytes(store: StorePath, incoming: Path) -> None:
    build(incoming, store)
    index(store)
    before = store.tarball_json.read_bytes(), store.dicoms_json.read_bytes()
    assert not index(store).made
    store.dicoms_json.unlink()
    assert index(store).made
    store.tarball_json.unlink()
    assert index(store).made
    assert (store.tarball_json.read_bytes(), store.dicoms_json.read_bytes()) == before


def test_identity_never_reaches_the_metadata(store: StorePath, incoming: Path) -> None:
    elements = {
        "InstitutionName": "Secret Hospital",
        "OperatorsName": "Secret^Operator",
        "PatientComments": "secret comment",
        "ImageComments": "secret comment",
        "AccessionNumber": "secret1",
        "DeviceSerialNumber": "secret2",
        "StationName": "secret3",
    }
    dicoms.write(incoming / "x.dcm", dicoms.image(3, 3, **elements))
    build(incoming, store)
    index(store)
    written = b"".join(path.read_bytes() for path in store.files[1:] if path.exists()).decode()
    for secret in ("mustermann", "erika", "4711", "19640812", "secret"):
        assert secret not in written.casefold()


def test_no_tarball(store: StorePath) -> None:
    with pytest.raises(NoTarball):
        index(store)


def test_damage_leaves_nothing(store: StorePath, incoming: Path) -> None:
    build(incoming, store)
    with store.tarball.open("r+b") as file:
        file.truncate(5000)
    with pytest.raises(DamagedTarball, match=r"visit_dicom\.tar: member 'study_visit/series_1/"):
        index(store)
    assert not store.tarball_json.exists()
    assert not store.dicoms_json.exists()


def test_a_tarball_other_than_its_md5sum(store: StorePath, incoming: Path) -> None:
    build(incoming, store)
    store.md5sum.write_text(f"{'0' * 32}  visit_dicom.tar\n")
    with pytest.raises(OtherTarball, match=f"a tarball with MD5 .*, on record is {'0' * 32}"):
        index(store)
    assert not store.tarball_json.exists()


def test_a_tarball_of_another_size(store: StorePath, incoming: Path) -> None:
    build(incoming, store)
    index(store)
    store.md5sum.unlink()
    with store.tarball.open("ab") as file:
        file.write(bytes(10240))
    with pytest.raises(OtherSize):
        index(store)


def test_images_without_a_series_are_none(store: StorePath, incoming: Path) -> None:
    dicoms.write(incoming / "none.dcm", dicoms.image(3, 1, SeriesInstanceUID=None))
    build(incoming, store)
    for made in (True, False):
        indexed = index(store)
        assert (indexed.images, indexed.series, indexed.made) == (7, 2, made)


def test_metadata_of_another_visit(store: StorePath, incoming: Path) -> None:
    build(incoming, store)
    index(store)
    other = StorePath(store.root, Visit("study", "other"))
    for path in (store.dicoms_json, store.tarball_json):
        (store.study / path.name.replace("visit", "other", 1)).write_bytes(path.read_bytes())
    with pytest.raises(BadMetadata, match=r"it is of study/visit_dicom\.tar"):
        read_tarball(other)


def test_series_are_sorted_and_the_newest_member_counts(store: StorePath, tmp_path: Path) -> None:
    for number, day in ((3, "20240103"), (1, "20240109"), (2, "20240105")):
        path = tmp_path / "in" / f"{9 - number}.dcm"
        dicoms.write(path, dicoms.image(number, StudyDate=day, StudyTime="000000"))
    build(tmp_path / "in", store)
    index(store)
    facts = read_tarball(store)
    assert list(facts.series) == [f"{dicoms.ROOT}.{number}" for number in (1, 2, 3)]
    assert facts.timestamp == 1704758400


def test_metadata_that_says_something_else_is_not_replaced(
    store: StorePath, incoming: Path
) -> None:
    build(incoming, store)
    index(store)
    store.dicoms_json.write_text("[]\n")
    store.tarball_json.unlink()
    with pytest.raises(OtherMetadata):
        index(store)
    assert store.dicoms_json.read_text() == "[]\n"
    assert not store.tarball_json.exists()


def test_a_tarball_made_elsewhere(store: StorePath) -> None:
    put(
        store,
        ("./visit/a.dcm", image()),
        ("visit/b#1.dcm", image(instance=2)),
        ("visit/.git/config", b"x"),
        ("visit/broken.dcm", image()[:500]),
        ("visit/twice.txt", b"old"),
        ("visit/twice.txt", b"new"),
    )
    indexed = index(store)
    assert (indexed.images, indexed.files) == (2, 3)
    reasons = {problem.path: problem.reason for problem in indexed.problems}
    assert "cannot get it" in reasons["visit/a.dcm"]
    assert "'#'" in reasons["visit/b#1.dcm"]
    assert "git cannot check out" in reasons["visit/.git/config"]
    assert "kept as a plain file" in reasons["visit/broken.dcm"]
    assert "2 times" in reasons["visit/twice.txt"]
    tarball, images = deposited(store)
    assert [item["path"] for item in images] == ["visit/a.dcm", "visit/b#1.dcm"]
    twice = [item for item in tarball["files"] if item["path"] == "visit/twice.txt"]
    assert [item["md5"] for item in twice] == [hashlib.md5(b"new").hexdigest()]
    assert len(tarball["problems"]) == len(indexed.problems) == 5
    assert index(store).problems == indexed.problems


def test_bytes_that_are_not_utf8_survive(store: StorePath) -> None:
    name = b"visit/caf\xe9.txt".decode("utf-8", "surrogateescape")
    put(store, (name, b"x"))
    indexed = index(store)
    assert "not UTF-8" in indexed.problems[0].reason
    assert read_tarball(store).files[0].path == name


def test_a_large_member_that_is_no_image(store: StorePath) -> None:
    put(store, ("big", bytes(6 << 20)), ("header.dcm", image() + bytes(5 << 20)))
    indexed = index(store)
    assert (indexed.images, indexed.files) == (1, 1)


def test_metadata_of_the_first_tools(store: StorePath) -> None:
    store.study.mkdir(parents=True)
    digest = "0123456789abcdef" * 2
    store.tarball_json.write_text(
        json.dumps(
            {"size": 5, "md5": digest, "dspath": "icf/v.tar", "storepath": "study/visit_dicom.tar"}
        )
    )
    old = {"path": "s_v/a b.dcm", "md5": digest, "size": 3, "SeriesNumber": 4, "Modality": ""}
    old["ProtocolName"] = None  # what pydicom makes of an empty number
    store.dicoms_json.write_text(json.dumps([old]))
    facts = read_tarball(store)
    assert (facts.timestamp, facts.files, facts.series) == (0, (), {})
    (image_record,) = read_images(store, facts)
    assert (image_record.offset, image_record.tags) == (None, {"SeriesNumber": 4})
    assert not index(store).made


BAD_TARBALL = [
    "",
    "[]",
    "{}",
    '{"size": "5", "md5": "x", "dspath": "a", "storepath": "b"}',
    '{"size": -1, "md5": "00000000000000000000000000000000", "dspath": "a", "storepath": "b"}',
    '{"size": 1, "md5": "00000000000000000000000000000000", "dspath": "../a", "storepath": "b"}',
    '{"size": 1, "md5": "00000000000000000000000000000000", "dspath": "a", "storepath": "b",'
    ' "timestamp": Infinity}',
    '{"size": 1, "md5": "00000000000000000000000000000000", "dspath": "a", "storepath": "b",'
    ' "timestamp": 1000000000000000000000}',
    "[" * 100_000,
]


@pytest.mark.parametrize("text", BAD_TARBALL)
def test_bad_metadata_of_a_tarball(store: StorePath, text: str) -> None:
    store.study.mkdir(parents=True)
    store.tarball_json.write_text(text)
    with pytest.raises(BadMetadata):
        read_tarball(store)


BAD_IMAGES = [
    "",
    "{}",
    "[",
    "[1]",
    "[{}]",
    '[{"path": "a"}',
    "[" * 100_000,
    '[{"path": "./a", "md5": "00000000000000000000000000000000", "size": 1}]',
    '[{"path": "a//b", "md5": "00000000000000000000000000000000", "size": 1}]',
    '[{"path": "a\\u0000", "md5": "00000000000000000000000000000000", "size": 1}]',
    '[{"path": "a\\ud800", "md5": "00000000000000000000000000000000", "size": 1}]',
    '[{"path": "a", "md5": "00000000000000000000000000000000", "size": 1, "x": ["\\ud800"]}]',
    '[{"path": "/a", "md5": "00000000000000000000000000000000", "size": 1}]',
    '[{"path": "a", "md5": "no", "size": 1}]',
    '[{"path": "a", "md5": "00000000000000000000000000000000", "size": true}]',
    "[] []",
    '[{"path": "a", "md5": "00000000000000000000000000000000", "size": 1},]',
]


@pytest.mark.parametrize("text", BAD_IMAGES)
def test_bad_metadata_of_images(store: StorePath, incoming: Path, text: str) -> None:
    build(incoming, store)
    index(store)
    store.dicoms_json.write_text(text)
    with pytest.raises(BadMetadata):
        list(read_images(store, read_tarball(store)))


def test_no_metadata(store: StorePath) -> None:
    with pytest.raises(NoMetadata):
        read_tarball(store)


def test_an_empty_array_is_no_images(store: StorePath) -> None:
    put(store, ("readme", b"x"))
    index(store)
    facts = read_tarball(store)
    assert list(read_images(store, facts)) == []


@pytest.mark.slow
def test_memory_does_not_grow_with_the_tarball(store: StorePath) -> None:
    """A sparse tarball of one member of 1 GB."""
    store.study.mkdir(parents=True)
    info = tarfile.TarInfo("big")
    info.size = 1 << 30
    with store.tarball.open("wb") as file:
        file.write(info.tobuf())
        file.truncate(512 + (1 << 30) + 1024)
    script = (
        "import sys; from pathlib import Path;"
        "from icf_tools.index.scan import scan; from icf_tools.model.dicom import RECORDED;"
        "assert len(scan(Path(sys.argv[1]), RECORDED).records) == 1"
    )
    assert peak_memory(script, store.tarball) < 120 << 20


def test_real_images(store: StorePath, test_data: Path) -> None:
    build(test_data / "dcm_qa_nih" / "In", store, allow_identifying=True)
    indexed = index(store)
    assert (indexed.images, indexed.files, indexed.series) == (608, 10, 8)
    tarball, images = deposited(store)
    siemens = [item for item in images if "20180918Si" in item["path"]]
    series = tarball["series"][siemens[0]["SeriesInstanceUID"]]
    assert series["ManufacturerModelName"] == "Skyra"
    assert series["MagneticFieldStrength"] == 3.0
    assert "Regression" not in store.dicoms_json.read_text() + store.tarball_json.read_text()


def test_damage_has_its_exit_code() -> None:
    assert issubclass(DamagedTarball, Damaged)
