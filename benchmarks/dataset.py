"""`icf dataset` of a large visit, against fixed limits."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks import records
from benchmarks.measure import ICF, Command, Row, aside, main, scratch, take_turns
from icf_tools.model.visit import StorePath, Visit


def rows(quick: bool) -> Sequence[Row]:
    """Metadata in, the two files of the deposit out."""
    count = 100 if quick else 50_000
    with scratch() as folder:
        store = StorePath(folder, Visit("study", "visit"))
        aside(records.write, store, count)
        runs = take_turns(1 if quick else 3, ours=dataset(store))
    return [Row("icf dataset", f"{count} images", runs["ours"], target="12 s, 400 MB")]


def dataset(store: StorePath) -> Command:
    """The command, which finds no deposit of an earlier run."""
    url = Path(store.root).as_uri()
    return Command(
        [*ICF, "dataset", "study", "visit", "--store-dir", store.root, "--store-url", url],
        lambda: forget(store),
    )


def forget(store: StorePath) -> None:
    """Remove the deposit."""
    for file in (store.refs, store.repo_export, store.versions_json):
        file.unlink(missing_ok=True)


if __name__ == "__main__":
    main(rows)
