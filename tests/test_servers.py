"""What a web server of the tests tells about its requests."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tests.servers import Authority, Request, web_server


@pytest.mark.slow
def test_requests_over_tls_are_noted(tmp_path: Path, require: Callable[[str], str]) -> None:
    content = bytes(1000)
    (tmp_path / "store" / "study").mkdir(parents=True)
    (tmp_path / "store" / "study" / "a.tar").write_bytes(content)
    authority = Authority.new(tmp_path / "authority", require("openssl"))
    known = str(authority.certificate)
    root, nginx = tmp_path / "store", require("nginx")
    with web_server(root, tmp_path / "web", nginx, tls=authority) as server:
        server.allow("study", "erika", "pw")
        url = f"{server.url}/study/a.tar"
        assert requests.get(url, timeout=30, verify=known).status_code == 401
        for host in ("127.0.0.1", "localhost"):
            answer = requests.get(
                url.replace("127.0.0.1", host),
                auth=("erika", "pw"),
                headers={"Range": "bytes=5-14"},
                timeout=30,
                verify=known,
            )
            assert answer.content == content[5:15]
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(url, timeout=30)
        refused, *got = server.requests()
        assert (refused.status, refused.range) == (401, "-")
        assert got == [Request("erika", "/study/a.tar", 206, 10, "bytes=5-14")] * 2
        assert server.sent(".tar") == refused.bytes + 20
        assert server.sent("other") == 0
        assert server.served()[1] == ("erika", "/study/a.tar", "206")


def test_a_certificate_is_one_that_the_strictest_accept(
    tmp_path: Path, require: Callable[[str], str]
) -> None:
    authority = Authority.new(tmp_path / "authority", require("openssl"))
    certificate, key = authority.sign(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    client = ssl.create_default_context(cafile=str(authority.certificate))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (ours, theirs) * 3:
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert ours.getpeercert() is not None
