"""What a study's pages say of it.

in: the section `catalog` of study.yaml or site.yaml    out: Brand
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SOCIAL = ("about", "documentation", "github", "mastodon", "x")
"""Labels of links that datalad-catalog has icons for."""


@dataclass(frozen=True, slots=True)
class Brand:
    """Name and looks of a catalog."""

    name: str = ""
    description: str = ""
    logo: str = ""  #: name of a file beside the settings file; none where empty
    link_color: str = ""  #: #rgb or #rrggbb; that of the page where empty
    link_hover_color: str = ""
    links: tuple[tuple[str, str], ...] = ()  #: label and URL
    content: bool = False  #: whether each file of a visit is listed
    site: bool = True  #: whether the study is on the page over all studies


NO_BRAND = Brand()
_READABLE = 4.5  # WCAG 2.2, 1.4.3


class BadBrand(ValueError):
    """What is wrong, and with which key."""

    def __init__(self, place: tuple[str, ...], said: str) -> None:
        super().__init__(place, said)
        self.place = place
        self.said = said


def brand_of(raw: Mapping[str, Any]) -> Brand:
    """Of values that have the right types. Raises BadBrand."""
    for key in ("link_color", "link_hover_color"):
        if raw.get(key) and not re.fullmatch("#([0-9a-fA-F]{3}){1,2}", raw[key]):
            raise BadBrand((key,), f"{raw[key]!r} is not a colour; write it as in '#0a6b3c'")
        if raw.get(key) and (contrast := _contrast(raw[key])) < _READABLE:
            said = f"it is too light to be read on white ({contrast:.1f} to 1); links need 4.5"
            raise BadBrand((key,), said)
    logo = raw.get("logo") or ""
    if logo and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*\.(svg|png|jpe?g|webp|gif)", logo):
        said = f"{logo!r} is not the name of a picture beside this file (svg, png, jpg, webp, gif)"
        raise BadBrand(("logo",), said)
    links = raw.get("links") or {}
    for label, url in links.items():
        if not re.fullmatch(r"(https?://|mailto:)[!-~]+", url):
            said = f"{url!r} is not a link; begin it with https://, http:// or mailto:"
            raise BadBrand(("links", label), said)
    return Brand(**{**raw, "links": tuple(links.items())})


def _contrast(color: str) -> float:
    """To white. Source: WCAG 2.2, contrast ratio and relative luminance."""
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    parts = (int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4))
    linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    luminance = sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return 1.05 / (luminance + 0.05)
