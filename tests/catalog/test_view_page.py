"""The HTML of a visit's page, as it is written."""

import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from icf_tools.catalog.listing import Listed, Listing, Output, Preview, Volume
from icf_tools.catalog.pages import Pages, date, number, numbers, size
from icf_tools.catalog.view import view_page
from icf_tools.dataset.versions import Change, Version
from icf_tools.index.records import read_tarball
from icf_tools.index.scan import Problem
from icf_tools.index.series import read_series
from icf_tools.model.brand import Brand
from icf_tools.model.dicom import RECORDED
from icf_tools.model.visit import StorePath
from tests.catalog.test_nodes import MD5, URL, listed, listing
from tests.index.test_series import images

PAGE = Pages("digest", Brand(name="A study"))
HOSTILE = (
    "</bdi><script>window.hit = 1</script>",
    "\"'><img src=x onerror=window.hit=2>",
    "\u202egnorw eht yaw round \u2069\u2069 {{ 7 * 7 }} {% raw %}",
    "&lt;b&gt;&amp; ]]> <!-- \x00\x07",
    "W" * 10_000,
)


class Reader(HTMLParser):
    """Tags with their attributes, and the text by the id of the element it is in."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag in ("dd", "td", "th", "small", "p", "summary", "button", "li"):
            self.text += " "

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]


def output(path: str, bytes_: int = 70) -> Output:
    return Output(path, f"../../S01_annex/MD5E-s{bytes_}--{MD5}-{path.replace('/', '-')}", bytes_)


def viewed(number: int, *stems: str, frame: str = "1.2.3", **values: tuple[str, ...]) -> Listed:
    """A series with a file for each stem, and pictures of it."""
    plain = listed(number, **values)
    volumes = tuple(Volume(output(f"nifti/{stem}.nii.gz"), _preview(stem)) for stem in stems)
    outputs = tuple(
        each
        for volume in volumes
        if volume.preview
        for each in (volume.preview.montage, volume.preview.thumbnail, volume.file)
    )
    series = replace(plain.series, frame=frame)
    return replace(plain, series=series, status="verified", volumes=volumes, outputs=outputs)


def _preview(stem: str) -> Preview:
    edges = {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    montage, thumbnail = output(f"preview/{stem}.webp"), output(f"preview/{stem}_thumb.webp")
    return Preview(montage, thumbnail, 64, 48, "axial", edges, (0.0, 900.5))


def version(n: int, change: Change) -> Version:
    return Version(n, 0, URL, URL, 10240, MD5, {"master": f"{n}" * 40, "git-annex": ""}, change)


def view(visit: Listing, *, deposit_url: str | None = URL, has_viewer: bool = True) -> Reader:
    html = view_page(visit, PAGE, deposit_url=deposit_url, has_viewer=has_viewer)
    assert html == view_page(visit, PAGE, deposit_url=deposit_url, has_viewer=has_viewer)
    return Reader(html)


def plain(reader: Reader) -> str:
    return " ".join(reader.text.split())


def test_what_the_visit_is() -> None:
    text = plain(view(listing()))
    assert "S01 Study study · 2024-02-29" in text
    assert "Scanner Example One" in text
    assert "Field strength 3 T" in text
    assert "Series 2 Images 6 Other files 1 Tarball 10.2 kB" in text.replace("\xa0", " ")
    assert MD5 in text
    assert "Unreadable" not in text


def test_unreadable_files_are_counted() -> None:
    bad = listing()
    bad = replace(bad, facts=replace(bad.facts, problems=(Problem("a/b", "it ends early"),)))
    assert "Unreadable files 1" in plain(view(bad))


def test_commands_are_quoted() -> None:
    html = view_page(listing(), PAGE, deposit_url=URL)
    found = re.search('<code id="command-clone">(.*?)</code>', html, re.DOTALL)
    assert found
    words = shlex.split(Reader(found[1]).text)
    assert words == ["datalad", "clone", listing().clone_url, "S01", "cd", "S01"]
    assert '<code id="command-get">datalad get study_S01</code>' in html
    assert "command-nifti" not in html
    html = view_page(listing("S01", viewed(1, "t1")), PAGE, deposit_url=URL)
    assert '<code id="command-nifti">datalad get nifti</code>' in html


def test_without_a_deposit_url() -> None:
    on_record = plain(view(listing(), deposit_url=None))
    assert "made without a deposit_url" in on_record
    assert "datalad clone" in on_record
    none = plain(view(replace(listing(), clone_url=None), deposit_url=None))
    assert "no clone command" in none
    assert "datalad" not in none.replace("datalad-catalog", "")
    assert "made without" not in plain(view(listing()))


def test_series() -> None:
    first = replace(listed(1), status="failed", reason="slice 7 is missing", lacking={"minc": "no"})
    page = view(listing("S01", first, viewed(7, "a", "b", EchoTime=("1", "2", "3", "4"))))
    rows = [attrs["id"] for attrs in page.all("tr") if "id" in attrs]
    assert rows == ["series-1", "series-7"]
    text = plain(page)
    assert "t1 mprage MR" in text
    assert "2300 / 2.46, 4.92 9 3 4.0 kB" in text.replace("\xa0", " ")
    assert "✕ failed slice 7 is missing No minc: no" in text
    assert "2300 / 1–4" in text
    assert "✓ verified" in text
    buttons = [attrs for attrs in page.all("button") if "data-url" in attrs]
    assert [attrs["data-id"] for attrs in buttons] == ["7", "7.2"]
    assert buttons[0]["data-url"] == output("nifti/a.nii.gz").url
    assert (buttons[0]["data-low"], buttons[0]["data-high"]) == ("0.0", "900.5")
    downloads = {attrs["download"] for attrs in page.all("a") if "download" in attrs}
    assert {"a.nii.gz", "b_thumb.webp", "S01_dicom.tar"} <= downloads
    pictures = [attrs for attrs in page.all("img") if "64" in attrs["width"]]
    assert {(attrs["height"], attrs["loading"]) for attrs in pictures} == {("48", "lazy")}
    assert pictures[0]["alt"] == "Axial slices of series 7: R is on the left, A on top"


def test_no_derivatives_no_viewer() -> None:
    page = view(listing())
    assert page.all("dialog") == page.all("img") == page.all("figure") == []
    assert "○ not converted" in plain(page)


def test_a_catalog_without_the_viewer() -> None:
    page = view(listing("S01", viewed(1, "t1")), has_viewer=False)
    assert page.all("dialog") == []
    assert not [attrs for attrs in page.all("button") if "data-url" in attrs]
    assert "made without the viewer (NiiVue); download the files" in plain(page)
    assert "t1.nii.gz" in plain(page)
    assert "NiiVue" not in plain(view(listing(), has_viewer=False))
    assert "NiiVue" not in plain(view(listing("S01", viewed(1, "t1"))))


def test_files_of_one_name_have_their_folder() -> None:
    others = tuple(output(f"{folder}/6.json") for folder in ("preview", "nifti"))
    minc = output("minc/6.mnc", 2000)
    text = plain(view(listing("S01", replace(viewed(6, "6"), outputs=(*others, minc)))))
    assert "nifti/6.json" in text
    assert "preview/6.json" in text
    assert "minc/6.mnc" not in text
    assert "Only MINC, 2.0 kB datalad get minc" in text.replace("\xa0", " ").replace(" Copy", "")
    assert "datalad get preview" in text
    assert "datalad get bids" not in text


def test_a_number_that_two_series_have() -> None:
    twice = replace(listed(4), anchor="4-2")
    assert "4-2: the second series numbered 4." in plain(view(listing("S01", listed(4), twice)))
    assert "numbered" not in plain(view(listing("S01", listed(4))))


def test_content_that_a_clone_cannot_reach() -> None:
    near = replace(version(1, Change()), store_url="file:///data/<b>")
    visit = replace(listing(), versions=(near,))
    assert "was deposited for file:///data/<b>: a clone elsewhere" in plain(view(visit))
    assert "elsewhere" not in plain(view(visit, deposit_url="file:///data"))
    moved = replace(visit, versions=(near, version(2, Change())))
    assert "elsewhere" not in plain(view(moved))


def test_a_frame_of_reference_is_a_number() -> None:
    series = [viewed(n, f"s{n}", frame=uid) for n, uid in enumerate(("1.9", "", "1.8", "1.9"), 1)]
    page = view(listing("S01", *series))
    frames = [attrs["data-frame"] for attrs in page.all("button") if "data-frame" in attrs]
    assert frames == ["1", "0", "2", "1"]
    assert "1.9" not in view_page(listing("S01", *series), PAGE, deposit_url=URL)


def test_a_frame_of_reference_is_read_where_it_is_recorded(store: StorePath) -> None:
    image = {"SeriesInstanceUID": "1.2", "SeriesNumber": 1}
    (series,) = images(store, image, series={"1.2": {"FrameOfReferenceUID": "1.9"}})
    assert series.frame == "1.9"
    tags = [tag for tag in RECORDED if tag.keyword != "FrameOfReferenceUID"]
    assert read_series(store, read_tarball(store), tags)[0].frame == ""
    assert images(store, image)[0].frame == ""


def test_two_studies_in_a_visit() -> None:
    other = listed(2, StudyDate=("20240301",), Modality=("PT",), ManufacturerModelName=("Two",))
    text = plain(view(listing("S01", listed(1), other)))
    assert "Study study · 2024-02-29, 2024-03-01" in text
    assert "Scanner Example One, Example Two" in text
    assert "Modality MR, PT" in text


def test_versions() -> None:
    change = Change({f"nifti/{n}": "" for n in range(3)}, ("minc/a",), "Make nifti")
    visit = replace(listing(), versions=(version(1, Change()), version(2, change)))
    text = plain(view(visit))
    assert "2 Make nifti 3 1 222222222222 1 Images – – 111111111111" in text
    assert "No dataset of this visit is on record" in plain(view(listing()))


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_strings_stay_text(text: str) -> None:
    keywords = (
        "SeriesDescription",
        "Modality",
        "ImageType",
        "Manufacturer",
        "EchoTime",
        "StudyDate",
    )
    values: dict[str, Any] = dict.fromkeys(keywords, (text,))
    bad = replace(viewed(1, "t1", **values), reason=text, lacking={"minc": text})
    before = view(listing("S01", viewed(1, "t1", ImageType=("M",))))
    visit = replace(listing("S01", bad), versions=(version(1, Change(title=text)),))
    html = view_page(visit, PAGE, deposit_url=URL)
    after = Reader(html)
    assert len(after.all("script")) == len(before.all("script"))
    assert len(after.all("img")) == len(before.all("img"))
    assert after.text.count(text) >= len(keywords) + 3
    assert not [attrs for _, attrs in after.tags if "onerror" in attrs]
    isolated = re.sub(r"<bdi[^>]*>.*?</bdi>", "", html, flags=re.DOTALL)
    assert "\u202e" not in isolated


def test_ids_are_unique() -> None:
    page = view(replace(listing("S01", viewed(1, "a", "b"), viewed(2, "c")), versions=()))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    wanted = {
        attrs[name] for _, attrs in page.tags for name in ("for", "data-copy") if name in attrs
    }
    wanted |= {attrs["href"][1:] for attrs in page.all("a") if attrs.get("href", "")[:1] == "#"}
    assert wanted <= {*ids}


def test_no_inline_script_or_style() -> None:
    page = view(listing("S01", viewed(1, "t1")))
    assert all(attrs["src"].startswith("../static/") for attrs in page.all("script"))
    assert page.all("style") == []
    for _, attrs in page.tags:
        assert not [name for name in attrs if name == "style" or name.startswith("on")]
    policy = page.all("meta")[1]["content"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy


def test_how_values_are_written() -> None:
    assert [date("20200102"), date("2020"), date("２０２００１０２")] == [
        *("2020-01-02", "2020", "２０２００１０２")
    ]
    assert [number(2300.0), number(2.46), number(12345), number("x")] == [
        *("2300", "2.46", "12\u202f345", "x")
    ]
    assert numbers((2.5, 5.0)) == "2.5, 5"
    assert numbers((1.0, 2.0, 3.0, 4.0)) == "1–4"
    assert numbers((2.0, 2)) == "2"
    sizes = [0, 999, 1000, 99_949, 999_499, 999_500, 5 * 10**15]
    assert [size(each).replace("\xa0", " ") for each in sizes] == [
        *("0 B", "999 B", "1.0 kB", "99.9 kB", "999 kB", "1.0 MB", "5000 TB")
    ]
