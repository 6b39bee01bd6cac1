"""URLs that are recorded for good."""

import pytest

from icf_tools.model.url import BadUrl, checked_url


@pytest.mark.parametrize(
    "url",
    ["https://a.org/x", "http://localhost:8080", "file:///data/my%20store", "ssh://user@host/x"],
)
def test_urls_that_are_recorded(url: str) -> None:
    assert checked_url(f"{url}/") == url


def test_a_scheme_has_no_case() -> None:
    assert checked_url("HTTPS://Data.Example.org/Store") == "https://Data.Example.org/Store"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/data/store",
        "data.org/store",
        "https://me:secret@a.org",
        "https://me@a.org",
        "ssh://me:secret@a.org",
        "https://a.org/x y",
        "https://a.org/?q",
        "https://a.org/#x",
        "https://a.org/{x}",
        "https://a.org/\nx",
        "file://store",
        "file://./store",
        "file://",
        "file:///",
        "https:///x",
        "https://a:99999/x",
        "https://a:b/x",
        "https://a.org/50%",
        "s3://bucket/store",
        "ftp://a.org/x",
    ],
)
def test_urls_that_are_not(url: str) -> None:
    with pytest.raises(BadUrl) as caught:
        checked_url(url)
    assert "secret" not in str(caught.value)
