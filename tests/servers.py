"""Servers like those in front of a store, each on a loopback port of its own."""

import os
import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.dataset.clients import Client

_PATIENCE = 60  # seconds for a server to come up


@dataclass(frozen=True, slots=True)
class Authority:
    """Who signs the certificates of the servers here; nobody else knows it."""

    folder: Path
    openssl: str  #: the program

    @classmethod
    def new(cls, folder: Path, openssl: str) -> "Authority":
        authority = cls(folder, openssl)
        folder.mkdir(parents=True)
        folder.joinpath("openssl.cnf").write_text(_CERTIFICATES)
        authority._make("authority", authority.certificate, folder / "authority.key")
        return authority

    @property
    def certificate(self) -> Path:
        """What clients must know, as REQUESTS_CA_BUNDLE or SSL_CERT_FILE names it."""
        return self.folder / "authority.pem"

    def sign(self, folder: Path) -> tuple[Path, Path]:
        """A new certificate for this computer, in the folder, and its key."""
        made = folder / "server.pem", folder / "server.key"
        by = ("-CA", self.certificate, "-CAkey", self.folder / "authority.key")
        self._make("server", *made, *by)
        return made

    def _make(self, kind: str, certificate: Path, key: Path, *options: str | Path) -> None:
        new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        config = ("-config", self.folder / "openssl.cnf", "-extensions", kind, "-days", "2")
        places = ("-subj", f"/CN=icf tests {kind}", "-out", certificate, "-keyout", key)
        command = [self.openssl, *new, *config, *places, *options]
        subprocess.run(command, check=True, capture_output=True)


# what Python asks for since 3.13
_CERTIFICATES = """\
[req]
distinguished_name = nobody
[nobody]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
subjectAltName = DNS:localhost, IP:127.0.0.1
extendedKeyUsage = serverAuth
authorityKeyIdentifier = keyid
"""


@dataclass(frozen=True, slots=True)
class Request:
    """What a web server noted when a request had ended, and not before."""

    user: str  #: `-` where there was none
    path: str  #: percent-encoded
    status: int
    bytes: int  #: of the body, given to the kernel: the last 0.2 MB may not have arrived
    range: str  #: the header; `-` where there was none


@dataclass(frozen=True, slots=True)
class WebServer:
    """nginx with the studies of `root` at `url`, each a realm with a user of its own."""

    root: Path
    folder: Path  #: the server's own files
    port: int
    below: str = ""  #: the path of the root
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}{self.below}"

    def realm(self, study: str) -> str:
        """What DataLad keeps the study's credential by."""
        return f"{self.url}/{study}"

    def allow(self, study: str, user: str, password: str) -> None:
        (self.folder / f"{study}.htpasswd").write_text(f"{user}:{{PLAIN}}{password}\n")

    def served(self) -> list[tuple[str, str, str]]:
        """User, path and status of all requests until now."""
        return [(each.user, each.path, str(each.status)) for each in self.requests()]

    def requests(self) -> list[Request]:
        """All that have ended until now: each is noted at once."""
        lines = (self.folder / "access.log").read_text().splitlines()
        noted = (line.split(" ", 4) for line in lines)
        return [Request(user, path, int(a), int(b), part) for user, path, a, b, part in noted]

    def sent(self, suffix: str = "") -> int:
        """Bytes of the bodies of all paths that end so."""
        return sum(each.bytes for each in self.requests() if each.path.endswith(suffix))


_NGINX = """\
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    log_format plain "$remote_user $request_uri $status $body_bytes_sent $http_range";
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
        listen 127.0.0.1:{port} sndbuf=64k {tls};
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
    root: Path,
    folder: Path,
    nginx: str,
    *,
    below: str = "",
    public: bool = False,
    tls: Authority | None = None,
) -> Iterator[WebServer]:
    """Serve `root` to nobody yet, or to all, at the path `below`; `nginx` is the program."""
    scheme = "https" if tls else "http"
    server = WebServer(root.resolve(), folder, free_port(), below, scheme)
    folder.mkdir(parents=True, exist_ok=True)
    signed = (
        "ssl; ssl_certificate {}; ssl_certificate_key {}".format(*tls.sign(folder)) if tls else ""
    )
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
            tls=signed,
            below=below,
            which="" if public else "(?<study>[^/]+)/",
            access="" if public else _REALMS.format(folder=folder),
        )
    )
    command = [nginx, "-p", str(folder), "-e", str(folder / "start.log"), "-c", str(config)]
    with running(command, server.port):
        yield server


# what packs answers is on, as some sites have it
_DOCUMENTED_NGINX = """\
{user}
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    gzip on;
    gzip_types *;
    {snippet}
}}
"""
_DOCUMENTED_APACHE = """\
ServerRoot {folder}
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
PidFile {folder}/apache.pid
ErrorLog {folder}/error.log
User www-data
Group www-data
{modules}
TypesConfig /etc/mime.types
SetOutputFilter DEFLATE
DocumentRoot {folder}/empty
{snippet}
"""
_MODULES = (
    *("mpm_event", "authn_core", "authn_file", "authz_core", "authz_user", "auth_basic"),
    *("alias", "dir", "mime", "env", "deflate", "filter"),
)


def snippet(text: str, language: str, places: Mapping[str, object]) -> str:
    """What a document has for a server, with places of this computer for those it names."""
    [block] = re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    for there, here in places.items():
        assert there in block, there
        block = block.replace(there, str(here))
    return str(block)


@contextmanager
def documented_server(
    server: str, folder: Path, port: int, block: str, require: Callable[[str], str]
) -> Iterator[None]:
    """nginx, where the block is a `server`, or apache2."""
    program = require(server)
    folder.mkdir(exist_ok=True)
    folder.joinpath("empty").mkdir(exist_ok=True)
    modules = "\n".join(
        f"LoadModule {each}_module /usr/lib/apache2/modules/mod_{each}.so" for each in _MODULES
    )
    config = folder / "server.conf"
    template = _DOCUMENTED_NGINX if server == "nginx" else _DOCUMENTED_APACHE
    user = "user root;" if os.geteuid() == 0 else ""
    values = {"folder": folder, "port": port, "snippet": block, "modules": modules, "user": user}
    config.write_text(template.format(**values))
    command = [program, "-p", str(folder), "-e", f"{folder}/start.log", "-c", str(config)]
    if server != "nginx":
        command = [program, "-X", "-f", str(config)]
    with running(command, port):
        yield


def write_user(file: Path, user: str, password: str, openssl: str) -> None:
    """The file of a study with one user, made as the documentation says."""
    file.parent.mkdir(parents=True, exist_ok=True)
    digest = subprocess.check_output([openssl, "passwd", "-apr1", password], text=True)
    file.write_text(f"{user}:{digest}")


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
    """Below those that the system gives to others meanwhile, for connections too."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_768)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


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
