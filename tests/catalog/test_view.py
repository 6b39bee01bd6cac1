"""The page of a visit in a browser: series, pictures, and the viewer with volumes."""

import gzip
import io
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Frame, Page, Route, expect

from icf_tools.catalog.assets import VIEWER, static_files
from icf_tools.catalog.listing import Listed, Listing, Output, Preview, Volume
from icf_tools.catalog.pages import Pages
from icf_tools.catalog.view import view_page
from icf_tools.dataset.versions import Change
from icf_tools.derive.preview import Window, draw
from icf_tools.derive.volumes import Volumes
from icf_tools.model.brand import Brand
from tests.catalog.browser import Look, Visitor
from tests.catalog.conftest import Serve
from tests.catalog.test_nodes import URL, listed, listing
from tests.catalog.test_view_page import HOSTILE, version
from tests.conftest import missing

pytestmark = pytest.mark.slow

BRAND = Brand(name="A study")
OTHER = "<!doctype html><title>Other</title><link rel=icon href=data:,>"
BUNDLE = static_files(BRAND, None, viewer=True)
LIBRARY = f"{VIEWER}/niivue.umd.js"
WAIT = 60_000  # ms: without a graphics card, on a busy machine
WINDOW = (0.0, 1000.0)
MARK = (30, 40, 20)
"""A voxel of HEAD that is white; right, at the front, towards the head."""
TURN = np.deg2rad(8)
HEAD = np.array(
    [
        [-2.0, 0.0, 0.0, 37.0],  # the first axis runs to the left
        [0.0, 2 * np.cos(TURN), -3 * np.sin(TURN), -41.0],
        [0.0, 2 * np.sin(TURN), 3 * np.cos(TURN), -30.0],
        [0.0, 0.0, 0.0, 1.0],
    ]
)


def head() -> NDArray[Any]:
    """A grey ellipsoid with a white cube on the left of the array's own axes."""
    grid = np.indices((40, 48, 24))
    center, radius = np.array([20, 24, 12]), np.array([17, 20, 10])
    inside = (((grid.T - center) / radius) ** 2).sum(-1).T < 1
    values = np.where(inside, 300, 0).astype(np.int16)
    i, j, k = MARK
    values[i - 2 : i + 3, j - 2 : j + 3, k - 2 : k + 3] = 1000
    return values


def series_of(values: NDArray[Any], affine: NDArray[Any]) -> NDArray[Any]:
    """Nothing but noise that grows from volume to volume."""
    noise = np.random.default_rng(1).integers(500, 1000, values.shape)
    return np.stack([noise + 1000 * n for n in range(4)], axis=-1).astype(np.int16)


def put(folder: Path, name: str, values: NDArray[Any], affine: NDArray[Any]) -> Volume:
    """A file with its pictures, as they are in the annex."""
    path = folder / f"{name}.nii.gz"
    nib.Nifti1Image(values, affine).to_filename(path)
    return pictured(path)


