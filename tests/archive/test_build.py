"""The tarball: same files, same bytes; and what is refused."""

import hashlib
import os
import random
import shutil
import socket
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from icf_tools.archive import collect as module
from icf_tools.archive.build import DamagedInStore, InputChanged, OtherInput, build
from icf_tools.archive.collect import (
    EmptyInput,
    HoldsStore,
    LeavesInput,
    LinkedTwice,
    LinkLoop,
    MissingInput,
    NotAFile,
    collect,
)
from icf_tools.archive.privacy import HoldsIdentity
from icf_tools.errors import IcfError
from icf_tools.model.dicom import RECORDED
from icf_tools.model.names import ORIGINAL
from icf_tools.model.visit import StorePath, Visit
from icf_tools.pipeline import add
from icf_tools.store.deposit import BadRecord
from tests import dicoms
from tests.conftest import Run, missing, peak_memory


def members(store: StorePath) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(store.tarball) as tar:
        return {member.name: member for member in tar}


def content(store: StorePath, name: str) -> bytes:
    with tarfile.open(store.tarball) as tar:
        file = tar.extractfile(name)
        assert file is not None
        return file.read()


def test_a_folder_becomes_a_tarball(store: StorePath, incoming: Path) -> None:
    (incoming / "series_1" / "notes.txt").write_text("hello")
    built = build(incoming, store)
    found = members(store)
    assert list(found) == sorted(found, key=str.encode)
    assert "study_visit/series_1/notes.txt" in found
    assert (
        content(store, "study_visit/series_2/im003.dcm")
        == (incoming / "series_2" / "im003.dcm").read_bytes()
    )
    for member in found.values():
        assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "root", "root")
        assert (member.mode, member.isreg()) == (0o644, True)
    assert built.members == len(found) == 7
    assert built.size == store.tarball.stat().st_size
    assert built.size % tarfile.RECORDSIZE == 0
    digest = hashlib.md5(store.tarball.read_bytes()).hexdigest()
    assert built.md5 == digest
    assert store.md5sum.read_text() == f"{digest}  visit_dicom.tar\n"
    check = ["md5sum", "-c", store.md5sum.name]
    assert subprocess.run(check, cwd=store.study, capture_output=True).returncode == 0


