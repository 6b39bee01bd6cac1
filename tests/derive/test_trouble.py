"""icf derive where the machine, the store or a person gets in the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import RLELossless

from icf_tools.dataset.study import OtherTree
from icf_tools.dataset.versions import read_versions, tree
from icf_tools.dataset.write import OtherDeposit, dataset
from icf_tools.derive.children import Stopped
from icf_tools.derive.children import run as run_program
from icf_tools.derive.converters import CONVERTERS
from icf_tools.derive.publish import Derived, LostPreview, LostWindows, derive, wanted
from icf_tools.derive.report import Scale, Target
from icf_tools.derive.study import derive_study
from icf_tools.model.bids_plan import plan_of
from icf_tools.model.dicom import RECORDED
from icf_tools.model.visit import StorePath, TreePath, Visit
from icf_tools.pipeline import add
from icf_tools.settings import Settings
from icf_tools.store.files import NoRoom
from tests.conftest import missing
from tests.derive.series import Series

URL = "https://data.example.org/store"
RULES = {
    "rules": [
        {
            "match": {"Modality": "MR"},
            "datatype": "func",
            "suffix": "bold",
            "entities": {"task": "rest"},
        }
    ]
}
NIFTI = "nifti/001_protocol-1.nii.gz"


def deposit(root: Path, name: str = "visit", count: int = 1, **elements: str) -> StorePath:
    store = StorePath(root, Visit("study", name))
    for number in range(1, count + 1):
        Series.of(2).write(root.parent / f"in {name}" / str(number), number, **elements)
    add(root.parent / f"in {name}", store, store_url=URL, tags=RECORDED)
    return store


@pytest.fixture
def visit(tmp_path: Path) -> StorePath:
    return deposit(tmp_path / "store")


def run(store: StorePath, *targets: Target, scale: Scale | None = None, jobs: int = 1) -> Derived:
    settings = Settings(previews=True, deny=("EchoTime",))
    return derive(store, wanted(store, settings, targets, (), None, scale), None, jobs=jobs)


def path_of(store: StorePath, path: str) -> Path:
    return store.annex / tree(read_versions(store.versions_json))[path]


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name[0] != "."
    }


def test_a_changed_byte_is_noticed_and_mended(visit: StorePath) -> None:
    run(visit)
    before = files(visit.study)
    path = path_of(visit, NIFTI)
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    assert not run(visit).dataset.made
    assert files(visit.study) == before


def test_lost_settings_are_written_again(visit: StorePath) -> None:
    run(visit)
    before = files(visit.study)
    for damage in (Path.unlink, lambda path: path.write_bytes(b"{}")):
        damage(path_of(visit, "icf/derive.json"))
        assert not run(visit).dataset.made
        assert files(visit.study) == before


def test_a_lost_scale_has_to_be_told(visit: StorePath, tmp_path: Path) -> None:
    other = deposit(tmp_path / "store", "visit2", PatientID="ID4712")
    for each in (visit, other):
        run(each, Target.PREVIEW, scale=Scale.STUDY)
    before = files(other.study)
    path_of(other, "icf/derive.json").unlink()
    with pytest.raises(LostWindows, match="give --window study or own"):
        run(other)
    assert not run(other, Target.PREVIEW, scale=Scale.STUDY).dataset.made
    assert files(other.study) == before
    path_of(visit, "preview/001_protocol-1.json").write_bytes(b"{")
    with pytest.raises(LostPreview):
        run(other, scale=Scale.STUDY)


def test_one_visit_that_lost_its_settings_does_not_stop_the_study(tmp_path: Path) -> None:
    plan = plan_of(RULES)
    visits = [deposit(tmp_path / "store", name) for name in ("A", "B")]
    for store in visits:
        derive(store, wanted(store, Settings(bids=plan), [Target.BIDS], (), None), None)
    path_of(visits[0], "icf/derive.json").unlink()
    derived = derive_study(tmp_path / "store", "study", Settings(bids=plan))
    assert [str(visit) for visit in derived.visits] == ["study/B"]
    [(left, why)] = derived.missing
    assert (str(left), why) == ("study/A", "its BIDS tree is not by the present settings")
    place = TreePath(tmp_path / "store", "study")
    kept = place.versions_json.read_bytes()
    before = files(place.folder)
    place.versions_json.unlink()  # made anew it would be another history
    with pytest.raises(OtherTree):
        derive_study(tmp_path / "store", "study", Settings(bids=plan))
    place.versions_json.write_bytes(kept)
    assert files(place.folder) == before


def test_a_program_that_was_killed_says_nothing_of_the_images(
    visit: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_source: Path, made: Path) -> None:
        run_program(["sh", "-c", "kill -9 $$"], {"PATH": os.environ["PATH"]}, made, 60)

    monkeypatch.setitem(CONVERTERS, "dcm2niix", killed)
    with pytest.raises(Stopped, match="sh was stopped by SIGKILL; see that"):
        run(visit)
    monkeypatch.undo()
    assert len(read_versions(visit.versions_json)) == 1
    assert run(visit).series[0].status == "verified"


def test_one_that_takes_too_long_is_tried_again(
    visit: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(_source: Path, made: Path) -> None:
        run_program(["sleep", "60"], {"PATH": os.environ["PATH"]}, made, 0.01)

    for name in list(CONVERTERS):
        monkeypatch.setitem(CONVERTERS, name, slow)
    [entry] = run(visit).series
    assert entry.reason == "dcm2niix: it took too long; dicom2nifti: it took too long"
    monkeypatch.undo()
    assert run(visit).series[0].status == "verified"


def test_what_was_right_stays_where_a_newer_one_takes_too_long(
    visit: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(visit)
    before = files(visit.study)

    def slow(_source: Path, made: Path) -> None:
        run_program(["sleep", "60"], {"PATH": os.environ["PATH"]}, made, 0.01)

    for name in list(CONVERTERS):
        monkeypatch.setitem(CONVERTERS, name, slow)
    for module in ("asked", "convert", "make"):
        monkeypatch.setattr(f"icf_tools.derive.{module}.version_of", lambda name: f"{name} 99")
    assert run(visit).series[0].status == "failed"
    assert files(visit.study) == before


@pytest.mark.parametrize("late", [0, 0.5])
def test_it_stops_with_its_converters(late: float, visit: StorePath) -> None:
    """Also with one that is about to be started."""
    script = f"""
