"""The deposit against the same dataset made with DataLad and git-annex alone.

What may differ is listed here: ids and times, the remote icf with the fields
of a URL that serve it, and the metadata that the first tools did not record.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from icf_tools.index.records import read_images, read_tarball
from icf_tools.model.dicom import ANNEX_METADATA, FIRST_TOOLS
from tests import dicoms
from tests.dataset.clients import Client, Clone, Deposit, deposit, fill

pytestmark = pytest.mark.annex

TAGS = tuple(tag.keyword for tag in FIRST_TOOLS)
ADDED_FIELDS = {keyword.lower() for keyword in ANNEX_METADATA if keyword not in TAGS}
ADDED_TO_URL = re.compile(r"&atype=tar&offset=[0-9]+$")
PLAIN = {
    "notes.txt": b"text",
    "empty.dcm": b"",
    "empty": b"",
    "twice/one.txt": b"twice the same",
    "twice/two.txt": b"twice the same",
    "twice/three.log": b"twice the same",
    'it\'s "quoted" 100%.txt': b"quotes",
    "50%20off/a=b+c;d,e": b"separators",
    "Ünïcode/日本語 ß.äöü": b"not ASCII",
    "many.dots.in.it.gz": b"two extensions",
    "..lead.ing": b"leading dots",
    "MR.1.2.840.113619.2.1": b"numbers for extensions",
    "long.extension": b"none",
    "{row}[1]*?": b"patterns",
    "-o": b"option",
}


@dataclass(frozen=True, slots=True)
class Pair:
    """The same visit, deposited by us and made by hand."""

    made: Deposit
    ours: Clone
    theirs: Clone


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("addurls")
    source = fill(dicoms.visit(folder / "incoming", images=2), PLAIN)
    special = dicoms.image(7, 1, SeriesDescription="Größe 100% ", PulseSequenceName="!fl2d1")
    for name in ("IM0001", "with blank/IM 1.dcm", "with blank/IM 2.dcm"):
        dicoms.write(source / name, special)
    bare = dicoms.image(8, 1, SeriesDescription=None, ProtocolName="", MRAcquisitionType=None)
    dicoms.write(source / "bare.dcm", bare)
    made = deposit(folder / "store", source, f"file://{folder}/store")
    client = Client.new(folder / "user")
    theirs = by_hand(made, client, folder / "theirs")
    return Pair(made, client.clone(made.clone_url, folder / "ours"), theirs)


def test_both_have_all_files(pair: Pair) -> None:
    assert len(pair.ours.links) == len(PLAIN) + 4 + 4 + 1
    assert set(pair.ours.links) == {pair.made.tarball, *pair.made.expected}
    pair.ours.get(".")
    assert pair.ours.content() == pair.made.expected


def test_keys_are_the_same(pair: Pair) -> None:
    ours, theirs = (
        {report["file"]: report for report in clone.records("find", "--anything")}
        for clone in (pair.ours, pair.theirs)
    )
    assert ours == theirs


def test_trees_are_the_same(pair: Pair) -> None:
    assert pair.ours.links == pair.theirs.links
    listings = []
    for clone in (pair.ours, pair.theirs):
        lines = clone.run("git", "ls-tree", "-r", "-z", "HEAD").split("\0")[:-1]
        listings.append([line for line in lines if not line.endswith("\t.datalad/config")])
    assert listings[0] == listings[1]
    assert any(line.endswith("\t.gitattributes") for line in listings[0])
    assert any(line.endswith("\t.datalad/.gitattributes") for line in listings[0])


def test_configurations_differ_in_the_id_alone(pair: Pair) -> None:
    ours, theirs = (
        re.sub(r"(?<=\tid = )[0-9a-f-]{36}$", "ID", (clone.path / ".datalad/config").read_text())
        for clone in (pair.ours, pair.theirs)
    )
    assert ours == theirs == '[datalad "dataset"]\n\tid = ID\n'


def test_contents_come_from_the_same_places(pair: Pair) -> None:
    ours, theirs = locations(pair.ours), locations(pair.theirs)
    for file, (key, places, untrusted) in ours.items():
        member = file != pair.made.tarball
        assert untrusted == (["icf"] if member else [])
        [(remote, urls)] = places.items()
        assert all(bool(ADDED_TO_URL.search(url)) == member for url in urls)
        cut = {remote: [ADDED_TO_URL.sub("", url) for url in urls]}
        assert (key, cut, []) == theirs.pop(file)
    assert theirs == {}


def test_metadata_are_the_same_but_for_added_fields(pair: Pair) -> None:
    ours, theirs = fields(pair.ours), fields(pair.theirs)
    added = {name for values in ours.values() for name in values} & ADDED_FIELDS
    assert added == {"echotime", "imagetype"}
    cut = {
        file: {name: values[name] for name in values if name not in ADDED_FIELDS}
        for file, values in ours.items()
    }
    assert cut == theirs
    assert theirs["study_visit/IM0001"] == {
        "seriesdescription": ["Größe 100%"],
        "seriesnumber": ["7"],
        "modality": ["MR"],
        "mracquisitiontype": ["3D"],
        "protocolname": ["protocol 7"],
        "pulsesequencename": ["!fl2d1"],
    }
    assert set(theirs["study_visit/bare.dcm"]) == {"seriesnumber", "modality"}
    assert theirs["study_visit/notes.txt"] == {}


def test_remotes_are_configured_the_same(pair: Pair) -> None:
    ours, theirs = remotes(pair.ours), remotes(pair.theirs)
    assert ours.pop("icf") == {
        "type": "external",
        "externaltype": "icf",
        "encryption": "none",
        "autoenable": "true",
        "cost": "150",
    }
    assert ours == theirs
    assert set(theirs) == {"uncurl", "archivist"}


def by_hand(made: Deposit, client: Client, path: Path) -> Clone:
    """The dataset of the visit as `datalad addurls` makes it."""
    client.run("datalad", "create", path, cwd=path.parent)
    clone = Clone(client, path)
    for name in ("uncurl", "archivist"):
        settings = (f"externaltype={name}", "encryption=none", "autoenable=true")
        clone.annex("initremote", name, "type=external", *settings)
    facts = read_tarball(made.store)
    records = [*facts.files, *read_images(made.store, facts)]
    url = f"{made.store_url}/{facts.store_path}"
    whole = {"path": facts.dataset_path, "size": facts.size, "md5": facts.md5, "url": url}
    add_urls(clone, [whole], ())
    tarball = key_of(clone, facts.dataset_path)
    rows = [
        {
            "path": record.path,
            "size": record.size,
            "md5": record.md5,
            "url": f"dl+archive:{tarball}#path={record.path}&size={record.size}",
            **{keyword: (record.tags or {}).get(keyword, "") for keyword in TAGS},
        }
        for record in records
    ]
    add_urls(clone, rows, TAGS)
    ids = {
        name: clone.run("git", "config", f"remote.{name}.annex-uuid").strip()
        for name in ("uncurl", "archivist")
    }
    present = [(tarball, ids["uncurl"])]
    present += [(key_of(clone, record.path), ids["archivist"]) for record in records]
    lines = "".join(f"{key} {remote} 1\n" for key, remote in present)
    client.run("git", "annex", "setpresentkey", "--batch", cwd=path, text=lines)
    return clone


def add_urls(clone: Clone, rows: list[dict[str, Any]], tags: Iterable[str]) -> None:
    metadata = [word for tag in tags for word in ("--meta", f"{tag.lower()}={{{tag}}}")]
    key = ("--key", "et:MD5-s{size}--{md5}", "--exclude-autometa", "*")
    command = ("datalad", "addurls", *key, *metadata, "-", "{url}", "{path}")
    clone.client.run(*command, cwd=clone.path, text=json.dumps(rows))


def key_of(clone: Clone, path: str) -> str:
    return (clone.path / path).readlink().name


def locations(clone: Clone) -> dict[str, tuple[str, dict[str, list[str]], list[str]]]:
    """By file: key, URLs by remote, and untrusted remotes; less what is on this disk."""
    found = {}
    for report in clone.records("whereis"):
        places = {
            place["description"].strip("[]"): sorted(place["urls"])
            for place in report["whereis"]
            if not place["here"]
        }
        untrusted = [place["description"].strip("[]") for place in report["untrusted"]]
        found[report["file"]] = report["key"], places, untrusted
    return found


def fields(clone: Clone) -> dict[str, dict[str, list[str]]]:
    """Metadata by file, less the times."""
    return {
        report["file"]: {
            name: values
            for name, values in report["fields"].items()
            if not name.endswith("lastchanged")
        }
        for report in clone.records("metadata")
    }


def remotes(clone: Clone) -> dict[str, dict[str, str]]:
    """The configuration of each special remote, less its id and time."""
    found = {}
    for line in clone.run("git", "show", "git-annex:remote.log").splitlines():
        settings = dict(word.split("=", 1) for word in line.split()[1:])
        del settings["timestamp"]
        found[settings.pop("name")] = settings
    return found