def test_the_bytes_never_change(store: StorePath, tmp_path: Path) -> None:
    """A changed digest is a new archive format: every tarball in use would conflict."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for name in ("plain.txt", "sub/größe.txt", f"sub/{'long' * 40}.txt", "a&b.txt", "empty"):
        (folder / name).write_bytes(b"" if name == "empty" else name.encode())
    image = dicoms.image()
    header = b"".join(
        [bytes(128), b"DICM", b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\x00"]
        + [b"\x08\x00\x20\x00DA\x08\x0020240229", b"\x08\x00\x30\x00TM\x06\x00101112"]
    )
    assert image.StudyDate == "20240229"
    (folder / "im.dcm").write_bytes(header)
    assert build(folder, store).md5 == "1f5f0ec056f5dfc039b53feda90dd563"


@pytest.mark.filterwarnings("ignore:Invalid value")
def test_times_come_from_the_images(store: StorePath, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    dicoms.write(folder / "study", dicoms.image())
    dicoms.write(folder / "series", dicoms.image(StudyDate=None, SeriesDate="20230102"))
    dicoms.write(
        folder / "acquisition",
        dicoms.image(StudyDate="", AcquisitionDate="20220102", AcquisitionTime="030405"),
    )
    dicoms.write(
        folder / "content",
        dicoms.image(StudyDate="20201350", ContentDate="20210102", ContentTime="2359"),
    )
    dicoms.write(folder / "never", dicoms.image(StudyDate=None))
    dicoms.write(folder / "before", dicoms.image(StudyDate="19600101"))
    (folder / "text").write_text("not an image")
    os.utime(folder / "text", (1, 1))
    build(folder, store)
    times = {
        name.removeprefix("study_visit/"): time.strftime("%Y%m%d%H%M%S", time.gmtime(m.mtime))
        for name, m in members(store).items()
    }
    assert times == {
        "study": "20240229101112",
        "series": "20230102000000",
        "acquisition": "20220102030405",
        "content": "20210102235900",
        "never": "20240229101112",
        "before": "19700101000000",
        "text": "20240229101112",
    }
    assert store.tarball.stat().st_mtime == members(store)["study_visit/study"].mtime


def test_the_latest_time_is_what_ustar_holds(store: StorePath, tmp_path: Path) -> None:
    dicoms.write(tmp_path / "in" / "image", dicoms.image(StudyDate="99991231"))
    build(tmp_path / "in", store)
    assert [member.mtime for member in members(store).values()] == [0o77777777777]


def test_without_any_date_it_is_1970(store: StorePath, tmp_path: Path) -> None:
    dicoms.write(tmp_path / "in" / "image", dicoms.image(StudyDate=None))
    build(tmp_path / "in", store)
    assert [member.mtime for member in members(store).values()] == [0]


@pytest.mark.parametrize("dated", [True, False])
def test_same_bytes_anywhere(tmp_path: Path, icf: Run, dated: bool) -> None:
    """Five time zones, two umasks, shuffled folders, other file times, other locales."""
    zones = ["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Kiritimati", "Asia/Kathmandu"]
    names = [f"s{n % 3}/größe {n}.dcm" for n in range(12)]
    digests = set()
    for turn, zone in enumerate(zones):
        random.Random(turn).shuffle(names)
        folder = tmp_path / f"in{turn}"
        for name in names:
            number = int(name.split()[1].removesuffix(".dcm"))
            date = "20240229" if dated else None
            path = dicoms.write(folder / name, dicoms.image(1, number, StudyDate=date))
            os.utime(path, (turn * 1e6, turn * 1e8))
        locale = ["C", "C.UTF-8", "POSIX"][turn % 3]
        environment = {"TZ": zone, "LC_ALL": locale, "PYTHONHASHSEED": str(turn)}
        mask = os.umask(0o077 if turn % 2 else 0o002)
        try:
            store = tmp_path / f"store{turn}"
            done = icf("archive", "study", "visit", folder, "-o", store, env=environment)
        finally:
            os.umask(mask)
        assert done.returncode == 0, done.stderr
        digests.add(hashlib.md5((store / "study/visit_dicom.tar").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_names_are_replaced_and_the_original_is_kept(store: StorePath, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / "in")
    for name in (b"a#b.dcm", b"a_b.dcm", b".git/config", b"caf\xe9", "größe".encode()):
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(name)
    built = build(tmp_path / "in", store)
    originals = {
        name: member.pax_headers.get("comment", "").removeprefix(ORIGINAL)
        for name, member in members(store).items()
    }
    replaced = next(name for name in originals if "a_b-" in name)
    assert originals == {
        "study_visit/_git/config": ".git/config",
        "study_visit/a_b.dcm": "",
        replaced: "a#b.dcm",
        "study_visit/caf_": r"caf\xe9",
        "study_visit/größe": "",
    }
    assert built.renamed == 3
    assert content(store, replaced) == b"a#b.dcm"


@pytest.mark.parametrize("program", ["tar", "bsdtar"])
def test_other_tars_read_it(store: StorePath, tmp_path: Path, program: str) -> None:
    if shutil.which(program) is None:
        missing(program)
    folder = tmp_path / "in"
    names = ["größe.txt", f"{'d' * 90}/{'f' * 90}.txt", "a&b", " space ", "%41"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    build(folder, store)
    out = tmp_path / "out"
    out.mkdir()
    done = subprocess.run([program, "xf", store.tarball], cwd=out, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for name in names:
        assert (out / "study_visit" / name.replace("&", "_")).read_text() == name


def test_links_within_the_folder_are_followed(store: StorePath, incoming: Path) -> None:
    (incoming / "again.dcm").symlink_to("series_1/im001.dcm")
    (incoming / "more").symlink_to("series_2")
    build(incoming, store)
    assert members(store)["study_visit/again.dcm"].isreg()
    assert (
        content(store, "study_visit/more/im002.dcm")
        == (incoming / "series_2/im002.dcm").read_bytes()
    )


def refusal(folder: Path, store: StorePath) -> IcfError:
    with pytest.raises(IcfError) as caught:
        build(folder, store)
    assert not store.root.exists(), "something was written"
    return caught.value


def test_missing_and_empty_input(store: StorePath, tmp_path: Path) -> None:
    assert isinstance(refusal(tmp_path / "nowhere", store), MissingInput)
    (tmp_path / "file").write_text("x")
    assert isinstance(refusal(tmp_path / "file", store), MissingInput)
    (tmp_path / "in" / "empty").mkdir(parents=True)
    assert isinstance(refusal(tmp_path / "in", store), EmptyInput)


def test_input_that_holds_the_store(tmp_path: Path, incoming: Path) -> None:
    within = StorePath(incoming / "store", Visit("study", "visit"))
    assert isinstance(refusal(incoming, within), HoldsStore)
    itself = StorePath(incoming, Visit("study", "visit"))
    with pytest.raises(HoldsStore):
        build(incoming, itself)


def test_links_that_leave(store: StorePath, incoming: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    link = incoming / "series_1" / "link"
    for target in ("../../secret", str(tmp_path / "secret"), "nowhere", str(tmp_path)):
        link.symlink_to(target)
        assert isinstance(refusal(incoming, store), LeavesInput)
        link.unlink()
    link.symlink_to("..")
    assert isinstance(refusal(incoming, store), LinkLoop)
    link.unlink()
    link.symlink_to(link.name)
    assert isinstance(refusal(incoming, store), LeavesInput)


def test_links_do_not_multiply_what_is_packed(store: StorePath, incoming: Path) -> None:
    for name in ("one", "two"):
        (incoming / name).symlink_to("series_1")
    assert isinstance(refusal(incoming, store), LinkedTwice)


def test_devices_and_sockets(
    store: StorePath, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(incoming / "pipe")
    error = refusal(incoming, store)
    assert isinstance(error, NotAFile)
    assert "named pipe" in str(error)
    (incoming / "pipe").unlink()
    monkeypatch.chdir(incoming)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert "socket" in str(refusal(incoming, store))


def test_identity_in_a_path(store: StorePath, incoming: Path) -> None:
    (incoming / "series_1").rename(incoming / "Mustermann")
    error = refusal(incoming, store)
    assert isinstance(error, HoldsIdentity)
    assert "3 of 6 files" in str(error)
    assert "***/im001.dcm" in str(error)
    for secret in ("Mustermann", "Erika", "4711", "1964"):
        assert secret.casefold() not in str(error).casefold()
    assert build(incoming, store, allow_identifying=True).members == 6


def test_identity_in_a_description(store: StorePath, incoming: Path) -> None:
    dicoms.write(incoming / "x", dicoms.image(3, 1, ProtocolName="head 19640812"))
    error = refusal(incoming, store)
    assert "where others would read it, the first in the ProtocolName of x; " in str(error)
    assert "write deny: [ProtocolName] into study.yaml" in str(error)
    assert "1964" not in str(error)


def test_identity_in_an_identifier(tmp_path: Path, incoming: Path) -> None:
    error = refusal(incoming, StorePath(tmp_path / "s", Visit("study", "mustermann1")))
    assert isinstance(error, HoldsIdentity)
    assert "the first in the study or visit identifier" in str(error)
    pseudonym = StorePath(tmp_path / "s", Visit("study", "ID4711"))
    assert build(incoming, pseudonym).members == 6


def test_run_again_completes_and_other_input_is_a_conflict(
    store: StorePath, incoming: Path
) -> None:
    first = build(incoming, store)
    store.md5sum.unlink()
    again = build(incoming, store)
    assert (first.made, again.made) == (True, False)
    assert store.md5sum.read_text().startswith(first.md5)
    dicoms.write(incoming / "more.dcm", dicoms.image(9, 9))
    before = store.tarball.read_bytes()
    with pytest.raises(OtherInput):
        build(incoming, store)
    store.md5sum.unlink()
    with pytest.raises(OtherInput):
        build(incoming, store)
    assert store.tarball.read_bytes() == before
    assert not store.md5sum.exists()


def test_a_damaged_tarball_is_noticed(store: StorePath, incoming: Path) -> None:
    build(incoming, store)
    with store.tarball.open("r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    with pytest.raises(DamagedInStore, match="take the file from a copy"):
        build(incoming, store)


def test_a_removed_tarball_is_not_replaced_by_another(store: StorePath, incoming: Path) -> None:
    build(incoming, store)
    store.tarball.unlink()
    dicoms.write(incoming / "more.dcm", dicoms.image(9, 9))
    with pytest.raises(OtherInput):
        build(incoming, store)
    assert not store.tarball.exists()


def test_a_tarball_of_a_deposited_visit_is_not_replaced_by_another(
    store: StorePath, incoming: Path
) -> None:
    add(incoming, store, store_url="file:///x", tags=RECORDED)
    for path in store.files[:4]:
        path.unlink()
    dicoms.write(incoming / "more.dcm", dicoms.image(9, 9))
    with pytest.raises(OtherInput):
        build(incoming, store)
    assert not store.tarball.exists()


def test_a_broken_md5sum_is_named(store: StorePath, incoming: Path) -> None:
    build(incoming, store)
    for content in (b"", b"nonsense", b"\xff" * 40):
        store.md5sum.write_bytes(content)
        with pytest.raises(BadRecord, match=r"visit_dicom\.tar\.md5sum does not give the MD5"):
            build(incoming, store)


def test_input_that_changes_meanwhile(store: StorePath, incoming: Path) -> None:
    path = incoming / "series_2" / "im003.dcm"
    for change in (b"longer than before" * 100, b"short"):
        original = path.read_bytes()

        def meanwhile(what: str, done: int, total: int, change: bytes = change) -> None:
            if (what, done) == ("pack", 2):
                path.write_bytes(change)

        with pytest.raises(InputChanged):
            build(incoming, store, progress=meanwhile)
        assert sorted(p.name for p in store.study.iterdir()) == [".visit.lock"]
        path.write_bytes(original)


def test_an_unreadable_header_is_kept_and_reported(store: StorePath, incoming: Path) -> None:
    broken = incoming / "series_1" / "im001.dcm"
    broken.write_bytes(broken.read_bytes()[:400])
    built = build(incoming, store)
    assert built.unreadable == ("study_visit/series_1/im001.dcm",)
    assert built.members == 6


def test_real_images(store: StorePath, test_data: Path) -> None:
    folder = test_data / "example-dicom-structural" / "dicoms"
    assert build(folder, store).members == 96
    assert {m.mtime for m in members(store).values()} == {1374070500}


def test_memory_does_not_grow_with_the_visit(tmp_path: Path) -> None:
    """One sparse file of 300 MB is packed in far less memory."""
    folder = tmp_path / "in"
    folder.mkdir()
    with (folder / "big").open("wb") as file:
        file.truncate(300 << 20)
    script = (
        "import sys; from pathlib import Path;"
        "from icf_tools.archive.build import build; from icf_tools.model.visit import *;"
        "build(Path(sys.argv[1]), StorePath(Path(sys.argv[2]), Visit('s', 'v')))"
    )
    assert peak_memory(script, folder, tmp_path / "store") < 80 << 20


def test_collect_reports_progress(store: StorePath, incoming: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    collect(incoming, store, RECORDED, progress=lambda *args: seen.append(args))
    assert seen[0] == ("read headers", 0, 6)
    assert len(seen) == 6


def test_identity_of_an_image_that_cannot_be_parsed(store: StorePath, tmp_path: Path) -> None:
    path = dicoms.write(tmp_path / "in" / "Mustermann" / "1.dcm", dicoms.image())
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"ID4711") + 20])
    error = refusal(tmp_path / "in", store)
    assert isinstance(error, HoldsIdentity)
    assert str(error).startswith("1 of 1 files hold the PatientName")


def test_identity_behind_a_zero(store: StorePath, tmp_path: Path) -> None:
    image = dicoms.image(PatientName="Mustermann^Erika\0X")
    dicoms.write(tmp_path / "in" / "Mustermann" / "1.dcm", image)
    assert isinstance(refusal(tmp_path / "in", store), HoldsIdentity)


def test_identity_of_a_file_with_a_large_element(
    store: StorePath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an encapsulated PDF has it, before where enhanced images keep what they share."""
    monkeypatch.setattr(module, "_LARGEST_WINDOW", 1 << 16)
    image = dicoms.image(EncapsulatedDocument=bytes(1 << 18), PixelData=None)
    dicoms.write(tmp_path / "in" / "Mustermann" / "1.dcm", image)
    assert isinstance(refusal(tmp_path / "in", store), HoldsIdentity)
    assert build(tmp_path / "in", store, allow_identifying=True).images == 1


def test_identity_in_a_latin_1_path(store: StorePath, incoming: Path) -> None:
    name = "M\xfcller.dcm".encode("latin-1")
    image = dicoms.image(9, 9, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jürgen")
    dicoms.write(incoming / "x", image).rename(os.fsdecode(os.path.join(bytes(incoming), name)))
    error = refusal(incoming, store)
    assert "PatientName" in str(error)
    assert "ller" not in str(error)


def test_a_birth_date_that_is_the_date_of_the_study(store: StorePath, tmp_path: Path) -> None:
    image = dicoms.image(PatientBirthDate="20240229")
    dicoms.write(tmp_path / "in" / "20240229" / "x", image)
    assert build(tmp_path / "in", store).members == 1


def test_identity_in_the_path_of_a_report(store: StorePath, incoming: Path) -> None:
    (incoming / "report_mustermann.pdf").write_bytes(b"%PDF")
    error = refusal(incoming, store)
    assert isinstance(error, HoldsIdentity)
    assert "1 of 7 files" in str(error)
    assert "mustermann" not in str(error)