def pictured(path: Path, window: tuple[float, float] = WINDOW) -> Volume:
    folder, name = path.parent, path.name.removesuffix(".nii.gz")
    draw(Volumes.load(path), Window(*window), folder, name)

    def output(suffix: str, target: str) -> Output:
        file = folder / f"{name}{suffix}"
        return Output(f"{target}/{file.name}", f"../../S01_annex/{file.name}", file.stat().st_size)

    with Image.open(folder / f"{name}.webp") as montage:
        width, height = montage.size
    edges = {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    made = (output(".webp", "preview"), output("_thumb.webp", "preview"))
    preview = Preview(*made, width, height, "axial", edges, window)
    return Volume(output(".nii.gz", "nifti"), preview)


def converted(number: int, volume: Volume, *, frame: str = "1", **values: Any) -> Listed:
    plain = listed(number, **values)
    return replace(
        plain,
        series=replace(plain.series, frame=frame),
        status="verified",
        outputs=(volume.file,),
        volumes=(volume,),
    )


@pytest.fixture
def annex(tmp_path: Path) -> Path:
    folder = tmp_path / "store" / "study" / "S01_annex"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def visit(annex: Path) -> Listing:
    """Series 1 with a mark, 2 with four volumes, 3 in another frame, 4 that failed."""
    near = HEAD.copy()
    near[:3, 3] += 3
    values = head()
    made = (
        converted(1, put(annex, "head", values, HEAD)),
        converted(2, put(annex, "bold", series_of(values, HEAD), near)),
        converted(3, put(annex, "later", values[::-1], HEAD), frame="2"),
        replace(listed(4), status="failed", reason="slice 7 is missing"),
    )
    return listing("S01", *made)


@pytest.fixture
def catalog(tmp_path: Path) -> Callable[[Listing], Path]:
    """Write the page and what it needs."""
    if not any(str(path).endswith(LIBRARY) for path in BUNDLE):
        missing("niivue")

    def write(visit: Listing) -> Path:
        folder = tmp_path / "store" / "study" / "catalog"
        page = view_page(visit, Pages("0", BRAND), deposit_url=URL).encode()
        for path, content in [(Path("view/S01.html"), page), *BUNDLE.items()]:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        return folder

    return write


Show = Callable[..., Visitor]


@pytest.fixture
def show(
    visit: Listing, catalog: Callable[[Listing], Path], serve: Serve, look: Look, tmp_path: Path
) -> Show:
    """Open the page, with a query; wait for the viewer where that asks for it."""

    def open_(query: str = "", of: Listing = visit, **options: Any) -> Visitor:
        catalog(of)
        guest = look(serve(tmp_path / "store", below="/data/store").url, **options)
        guest.open(f"/study/catalog/view/S01.html{query}")
        if "series=" in query:
            shown(guest.page)
        return guest

    return open_


def shown(page: Page | Frame) -> None:
    expect(page.locator("#viewer-value")).not_to_be_empty(timeout=WAIT)
    expect(page.locator("#viewer-state")).to_be_hidden(timeout=WAIT)


def says(guest: Visitor, text: str) -> None:
    """In place of the picture; and there is the file to download."""
    expect(guest.page.locator("#viewer-state")).to_contain_text(text, timeout=WAIT)
    expect(guest.page.locator("#viewer-download")).to_be_visible()
    expect(guest.page.locator("#viewer-low")).to_be_hidden()


def has(part: str) -> re.Pattern[str]:
    return re.compile(re.escape(part))


def pixels(page: Page | Frame) -> NDArray[Any]:
    """(row, column, RGB) of what is drawn."""
    page.wait_for_timeout(300)
    shot = page.locator("#viewer-canvas").screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)


def field(page: Page, name: str) -> str:
    return page.locator(f"#viewer-{name}").input_value()


def text(page: Page, name: str) -> str:
    return page.locator(f"#viewer-{name}").inner_text()


def position(*voxel: int) -> tuple[str, tuple[float, ...]]:
    """As a parameter of the URL, LPS; and RAS. mm."""
    ras = HEAD @ [*voxel, 1]
    return f"{-ras[0]:.3f},{-ras[1]:.3f},{ras[2]:.3f}", tuple(ras[:3])


def test_a_volume_is_drawn_as_it_lies(show: Show) -> None:
    at, ras = position(*MARK)
    guest = show(f"?series=1&slice=axial&at={at}")
    grey = pixels(guest.page).min(axis=-1)  # the crosshair is blue
    rows, columns = np.nonzero(grey > 220)
    height, width = grey.shape
    assert (grey > 40).mean() > 0.1
    # the first axis runs to the left, so its upper end is on the right
    assert columns.mean() > width / 2
    assert rows.mean() < height / 2
    assert text(guest.page, "value") == "1000"
    assert text(guest.page, "voxel") == "30, 40, 20"
    assert text(guest.page, "ras") == ", ".join(f"{mm:.1f}" for mm in ras)
    assert [float(field(guest.page, axis)) for axis in "xyz"] == pytest.approx(
        [-ras[0], -ras[1], ras[2]], abs=0.01
    )
    assert "40 × 48 × 24 voxels of 2 × 2 × 3 mm" in text(guest.page, "about")


