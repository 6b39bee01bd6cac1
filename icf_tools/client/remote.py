"""The program git-annex-remote-icf: one member out of a tarball that lies elsewhere.

in: keys that git-annex asks for    out: their content, read by range

It only reads. What it cannot have it declines, and git-annex turns to archivist.
git-annex starts it several times for a clone: what a transfer needs is imported then.
"""

import os
import sys
from contextlib import closing
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from icf_tools.client.member import MEMBERS, Member, NoTarballUrl, member_of
from icf_tools.client.objects import content_of
from icf_tools.client.protocol import Gone, Job, serve
from icf_tools.errors import Damaged, IcfError, NotFound
from icf_tools.model.key import AnnexKey

if TYPE_CHECKING:
    from icf_tools.access.ranges import Ranges, Window
    from icf_tools.access.source import Opener, Source

_HEADER = 512  # bytes in front of a member's content, in every format of tar
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
        self._windows: dict[str, Window] = {}

    def retrieve(self, job: Job, key: str, path: str) -> None:
        member = _member(job, key)
        failed: IcfError | None = None
        for source in self._sources(job, member.tarball):
            try:
                self._write(job, self._window(source, member), member, key, path)
            except IcfError as err:
                failed = failed or err
            else:
                return
        raise failed or NoTarballUrl(member.tarball)

    def check(self, job: Job, key: str) -> None:
        try:
            member = _member(job, key)
        except NoMember as err:
            raise Gone(str(err)) from err
        failed: IcfError | None = None
        for url in _urls(job, member.tarball):
            try:
                ranges = self._ranges(self._open(url), member)
                with closing(ranges.pieces(member.offset - _HEADER, member.offset)) as header:
                    _check_header(b"".join(header), member, url)
            except (NotFound, Damaged) as err:
                failed = failed or Gone(str(err))
            except IcfError as err:
                failed = err
            else:
                return
        raise failed or Gone(member.tarball)

    def whereis(self, job: Job, key: str) -> str:
        member = _member(job, key)
        places = " ".join(_urls(job, member.tarball))
        return f"{places} bytes {member.offset}-{member.end - 1}" if places else ""

    def _sources(self, job: Job, tarball: str) -> "list[Source]":
        """The tarball in this clone where it is there, or where it can be got."""
        from icf_tools.access.source import LocalFile

        local = content_of(Path(job.ask("GETGITDIR")), AnnexKey.parse(tarball))
        if local is not None:
            return [LocalFile(local)]
        return [self._open(url) for url in _urls(job, tarball)]

    def _window(self, source: "Source", member: Member) -> "Window":
        from icf_tools.access.ranges import Window

        with self._lock:
            window = self._windows.get(source.url)
            if window is None:
                window = self._windows[source.url] = Window(self._ranges(source, member))
            return window

    def _ranges(self, source: "Source", member: Member) -> "Ranges":
        from icf_tools.access.ranges import Ranges

        return Ranges(source, member.tarball_size)

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
            done = said = have
            header = bytearray()
            missing = 0 if have else _HEADER
            with closing(window.pieces(member.offset + have - missing, member.end)) as pieces:
                for piece in pieces:
                    if missing:
                        header += piece[:missing]
                        piece = piece[missing:]
                        missing = _HEADER - len(header)
                        if not missing:
                            _check_header(bytes(header), member, window.url)
                    digest.update(piece)
                    done += out.write(piece)
                    if done - said >= _SAID:
                        said = done
                        job.progress(done)
            if AnnexKey.parse(key).name[:32] != digest.hexdigest():
                out.truncate(0)
                raise OtherContent(window.url, member.offset)


def _member(job: Job, key: str) -> Member:
    for url in job.ask_all(f"GETURLS {key} {MEMBERS}"):
        member = member_of(url)
        if member is not None and member.offset >= _HEADER:
            return member
    raise NoMember(key)


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
