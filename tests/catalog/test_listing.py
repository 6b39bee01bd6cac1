"""What the pages know of a visit."""

import json
from pathlib import Path

import numpy as np
import pytest

from icf_tools.catalog.listing import Listing, list_visit
from icf_tools.dataset.versions import read_versions, tree
from icf_tools.derive.publish import derive, wanted
from icf_tools.derive.report import BadReport, Target
from icf_tools.model.dicom import RECORDED
from icf_tools.model.key import AnnexKey, key_file
from icf_tools.model.visit import StorePath
from icf_tools.pipeline import add
from icf_tools.settings import Settings
from tests.derive.series import Series

URL = "https://data.example.org/store"
PREVIEWS = Settings(previews=True)


@pytest.fixture
def visit(store: StorePath, tmp_path: Path) -> StorePath:
    """A deposited visit: two volumes, a series that lacks an image, and one of the same number."""
    Series.of(2).write(tmp_path / "in" / "a", 1)
    Series.of().write(tmp_path / "in" / "b", 2)
    (tmp_path / "in" / "b" / "im0002.dcm").unlink()
    Series.of().write(tmp_path / "in" / "c", 3, SeriesNumber=1)
    add(tmp_path / "in", store, store_url=URL, tags=RECORDED)
    return store


def derived(store: StorePath) -> Listing:
    derive(store, wanted(store, PREVIEWS, [Target.NIFTI, Target.PREVIEW], (), None), None)
    return list_visit(store, PREVIEWS, None)


def content(store: StorePath, path: str) -> Path:
    return store.annex / key_file(AnnexKey.parse(tree(read_versions(store.versions_json))[path]))


def test_a_visit_of_which_nothing_was_derived(visit: StorePath) -> None:
    found = list_visit(visit, Settings(), None)
    assert [each.anchor for each in found.series] == ["1", "1-2", "2"]
    assert [each.status for each in found.series] == 3 * ["none"]
    assert found.images == 8 + 3 + 4
    assert found.dates == ("20240229",)
    assert found.clone_url == visit.visit.clone_url(URL)
    assert found.links["visit_dicom.tar"] == "../../visit_dicom.tar"
    assert "visit_metadata_series.json" not in found.links
    visit.tarball.unlink()
    assert "visit_dicom.tar" not in list_visit(visit, Settings(), None).links


def test_urls(visit: StorePath) -> None:
    other = "https://other.example.org/a"
    assert list_visit(visit, Settings(), other).clone_url == visit.visit.clone_url(other)
    visit.versions_json.unlink()
    assert list_visit(visit, Settings(), None).clone_url is None


def test_what_was_derived(visit: StorePath) -> None:
    first, again, lacking = derived(visit).series
    assert [each.status for each in (first, again, lacking)] == ["verified", "verified", "failed"]
    assert lacking.reason
    assert not lacking.outputs
    (volume,) = first.volumes
    assert volume.file.path.startswith("nifti/001_protocol-1")
    assert volume.file.url == f"../../visit_annex/{content(visit, volume.file.path).name}"
    assert (visit.study / "catalog" / "view" / volume.file.url).resolve().is_file()
    preview = volume.preview
    assert preview is not None
    assert preview.montage.name == volume.file.name.replace(".nii.gz", ".webp")
    assert preview.window[0] < preview.window[1]
    assert set("LRAP") & set(preview.edges.values())
    assert {output.target for output in first.outputs} == {"nifti", "preview"}


def test_a_key_is_a_path_of_a_url(visit: StorePath) -> None:
    for each in derived(visit).series:
        for output in each.outputs:
            assert not set(output.url) & set(' "<>#?&')


def test_content_that_is_gone_is_not_listed(visit: StorePath) -> None:
    before = derived(visit)
    (volume,) = before.series[0].volumes
    assert volume.preview is not None
    content(visit, volume.preview.montage.path).unlink()
    (after,) = list_visit(visit, PREVIEWS, None).series[0].volumes
    assert after.preview is None
    content(visit, volume.file.path).unlink()
    assert list_visit(visit, PREVIEWS, None).series[0].volumes == ()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"window": 3}'])
def test_a_preview_that_says_nothing(visit: StorePath, text: str) -> None:
    (volume,) = derived(visit).series[0].volumes
    assert volume.preview is not None
    path = content(visit, volume.preview.montage.path.replace(".webp", ".json"))
    path.chmod(0o644)
    path.write_text(text)
    assert list_visit(visit, PREVIEWS, None).series[0].volumes[0].preview is None


def test_a_report_of_another_tarball_does_not_count(visit: StorePath) -> None:
    derived(visit)
    report = json.loads(visit.series_json.read_bytes())
    visit.series_json.write_text(json.dumps(report | {"tarball_md5": "0" * 32}))
    assert {each.status for each in list_visit(visit, PREVIEWS, None).series} == {"none"}
    visit.series_json.write_text("{}")
    with pytest.raises(BadReport):
        list_visit(visit, PREVIEWS, None)


def test_where_images_do_not_tell_the_nifti_file_does(store: StorePath, tmp_path: Path) -> None:
    scan = Series.of()
    scan.write(tmp_path / "in")
    add(tmp_path / "in", store, store_url=URL, tags=RECORDED)
    by_images = list_visit(store, Settings(), None).series[0].boxes
    text = store.tarball_json.read_text()
    store.tarball_json.write_text(text.replace('"PRIMARY"', '"MOSAIC"'))
    assert list_visit(store, Settings(), None).series[0].boxes == ()
    store.tarball_json.write_text(text)
    derived(store)
    store.tarball_json.write_text(text.replace('"PRIMARY"', '"MOSAIC"'))
    listing = list_visit(store, PREVIEWS, None)
    (box,) = listing.series[0].boxes
    np.testing.assert_allclose(box.center, by_images[0].center, atol=1e-3)
    affine = scan.nifti().affine.copy()
    affine[:2] *= -1
    middle = (np.array(scan.nifti().shape[:3]) - 1) / 2
    np.testing.assert_allclose(box.center, (affine @ [*middle, 1])[:3], atol=1e-3)


def test_nothing_is_told_that_the_study_denies(visit: StorePath) -> None:
    tags = tuple(tag for tag in RECORDED if tag.keyword not in ("SeriesDescription", "StudyDate"))
    found = list_visit(visit, Settings(tags=tags), None)
    assert "SeriesDescription" not in found.series[0].series.values
    assert found.series[0].description == "protocol 1"
    assert found.dates == ()


def test_no_place_is_told_where_positions_are_denied(visit: StorePath) -> None:
    derived(visit)
    tags = tuple(tag for tag in RECORDED if tag.keyword != "ImagePositionPatient")
    assert not any(each.boxes for each in list_visit(visit, Settings(tags=tags), None).series)


def test_what_was_recorded_by_others_is_not_told(visit: StorePath) -> None:
    images = json.loads(visit.dicoms_json.read_bytes())
    for image in images:
        image |= {"PatientName": "Mustermann^Erika", "Foo": "Mustermann"}
    visit.dicoms_json.write_text(json.dumps(images))
    assert "Mustermann" not in repr(list_visit(visit, Settings(), None).series)
