"""Where files are kept that were made: a folder, or the annex of a visit."""

from pathlib import Path
from typing import Protocol

from icf_tools.derive.files import File
from icf_tools.derive.report import Made


class Shelf(Protocol):
    """Where files are kept."""

    def keep(self, file: File) -> None:
        """Have it there, whole or not at all. It may be moved."""

    def has(self, made: Made) -> bool: ...

    def path(self, made: Made) -> Path:
        """Where its content is to be read."""

    def link(self, made: Made, place: Made) -> None:
        """Have the content of a file that is there at another path, too."""
