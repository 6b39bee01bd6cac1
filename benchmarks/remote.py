"""What a user waits for: an image, a series and all of a visit that is behind a web server.

Ours is a client with `git-annex-remote-icf` and `icf` on the path; the peer has stock DataLad
alone, whose archivist fetches the whole tarball. Each has a HOME of its own, and a fresh copy of
a clone for each run. Bytes are those of the bodies that the server sent, by its log.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks import images
from benchmarks.link import shaped_link
from benchmarks.measure import ICF, Command, Row, Run, aside, main, run, scratch, warm
from icf_tools.model.visit import Visit

STUDY = "study"
_BIN = Path(sys.executable).parent
_STOCK = (
    *("datalad", "git-annex", "git-annex-shell", "git-annex-backend-XDLRA"),
    *("git-annex-remote-archivist", "git-annex-remote-uncurl", "git-remote-datalad-annex"),
)
_OURS = ("git-annex-remote-icf", "icf")
_SERIES = 128  # images; the visit has three
_FILLER = 200 << 20  # bytes of each of the files that make a tarball large
_LATENCY, _RATE = 0.05, 12_500_000  # s, bytes/s
_SETTLING = 0.3  # seconds until the server has noted that a client went


def rows(quick: bool) -> Sequence[Row]:
    """Of 384 images of 0.21 MB on loopback and over a slow link; of 5 GB; of 5,000 images."""
    series, small, rounds = (8, 60, 1) if quick else (_SERIES, 5000, 3)
    with (
        scratch() as folder,
        _served(folder) as web,
        shaped_link(web.port, latency=_LATENCY, rate=_RATE) as link,
    ):
        place = _Place(folder, web)
        mosaics = partial(images.siemens, count=3 * series, per_folder=series)
        far = place.visit("far", link.port, mosaics)
        near = far if quick else place.visit("near", web.port, mosaics)
        many = place.visit("many", web.port, partial(images.small, count=small))
        one = partial(_one, place, "git annex get IMAGE")
        return [
            *one(near, rounds),
            *([] if quick else one(place.visit("large", web.port, _large), 1)),
            *_series(place, far, rounds),
            *_all(place, near, rounds),
            *_all_far(place, far, rounds),
            *_many(place, many, small),
        ]


@dataclass(frozen=True, slots=True)
class _Web:
    """nginx with the store."""

    port: int
    log: Path

    def sent(self) -> int:
        """Bytes of all answers until now."""
        return sum(map(int, self.log.read_text().split()))


@dataclass(frozen=True, slots=True)
class _Got:
    """A run, and what it left and moved."""

    run: Run
    sent: int  #: bytes, by the server
    kept: int  #: bytes in .git/annex/objects


@dataclass(frozen=True, slots=True)
class _Clones:
    """A visit's clones, which no run changes."""

    folder: Path  #: with `ours` and `peer`
    images: str  #: folder of the images in the dataset
    incoming: Path

    @property
    def size(self) -> str:
        count = sum(path.suffix == ".dcm" for path in self.incoming.rglob("*"))
        return f"{count} of {warm(self.incoming) / 1e6:.0f} MB"

    @property
    def image(self) -> Path:
        """One in the midst of them, as it was packed."""
        found = sorted(self.incoming.rglob("*.dcm"))
        return found[len(found) // 2]

    def at(self, path: Path) -> str:
        """Where what was packed is in the dataset."""
        return f"{self.images}/{path.relative_to(self.incoming)}"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where visits are deposited, and two users get them."""

    folder: Path
    web: _Web

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def visit(self, name: str, port: int, make: Callable[[Path], None]) -> _Clones:
        """Deposit a visit whose URLs have this port; clone it with and without our programs."""
        incoming, url = self.folder / "incoming" / name, f"http://127.0.0.1:{port}"
        aside(make, incoming)
        add = (*ICF, "add", STUDY, name, incoming, "--allow-identifying")
        run(Command((*add, "--store-dir", self.store, "--store-url", url)))
        clones = self.folder / "clones" / name
        clones.mkdir(parents=True)
        ours, peer = clones / "ours", clones / "peer"
        clone = ("icf", "clone", "--store-url", url, f"{STUDY}/{name}", ours)
        run(Command(self.by("ours", self.folder, *clone)))
        subprocess.run(["cp", "-a", ours, peer], check=True)
        # who has no such program has no such remote
        run(Command(("git", "-C", peer, "config", "remote.icf.annex-ignore", "true")))
        return _Clones(clones, Visit(STUDY, name).prefix, incoming)

    def by(self, user: str, folder: Path, *command: str | Path) -> tuple[str | Path, ...]:
        """The command as this user runs it there."""
        home = self.folder / "users" / user
        programs = home / "bin"
        if not home.exists():
            programs.mkdir(parents=True)
            for program in (*_STOCK, *(_OURS if user == "ours" else ())):
                if not (_BIN / program).exists():
                    raise SystemExit(f"there is no {_BIN / program}; install icf_tools anew")
                (programs / program).symlink_to(_BIN / program)
            home.joinpath(".gitconfig").write_text("[user]\n\tname = B\n\temail = b@example.org\n")
        path = os.pathsep.join([str(programs), "/usr/local/bin", "/usr/bin", "/bin"])
        environment = ("-i", "-C", folder, f"HOME={home}", f"PATH={path}", "LANG=C.UTF-8")
        return ("env", *environment, "DATALAD_UI_PROGRESSBAR=none", *command)

    def turns(
        self, clones: _Clones, rounds: int, **commands: Sequence[str]
    ) -> dict[str, list[_Got]]:
        """Run each user's command in every round, in a fresh clone."""
        got: dict[str, list[_Got]] = {user: [] for user in commands}
        for _ in range(rounds):
            for user, command in commands.items():
                got[user].append(self._turn(clones.folder / user, user, command))
        return got

    def _turn(self, clone: Path, user: str, command: Sequence[str]) -> _Got:
        work = self.folder / "work"
        subprocess.run(["cp", "-a", clone, work], check=True)
        before = self.web.sent()
        done = run(Command(self.by(user, work, *command)))
        time.sleep(_SETTLING)
        objects = (work / ".git" / "annex" / "objects").rglob("*")
        kept = sum(path.stat().st_blocks << 9 for path in objects if path.is_file())
        subprocess.run(["chmod", "-R", "u+w", work], check=True)
        shutil.rmtree(work)
        return _Got(done, self.web.sent() - before, kept)


def _one(place: _Place, what: str, clones: _Clones, rounds: int) -> list[Row]:
    get = ("git", "annex", "get", clones.at(clones.image))
    got = place.turns(clones, rounds, ours=get, peer=get)
    most = 1.05 * clones.image.stat().st_size + (64 << 10)
    return _rows(what, f"1 of {clones.size}", got, "archivist", "<= 0.6 s", most)


def _series(place: _Place, clones: _Clones, rounds: int) -> list[Row]:
    series = clones.incoming / "mr_0002"
    get = ("git", "annex", "get", clones.at(series))
    got = place.turns(clones, rounds, ours=get, peer=get)
    most, size = 1.4 * warm(series), f"1/3 of {clones.size}"
    return _rows("git annex get SERIES, slow link", size, got, "archivist", "<= 0.4", most)


def _all(place: _Place, clones: _Clones, rounds: int) -> list[Row]:
    ours, peer = ("icf", "get", "."), ("datalad", "get", ".")
    got = place.turns(clones, rounds, ours=ours, peer=peer)
    ratios = [a.kept / b.kept for a, b in zip(got["ours"], got["peer"], strict=True)]
    table = _rows("icf get .", clones.size, got, "datalad get .", "<= 0.33")
    kept = Row("  on disk", "", _runs(got["ours"]), target="<= 0.55", ratio=f"{median(ratios):.2f}")
    return [*table, kept]


def _all_far(place: _Place, clones: _Clones, rounds: int) -> list[Row]:
    """The images: with `.` both would get the tarball first, and read images from that."""
    get = ("datalad", "get", clones.images)
    got = place.turns(clones, rounds, ours=get, peer=get)
    return _rows("datalad get IMAGES, slow link", clones.size, got, "archivist", "<= 1")


def _many(place: _Place, clones: _Clones, count: int) -> list[Row]:
    """Once: the peer's work grows with the square of the number."""
    ours, peer = ("icf", "get", "."), ("datalad", "get", ".")
    got = place.turns(clones, 1, ours=ours, peer=peer)
    return _rows("icf get .", clones.size, got, "datalad get .", "<= 0.1")


def _rows(
    what: str,
    size: str,
    got: dict[str, list[_Got]],
    peer: str,
    target: str,
    most: float | None = None,
) -> list[Row]:
    """Of the time and of the bytes."""
    ours, peers = got["ours"], got["peer"]
    sent = (f"{median(each.sent for each in side) / 1e6:.2f}" for side in (ours, peers))
    limit = "" if most is None else f"<= {most / 1e6:.2f} MB"
    return [
        Row(what, size, _runs(ours), peer, _runs(peers), target),
        Row("  sent", "", _runs(ours), target=limit, ratio="{} MB, peer {} MB".format(*sent)),
    ]


def _runs(got: Sequence[_Got]) -> list[Run]:
    return [each.run for each in got]


def _large(folder: Path) -> None:
    """5 GB in front of a few images."""
    images.siemens(folder / "z", 50)
    for number in range(25):
        file = folder / "a" / f"filler{number:02}.bin"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"%d" % number)
        os.truncate(file, _FILLER)


