"""The deposit: its bytes, its ids, and what it refuses. Real clients: test_clients."""

import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from icf_tools.archive.build import build
from icf_tools.dataset.branch import PathClash, metadata_values
from icf_tools.dataset.versions import BadVersions, read_versions
from icf_tools.dataset.write import NoUrl, OtherDeposit, dataset
from icf_tools.index.deposit import index
from icf_tools.index.records import NoMetadata
from icf_tools.model.visit import StorePath, Visit
from tests import dicoms
from tests.conftest import Run
from tests.index.test_index import put

URL = "https://data.example.org/store"


@pytest.fixture
def indexed(store: StorePath, incoming: Path) -> StorePath:
    (incoming / "notes & more.txt").write_text("x")
    build(incoming, store)
    index(store)
    return store


def repository(store: StorePath, folder: Path) -> Path:
    with zipfile.ZipFile(store.repo_export) as archive:
        archive.extractall(folder)
    return folder


def git(folder: Path, *arguments: str) -> str:
    command = ["git", f"--git-dir={folder}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_pair_is_a_repository(indexed: StorePath, tmp_path: Path) -> None:
    deposited = dataset(indexed, URL)
    bare = repository(indexed, tmp_path / "bare")
    assert git(bare, "fsck", "--strict", "--full") == ""
    shown = git(bare, "for-each-ref", "--format=%(objectname) %(refname)")
    assert indexed.refs.read_text() == shown + "@refs/heads/master HEAD\n"
    assert git(bare, "rev-parse", "master").strip() == deposited.commits["master"]
    paths = git(bare, "ls-tree", "-r", "--name-only", "-z", "master").split("\0")
    assert "icf/visit_dicom.tar" in paths
    assert "study_visit/series_1/im001.dcm" in paths
    assert "study_visit/notes _ more.txt" in paths


def test_offsets_stand_in_the_urls(indexed: StorePath, tmp_path: Path) -> None:
    dataset(indexed, URL)
    bare = repository(indexed, tmp_path / "bare")
    urls = git(bare, "grep", "-h", "dl+archive", "git-annex").splitlines()
    data = indexed.tarball.read_bytes()
    assert len(urls) == 7
    for url in urls:
        fields = dict(part.split("=") for part in url.partition("#")[2].split("&"))
        offset, size = int(fields["offset"]), int(fields["size"])
        name = fields["path"].removeprefix("study_visit/")
        original = tmp_path / "incoming" / name.replace(" _ ", " & ")
        assert data[offset : offset + size] == original.read_bytes()


def test_the_time_is_the_newest_members(indexed: StorePath, tmp_path: Path) -> None:
    dataset(indexed, URL)
    bare = repository(indexed, tmp_path / "bare")
    for branch in ("master", "git-annex"):
        assert git(bare, "log", "-1", "--format=%at %ct %ad", "--date=iso", branch) == (
            "1709201472 1709201472 2024-02-29 10:11:12 +0000\n"
        )


def test_the_first_version_is_recorded(indexed: StorePath) -> None:
    deposited = dataset(indexed, URL, "https://catalog.example.org")
    (version,) = read_versions(indexed.versions_json)
    assert (version.n, version.store_url) == (1, URL)
    assert version.deposit_url == "https://catalog.example.org"
    assert version.commits == deposited.commits
    assert "catalog.example.org/study/visit_{{annex_key}}" in deposited.clone_url


def test_same_json_same_bytes(indexed: StorePath, tmp_path: Path, icf: Run) -> None:
    """Rebuilt elsewhere, in another zone, with another mask and hostile git settings."""
    dataset(indexed, URL)
    expected = [path.read_bytes() for path in indexed.files[-3:]]
    (Path(os.environ["HOME"]) / ".gitconfig").write_text(
        "[core]\n\tcompression = 9\n\tautocrlf = true\n[pack]\n\tdepth = 5\n\tindexVersion = 1\n"
        "[user]\n\tname = Someone\n[i18n]\n\tcommitEncoding = latin-1\n"
    )
    for turn, zone in enumerate(["Asia/Tokyo", "America/St_Johns"]):
        other = StorePath(tmp_path / f"other{turn}", indexed.visit)
        other.study.mkdir(parents=True)
        for path in (indexed.dicoms_json, indexed.tarball_json):
            (other.study / path.name).write_bytes(path.read_bytes())
        environment = {"TZ": zone, "PYTHONHASHSEED": str(turn), "GIT_AUTHOR_DATE": "2001-01-01"}
        mask = os.umask(0o077)
        try:
            done = icf("dataset", "study", "visit", "-o", other.root, "--store-url", URL + "/",
                       env=environment)  # fmt: skip
        finally:
            os.umask(mask)
        assert done.returncode == 0, done.stderr
        assert [path.read_bytes() for path in other.files[-3:]] == expected


def test_ids_depend_on_visit_and_content(tmp_path: Path, incoming: Path) -> None:
    ids = set()
    for visit in ("one", "two"):
        store = StorePath(tmp_path / "store", Visit("study", visit))
        build(incoming, store)
        index(store)
        dataset(store, URL)
        bare = repository(store, tmp_path / f"bare-{visit}")
        ids.add(git(bare, "show", "master:.datalad/config"))
    assert len(ids) == 2


def test_run_again_it_was_there(indexed: StorePath) -> None:
    first = dataset(indexed, URL)
    again = dataset(indexed, URL)
    assert (first.made, again.made) == (True, False)
    assert again.commits == first.commits


def test_what_a_killed_run_left_is_completed(indexed: StorePath) -> None:
    dataset(indexed, URL)
    expected = [path.read_bytes() for path in indexed.files[-3:]]
    for missing in ([-1], [-1, -2], [-1, -2, -3]):
        for number in missing:
            indexed.files[number].unlink()
        assert dataset(indexed, URL).made
        assert [path.read_bytes() for path in indexed.files[-3:]] == expected


def test_the_pair_is_enough(indexed: StorePath) -> None:
    """The metadata and the tarball may be removed once the dataset is deposited."""
    dataset(indexed, URL)
    for path in indexed.files[:4]:
        path.unlink()
    assert not dataset(indexed, URL).made


def test_a_pair_that_is_not_of_its_record(indexed: StorePath) -> None:
    dataset(indexed, URL)
    for path in (indexed.refs, indexed.repo_export):
        content = path.read_bytes()
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 1
        for broken in (b"", content[:-20], bytes(flipped)):
            path.write_bytes(broken)
            with pytest.raises(OtherDeposit, match="not of its record"):
                dataset(indexed, URL)
        path.write_bytes(content)
    assert not dataset(indexed, URL).made


def test_metadata_of_another_tarball_is_noticed(
    indexed: StorePath, incoming: Path, tmp_path: Path
) -> None:
    dataset(indexed, URL)
    for path in indexed.files[:4]:
        path.unlink()
    other = StorePath(tmp_path / "other", indexed.visit)
    dicoms.write(incoming / "more.dcm", dicoms.image(9, 9))
    build(incoming, other)
    index(other)
    for path in other.files[:4]:
        (indexed.study / path.name).write_bytes(path.read_bytes())
    with pytest.raises(OtherDeposit, match="a tarball that is not of its record"):
        dataset(indexed, URL)


def test_a_tarball_of_another_size_is_noticed(indexed: StorePath) -> None:
    dataset(indexed, URL)
    with indexed.tarball.open("r+b") as file:
        file.truncate(3000)
    with pytest.raises(OtherDeposit, match="a tarball that is not of its record"):
        dataset(indexed, URL)


def test_another_url_is_a_conflict(indexed: StorePath) -> None:
    dataset(indexed, URL)
    with pytest.raises(OtherDeposit, match="store URL"):
        dataset(indexed, "https://other.example.org")
    with pytest.raises(OtherDeposit, match="deposit URL"):
        dataset(indexed, URL, "https://other.example.org")


def test_a_deposit_of_other_tools_is_kept(indexed: StorePath) -> None:
    indexed.refs.write_text("theirs")
    indexed.repo_export.write_bytes(b"theirs")
    with pytest.raises(OtherDeposit, match="other tools"):
        dataset(indexed, URL)
    indexed.refs.unlink()
    with pytest.raises(OtherDeposit, match="another visit_XDLRA--repo-export"):
        dataset(indexed, URL)
    assert indexed.repo_export.read_bytes() == b"theirs"


def test_without_url_or_metadata(store: StorePath) -> None:
    with pytest.raises(NoUrl, match="--store-url"):
        dataset(store, None)
    with pytest.raises(NoMetadata):
        dataset(store, URL)


def test_urls_on_record_need_not_be_given_again(indexed: StorePath) -> None:
    dataset(indexed, URL, "https://catalog.example.org")
    again = dataset(indexed, None)
    assert not again.made
    assert "catalog.example.org" in again.clone_url
    assert not dataset(indexed, URL).made


@pytest.mark.parametrize(
    ("members", "clash"),
    [
        (["icf/visit_dicom.tar"], "icf/visit_dicom.tar"),
        ([".datalad/config"], ".datalad/config"),
        (["icf"], "icf"),
        (["a", "a/b"], "a"),
        ([".git/x", "_git/x"], "_git/x"),
    ],
)
def test_members_that_clash(store: StorePath, members: list[str], clash: str) -> None:
    put(store, *[(name, name.encode()) for name in members])
    index(store)
    with pytest.raises(PathClash, match=clash):
        dataset(store, URL)
    assert not store.refs.exists()
    assert not store.versions_json.exists()


def test_a_member_that_git_cannot_check_out_gets_another_name(
    store: StorePath, tmp_path: Path
) -> None:
    put(store, ("v/.git/config", b"x"), ("v/.gitmodules", b"y"))
    index(store)
    dataset(store, URL)
    bare = repository(store, tmp_path / "bare")
    paths = git(bare, "ls-tree", "-r", "--name-only", "master").split()
    assert {"v/_git/config", "v/_gitmodules"} < set(paths)
    assert "path=v/.git/config&" in git(bare, "grep", "-h", "dl+archive", "git-annex")


def test_metadata_values_are_escaped_as_git_annex_does() -> None:
    assert metadata_values({"b": ["x", "a"], "a": ["two words", "!bang"]}) == (
        "a +!IWJhbmc= +!dHdvIHdvcmRz b +a +x"
    )


def test_versions_that_cannot_be_read(store: StorePath) -> None:
    store.study.mkdir(parents=True)
    good = {"n": 1, "timestamp": 1, "store_url": "u", "deposit_url": "u", "commits": {}}
    good["tarball"] = {"size": 1, "md5": "x"}
    for text in (json.dumps([good]), "", "{}x", "{}", "[]", "[" * 5000, "[1]", '[{"n": 1}]'):
        store.versions_json.write_text(text)
        with pytest.raises(BadVersions):
            read_versions(store.versions_json)
    store.versions_json.unlink()
    assert read_versions(store.versions_json) == ()


def test_nothing_of_this_machine_gets_into_the_dataset(indexed: StorePath, tmp_path: Path) -> None:
    dataset(indexed, URL)
    bare = repository(indexed, tmp_path / "bare")
    text = git(bare, "log", "-p", "--all", "--pretty=fuller")
    for word in (str(tmp_path), os.uname().nodename, "Tester", "tester@example.org"):
        assert word not in text


def test_real_images(store: StorePath, test_data: Path, tmp_path: Path) -> None:
    build(test_data / "example-dicom-structural" / "dicoms", store)
    index(store)
    dataset(store, URL)
    bare = repository(store, tmp_path / "bare")
    assert len(git(bare, "ls-tree", "-r", "--name-only", "master").split()) == 96 + 4
    assert json.loads(store.versions_json.read_bytes())[0]["timestamp"] == 1374070500


def test_duplicate_content_is_one_key(store: StorePath, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name in ("a.dcm", "b.dcm"):
        dicoms.write(folder / name, dicoms.image())
    build(folder, store)
    index(store)
    dataset(store, URL)
    bare = repository(store, tmp_path / "bare")
    logs = git(bare, "ls-tree", "-r", "--name-only", "git-annex").split()
    (web,) = [name for name in logs if name.endswith(".log.web") and "dcm" in name]
    assert len(git(bare, "show", f"git-annex:{web}").splitlines()) == 2


def test_the_icf_remote_has_only_what_has_an_offset(store: StorePath, tmp_path: Path) -> None:
    """As where one of two equal members was indexed by the first tools."""
    folder = tmp_path / "in"
    for name in ("a.dcm", "b.dcm"):
        dicoms.write(folder / name, dicoms.image())
    build(folder, store)
    index(store)
    images = json.loads(store.dicoms_json.read_bytes())
    del images[1]["offset"]
    store.dicoms_json.write_text(json.dumps(images))
    dataset(store, URL)
    bare = repository(store, tmp_path / "bare")
    remotes = git(bare, "show", "git-annex:remote.log").splitlines()
    (icf,) = [line.split()[0] for line in remotes if "name=icf" in line]
    assert icf not in git(bare, "grep", "-h", "-e", "s 1 ", "git-annex", "--", "*.dcm.log")
