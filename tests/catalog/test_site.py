"""The page over all studies."""

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect

from icf_tools.catalog.manifest import read_index
from icf_tools.catalog.site import NoCatalogs, catalog_site
from icf_tools.catalog.write import catalog
from icf_tools.model.brand import Brand
from icf_tools.model.dicom import RECORDED
from icf_tools.model.visit import CatalogPath, StorePath, Visit
from icf_tools.pipeline import add
from icf_tools.settings import Settings
from icf_tools.store.deposit import NoStore
from tests import dicoms
from tests.catalog.browser import Look
from tests.catalog.conftest import Serve

URL = "https://data.example.org/store"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with two studies that have a catalog and one that has none."""
    incoming = dicoms.visit(tmp_path / "in")
    root = tmp_path / "store"
    for study in ("memory", "ageing", "new"):
        add(incoming, StorePath(root, Visit(study, "P1")), store_url=URL, tags=RECORDED)
    for study in ("memory", "ageing"):
        write(root, study)
    return root


def write(root: Path, study: str) -> None:
    catalog(root, study, Settings(), URL, progress=lambda *_: None)


def content(root: Path) -> dict[str, bytes]:
    folder = root / "catalog"
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def told(root: Path) -> bytes:
    """All that follows from studies."""
    return b"".join(text for name, text in content(root).items() if not name.startswith("static/"))


def test_it_joins_the_studies(root: Path) -> None:
    done = catalog_site(root, Settings())
    assert done.studies == ("ageing", "memory")
    assert (done.visits, done.series) == (2, 4)
    assert [study for study, _ in done.left_out] == ["new"]
    found = content(root)
    assert b"../ageing/catalog/search/index.html" in found["index.html"]
    manifest = CatalogPath(root, None).search / "manifest.js"
    mine = CatalogPath(root, "memory").search / "manifest.js"
    index = read_index(manifest.read_bytes(), "memory")
    assert index == read_index(mine.read_bytes(), "memory")
    assert index is not None
    assert all(f"search/{file}" in found for file in index.files)
    assert b'"base":"../../memory/catalog/"' in manifest.read_bytes()
    assert not any(name.startswith("static/niivue") for name in found)


def test_made_again_it_is_the_same(root: Path) -> None:
    catalog_site(root, Settings())
    first = content(root)
    catalog_site(root, Settings())
    assert content(root) == first
    shutil.rmtree(root / "catalog")
    catalog_site(root, Settings())
    assert content(root) == first


def test_a_study_that_comes_or_goes(root: Path) -> None:
    catalog_site(root, Settings())
    write(root, "new")
    assert catalog_site(root, Settings()).studies == ("ageing", "memory", "new")
    (root / "memory" / "study.yaml").write_text("catalog: {site: false}")
    assert catalog_site(root, Settings()).studies == ("ageing", "new")
    assert b"memory" not in told(root)
    (root / "memory" / "study.yaml").write_text("catalog: {sight: false}")
    done = catalog_site(root, Settings())
    assert (done.studies, done.damaged) == (("ageing", "new"), 1)
    assert "study.yaml, line 1" in dict(done.left_out)["memory"]
    shutil.rmtree(root / "new" / "catalog" / "search" / "data")
    done = catalog_site(root, Settings())
    assert done.studies == ("ageing",)
    assert dict(done.left_out)["new"].endswith("run icf catalog new")


def test_its_name(root: Path) -> None:
    catalog_site(root, Settings(brand=Brand(name="Imaging <Core>", description="All & more")))
    assert b"Imaging &lt;Core&gt;" in content(root)["index.html"]
    assert b"All &amp; more" in content(root)["search/index.html"]


def test_nothing_there(root: Path, tmp_path: Path) -> None:
    with pytest.raises(NoStore):
        catalog_site(tmp_path / "none", Settings())
    for study in ("memory", "ageing"):
        shutil.rmtree(root / study)
    with pytest.raises(NoCatalogs):
        catalog_site(root, Settings())
    assert not (root / "catalog").exists()


def test_a_catalog_by_older_settings_is_not_joined(root: Path) -> None:
    catalog_site(root, Settings())
    (root / "memory" / "study.yaml").write_text("deny: [SeriesDescription]")
    done = catalog_site(root, Settings())
    assert done.studies == ("ageing",)
    assert "older settings; run icf catalog memory" in dict(done.left_out)["memory"]
    assert b"memory" not in told(root)


def test_shards_are_looked_at(root: Path) -> None:
    for shard in (root / "memory" / "catalog" / "search" / "data").glob("*.js"):
        shard.write_text('alert("from memory");')
    assert catalog_site(root, Settings()).studies == ("ageing",)
    assert b"from memory" not in told(root)


def test_the_last_study_leaves(root: Path) -> None:
    catalog_site(root, Settings())
    for study in ("memory", "ageing", "new"):
        (root / study / "study.yaml").write_text("catalog: {site: false}")
    done = catalog_site(root, Settings())
    assert (done.studies, done.damaged) == ((), 0)
    found = content(root)
    assert not any(name.startswith("search/data/") for name in found)
    assert b"memory" not in told(root)


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 800), (390, 844)], ids=["wide", "phone"])
def test_the_home_page(
    root: Path, serve: Serve, look: Look, dark: bool, size: tuple[int, int]
) -> None:
    description = "</p><script>alert(1)</script> \u202e" + "W" * 10_000
    catalog_site(root, Settings(brand=Brand(name="A <b>site</b>", description=description)))
    guest = look(serve(root, below="/some/store").url, dark=dark, size=size)
    page = guest.open("/catalog/")
    assert guest.axe() == []
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    expect(page.get_by_role("heading", level=1)).to_have_text("A <b>site</b>")
    page.get_by_role("link", name="memory").click()
    expect(page.locator("#count")).to_have_text("1 visit, 2 series")
    guest.open("/catalog/").get_by_role("link", name="Search all studies").first.click()
    expect(page.locator("#count")).to_have_text("2 visits, 4 series")
    assert guest.axe() == []
