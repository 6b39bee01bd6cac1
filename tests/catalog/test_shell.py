"""The shell of datalad-catalog: what it loads, what the brand makes of it, what it refuses."""

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from icf_tools.catalog import shell
from icf_tools.catalog.shell import ChangedPackage, NoCatalogPackage, shell_files
from icf_tools.model.brand import Brand

BRAND = Brand(
    name="Brains & <b>Co</b>",
    logo="our.svg",
    link_color="#123456",
    links=(("github", "https://example.org/code"), ("Our lab", "https://example.org/?a=1&b=2")),
)
LOGO = b"<svg xmlns='http://www.w3.org/2000/svg'/>"


def files(brand: Brand = BRAND, logo: bytes | None = None) -> dict[str, bytes]:
    return {str(path): content for path, content in shell_files(brand, logo)}


def test_nothing_is_loaded_from_elsewhere() -> None:
    """Links that are followed by hand may lead there."""
    for name, content in files().items():
        if name.endswith((".html", ".css")):
            text = content.decode()
            loaded = re.findall(
                r"""<(?:script|link|img|iframe)\b[^>]*?(?:src|href)="(.*?)\"""", text
            )
            loaded += re.findall(r"""(?:@import\s+|url\()["']?([^"')]+)""", text)
            assert not [url for url in loaded if re.match("(https?:)?//", url)], name


def test_all_that_the_page_loads_is_there() -> None:
    made = files()
    index = made["index.html"].decode()
    for url in re.findall(r'<(?:script|link|img)\b[^>]*?\s(?:src|href)="(.*?)"', index):
        assert url in made
    assert list(made)[-1] == "index.html"
    assert "unpkg" not in index
    assert "display_schema.html" not in made


def test_all_patches_are_in_the_files() -> None:
    made = files()
    for patch in shell._PATCHES:
        text = made[patch.file].decode()
        assert patch.new in text
        assert text.count(patch.old) == patch.times * patch.new.count(patch.old)


def test_the_brand_is_seen() -> None:
    made = files(BRAND, LOGO)
    index, config = made["index.html"].decode(), json.loads(made["config.json"])
    assert "<title>Brains &amp; &lt;b&gt;Co&lt;/b&gt;</title>" in index
    assert "<b>Co" not in index
    assert 'href="https://example.org/?a=1&amp;b=2">Our lab</a>' in index
    assert config["catalog_name"] == BRAND.name
    assert config["link_color"] == "#123456"
    assert config["social_links"] == {
        "about": None,
        "documentation": None,
        "github": "https://example.org/code",
        "mastodon": None,
        "x": None,
    }
    assert made[config["logo_path"]] == LOGO
    assert f'src="{config["logo_path"]}"' in index


def test_without_a_brand_nothing_is_of_datalad() -> None:
    made = files(Brand())
    assert json.loads(made["config.json"])["logo_path"] == ""
    for name in ("index.html", "config.json", "assets/app_globals.js"):
        assert b"datalad.org" not in made[name]
        assert b"fosstodon" not in made[name]


def test_it_is_the_same_each_time() -> None:
    assert files(BRAND, LOGO) == files(BRAND, LOGO)


def test_the_package_is_not_imported() -> None:
    script = (
        "import sys; from icf_tools.catalog.shell import shell_files, Brand\n"
        "list(shell_files(Brand())); sys.exit('datalad_catalog' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "1.2.0")
    with pytest.raises(NoCatalogPackage, match=r"1\.1\.1 is needed and 1\.2\.0 is installed"):
        files()


def test_a_missing_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", none)
    with pytest.raises(NoCatalogPackage, match="none is installed"):
        files()


@pytest.mark.parametrize("name", ["index.html", "assets/app_globals.js"])
def test_a_changed_package_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "package"
    shutil.copytree(shell._package(), root)
    monkeypatch.setattr(shell, "_package", lambda: root)
    assert files()
    (root / "catalog" / name).write_text("")
    with pytest.raises(ChangedPackage, match=f"{name} of datalad-catalog is not as published"):
        files()
