"""A store in Python: tables, bytes and arrays of a series, and no more than those are read."""

import html.parser
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from icf_tools import open_store
from icf_tools.access.credential import NoCredential
from icf_tools.access.source import NotThere
from icf_tools.access.store import NoList
from icf_tools.access.stored import NoPlaces, SeveralVolumes, StoredSeries, WrongContent
from icf_tools.derive.folder import convert_tarball
from icf_tools.derive.stack import NotRegular
from icf_tools.model.url import BadUrl
from icf_tools.model.visit import BadIdentifier, StorePath
from icf_tools.pipeline import add
from icf_tools.settings import read_settings
from icf_tools.store.deposit import NoStore, NoStudy
from tests import dicoms
from tests.access.stores import TARBALL, VISIT, change, described
from tests.access.test_fetch import came, of_series
from tests.dataset.clients import Client
from tests.derive.series import AXIAL, CORONAL, OBLIQUE, Series
from tests.faults import Garbage, Whole, faulty_server
from tests.servers import shell_server


def stored_as(folder: Path, write: Callable[[Path], object]) -> StorePath:
    """A store with what is written into a folder."""
    write(folder / "in")
    store = StorePath(folder / "store", VISIT)
    add(folder / "in", store, store_url="file:///nowhere", tags=read_settings(store).tags)
    return store


def only(place: str | Path, **choice: Any) -> StoredSeries:
    [series] = described(place).series(**choice)
    return series


def test_series_show_as_a_table(stored: StorePath) -> None:
    series = described(stored.root).series()
    assert repr(series) == (
        "number  images   MB  modality  protocol   description\n"
        "     3       4  0.0  MR        t1 mprage  t1 mprage 3\n"
        "     7       8  0.0  PT        rest       t1 mprage 7"
    )
    assert [repr(each) for each in series] == [
        "<series 3 't1 mprage': 4 images, 0.0 MB>",
        "<series 7 'rest': 8 images, 0.0 MB>",
    ]
    first = series[0]
    assert (first.number, first.uid, first.images) == (3, f"{dicoms.ROOT}.3", 4)
    assert (first.protocol, first.description, first.modality) == ("t1 mprage", "t1 mprage 3", "MR")
    assert first.size == sum(record.size for record in first.records)
    assert [(each.tags or {})["InstanceNumber"] for each in first.records] == [1, 2, 3, 4]
    assert repr(described(stored.root).series(number=4)).startswith("number  images")


@pytest.mark.parametrize(
    ("choice", "numbers"),
    [
        ({}, [3, 7]),
        ({"number": 7}, [7]),
        ({"protocol": "t1*"}, [3]),
        ({"modality": "pt"}, [7]),
        ({"number": 7, "modality": "MR"}, []),
    ],
)
def test_series_are_chosen(stored: StorePath, choice: dict[str, Any], numbers: list[int]) -> None:
    assert [each.number for each in described(stored.root).series(**choice)] == numbers


class _Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_what_a_description_holds_is_only_shown(stored: StorePath) -> None:
    hostile = "<script>alert(1)</script>\x1b[2J\n" + "x" * 99

    def write(facts: Any) -> None:
        for common in facts["series"].values():
            common["SeriesDescription"] = hostile

    change(stored.tarball_json, write)
    change(stored.dicoms_json, lambda images: [i.update(SeriesDescription=hostile) for i in images])
    series = described(stored.root).series()
    assert series[0].description == hostile
    assert len(repr(series).splitlines()) == 3
    assert "\x1b" not in repr(series) + series._repr_html_()
    page = _Tags()
    page.feed(series._repr_html_())
    assert page.seen == {"table", "tr", "th", "td"}
    assert any(text.startswith("<script>alert(1)</script>\ufffd[2J") for text in page.texts)


