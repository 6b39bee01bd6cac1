"""Servers like those in front of a store, each on a loopback port of its own."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.dataset.clients import Client

_PATIENCE = 20  # seconds for a server to come up


@dataclass(frozen=True, slots=True)
class WebServer:
    """nginx with the studies of `root` at `url`, each a realm with a user of its own."""

    root: Path
    folder: Path  #: the server's own files
    port: int
    below: str = ""  #: the path of the root

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.below}"

    def realm(self, study: str) -> str:
        """What DataLad keeps the study's credential by."""
        return f"{self.url}/{study}"

    def allow(self, study: str, user: str, password: str) -> None:
        (self.folder / f"{study}.htpasswd").write_text(f"{user}:{{PLAIN}}{password}\n")

    def served(self) -> list[tuple[str, str, str]]:
        """User, path and status of all requests until now."""
        lines = (self.folder / "access.log").read_text().splitlines()
        return [tuple(line.split(" ")) for line in lines]  # type: ignore[misc]


_NGINX = """\
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    log_format plain "$remote_user $request_uri $status";
    access_log {folder}/access.log plain;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    gzip off;
    types {{
        text/html html; text/css css; text/javascript js; application/json json;
        image/png png; image/svg+xml svg; image/webp webp; application/gzip gz;
    }}
    default_type application/octet-stream;
    server {{
        listen 127.0.0.1:{port};
        root "{root}";
        location / {{ return 404; }}
        location ~ ^{below}/{which} {{
            {access}
        }}
    }}
}}
"""
_REALMS = "auth_basic $study; auth_basic_user_file {folder}/$study.htpasswd;"


@contextmanager
def web_server(
    root: Path, folder: Path, nginx: str, *, below: str = "", public: bool = False
) -> Iterator[WebServer]:
    """Serve `root` to nobody yet, or to all, at the path `below`; `nginx` is the program."""
    server = WebServer(root.resolve(), folder, free_port(), below)
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    top = server.root
    if below:
        top = folder / "top"
        (top / below.strip("/")).parent.mkdir(parents=True)
        (top / below.strip("/")).symlink_to(server.root)
    config.write_text(
        _NGINX.format(
            user=user,
            folder=folder,
            root=top,
            port=server.port,
            below=below,
            which="" if public else "(?<study>[^/]+)/",
            access="" if public else _REALMS.format(folder=folder),
        )
    )
    command = [nginx, "-p", str(folder), "-e", str(folder / "start.log"), "-c", str(config)]
    with running(command, server.port):
        yield server


@dataclass(frozen=True, slots=True)
class ShellServer:
    """sshd for the user who runs the tests."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        """Of the root of the file system."""
        return f"ssh://127.0.0.1:{self.port}"

    def introduce(self, client: Client) -> None:
        """Tell the client where the server is; ssh reads no file of the real home."""
        _new_key(client.home / "id")
        host = (self.folder / "host_key.pub").read_text()
        (client.home / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host}")
        config = client.home / "ssh_config"
        config.write_text(
            f"IdentityFile {client.home / 'id'}\nIdentitiesOnly yes\nIdentityAgent none\n"
            f"UserKnownHostsFile {client.home / 'known_hosts'}\nGlobalKnownHostsFile /dev/null\n"
            "StrictHostKeyChecking yes\nBatchMode yes\n"
        )
        client.program("ssh", f'#!/bin/sh\nexec {shutil.which("ssh")} -F "{config}" "$@"\n')

    def let_in(self, client: Client) -> None:
        shutil.copyfile(client.home / "id.pub", self.folder / "authorized_keys")


@contextmanager
def shell_server(folder: Path, sshd: str) -> Iterator[ShellServer]:
    """An ssh server that lets nobody in yet; `sshd` is the program."""
    server = ShellServer(folder, free_port())
    server.folder.mkdir()
    _new_key(server.folder / "host_key")
    config = server.folder / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1\nPort {server.port}\nHostKey {server.folder / 'host_key'}\n"
        f"AuthorizedKeysFile {server.folder / 'authorized_keys'}\nPidFile none\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd goes when it is root
    command = [sshd, "-D", "-f", str(config), "-E", str(server.folder / "sshd.log")]
    with running(command, server.port):
        yield server


def _new_key(path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def running(command: list[str], port: int) -> Iterator[None]:
    """Wait until the server answers; end it afterwards."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        try:
            _await_answer(process, port)
            yield
        finally:
            process.terminate()
            process.wait()


def _await_answer(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        if process.poll() is not None:
            said = process.communicate()[1].decode(errors="replace")
            pytest.fail(f"the server ended with {process.returncode}: {said}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
