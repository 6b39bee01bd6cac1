"""The nodes are those that datalad-catalog itself makes of the same values."""

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from icf_tools.catalog import nodes
from icf_tools.catalog.listing import Listed, Listing, Output
from icf_tools.catalog.nodes import File, Node
from icf_tools.dataset.versions import Change, Version
from icf_tools.index.records import TarballFacts
from icf_tools.index.scan import Record
from icf_tools.index.series import Series
from icf_tools.model.brand import Brand
from icf_tools.model.dicom import Scalar
from icf_tools.model.key import AnnexKey
from icf_tools.model.visit import Visit

BRAND = Brand(name="A study", description="Two <i>visits</i>.")
URL = "https://data.example.org/my store"
VALUES: dict[str, tuple[Scalar, ...]] = {
    "Modality": ("MR",),
    "SeriesDescription": ("t1 mprage",),
    "ProtocolName": ("t1",),
    "Manufacturer": ("Example",),
    "ManufacturerModelName": ("One",),
    "MagneticFieldStrength": (3.0,),
    "StudyDate": ("20240229",),
    "RepetitionTime": (2300.0,),
    "EchoTime": (2.46, 4.92),
    "FlipAngle": (9.0,),
}
MD5 = "0123456789abcdef0123456789abcdef"
KEY = AnnexKey.md5e("nifti/1_t1.nii.gz", 70, MD5)


def listed(number: int, **values: tuple[Scalar, ...]) -> Listed:
    series = Series(f"1.2.{number}", number, 3, 4000, VALUES | values, ())
    return Listed(str(number), series, "none", "", {}, (), (), ())


def listing(name: str = "S01", *series: Listed) -> Listing:
    visit = Visit("study", name)
    record = Record(f"study_{name}/notes.txt", 7, 512, MD5, None, None)
    tarball = f"{name}_dicom.tar"
    facts = TarballFacts(
        size=10240,
        md5=MD5,
        dataset_path=visit.dataset_path,
        store_path=visit.store_path,
        timestamp=1700000000,
        series={},
        files=(record,),
        problems=(),
    )
    return Listing(
        visit=visit,
        facts=facts,
        series=series or (listed(1), listed(2, SeriesDescription=("bold",))),
        versions=(),
        clone_url=visit.clone_url(URL),
        links={tarball: f"../../{tarball}"},
        timestamp=facts.timestamp,
    )


def versioned() -> Listing:
    """With a derived file that is there, and one that is not."""
    plain = listing()
    derived = Output("nifti/1_t1.nii.gz", "../../S01_annex/key", 70)
    change = Change({derived.path: str(KEY), "series.json": str(KEY)})
    commits = {"master": "a" * 40, "git-annex": "b" * 40}
    version = Version(1, 1700000000, URL, URL, 10240, MD5, commits, change)
    first, second = plain.series
    series = (replace(first, status="verified", outputs=(derived,)), second)
    return replace(plain, series=series, versions=(version,))


ITEMS: list[Node] = [
    {"path": f"study_S01/s{n}/im{k}.dcm", "size": 512} for n in (1, 2) for k in (1, 2, 3)
]


def catalog(
    listings: Iterable[Listing], brand: Brand = BRAND, items: Iterable[Node] = ITEMS
) -> dict[PurePosixPath, Node]:
    """The nodes of a study by path; the first visit with its content."""
    made: dict[PurePosixPath, Node] = {nodes.HOME: nodes.home("study")}
    entries = []
    for each in listings:
        names = nodes.visit_id(each.visit), nodes.visit_version(each)
        files = nodes.dataset_files(each, items) if items else ()
        made[nodes.node_path(*names)] = nodes.visit_node(each, files)
        made |= nodes.content_nodes(each, files)
        entries.append(nodes.visit_entry(each))
        items = ()
    names = nodes.study_id("study"), nodes.STUDY_VERSION
    return made | {nodes.node_path(*names): nodes.study_node("study", brand, entries)}


_ADD = """
import json, sys
from pathlib import Path
from datalad_catalog.add import Add
from datalad_catalog.webcatalog import WebCatalog

catalog = WebCatalog(sys.argv[1])
catalog.create()
catalog.set_main_dataset(*sys.argv[2:])
for line in sys.stdin:
    Add()(catalog=catalog, metadata=json.loads(line), on_failure="stop", result_renderer="disabled")
"""


def records(made: Iterable[Node]) -> tuple[list[Node], list[Node]]:
    """What `catalog-add` is given: of datasets, and of files."""
    datasets, files = [], []
    for node in made:
        if node.get("type") == "dataset":
            sources = {"sources": node["metadata_sources"]["sources"]}
            datasets.append(node | {"metadata_sources": sources})
            del datasets[-1]["children"]
        children = (child for child in node.get("children", ()) if child["type"] == "file")
        files += [{key: child[key] for key in child if key != "name"} for child in children]
    return datasets, sorted(files, key=lambda file: str(file["path"]))


@pytest.mark.slow
def test_catalog_add_makes_the_same(tmp_path: Path) -> None:
    made = catalog([versioned(), listing("S02")])
    datasets, files = records(made.values())
    lines = "".join(f"{json.dumps(record)}\n" for record in (*datasets, *files))
    home = made[nodes.HOME].values()
    command = [sys.executable, "-c", _ADD, str(tmp_path / "catalog"), *home]
    subprocess.run(command, input=lines, text=True, check=True, capture_output=True)

    metadata = tmp_path / "catalog" / "metadata"
    found = {
        PurePosixPath("metadata", path.relative_to(metadata)): json.loads(path.read_bytes())
        for path in metadata.rglob("*.json")
    }
    for node in made.values():
        if node.get("type") == "dataset":
            assert node.pop("authors") == []  # it drops what is empty; the page needs it
    assert found == made
    assert sum(node.get("type") == "directory" for node in made.values()) == 5


