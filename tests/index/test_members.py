"""Tarballs made elsewhere, whole and broken, against tarfile."""

import gzip
import io
import random
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from icf_tools.index.members import DamagedTarball, Member, MemberReader


def read(path: Path) -> Iterator[tuple[Member, bytes]]:
    with path.open("rb", buffering=0) as file:
        seen = io.BytesIO()
        reader = MemberReader(file, seen.write)
        for member in reader:
            yield member, b"".join(reader.content())
        assert seen.getvalue() == path.read_bytes()


def tarball(path: Path, *members: tuple[str, bytes], format: int = tarfile.PAX_FORMAT) -> Path:  # noqa: A002
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mtime = 1_700_000_000
            tar.addfile(info, io.BytesIO(content))
    return path


NAMES = ["a", "größe", "d/" * 60 + "deep", "x" * 150, "sp ace", "%41", "y" * 99, "p/" * 120 + "q"]


@pytest.mark.parametrize("format_", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_it_reads_what_tarfile_reads(tmp_path: Path, format_: int) -> None:
    contents = [(name, random.Random(n).randbytes(n * 400)) for n, name in enumerate(NAMES)]
    path = tarball(tmp_path / "x.tar", *contents, format=format_)
    found = list(read(path))
    assert [(member.path, content) for member, content in found] == contents
    whole = path.read_bytes()
    for member, content in found:
        assert whole[member.offset : member.offset + member.size] == content
        assert member.mtime == 1_700_000_000


@pytest.mark.parametrize("format_", ["gnu", "pax", "ustar", "v7", "oldgnu", "posix"])
def test_it_reads_what_gnu_tar_writes(tmp_path: Path, format_: str) -> None:
    folder = tmp_path / "visit"
    short = format_ in ("v7", "ustar")
    for name in ["a.dcm", "sub/b c.dcm", *([] if short else [f"{'l' * 120}/{'m' * 120}"])]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    command = ["tar", f"--format={format_}", "-cf", "x.tar", "visit"]
    subprocess.run(command, check=True, cwd=tmp_path)
    with tarfile.open(tmp_path / "x.tar") as tar:
        expected = {m.name: (m.size, m.offset_data, int(m.mtime)) for m in tar if m.isfile()}
    found = {m.path: (m.size, m.offset, m.mtime) for m, _ in read(tmp_path / "x.tar")}
    assert found == expected


def test_large_members_come_in_pieces(tmp_path: Path) -> None:
    content = random.Random(1).randbytes((9 << 20) + 5)
    path = tarball(tmp_path / "x.tar", ("big", content), ("small", b"x"))
    with path.open("rb", buffering=0) as file:
        reader = MemberReader(file, lambda data: None)
        pieces = {member.path: list(reader.content()) for member in reader}
    assert [len(piece) for piece in pieces["big"]] == [4 << 20, 4 << 20, (1 << 20) + 5]
    assert b"".join(pieces["big"]) == content
    assert b"".join(pieces["small"]) == b"x"


def test_a_global_pax_header_gives_way_to_the_members_own(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    headers = {"mtime": "1", "comment": "of all"}
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, pax_headers=headers) as tar:
        for name, own in (("one", {}), ("two", {"mtime": "2"})):
            info = tarfile.TarInfo(name)
            info.pax_headers = own
            tar.addfile(info)
    assert [(member.path, member.mtime) for member, _ in read(path)] == [("one", 1), ("two", 2)]


def test_names_are_normalised(tmp_path: Path) -> None:
    path = tarball(tmp_path / "x.tar", ("./a//b", b"x"))
    (member, _), *_ = read(path)
    assert (member.path, member.name) == ("a/b", "./a//b")


def damage(path: Path) -> str:
    with pytest.raises(DamagedTarball) as caught:
        list(read(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    path = tarball(tmp_path / "x.tar", ("one", b"1" * 700), ("two", b"2" * 10))
    data = path.read_bytes()
    end = data.rstrip(b"\0")
    last_block = -(-len(end) // 512) * 512
    for cut in range(0, last_block + 1024, 64):
        path.write_bytes(data[:cut])
        assert "x.tar" in damage(path)
    path.write_bytes(data[: last_block + 1024])
    assert len(list(read(path))) == 2
    path.write_bytes(data[: 512 + 512])
    assert "'one'" in damage(path)


def test_a_bad_checksum_names_the_member_before(tmp_path: Path) -> None:
    path = tarball(tmp_path / "x.tar", ("one", b"1"), ("two", b"2"))
    data = bytearray(path.read_bytes())
    data[1024] ^= 1
    path.write_bytes(data)
    assert "member 'one' is followed by a header with a bad checksum at byte 1024" in damage(path)


def test_something_else_is_no_tarball(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    for content in (b"", b"\x1f\x8b" + bytes(5000), b"text " * 1000, bytes(512)):
        path.write_bytes(content)
        damage(path)
    path.write_bytes(bytes(10240))
    assert list(read(path)) == []


def test_a_compressed_tarball_is_named_as_such(tmp_path: Path) -> None:
    path = tarball(tmp_path / "x.tar", ("one", b"1"))
    path.write_bytes(gzip.compress(path.read_bytes() + random.Random(1).randbytes(2000)))
    assert "that of a compressed file" in damage(path)


def test_a_member_that_claims_more_than_there_is(tmp_path: Path) -> None:
    info = tarfile.TarInfo("liar")
    info.size = 1 << 40
    path = tmp_path / "x.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    assert "member 'liar' claims 1099511627776 bytes" in damage(path)
    info.size = 1 << 63
    path.write_bytes(info.tobuf(tarfile.PAX_FORMAT) + bytes(10240))
    assert "member 'liar' claims" in damage(path)


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../b", "a/.."])
def test_paths_that_lead_out(tmp_path: Path, name: str) -> None:
    path = tarball(tmp_path / "x.tar", (name, b"x"))
    assert f"member {name!r} leads out of the folder" in damage(path)


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a character device"),
        (tarfile.BLKTYPE, "a block device"),
        (tarfile.FIFOTYPE, "a named pipe"),
        (tarfile.GNUTYPE_SPARSE, "a sparse file"),
        (b"V", "no plain file"),
    ],
)
def test_members_that_are_no_files(tmp_path: Path, kind: bytes, word: str) -> None:
    info = tarfile.TarInfo("odd")
    info.type = kind
    info.linkname = "target"
    path = tmp_path / "x.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    said = damage(path)
    assert "member 'odd'" in said
    assert word in said


def test_line_breaks_in_a_name(tmp_path: Path) -> None:
    path = tarball(tmp_path / "x.tar", ("a\nb", b"x"))
    assert "line break" in damage(path)


def test_data_behind_the_end(tmp_path: Path) -> None:
    path = tarball(tmp_path / "x.tar", ("one", b"1"))
    path.write_bytes(path.read_bytes() * 2)
    assert "the end mark is followed by more data" in damage(path)


@pytest.mark.parametrize(
    "record", [b"99999 path=x\n", b"x path=y\n", b"0 a=b\n", b"12 size=x99\n", b"9" * 5000]
)
def test_broken_pax_headers(tmp_path: Path, record: bytes) -> None:
    extended = tarfile.TarInfo("pax")
    extended.type = tarfile.XHDTYPE
    extended.size = len(record)
    plain = tarfile.TarInfo("plain").tobuf()
    path = tmp_path / "x.tar"
    path.write_bytes(
        extended.tobuf() + record.ljust(-(-len(record) // 512) * 512, b"\0") + plain + bytes(10240)
    )
    assert "pax header" in damage(path)


def test_a_pax_header_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    extended = tarfile.TarInfo("pax")
    extended.type = tarfile.XHDTYPE
    extended.size = 5 << 30
    path = tmp_path / "x.tar"
    with path.open("wb") as file:
        file.write(extended.tobuf())
        file.truncate(6 << 30)
    assert "pax header of 5368709120 bytes" in damage(path)


def test_random_damage_is_refused_or_read(tmp_path: Path) -> None:
    path = tarball(tmp_path / "x.tar", *[(f"{n}/{'n' * 60 * n}", b"x" * n) for n in range(4)])
    data = path.read_bytes()
    chance = random.Random(5)
    refused = 0
    for _ in range(400):
        broken = bytearray(data)
        for _ in range(3):
            broken[chance.randrange(len(data) - 8000)] = chance.randrange(256)
        path.write_bytes(broken)
        try:
            list(read(path))
        except DamagedTarball:
            refused += 1
    assert refused > 200