@pytest.mark.slow
def test_a_store_behind_ssh(
    stored: StorePath,
    sources: dict[str, bytes],
    tmp_path: Path,
    require: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    user = Client.new(tmp_path / "user")
    with shell_server(tmp_path / "sshd", require("sshd")) as server:
        server.introduce(user)
        server.let_in(user)
        monkeypatch.setenv("PATH", user.environment["PATH"])
        with open_store(f"{server.url}{stored.root}") as store:
            visit = store.study("study").visit("P1")
            assert visit.series(number=3)[0].volume().array.shape == (6, 5, 4)
            visit.fetch(tmp_path / "out")
    assert came(tmp_path / "out") == sources


def test_a_tarball_is_read_where_its_dataset_has_it_from(
    stored: StorePath, sources: dict[str, bytes], tmp_path: Path
) -> None:
    archive = tmp_path / "archive" / "study"
    archive.mkdir(parents=True)
    stored.tarball.rename(archive / stored.tarball.name)

    def from_there(url: str) -> Callable[[Any], object]:
        return lambda versions: versions[-1].update(store_url=url)

    with faulty_server(archive.parent) as tarballs, faulty_server(stored.root) as server:
        change(stored.versions_json, from_there(tarballs.url))
        for place in (stored.root, server.url):
            read = {record.path: data for record, data in only(place, number=3).read()}
            assert read == of_series(sources, "a")
        change(stored.versions_json, from_there(archive.parent.as_uri()))
        assert len(list(only(stored.root, number=3).read())) == 4
        asked = len(tarballs.requests)
        for url in (archive.parent.as_uri(), "ssh://127.0.0.1/", "https://", "", 7):
            change(stored.versions_json, from_there(str(url)))
            with pytest.raises(NotThere, match=rf"there is no {server.url}/study/P1_dicom\.tar"):
                list(only(server.url, number=3).read())
        assert len(tarballs.requests) == asked == 2


def test_what_a_folder_holds_is_listed(stored: StorePath, tmp_path: Path) -> None:
    (stored.root / "empty").mkdir()
    (stored.root / "file").write_text("text")
    shutil.copytree(stored.study, stored.root / ".hidden")
    for place in (stored.root, str(stored.root), stored.root.as_uri()):
        store = open_store(place)
        assert store.studies() == ("study",)
        assert store.study("study").visits() == ("P1",)
        assert repr(store) == f"<store {stored.root}>"
        assert repr(store.study("study")) == f"<study study of <store {stored.root}>>"
    assert repr(described(stored.root)) == "<visit study/P1: 12 images, 0.0 MB>"
    with pytest.raises(NoStudy):
        store.study("other").visits()
    with pytest.raises(NoStore):
        open_store(tmp_path / "nowhere")
    with pytest.raises(NotThere, match="see that the URL of the store, the study and the visit"):
        store.study("study").visit("P2")
    for name in ("..", "a/b", ""):
        with pytest.raises(BadIdentifier):
            store.study(name)
        with pytest.raises(BadIdentifier):
            store.study("study").visit(name)


def test_a_server_has_no_list() -> None:
    store = open_store("https://data.example.org/store/")
    assert repr(store) == "<store https://data.example.org/store>"
    for ask in (store.studies, store.study("study").visits):
        with pytest.raises(NoList, match="a server does not tell what https://data"):
            ask()
    with pytest.raises(BadUrl) as caught:
        open_store("https://lab:secret@data.example.org/store")
    assert "secret" not in str(caught.value)


def test_a_credential_is_asked_for_once_and_shown_nowhere(stored: StorePath) -> None:
    asked: list[str] = []

    def ask(realm: str) -> tuple[str, str]:
        asked.append(realm)
        return "lab", "correct horse"

    with faulty_server(stored.root, user=("lab", "correct horse")) as server:
        store = open_store(server.url, ask)
        visit = store.study("study").visit("P1")
        series = visit.series(number=3)
        series[0].volume()
        shown = [store, store.opener, visit, series, series[0], visit.tarball]
        assert "correct" not in "".join(map(repr, shown))
        with pytest.raises(NoCredential, match="wants a user and a password"):
            described(server.url)
    assert asked == [f"{server.url}/study"]


def test_metadata_is_read_once(stored: StorePath) -> None:
    with faulty_server(stored.root) as server:
        visit = described(server.url)
        for _ in range(2):
            list(visit.series(number=3)[0].read())
    paths = [request.path.rpartition("P1_")[2] for request in server.requests]
    assert sorted(paths) == ["dicom.tar", "dicom.tar", "metadata_dicoms.json"] + [
        "metadata_tarball.json"
    ]


def test_images_are_what_went_in(stored: StorePath, sources: dict[str, bytes]) -> None:
    with faulty_server(stored.root) as server:
        for place in (stored.root, server.url):
            read = {record.path: data for record, data in only(place, number=3).read()}
            assert read == of_series(sources, "a")


def large(number: int) -> Series:
    """40 images of 32 kB; packed, such a series is large beside what is around it."""
    random = np.random.default_rng(number)
    return Series(random.integers(0, 4000, (1, 40, 128, 128), dtype=np.int16))


def mixed(folder: Path) -> None:
    """Three series whose images lie between each other."""
    for number in (1, 2, 3):
        for path in large(number).write(folder / str(number), number).iterdir():
            path.rename(folder / f"{path.stem}_{number}.dcm")
        (folder / str(number)).rmdir()


def apart(folder: Path) -> None:
    for number in (1, 2, 3):
        large(number).write(folder / str(number), number)


@pytest.mark.parametrize("write", [apart, mixed])
def test_an_array_needs_the_bytes_of_its_series_only(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    store = stored_as(tmp_path, write)
    with faulty_server(store.root) as server:
        series = only(server.url, number=2)
        array = series.volume().array
        asked = [request for request in server.requests if request.path.endswith(TARBALL)]
    assert np.array_equal(array, large(2).stored[0].transpose(2, 1, 0))
    sent = sum(request.sent for request in asked)
    assert series.size <= sent <= 1.05 * series.size + 64_000
    assert len(asked) == (1 if write is apart else 40)


@pytest.mark.parametrize(
    "series",
    [
        Series.of(),
        Series.of(3, orientation=CORONAL),
        Series.of(orientation=OBLIQUE, scale=(2.0, -7.0)),
    ],
    ids=["axial", "coronal in time", "oblique and scaled"],
)
def test_arrays_are_those_of_icf_convert(series: Series, tmp_path: Path) -> None:
    store = stored_as(tmp_path, lambda folder: series.write(folder))
    with faulty_server(store.root) as server:
        volume = only(server.url).volume()
    convert_tarball(store.tarball, tmp_path / "out")
    [path] = (tmp_path / "out" / "nifti").glob("*.nii.gz")
    made = nibabel.as_closest_canonical(nibabel.Nifti1Image.from_filename(path))
    values = volume.array.astype(np.float64)  # nibabel takes no 64 bit integers
    read = nibabel.as_closest_canonical(nibabel.Nifti1Image(values, volume.affine))
    assert np.array_equal(np.asanyarray(made.dataobj), np.asanyarray(read.dataobj))
    assert np.allclose(made.affine, read.affine, atol=1e-4)


def echoes(folder: Path) -> None:
    for echo in (1, 2):
        Series.of().write(folder / str(echo), EchoTime=str(4.5 * echo), EchoNumbers=echo)


def test_several_arrays_are_named(tmp_path: Path) -> None:
    series = only(stored_as(tmp_path, echoes).root)
    assert [each.kind for each in series.volumes()] == [
        "echo time 4.50 ms, echo 1",
        "echo time 9.00 ms, echo 2",
    ]
    with pytest.raises(SeveralVolumes) as caught:
        series.volume()
    assert str(caught.value) == (
        "series 1 makes 2 arrays and not one: echo time 4.50 ms, echo 1 (6 x 5 x 4), "
        "echo time 9.00 ms, echo 2 (6 x 5 x 4); take them from volumes()"
    )


def one_unplaced(folder: Path) -> None:
    Series.of().write(folder)
    dicoms.write(folder / "im0009.dcm", dicoms.image(1, 9))


def one_missing(folder: Path) -> None:
    Series.of().write(folder)
    (folder / "im0002.dcm").unlink()


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (lambda folder: dicoms.visit(folder, series=1), "image 1: it has no ImageP"),
        (one_unplaced, "image 5: it has no ImageP"),
        (one_missing, "slices are 3 to 6 mm apart"),
    ],
)
def test_images_without_an_array_are_refused(
    write: Callable[[Path], object], why: str, tmp_path: Path
) -> None:
    with pytest.raises(NotRegular, match=why):
        only(stored_as(tmp_path, write).root).volumes()