def test_each_kind_of_slice_is_drawn(show: Show) -> None:
    page = show("?series=1").page
    for choice in ("Axial", "Coronal", "Sagittal", "All three", "3D"):
        page.get_by_role("radio", name=choice).check()
        assert (pixels(page).min(axis=-1) > 40).mean() > 0.02, choice


TOWARDS = {"R": (0, -1), "L": (0, 1), "A": (1, -1), "P": (1, 1), "I": (2, -1), "S": (2, 1)}
"""Axis and direction of a letter, LPS."""
SLANTED = HEAD[:, [2, 0, 1, 3]] * [-1, -1, 1, 1]
"""Other axes in another order, and other ones of them turned."""


@pytest.mark.parametrize("affine", [HEAD, SLANTED], ids=["head", "slanted"])
def test_letters_are_right_and_readable(show: Show, annex: Path, affine: NDArray[Any]) -> None:
    # a wrong one would harm someone, and white on white is none
    white = put(annex, "white", np.full((24, 20, 22), 1000, np.int16), affine)
    page = show("?series=1", of=listing("S01", converted(1, white))).page
    for choice, count in (("Axial", 1), ("Coronal", 1), ("Sagittal", 1), ("All three", 3)):
        page.get_by_role("radio", name=choice).check()
        seen = pixels(page)
        origin = page.locator("#viewer-canvas").bounding_box()
        letters = page.locator("#viewer-sides span").all()
        assert origin
        assert len(letters) == 4 * count
        places = []
        for letter in letters:
            box = letter.bounding_box()
            assert box
            x, y = box["x"] - origin["x"], box["y"] - origin["y"]
            width, height = box["width"], box["height"]
            part = seen[round(y) + 2 : round(y + height) - 2, round(x) + 2 : round(x + width) - 2]
            assert part.max() > 220
            assert (part.max(axis=-1) < 40).mean() > 0.3
            assert np.ptp(part, axis=-1).max() < 60  # the crosshair is blue
            places.append((box["x"] + width / 2, box["y"] + height / 2))
        # opposite letters: what is nearer to one of them lies towards its side
        for place in range(0, len(letters), 2):
            names = [letters[place].inner_text(), letters[place + 1].inner_text()]
            (axis, sign), (other, turned) = (TOWARDS[name] for name in names)
            assert (other, turned) == (axis, -sign)
            ends = np.array(places[place : place + 2])
            inner = ends.mean(axis=0) + (ends - ends.mean(axis=0)) * 0.4
            found = []
            for at in inner:
                page.mouse.click(*at)
                found.append(float(field(page, "xyz"[axis])))
            assert (found[0] - found[1]) * sign > 5


def test_window(show: Show) -> None:
    guest = show("?series=1&slice=axial")
    page = guest.page
    before = pixels(page)
    assert (field(page, "low"), field(page, "high")) == ("0", "1000")
    page.fill("#viewer-high", "310")
    page.press("#viewer-high", "Enter")
    brighter = pixels(page)
    assert (brighter.min(axis=-1) > 220).mean() > (before.min(axis=-1) > 220).mean() + 0.1
    expect(page).to_have_url(has("high=310"))
    page.fill("#viewer-low", "400")  # above white: nothing changes
    page.press("#viewer-low", "Enter")
    expect(page.locator("#viewer-window-fault")).to_contain_text("Black has to be a smaller")
    expect(page).to_have_url(has("high=310"))
    assert (abs(pixels(page) - brighter) > 40).mean() < 0.02
    page.fill("#viewer-low", "")
    page.press("#viewer-low", "Tab")
    assert (field(page, "low"), field(page, "high")) == ("0", "310")
    expect(page.locator("#viewer-window-fault")).to_be_hidden()
    page.click("#viewer-reset")
    assert (field(page, "low"), field(page, "high")) == ("0", "1000")
    expect(page).not_to_have_url(has("high"))


