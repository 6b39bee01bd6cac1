"""`icf index` beside `md5sum` of the same tarball, and beside pydicom reading every member."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import images
from benchmarks.archive import archive
from benchmarks.measure import ICF, Command, Row, Run, aside, main, run, scratch, take_turns, warm
from icf_tools.model.visit import StorePath, Visit


def rows(quick: bool) -> Sequence[Row]:
    """Large images, few and many of them; then small ones."""
    rounds = 1 if quick else 5
    few, many, small = (10, 20, 100) if quick else (460, 4600, 20_000)
    _, first = _measure(images.siemens, few, 1)
    size, large = _measure(images.siemens, many, rounds)
    growth = max(run.memory for run in large["ours"]) / first["ours"][0].memory
    less = f"icf index, {few}"
    small_size, tiny = _measure(images.ge, small, rounds)
    return [
        Row("icf index", size, large["ours"], "md5sum", large["md5sum"], "<= 2.5"),
        Row("", "", large["ours"], "pydicom, hashlib", large["pydicom"]),
        Row("  its memory", "", large["ours"], less, first["ours"], "flat", f"{growth:.2f}"),
        Row("icf index", small_size, tiny["ours"], "md5sum", tiny["md5sum"]),
        Row("", "", tiny["ours"], "pydicom, hashlib", tiny["pydicom"]),
    ]


def _measure(
    make: Callable[[Path, int], None], count: int, rounds: int
) -> tuple[str, dict[str, list[Run]]]:
    """The size of what was read, in words, and the runs of each way to read it."""
    with scratch() as folder:
        store = StorePath(folder / "store", Visit("study", "visit"))
        aside(make, folder / "incoming", count)
        run(Command(archive(folder / "incoming", store.root)))
        size = f"{count} x {warm(store.tarball) // count // 1000} kB"

        def forget() -> None:
            store.dicoms_json.unlink(missing_ok=True)
            store.tarball_json.unlink(missing_ok=True)

        index = (*ICF, "index", "study", "visit", "--store-dir", store.root)
        runs = take_turns(
            rounds, ours=Command(index, forget), md5sum=Command(["md5sum", store.tarball])
        )
        # slow enough that one round tells
        pydicom = run(Command([sys.executable, "-m", "benchmarks.pydicom_way", store.tarball]))
        return size, runs | {"pydicom": [pydicom]}


if __name__ == "__main__":
    main(rows)