def test_images_that_name_no_series_are_one_by_number(tmp_path: Path) -> None:
    """As metadata of the first tools is."""

    def write(folder: Path) -> None:
        Series.of(orientation=AXIAL).write(folder, 5, SeriesInstanceUID=None)

    series = only(stored_as(tmp_path, write).root)
    assert (series.uid, series.number, series.images) == ("", 5, 4)
    assert series.volume().array.shape == (6, 5, 4)


def test_wrong_bytes_are_never_handed_out(stored: StorePath) -> None:
    with faulty_server(stored.root, [None, None, Garbage(1000)]) as server:
        with pytest.raises(WrongContent, match="tell who runs the store"):
            only(server.url, number=3).volume()
        server.faults = [Whole(), Whole()]
        assert len(list(only(server.url, number=7).read())) == 8


def test_a_series_is_fetched_alone(
    stored: StorePath, sources: dict[str, bytes], tmp_path: Path
) -> None:
    seen: list[int] = []
    series = only(stored.root, number=7)
    fetched = series.fetch(str(tmp_path / "out"), lambda _, done, total: seen.append(done))
    assert (fetched.files, seen[-1]) == (8, series.size)
    assert came(tmp_path / "out") == of_series(sources, "b")
    assert described(stored.root).fetch(tmp_path / "out").here == 8
    assert came(tmp_path / "out") == sources


