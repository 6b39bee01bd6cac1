"""A user's life with stock DataLad and git-annex; nothing of this package is on the path."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from icf_tools.model.visit import StorePath, Visit
from tests import dicoms
from tests.dataset.clients import ICF_REMOTE, PROGRAMS, Client, Clone, Deposit, deposit, fill, icf
from tests.servers import ShellServer, WebServer

pytestmark = pytest.mark.annex

AWKWARD = {
    "with blank/image 1.dcm": b"blanks",
    "with blank/ leading and trailing ": b"outer blanks",
    "Ünïcode/日本語 ß.dcm": b"composed",
    "Ünïcode/e\u0301 decomposed.dcm": b"decomposed",
    'quotes/it\'s "quoted".dcm': b"quotes",
    "100%.dcm": b"percent",
    "50%20off.dcm": b"percent encoded",
    "IM0001": b"no extension",
    ".hidden": b"leading dot",
    "...": b"dots alone",
    "..two.dots..dcm": b"many dots",
    "MR.1.2.840.113619.2.1": b"numbers for extensions",
    "a.b.c.d.IMA": b"many extensions",
    "scan.tar": b"looks like a tarball",
    "long.extension": b"an extension longer than four",
    "umlaut.äöü": b"an extension of more than ASCII",
    "copies/one.dcm": b"twice the same",
    "copies/two.dcm": b"twice the same",
    "copies/three.IMA": b"twice the same",
    "empty/nothing.dcm": b"",
    "empty/nothing": b"",
    "-f": b"looks like an option",
    "a=b+c;d,e.dcm": b"separators",
    "{brace}[b]*?.dcm": b"patterns",
    "$HOME `id` |<>!.dcm": b"shell",
    "colon:at@tilde~.dcm": b"remote",
}

CLAIMS_MEMBERS = """\
#!/bin/sh
echo VERSION 1
while read -r command first key rest; do
    case "$command" in
        INITREMOTE | PREPARE) echo "$command-SUCCESS" ;;
        CLAIMURL) echo CLAIMURL-FAILURE ;;
        CHECKPRESENT)
            echo "GETURLS $first dl+archive:"
            answer=CHECKPRESENT-FAILURE
            while read -r _ url && [ -n "$url" ]; do answer=CHECKPRESENT-SUCCESS; done
            echo "$answer $first" ;;
        TRANSFER) echo "TRANSFER-FAILURE $first $key it has nothing" ;;
        *) echo UNSUPPORTED-REQUEST ;;
    esac
done
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Deposit:
    """Two series of three images and a text file, on the disk."""
    folder = tmp_path_factory.mktemp("small")
    source = dicoms.visit(folder / "incoming")
    fill(source, {"notes.txt": b"not an image\n"})
    return deposit(folder / "store", source, f"file://{folder}/store")


