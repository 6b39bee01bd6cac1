"""Identifiers and the names of files."""

from pathlib import Path

import pytest

from icf_tools.model.visit import BadIdentifier, StorePath, Visit


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "a b", "a\n", "-x", "ä", "a" * 101, "a\0", "a%b", "*"]
)
def test_unsafe_identifiers(name: str) -> None:
    for both in ((name, "visit"), ("study", name)):
        with pytest.raises(BadIdentifier):
            Visit(*both)


@pytest.mark.parametrize("name", ["P000123", "sub-01_ses-2", "a.b", "2024", "x" * 100, "a+b=c@d,e"])
def test_safe_identifiers_read_back(name: str) -> None:
    visit = Visit(name, name)
    assert Visit.parse(str(visit)) == visit


def test_every_file_is_distinct_and_of_the_visit() -> None:
    store = StorePath(Path("/store"), Visit("study", "visit"))
    names = {path.name for path in store.files}
    assert len(names) == len(store.files) == 8
    assert all(name.startswith("visit_") for name in names)
    assert {path.parent for path in store.files} == {Path("/store/study")}
