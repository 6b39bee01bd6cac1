"""The search index: what is written reads back equal, and grows as if made at once."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from icf_tools.catalog.manifest import (
    Index,
    Read,
    changed,
    index_of,
    manifest_text,
    read_index,
)
from icf_tools.catalog.shards import Row, SeriesRow, begins_shard, read_rows, shard_of, split

PROFILES = ['{"Modality":["MR"]}', '{"EchoTime":[2.5,5.0],"Modality":["MR"]}', "{}"]
URL = "datalad-annex::?url=https://data.example.org/{visit}_{{annex_key}}"

numbers = some.integers(0, 10**6)
series_rows = some.builds(
    SeriesRow,
    some.sampled_from(PROFILES),
    numbers,
    numbers,
    some.sampled_from("vusfn"),
    some.sampled_from([(), tuple(range(-6, 6)), tuple(range(24))]),
)
dates = some.sampled_from(
    [
        (),
        (("StudyDate", ("20240101",)),),
        (("AcquisitionDate", ("20240102",)), ("StudyDate", ("20240101", "20240102"))),
    ]
)
NAMES = [f"P{number:04}" for number in range(1500)]


def row(visit: str, *series: SeriesRow) -> Row:
    return Row(visit, 1000, (("StudyDate", ("20240101",)),), URL, series)


def reader(folder: Path) -> Read:
    def read(name: str) -> bytes | None:
        path = folder / name
        return path.read_bytes() if path.exists() else None

    return read


def rows(names: list[str]) -> list[Row]:
    return [
        row(name, SeriesRow(PROFILES[len(name) % 3], int(name[1:]), 5, "v", tuple(range(12))))
        for name in names
    ]


@given(
    some.lists(
        some.builds(
            Row,
            some.from_regex("[A-Za-z0-9][A-Za-z0-9._+=@,-]{0,9}", fullmatch=True),
            numbers,
            dates,
            some.sampled_from([None, URL]),
            some.lists(series_rows, max_size=4).map(tuple),
        ),
        min_size=1,
        max_size=6,
        unique_by=lambda each: each.visit,
    )
)
def test_a_shard_reads_back_equal(found: list[Row]) -> None:
    shard = shard_of(found)
    assert read_rows(shard.data, shard.boxes) == found
    assert shard.series == sum(len(each.series) for each in found)
    assert shard_of(found) == shard
    assert shard.data.startswith(f'icf.data("{shard.stem}","'.encode())


def test_shards_follow_from_the_names() -> None:
    parts = list(split(rows(NAMES), 128))
    assert len(parts) > 3
    assert [each for part in parts for each in part] == rows(NAMES)
    assert all(begins_shard(part[0].visit, 128) for part in parts[1:])
    assert not any(begins_shard(each.visit, 128) for part in parts for each in part[1:])


FIRSTS = [name for name in NAMES if begins_shard(name, 128)]
choices = some.one_of(some.sampled_from(FIRSTS), some.sampled_from(NAMES[:300]))


@settings(max_examples=60, deadline=None)
@given(data=some.data())
def test_changed_is_as_if_made_at_once(
    data: some.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("search")
    (folder / "data").mkdir()
    have = data.draw(some.sets(choices, max_size=30))
    index, files = index_of("study", "stamp", rows(sorted(have)))
    for _ in range(4):
        for name, content in files.items():
            (folder / name).write_bytes(content)
        gone = data.draw(some.sets(some.sampled_from(sorted(have)), max_size=3)) if have else set()
        new = data.draw(some.sets(choices, max_size=3))
        have = have - gone | new
        changes: dict[str, Row | None] = dict.fromkeys(gone)
        changes |= {each.visit: each for each in rows(sorted(new))}
        index, files = changed(index, changes, reader(folder))
        assert index == index_of("study", "stamp", rows(sorted(have)))[0]


def test_only_shards_that_change_are_read_and_written(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    index, files = index_of("study", "stamp", rows(NAMES))
    item = [item for item in index.items if item.first <= "P0700"][-1]
    for file in (item.file, item.boxes):
        (tmp_path / str(file)).write_bytes(files[str(file)])
    after, written = changed(index, {"P0700": row("P0700")}, reader(tmp_path))
    assert len(written) == 2
    assert after.files - index.files == written.keys()
    assert after.series == index.series - 1


def test_very_many_visits_have_larger_shards(tmp_path: Path) -> None:
    many = [row(f"P{number:04}") for number in range(2100)]
    (tmp_path / "data").mkdir()
    for count, others in ((2048, {"P2047": None}), (2047, {"P2047": many[2047]})):
        index, files = index_of("study", "", many[:count])
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="other shards"):
            changed(index, others, reader(tmp_path))
    few, many_items = (index_of("study", "", many[:count])[0].items for count in (2047, 2048))
    assert len(many_items) < len(few)


def test_the_manifest_reads_back_equal(tmp_path: Path) -> None:
    index, _ = index_of("study", "stamp", rows(NAMES[:400]))
    other, _ = index_of("other", "", [])
    index = replace(index, told="a", node="b")
    path = tmp_path / "manifest.js"
    path.write_bytes(manifest_text([index, other], "../../{study}/catalog/"))
    assert read_index(path.read_bytes(), "study") == index
    assert read_index(path.read_bytes(), "other") == Index("other", "", ())
    assert read_index(path.read_bytes(), "none") is None
    content = json.loads(path.read_text().removeprefix("icf.manifest(").removesuffix(");\n"))
    assert content["studies"][0]["base"] == "../../study/catalog/"
    assert content["studies"][0]["visits"] == 400


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("icf.manifest(", "icf.manifest(["),
        ('"format":1', '"format":2'),
        ("data/", "../../data/"),
        ("data/", "data/../../"),
        ('"visits"', '"visit"'),
        ('"stamp"', '"stomp"'),
        ('"visits":', '"visits":-'),
        ('"visits":', '"visits":1.'),
        ('"first":"P', '"first":"../P'),
        ('"file":"', '"file":5,"x":"'),
        (".js", ".html"),
    ],
)
def test_a_manifest_that_is_none(tmp_path: Path, old: str, new: str) -> None:
    index, _ = index_of("study", "stamp", rows(NAMES[:400]))
    path = tmp_path / "manifest.js"
    text = manifest_text([index], "../").decode()
    assert old in text
    path.write_text(text.replace(old, new))
    assert read_index(path.read_bytes(), "study") is None
    path.write_text(text[: len(text) // 2])
    assert read_index(path.read_bytes(), "study") is None


def test_a_broken_shard_is_noticed(tmp_path: Path) -> None:
    shard = shard_of(rows(NAMES[:3]))
    for broken in (b"", shard.data[:40], shard.data.replace(b'","', b'","AAAA', 1)):
        with pytest.raises(ValueError, match=r"."):
            read_rows(broken, shard.boxes)
    (tmp_path / "data").mkdir()
    index, files = index_of("study", "stamp", rows(NAMES[:3]))
    for content in (None, b"", shard_of(rows(NAMES[3:4])).data, b'icf.data("a","b");alert(1)\n'):
        for name in files:
            if content is not None:
                (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="data/"):
            changed(index, {"P0001": None}, reader(tmp_path))
