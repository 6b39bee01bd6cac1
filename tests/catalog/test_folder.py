"""Nothing is written or removed outside of a catalog's folder."""

import os
import shutil
from pathlib import Path, PurePosixPath

import pytest

from icf_tools.catalog.assets import NoLogo
from icf_tools.catalog.folder import NotOurs, OddFile, put_all, read, remove_others
from icf_tools.catalog.site import catalog_site
from icf_tools.catalog.write import catalog
from icf_tools.model.brand import Brand
from icf_tools.model.dicom import RECORDED
from icf_tools.model.visit import CatalogPath, StorePath, Visit
from icf_tools.pipeline import add
from icf_tools.settings import Settings
from tests import dicoms

URL = "https://data.example.org/store"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    incoming = dicoms.visit(tmp_path / "in")
    store = StorePath(tmp_path / "store", Visit("study", "P1"))
    add(incoming, store, store_url=URL, tags=RECORDED)
    return store.root


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A folder of others."""
    folder = tmp_path / "precious"
    (folder / "deep").mkdir(parents=True)
    for name in ("index.html", "thesis.docx", "deep/data.js"):
        (folder / name).write_text("mine")
    return folder


def write(root: Path, visit: str | None = None, **settings: object) -> None:
    given = Settings(**settings)  # type: ignore[arg-type]
    catalog(root, "study", given, URL, visit=visit, progress=lambda *_: None)


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", ["", "view", "search", "search/data", "metadata", "static"])
@pytest.mark.parametrize("visit", [None, "P1"])
def test_links_are_not_followed(root: Path, precious: Path, name: str, visit: str | None) -> None:
    before = content(precious)
    study = content(root / "study")
    place = root / "study" / "catalog" / name
    if name:
        write(root)
        shutil.rmtree(place)
    place.parent.mkdir(exist_ok=True, parents=True)
    for target in (precious, root / "study"):
        place.symlink_to(target)
        with pytest.raises((NotOurs, OddFile)):
            write(root, visit)
        assert content(precious) == before
        assert study.items() <= content(root / "study").items()
        place.unlink()


def test_a_link_in_a_folder_is_removed_and_not_what_it_leads_to(root: Path, precious: Path) -> None:
    write(root)
    good = content(root / "study" / "catalog")
    folder = root / "study" / "catalog"
    (folder / "view" / "more").symlink_to(precious)
    (folder / "view" / "P1.html").unlink()
    (folder / "view" / "P1.html").symlink_to(precious / "index.html")
    (folder / "view" / "gone.html").symlink_to("nowhere")
    os.mkfifo(folder / "view" / "pipe")
    write(root)
    assert content(folder) == good
    assert not (folder / "view" / "P1.html").is_symlink()
    assert (precious / "index.html").read_text() == "mine"
    assert content(precious).keys() == {"index.html", "thesis.docx", "deep/data.js"}


def test_a_folder_that_is_none_of_ours(root: Path, precious: Path) -> None:
    place = root / "study" / "catalog"
    shutil.copytree(precious, place)
    before = content(place)
    with pytest.raises(NotOurs):
        write(root)
    assert content(place) == before
    shutil.rmtree(place)
    place.write_text("a file")
    with pytest.raises(NotOurs):
        write(root)
    place.unlink()
    place.mkdir()
    (place / ".htaccess").write_text("mine")
    write(root)
    assert (place / ".htaccess").read_text() == "mine"


def test_the_page_over_all_studies_takes_no_folder_of_others(root: Path, tmp_path: Path) -> None:
    write(root)
    store = StorePath(root, Visit("catalog", "P1"))
    add(dicoms.visit(tmp_path / "in2"), store, store_url=URL, tags=RECORDED)
    before = content(root / "catalog")
    with pytest.raises(NotOurs):
        catalog_site(root, Settings())
    assert content(root / "catalog") == before


def test_a_folder_where_a_page_should_be(root: Path) -> None:
    write(root)
    place = root / "study" / "catalog" / "view" / "P1.html"
    place.unlink()
    place.mkdir()
    (place / "a").write_text("")
    with pytest.raises(OddFile):
        write(root)


def test_paths(tmp_path: Path) -> None:
    place = CatalogPath(tmp_path, None)
    for path in ("/etc/x", "../x", "a/../../x"):
        with pytest.raises(ValueError, match="x"):
            put_all(place, {PurePosixPath(path): b""})
    assert put_all(place, {PurePosixPath("a/b"): b"1", PurePosixPath("c"): b""})
    assert not put_all(place, {PurePosixPath("a/b"): b"1"})
    assert read(place, PurePosixPath("a/b")) == b"1"
    assert read(place, PurePosixPath("a")) is None
    remove_others(place, PurePosixPath("a"), ())
    assert not (place.folder / "a").exists()
    remove_others(place, PurePosixPath("none"), ())


def test_commits_are_no_paths(root: Path) -> None:
    store = StorePath(root, Visit("study", "P1"))
    text = store.versions_json.read_text()
    master = text.partition('"master": "')[2][:40]
    for bad in ("/tmp/x", "../../x", "", "\\ud800" * 20, "a" * 300):
        store.versions_json.write_text(text.replace(master, bad))
        with pytest.raises(Exception, match=r"P1_versions\.json cannot be read"):
            write(root, "P1")


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "large", "none"])
def test_a_logo_is_a_plain_file(root: Path, tmp_path: Path, kind: str) -> None:
    logo = root / "study" / "our.svg"
    (tmp_path / "secret").write_text("secret")
    if kind == "link":
        logo.symlink_to(tmp_path / "secret")
    elif kind == "pipe":
        os.mkfifo(logo)
    elif kind == "folder":
        logo.mkdir()
    elif kind == "large":
        logo.write_bytes(bytes(1_000_001))
    with pytest.raises(NoLogo):
        write(root, logo=logo, brand=Brand(logo="our.svg"))


ODD = [
    '"SeriesNumber": []',
    '"SeriesNumber": NaN',
    '"SeriesNumber": 1e400',
    f'"EchoTime": {"9" * 400}',
    f'"size": {"9" * 400}',
    '"size": -5',
    '"size": true',
    '"ImagePositionPatient": [8e307, -8e307, 8e307]',
    '"SeriesDescription": "a\\ud800"',
    f'"SeriesDescription": "{"x" * 10_000}"',
    '"Rows": "a"',
]


@pytest.mark.parametrize("odd", ODD, ids=[each[:40] for each in ODD])
def test_one_odd_visit_does_not_stop_the_others(root: Path, tmp_path: Path, odd: str) -> None:
    store = StorePath(root, Visit("study", "P0"))
    add(dicoms.visit(tmp_path / "in2"), store, store_url=URL, tags=RECORDED)
    text = store.dicoms_json.read_text()
    store.dicoms_json.write_text(
        text.replace("{", "{" + odd + ", ", 1).replace('"size": 1', '"x": 1')
    )
    if not odd.startswith('"size"'):
        store.dicoms_json.write_text(text.replace("}", ", " + odd + "}", 1))
    given = Settings(brand=Brand(content=True))
    done = catalog(root, "study", given, URL, progress=lambda *_: None)
    assert done.visits + done.damaged == 2
    assert (root / "study" / "catalog" / "view" / "P1.html").exists()
    for path in (root / "study" / "catalog" / "metadata").rglob("*.json"):
        assert b"Infinity" not in path.read_bytes()
        assert b"NaN" not in path.read_bytes()