def test_overlay(show: Show) -> None:
    guest = show("?series=1&slice=axial")
    page = guest.page
    coloured = np.ptp(pixels(page), axis=-1) > 100
    page.select_option("#viewer-overlay", "2")
    expect(page.locator("#viewer-over-value")).not_to_be_empty(timeout=WAIT)
    assert (np.ptp(pixels(page), axis=-1) > 100).mean() > coloured.mean() + 0.1
    assert int(text(page, "over-value")) >= 500
    expect(page.locator("#viewer-warning")).to_be_hidden()
    page.locator("#viewer-opacity").fill("0")
    assert (np.ptp(pixels(page), axis=-1) > 100).mean() < coloured.mean() + 0.01
    page.select_option("#viewer-overlay", "3")
    expect(page.locator("#viewer-warning")).to_contain_text("different frames of reference")
    expect(page).to_have_url(has("overlay=3&opacity=0&"))
    page.select_option("#viewer-overlay", "")
    expect(page.locator("#viewer-warning")).to_be_hidden()
    expect(page.locator("#viewer-over")).to_be_hidden()


def test_an_overlay_that_does_not_come(show: Show) -> None:
    guest = show("?series=1&slice=axial")
    page = guest.page
    kept: list[Route] = []
    page.route("**/bold.nii.gz", lambda route: kept.append(route))
    page.select_option("#viewer-overlay", "2")
    expect(page.locator("#viewer-state")).to_have_text("Loading the overlay …")
    page.select_option("#viewer-overlay", "")
    expect(page.locator("#viewer-state")).to_be_hidden()
    page.select_option("#viewer-overlay", "3")
    expect(page.locator("#viewer-over-value")).to_be_visible(timeout=WAIT)
    page.unroute_all()
    page.route("**/bold.nii.gz", lambda route: route.fulfill(status=404))
    page.select_option("#viewer-overlay", "2")
    expect(page.locator("#viewer-warning")).to_contain_text("No overlay: This file is not on")
    expect(page.locator("#viewer-over")).to_be_hidden()
    expect(page.locator("#viewer-state")).to_be_hidden()
    expect(page).not_to_have_url(has("overlay"))
    guest.forgive("404")


def test_a_position_outside_is_the_nearest_inside(show: Show) -> None:
    page = show("?series=1&at=1e9,0,0").page
    assert text(page, "voxel").startswith("39, ")  # the first axis runs to the left
    page.fill("#viewer-x", "-1000")
    page.press("#viewer-x", "Enter")
    assert text(page, "voxel").startswith("0, ")
    assert field(page, "x") == "-37"
    assert text(page, "value") == "0"
    expect(page).to_have_url(has("at=-37,"))
    page.fill("#viewer-x", "")
    page.press("#viewer-x", "Enter")
    assert field(page, "x") == "-37"


def test_a_link_that_asks_for_too_much(show: Show) -> None:
    query = "?series=1&low=5&high=1&slice=odd&volume=9&overlay=77&opacity=x&at=1,2"
    page = show(query).page
    assert text(page, "warning") == (
        "The link asks for what there is not: black 5 with white 1, volume 9, opacity x, at 1,2, "
        "slice odd, overlay 77."
    )
    assert (field(page, "low"), field(page, "high")) == ("0", "1000")
    assert text(page, "voxel") == "20, 24, 12"
    assert page.get_by_role("radio", name="All three").is_checked()


def test_volumes_of_a_series(show: Show) -> None:
    page = show("?series=2&volume=3").page
    third = int(text(page, "value"))
    assert text(page, "volume-now") == "3 of 4"
    page.focus("#viewer-volume")
    page.keyboard.press("ArrowRight")
    assert int(text(page, "value")) == third + 1000
    expect(page).to_have_url(has("volume=4"))


