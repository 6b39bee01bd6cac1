"""What all pages share beside their templates: style, scripts, the viewer, a logo.

in: the package, Settings    out: Pages, files of the folder static/
"""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path, PurePosixPath

from icf_tools.catalog.folder import read_plain
from icf_tools.catalog.pages import TEMPLATES, Pages
from icf_tools.errors import NotFound
from icf_tools.model.brand import Brand
from icf_tools.settings import Settings

_SOURCE = Path(__file__).parent / "static"
STATIC = PurePosixPath("static")
"""The folder in a catalog."""

_LARGEST_LOGO = 1_000_000  # bytes
VIEWER = "niivue"  # a folder, put there when the package is installed


class NoLogo(NotFound):
    message = "no picture at {} that is a plain file of at most 1 MB; put it there, or mend logo"


def pages_of(settings: Settings, name: str) -> tuple[Pages, bytes | None]:
    """What the pages of a study have in common, and its logo. Raises NoLogo."""
    brand = replace(settings.brand, name=settings.brand.name or name)
    if settings.logo is None:
        return Pages(_digest(), brand), None
    # who wrote the settings may not be allowed to read what a link leads to
    logo = read_plain(settings.logo, _LARGEST_LOGO)
    if logo is None:
        raise NoLogo(settings.logo)
    return Pages(_digest(), replace(brand, logo=f"logo{settings.logo.suffix}")), logo


def static_files(brand: Brand, logo: bytes | None, *, viewer: bool) -> dict[PurePosixPath, bytes]:
    """By their path in the catalog."""
    files = {name: path.read_bytes() for name, path in _assets(viewer=viewer).items()}
    files["brand.css"] = _style_of(brand)
    if logo is not None:
        files[brand.logo] = logo
    return {STATIC / name: content for name, content in files.items()}


def has_viewer() -> bool:
    """Whether the viewer came along when the package was built."""
    return any((_SOURCE / VIEWER).glob("*.js"))


def asset_names() -> frozenset[str]:
    """What is in the folder at least."""
    return frozenset(name for name in _assets(viewer=False))


def _assets(*, viewer: bool) -> dict[str, Path]:
    """Files of the package by their path in static/."""
    found = {path.name: path for path in _SOURCE.iterdir() if path.is_file()}
    if viewer and (_SOURCE / VIEWER).is_dir():
        found |= {f"{VIEWER}/{path.name}": path for path in (_SOURCE / VIEWER).iterdir()}
    return dict(sorted(found.items()))


def _digest() -> str:
    """Of all that pages are made with. The viewer, which is large, counts by its size."""
    state = sha256()
    for name, path in _assets(viewer=True).items():
        content = path.read_bytes() if "/" not in name else b"%d" % path.stat().st_size
        state.update(b"%s\0%d\0" % (name.encode(), len(content)) + content)
    for path in sorted(TEMPLATES.glob("*.*")):
        state.update(path.read_bytes())
    return state.hexdigest()[:12]


def _style_of(brand: Brand) -> bytes:
    """The colours that a study has chosen; lighter where the page is dark."""
    names = (("--accent", brand.link_color), ("--accent-hover", brand.link_hover_color))
    chosen = [(name, color) for name, color in names if color]
    if not chosen:
        return b""
    light = "".join(f"{name}: {color};" for name, color in chosen)
    dark = "".join(f"{name}: color-mix(in srgb, {color} 45%, white);" for name, color in chosen)
    text = f":root {{{light}}}\n@media (prefers-color-scheme: dark) {{:root {{{dark}}}}}\n"
    return text.encode()
