"""Versioned imaging datasets out of DICOM tarballs.

The flow, and the package in its order:

errors, model     refusals; visits, keys, names, the list of recorded DICOM elements
store             whole-or-nothing files, locks, what a visit has
dicom             the header of a DICOM file, read fast
archive           a folder of DICOM -> <visit>_dicom.tar
index             the tarball -> records in two JSON files
settings          site.yaml and study.yaml
dataset           the records -> a DataLad dataset deposited as two files
derive            images -> files that lab members work with, each proved
pipeline          all of it in order
catalog           static pages of a study
access            what is in a store, wherever it is, by as few bytes as it takes
client            clones: git-annex-remote-icf, whole series at once, logins
cli               one thin file per step

A module imports from what stands above it, never from below.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike

    from icf_tools.access.credential import Ask
    from icf_tools.access.store import Store

__version__ = "0.1.0"


def open_store(place: "str | PathLike[str]", ask: "Ask | None" = None) -> "Store":
    """A store at a URL or in a folder; see `icf_tools.access.store.open_store`.

    `ask` is called where a password is wanted; the terminal is asked unless it is given.
    """
    from icf_tools.access.credential import ask_terminal
    from icf_tools.access.store import open_store

    return open_store(place, ask or ask_terminal)
