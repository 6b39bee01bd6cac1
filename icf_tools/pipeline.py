"""The whole flow, in order.

in: a folder of DICOM    out: the tarball, its metadata and the deposited dataset
"""

from dataclasses import dataclass
from pathlib import Path

from icf_tools.archive.build import Built, pack
from icf_tools.archive.collect import collect
from icf_tools.dataset.write import Deposited, Urls, dataset
from icf_tools.index.deposit import Indexed, index
from icf_tools.model.dicom import Tag
from icf_tools.model.progress import Progress
from icf_tools.model.visit import StorePath
from icf_tools.store.files import locked


@dataclass(frozen=True, slots=True)
class Added:
    """What each step did."""

    archive: Built
    index: Indexed
    dataset: Deposited


def add(
    folder: Path,
    store: StorePath,
    *,
    store_url: str | None,
    deposit_url: str | None = None,
    tags: tuple[Tag, ...],
    allow_identifying: bool = False,
    progress: Progress = lambda *_: None,
) -> Added:
    """Archive, index and deposit a visit, or complete what is missing.

    What can be refused is refused before anything is written. Raises what the
    steps raise.
    """
    urls = Urls.of(store, store_url, deposit_url)
    collection = collect(
        folder, store, tags, allow_identifying=allow_identifying, progress=progress
    )
    with locked(store):
        built = pack(collection, store, progress)
        indexed = index(store, tags=tags, progress=progress)
        deposited = dataset(store, urls.store, urls.deposit)
    return Added(built, indexed, deposited)