def test_a_visit_replaces_only_itself_in_the_study() -> None:
    before = nodes.study_node(
        "study", BRAND, map(nodes.visit_entry, [listing("S02"), listing("S01")])
    )
    stored = json.loads(nodes.node_text(before))
    changed = replace(listing("S01"), facts=replace(listing().facts, size=99_000))
    others = [entry for entry in stored["subdatasets"] if entry["dataset_path"] != "S01"]
    after = nodes.study_node("study", BRAND, [*others, nodes.visit_entry(changed)])
    anew = nodes.study_node("study", BRAND, map(nodes.visit_entry, [changed, listing("S02")]))
    assert nodes.node_text(after) == nodes.node_text(anew)
    assert after["subdatasets"][1] == before["subdatasets"][1]
    values = {pill["name"]: pill["value"] for pill in after["top_display"]}
    assert values == {"Visits": "2", "Images": "12", "Size": "109\u00a0kB"}


def test_a_study_without_visits() -> None:
    node = nodes.study_node("study", Brand(), ())
    assert node["name"] == "study"
    assert node["metadata_sources"]["sources"][0]["source_time"] == 0


def test_the_version_is_what_a_clone_has() -> None:
    assert nodes.visit_version(versioned()) == "a" * 40
    assert nodes.visit_version(listing()) == MD5


def test_ids_differ_by_study_and_visit() -> None:
    visits = [Visit("a", "b"), Visit("a", "c"), Visit("b", "b")]
    ids = [*map(nodes.visit_id, visits), nodes.study_id("a"), nodes.study_id("b")]
    assert len(set(ids)) == len(ids)
    assert ids[0] == "8f1f0dca-730a-5f6c-a9ae-014dae7acf8c"  # stays: links lead there


def test_a_visit_tells_what_it_is() -> None:
    node = nodes.visit_node(versioned())
    assert node["description"] == (
        "Visit S01 of study study, scanned on 2024-02-29 with Example One."
    )
    assert node["keywords"] == ["MR", "t1 mprage", "bold"]
    assert [f"{pill['name']}: {pill['value']}" for pill in node["top_display"]] == [
        "Date: 2024-02-29",
        "Tarball: 10.2\u00a0kB",
        "Series: 2",
        "Images: 6",
        "Derived files: 1",
    ]
    (tab,) = node["additional_display"]
    assert tab["content"]["Field strength"] == ["3 T"]
    assert tab["content"]["Series 1"] == {
        "Description": "t1 mprage",
        "Protocol": "t1",
        "Images": "3",
        "Size": "4.0\u00a0kB",
        "TR": "2300\u00a0ms",
        "TE": "2.46, 4.92\u00a0ms",
        "Flip angle": "9\u00b0",
        "Conversion": "verified",
    }
    assert node["icf_page"]["url"] == "view/S01.html"
    assert node["children"] == []
    assert "1.2.1" not in json.dumps(node)  # no UID


def test_a_visit_without_a_url_has_no_command() -> None:
    assert "url" not in nodes.visit_node(replace(listing(), clone_url=None))


def test_a_visit_of_which_nothing_is_known() -> None:
    bare = replace(listing(), series=())
    node = nodes.visit_node(bare)
    assert node["description"] == "Visit S01 of study study."
    assert node["keywords"] == []
    assert node["additional_display"][0]["content"] == {}


def test_many_series_give_a_few_keywords() -> None:
    series = [listed(n, SeriesDescription=(f"{n} " + "x" * 10_000,)) for n in range(50)]
    node = nodes.visit_node(listing("S01", *series))
    assert len(node["keywords"]) == 20
    assert max(map(len, node["keywords"])) == 40
    assert len(nodes.node_text(node)) < 50_000


@pytest.mark.parametrize("character", "\u202e\u2066\x1b\x00\n\ud800")
def test_what_moves_the_text_around_it_is_replaced(character: str) -> None:
    node = nodes.visit_node(listing("S01", listed(1, SeriesDescription=(f"a{character}b",))))
    assert node["keywords"][1] == "a\ufffdb"


def test_nothing_is_escaped() -> None:
    hostile = """<b>&amp;"' {{x}}"""
    node = nodes.visit_node(listing("S01", listed(1, SeriesDescription=(hostile,))))
    assert node["keywords"][1] == hostile
    assert type(node["description"]) is str  # of a list the page would show HTML


def test_files_have_a_url_where_they_can_be_fetched_singly() -> None:
    files = nodes.dataset_files(versioned(), ITEMS)
    assert files[0] == File("icf/S01_dicom.tar", 10240, "../S01_dicom.tar")
    assert {file.path: file.url for file in files if file.url} == {
        "icf/S01_dicom.tar": "../S01_dicom.tar",
        "nifti/1_t1.nii.gz": "../S01_annex/key",
    }
    images = [str(item["path"]) for item in ITEMS]
    others = ["series.json", "study_S01/notes.txt"]
    assert [file.path for file in files if not file.url] == [*others, *images]


def test_a_path_that_is_no_text_has_a_place() -> None:
    raw = b"study_S01/s\xe9rie/a.dcm".decode("utf-8", "surrogateescape")
    items: list[dict[str, Any]] = [{"path": raw, "size": 1}]
    found = dict(nodes.content_nodes(listing(), nodes.dataset_files(listing(), items)))
    assert "study_S01/s\ufffdrie" in {node["path"] for node in found.values()}
