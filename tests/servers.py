"""A web server like the one in front of a store."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SECONDS = 20
_CONFIG = """\
daemon off;
master_process off;
pid nginx.pid;
error_log error.log;
events {{}}
http {{
  access_log access.log;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  default_type application/octet-stream;
  gzip off;
  server {{
    listen 127.0.0.1:{port};
    root "{root}";
    location / {{ }}
{realms}
  }}
}}
"""


@contextmanager
def nginx(
    root: Path, folder: Path, program: str, users: dict[str, dict[str, str]]
) -> Iterator[str]:
    """Serve `root` on a loopback port; give the URL.

    `users` has for each study its users and their passwords; the study is then
    a realm of that name. Other folders are open. `folder` is for the
    server's own files, access.log and error.log among them; `program` is nginx.
    """
    folder.mkdir(parents=True, exist_ok=True)
    realms = [_realm(folder, study, passwords) for study, passwords in users.items()]
    for port in _free_ports():
        config = _CONFIG.format(port=port, root=root.resolve(), realms="\n".join(realms))
        (folder / "nginx.conf").write_text(config)
        server = subprocess.Popen(
            [program, "-p", str(folder), "-e", "error.log", "-c", "nginx.conf"],
            stderr=subprocess.DEVNULL,
        )
        try:
            if _answers(server, port):
                yield f"http://127.0.0.1:{port}"
                return
        finally:
            server.terminate()
            server.wait(_SECONDS)
    raise AssertionError((folder / "error.log").read_text())


def _realm(folder: Path, study: str, passwords: dict[str, str]) -> str:
    users = folder / f"{study}.users"
    users.write_text("".join(f"{user}:{{PLAIN}}{word}\n" for user, word in passwords.items()))
    os.chmod(users, 0o600)
    return f'    location /{study}/ {{ auth_basic "{study}"; auth_basic_user_file "{users}"; }}'


def _free_ports() -> Iterator[int]:
    """A few ports that were free a moment ago."""
    for _ in range(5):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        yield port


def _answers(server: "subprocess.Popen[bytes]", port: int) -> bool:
    """Wait until it does; False where it ends first, as when the port was taken."""
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until:
        if server.poll() is not None:
            return False
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        time.sleep(0.02)
    return False
