"""The page of datalad-catalog with our nodes, in a browser."""

import re
import shlex
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from icf_tools.catalog import nodes
from icf_tools.catalog.listing import Listing
from icf_tools.catalog.nodes import Node, node_text
from icf_tools.catalog.shell import shell_files
from icf_tools.model.brand import Brand
from tests.catalog.browser import Look, Visitor
from tests.catalog.conftest import Serve
from tests.catalog.test_nodes import BRAND, ITEMS, MD5, URL, catalog, listed, listing, versioned

pytestmark = pytest.mark.slow

Show = Callable[..., Visitor]

HOSTILE = {
    "Modality": "<script>window.hit = 1</script>",
    "SeriesDescription": "<img src=x onerror='window.hit = 2'>",
    "ProtocolName": "javascript:window.hit=3",
    "Manufacturer": '"\' onmouseover="window.hit=4"',
    "ManufacturerModelName": "{{window.hit=5}} {{constructor.constructor('window.hit=5')()}}",
    "StudyDate": "path:<b>x",
    "BodyPartExamined": "[x](javascript:window.hit=6) @context __proto__",
    "MRAcquisitionType": "left \u202ethgir",
    "RepetitionTime": "&lt;b&gt; &amp;",
    "EchoTime": "W" * 10_000,
}


@pytest.fixture
def show(tmp_path: Path, serve: Serve, look: Look) -> Show:
    """Serve a study's catalog below a path, and open its home page."""

    def visit(
        listings: Iterable[Listing],
        brand: Brand = BRAND,
        items: Iterable[Node] = ITEMS,
        **options: object,
    ) -> Visitor:
        files = dict(shell_files(brand))
        made = catalog(listings, brand, items)
        files |= {path: node_text(node) for path, node in made.items()}
        for path, content in files.items():
            place = tmp_path / "store" / "study" / "catalog" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        server = serve(tmp_path / "store", below="/data/store")
        guest = look(f"{server.url}/study/catalog/", **options)
        guest.open()
        return guest

    return visit


def go_to(page: Page, visit: str) -> None:
    page.locator("h5").get_by_text(visit, exact=True).click()
    expect(page.locator(".dataset-title")).to_have_text(visit)


def test_the_home_page_lists_the_visits(show: Show) -> None:
    guest = show([versioned(), listing("S02")])
    page = guest.page
    expect(page.locator("h5").filter(visible=True)).to_have_text(["S01", "S02"])
    assert page.title() == "A study"
    expect(page.get_by_text("Description: Two <i>visits</i>.")).to_be_visible()
    for pill in ("Visits: 2", "Images: 12", "Size: 20.5\u00a0kB"):
        expect(page.get_by_role("button", name=pill)).to_be_visible()
    for button in ("Explore with Binder", "Download with DataLad", "View on GitHub"):
        assert not any(each.is_visible() for each in page.get_by_text(button).all())
    search = page.get_by_role("link", name="Search for series")
    assert search.get_attribute("href") == "search/index.html"
    guest.shot("shell-home")


def test_one_request_tells_of_all_visits(show: Show) -> None:
    guest = show([listing(f"S{number:02}") for number in range(60)])
    page = guest.page
    expect(page.get_by_text("The first 50 of 60 are listed.")).to_be_visible()
    expect(page.locator("h5").filter(visible=True)).to_have_count(50)
    assert not [url for url in guest.requests if nodes.visit_id(listing("S07").visit) in url]
    page.get_by_placeholder("Filter by name").fill("s59")
    expect(page.locator("h5").filter(visible=True)).to_have_text(["S59"])
    go_to(page, "S59")


def test_the_page_of_a_visit(show: Show) -> None:
    guest = show([versioned(), listing("S02")])
    page = guest.page
    go_to(page, "S01")
    expect(page.get_by_text("Version: aaaaaaa Last updated: 2023-11-14")).to_be_visible()
    for pill in ("Tarball: 10.2\u00a0kB", "Series: 2", "Images: 6", "Derived files: 1"):
        expect(page.get_by_role("button", name=pill)).to_be_visible()
    ours = page.get_by_role("link", name="See series and pictures")
    assert ours.get_attribute("href") == "view/S01.html"
    expect(page.get_by_role("tab", name="DICOM")).to_have_attribute("aria-selected", "true")
    row = page.get_by_role("row").filter(has_text="Series 1")
    expect(row).to_contain_text("TE: 2.46, 4.92\u00a0ms")
    guest.shot("shell-visit")

    page.get_by_role("tab", name="Content").click()
    for folder in ("study_S01", "s1", "nifti"):
        page.locator("li").get_by_text(folder, exact=True).click()
    expect(page.get_by_text("im2.dcm")).to_be_visible()
    link = page.get_by_role("link", name="1_t1.nii.gz")
    assert link.get_attribute("href") == "../S01_annex/key"
    assert link.get_attribute("download") == "1_t1.nii.gz"
    guest.shot("shell-content")

    page.locator(".fa-backward").click()
    expect(page.locator("h5").filter(visible=True)).to_have_text(["S01", "S02"])
    page.get_by_role("link", name="A study").click()
    page.reload()
    expect(page.locator("h5").filter(visible=True)).to_have_text(["S01", "S02"])


