"""`icf archive` beside `tar cf` and `md5sum`, which read no header and wait for no disk."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from benchmarks import images
from benchmarks.measure import ICF, Command, Row, aside, main, scratch, take_turns, warm

_TAR = 'tar cf "$1" -C "$2" . && md5sum "$1" > "$1.md5sum"'
_SYNC = f'{_TAR} && sync "$1"'


def rows(quick: bool) -> Sequence[Row]:
    """A folder of large images."""
    count = 20 if quick else 4600
    with scratch() as folder:
        incoming, store, peer = folder / "incoming", folder / "store", folder / "peer.tar"
        aside(images.siemens, incoming, count)
        total = warm(incoming)
        runs = take_turns(
            1 if quick else 5,
            ours=Command(archive(incoming, store), lambda: _remove(store, peer)),
            peer=Command(_sh(_TAR, peer, incoming), lambda: _remove(store, peer)),
            synced=Command(_sh(_SYNC, peer, incoming), lambda: _remove(store, peer)),
        )
    size = f"{count} x {total // count // 1000} kB"
    return [
        Row("icf archive", size, runs["ours"], "tar cf, md5sum", runs["peer"], "<= 1.5"),
        Row("", "", runs["ours"], "the same, sync", runs["synced"]),
    ]


def archive(incoming: Path, store: Path) -> tuple[str | Path, ...]:
    """The command that packs a folder; descriptions hold the names of phantoms."""
    options = ("--allow-identifying", "--store-dir", store)
    return (*ICF, "archive", "study", "visit", incoming, *options)


def _sh(script: str, *arguments: str | Path) -> tuple[str | Path, ...]:
    return ("sh", "-c", script, "sh", *arguments)


def _remove(*paths: Path) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    main(rows)
