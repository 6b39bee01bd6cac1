"""What a visit has."""

from pathlib import Path

import pytest

from icf_tools.model.dicom import RECORDED
from icf_tools.model.visit import StorePath, Visit
from icf_tools.pipeline import add
from icf_tools.store.deposit import NoStore, NoStudy, NoVisit, statuses


def test_a_store_is_listed(store: StorePath, incoming: Path) -> None:
    add(incoming, store, store_url="file:///x", tags=RECORDED)
    other = StorePath(store.root, Visit("another", "v_1"))
    other.study.mkdir()
    other.tarball.write_bytes(b"x")
    (store.root / "another" / ".hidden_dicom.tar").write_bytes(b"x")
    (store.root / "lost+found").mkdir()
    (store.root / "site.yaml").write_text("")
    first, second = statuses(store.root)
    assert (str(first.visit), first.missing) == (
        "another/v_1",
        ("md5sum", "metadata", "dataset"),
    )
    assert (str(second.visit), second.missing, second.versions) == ("study/visit", (), 1)
    assert statuses(store.root, "study") == [second]
    assert statuses(store.root, "another", "v_1") == [first]


def test_a_removed_tarball_is_not_missing(store: StorePath, incoming: Path) -> None:
    add(incoming, store, store_url="file:///x", tags=RECORDED)
    for path in store.files[:4]:
        path.unlink()
    (status,) = statuses(store.root)
    assert (status.tarball, status.metadata, status.missing) == (None, False, ())


def test_what_is_not_there(store: StorePath) -> None:
    with pytest.raises(NoStore):
        statuses(store.root)
    store.root.mkdir()
    assert statuses(store.root) == []
    with pytest.raises(NoStudy):
        statuses(store.root, "study")
    with pytest.raises(NoVisit):
        statuses(store.root, "study", "visit")


def test_one_bad_visit_does_not_hide_the_others(store: StorePath, incoming: Path) -> None:
    add(incoming, store, store_url="file:///x", tags=RECORDED)
    for name, content in (("one", b"nonsense"), ("two", b"[" * 100_000)):
        bad = StorePath(store.root, Visit("study", name))
        bad.versions_json.write_bytes(content)
    StorePath(store.root, Visit("study", "three")).versions_json.mkdir()
    assert [status.versions for status in statuses(store.root)] == [0, 0, 0, 1]


def test_a_tarball_of_another_size_is_damaged(store: StorePath, incoming: Path) -> None:
    add(incoming, store, store_url="file:///x", tags=RECORDED)
    (before,) = statuses(store.root)
    with store.tarball.open("r+b") as file:
        file.truncate(3000)
    (after,) = statuses(store.root)
    assert (before.damaged, after.damaged) == (False, True)
