"""Which files of a visit hold the identity of a person where it will be read by others?

in: paths, descriptions, identifiers, Identity    out: a refusal that does not tell it
"""

from collections.abc import Mapping
from functools import lru_cache

from icf_tools.archive.identity import Identity
from icf_tools.errors import Refused
from icf_tools.model.dicom import Value


class HoldsIdentity(Refused):
    message = (
        "{} of {} files hold the {} of an image where others would read it, the first in {}; "
        "{}, or pass --allow-identifying if that is no person's"
    )


class Leaks:
    """The files of a visit that hold an identity in a path, a description or the identifiers.

    An image is held against its own identity; another file, which has none,
    against those of all the images.
    """

    def __init__(self, identifiers: tuple[str, ...]) -> None:
        self._identifiers = identifiers
        self._identities: set[Identity] = set()
        self._others: list[str] = []
        self._holding: set[str] = set()
        self._first: tuple[tuple[str, ...], str, str] | None = None

    def look_at_image(
        self, path: str, identity: Identity, descriptions: Mapping[str, Value]
    ) -> None:
        """`path` is below the input folder; `descriptions` are by keyword what will be recorded."""
        identity = identity.without(self._identifiers)
        self._identities.add(identity)
        for text in self._identifiers:
            if fields := _held(identity, text):
                self._note(path, fields, "the study or visit identifier", "choose another one")
                return
        if fields := identity.held_by(path):
            self._note(path, fields, f"the path {_masked(path, identity)}")
            return
        for keyword, value in descriptions.items():
            texts = value if isinstance(value, list) else [value]
            if fields := _held(identity, " ".join(map(str, texts))):
                remedy = (
                    f"write deny: [{keyword}] into study.yaml in the study's folder of the store"
                )
                self._note(path, fields, f"the {keyword} of {path}", remedy)
                return

    def look_at_other(self, path: str) -> None:
        """A file that is not DICOM."""
        self._others.append(path)

    def refuse(self, *, total: int) -> None:
        """Raises HoldsIdentity where something was found among `total` files."""
        for path in self._others:
            for identity in self._identities:
                if fields := identity.held_by(path):
                    self._note(path, fields, f"the path {_masked(path, identity)}")
                    break
        if self._first is not None:
            fields, *where_and_remedy = self._first
            said = " and ".join(fields)
            raise HoldsIdentity(len(self._holding), total, said, *where_and_remedy)

    def _note(
        self,
        path: str,
        fields: tuple[str, ...],
        where: str,
        remedy: str = "rename the file or folder",
    ) -> None:
        self._holding.add(path)
        self._first = self._first or (fields, where, remedy)


@lru_cache(maxsize=1024)  # images of a series share their descriptions
def _held(identity: Identity, text: str) -> tuple[str, ...]:
    return identity.held_by(text)


def _masked(path: str, identity: Identity) -> str:
    """The path without the parts that hold the identity."""
    parts = ["***" if identity.held_by(part) else part for part in path.split("/")]
    masked = "/".join(parts)
    return "/".join("***" for _ in parts) if identity.held_by(masked) else masked
