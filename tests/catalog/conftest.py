"""Servers for pages and visitors of them; see `Serve` and `Look`."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest
from playwright.sync_api import Browser

from tests.catalog.browser import Look, chromium, visitors
from tests.conftest import missing
from tests.servers import WebServer, web_server


class Serve(Protocol):
    """What the fixture `serve` gives: nginx in front of a folder."""

    def __call__(self, root: Path, *, below: str = "", public: bool = True) -> WebServer: ...


@pytest.fixture(scope="module")  # its event loop must not outlast the module
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = shutil.which("chromium") or missing("chromium")
    with chromium(program, tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.fixture
def serve(tmp_path: Path, require: Callable[[str], str]) -> Iterator[Serve]:
    """Start servers for the time of a test."""
    with ExitStack() as running:

        def start(root: Path, *, below: str = "", public: bool = True) -> WebServer:
            folder = tmp_path / f"web{len(list(tmp_path.glob('web*')))}"
            made = web_server(root, folder, require("nginx"), below=below, public=public)
            return running.enter_context(made)

        yield start


@pytest.fixture
def look(browser: Browser, tmp_path: Path) -> Iterator[Look]:
    """Screenshots are kept where ICF_TEST_SHOTS says."""
    shots = Path(os.environ.get("ICF_TEST_SHOTS", tmp_path / "shots"))
    with visitors(browser, shots) as start:
        yield start
