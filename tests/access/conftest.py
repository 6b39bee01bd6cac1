"""A store for each test, made once."""

import shutil
from pathlib import Path

import pytest

from icf_tools.model.visit import StorePath
from tests.access.stores import VISIT, filled


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> StorePath:
    return filled(tmp_path_factory.mktemp("original"))


@pytest.fixture
def stored(original: StorePath, tmp_path: Path) -> StorePath:
    """A visit in a store that may be changed."""
    return StorePath(shutil.copytree(original.root, tmp_path / "store"), VISIT)


@pytest.fixture
def sources(original: StorePath) -> dict[str, bytes]:
    """What went into it, by path in the tarball."""
    folder = original.root.parent / "incoming"
    return {
        f"{VISIT.prefix}/{path.relative_to(folder)}": path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
