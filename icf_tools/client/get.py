"""Many images of a clone in one stream of their tarball, straight into the annex.

in: a Plan    out: Got

One request for what lies together, MD5 on the way, one process of git-annex
that notes it all: what git-annex does for each file costs more than the
transfer. What lies in no tarball, or is not a link, is left to git-annex.
"""

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from io import FileIO

from icf_tools.access.parts import read_parts
from icf_tools.access.ranges import Ranges
from icf_tools.access.source import Opener, Source
from icf_tools.client.files import Clone, CommandFailed, pointer_of, urls_of
from icf_tools.client.member import NoTarballUrl, from_first
from icf_tools.client.notes import note
from icf_tools.client.objects import content_of, place, put
from icf_tools.client.plan import WORTH_KEEPING, Plan, Wanted, by_tarball
from icf_tools.client.programs import NoProgram, environment, telling
from icf_tools.client.reserve import reserve
from icf_tools.errors import Damaged, IcfError, Locked
from icf_tools.model.key import AnnexKey
from icf_tools.model.progress import Progress
from icf_tools.store.files import NoRoom

_PART = "icf-get.part"

STALE = "its content is in the clone and not in this file; git annex fsck with its path mends that"


class OtherContent(Damaged):
    message = "what came from {} is not what the dataset has; tell who runs the store"


class InUse(Locked):
    message = "another icf get works in {}; run it again when that one is done"


@dataclass(slots=True)
class Got:
    """What came."""

    files: int = 0
    failed: dict[str, str] = field(default_factory=dict)  #: why, by path


def get(plans: Sequence[Plan], opener: Opener, progress: Progress = lambda *_: None) -> Got:
    """Carry out plans. What came stays, and is not got again.

    Raises InUse, NoRoom, CommandFailed and, where nothing came, NoTarballUrl and what reading a
    store raises; where there are several plans only if nothing came of any.
    """
    total = Got()
    refused: IcfError | None = None
    for asked in plans:
        try:
            got = _get(asked, opener, progress)
        except IcfError as err:
            refused = refused or err
            paths = [path for each in asked.wanted for path in each.paths]
            got = Got(failed=dict.fromkeys([*paths, *asked.others], str(err)))
        total.files += got.files
        total.failed |= {f"{asked.inside}{path}": why for path, why in got.failed.items()}
    if refused and not total.files:
        raise refused
    return total


def _get(asked: Plan, opener: Opener, progress: Progress) -> Got:
    clone = asked.clone
    free = shutil.disk_usage(clone.git_dir).free
    spare = reserve(clone.settings.get("annex.diskreserve"))
    if asked.room and asked.room + spare > free:
        needed = f"{asked.room} bytes, and {spare} to spare by annex.diskreserve, are needed"
        raise NoRoom(clone.top, f"{needed}, {free} are free")
    got = Got()
    with _alone(clone), _noting(clone) as came:
        came |= dict(asked.unnoted)
        refused = _receive(asked, _Incoming(clone, came, got, asked.size, progress), got, opener)
    for key in asked.whole:
        _remove_part(clone, key)
    _leave_to_git_annex(clone, asked.others, got)
    if refused and not got.files:
        raise refused
    return got


def _receive(asked: Plan, incoming: "_Incoming", got: Got, opener: Opener) -> IcfError | None:
    """Each image from the first place that has it; the first reason why there was none."""
    refused: IcfError | None = None
    todo = list(asked.wanted)
    while todo:
        missed: list[Wanted] = []
        for tarball, group in by_tarball(todo):
            left: dict[int, Wanted] = {}
            for each in group:  # of two at one place, which no dataset of ours has, one is read
                if left.setdefault(each.member.offset, each) is not each:
                    missed.append(each)
            try:
                incoming.receive(_places(asked.clone, AnnexKey.parse(tarball)), left, opener)
            except IcfError as err:
                if not isinstance(err, OtherContent):  # which is said of each image
                    refused = refused or err
                for path in (path for each in left.values() for path in each.paths):
                    got.failed.setdefault(path, str(err))
            missed += left.values()
        further = [replace(each, members=each.members[1:]) for each in missed if each.members[1:]]
        todo = sorted(further, key=lambda each: each.member)
    return refused


