"""The browser of the tests sees what it must see, so that silence means something."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error

from tests.catalog.browser import Look, Visitor, visitors
from tests.catalog.conftest import Serve

pytestmark = pytest.mark.slow

STRICT = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:"
ICON = '<link rel="icon" href="data:,">'  # a browser asks for /favicon.ico otherwise
HEAD = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>A page</title>
<meta http-equiv="Content-Security-Policy" content="{STRICT}">
{ICON}<link rel="stylesheet" href="page.css">"""


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    folder = tmp_path / "pages" / "study"
    folder.mkdir(parents=True)
    (folder / "page.css").write_text("h1 { color: rgb(1, 2, 3) } p { color: #bbb }")
    return folder


@pytest.fixture
def show(pages: Path, serve: Serve, look: Look) -> Callable[..., Visitor]:
    """Visit a page with a body."""

    def visit(body: str, head: str = HEAD, **options: object) -> Visitor:
        (pages / "index.html").write_text(f"{head}<main><h1>Heading</h1>{body}</main>")
        guest = look(serve(pages.parent).url, **options)
        guest.open("/study/")
        return guest

    return visit


def test_nothing_is_found_on_a_good_page(show: Callable[..., Visitor]) -> None:
    guest = show("")
    assert guest.axe() == []
    assert [url.removeprefix(guest.home) for url in guest.requests] == [
        *("/study/", "/study/page.css")
    ]
    colour = "getComputedStyle(document.querySelector('h1')).color"
    assert guest.page.evaluate(colour) == "rgb(1, 2, 3)"


@pytest.mark.parametrize(
    "kind", ["img src", "script src", "iframe src", "link rel=preload as=image href"]
)
def test_another_host_is_a_fault(show: Callable[..., Visitor], kind: str) -> None:
    guest = show(
        f"<{kind}='http://elsewhere.example/x'>", head=f"<!doctype html><title>x</title>{ICON}"
    )
    guest.forgive("requested from elsewhere: http://elsewhere.example/x")
    if "img" in kind:
        guest.forgive(
            "ERR_NAME_NOT_RESOLVED (http://elsewhere.example/x)"
        )  # it was not even looked up
    guest.forgive("elsewhere.example")


def test_another_host_that_the_policy_forbids_is_a_fault(show: Callable[..., Visitor]) -> None:
    guest = show("<img src='http://elsewhere.example/x' alt=''>")
    guest.forgive("Content Security Policy: img-src http://elsewhere.example/x")
    guest.forgive("elsewhere.example")  # the browser's own words


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("console.error('I am broken')", "I am broken"),
        ("throw new Error('thrown')", "uncaught: "),
        ("Promise.reject(new Error('rejected'))", "rejected"),
        ("try { new Function('1')() } catch {}", "Content Security Policy"),
        ("fetch('nowhere.json')", "404"),
        ("document.body.style.color = 'red'; document.body.setAttribute('style', 'x')", "Content"),
    ],
)
def test_a_script_that_fails_is_a_fault(
    show: Callable[..., Visitor], pages: Path, script: str, said: str
) -> None:
    (pages / "page.js").write_text(script)
    allowed = HEAD.replace("style-src", "connect-src 'self'; style-src")
    guest = show("<script src='page.js'></script>", head=allowed)
    guest.forgive(said)
    assert guest.faults == []


def test_what_is_left_fails_the_test(browser: Browser, pages: Path) -> None:
    (pages / "index.html").write_text(f"{ICON}<script>console.error('I am broken')</script>")
    with (
        pytest.raises(pytest.fail.Exception, match="I am broken"),
        visitors(browser, pages) as look,
    ):
        look(pages).open("/index.html")


def test_axe_finds_what_is_planted_and_obeys_the_policy(show: Callable[..., Visitor]) -> None:
    guest = show("<p>pale</p><input><img src='data:image/gif;base64,R0lGODlhAQABAAAAACw='>")
    assert {found.split()[0] for found in guest.axe()} == {"color-contrast", "image-alt", "label"}


def test_colours_size_and_scripts_are_the_visitors(show: Callable[..., Visitor]) -> None:
    body = "<noscript><p id=none>no scripts</p></noscript>"
    assert show(body, scripts=False).page.locator("#none").is_visible()
    guest = show(body, dark=True, size=(360, 640))
    media = "q => matchMedia(q).matches"
    assert guest.page.evaluate(media, "(prefers-color-scheme: dark) and (width: 360px)")
    assert guest.page.locator("#none").count() == 0
    assert guest.shot("narrow").read_bytes()[1:4] == b"PNG"


def test_a_password_opens_one_study_below_a_path(pages: Path, serve: Serve, look: Look) -> None:
    (pages / "index.html").write_text(f"{HEAD}<h1>Heading</h1>")
    server = serve(pages.parent, below="/some/where", public=False)
    server.allow("study", "lab", "correct horse")
    guest = look(server.url, credential=("lab", "correct horse"))
    assert guest.open("/study/").title() == "A page"
    stranger = look(server.url)
    with pytest.raises(Error, match="INVALID_AUTH_CREDENTIALS"):
        stranger.open("/study/")
    stranger.forgive("401")
    outside = server.url.removesuffix("/some/where")
    assert guest.page.request.get(f"{outside}/study/").status == 404


def test_a_page_of_the_disk_has_graphics_and_gives_downloads(pages: Path, look: Look) -> None:
    (pages / "index.html").write_text(
        "<!doctype html><title>x</title><a download='a.txt' href='data:text/plain,x'>get</a>"
    )
    guest = look(pages)
    page = guest.open("/index.html")
    assert page.evaluate("document.createElement('canvas').getContext('webgl2') !== null")
    with page.expect_download() as download:
        page.get_by_text("get").click()
    assert download.value.path().read_text() == "x"