def test_as_many_volumes_as_fit(show: Show) -> None:
    script = next(content for path, content in BUNDLE.items() if path.name == "viewer.js")
    assert b"1 << 29" in script
    guest = show()
    smaller = script.replace(b"1 << 29", b"200_000")
    guest.page.route(
        "**/viewer.js*", lambda route: route.fulfill(body=smaller, content_type="text/javascript")
    )
    guest.page.get_by_role("button", name="View series 2").click()
    shown(guest.page)
    assert text(guest.page, "volume-now") == "1 of 2"
    assert text(guest.page, "volumes-left").startswith("2 more are in the file")


def test_the_window_is_drawn_with_the_right_button(show: Show) -> None:
    page = show("?series=2&slice=axial").page
    box = page.locator("#viewer-canvas").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down(button="right")
    page.mouse.move(x + 60, y + 60, steps=5)
    page.mouse.up(button="right")
    expect(page.locator("#viewer-low")).not_to_have_value("0")
    expect(page).to_have_url(has("low="))


def test_the_url_tells_what_is_shown(show: Show) -> None:
    at, _ = position(10, 12, 9)
    query = "?series=1&overlay=2&opacity=0.25&low=10&high=600&slice=coronal&at="
    guest = show(query + at)
    page = guest.page
    expect(page.locator("#viewer-over-value")).not_to_be_empty(timeout=WAIT)
    expect(page).to_have_url(has(query))
    assert text(page, "voxel") == "10, 12, 9"
    link = page.locator("#viewer-link").text_content()
    assert link == page.url
    page.goto(str(link))
    shown(page)
    expect(page).to_have_url(str(link))
    page.click("#viewer-close")
    expect(page).to_have_url(str(link).partition("?")[0])


def test_embedded_in_another_page(show: Show, annex: Path) -> None:
    guest = show("?series=1&slice=axial")
    frame = guest.page.locator("#viewer-frame").text_content()
    (annex.parent / "other.html").write_text(f"{OTHER}{frame}")
    guest.open("/study/other.html")
    inner = guest.page.frames[1]
    shown(inner)
    expect(inner.locator("h1")).to_be_hidden()
    expect(inner.locator("#viewer-close")).to_be_hidden()
    assert (pixels(inner).min(axis=-1) > 40).mean() > 0.1
    box, all_ = inner.locator("#viewer-canvas").bounding_box(), inner.locator("body")
    assert box
    assert box["height"] > 0.8 * all_.evaluate("() => innerHeight")
    expect(inner.locator("#viewer-low")).to_be_hidden()
    inner.get_by_text("Controls", exact=True).click()
    expect(inner.locator("#viewer-low")).to_be_visible()
    assert "embed" in inner.url
    link = inner.locator("#viewer-page").get_attribute("href")
    assert link
    assert "series=1" in link
    assert "embed" not in link
    guest.shot("view-embedded")


def test_what_is_not_there(show: Show) -> None:
    guest = show()
    for query, words in [
        ("?series=9", "This visit has no series 9; close this, and choose one of the table."),
        ("?series=4", "Series 4 has no volume to show; its row tells"),
        ("?embed&series=%3Cb%3E", "This visit has no series <b>."),
    ]:
        guest.open(f"/study/catalog/view/S01.html{query}")
        expect(guest.page.locator("#viewer-state")).to_contain_text(words)
        expect(guest.page.locator("#viewer-controls")).to_be_hidden()


def test_a_visit_without_volumes(show: Show) -> None:
    guest = show(of=listing("S01", listed(4)))
    guest.open("/study/catalog/view/S01.html?embed&series=4")
    expect(guest.page.get_by_text("This visit has no volume to show.")).to_be_visible()


def test_from_a_file(visit: Listing, catalog: Callable[[Listing], Path], look: Look) -> None:
    guest = look(catalog(visit))
    page = guest.open("/view/S01.html")
    assert page.locator("table.series tbody tr").count() == 4
    for picture in page.locator("figure img").all():
        picture.scroll_into_view_if_needed()
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("image => image.naturalWidth") > 0
    page.get_by_role("button", name="View series 1").click()
    says(guest, "opened from a file may not read volumes; open it from a web server")