class _Incoming:
    """Members on their way into the annex."""

    def __init__(
        self,
        clone: Clone,
        came: dict[AnnexKey, str],
        got: Got,
        total: int,
        progress: Progress,
    ) -> None:
        self._clone = clone
        self._came = came
        self._got = got
        self._total = total
        self._done = 0
        self._progress = progress

    def receive(self, urls: Iterable[str], left: dict[int, Wanted], opener: Opener) -> None:
        """From the first URL that has them; from the next one what it did not have.

        What came is `left` no more.
        """
        tarball = next(iter(left.values())).member.tarball
        from_first(urls, lambda url: self._stream(opener(url), left), NoTarballUrl(tarball))

    def _stream(self, source: Source, left: dict[int, Wanted], *, anew: bool = False) -> None:
        begun = {offset: 0 if anew else self._begun(each) for offset, each in left.items()}
        members = {offset + begun[offset]: each for offset, each in left.items()}
        parts = [(start, each.member.end) for start, each in members.items()]
        size = next(iter(left.values())).member.tarball_size
        for (start, _), pieces in read_parts(Ranges(source, size, whole=True), parts):
            each = members[start]
            if self._write(each, pieces, begun[each.member.offset]):
                del left[each.member.offset]
        if any(begun[offset] for offset in left):  # what was begun was wrong
            self._stream(source, left, anew=True)
        elif left:
            raise OtherContent(source.url)

    def _begun(self, each: Wanted) -> int:
        """Bytes that an earlier run left of it; not all of them, so that one is still to come."""
        if each.member.size <= WORTH_KEEPING:
            return 0
        try:
            begun = os.stat(_part(place(self._clone.git_dir, each.key))).st_size
        except FileNotFoundError:
            return 0
        return min(begun, each.member.size - 1)

    def _write(self, each: Wanted, pieces: Iterator[memoryview], begun: int) -> bool:
        """Whether it came."""
        part = _part(place(self._clone.git_dir, each.key))
        is_left = each.member.size <= WORTH_KEEPING  # of no use to a later run
        done = self._done
        try:
            with suppress(FileNotFoundError):  # a killed run may have protected it already
                os.chmod(part, os.stat(part).st_mode | 0o200)
            with open(part, "r+b" if begun else "wb", buffering=0) as out:
                digest = self._receive(out, begun, pieces)
            is_left = digest != each.key.name[:32]
            if is_left:
                self._done = done
                return False
            self._came[each.key] = each.places  # first: it may be stopped in between
            put(part, self._clone.git_dir, each.key)
            self._got.files += len(each.paths)
            for file in each.paths:
                self._got.failed.pop(file, None)
            return True
        finally:
            if is_left:
                _remove(part)

    def _receive(self, out: FileIO, begun: int, pieces: Iterator[memoryview]) -> str:
        """The MD5 of the file, once all of it is there."""
        digest = hashlib.md5(usedforsecurity=False)
        while out.tell() < begun and (old := out.read(min(1 << 20, begun - out.tell()))):
            digest.update(old)
        self._done += begun
        for piece in pieces:
            digest.update(piece)
            rest = piece
            while rest:
                rest = rest[out.write(rest) :]
            self._done += len(piece)
            self._progress("get", self._done, self._total)
        if begun:
            out.truncate()  # it may have been longer
        os.fchmod(out.fileno(), os.fstat(out.fileno()).st_mode & 0o555)
        return digest.hexdigest()


def _part(path: str) -> str:
    """What is not complete lies beside the object: elsewhere ext4 takes ten times as long."""
    return os.path.join(os.path.dirname(path), _PART)


def _remove(part: str) -> None:
    with suppress(OSError):  # git-annex may have something in the folder, too
        os.unlink(part)
        os.rmdir(os.path.dirname(part))


def _places(clone: Clone, tarball: AnnexKey) -> Iterator[str]:
    """URLs of the tarball in the clone, where it is there, and of where it can be got."""
    local = content_of(clone.git_dir, tarball)
    if local is not None:
        yield local.as_uri()
    yield from urls_of(clone, tarball)


def _remove_part(clone: Clone, key: AnnexKey) -> None:
    """What a stopped run left of content that came by another way."""
    path = content_of(clone.git_dir, key)
    if path is not None and path.with_name(_PART).exists():
        place(clone.git_dir, key)
        path.with_name(_PART).unlink()
        path.parent.chmod(path.parent.stat().st_mode & 0o555)


@contextmanager
def _alone(clone: Clone) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(clone.git_dir / "annex/icf-get.lck")
    try:
        lock.acquire(timeout=0)
    except Timeout as err:
        raise InUse(clone.top) from err
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _noting(clone: Clone) -> Iterator[dict[AnnexKey, str]]:
    """Tell git-annex of the keys that are put there, whatever ends the work."""
    came: dict[AnnexKey, str] = {}
    begun = time.time()  # what somebody drops meanwhile is newer
    try:
        yield came
    finally:
        here = {key: places for key, places in came.items() if content_of(clone.git_dir, key)}
        note(clone, here, begun)


def _leave_to_git_annex(clone: Clone, paths: Sequence[str], got: Got) -> None:
    if not paths:
        return
    command = ["git-annex", "get", "--batch", "-z", "--json", "--json-error-messages"]
    names = "".join(f"{path}\0" for path in paths).encode("utf-8", "surrogateescape")
    try:
        done = subprocess.run(
            command, cwd=clone.top, env=environment(), input=names, capture_output=True, check=False
        )
    except FileNotFoundError as err:
        raise NoProgram("git-annex") from err
    for line in filter(None, done.stdout.splitlines()):  # an empty one: nothing was to be done
        answer = json.loads(line)
        path = answer.get("file") or ""
        if answer.get("success"):
            got.files += 1
        else:
            why = " ".join(" ".join(answer.get("error-messages", ())).split())
            got.failed[path] = why or "git-annex could not get it"
    for path in paths:
        if path not in got.failed and pointer_of(clone.top / path):
            got.failed[path] = STALE
    if done.returncode and not got.failed:
        raise CommandFailed("git annex get", telling(done.stderr.decode(errors="replace")))
