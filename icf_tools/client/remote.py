"""The program git-annex-remote-icf: one member out of a tarball that lies elsewhere.

in: keys that git-annex asks for    out: their content, read by range

It only reads. What it cannot have it declines, and git-annex turns to archivist.
git-annex starts it several times for a clone: what a transfer needs is imported then.
"""

import os
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from icf_tools.client.member import MEMBERS, Member, NoTarballUrl, from_first, member_of
from icf_tools.client.objects import content_of
from icf_tools.client.protocol import Gone, Job, serve
from icf_tools.errors import Damaged, NotFound
from icf_tools.model.key import AnnexKey

if TYPE_CHECKING:
    from icf_tools.access.ranges import Ranges, Window
    from icf_tools.access.source import Opener

_HEADER = 512  # bytes in front of a member's content, in every format of tar
# bytes of an image that is written when its digest is right, and not before: git-annex
# reads along, and what it read once cannot be written anew from another place
_HELD = 8 << 20
_READ = 1 << 20  # bytes of a file that are read at once
_SAID = 1 << 20  # bytes from one progress to the next


class NoMember(NotFound):
    message = "the dataset does not tell where in a tarball {} lies; git-annex gets it elsewhere"


class OtherMember(Damaged):
    message = (
        "the tarball at {} has no member of {} bytes at byte {}, so it is not the one of the "
        "dataset; update the clone with datalad update --how merge, or tell who runs the store"
    )


class OtherContent(Damaged):
    message = (
        "what the tarball at {} has at byte {} is not what the dataset says; update the clone "
        "with datalad update --how merge, or tell who runs the store"
    )


class Members:
    """Reads members for git-annex."""

    def __init__(self, opener: "Opener") -> None:
        self._open = opener
        self._lock = Lock()
        self._tarballs: dict[tuple[str, str], _Tarball] = {}

    def retrieve(self, job: Job, key: str, path: str) -> None:
        git_dir = Path(job.ask("GETGITDIR"))

        def write(place: tuple[Member, str]) -> None:
            member, url = place
            self._write(job, self._tarball(url, member).window, member, key, path)

        places = (
            (member, url)
            for member in _members(job, key)
            for url in [*_here(git_dir, member.tarball), *_urls(job, member.tarball)]
        )
        from_first(places, write, NoTarballUrl(key))

    def check(self, job: Job, key: str) -> None:
        def look(place: tuple[Member, str]) -> None:
            member, url = place
            ranges = self._tarball(url, member).ranges
            with closing(ranges.pieces(member.offset - _HEADER, member.offset)) as header:
                _check_header(b"".join(header), member, url)

        try:
            places = [
                (each, url) for each in _members(job, key) for url in _urls(job, each.tarball)
            ]
            from_first(places, look, NoTarballUrl(key))
        except (NotFound, Damaged) as err:
            raise Gone(str(err)) from err

    def whereis(self, job: Job, key: str) -> str:
        member = _members(job, key)[0]
        places = " ".join(_urls(job, member.tarball))
        return f"{places} bytes {member.offset}-{member.end - 1}" if places else ""

    def _tarball(self, url: str, member: Member) -> "_Tarball":
        from icf_tools.access.ranges import Ranges, Window

        with self._lock:
            tarball = self._tarballs.get((url, member.tarball))
            if tarball is None:
                ranges = Ranges(self._open(url), member.tarball_size)
                tarball = self._tarballs[url, member.tarball] = _Tarball(ranges, Window(ranges))
            return tarball

    def _write(self, job: Job, window: "Window", member: Member, key: str, path: str) -> None:
        """Complete the file, which may have its beginning already; nothing wrong is left in it."""
        import hashlib

        digest = hashlib.md5(usedforsecurity=False)
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b") as out:
            have = out.seek(0, os.SEEK_END)
            if 0 < have < member.size:
                out.seek(0)
                while old := out.read(_READ):
                    digest.update(old)
            else:
                have = 0
                out.truncate(0)
                out.seek(0)
            said = have
            header = bytearray()
            missing = 0 if have else _HEADER
            held: list[memoryview] = []
            with closing(window.pieces(member.offset + have - missing, member.end)) as pieces:
                for piece in pieces:
                    if missing:
                        header += piece[:missing]
                        piece = piece[missing:]
                        missing = _HEADER - len(header)
                        if not missing:
                            _check_header(bytes(header), member, window.url)
                    digest.update(piece)
                    if member.size <= _HELD:
                        held.append(piece)
                        continue
                    out.write(piece)
                    if out.tell() - said >= _SAID:
                        said = out.tell()
                        job.progress(said)
            if AnnexKey.parse(key).name[:32] != digest.hexdigest():
                out.truncate(0)
                raise OtherContent(window.url, member.offset)
            out.writelines(held)


@dataclass(frozen=True, slots=True)
class _Tarball:
    ranges: "Ranges"
    window: "Window"


def _members(job: Job, key: str) -> list[Member]:
    """Each place that the content has in a tarball, at least one. Raises NoMember."""
    urls = job.ask_all(f"GETURLS {key} {MEMBERS}")
    found = [member for url in urls if (member := member_of(url)) and member.offset >= _HEADER]
    if not found:
        raise NoMember(key)
    return found


def _here(git_dir: Path, tarball: str) -> list[str]:
    """The tarball in this clone, where it is there."""
    path = content_of(git_dir, AnnexKey.parse(tarball))
    return [] if path is None else [path.absolute().as_uri()]


def _urls(job: Job, key: str) -> list[str]:
    return job.ask_all(f"GETURLS {key} ")


def _check_header(block: bytes, member: Member, url: str) -> None:
    """See that a member of this size begins where it should. Raises OtherMember."""
    from icf_tools.index.members import is_header

    if not is_header(block, member.size):
        raise OtherMember(url, member.size, member.offset)


def main() -> None:
    """Be the program git-annex-remote-icf."""
    from icf_tools.access.credential import ask_terminal
    from icf_tools.access.source import Opener

    serve(Members(Opener(ask_terminal)), sys.stdin.buffer, sys.stdout.buffer)
    sys.stdout.flush()
    os._exit(0)  # nobody waits for threads that still read
