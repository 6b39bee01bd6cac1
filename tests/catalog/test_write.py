"""The catalog as a whole: a pure function of the store, whatever happens meanwhile."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from icf_tools.catalog.assets import NoLogo
from icf_tools.catalog.manifest import read_index
from icf_tools.catalog.write import Catalogued, catalog
from icf_tools.derive.publish import derive, wanted
from icf_tools.derive.report import Target
from icf_tools.errors import Damaged
from icf_tools.index.records import NoMetadata
from icf_tools.model.brand import Brand
from icf_tools.model.dicom import RECORDED
from icf_tools.model.search import DEFAULT, Element, ElementType
from icf_tools.model.url import BadUrl
from icf_tools.model.visit import CatalogPath, StorePath, Visit
from icf_tools.pipeline import add
from icf_tools.settings import Settings
from icf_tools.store.deposit import NoStudy, NoVisit
from icf_tools.store.files import CatalogLocked, NoRoom, locked_catalog
from tests import dicoms
from tests.conftest import missing
from tests.derive.series import Series

URL = "https://data.example.org/store"
STUDY = "study"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with three visits."""
    for number in range(1, 4):
        incoming = dicoms.visit(tmp_path / f"in{number}", series=number)
        deposit(tmp_path / "store", f"P{number}", incoming)
    return tmp_path / "store"


def deposit(root: Path, visit: str, incoming: Path) -> StorePath:
    store = StorePath(root, Visit(STUDY, visit))
    add(incoming, store, store_url=URL, tags=RECORDED)
    return store


def write(
    root: Path, visit: str | None = None, url: str | None = URL, **settings: Any
) -> Catalogued:
    return catalog(root, STUDY, Settings(**settings), url, visit=visit, progress=lambda *_: None)


def content(root: Path) -> dict[str, bytes]:
    folder = root / STUDY / "catalog"
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def anew(root: Path, **settings: Any) -> dict[str, bytes]:
    """What it is when it is made where none is."""
    shutil.rmtree(root / STUDY / "catalog")
    write(root, **settings)
    return content(root)


def remove(root: Path, visit: str) -> None:
    for path in StorePath(root, Visit(STUDY, visit)).files:
        path.unlink(missing_ok=True)


def test_made_again_it_is_the_same(root: Path) -> None:
    done = write(root)
    assert (done.visits, done.series) == (3, 6)
    assert done.made == ("P1", "P2", "P3")
    assert done.page.is_file()
    first = content(root)
    again = write(root)
    assert (again.made, again.gone, again.left_out) == ((), (), ())
    assert content(root) == first
    assert anew(root) == first
    for name in ("index.html", "search/index.html", "search/manifest.js", "README.md"):
        assert name in first
    for name in ("view/P1.html", "static/style.css", "static/search.js", "config.json"):
        assert name in first


def test_neither_zone_nor_umask_nor_place_nor_clock_counts(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root)
    first = content(root)
    other = tmp_path / "elsewhere" / "store"
    shutil.copytree(root, other, ignore=shutil.ignore_patterns("catalog", ".*"))
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    monkeypatch.setattr(time, "time", lambda: 1.0)
    before = os.umask(0o077)
    try:
        write(other)
    finally:
        os.umask(before)
    assert content(other) == first


def test_a_visit_that_comes_later(root: Path, tmp_path: Path) -> None:
    write(root)
    for name in ("A1", "P20", "Z9"):  # in front, between, behind
        deposit(root, name, dicoms.visit(tmp_path / name, series=1))
        done = write(root, name)
        assert (done.made, done.gone) == ((name,), ())
        assert content(root) == anew(root)
    assert write(root, "P1").made == ()


def test_a_visit_that_changed_is_replaced(root: Path, tmp_path: Path) -> None:
    Series.of().write(tmp_path / "scan")
    store = deposit(root, "S1", tmp_path / "scan")
    write(root)
    before = content(root)
    assert b"not converted" in before["view/S1.html"]
    derive(store, wanted(store, Settings(), [Target.NIFTI], (), None), None)
    assert write(root, "S1").made == ("S1",)
    after = content(root)
    assert b"verified" in after["view/S1.html"]
    assert after == anew(root)
    assert len(after) == len(before)  # no node of the version before is left
    changed = {name for name in after if after[name] != before.get(name)}
    assert not any(name.startswith("view/P") for name in changed)


def test_a_visit_that_is_gone_leaves(root: Path) -> None:
    write(root)
    remove(root, "P2")
    done = write(root, "P3")
    assert (done.visits, done.gone) == (2, ("P2",))
    assert content(root) == anew(root)
    assert not any(b'"P2"' in text or "P2" in name for name, text in content(root).items())
    remove(root, "P3")
    assert write(root, "P3").gone == ("P3",)
    assert content(root) == anew(root)
    remove(root, "P1")
    assert write(root).gone == ("P1",)
    assert write(root).visits == 0
    assert not any(name.startswith(("view/", "search/data/")) for name in content(root))