def test_the_viewer_is_not_there(
    show: Show, catalog: Callable[[Listing], Path], visit: Listing
) -> None:
    guest = show()
    (catalog(visit) / "static" / LIBRARY).unlink()
    guest.page.get_by_role("button", name="View series 1").click()
    says(guest, "NiiVue, which draws volumes, is not in this catalog; download the file")
    guest.forgive("404")


def test_the_volume_is_refused(show: Show) -> None:
    guest = show()
    statuses = [404, 403, 500, 0]

    def answer(route: Route) -> None:
        if statuses[0]:
            route.fulfill(status=statuses[0])
        else:
            route.abort()

    guest.page.route("**/*.nii.gz", answer)
    for words in (
        "not on the server (404)",
        "You may not read this file (403); ask who runs the server",
        "cannot give out this file (500); try again",
        "The server does not answer; try again",
    ):
        guest.page.get_by_role("button", name="View series 1").click()
        says(guest, words)
        guest.forgive(str(statuses.pop(0) or "ERR_FAILED"))
        guest.page.keyboard.press("Escape")


def test_a_damaged_file_and_one_after_it(show: Show, annex: Path) -> None:
    guest = show()
    path = annex / "head.nii.gz"
    path.write_bytes(path.read_bytes()[:-2000])
    guest.page.get_by_role("button", name="View series 1").click()
    says(guest, "The file is damaged, or did not arrive as a whole; try again")
    guest.page.keyboard.press("Escape")
    nib.Nifti2Image(head(), HEAD).to_filename(path)
    guest.page.get_by_role("button", name="View series 1").click()
    says(guest, "This is NIfTI-2, which this viewer does not read; download the file")
    guest.page.keyboard.press("Escape")
    guest.page.get_by_role("button", name="View series 2").click()
    shown(guest.page)
    assert int(text(guest.page, "value")) >= 500


def test_a_server_that_unpacks(show: Show, annex: Path) -> None:
    content = gzip.decompress((annex / "head.nii.gz").read_bytes())

    def answer(route: Route) -> None:
        route.fulfill(body=content)

    guest = show()
    guest.page.route("**/*.nii.gz", answer)
    guest.page.get_by_role("button", name="View series 1").click()
    shown(guest.page)
    assert text(guest.page, "value") == "300"


def test_the_graphics_card_gives_up(show: Show) -> None:
    guest = show("?series=1")
    guest.page.evaluate(
        "() => document.getElementById('viewer-canvas').getContext('webgl2')"
        ".getExtension('WEBGL_lose_context').loseContext()"
    )
    says(guest, "The graphics card has given up; close the viewer, and open it again")
    expect(guest.page.get_by_role("radio", name="Axial")).to_be_disabled()
    guest.page.keyboard.press("Escape")
    guest.page.get_by_role("button", name="View series 1").click()
    shown(guest.page)
    assert (pixels(guest.page).min(axis=-1) > 40).mean() > 0.02


def test_the_last_one_asked_for_is_shown(show: Show) -> None:
    page = show().page
    page.get_by_role("button", name="View series 1").click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="View series 2").click()
    shown(page)
    assert int(text(page, "value")) >= 500
    for overlay in ("3", "1", ""):
        page.select_option("#viewer-overlay", overlay)
    page.wait_for_timeout(2000)
    expect(page.locator("#viewer-over")).to_be_hidden()
    assert text(page, "over-value") == ""
    page.select_option("#viewer-overlay", "3")
    page.select_option("#viewer-overlay", "1")
    expect(page.locator("#viewer-over-value")).to_have_text("300", timeout=WAIT)
    expect(page).to_have_url(has("series=2&overlay=1&"))


