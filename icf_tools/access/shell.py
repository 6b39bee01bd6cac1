"""Files behind ssh, by the programs that every system has: sh, wc, tail, head.

in: URL    out: Source

A connection answers one request after another; one that is closed early is ended.
"""

import os
import select
import shlex
import subprocess
from dataclasses import dataclass
from threading import Lock
from typing import IO, cast
from urllib.parse import unquote, urlsplit

from icf_tools.access.source import Interrupted, IsFolder, NotAllowed, NotThere, OtherTarball

_PATIENCE = 30.0  # s between two bytes
_MARK = b"icf-size "

# one line for what is there, then the bytes; in front the end of what else was said
_REQUEST = """\
echo
f={path}
if [ -d "$f" ]; then echo '{mark}folder'
elif [ ! -f "$f" ]; then echo '{mark}none'
elif [ ! -r "$f" ]; then echo '{mark}denied'
else s=$(wc -c < "$f"); echo "{mark}"$s; {content}; fi
"""
_PART = 'if [ $s -ge {end} ]; then tail -c +{first} "$f" | head -c {count}; fi'


class Shells:
    """Connections that all files share."""

    def __init__(self) -> None:
        self._begin()
        self._others: list[_Connection] = []  # of the process that this one is a fork of

    def _begin(self) -> None:
        self._process = os.getpid()
        self._idle: list[_Connection] = []
        self._lock = Lock()

    def file(self, url: str) -> "ShellFile":
        parts = urlsplit(url)
        host = parts.netloc if parts.port is None else parts.netloc.rpartition(":")[0]
        host = host.replace("[", "").replace("]", "")  # as ssh wants an address of IPv6
        return ShellFile(self, url, host, parts.port, unquote(parts.path))

    def take(self, host: str, port: int | None) -> "_Connection":
        """One that nobody uses, or a new one."""
        if self._process != os.getpid():
            self._others = self._idle
            self._begin()
        with self._lock:
            for connection in self._idle:
                if connection.at == (host, port):
                    self._idle.remove(connection)
                    if connection.alive:
                        return connection
                    connection.end()
                    break
        return _Connection(host, port)

    def give_back(self, connection: "_Connection") -> None:
        with self._lock:
            self._idle.append(connection)

    def close(self) -> None:
        """End those that nobody uses."""
        while self._idle:
            self._idle.pop().end()


@dataclass(frozen=True, slots=True)
class ShellFile:
    """A file on a host that ssh reaches."""

    shells: Shells
    url: str
    host: str  #: with the user where the URL names one
    port: int | None
    path: str

    def open(self, start: int, end: int | None) -> "_ShellBytes":
        connection = self.shells.take(self.host, self.port)
        if end is None:
            content = f'tail -c +{start + 1} "$f"'
        else:
            content = _PART.format(first=start + 1, end=end, count=end - start)
        request = _REQUEST.format(path=shlex.quote(self.path), mark=_MARK.decode(), content=content)
        try:
            said = connection.ask(request)
        except BaseException:
            connection.end()
            raise
        if not said.isdigit():
            self.shells.give_back(connection)
            kinds = {b"folder": IsFolder, b"denied": NotAllowed}
            raise kinds.get(said, NotThere)(self.url)
        total = int(said)
        if total < (start if end is None else end):
            self.shells.give_back(connection)
            raise OtherTarball(self.url, f"ends at byte {total}")
        return _ShellBytes(self.shells, connection, (total if end is None else end) - start, total)


class _Connection:
    """A shell on the other host."""

    def __init__(self, host: str, port: int | None) -> None:
        self.at = (host, port)
        command = ["ssh", "-T", *(["-p", str(port)] if port else []), "--", host, "exec sh"]
        try:
            self._ssh = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
        except FileNotFoundError as err:
            raise Interrupted(f"ssh://{host}", "there is no program ssh") from err
        self._out = cast("IO[bytes]", self._ssh.stdout)
        self._early = b""

    @property
    def alive(self) -> bool:
        return self._ssh.poll() is None

    def ask(self, request: str) -> bytes:
        """What it says of the file; the content follows."""
        try:
            cast("IO[bytes]", self._ssh.stdin).write(request.encode("utf-8", "surrogateescape"))
        except OSError as err:
            raise Interrupted(f"ssh://{self.at[0]}", "ssh ended") from err
        said = b""
        while True:
            line, found, rest = said.partition(b"\n")
            if not found:
                said += self.read(4096)
            elif line.startswith(_MARK):
                self._early = rest
                return line.removeprefix(_MARK).strip()
            else:
                said = rest  # what its shell says at the start

    def read(self, most: int) -> bytes:
        """Some bytes, at least one. Raises Interrupted."""
        if self._early:
            data, self._early = self._early[:most], self._early[most:]
            return data
        ready, _, _ = select.select([self._out], [], [], _PATIENCE)
        data = os.read(self._out.fileno(), most) if ready else b""
        if not data:
            why = "ssh ended" if ready else "nothing more came"
            raise Interrupted(f"ssh://{self.at[0]}", why)
        return data

    def end(self) -> None:
        self._ssh.kill()
        self._ssh.communicate()


class _ShellBytes:
    def __init__(self, shells: Shells, connection: _Connection, left: int, total: int) -> None:
        self._shells = shells
        self._connection = connection
        self._left = left
        self.total = total

    def read(self, most: int) -> bytes:
        if not self._left:
            return b""
        data = self._connection.read(min(most, self._left))
        self._left -= len(data)
        return data

    def close(self) -> None:
        if self._left:
            self._connection.end()
        else:
            self._shells.give_back(self._connection)