@contextmanager
def _served(folder: Path) -> Iterator[_Web]:
    """To all who ask, on loopback."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if program is None:
        raise SystemExit("there is no nginx; install it, or leave out this part")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    own = folder / "nginx"
    own.mkdir()
    config = own / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(_NGINX.format(user=user, own=own, port=port, store=folder / "store"))
    command = [program, "-p", str(own), "-e", str(own / "error.log"), "-c", str(config)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            _await_answer(port)
            yield _Web(port, own / "sent")
        finally:
            process.terminate()


def _await_answer(port: int, patience: float = 10) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


# what waits in the kernel to be sent counts as sent, so that little of it waits
_NGINX = """\
{user}
daemon off;
pid {own}/pid;
error_log {own}/error.log;
events {{ worker_connections 64; }}
http {{
    log_format sent "$body_bytes_sent";
    access_log {own}/sent sent;
    client_body_temp_path {own}/body;
    proxy_temp_path {own}/proxy;
    fastcgi_temp_path {own}/fastcgi;
    uwsgi_temp_path {own}/uwsgi;
    scgi_temp_path {own}/scgi;
    default_type application/octet-stream;
    sendfile on;
    server {{
        listen 127.0.0.1:{port} sndbuf=64k;
        root "{store}";
    }}
}}
"""


if __name__ == "__main__":
    main(rows)