import sys
import time
from pathlib import Path
from icf_tools.derive import children
from icf_tools.derive.converters import CONVERTERS
def slow(source, made):
    Path({str(visit.root / "begun")!r}).touch()
    time.sleep({late})
    children.run(["sleep", "60"], {{"PATH": "/usr/bin:/bin"}}, made, 100)
CONVERTERS["dcm2niix"] = slow
sys.argv = ["icf", "derive", "study", "visit", "-o", {str(visit.root)!r}]
from icf_tools.cli.app import main
main()
"""
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 50
    while not (visit.root / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.terminate()
    try:
        _, said = process.communicate(timeout=50)
    finally:
        process.kill()
    assert (process.returncode, said) == (128 + signal.SIGTERM, "icf: stopped\n")
    assert [path.name for path in visit.study.iterdir() if path.name[0] == "."] == [".visit.lock"]


def test_a_visit_named_like_a_folder_in_use(tmp_path: Path) -> None:
    """Whatever visits are called, one does not remove what another works on."""
    stores = [deposit(tmp_path / "store", name) for name in ("P1", "P1.derive-2", "P1.lock")]
    work = stores[1].study / f"{stores[1].work}abc"
    work.mkdir()
    for store in (stores[0], stores[2]):
        assert run(store).dataset.version == 3
    assert work.exists()


@pytest.fixture
def small_disk(tmp_path: Path, require: Callable[[str], str]) -> Iterator[Callable[[int], Path]]:
    """A store with so many KiB of room."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = require("mount")

    def make(size: int) -> Path:
        command = [mount, "-t", "tmpfs", "-o", f"size={size}k", "none", str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            missing("mount")
        return folder

    yield make
    subprocess.run(["umount", folder], capture_output=True)


@pytest.mark.parametrize("size", [1400, 2000, 3000])
def test_a_full_disk_says_nothing_of_the_images(
    size: int, small_disk: Callable[[int], Path], tmp_path: Path
) -> None:
    """Compressed images are small: what they take is known when they are decoded."""
    import numpy as np

    plain = Series(np.zeros((8, 4, 128, 128), dtype=np.int16) + np.arange(8).reshape(8, 1, 1, 1))
    for file in plain.write(tmp_path / "in").iterdir():
        image = pydicom.dcmread(file)
        image.compress(RLELossless)
        image.save_as(file)
    store = StorePath(small_disk(size) / "store", Visit("study", "visit"))
    add(tmp_path / "in", store, store_url=URL, tags=RECORDED)
    with pytest.raises((NoRoom, OSError)):
        run(store, Target.NIFTI, Target.MINC)
    assert len(read_versions(store.versions_json)) == 1
    shutil.copytree(store.study, tmp_path / "large" / "study", dirs_exist_ok=True)
    assert run(StorePath(tmp_path / "large", store.visit)).series[0].status == "verified"


def test_no_permission_names_the_folder(visit: StorePath, require: Callable[[str], str]) -> None:
    visit.annex.mkdir(mode=0o555)
    # root may write everywhere, unless it gives that up
    who = [] if os.geteuid() else [require("setpriv"), "--bounding-set=-all", "--inh-caps=-all"]
    command = [sys.executable, "-m", "icf_tools", "derive", "study", "visit", "-o", str(visit.root)]
    done = subprocess.run([*who, *command], capture_output=True, text=True)
    assert done.returncode == 8, done.stderr
    assert done.stderr.startswith(f"icf: cannot write to {visit.annex}; ")


def test_many_at_a_time_lose_nothing(tmp_path: Path) -> None:
    """A child that another thread starts has what is open for writing open, too."""
    store = deposit(tmp_path / "store", count=40)
    derived = run(store, Target.MINC, jobs=4)
    assert [entry.lacking for entry in derived.series] == [{}] * 40


def test_text_that_is_burned_in_is_not_shown(tmp_path: Path) -> None:
    store = deposit(tmp_path / "store", BurnedInAnnotation="YES")
    derived = run(store, Target.NIFTI, Target.PREVIEW)
    [entry] = derived.series
    assert entry.lacking == {"preview": "an image says that text is burned into it"}
    assert entry.is_right
    assert {made.target for made in entry.outputs} == {"nifti"}


def test_several_versions_are_not_to_be_moved_away(visit: StorePath) -> None:
    run(visit)
    with pytest.raises(OtherDeposit, match=r"it has 3 versions, so take what is wrong from a copy"):
        dataset(visit, "https://other.example.org")


def test_what_is_denied_later_does_not_stay_where_nothing_else_comes_out(
    visit: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    derive(visit, wanted(visit, Settings(), (), (), None), None)
    assert json.loads(path_of(visit, "nifti/001_protocol-1.json").read_bytes())["EchoTime"]
    for name in list(CONVERTERS):
        monkeypatch.setitem(CONVERTERS, name, lambda *_: None)
    assert run(visit).series[0].status == "failed"
    assert sorted(tree(read_versions(visit.versions_json))) == ["icf/derive.json", "series.json"]
