"""What all pages of a catalog have in common: templates, and how values are written.

in: a template, values    out: HTML

Templates escape every value. To import Jinja2 and compile a page takes some 35 ms, so that
only what renders pays for it.
"""

import os
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icf_tools import __version__
from icf_tools.model.brand import NO_BRAND, Brand
from icf_tools.model.dicom import Scalar

if TYPE_CHECKING:
    from jinja2 import Environment
    from jinja2.bccache import Bucket

TEMPLATES = Path(__file__).parent / "templates"
_LISTED = 3  # values that are named each; of more the first and the last
_LONG = 160  # characters; what is longer scrolls in its place


@dataclass(frozen=True, slots=True)
class Pages:
    """What is the same on each page that is written in one run."""

    digest: str  #: of the static files, so that a browser takes new ones
    brand: Brand = NO_BRAND
    version: str = __version__

    def render(self, template: str, **context: Any) -> str:
        """A page; one folder below the catalog's, unless `static` is given."""
        common = {
            "static": "../static/",
            "digest": self.digest,
            "brand": self.brand,
            "version": self.version,
        }
        return _environment().get_template(template).render(common | context)


@cache
def _environment() -> "Environment":
    from jinja2 import BytecodeCache, Environment, FileSystemLoader, StrictUndefined

    class Compiled(BytecodeCache):
        """Beside the templates, where this user may write: as Python keeps its own modules."""

        def load_bytecode(self, bucket: "Bucket") -> None:
            with suppress(OSError), self._path(bucket).open("rb") as file:
                bucket.load_bytecode(file)

        def dump_bytecode(self, bucket: "Bucket") -> None:
            path = self._path(bucket)
            part = path.with_name(f"{path.name}.{os.getpid()}")
            with suppress(OSError):
                path.parent.mkdir(exist_ok=True)
                with part.open("wb") as file:
                    bucket.write_bytecode(file)
                part.replace(path)

        def _path(self, bucket: "Bucket") -> Path:
            return TEMPLATES / "__pycache__" / f"{bucket.key}.{sys.implementation.cache_tag}"

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
        bytecode_cache=Compiled(),
        optimized=False,  # renders as quickly, and is compiled sooner
    )
    filters: tuple[Callable[..., Any], ...] = (date, number, numbers, size, is_long)
    environment.filters.update({each.__name__: each for each in filters})
    return environment


def date(text: str) -> str:
    """YYYYMMDD of DICOM as 2020-01-02; anything else as it is."""
    if len(text) == 8 and text.isascii() and text.isdigit():
        return f"{text[:4]}-{text[4:6]}-{text[6:]}"
    return text


def number(value: Scalar) -> str:
    """Without digits that say nothing; integers with a narrow space between thousands."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}".replace(",", "\u202f") if isinstance(value, int) else value


def numbers(values: Collection[Scalar]) -> str:
    """A few of them one by one, many as the first and the last."""
    texts = list(dict.fromkeys(map(number, values)))
    return ", ".join(texts) if len(texts) <= _LISTED else f"{texts[0]}–{texts[-1]}"  # noqa: RUF001


def size(count: int) -> str:
    """Bytes in the unit that leaves one to three digits before the point."""
    amount, units = float(count), iter(("kB", "MB", "GB", "TB"))
    unit = "B"
    while amount >= 999.5 and (larger := next(units, "")):
        amount, unit = amount / 1000, larger
    digits = 0 if unit == "B" or amount >= 99.95 else 1
    return f"{amount:.{digits}f}\u00a0{unit}"


def is_long(text: str) -> bool:
    """Whether it is shown in a box of its own that scrolls."""
    return len(text) > _LONG