def test_with_a_password(
    visit: Listing, catalog: Callable[..., Path], serve: Serve, look: Look
) -> None:
    folder = catalog(visit)
    server = serve(folder.parent.parent, public=False)
    server.allow("study", "user", "secret")
    guest = look(server.url, credential=("user", "secret"))
    guest.open("/study/catalog/view/S01.html?series=1")
    shown(guest.page)
    assert text(guest.page, "value") == "300"


def test_no_webgl(show: Show) -> None:
    guest = show()
    guest.page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    guest.page.reload()
    guest.page.get_by_role("button", name="View series 1").click()
    says(guest, "This browser has no WebGL 2")


def test_hostile_strings(show: Show, annex: Path, visit: Listing) -> None:
    rows = [
        converted(n, visit.series[0].volumes[0], SeriesDescription=(each,), Manufacturer=(each,))
        for n, each in enumerate(HOSTILE, 1)
    ]
    rows = [replace(row, reason=str(row.description)) for row in rows]
    changes = (version(1, Change(title="".join(HOSTILE))),)
    guest = show("?series=5&overlay=3", of=replace(listing("S01", *rows), versions=changes))
    page = guest.page
    assert page.evaluate("() => window.hit") is None
    texts = page.locator("table.series .what > :first-child, table.series .what > bdi").all()
    found = {each.text_content() for each in texts}
    assert set(HOSTILE) - found <= {HOSTILE[3]}  # HTML has no NUL
    guest.shot("view-hostile-viewer", whole=False)
    page.keyboard.press("Escape")
    wide = "() => document.documentElement.scrollWidth - innerWidth"
    assert page.evaluate(wide) <= 0
    assert guest.axe() == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate(wide) <= 0
    guest.shot("view-hostile")


@pytest.mark.parametrize("has_clipboard", [True, False], ids=["clipboard", "plain-http"])
def test_copy(show: Show, visit: Listing, has_clipboard: bool) -> None:
    guest = show(options={"permissions": ["clipboard-read", "clipboard-write"]})
    page = guest.page
    if not has_clipboard:
        page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
        page.reload()
    page.get_by_role("button", name="Copy: clone the dataset").click()
    expect(page.get_by_text("Copied").first).to_be_visible()
    page.evaluate("() => { const a = document.createElement('textarea'); document.body.append(a);"
                  " a.focus(); }")  # fmt: skip
    page.keyboard.press("Control+v")
    expect(page.locator("textarea")).to_have_value(
        f"datalad clone '{visit.clone_url}' S01\ncd S01", timeout=WAIT
    )