@pytest.mark.parametrize("secure", [True, False])
def test_the_command_is_shown_and_copied_as_a_shell_takes_it(show: Show, secure: bool) -> None:
    name = "S01" if secure else "S02"  # two browsers may have one clipboard
    guest = show([listing(name)])
    page = guest.page
    if secure:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    else:
        page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    go_to(page, name)
    page.get_by_role("button", name="Download with DataLad").click()
    expect(page.get_by_text("pip install datalad datalad-next git-annex")).to_be_visible()
    shown = page.locator("#clone_code").inner_text().strip()
    page.locator("#copyBtn").click()
    expect(page.get_by_text("Copied!")).to_be_visible()
    page.get_by_role("button", name="OK").click()
    expect(page.locator("#modal-1")).to_be_hidden()
    page.evaluate("document.body.prepend(document.createElement('textarea'))")
    page.locator("textarea").focus()
    page.keyboard.press("Control+V")
    assert page.locator("textarea").input_value() == shown

    clone_url = listing(name).visit.clone_url(URL)
    assert shlex.split(shown) == ["datalad", "clone", clone_url, name]
    subprocess.run(["bash", "-n", "-c", shown], check=True)
    stub = "datalad() { printf '%s\\n' \"$@\"; }\n"
    done = subprocess.run(["bash", "-c", stub + shown], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["clone", clone_url, name]


def test_what_is_hostile_is_text(show: Show) -> None:
    """The policy forbids what would run; that it did not have to is seen by no fault."""
    brand = Brand(
        name="<img src=x onerror='window.hit = 7'> {{window.hit = 7}}",
        description="<script>window.hit = 8</script> {{window.hit = 8}}",
        links=(("<b>{{window.hit = 9}}</b>", "https://example.org/\"'<b>"),),
    )
    values = {keyword: (value,) for keyword, value in HOSTILE.items()}
    bad = listing("S01", listed(1, **values))
    folder, name = (
        "<img src=x onerror='window.hit=10'>",
        "\u202e<script>window.hit=11<\\script>.dcm",
    )
    items = [{"path": f"study_S01/{folder}/{name}", "size": 1}]
    guest = show([bad, *(listing(f"S{number}") for number in range(3))], brand, items)
    page = guest.page
    assert page.title() == brand.name
    expect(page.locator("nav").get_by_text(brand.links[0][0])).to_be_visible()
    expect(page.locator(".h1")).to_have_text(brand.name)
    expect(page.locator(".dataset-title")).to_have_text(brand.name)
    expect(page.get_by_text(f"Description: {brand.description}")).to_be_visible()
    expect(page.get_by_role("button", name=HOSTILE["SeriesDescription"]).first).to_be_visible()
    page.get_by_role("button", name="Keywords").hover()
    guest.shot("shell-hostile-home")
    _is_harmless(page)

    go_to(page, "S01")
    table = page.get_by_role("table").inner_text()
    for keyword, text in HOSTILE.items():
        if keyword == "EchoTime":
            assert f"TE: {'W' * 199}\u2026" in table
        else:
            assert re.sub("[\u202e]", "\ufffd", text) in table, keyword
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 1280
    guest.shot("shell-hostile-visit")
    page.get_by_role("tab", name="Content").click()
    for each in ("study_S01", folder):
        page.locator("li").get_by_text(each, exact=True).click()
    expect(page.locator("li").get_by_text("<script>window.hit=11")).to_be_visible()
    guest.shot("shell-hostile-content")
    _is_harmless(page)


def _is_harmless(page: Page) -> None:
    assert page.evaluate("window.hit") is None
    assert page.locator("img[src='x'], script:not([src])").count() == 0
    links = page.locator("a[href]").evaluate_all("links => links.map(link => link.href)")
    assert not [link for link in links if link.startswith("javascript:")]


def test_the_search_is_offered_where_the_page_cannot_run(show: Show) -> None:
    guest = show([listing("S01")], scripts=False)
    expect(guest.page.get_by_role("link", name="Search for series")).to_be_visible()


def test_a_visit_that_is_gone_is_not_found(show: Show) -> None:
    guest = show([listing("S01")])
    gone = replace(listing(), visit=listing("S09").visit)
    expect(guest.page.locator("h5").filter(visible=True)).to_have_text(["S01"])
    guest.page.goto("about:blank")
    guest.page.goto(f"{guest.home}#/dataset/{nodes.visit_id(gone.visit)}/{MD5}")
    expect(guest.page.get_by_text("Page not found")).to_be_visible()
    guest.forgive("404")