def test_what_is_described_goes_to_other_processes(stored: StorePath) -> None:
    """With connections of their own, as when several work on series of a visit."""
    with faulty_server(stored.root) as server:
        [series] = open_store(server.url, None).study("study").visit("P1").series(number=7)
        copy = pickle.loads(pickle.dumps(series))
        assert [data for _, data in copy.read()] == [data for _, data in series.read()]


def test_metadata_of_the_first_tools_makes_a_table(stored: StorePath) -> None:
    def old(images: Any) -> None:
        added = {"offset", "SeriesInstanceUID"}
        images[:] = [{k: v for k, v in each.items() if k not in added} for each in images]

    change(stored.dicoms_json, old)
    series = described(stored.root).series()
    assert [(each.number, each.images) for each in series] == [(3, 4), (7, 8)]
    with pytest.raises(NoPlaces):
        list(series[0].read())


def test_importing_the_package_loads_nothing_of_it() -> None:
    script = "import icf_tools, sys; print(*(n for n in sys.modules if n.startswith('icf_tools.')))"
    command = [sys.executable, "-c", script]
    assert subprocess.check_output(command, text=True) == "\n"


def test_a_table_needs_nothing_heavy(stored: StorePath) -> None:
    script = (
        "import icf_tools, sys\n"
        f"print(icf_tools.open_store({str(stored.root)!r}).study('study').visit('P1').series())\n"
        "heavy = {'numpy', 'nibabel', 'pydicom', 'datalad', 'datalad_next', 'requests', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    said = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert said.splitlines()[1:3] == repr(described(stored.root).series()).splitlines()[1:3]
    assert said.splitlines()[-1] == "[]"
