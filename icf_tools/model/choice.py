"""Which images are wanted, by what is known of each.

in: numbers, patterns    out: Choice
"""

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

Fields: TypeAlias = Callable[[str], frozenset[str]]
"""The values of an element as text, by its keyword; none where it is not known."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Images that fit all that is said; all images where nothing is."""

    series: frozenset[int] = frozenset()  #: SeriesNumber, one of these
    protocol: str = ""  #: a pattern of ProtocolName, as of file names; case does not matter
    modality: str = ""

    def __bool__(self) -> bool:
        return bool(self.series or self.protocol or self.modality)

    def takes(self, fields: Fields) -> bool:
        """Whether what is known of an image fits."""
        numbers = map(str, self.series)
        return (
            (not self.series or not fields("SeriesNumber").isdisjoint(numbers))
            and _fits(self.protocol, fields("ProtocolName"))
            and _fits(self.modality, fields("Modality"))
        )


def _fits(pattern: str, values: frozenset[str]) -> bool:
    folded = pattern.casefold()
    return not pattern or any(fnmatch.fnmatchcase(each.casefold(), folded) for each in values)