@pytest.fixture(scope="module")
def fresh(small: Deposit, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone of it that no test changes."""
    folder = tmp_path_factory.mktemp("fresh")
    return Client.new(folder / "user").clone(small.clone_url, folder / "clone")


@pytest.fixture
def clone(fresh: Clone, tmp_path: Path) -> Clone:
    """A clone of it that the test may change."""
    copy = tmp_path / "clone"
    shutil.copytree(fresh.path, copy, symlinks=True)
    return Clone(fresh.client, copy)


def test_a_clone_has_every_path_and_no_content(small: Deposit, fresh: Clone) -> None:
    assert set(fresh.links) == {small.tarball, *small.expected}
    assert fresh.here == set()
    assert fresh.run("git", "status", "--porcelain") == ""


def test_one_file_comes_alone(small: Deposit, clone: Clone) -> None:
    path = "study_visit/series_1/im002.dcm"
    clone.get(path)
    assert clone.here - {small.tarball} == {path}
    assert (clone.path / path).read_bytes() == (small.source / "series_1/im002.dcm").read_bytes()


def test_a_folder_comes_without_its_neighbours(small: Deposit, clone: Clone) -> None:
    folder = "study_visit/series_2"
    clone.get(folder)
    inside = {path for path in small.expected if path.startswith(f"{folder}/")}
    assert len(inside) == 3
    assert clone.here - {small.tarball} == inside


@pytest.mark.oldest
def test_all_files_come_with_the_digests_of_the_source(small: Deposit, clone: Clone) -> None:
    clone.get(".")
    assert clone.content() == small.expected
    assert (clone.path / small.tarball).read_bytes() == small.store.tarball.read_bytes()
    clone.fsck()


def test_plain_git_annex_gets_too(small: Deposit, clone: Clone) -> None:
    clone.annex("get", "study_visit/series_1")
    assert len(clone.here - {small.tarball}) == 3


def test_fsck_finds_a_changed_byte(clone: Clone) -> None:
    path = clone.path / "study_visit/notes.txt"
    clone.get(path)
    content = path.resolve()
    content.chmod(0o644)
    content.write_bytes(b"not AN image\n")
    failed = clone.attempt("git", "annex", "fsck", "--json", path)
    assert not json.loads(failed.stdout)["success"]


def test_clients_do_without_the_icf_remote(small: Deposit, client: Client, tmp_path: Path) -> None:
    assert client.which(ICF_REMOTE) is None
    assert {client.which(program) for program in PROGRAMS} == {
        str(client.bin / program) for program in PROGRAMS
    }
    cloned = client.attempt("datalad", "clone", small.clone_url, tmp_path / "new", cwd=tmp_path)
    assert cloned.returncode == 0, cloned.stderr
    assert f"Cannot run {ICF_REMOTE}" in cloned.stderr
    assert "[WARNING]" not in cloned.stderr
    assert "[ERROR]" not in cloned.stderr
    clone = Clone(client, tmp_path / "new")
    assert "[from archivist...]" in clone.get("study_visit/series_1/im001.dcm")


def test_a_member_is_known_to_be_in_both_remotes(small: Deposit, fresh: Clone) -> None:
    for report in fresh.records("whereis"):
        trusted = [place["description"] for place in report["whereis"]]
        untrusted = [place["description"] for place in report["untrusted"]]
        if report["file"] == small.tarball:
            assert (trusted, untrusted) == (["[uncurl]"], [])
        else:
            assert (trusted, untrusted) == (["[archivist]"], ["icf"])


def test_the_url_of_the_tarball_is_below_the_store_url(small: Deposit, fresh: Clone) -> None:
    assert fresh.urls(small.tarball) == [f"{small.store_url}/study/visit_dicom.tar"]


def test_location_logs_name_archivist_and_icf(fresh: Clone) -> None:
    ids = remote_ids(fresh)
    key = fresh.annex("lookupkey", "study_visit/notes.txt").strip()
    listed = fresh.run("git", "ls-tree", "-r", "--name-only", "git-annex").splitlines()
    [log_file] = [path for path in listed if path.endswith(f"/{key}.log")]
    log = fresh.run("git", "show", f"git-annex:{log_file}")
    assert {line.split()[2] for line in log.splitlines()} == {ids["archivist"], ids["icf"]}
    assert {line.split()[1] for line in log.splitlines()} == {"1"}


def test_the_icf_remote_alone_is_untrusted(fresh: Clone) -> None:
    [report] = fresh.records("info", "--fast")
    names = {
        trust: {place["description"] for place in report[f"{trust} repositories"]}
        for trust in ("trusted", "semitrusted", "untrusted")
    }
    assert names["trusted"] == set()
    assert {"[archivist]", "[uncurl]"} < names["semitrusted"]
    assert names["untrusted"] == {"icf"}


def test_dropped_content_comes_again(small: Deposit, clone: Clone) -> None:
    clone.get(".")
    clone.annex("drop", "study_visit")
    assert clone.here == {small.tarball}
    clone.get("study_visit/series_1")
    clone.annex("drop", small.tarball)
    clone.get(".")
    assert clone.content() == small.expected
    clone.fsck()


def test_drop_does_not_count_the_icf_remote_as_a_copy(client: Client, tmp_path: Path) -> None:
    # one that is there and swears it has all members: only its being untrusted keeps the file
    source = fill(tmp_path / "incoming", {"notes.txt": b"text"})  # no image, so no date
    made = deposit(tmp_path / "store", source, f"file://{tmp_path}/store")
    client.program(ICF_REMOTE, CLAIMS_MEMBERS)
    clone = client.clone(made.clone_url, tmp_path / "clone")
    assert clone.run("git", "config", "remote.icf.annex-uuid").strip() == remote_ids(clone)["icf"]
    path = "study_visit/notes.txt"
    clone.get(path)
    clone.annex("drop", made.tarball)

    kept = made.store.tarball.rename(tmp_path / "kept.tar")
    assert clone.attempt("git", "annex", "drop", path).returncode != 0
    assert clone.here == {path}
    kept.rename(made.store.tarball)

    two_copies = ("git", "annex", "drop", "--numcopies=2", path)
    refused = clone.attempt(*two_copies)
    assert refused.returncode != 0
    assert "1 out of 2 necessary copies" in refused.stdout + refused.stderr
    assert clone.here == {path}
    clone.annex("semitrust", "icf")
    clone.run(*two_copies)
    assert clone.here == set()


def test_metadata_views_sort_the_images_into_folders(clone: Clone) -> None:
    clone.annex("view", "protocolname=*", "seriesnumber=*")
    assert folders(clone) == {"protocol 1/1": 3, "protocol 2/2": 3}
    clone.annex("vcycle")
    assert folders(clone) == {"1/protocol 1": 3, "2/protocol 2": 3}
    clone.annex("vfilter", "seriesnumber=2")
    assert folders(clone) == {"2/protocol 2": 3}
    clone.annex("vpop")
    assert folders(clone) == {"1/protocol 1": 3, "2/protocol 2": 3}
    clone.annex("vpop", "2")
    assert folders(clone) == {
        "icf": 1,
        "study_visit": 1,
        "study_visit/series_1": 3,
        "study_visit/series_2": 3,
    }


def test_a_view_gives_content(small: Deposit, clone: Clone) -> None:
    clone.annex("view", "seriesnumber=2")
    clone.get(".")
    assert {path.read_bytes() for path in clone.path.glob("*.dcm")} == {
        path.read_bytes() for path in (small.source / "series_2").iterdir()
    }


def test_files_are_found_by_their_metadata(clone: Clone) -> None:
    found = clone.annex("find", "--anything", "--metadata", "echotime=2.5", "study_visit")
    assert len(found.splitlines()) == 6
    values = clone.annex("metadata", "--get", "imagetype", "study_visit/series_1/im001.dcm")
    assert values.splitlines() == ["ORIGINAL", "PRIMARY"]


def test_an_update_of_an_unchanged_deposit_downloads_nothing(
    small: Deposit, client: Client, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(small.store.root, store)
    here = Deposit(small.store, small.source, f"file://{store}")
    clone = client.clone(here.clone_url, tmp_path / "clone")
    head = clone.run("git", "rev-parse", "HEAD", "git-annex")
    (store / "study/visit_XDLRA--repo-export").unlink()
    updated = clone.attempt("datalad", "update", "--how", "merge")
    assert updated.returncode == 0, updated.stderr
    assert "[WARNING]" not in updated.stderr
    assert "[ERROR]" not in updated.stderr
    assert clone.run("git", "rev-parse", "HEAD", "git-annex") == head


def test_the_refs_are_what_the_remote_helper_makes_of_its_mirror(
    small: Deposit, fresh: Clone
) -> None:
    mirror = fresh.path / ".git/dl-repoannex/origin/mirrorrepo"
    listed = fresh.client.run(
        "git", "for-each-ref", "--format=%(objectname) %(refname)", cwd=mirror
    )
    head = fresh.client.run("git", "symbolic-ref", "HEAD", cwd=mirror)
    assert small.store.refs.read_text() == f"{listed}@{head.strip()} HEAD\n"


def test_a_rule_makes_short_urls(small: Deposit, client: Client, tmp_path: Path) -> None:
    rule = (
        r",^icf://([^/]+)/(.*)$,datalad-annex::?type=external&externaltype=uncurl&encryption=none"
        rf"&url={small.store_url}/\1/\2_{{{{annex_key}}}}"
    )
    client.run("git", "config", "--global", "datalad.clone.url-substitute.icf", rule, cwd=tmp_path)
    client.run("datalad", "clone", "icf://study/visit", cwd=tmp_path)
    clone = Clone(client, tmp_path / "visit")
    assert clone.run("git", "config", "remote.origin.url").strip() == small.clone_url
    clone.get(".")
    clone.fsck()


@pytest.mark.oldest
def test_awkward_names_come_through(client: Client, tmp_path: Path) -> None:
    source = fill(dicoms.visit(tmp_path / "incoming", images=1), AWKWARD)
    dicoms.write(source / "Bild (ä) 'x'.dcm", dicoms.image(3, 1, ProtocolName="Größe 100% & mehr"))
    store = tmp_path / "my störe"
    url = f"file://{tmp_path}/my%20st%C3%B6re"
    made = deposit(store, source, url)
    clone = client.clone(made.clone_url, tmp_path / "my clone")
    clone.get(".")
    assert clone.content() == made.expected
    clone.fsck()
    [path] = clone.annex("find", "--metadata", "protocolname=Größe 100% & mehr").splitlines()
    assert path == "study_visit/Bild (ä) 'x'.dcm"
    clone.annex("drop", "study_visit")
    clone.get("study_visit/-f", "study_visit/empty")
    assert clone.here - {made.tarball} == {
        "study_visit/-f",
        "study_visit/empty/nothing",
        "study_visit/empty/nothing.dcm",
    }


def test_metadata_of_the_first_tools_gives_a_dataset(client: Client, tmp_path: Path) -> None:
    store_dir = tmp_path / "store"
    source = dicoms.visit(tmp_path / "incoming")
    url = f"file://{store_dir}"
    made = Deposit(deposit(store_dir, source, url).store, source, url)
    as_the_first_tools(made)
    icf("dataset", "study", "visit", store_dir=store_dir, store_url=url)
    clone = client.clone(made.clone_url, tmp_path / "clone")
    assert set(remote_ids(clone)) == {"uncurl", "archivist", "icf"}
    for report in clone.records("whereis"):
        assert report["untrusted"] == []
        [place] = report["whereis"]
        name = "[uncurl]" if report["file"] == made.tarball else "[archivist]"
        assert place["description"] == name
        assert not any("offset" in url for url in place["urls"])
    clone.get(".")
    assert clone.content() == made.expected
    clone.fsck()
    clone.annex("view", "protocolname=*", "seriesnumber=*")
    assert folders(clone) == {"protocol 1/1": 3, "protocol 2/2": 3}


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_tarballs_made_elsewhere_are_served(
    form: str, client: Client, tmp_path: Path, require: Callable[[str], str]
) -> None:
    long = "a series with a long name " * 6
    source = dicoms.visit(tmp_path / "in/other")
    files = {"notes.txt": b"text", "empty": b"", f"deep/{long}/{long}.dcm": b"long"}
    fill(source, {**files, "ümläut/ß.dcm": b"not ASCII"})
    store_dir = tmp_path / "store"
    packed = packed_elsewhere(require("tar"), store_dir, f"--format={form}", tmp_path / "in")
    url = f"file://{store_dir}"
    said = icf("index", "study", "visit", "--json", store_dir=store_dir)
    assert json.loads(said)["problems"] == []
    icf("dataset", "study", "visit", store_dir=store_dir, store_url=url)
    made = Deposit(packed, source, url)
    clone = client.clone(made.clone_url, tmp_path / "clone")
    clone.get(".")
    expected = {
        path.replace("study_visit/", "other/", 1): digest for path, digest in made.expected.items()
    }
    assert clone.content() == expected
    clone.fsck()


def test_names_that_git_refuses_are_checked_out_under_others(
    client: Client, tmp_path: Path, require: Callable[[str], str]
) -> None:
    refused = (".git/config", ".gitmodules", "sub/.GIT/hooks/post-checkout")
    unreachable = ("a#b.dcm", "a&b.dcm", os.fsdecode(b"Gr\xf6\xdfe.dcm"))
    names = ("fine.dcm", *refused, *unreachable)
    source = fill(tmp_path / "in/other", {name: os.fsencode(name) for name in names})
    store_dir = tmp_path / "store"
    store = packed_elsewhere(require("tar"), store_dir, "--format=gnu", source.parent)
    said = json.loads(icf("index", "study", "visit", "--json", store_dir=store_dir))
    problems = {problem["path"]: problem["reason"] for problem in said["problems"]}
    assert set(problems) == {f"other/{name}" for name in names[1:]}
    assert all("cannot check out" in problems[f"other/{name}"] for name in refused)
    assert all("cannot get it" in problems[f"other/{name}"] for name in unreachable)
    url = f"file://{store_dir}"
    icf("dataset", "study", "visit", store_dir=store_dir, store_url=url)
    clone = client.clone(Deposit(store, source, url).clone_url, tmp_path / "clone")
    assert clone.run("git", "status", "--porcelain") == ""
    reachable = {
        "other/_git/config": ".git/config",
        "other/_gitmodules": ".gitmodules",
        "other/sub/_GIT/hooks/post-checkout": "sub/.GIT/hooks/post-checkout",
        "other/fine.dcm": "fine.dcm",
    }
    unreachable_paths = {f"other/{name}" for name in unreachable}
    assert set(clone.links) == {"icf/visit_dicom.tar", *unreachable_paths, *reachable}
    clone.get(*reachable)
    for path, name in reachable.items():
        assert (clone.path / path).read_text() == name


def test_members_below_a_dot_are_reported_and_the_rest_is_served(
    client: Client, tmp_path: Path, require: Callable[[str], str]
) -> None:
    source = fill(tmp_path / "in", {"dotted/a.dcm": b"dotted", "plain/b.dcm": b"plain"})
    store_dir = tmp_path / "store"
    store = packed_elsewhere(require("tar"), store_dir, "--format=gnu", source, "./dotted", "plain")
    said = json.loads(icf("index", "study", "visit", "--json", store_dir=store_dir))
    assert [problem["path"] for problem in said["problems"]] == ["dotted/a.dcm"]
    url = f"file://{store_dir}"
    icf("dataset", "study", "visit", store_dir=store_dir, store_url=url)
    clone = client.clone(Deposit(store, source, url).clone_url, tmp_path / "clone")
    assert set(clone.links) == {"icf/visit_dicom.tar", "dotted/a.dcm", "plain/b.dcm"}
    clone.get("plain")
    assert (clone.path / "plain/b.dcm").read_bytes() == b"plain"
    assert clone.attempt("datalad", "get", "dotted").returncode != 0


def test_one_credential_serves_clone_and_get_over_http(
    web: WebServer, client: Client, tmp_path: Path
) -> None:
    made = deposit(web.root, dicoms.visit(tmp_path / "incoming"), web.url)
    web.allow("study", "erika", "s3cret")
    client.set_credential("icf", web.realm("study"), "erika", "s3cret")
    clone = client.clone(made.clone_url, tmp_path / "clone")
    clone.get(".")
    assert clone.content() == made.expected
    clone.fsck()
    tarball = "/study/visit_dicom.tar"
    assert clone.urls(made.tarball) == [web.url + tarball]
    assert ("erika", tarball, "200") in web.served()
    before = len(web.served())
    clone.run("datalad", "update", "--how", "merge")
    asked = {path for _, path, _ in web.served()[before:]}
    assert asked == {"/study/visit_XDLRA--refs"}


def test_a_wrong_password_brings_no_data(web: WebServer, client: Client, tmp_path: Path) -> None:
    made = deposit(web.root, fill(tmp_path / "incoming", {"notes.txt": b"text"}), web.url)
    web.allow("study", "erika", "s3cret")
    client.set_credential("icf", web.realm("study"), "erika", "wrong")
    refused = client.attempt("datalad", "clone", made.clone_url, tmp_path / "no", cwd=tmp_path)
    assert refused.returncode != 0
    assert not (tmp_path / "no").exists()
    assert {status for _, _, status in web.served()} == {"401"}
    client.set_credential("icf", web.realm("study"), "erika", "s3cret")
    clone = client.clone(made.clone_url, tmp_path / "clone")
    client.set_credential("icf", web.realm("study"), "erika", "wrong")
    before = len(web.served())
    assert clone.attempt("datalad", "get", made.tarball).returncode != 0
    assert clone.here == set()
    assert {status for _, _, status in web.served()[before:]} == {"401"}


def test_a_credential_opens_its_study_alone(web: WebServer, client: Client, tmp_path: Path) -> None:
    source = fill(tmp_path / "incoming", {"notes.txt": b"text"})
    first, second = (deposit(web.root, source, web.url, f"{name}/visit") for name in ("a", "b"))
    web.allow("a", "erika", "s3cret")
    web.allow("b", "erika", "s3cret")
    client.set_credential("icf", web.realm("a"), "erika", "s3cret")
    client.clone(first.clone_url, tmp_path / "a")
    refused = client.attempt("datalad", "clone", second.clone_url, tmp_path / "b", cwd=tmp_path)
    assert refused.returncode != 0
    assert {status for _, path, status in web.served() if path.startswith("/b/")} == {"401"}


def test_clone_and_get_work_over_ssh(shell: ShellServer, client: Client, tmp_path: Path) -> None:
    store_dir = tmp_path / "store"
    url = f"{shell.url}{store_dir}"
    made = deposit(store_dir, dicoms.visit(tmp_path / "incoming"), url)
    shell.introduce(client)
    refused = client.attempt("datalad", "clone", made.clone_url, tmp_path / "no", cwd=tmp_path)
    assert refused.returncode != 0
    shell.let_in(client)
    clone = client.clone(made.clone_url, tmp_path / "clone")
    clone.get(".")
    assert clone.content() == made.expected
    clone.fsck()
    assert clone.urls(made.tarball) == [f"{url}/study/visit_dicom.tar"]


def remote_ids(clone: Clone) -> dict[str, str]:
    """UUID by name, as the branch git-annex has them."""
    log = clone.run("git", "show", "git-annex:remote.log")
    return {name: uuid for uuid, name in re.findall(r"^(\S+) .*\bname=(\S+)", log, re.MULTILINE)}


def folders(clone: Clone) -> dict[str, int]:
    """How many links each folder of the work tree holds."""
    found: dict[str, int] = {}
    for path in clone.path.rglob("*"):
        parts = path.relative_to(clone.path).parts
        if path.is_symlink() and parts[0] != ".git":
            folder = "/".join(parts[:-1])
            found[folder] = found.get(folder, 0) + 1
    return found


def as_the_first_tools(made: Deposit) -> None:
    """Cut the metadata down to what they wrote, and take the deposit away."""
    store = made.store
    for path in (store.versions_json, store.refs, store.repo_export):
        path.unlink()
    facts = json.loads(store.tarball_json.read_text())
    tags = ("SeriesDescription", "SeriesNumber", "Modality", "MRAcquisitionType")
    keys = ("path", "md5", "size", *tags, "ProtocolName", "PulseSequenceName")
    images = []
    for image in json.loads(store.dicoms_json.read_text()):
        whole = facts["series"][image["SeriesInstanceUID"]] | image
        images.append({key: whole[key] for key in keys})
        images[-1]["ProtocolName"] += " "  # padding stays out of the dataset
    store.dicoms_json.write_text(json.dumps(images))
    kept = {key: facts[key] for key in ("size", "md5", "dspath", "storepath")}
    store.tarball_json.write_text(json.dumps(kept))


def packed_elsewhere(tar: str, root: Path, form: str, folder: Path, *members: str) -> StorePath:
    """The store with a tarball of the folder that GNU tar made."""
    store = StorePath(root, Visit("study", "visit"))
    store.study.mkdir(parents=True)
    subprocess.run(
        [tar, form, "-cf", store.tarball, "-C", folder, *(members or sorted(os.listdir(folder)))],
        check=True,
    )
    return store


def test_the_printed_command_clones_from_an_awkward_folder(client: Client, tmp_path: Path) -> None:
    root = tmp_path / "st#re it's 50% & ä"
    source = fill(tmp_path / "incoming", {"notes.txt": b"text"})
    said = icf("add", "study", "visit", source, store_dir=root, store_url=root.as_uri())
    command = said.partition("clone it with: ")[2].strip()
    client.run("sh", "-c", command, cwd=client.home)
    clone = Clone(client, client.home / "visit")
    clone.get(".")
    clone.fsck()
