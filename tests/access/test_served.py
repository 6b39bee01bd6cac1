"""A store served as the documentation says: by nginx with TLS, and by Apache."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests import dicoms
from tests.dataset.clients import Client, Deposit, deposit, fill
from tests.servers import Authority, documented_server, free_port, snippet, write_user

pytestmark = [pytest.mark.slow, pytest.mark.annex]

DOCUMENT = Path(__file__).parents[2] / "docs" / "access.md"
STUDY, OTHER, VISIT = "my-study", "other-study", "P000123"
USER, OTHER_USER = ("lab", "correct horse"), ("lab", "battery staple")
HIDDEN = (f".{VISIT}.lock", f".{VISIT}%derive-1/image.dcm")


@dataclass(frozen=True, slots=True)
class Archive:
    """A store with a visit, for which a server is at hand."""

    folder: Path
    port: int
    visit: Deposit

    def ask(
        self, server: str, path: str, user: tuple[str, str] | None = USER, part: str = ""
    ) -> requests.Response:
        scheme = "https" if server == "nginx" else "http"
        url = f"{scheme}://127.0.0.1:{self.port}/{path.replace('%', '%25')}"
        head = {"Range": part} if part else {}
        known = str(self.folder / "authority" / "authority.pem")
        return requests.get(url, auth=user, headers=head, verify=known, timeout=30)


@pytest.fixture(scope="module")
def archive() -> Iterator[Archive]:
    """In a folder that a server may enter as another user."""
    with tempfile.TemporaryDirectory(prefix="icf-access-", dir="/var/tmp") as name:
        folder, port = Path(name), free_port()
        folder.chmod(0o755)
        url = f"https://127.0.0.1:{port}/store"
        source = dicoms.visit(folder / "incoming")
        visit = deposit(folder / "store", source, url, f"{STUDY}/{VISIT}")
        fill(folder / "store" / STUDY, dict.fromkeys(HIDDEN, b"not for users"))
        fill(folder / "store" / OTHER, {"notes.txt": b"of the others"})
        yield Archive(folder, port, visit)


@contextmanager
def served(archive: Archive, server: str, require: Callable[[str], str]) -> Iterator[Authority]:
    """With a password of its own for each study."""
    folder, openssl = archive.folder / server, require("openssl")
    folder.mkdir(exist_ok=True)
    for study, user in {STUDY: USER, OTHER: OTHER_USER}.items():
        write_user(folder / "users" / study, *user, openssl)
    if (archive.folder / "authority").exists():
        authority = Authority(archive.folder / "authority", openssl)
    else:
        authority = Authority.new(archive.folder / "authority", openssl)
    places: dict[str, object] = {f"/etc/{server}/users": folder / "users"}
    if server == "nginx":
        certificate, key = authority.sign(folder)
        places |= {
            "listen 443 ssl": f"listen 127.0.0.1:{archive.port} ssl",
            "/etc/ssl/certs/data.example.org.pem": certificate,
            "/etc/ssl/private/data.example.org.key": key,
            "root /data;": f"root {archive.folder};",
        }
    else:
        places["/data/store"] = archive.folder / "store"
    block = snippet(DOCUMENT.read_text(), server.rstrip("2"), places)
    with documented_server(server, folder, archive.port, block, require):
        yield authority


@pytest.mark.parametrize("server", ["nginx", "apache2"])
def test_what_the_document_says(
    archive: Archive, server: str, require: Callable[[str], str]
) -> None:
    study = f"store/{STUDY}"
    with served(archive, server, require):
        for path in (f"{study}/{VISIT}_dicom.tar", f"{study}/{VISIT}_XDLRA--refs"):
            content = (archive.folder / path).read_bytes()
            whole = archive.ask(server, path)
            assert (whole.status_code, whole.content) == (200, content)
            part = archive.ask(server, path, part="bytes=5-24")
            assert (part.status_code, part.content) == (206, content[5:25])
            assert part.headers["Content-Range"] == f"bytes 5-24/{len(content)}"
            for answer in whole, part:
                assert "gzip" in answer.request.headers["Accept-Encoding"]
                assert "Content-Encoding" not in answer.headers
        for place, realm in ((study, STUDY), (f"store/{OTHER}", OTHER)):
            for user in (None, OTHER_USER if realm == STUDY else USER):
                refused = archive.ask(server, f"{place}/notes.txt", user)
                assert refused.status_code == 401
                assert refused.headers["WWW-Authenticate"] == f'Basic realm="{realm}"'
        others = archive.ask(server, f"store/{OTHER}/notes.txt", OTHER_USER)
        assert others.content == b"of the others"
        for path in (*(f"{study}/{name}" for name in HIDDEN), f"{study}/", "store/", "", "etc"):
            assert archive.ask(server, path).status_code in (403, 404), path


def test_a_stock_client_gets_over_tls(
    archive: Archive, tmp_path: Path, require: Callable[[str], str]
) -> None:
    with served(archive, "nginx", require) as authority:
        client = Client.new(tmp_path / "user", authority.certificate)
        client.set_credential("lab", f"https://127.0.0.1:{archive.port}/{STUDY}", *USER)
        clone = client.clone(archive.visit.clone_url, tmp_path / "clone")
        path = f"{STUDY}_{VISIT}/series_1/im002.dcm"
        clone.get(path)
        with pytest.raises(requests.exceptions.SSLError):  # who does not know the authority
            requests.get(archive.visit.store_url, timeout=30)
    source = archive.visit.source / "series_1" / "im002.dcm"
    assert (clone.path / path).read_bytes() == source.read_bytes()
    assert clone.here == {path, archive.visit.tarball}
