"""Series out of the metadata: what is common, what differs, where images lie."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icf_tools.index.deposit import index
from icf_tools.index.records import BadMetadata, NoMetadata, read_tarball
from icf_tools.index.series import Series, read_series
from icf_tools.model.dicom import RECORDED
from icf_tools.model.visit import StorePath
from icf_tools.pipeline import add
from tests import dicoms
from tests.derive import series as scans

URL = "https://data.example.org/store"


def made(store: StorePath, incoming: Path) -> tuple[Series, ...]:
    add(incoming, store, store_url=URL, tags=RECORDED)
    return read_series(store, read_tarball(store), RECORDED)


def images(store: StorePath, *items: dict[str, Any], **tarball: Any) -> tuple[Series, ...]:
    """Of metadata as other tools may write it."""
    store.study.mkdir(parents=True, exist_ok=True)
    basic = {"md5": "0" * 32, "size": 10}
    content = [{"path": f"a/{number}", **basic, **item} for number, item in enumerate(items)]
    store.dicoms_json.write_text(json.dumps(content))
    facts = {"md5": "0" * 32, "size": 10, "dspath": "icf/visit_dicom.tar"}
    facts |= {"storepath": store.visit.store_path} | tarball
    store.tarball_json.write_text(json.dumps(facts))
    return read_series(store, read_tarball(store), RECORDED)


def test_common_and_differing_values(store: StorePath, tmp_path: Path) -> None:
    for number, echo in enumerate((5.0, 2.5, 10), start=1):
        image = dicoms.image(3, number, EchoTime=str(echo), ImageType=["ORIGINAL", "MIXED", "M"])
        dicoms.write(tmp_path / "in" / f"{number}.dcm", image)
    dicoms.write(tmp_path / "in" / "4.dcm", dicoms.image(1, 1, SeriesDescription=None))
    first, second = made(store, tmp_path / "in")
    assert (first.number, first.images) == (1, 1)
    assert first.first("SeriesDescription") == ""
    assert first.first("ProtocolName") == "protocol 1"
    assert second.values["EchoTime"] == (2.5, 5.0, 10.0)
    assert second.values["ImageType"] == ("ORIGINAL", "MIXED", "M")
    assert second.values["SeriesDescription"] == ("t1 mprage 3",)
    assert second.uid == f"{dicoms.ROOT}.3"
    assert second.images == 3
    assert second.size == sum(path.stat().st_size for path in (tmp_path / "in").glob("[123].dcm"))
    told = {*first.values, *second.values}
    assert not told & {"InstanceNumber", "SOPInstanceUID", "SeriesInstanceUID", "AcquisitionTime"}
    assert not told & {"ImagePositionPatient", "ImageOrientationPatient", "StudyTime"}


def test_only_what_is_asked_for_is_told(store: StorePath, incoming: Path) -> None:
    add(incoming, store, store_url=URL, tags=RECORDED)
    tags = [tag for tag in RECORDED if tag.keyword != "ProtocolName"]
    first, _ = read_series(store, read_tarball(store), tags)
    assert "ProtocolName" not in first.values
    assert "SeriesDescription" in first.values
    (bare, _) = read_series(store, read_tarball(store), [])
    assert (bare.values, bare.number, bare.images) == ({}, 0, 3)


@pytest.mark.parametrize(
    "orientation", [scans.AXIAL, scans.CORONAL, scans.SAGITTAL, scans.OBLIQUE], ids=str
)
def test_a_box_holds_all_voxels(
    store: StorePath, tmp_path: Path, orientation: tuple[float, ...]
) -> None:
    scan = scans.Series.of(2, orientation=orientation)
    scan.write(tmp_path / "in")
    (box,) = made(store, tmp_path / "in")[0].boxes
    affine = scan.nifti().affine.copy()
    affine[:2] *= -1  # RAS to LPS
    shape = np.array(scan.nifti().shape[:3])
    np.testing.assert_allclose(box.center, (affine @ [*(shape - 1) / 2, 1])[:3], atol=1e-4)
    sides = {tuple(np.round(np.abs(affine[:3, axis] * shape[axis] / 2), 3)) for axis in range(3)}
    assert {tuple(np.round(np.abs(axis), 3)) for axis in box.axes} == sides


def test_a_localizer_has_a_box_for_each_plane(store: StorePath, tmp_path: Path) -> None:
    for number, orientation in enumerate((scans.AXIAL, scans.CORONAL, scans.SAGITTAL)):
        scan = scans.Series.of(orientation=orientation)
        scan.write(tmp_path / "in" / str(number), SeriesInstanceUID="1.2.3", SeriesNumber=1)
    (series,) = made(store, tmp_path / "in")
    assert len(series.boxes) == 3


def test_a_mosaic_does_not_tell_where_it_lies(store: StorePath, tmp_path: Path) -> None:
    scans.Series.of().write(tmp_path / "in", ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])
    assert made(store, tmp_path / "in")[0].boxes == ()


def test_metadata_of_the_first_tools(store: StorePath) -> None:
    same = {"SeriesDescription": "t1", "ProtocolName": "p", "Modality": "MR"}
    found = images(
        store,
        {**same, "SeriesNumber": 2},
        {**same, "SeriesNumber": 2},
        {**same, "SeriesNumber": 1, "MRAcquisitionType": ""},
    )
    assert [(each.number, each.images, each.uid) for each in found] == [(1, 1, ""), (2, 2, "")]
    assert found[0].values == {
        "Modality": ("MR",),
        "ProtocolName": ("p",),
        "SeriesDescription": ("t1",),
        "SeriesNumber": (1,),
    }


def test_what_is_no_text_and_no_number(store: StorePath) -> None:
    (found,) = images(
        store,
        {"EchoTime": float("nan"), "SeriesDescription": "a\ud800b", "SeriesInstanceUID": "1.2"},
        series={"1.2": {"RepetitionTime": float("inf"), "ProtocolName": "p"}},
    )
    assert found.values == {
        "EchoTime": (),
        "ProtocolName": ("p",),
        "RepetitionTime": (),
        "SeriesDescription": ("a?b",),
    }
    assert found.first("EchoTime") == ""


def test_very_many_values_are_told_by_their_ends(store: StorePath) -> None:
    items = [{"EchoTime": float(number), "SeriesInstanceUID": "1.2"} for number in range(1, 100)]
    (found,) = images(store, *items)
    assert found.values["EchoTime"] == (1.0, 99.0)


@pytest.mark.parametrize(
    "item",
    [
        {"SeriesDescription": {"a": 1}},
        {"EchoTime": True},
        {"SeriesNumber": "x"},
        {"size": "1"},
        {"size": None},
        {"ImageOrientationPatient": [1, 0], "ImagePositionPatient": [1, 2, 3]},
        {"ImageOrientationPatient": ["a"] * 6, "ImagePositionPatient": [1, 2, 3]},
    ],
    ids=str,
)
def test_a_wrong_type_is_damage(store: StorePath, item: dict[str, Any]) -> None:
    with pytest.raises(BadMetadata):
        images(store, item)


@pytest.mark.parametrize(
    ("orientation", "position", "given"),
    [
        ([0] * 6, [1, 2, 3], {"Rows": 4, "Columns": 4, "PixelSpacing": [1, 1]}),
        ([1, 0, 0, 1, 0, 0], [1, 2, 3], {"Rows": 4, "Columns": 4, "PixelSpacing": [1, 1]}),
        ([1, 0, 0, 0, 1, 0], [1, 2, float("inf")], {"Rows": 4, "PixelSpacing": [1, 1]}),
        ([1, 0, 0, 0, 1, 0], [1, 2, 3], {"Rows": 4, "Columns": 4}),
        ([1, 0, 0, 0, 1, 0], [1, 2, 3], {"Rows": 4, "Columns": 4, "PixelSpacing": [1]}),
    ],
)
def test_images_without_a_place(
    store: StorePath, orientation: list[float], position: list[float], given: dict[str, Any]
) -> None:
    item = {"ImageOrientationPatient": orientation, "ImagePositionPatient": position}
    (found,) = images(store, {**given, **item})
    assert found.boxes == ()


def test_no_metadata(store: StorePath, incoming: Path) -> None:
    add(incoming, store, store_url=URL, tags=RECORDED)
    facts = read_tarball(store)
    store.dicoms_json.unlink()
    with pytest.raises(NoMetadata):
        read_series(store, facts, RECORDED)
    store.dicoms_json.write_text('{"a": 1}')
    with pytest.raises(BadMetadata):
        read_series(store, facts, RECORDED)
    store.dicoms_json.unlink()
    assert index(store, tags=RECORDED).made
