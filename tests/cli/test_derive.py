"""icf check-nifti as a user runs it."""

import json
import os
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests import dicoms
from tests.conftest import Run
from tests.derive.series import CORONAL, Series

pytestmark = pytest.mark.slow


@pytest.fixture
def series(tmp_path: Path) -> dict[str, Series]:
    """Two series in one folder, and the NIfTI files that are right for them."""
    found = {"a": Series.of(2), "b": Series.of(orientation=CORONAL)}
    for number, (name, each) in enumerate(found.items(), start=1):
        each.write(tmp_path / "dicom" / name, number)
        nibabel.save(each.nifti(), tmp_path / f"{name}.nii.gz")
    dicoms.write(tmp_path / "dicom" / "without geometry", dicoms.image(3, 1))
    (tmp_path / "dicom" / "notes.txt").write_text("text")
    return found


def test_right_files(icf: Run, series: dict[str, Series]) -> None:
    done = icf("check-nifti", "a.nii.gz", "b.nii.gz", "--dicom", "dicom")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"a.nii.gz\tverified\t8 images of {dicoms.ROOT}.1, volumes by InstanceNumber\n"
        f"b.nii.gz\tverified\t4 images of {dicoms.ROOT}.2\n"
    )
    [one] = json.loads(icf("check-nifti", "b.nii.gz", "--dicom", "dicom", "--json").stdout)
    assert len(one.pop("mapping")) == 64
    assert one == {
        "file": "b.nii.gz",
        "series": f"{dicoms.ROOT}.2",
        "images": 4,
        "order": "",
        "fault": "",
    }


def test_wrong_files(icf: Run, series: dict[str, Series], tmp_path: Path) -> None:
    image = series["a"].nifti()
    data = np.asanyarray(image.dataobj).copy()
    data[1, 1, 1, 1] += 1
    nibabel.save(nibabel.Nifti1Image(data, image.affine), tmp_path / "wrong.nii")
    nibabel.save(nibabel.Nifti1Image(data + 9, image.affine), tmp_path / "other.nii")
    (tmp_path / "none.nii").write_text("text")
    done = icf("check-nifti", "wrong.nii", "b.nii.gz", "other.nii", "none.nii", "--dicom", "dicom")
    assert done.returncode == 5
    assert done.stderr == (
        "icf: 3 of 4 files are not what the images say; do not use them, convert the images again\n"
    )
    wrong, right, other, none = done.stdout.splitlines()
    assert wrong.startswith("wrong.nii\twrong\twrong.nii: plane 2 of volume 2 has other values ")
    assert right.startswith("b.nii.gz\tverified\t")
    assert other.startswith("other.nii\twrong\tno image of the 2 series lies in it ")
    assert none == "none.nii\twrong\tit cannot be read as NIfTI-1"


def test_an_image_that_the_file_lacks(icf: Run, series: dict[str, Series], tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "dicom" / "b")
    (tmp_path / "dicom" / "a" / "im0005.dcm").rename(tmp_path / "lost.dcm")
    done = icf("check-nifti", "a.nii.gz", "--dicom", "dicom")
    assert done.returncode == 5
    assert "images are missing: InstanceNumber has gaps" in done.stdout


def test_nothing_to_hold_it_against(icf: Run, series: dict[str, Series], tmp_path: Path) -> None:
    assert icf("check-nifti", "a.nii.gz", "--dicom", "nowhere").returncode == 3
    (tmp_path / "empty").mkdir()
    done = icf("check-nifti", "a.nii.gz", "--dicom", "empty")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert icf("check-nifti", "--dicom", "empty").returncode == 2


def test_real_files(icf: Run, test_data: Path) -> None:
    """What dcm2niix made, as its authors publish it, of Siemens mosaics and GE series."""
    files = sorted((test_data / "dcm_qa_nih" / "Ref").glob("*.nii"))
    done = icf("check-nifti", *files, "--dicom", test_data / "dcm_qa_nih" / "In")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("\tverified\t") == len(files) == 8


@pytest.fixture
def tarball(icf: Run, tmp_path: Path) -> str:
    """A series that converts, one that cannot, and one that is no image."""
    Series.of(2).write(tmp_path / "in" / "a", 1)
    Series.of().write(tmp_path / "in" / "b", 2)
    (tmp_path / "in" / "b" / "im0002.dcm").unlink()
    dicoms.write(tmp_path / "in" / "c", dicoms.image(3, 1))
    assert icf("archive", "study", "visit", "in", "-o", "store").returncode == 0
    return "store/study/visit_dicom.tar"


def test_convert_tells_what_came_of_each_series(icf: Run, tarball: str, tmp_path: Path) -> None:
    done = icf("convert", tarball, "--output", "out", "-j", "2")
    first, second, third = done.stdout.splitlines()
    assert first == ("series 1\t8 images\tverified\tnifti/001_protocol-1.nii.gz")
    assert second.startswith("series 2\t3 images\tfailed\tdcm2niix: ")
    assert third == (
        "series 3\t1 images\tunverified\t"
        "1 images: it has no ImagePositionPatient, so its place is not known"
    )
    assert done.returncode == 10
    assert done.stderr == (
        "icf: 2 of 3 series have not all that was asked for; what is said of each tells why\n"
    )
    report = json.loads(icf("convert", tarball, "--output", "out", "--json").stdout)
    assert report == json.loads((tmp_path / "out" / "series.json").read_bytes())


