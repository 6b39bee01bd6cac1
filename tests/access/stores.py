"""A small store, to be read wherever it is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from icf_tools import open_store
from icf_tools.access.stored import StoredVisit
from icf_tools.model.visit import StorePath, Visit
from icf_tools.pipeline import add
from icf_tools.settings import read_settings
from tests.derive.series import CORONAL, Series

VISIT = Visit("study", "P1")
TARBALL = "_dicom.tar"


def filled(folder: Path) -> StorePath:
    """A store with a visit: a volume, a time series and a text; its files are in `incoming`."""
    store, incoming = StorePath(folder / "store", VISIT), folder / "incoming"
    Series.of().write(incoming / "a", 3, ProtocolName="t1 mprage")
    Series.of(2, orientation=CORONAL).write(incoming / "b", 7, ProtocolName="rest", Modality="PT")
    (incoming / "notes.txt").write_text("of the visit\n")
    add(incoming, store, store_url="file:///nowhere", tags=read_settings(store).tags)
    return store


def described(place: str | Path) -> StoredVisit:
    """The visit of a store; nobody is asked for a password."""
    return open_store(place, lambda _: None).study(VISIT.study).visit(VISIT.visit)


def change(path: Path, how: Callable[[Any], object]) -> None:
    """Have something else in a JSON file."""
    content = json.loads(path.read_bytes())
    how(content)
    path.write_text(json.dumps(content))


def files(folder: Path) -> dict[str, bytes]:
    """Content by path of all files below a folder."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}