def test_several_at_once_lose_none(root: Path, tmp_path: Path) -> None:
    write(root)
    names = [f"Q{number}" for number in range(6)]
    for name in names:
        deposit(root, name, dicoms.visit(tmp_path / name, series=1, images=1))
    program = (
        "import sys; from pathlib import Path; from icf_tools.catalog.write import catalog;"
        "from icf_tools.settings import Settings;"
        f"catalog(Path(sys.argv[1]), {STUDY!r}, Settings(), {URL!r}, visit=sys.argv[2],"
        "progress=lambda *_: None)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(root), name])
        for name in [*names, "P1"]
    ]
    assert [process.wait(60) for process in running] == [0] * len(running)
    assert content(root) == anew(root)
    index = read_index((CatalogPath(root, STUDY).search / "manifest.js").read_bytes(), STUDY)
    assert index is not None
    assert index.visits == 9


def test_one_who_waits_too_long_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holding = (
        "import sys, time; from pathlib import Path;"
        "from icf_tools.model.visit import CatalogPath;"
        "from icf_tools.store.files import locked_catalog\n"
        f"with locked_catalog(CatalogPath(Path(sys.argv[1]), {STUDY!r})):\n"
        "    print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holding, str(root)], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        monkeypatch.setattr("icf_tools.store.files._PATIENCE", 0.1)
        with pytest.raises(CatalogLocked):
            write(root)
        holder.kill()
    write(root)


@pytest.mark.slow
@pytest.mark.parametrize("full", [True, False], ids=["all", "one"])
def test_a_kill_leaves_what_the_next_run_completes(root: Path, tmp_path: Path, full: bool) -> None:
    """Killed before each of the files is put."""
    write(root)
    deposit(root, "Q1", dicoms.visit(tmp_path / "Q1", series=1))
    good = anew(root)
    program = """
import os, signal, sys
from pathlib import Path
from icf_tools.catalog import folder, write
from icf_tools.settings import Settings
left = int(sys.argv[2])
real = folder._put
def put(*given):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return real(*given)
folder._put = put
visit = sys.argv[3] or None
write.catalog(Path(sys.argv[1]), "study", Settings(), sys.argv[4], visit=visit,
              progress=lambda *_: None)
"""
    visit = "" if full else "Q1"
    count = len(good)  # each is put once
    counts = (2, count // 2, count - 2, count - 1) if full else (0, 2, 3, 4, 5)
    killed = 0
    for count in counts:
        remove_from_catalog(root, "Q1")
        command = [sys.executable, "-c", program, str(root), str(count), visit, URL]
        killed += subprocess.run(command, check=False).returncode == -signal.SIGKILL
        write(root, "P1")  # another one, which was told to be the next
        if count:
            assert content(root) == good
        write(root, visit or None)
        assert content(root) == good
    assert killed == len(counts)


def remove_from_catalog(root: Path, visit: str) -> None:
    """As it was before the visit came."""
    store = StorePath(root, Visit(STUDY, visit))
    aside = root.parent / "aside"
    aside.mkdir()
    for path in store.files:
        if path.exists():
            path.rename(aside / path.name)
    write(root)
    for path in aside.iterdir():
        path.rename(store.study / path.name)
    aside.rmdir()


SPHERE = Element(ElementType.SPHERE, "Coverage", "Where")


@pytest.mark.parametrize(
    "settings",
    [
        {"elements": (SPHERE,)},
        {"brand": Brand(name="Memory & <more>", link_color="#123456")},
        {"brand": Brand(links=(("Contact", "mailto:a@example.org"),))},
        {"brand": Brand(content=True)},
        {"tags": tuple(tag for tag in RECORDED if tag.keyword != "EchoTime")},
    ],
    ids=["elements", "brand", "links", "content", "tags"],
)
def test_other_settings_reach_all_pages(root: Path, settings: dict[str, Any]) -> None:
    write(root)
    before = content(root)
    write(root, "P1", **settings)  # also where one visit was asked for
    after = content(root)
    assert after != before
    assert after == anew(root, **settings)


def test_other_elements_need_no_other_index(root: Path) -> None:
    write(root)
    before = content(root)
    elements = (replace(DEFAULT[0], enabled=False), SPHERE)
    write(root, elements=elements)
    after = content(root)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"search/index.html", "search/manifest.js"}
    assert b"Where" in after["search/index.html"]
    assert b"Text" not in after["search/index.html"]


def test_another_url_reaches_all_pages(root: Path) -> None:
    write(root)
    write(root, "P1", "https://other.example.org/a")
    for number in range(1, 4):
        assert b"https://other.example.org/a/study/P" in content(root)[f"view/P{number}.html"]
    write(root, url=None)
    assert content(root) == anew_without_url(root)
    assert f"{URL}/study/P1_".encode() in content(root)["view/P1.html"]  # that on record
    with pytest.raises(BadUrl):
        write(root, url="https://user:secret@example.org/")


def anew_without_url(root: Path) -> dict[str, bytes]:
    shutil.rmtree(root / STUDY / "catalog")
    write(root, url=None)
    return content(root)


def test_a_logo(root: Path, tmp_path: Path) -> None:
    logo = root / STUDY / "our.svg"
    with pytest.raises(NoLogo):
        write(root, logo=logo, brand=Brand(logo="our.svg"))
    logo.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    write(root, logo=logo, brand=Brand(logo="our.svg"))
    found = content(root)
    assert found["static/logo.svg"] == logo.read_bytes() == found["artwork/logo.svg"]
    assert b'src="../static/logo.svg"' in found["view/P1.html"]
    logo.write_text("<svg xmlns='http://www.w3.org/2000/svg' id='a'/>")
    write(root, "P1", logo=logo, brand=Brand(logo="our.svg"))
    assert content(root)["static/logo.svg"] == logo.read_bytes()


def test_what_is_not_ours_stays_and_what_is_no_page_goes(root: Path) -> None:
    write(root)
    good = content(root)
    folder = root / STUDY / "catalog"
    (folder / ".htaccess").write_text("Require valid-user")
    (folder / "view" / "a" / "b").mkdir(parents=True)
    for name in ("view/old.html", "search/data/0.js", "metadata/a/b.json", "view/.x.part"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text("old")
    write(root)
    assert content(root) == good | {".htaccess": b"Require valid-user"}


def broken(text: bytes, how: str) -> bytes:
    """Empty, of other bytes, or of another value that is as good."""
    return {"empty": b"", "cut": text[:-30], "other": text.replace(b"1", b"2")}[how]


@pytest.mark.parametrize("how", ["empty", "cut", "other"])
@pytest.mark.parametrize("name", ["search/manifest.js", "search/data", "metadata"])
def test_a_broken_catalog_is_made_again(root: Path, name: str, how: str) -> None:
    """Also where one visit is asked for; but pages of others are not looked into."""
    write(root)
    good = content(root)
    path = root / STUDY / "catalog" / name
    for file in [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]:
        file.write_bytes(broken(file.read_bytes(), how))
    write(root, "P1")
    if name != "metadata":
        assert content(root) == good
    write(root)
    assert content(root) == good


@pytest.mark.parametrize("visit", [None, "P1"])
@pytest.mark.parametrize(
    "name", ["search/data", "view", "static", "index.html", "search/index.html"]
)
def test_what_is_gone_is_made_again(root: Path, visit: str | None, name: str) -> None:
    write(root)
    good = content(root)
    path = root / STUDY / "catalog" / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    write(root, visit)
    assert content(root) == good


def test_visits_that_cannot_be_read(root: Path) -> None:
    write(root)
    one, two = (StorePath(root, Visit(STUDY, name)) for name in ("P1", "P2"))
    one.dicoms_json.write_text("[")
    two.tarball_json.unlink()
    done = write(root)
    assert (done.visits, done.damaged) == (1, 1)
    assert [visit for visit, _ in done.left_out] == [one.visit, two.visit]
    assert done.gone == ("P1", "P2")
    with pytest.raises(Damaged):
        write(root, "P1")
    with pytest.raises(NoMetadata):
        write(root, "P2")
    assert content(root) == anew(root)


def test_a_page_leaves_when_its_visit_cannot_be_read(root: Path) -> None:
    write(root)
    one, two = (StorePath(root, Visit(STUDY, name)) for name in ("P1", "P2"))
    one.dicoms_json.write_text("[")
    with pytest.raises(Damaged):
        write(root, "P1")
    assert "view/P1.html" not in content(root)
    two.tarball_json.unlink()
    assert write(root, "P3").gone == ("P2",)
    assert content(root) == anew(root)


def test_nothing_there(root: Path, tmp_path: Path) -> None:
    with pytest.raises(NoVisit):
        write(root, "P9")
    assert not (root / STUDY / "catalog").exists()
    write(root)
    with pytest.raises(NoVisit):
        write(root, "P9")
    (root / "empty").mkdir()
    with pytest.raises(NoStudy):
        catalog(root, "empty", Settings(), visit=None, progress=lambda *_: None)
    with pytest.raises(NoStudy):
        catalog(root, "other", Settings(), visit=None, progress=lambda *_: None)


def test_no_permission(root: Path, require: Callable[[str], str]) -> None:
    write(root)
    superuser = [require("setpriv"), "--bounding-set=-dac_override,-dac_read_search"]
    command = [*(superuser if os.geteuid() == 0 else []), sys.executable, "-m", "icf_tools"]
    command += ["catalog", STUDY, "--store-dir", str(root), "--deposit-url"]
    place = root / STUDY / "catalog"
    for folder in (place / "view", place / "search", place):
        folder.chmod(0o555)
        url = f"https://{folder.name}.example.org"  # so that each page has to change
        done = subprocess.run([*command, url], capture_output=True, text=True, check=False)
        folder.chmod(0o755)
        assert (done.returncode, "Traceback" in done.stderr) == (8, False)
        assert "permission" in done.stderr
    assert subprocess.run([*command, URL], check=False).returncode == 0


def test_no_room(root: Path, tmp_path: Path, require: Callable[[str], str]) -> None:
    mount = require("mount")
    small = root / STUDY / "catalog"
    small.mkdir()
    command = [mount, "-t", "tmpfs", "-o", "size=2m", "none", str(small)]
    if os.geteuid() != 0 or subprocess.run(command, check=False).returncode:
        missing("mount")
    try:
        with pytest.raises(NoRoom):
            write(root)
        assert not list(small.rglob("*.part"))
    finally:
        subprocess.run(["umount", str(small)], check=True)
    write(root)
    assert content(root) == anew(root)


def test_nobody_else_writes_meanwhile(root: Path) -> None:
    with locked_catalog(CatalogPath(root, STUDY)):
        write(root)  # who holds the lock may take it again


def test_what_is_denied_is_nowhere(root: Path, tmp_path: Path) -> None:
    deposit(root, "N1", dicoms.visit(tmp_path / "N1"))
    for path in (root / STUDY).glob("*_metadata_dicoms.json"):
        images = json.loads(path.read_bytes())
        for image in images:
            image |= {"PatientName": "Mustermann^Erika", "InstitutionName": "Charite"}
        path.write_text(json.dumps(images))
    write(root, brand=Brand(content=True))
    for name, text in content(root).items():
        assert b"Mustermann" not in text, name
        assert b"Charite" not in text, name
        assert dicoms.ROOT.encode() not in text, name  # no UID, either


def test_what_is_denied_later_leaves_all_pages(root: Path, tmp_path: Path) -> None:
    Series.of().write(tmp_path / "scan", ProtocolName="secret-protocol")
    store = deposit(root, "S1", tmp_path / "scan")
    settings = Settings(previews=True)
    asked = wanted(store, settings, [Target.NIFTI, Target.PREVIEW], (), None)
    derive(store, asked, None)
    write(root, previews=True)
    assert b"secret-protocol" in content(root)["view/S1.html"]
    assert b".webp" in content(root)["view/S1.html"]
    denied = ("ProtocolName", "StudyDate", "StudyTime")
    tags = tuple(tag for tag in RECORDED if tag.keyword not in denied)
    write(root, "P1", tags=tags)  # pictures are not allowed any more, either
    found = content(root)
    for name, text in found.items():
        assert b"secret-protocol" not in text, name
        assert b'"source_time":17' not in text, name
    assert b".webp" not in found["view/S1.html"]
    assert b'"1_nifti.nii.gz"' in found["view/S1.html"]


def test_other_settings_reach_all_pages_whatever_visit_is_named(root: Path) -> None:
    """One that is damaged, one that is gone."""
    tags = tuple(tag for tag in RECORDED if tag.keyword != "ProtocolName")
    for name, broken in (("P1", "["), ("P2", None)):
        write(root)
        store = StorePath(root, Visit(STUDY, name))
        if broken is None:
            remove(root, name)
            assert write(root, name, tags=tags).gone == (name,)
        else:
            store.dicoms_json.write_text(broken)
            with pytest.raises(Damaged):
                write(root, name, tags=tags)
        assert f"view/{name}.html" not in content(root)
        assert content(root) == anew(root, tags=tags)


def test_a_run_that_was_stopped_is_not_taken_for_one_of_before(root: Path) -> None:
    """Settings A, then B, of which some pages are written, then A again."""
    write(root)
    good = content(root)
    for path in (root / STUDY).glob("*_metadata_dicoms.json"):
        path.chmod(0o644)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("icf_tools.catalog.write._put_index", stop)
        with pytest.raises(KeyboardInterrupt):
            write(root, brand=Brand(name="B"))
    assert content(root) != good
    write(root, "P1")
    assert content(root) == good


def stop(*_: object) -> None:
    raise KeyboardInterrupt
