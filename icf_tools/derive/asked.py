"""What is to be made of a tarball, and what the study has settled for it.

in: study.yaml, options of a command    out: Asked; and as JSON what a clone needs to make it again
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from icf_tools.derive.converters import CONVERTERS, version_of
from icf_tools.derive.report import Converter, Target
from icf_tools.errors import Damaged, UsageError
from icf_tools.model.bids import Plan
from icf_tools.model.bids_plan import plan_of
from icf_tools.model.visit import Visit

RULES = 1
"""Number of the rules by which files are named, scrubbed and written."""

SETTINGS = "settings"
"""What the tool begins with that tells what the study has settled."""


class BadSettled(Damaged):
    message = "{} is not what icf derive writes; get it from the dataset again"


class NoRules(UsageError):
    message = "there are no rules for a BIDS tree; write a section bids into study.yaml"


class NoPreviews(UsageError):
    message = (
        "previews are off, since a face can identify; "
        "write previews: true into study.yaml if the study may show them"
    )


class NothingToScale(UsageError):
    message = "a window is that of previews; give --to preview with it"


class WholeVisit(UsageError):
    message = "a BIDS tree, asked for or there already, is of all series; leave out --series"


@dataclass(frozen=True, slots=True)
class Settled:
    """What a study says of what is made."""

    visit: Visit | None = None  #: whose labels BIDS wants
    deny: tuple[str, ...] = ()  #: keywords of DICOM elements of which nothing is to be told
    windows: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    #: real values that previews show black and white, by name of the file without its number
    bids: Plan | None = None  #: how the visit becomes a BIDS tree

    @property
    def text(self) -> bytes:
        """As JSON; nothing where nothing is settled."""
        content = {
            "deny": sorted(self.deny),
            "windows": dict(sorted(self.windows.items())),
            "bids": self.bids.to_json() if self.bids else None,
        }
        given: dict[str, Any] = {key: value for key, value in content.items() if value}
        if not given:
            return b""
        return json.dumps({"visit": str(self.visit), **given}, indent=1).encode() + b"\n"

    def digest(self, target: Target) -> str:
        """Tells one from another as far as the files of a target depend on it; empty by default."""
        said: tuple[object, ...] = {
            Target.NIFTI: self.deny,
            Target.MINC: (),
            Target.PREVIEW: tuple(sorted(self.windows.items())),
            Target.BIDS: (),
        }[target]
        if not said:
            return ""
        return f"{SETTINGS} {hashlib.sha256(repr(said).encode()).hexdigest()[:8]}"

    @classmethod
    def read(cls, path: Path) -> "Settled":
        """The inverse of `text`. Raises BadSettled."""
        try:
            content = json.loads(path.read_bytes())
            windows = content.get("windows", {})
            bids = content.get("bids")
            return cls(
                visit=Visit.parse(content["visit"]),
                deny=tuple(map(str, content.get("deny", ()))),
                windows={
                    str(name): (float(low), float(high)) for name, (low, high) in windows.items()
                },
                bids=None if bids is None else plan_of(bids),
            )
        except (ValueError, LookupError, TypeError, AttributeError) as err:
            raise BadSettled(path) from err


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be made, and how."""

    targets: tuple[Target, ...] = (Target.NIFTI,)  #: in the order of Target
    numbers: tuple[int, ...] = ()  #: of series; all of them if empty
    converter: Converter | None = None  #: the only one to be tried
    settled: Settled = Settled()
    dropped: tuple[Target, ...] = ()  #: of which nothing is to stay

    @classmethod
    def of(
        cls,
        targets: Collection[Target],
        numbers: Collection[int],
        converter: Converter | None,
        settled: Settled,
        dropped: Collection[Target] = (),
    ) -> "Asked":
        """Raises WholeVisit and NoRules."""
        if Target.BIDS in targets and settled.bids is None:
            raise NoRules
        wanted = set(targets) | ({Target.NIFTI} if Target.BIDS in targets else set())
        if Target.BIDS in wanted and numbers:
            raise WholeVisit
        return cls(
            tuple(target for target in Target if target in wanted),
            tuple(sorted(set(numbers))),
            converter,
            settled,
            tuple(target for target in Target if target in dropped),
        )

    @property
    def converted(self) -> tuple[Target, ...]:
        """The targets that are made by conversion; a BIDS tree is only another place for it."""
        return tuple(target for target in self.targets if target != Target.BIDS)

    @property
    def converters(self) -> tuple[str, ...]:
        """Those that may be tried, in this order."""
        return (self.converter,) if self.converter else tuple(CONVERTERS)

    def tools(self, target: Target, converter: str) -> tuple[str, ...]:
        """What decides the content of a target's files, given the converter with its version.

        How they are compressed is not in it: that does not change what is in them.
        """
        told = [self.settled.digest(target), f"{self.converter} only" if self.converter else ""]
        return (f"rules {RULES}", converter, *_libraries(target), *filter(None, told))

    def all_tools(self, target: Target) -> set[str]:
        """What may have a part in it, whichever converter does it."""
        converters = map(version_of, self.converters)
        return {tool for each in converters for tool in self.tools(target, each)}


DEFAULT = Asked()


def _libraries(target: Target) -> list[str]:
    if target == Target.MINC:
        from icf_tools.derive import minc

        return minc.tools()
    if target == Target.PREVIEW:
        from icf_tools.derive import preview

        return preview.tools()
    return []
