"""`icf derive` beside unpacking and bare dcm2niix, which check nothing; and where its time goes."""

import json
import shutil
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import images
from benchmarks.measure import ICF, Command, Row, Run, aside, main, scratch, take_turns, warm
from icf_tools.dataset.write import dataset
from icf_tools.index.deposit import index
from icf_tools.model.visit import StorePath, Visit

_PEER = 'tar xf "$1" -C "$2" && "$3" -g i -b y -ba y -z i -p n -f out -o "$2" "$2" > "$2/log"'
_SIDES = {"200 kB": 320, "25 kB": 112}  # of an image, pixels
_STAGES = {
    "digests, headers": ("publish", "scan"),
    "reading and placing": ("convert", "_read"),
    "plane check": ("convert", "_prove"),
    "compression": ("files", "compress"),
    "new version": ("publish", "extend"),
}
"""The module that uses a function, and its name there."""


def rows(quick: bool) -> Sequence[Row]:
    """A time series of images of two sizes."""
    return [row for size, side in _SIDES.items() for row in _of(size, side, quick)]


def _of(size: str, side: int, quick: bool) -> Sequence[Row]:
    volumes = 2 if quick else 10
    with scratch() as folder:
        store = StorePath(folder / "store", Visit("study", "visit"))
        peer, copy = folder / "peer", folder / "copy"
        aside(_deposit, store, folder / "incoming", volumes, side)
        shutil.copytree(store.study, copy)
        warm(folder)

        def clean() -> None:
            shutil.rmtree(peer, ignore_errors=True)
            peer.mkdir()
            for path in store.study.iterdir():
                if path != store.tarball:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            for path in copy.iterdir():
                if path.name != store.tarball.name:
                    shutil.copyfile(path, store.study / path.name)

        dcm2niix = Path(sys.executable).parent / "dcm2niix"
        runs = take_turns(
            1 if quick else 5,
            ours=Command([*ICF, "derive", "study", "visit", "--store-dir", store.root], clean),
            peer=Command(["sh", "-c", _PEER, "sh", store.tarball, peer, dcm2niix], clean),
        )
        clean()
        aside(_measure_shares, store, folder / "shares.json")
        shares = json.loads((folder / "shares.json").read_bytes())
    count = volumes * images.SLICES
    target = "<= 2.5" if size == "200 kB" else ""
    whole = Row(
        "icf derive",
        f"{count} x {size}",
        runs["ours"],
        "tar xf, dcm2niix",
        runs["peer"],
        target,
    )
    return [whole, *(_stage(name, *share) for name, share in shares.items())]


def _stage(name: str, seconds: float, whole: float) -> Row:
    return Row(f"  {name}", "", [Run(seconds, 0, 0.0)], ratio=f"{seconds / whole:.0%}")


def _measure_shares(store: StorePath, result: Path) -> None:
    """Seconds of each stage, and of all, in a process that is up."""
    from icf_tools.derive import convert, files, make, publish
    from icf_tools.derive.asked import Asked
    from icf_tools.derive.converters import CONVERTERS

    modules = {"convert": convert, "files": files, "make": make, "publish": publish}
    spent: dict[str, float] = {}

    def timed(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return real(*given, **named)
            finally:
                spent[name] = spent.get(name, 0.0) + time.perf_counter() - start

        return call

    real = {}
    for name, (module, function) in _STAGES.items():
        real[module, function] = getattr(modules[module], function)
        setattr(modules[module], function, timed(name, real[module, function]))
    converter = CONVERTERS["dcm2niix"]
    CONVERTERS["dcm2niix"] = timed("dcm2niix, uncompressed", converter)
    start = time.perf_counter()
    publish.derive(store, Asked(), None)
    whole = time.perf_counter() - start
    CONVERTERS["dcm2niix"] = converter
    for (module, function), was in real.items():
        setattr(modules[module], function, was)
    spent["the rest"] = whole - sum(spent.values())
    result.write_text(json.dumps({name: (seconds, whole) for name, seconds in spent.items()}))


def _deposit(store: StorePath, incoming: Path, volumes: int, side: int) -> None:
    images.series(incoming, volumes, side)
    store.study.mkdir(parents=True)
    with tarfile.open(store.tarball, "w") as tar:
        tar.add(incoming, store.visit.prefix)
    shutil.rmtree(incoming)
    index(store)
    dataset(store, store.root.as_uri())


if __name__ == "__main__":
    main(rows)
