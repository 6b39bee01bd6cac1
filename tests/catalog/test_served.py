"""The whole of it, served as the README in the folder says: found, seen, copied and cloned."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image
from playwright.sync_api import Page, expect

from tests.catalog.browser import Look
from tests.dataset.clients import Client, Clone, digests, icf, md5
from tests.servers import documented_server, free_port, snippet, write_user

pytestmark = [pytest.mark.slow, pytest.mark.annex]

STUDY, VISIT, BELOW = "memory", "S01", "/some/store"
USER, PASSWORD = "lab", "correct horse"
WAIT = 90_000  # ms: without a graphics card, on a busy machine


@dataclass(frozen=True, slots=True)
class Archive:
    """A store with one visit of real images."""

    root: Path
    port: int
    source: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{BELOW}"

    @property
    def catalog(self) -> Path:
        return self.root / STUDY / "catalog"


@pytest.fixture(scope="module")
def archive(test_data: Path) -> Iterator[Archive]:
    """In a folder that a server may enter as another user."""
    source = test_data / "dcm_qa_nih" / "In" / "20180918Si"
    with tempfile.TemporaryDirectory(prefix="icf-served-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        made = Archive(Path(name, "a store"), free_port(), source)
        study = made.root / STUDY
        study.mkdir(parents=True)
        (study / "study.yaml").write_text("previews: true\ncatalog: {content: true}\n")
        icf("add", STUDY, VISIT, source, store_dir=made.root, store_url=made.url)
        icf("derive", STUDY, VISIT, "--to", "nifti", "--to", "preview", store_dir=made.root)
        icf("catalog", STUDY, "--deposit-url", made.url, store_dir=made.root)
        yield made


@contextmanager
def served(archive: Archive, server: str, require: Callable[[str], str]) -> Iterator[None]:
    """By nginx or Apache, as the README says."""
    folder = archive.root.parent / server
    write_user(folder / "users" / STUDY, USER, PASSWORD, require("openssl"))
    places = {"/data/store": archive.root, f"/etc/{server}/users": folder / "users"}
    readme = (archive.catalog / "README.md").read_text()
    block = snippet(readme, server.rstrip("2"), places)
    assert f"{BELOW}/{STUDY}" in block
    if server == "nginx":
        listen = f"listen 127.0.0.1:{archive.port};"
        block = f"server {{ {listen} location / {{ return 404; }}\n{block} }}"
    with documented_server(server, folder, archive.port, block, require):
        yield


@pytest.mark.parametrize("server", ["nginx", "apache2"])
def test_what_the_readme_says(archive: Archive, server: str, require: Callable[[str], str]) -> None:
    page = f"{archive.url}/{STUDY}/catalog/search/"
    user = (USER, PASSWORD)
    with served(archive, server, require):
        assert requests.get(page, timeout=30).status_code == 401
        assert requests.get(
            f"{archive.url}/{STUDY}/.{VISIT}.lock", auth=user, timeout=30
        ).status_code in (403, 404)
        assert requests.get(f"{archive.url}/", auth=user, timeout=30).status_code in (403, 404)
        types = {
            "catalog/search/index.html": "text/html",
            "catalog/static/search.js": "javascript",
            "catalog/static/style.css": "text/css",
            f"{VISIT}_dicom.tar": "",
            **{f"{VISIT}_annex/{path.name}": "" for path in archive.root.glob("*/*_annex/*")},
        }
        for path, kind in types.items():
            answer = requests.get(f"{archive.url}/{STUDY}/{path}", auth=user, timeout=30)
            assert answer.status_code == 200, path
            assert "Content-Encoding" not in answer.headers, path
            assert kind in answer.headers.get("Content-Type", ""), path
            assert answer.content == (archive.root / STUDY / path).read_bytes()
        part = requests.get(
            f"{archive.url}/{STUDY}/{VISIT}_dicom.tar",
            auth=user,
            headers={"Range": "bytes=512-1023"},
            timeout=30,
        )
        assert (part.status_code, len(part.content)) == (206, 512)


def copied(page: Page, what: str) -> str:
    """What the button puts where texts are pasted from."""
    button = page.get_by_role("button", name=f"Copy: {what}")
    button.click()
    expect(button).to_have_text("Copied")
    return str(page.evaluate("navigator.clipboard.readText()"))


def test_from_search_to_images(
    archive: Archive,
    look: Look,
    tmp_path: Path,
    require: Callable[[str], str],
) -> None:
    with served(archive, "nginx", require):
        guest = look(
            f"{archive.url}/{STUDY}/catalog/",
            credential=(USER, PASSWORD),
            options={"permissions": ["clipboard-read", "clipboard-write"]},
        )
        page = guest.open("search/")
        expect(page.locator("#count")).to_have_text("1 visit, 4 series")
        page.get_by_label("Series or protocol").fill("pe=ap")
        expect(page.locator("#count")).to_have_text("1 visit, 1 series")
        page.get_by_role("link", name=VISIT, exact=True).click()
        expect(page).to_have_url(f"{archive.url}/{STUDY}/catalog/view/{VISIT}.html")
        expect(page.get_by_role("img").first).to_be_visible()

        client = Client.new(tmp_path / "client")
        client.set_credential("lab", f"http://127.0.0.1:{archive.port}/{STUDY}", USER, PASSWORD)
        names = ("clone the dataset", "get all images", "get NIfTI")
        script = "\n".join(copied(page, name) for name in names)
        client.run("bash", "-euc", script, cwd=tmp_path)
        got = Clone(client, tmp_path / VISIT)
        expected = digests(archive.source, f"{STUDY}_{VISIT}")
        assert len(expected) == 13  # 8 of them images
        assert {path: md5(got.path / path) for path in expected} == expected
        nifti = [path for path in got.here if path.startswith("nifti/")]
        assert len([path for path in nifti if path.endswith(".nii.gz")]) == 4

        page.get_by_role("button", name="View series").first.click()
        canvas = page.locator("canvas")
        expect(canvas).to_be_visible()
        expect(page.get_by_text("voxels of")).to_be_visible(timeout=WAIT)
        page.wait_for_timeout(500)
        pixels = np.asarray(Image.open(BytesIO(canvas.screenshot(timeout=WAIT))).convert("L"))
        assert (pixels > 60).mean() > 0.05  # a phantom, not only the crosshair
        assert (pixels < 10).mean() > 0.2
        guest.shot("served")

        page = guest.open("index.html")
        page.get_by_role("link", name="Search for series").click()
        expect(page.locator("#count")).to_have_text("1 visit, 4 series")
        page.wait_for_load_state("networkidle")
        page.close()
