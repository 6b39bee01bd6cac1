"""Tests of the programs that are run for us."""

import os
from pathlib import Path
from threading import Thread

import pytest

from icf_tools.derive.children import Stopped, run, stopped

_PATH = {"PATH": os.environ["PATH"]}


def test_none_begins_where_all_are_stopped(tmp_path: Path) -> None:
    for name in ("ours", "ours/series", "others"):
        (tmp_path / name).mkdir()
    with stopped(tmp_path / "ours"):
        with pytest.raises(Stopped, match="true was stopped by SIGKILL"):
            run(["true"], _PATH, tmp_path / "ours" / "series", 20)
        assert run(["true"], _PATH, tmp_path / "others", 20) == 0
    assert run(["true"], _PATH, tmp_path / "ours" / "series", 20) == 0


def test_those_elsewhere_go_on(tmp_path: Path) -> None:
    codes: dict[str, int | None] = {}

    def wait_in(folder: Path) -> None:
        command = ["sh", "-c", "touch begun; while [ ! -e go ]; do sleep 0.02; done; exit 3"]
        try:
            codes[folder.name] = run(command, _PATH, folder, 20)
        except Stopped:
            codes[folder.name] = None

    folders = [tmp_path / "ours", tmp_path / "others"]
    threads = []
    for folder in folders:
        folder.mkdir()
        threads.append(Thread(target=wait_in, args=[folder]))
        threads[-1].start()
    while threads[0].is_alive() and not all((folder / "begun").exists() for folder in folders):
        threads[0].join(0.02)
    with stopped(folders[0]):
        threads[0].join()
    (folders[1] / "go").touch()
    threads[1].join()
    assert codes == {"ours": None, "others": 3}