@pytest.mark.parametrize("size", [(1280, 900), (390, 844)], ids=["wide", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_wcag(show: Show, dark: bool, size: tuple[int, int]) -> None:
    guest = show(dark=dark, size=size)
    name = f"view-{'dark' if dark else 'light'}-{size[0]}"
    assert guest.axe() == []
    assert guest.page.evaluate("() => document.documentElement.scrollWidth") <= size[0]
    guest.shot(name)
    guest.open("/study/catalog/view/S01.html?series=1&overlay=3")
    shown(guest.page)
    guest.page.get_by_text("Link and embed").click()
    assert guest.axe() == []
    guest.shot(f"{name}-viewer", whole=False)
    for query in ("series=4", "embed&series=1"):
        guest.open(f"/study/catalog/view/S01.html?{query}")
        assert guest.axe() == []


def test_narrow_windows(show: Show, visit: Listing) -> None:
    first, second = visit.series[:2]
    two = replace(
        first,
        volumes=first.volumes + second.volumes,
        outputs=first.outputs + second.outputs,
    )
    page = show(of=listing("S01", two, second)).page
    for width in (1280, 1100, 1000, 768, 390):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    page.get_by_role("button", name="View series 2").click()
    shown(page)
    for width, height in ((320, 256), (640, 400), (320, 480)):
        page.set_viewport_size({"width": width, "height": height})
        tools = page.locator("#viewer-tools")
        assert tools.evaluate("all => all.clientHeight === all.scrollHeight")
        assert tools.evaluate("all => all.clientHeight") > 300
        page.locator("#viewer-z").scroll_into_view_if_needed()
        assert page.locator("#viewer").evaluate("all => all.scrollTop") > 0
        labels = page.locator(".slices label span").all()
        heights = {label.evaluate("span => span.offsetHeight") for label in labels}
        assert len(heights) == 1
        assert all(label.evaluate("it => it.scrollWidth <= it.offsetWidth") for label in labels)
    page.emulate_media(forced_colors="active")
    colors = [label.evaluate("it => getComputedStyle(it).backgroundColor") for label in labels]
    assert len(set(colors)) == 2


def test_full_screen(show: Show) -> None:
    page = show().page
    page.get_by_role("button", name="View series 1").click()
    shown(page)
    page.get_by_role("button", name="Full screen").click()
    page.wait_for_function("() => document.fullscreenElement")
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#viewer")).to_be_hidden()
    assert page.evaluate("() => document.fullscreenElement") is None
    assert page.evaluate("() => document.activeElement.dataset.id") == "1"


def test_keyboard(show: Show) -> None:
    page = show().page
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.dataset.id") == "1":
            break
    page.keyboard.press("Enter")
    shown(page)
    page.get_by_role("radio", name="Axial").check()
    page.focus("#viewer-canvas")
    # to the right on the screen is to the patient's left, which is where this axis runs
    for key, voxel in [
        ("ArrowRight", "21, 24, 12"),
        ("ArrowUp", "21, 25, 12"),
        ("PageUp", "21, 25, 13"),
        ("?", "21, 25, 13"),
        ("ArrowLeft", "20, 25, 13"),
    ]:
        page.keyboard.press(key)
        assert text(page, "voxel") == voxel
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).to_be_hidden()
    assert page.evaluate("() => document.activeElement.dataset.id") == "1"
    page.wait_for_timeout(300)
    assert told == []  # nothing is drawn any more
    expect(page.locator("#viewer-sides")).to_be_empty()


def test_print(show: Show) -> None:
    guest = show("?series=1")
    guest.page.emulate_media(media="print")
    expect(guest.page.locator("#viewer")).to_be_hidden()
    expect(guest.page.locator("button.view").first).to_be_hidden()
    expect(guest.page.locator("table.series")).to_be_visible()
    expect(guest.page.locator("figure img").first).to_be_visible()
    guest.shot("view-print")


def test_without_scripts(show: Show) -> None:
    page = show(scripts=False).page
    expect(page.locator("button.view").first).to_be_hidden()
    expect(page.locator("#command-clone")).to_be_visible()


def test_the_viewer_is_loaded_when_it_is_asked_for(show: Show) -> None:
    guest = show()
    assert not [url for url in guest.requests if "viewer.js" in url or "niivue" in url]
    guest.page.get_by_role("button", name="View series 1").click()
    shown(guest.page)
    assert [url for url in guest.requests if url.endswith(LIBRARY)]


def test_a_real_volume(show: Show, annex: Path, test_data: Path, require: Any) -> None:
    command = [require("dcm2niix"), "-z", "y", "-b", "n", "-f", "t1", "-o", str(annex)]
    subprocess.run([*command, str(test_data / "example-dicom-structural")], check=True)
    path = annex / "t1.nii.gz"
    image: Any = nib.Nifti1Image.from_filename(path)
    values = np.asanyarray(image.dataobj)
    voxel = tuple(side // 3 for side in values.shape)
    x, y, z, _ = image.affine @ [*voxel, 1]
    volume = pictured(path, (0.0, float(np.percentile(values, 99.5))))
    guest = show(f"?series=1&at={-x:.3f},{-y:.3f},{z:.3f}", of=listing("S01", converted(1, volume)))
    assert (pixels(guest.page).min(axis=-1) > 40).mean() > 0.05
    assert text(guest.page, "voxel") == ", ".join(map(str, voxel))
    assert text(guest.page, "value") == f"{values[voxel]:g}"
    guest.shot("view-real", whole=False)
