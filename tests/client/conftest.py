"""Clones that each test may change, of the archive that a module serves."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.archive import Archive
from tests.dataset.clients import ICF_REMOTE, Client, Clone


@pytest.fixture(scope="module")
def pristine(served: Archive, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone by a user who has our programs."""
    folder = tmp_path_factory.mktemp("pristine")
    client = Client.new(folder / "user")
    client.install("icf", ICF_REMOTE)
    return client.clone(served.deposit.clone_url, folder / "clone")


@pytest.fixture
def archive(served: Archive) -> Iterator[Archive]:
    """As it was at first, also for the next test."""
    tarball = served.deposit.store.tarball
    content = tarball.read_bytes()
    served.server.requests.clear()
    yield served
    served.server.faults.clear()
    if not tarball.exists() or tarball.read_bytes() != content:
        tarball.write_bytes(content)


@pytest.fixture
def clone(pristine: Clone, tmp_path: Path) -> Clone:
    copy = tmp_path / "clone"
    shutil.copytree(pristine.path, copy, symlinks=True)
    return Clone(pristine.client, copy)
