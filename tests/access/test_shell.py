"""Files behind ssh; in the place of ssh stands a program that runs the same shell here."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from icf_tools.access import ranges, shell
from icf_tools.access.ranges import Ranges
from icf_tools.access.shell import Shells
from icf_tools.access.source import Interrupted, NotAllowed, NotThere, OtherTarball, read_file

DATA = random.Random(3).randbytes(2 << 20)
FAKE = """\
#!/bin/sh
echo "$*" >> "{log}"
for last; do :; done
echo "Welcome to this host"
{extra}
exec sh -c "$last"
"""


@pytest.fixture
def shells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shells]:
    (tmp_path / "bin").mkdir()
    program(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(ranges, "_WAITS", (0.0,) * 3)
    shells = Shells()
    yield shells
    shells.close()


def program(folder: Path, extra: str = "") -> None:
    ssh = folder / "bin/ssh"
    ssh.write_text(FAKE.format(log=folder / "log", extra=extra))
    ssh.chmod(0o755)


def calls(folder: Path) -> list[str]:
    return (folder / "log").read_text().splitlines()


@pytest.mark.parametrize("name", ["x.tar", "with blank & 'quote' $HOME `id`.tar", "ä%41.tar"])
def test_ranges_by_one_connection(shells: Shells, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(DATA)
    url = f"ssh://lab@host:2222{(tmp_path / name).as_uri().removeprefix('file://')}"
    tarball = Ranges(shells.file(url), len(DATA))
    for start, end in ((0, 10), (512, 2_000_000), (7, 8)):
        assert b"".join(tarball.pieces(start, end)) == DATA[start:end]
    assert read_file(shells.file(url)) == DATA
    assert calls(tmp_path) == ["-T -p 2222 -- lab@host exec sh"]


def test_an_address_of_ipv6(shells: Shells, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(DATA)
    assert read_file(shells.file(f"ssh://lab@[::1]:2222{tmp_path}/x.tar")) == DATA
    assert calls(tmp_path) == ["-T -p 2222 -- lab@::1 exec sh"]


def test_one_that_is_left_is_ended(shells: Shells, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(DATA)
    tarball = Ranges(shells.file(f"ssh://host{tmp_path}/x.tar"), len(DATA))
    for _ in range(3):
        pieces = tarball.pieces(0, len(DATA))
        assert DATA.startswith(next(pieces))
        pieces.close()
    assert b"".join(tarball.pieces(3, 9)) == DATA[3:9]
    assert len(calls(tmp_path)) == 4


def test_what_is_not_there(shells: Shells, tmp_path: Path) -> None:
    with pytest.raises(NotThere, match=r"no ssh://host/no/such\.tar; see"):
        b"".join(Ranges(shells.file("ssh://host/no/such.tar"), 10).pieces(0, 5))
    (tmp_path / "x.tar").write_bytes(DATA)
    source = shells.file(f"ssh://host{tmp_path}/x.tar")
    with pytest.raises(OtherTarball, match=f"ends at byte {len(DATA)}"):
        b"".join(Ranges(source, len(DATA) + 9).pieces(len(DATA), len(DATA) + 5))
    with pytest.raises(OtherTarball, match=f"has {len(DATA)} bytes and not 5000"):
        b"".join(Ranges(source, 5000).pieces(0, 5))


def test_what_may_not_be_read(
    shells: Shells, tmp_path: Path, require: Callable[[str], str]
) -> None:
    if not os.geteuid():  # root may read all, unless it gives that up
        give_up = f"exec {require('setpriv')} --bounding-set=-all --inh-caps=-all"
        program(tmp_path, f'{give_up} sh -c "$last"')
    (tmp_path / "x.tar").write_bytes(DATA)
    (tmp_path / "x.tar").chmod(0)
    with pytest.raises(NotAllowed):
        read_file(shells.file(f"ssh://host{tmp_path}/x.tar"))


def test_a_host_that_does_not_let_in(shells: Shells, tmp_path: Path) -> None:
    program(tmp_path, "exit 255")
    with pytest.raises(Interrupted, match=r"ssh://host does not come: ssh ended; try"):
        b"".join(Ranges(shells.file("ssh://host/x.tar"), 10).pieces(0, 5))
    assert len(calls(tmp_path)) == 4


def test_a_host_that_says_nothing(
    shells: Shells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "_PATIENCE", 1.0)
    program(tmp_path, "exec sleep 60")
    with pytest.raises(Interrupted, match="nothing more came"):
        shells.file("ssh://host/x.tar").open(0, 5)


def test_a_greeting_without_an_end_of_line(shells: Shells, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(DATA)
    program(tmp_path, "printf 'Last login: never'")
    assert read_file(shells.file(f"ssh://host{tmp_path}/x.tar")) == DATA


def test_a_fork_has_connections_of_its_own(shells: Shells, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(DATA)
    source = shells.file(f"ssh://host{tmp_path}/x.tar")
    assert read_file(source) == DATA
    child = os.fork()
    if not child:
        os._exit(read_file(source) != DATA or len(calls(tmp_path)) != 2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert read_file(source) == DATA
    assert len(calls(tmp_path)) == 2


def test_a_connection_that_breaks_is_made_again(shells: Shells, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(DATA)
    program(tmp_path, f"[ -e {tmp_path}/again ] || {{ touch {tmp_path}/again; exit 1; }}")
    tarball = Ranges(shells.file(f"ssh://host{tmp_path}/x.tar"), len(DATA))
    assert b"".join(tarball.pieces(1, 100_000)) == DATA[1:100_000]


def test_no_ssh(shells: Shells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Interrupted, match="there is no program ssh"):
        shells.file("ssh://host/x.tar").open(0, 5)