def test_convert_what_is_right(icf: Run, tarball: str, tmp_path: Path) -> None:
    done = icf("convert", tarball, "--series", "1")
    assert (done.returncode, done.stderr) == (0, "")
    [file] = (tmp_path / "nifti").glob("*.nii.gz")
    assert icf("check-nifti", file, "--dicom", "in").returncode == 0


def test_convert_refuses(icf: Run, tarball: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tar")
    for nothing in ("nowhere.tar", "pipe.tar", "store"):
        assert icf("convert", nothing).returncode == 3
    assert icf("convert", tarball, "--series", "9").returncode == 3
    assert icf("convert", tarball, "-j", "0").returncode == 2
    (tmp_path / "cut.tar").write_bytes((tmp_path / tarball).read_bytes()[:5000])
    assert icf("convert", "cut.tar").returncode == 5
    (tmp_path / "file").write_text("text")
    done = icf("convert", tarball, "--output", "file")
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert not (tmp_path / "nifti").exists()


def test_check_passes_over_nothing(icf: Run, series: dict[str, Series], tmp_path: Path) -> None:
    last = tmp_path / "dicom" / "a" / "im0008.dcm"
    whole = last.read_bytes()
    last.write_bytes(whole[:-10])
    done = icf("check-nifti", "b.nii.gz", "--dicom", "dicom")
    assert (done.returncode, done.stderr.count("\n")) == (5, 1)
    assert "1 images in dicom cannot be read, the first is a/im0008.dcm: its pixel" in done.stderr
    last.unlink()
    last.symlink_to("nowhere")
    done = icf("check-nifti", "b.nii.gz", "--dicom", "dicom")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "the content of dicom/a/im0008.dcm is not here; get it first" in done.stderr


def test_series_with_the_same_images(icf: Run, tmp_path: Path) -> None:
    for number in (1, 2):
        Series.of().write(tmp_path / "dicom" / str(number), number)
        nibabel.save(Series.of().nifti(), tmp_path / f"{number}.nii")
    done = icf("check-nifti", "1.nii", "2.nii", "--dicom", "dicom")
    assert done.returncode == 0, done.stdout


@pytest.fixture
def visit(icf: Run, tarball: str) -> list[str]:
    """That of the tarball, deposited; and where it is, as arguments."""
    where = ["study", "visit", "-o", "store"]
    assert icf("index", *where).returncode == 0
    url = "https://data.example.org/store"
    assert icf("dataset", *where, "--store-url", url).returncode == 0
    return where


def test_derive_tells_what_came_of_each_series(icf: Run, visit: list[str], tmp_path: Path) -> None:
    done = icf("derive", *visit, "-j", "2")
    assert done.returncode == 10
    first, second, third, made, clone = done.stdout.splitlines()
    assert first == "series 1\t8 images\tverified\tnifti/001_protocol-1.nii.gz"
    assert second.startswith("series 2\t3 images\tfailed\tdcm2niix: ")
    assert third.startswith("series 3\t1 images\tunverified\t")
    assert made.startswith("dataset made: version 2, commit ")
    assert clone.startswith("clone it with: datalad clone ")
    assert done.stderr == (
        "icf: 2 of 3 series have not all that was asked for; what is said of each tells why\n"
    )
    told = json.loads(icf("derive", *visit, "--json").stdout)
    assert told.pop("dataset")["made"] is False
    assert told == json.loads((tmp_path / "store/study/visit_metadata_series.json").read_bytes())
    status = icf("status", "-o", "store")
    assert status.stdout.endswith("\tseries: 1 failed, 1 unverified, 1 verified\n")
    told = json.loads(icf("status", "-o", "store", "--json").stdout)[0]
    assert told["series"] == {"failed": 1, "unverified": 1, "verified": 1}


def test_derive_what_is_right(icf: Run, visit: list[str]) -> None:
    where = ["--id", "study", "visit", "-o", "store"]
    done = icf(*where, "--series", "1", "--to", "minc", program="derive_visit")
    assert (done.returncode, done.stderr) == (0, "")
    assert "minc/001_protocol-1.mnc" in done.stdout


def test_check_of_a_file_that_is_not_there(icf: Run, series: dict[str, Series]) -> None:
    done = icf("check-nifti", "a.nii.gz", "none.nii.gz", "--dicom", "dicom")
    assert done.returncode == 3
    assert done.stderr == "icf: no file at none.nii.gz; see how it is called\n"


def test_derive_refuses(icf: Run, visit: list[str], tmp_path: Path) -> None:
    for code, arguments in (
        (2, ["--to", "preview"]),
        (2, ["--to", "bids"]),
        (2, ["--to", "analyze"]),
        (2, ["--converter", "mricron"]),
        (3, ["--series", "9"]),
        (4, ["--store-url", "https://other.example.org"]),
    ):
        done = icf("derive", *visit, *arguments)
        assert done.returncode == code, arguments
        assert "Traceback" not in done.stderr
    for study, store, said in (
        ("study", "store", "no tarball at "),
        ("nothing", "store", "no study nothing in the store "),
        ("study", "nowhere", "no store at "),
    ):
        done = icf("derive", study, "other", "-o", store)
        assert (done.returncode, done.stderr.startswith(f"icf: {said}")) == (3, True)
    done = icf("convert", "store/study/visit_dicom.tar", "--to", "bids")
    assert (done.returncode, "--settings" in done.stderr) == (2, True)
    assert not (tmp_path / "store/study/visit_annex").exists()
