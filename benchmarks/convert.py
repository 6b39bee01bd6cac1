"""`icf convert` beside unpacking and bare dcm2niix, which check nothing."""

import shutil
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import images
from benchmarks.measure import ICF, Command, Row, aside, main, scratch, take_turns, warm

_PEER = 'tar xf "$1" -C "$2" && "$3" -g i -b y -ba y -z i -p n -f out -o "$2" "$2" > "$2/log"'
_SIDES = {"200 kB": 320, "25 kB": 112}  # of an image, pixels


def rows(quick: bool) -> Sequence[Row]:
    """A time series of images of two sizes."""
    return [row for size, side in _SIDES.items() for row in _of(size, side, quick)]


def _of(size: str, side: int, quick: bool) -> Sequence[Row]:
    volumes = 2 if quick else 10
    with scratch() as folder:
        tarball, made, peer = folder / "visit.tar", folder / "made", folder / "peer"
        aside(_pack, folder / "incoming", tarball, volumes, side)
        warm(folder)

        def clean() -> None:
            for path in (made, peer):
                shutil.rmtree(path, ignore_errors=True)
            peer.mkdir()

        dcm2niix = Path(sys.executable).parent / "dcm2niix"
        runs = take_turns(
            1 if quick else 5,
            ours=Command([*ICF, "convert", tarball, "--output", made], clean),
            peer=Command(["sh", "-c", _PEER, "sh", tarball, peer, dcm2niix], clean),
        )
    count = volumes * images.SLICES
    return [
        Row(
            "icf convert",
            f"{count} x {size}",
            runs["ours"],
            "tar xf, dcm2niix",
            runs["peer"],
            "<= 2.5" if size == "200 kB" else "",
        )
    ]


def _pack(incoming: Path, tarball: Path, volumes: int, side: int) -> None:
    images.series(incoming, volumes, side)
    with tarfile.open(tarball, "w") as tar:
        tar.add(incoming, "study_visit")
    shutil.rmtree(incoming)


if __name__ == "__main__":
    main(rows)
