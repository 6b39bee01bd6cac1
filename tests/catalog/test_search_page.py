"""The search page, as visitors meet it."""

import csv
import io
import json
import os
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import pytest
from playwright.sync_api import Locator, Page, expect

from icf_tools.catalog.shards import Row
from icf_tools.model.brand import NO_BRAND
from icf_tools.model.search import DEFAULT, Element, ElementType
from tests.catalog.browser import Look, Visitor
from tests.catalog.conftest import Serve
from tests.catalog.shards import many, search_page, series, visit

pytestmark = pytest.mark.slow

CUBE = (0, 0, 0, 500, 0, 0, 0, 500, 0, 0, 0, 500)  # 10 cm, around the origin
TURNED = (0, 0, 0, 354, 354, 0, -354, 354, 0, 0, 0, 500)  # the same by 45 degrees
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&\u202egpj.exe\u2066"

LAB = replace(NO_BRAND, name="Lab")
BOLD = series(3, images=240, Modality="MR", SeriesDescription="bold", RepetitionTime=2000)
T1 = series(
    4,
    images=176,
    status="u",
    Modality="MR",
    SeriesDescription="T1w Kopf für Müller",
    ProtocolName="mprage",
    RepetitionTime=2300.5,
    EchoTime=[2.98, 5.1],
    ManufacturerModelName="Prisma",
)
STUDY = (
    visit("S01", BOLD, T1, dates=["20200102"], size=2_500_000_000),
    visit("S02", T1, dates=["20200301", "20210405"], size=999),
    visit("S10", series(1, images=1, status="n", boxes=CUBE, Modality="CT"), size=1_500_000),
    visit("T", series(1, images=2, status="f", boxes=TURNED, Modality="CT"), size=5000),
    visit("empty", dates=["20190101"], size=10),
)

Open = Callable[..., Page]


@pytest.fixture
def show(tmp_path: Path, look: Look) -> Open:
    """Open the page over these visits, from the disk."""

    def start(
        rows: Iterable[Row] = STUDY,
        state: str = "",
        elements: Iterable[Element] = DEFAULT,
        **options: object,
    ) -> Page:
        folder = search_page(tmp_path / "store", {"memory": list(rows)}, list(elements), brand=LAB)
        page = look(folder, **options).open(f"/index.html#{state}")
        ready(page)
        return page

    return start


def ready(page: Page) -> None:
    expect(page.locator("#count")).to_have_attribute("aria-busy", "false")


def listed(page: Page) -> Locator:
    return page.locator("#rows tr th")


def counts(page: Page, visits: int, found: int) -> None:
    noun = "visit" if visits == 1 else "visits"
    text = f"{visits} {noun}, {found:,} series".replace(",", "\u202f").replace("\u202f ", ", ")
    expect(page.locator("#count")).to_have_text(text)


def field(page: Page, name: str) -> Locator:
    return page.locator(f"[data-name={name}] :is(input, select)")


def state(page: Page) -> dict[str, str]:
    return {key: value for key, (value,) in parse_qs(page.url.partition("#")[2]).items()}


CASES = {  # state, visits
    "": "empty S01 S02 S10 T",
    "Visit=s0": "S01 S02",
    "Visit=t1W s01": "S01",  # words may be in different keywords
    "Visit=MULLER": "S01 S02",
    "Visit=bold prisma": "",  # both are in S01, but not of one series
    "SeriesDescription=mprage fur": "S01 S02",  # one in the alternate keyword
    "SeriesDescription=S01": "",  # is not asked for the name
    "Modality=CT": "S10 T",
    "Modality=C": "",
    "Modality=CT&DerivativeStatus=failed": "T",
    "RepetitionTime=2000..2000": "S01",
    "RepetitionTime=2100..": "S01 S02",
    "RepetitionTime=..2100": "S01",
    "RepetitionTime=2100..&SeriesDescription=bold": "",
    "EchoTime=5..6": "S01 S02",
    "EchoTime=3..5": "",
    "NumberOfSeriesRelatedInstances=2..176": "S01 S02 T",
    "StudyDate=2020-01-02..2020-12-31": "S01 S02",
    "StudyDate=2021-01-01..": "S02",
    "StudyDate=..2019-01-01": "empty",
    "StudyDate=2019-01-01..&Modality=MR": "S01 S02",
    "Coverage=0,0,0,50": "S10 T",
    "Coverage=0,0,0,51": "",
    "Coverage=45,45,0,5": "S10",
    "Coverage=60,0,0,5": "T",
    "Coverage=60,0,0,9.9,part": "T",
    "Coverage=60,0,0,11,part": "S10 T",
    "Coverage=0,0,60": "",
    "Coverage=1,2": "empty S01 S02 S10 T",  # nothing is asked for yet
    "Coverage=0,0,0&Visit=T": "T",
    "RepetitionTime=x..y&page=-1&sort=nothing&other=1&__proto__=1": "empty S01 S02 S10 T",
}


def test_a_visit_is_found_by_a_series_that_passes_all(show: Open) -> None:
    page = show()
    go = "state => { location.hash = state }"
    for asked, found in CASES.items():
        page.evaluate(go, "Visit=nothing has this")
        expect(page.locator("#nothing")).to_be_visible()
        page.evaluate(go, asked)
        expect(page.locator("#nothing"), asked).to_be_visible(visible=not found)
        expect(page.locator("#count")).not_to_contain_text("loading")
        expect(listed(page), asked).to_have_text(found.split())


def test_any_of_the_alternate_keywords_will_do(show: Open) -> None:
    kind = ElementType
    elements = [
        Element(kind.DROP_DOWN, "Modality", "Kind", ("ManufacturerModelName",)),
        Element(kind.NUMBER_RANGE, "EchoTime", "Time", ("RepetitionTime", "SeriesNumber"), min=0),
        Element(kind.DATE_RANGE, "AcquisitionDate", "Day", ("StudyDate",)),
        Element(kind.TEXT, "DerivativeStatus", "Words", ("StudyDate", "Study")),
    ]
    page = show(state="EchoTime=4..4", elements=elements)
    counts(page, 2, 2)
    field(page, "EchoTime").nth(1).fill("2000")
    counts(page, 2, 3)
    page.get_by_role("button", name="Reset").first.click()
    field(page, "Modality").select_option("Prisma")
    counts(page, 2, 2)
    field(page, "AcquisitionDate").nth(0).fill("2021-01-01")
    counts(page, 1, 1)
    field(page, "DerivativeStatus").fill("memory 2021 unver")
    counts(page, 1, 1)
    field(page, "DerivativeStatus").fill("memory 2022")
    counts(page, 0, 0)


def test_the_form_has_what_the_data_has(show: Open) -> None:
    page = show()
    counts(page, 5, 5)
    shown = page.locator(".field:visible").evaluate_all("all => all.map(x => x.dataset.name)")
    hidden = {"Study", "FlipAngle", "MagneticFieldStrength"}  # nothing to choose from
    assert shown == [each.keyword for each in DEFAULT if each.keyword not in hidden]
    expect(field(page, "Modality").locator("option")).to_have_text(["Any", "CT", "MR"])
    expect(field(page, "DerivativeStatus").locator("option")).to_have_text(
        ["Any", "failed", "not converted", "unverified", "verified"]
    )
    ranges = field(page, "RepetitionTime").evaluate_all("all => all.map(x => x.placeholder)")
    assert ranges == ["2000", "2300.5"]
    expect(page.locator("[data-name=Coverage]")).to_contain_text("patient coordinates (LPS)")


RANGES = (
    Element(ElementType.NUMBER_RANGE, "RepetitionTime", "TR", min=100),
    Element(ElementType.DATE_RANGE, "StudyDate", "Day"),
)


def test_a_range_tells_what_is_wrong_with_it(show: Open) -> None:
    page = show(elements=RANGES)
    low, high = field(page, "RepetitionTime").all()
    assert [each.get_attribute("placeholder") for each in (low, high)] == ["100", "2300.5"]
    fault = page.locator("[data-name=RepetitionTime] .fault")
    low.fill("99")
    expect(fault).to_contain_text("100")
    expect(low).to_have_attribute("aria-invalid", "true")
    expect(low).to_be_focused()
    low.fill("2300")
    expect(fault).to_be_hidden()
    high.fill("300")
    expect(fault).to_have_text("The first number is larger than the second.")
    expect(high).to_have_css("border-color", "rgb(179, 38, 30)")
    counts(page, 0, 0)
    page.get_by_role("button", name="Reset").first.click()
    expect(fault).to_be_hidden()
    page.evaluate("location.hash = 'StudyDate=2021-01-02..2021-01-01'")
    expect(page.locator("[data-name=StudyDate] .fault")).to_contain_text("date is later")


def test_a_value_that_begins_with_a_blank_is_found(show: Open) -> None:
    page = show([visit("A", series(1, Modality=" MR ")), visit("B", series(1, Modality="MR"))])
    field(page, "Modality").select_option(" MR ")
    expect(listed(page)).to_have_text(["A"])
    page.reload()
    expect(listed(page)).to_have_text(["A"])


def test_what_the_url_asks_for_in_vain_is_told(show: Open) -> None:
    page = show(state="EchoTime=abc..&Modality=CT&Colour=a%20b&RepetitionTime=5..x&sort=x")
    ignored = page.locator("#ignored")
    expect(ignored).to_contain_text("understand it: TR (ms): 5..x; TE (ms): abc..; Colour: a b")
    assert state(page) == {"Modality": "CT"}
    counts(page, 2, 2)
    field(page, "Modality").select_option("MR")
    expect(ignored).to_be_hidden()
    page.evaluate("location.hash = 'Coverage=1,x,0'")
    expect(ignored).to_contain_text(": 1,x,0")


def test_proposals_have_what_is_typed(show: Open) -> None:
    page = show(many(60), elements=[replace(DEFAULT[0], auto_complete=True)])
    field(page, "Visit").press_sequentially("S00")
    proposed = page.locator("[data-name=Visit] datalist option")
    expect(proposed).to_have_count(50)
    field(page, "Visit").fill("faces 1")
    expect(proposed).to_have_count(1)
    expect(proposed).to_have_attribute("value", "ep2d_bold_faces_run-1")


def test_the_url_tells_all_and_back_goes_back(show: Open, look: Look) -> None:
    page = show(many(120))
    counts(page, 120, 1_200)
    field(page, "SeriesDescription").fill("bold")
    counts(page, 120, 360)
    field(page, "RepetitionTime").nth(0).fill("2000")
    expect(page.locator("#chosen")).to_contain_text("2000")
    page.get_by_role("button", name="Date").click()
    page.get_by_role("button", name="Date").click()
    page.get_by_role("button", name="Next").click()
    first = listed(page).first.text_content()
    expected = {
        "SeriesDescription": "bold", "RepetitionTime": "2000..", "sort": "-date", "page": "2"
    }  # fmt: skip
    assert state(page) == expected

    page.reload()
    ready(page)
    assert state(page) == expected
    expect(listed(page).first).to_have_text(str(first))
    expect(field(page, "SeriesDescription")).to_have_value("bold")

    page.go_back()
    expect(page.locator("#page")).to_have_text("Page 1 of 3")
    page.go_back()
    page.go_back()
    page.go_back()
    expect(field(page, "RepetitionTime").nth(0)).to_have_value("")
    assert state(page) == {"SeriesDescription": "bold"}
    page.go_back()
    counts(page, 120, 1_200)
    page.go_forward()
    counts(page, 120, 360)
    page.get_by_role("button", name="Reset").click()
    counts(page, 120, 1_200)
    assert state(page) == {}


@pytest.mark.parametrize(
    ("key", "up", "down"),  # what has no value comes last, what is equal by name
    [
        ("Visit", "empty S01 S02 S10 T", "T S10 S02 S01 empty"),  # numbers as numbers
        ("Date", "empty S01 S02 S10 T", "S02 S01 empty S10 T"),
        ("Scanner", "S01 S02 empty S10 T", "S01 S02 empty S10 T"),
        ("Series", "empty S02 S10 T S01", "S01 S02 S10 T empty"),
        ("Images", "empty S10 T S02 S01", "S01 S02 T S10 empty"),
        ("Size", "empty S02 T S10 S01", "S01 S10 T S02 empty"),
        ("Conversion", "S02 S10 T S01 empty", "S01 S02 S10 T empty"),
    ],
)
def test_sorting(show: Open, key: str, up: str, down: str) -> None:
    page = show(state="sort=series" if key == "Visit" else "")
    button = page.get_by_role("columnheader", name=key).get_by_role("button")
    button.click()
    expect(listed(page)).to_have_text(up.split())
    expect(page.locator("[aria-sort=ascending]")).to_have_text(key)
    button.click()
    expect(listed(page)).to_have_text(down.split())
    expect(page.locator("[aria-sort=descending]")).to_have_text(key)


def test_a_page_has_fifty_rows(show: Open) -> None:
    page = show(many(120))
    expect(listed(page)).to_have_count(50)
    first, previous, following, last = page.locator("#pager button").all()
    expect(first).to_have_attribute("aria-disabled", "true")
    last.click()
    expect(listed(page)).to_have_count(20)
    expect(listed(page).last).to_have_text("S00120")
    last.click(force=True)  # though it is off
    expect(page.locator("#page")).to_have_text("Page 3 of 3")
    previous.click()
    expect(listed(page).first).to_have_text("S00051")
    following.click()
    first.click()
    expect(listed(page).first).to_have_text("S00001")
    page.get_by_role("button", name="Last").click()
    field(page, "Visit").fill("s0000")
    expect(listed(page)).to_have_count(9)
    expect(page.locator("#pager")).to_be_hidden()
    assert state(page) == {"Visit": "s0000"}


def test_the_table_has_the_focus_after_another_page(show: Open) -> None:
    page = show(many(120))
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#table")).to_be_focused()
    expect(page.locator("#pager").get_by_role("status")).to_have_text("Page 2 of 3")


def test_a_row_tells_of_the_visit(show: Open) -> None:
    page = show(state="SeriesDescription=bold")
    cells = page.locator("#rows tr").first.locator("th, td").all_inner_texts()
    assert [" ".join(cell.split()) for cell in cells] == [
        *("S01", "2020-01-02", "Prisma", "1 of 2 bold", "240", "2.5 GB", "1 verified")
    ]
    expect(page.get_by_role("link", name="S01")).to_have_attribute("href", "../view/S01.html")
    assert page.title() == "Search · Lab"
    expect(page.locator(".lead")).to_have_text("Find series in Lab Study memory")
    expect(page.get_by_role("link", name="Datasets")).to_be_hidden()  # not from the disk


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
def test_dates_stay_in_their_column(show: Open, size: tuple[int, int]) -> None:
    page = show([visit("A", BOLD, dates=["20200301", "20210405", "2" * 999])], size=size)
    date = page.locator("#rows [data-column=date]")
    expect(date).to_have_text("2020-03-01 – " + "2" * 20 + "…")
    assert date.evaluate("cell => cell.scrollWidth <= cell.clientWidth")


def test_the_reset_stays_in_sight(show: Open) -> None:
    page = show(many(3))
    assert page.locator(".fields").evaluate("all => all.scrollHeight > all.clientHeight")
    expect(page.get_by_role("button", name="Reset").first).to_be_in_viewport(ratio=1)


def test_a_long_text_among_numbers_does_not_widen_a_page(show: Open) -> None:
    page = show()
    page.locator("main").evaluate(
        """main => { main.innerHTML = `<table><tr><td class=num><bdi>2300, 2.5</bdi></td>
        <td class=num><span class=long><bdi>${"9".repeat(10000)}</bdi></span></table>`; }"""
    )
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def download(page: Page, button: str) -> str:
    if page.locator("#export:not([open])").count():
        page.locator("#export > summary").click()
    with page.expect_download() as got:
        page.get_by_role("button", name=button).click()
    return got.value.path().read_bytes().decode()


def test_the_table_to_take_along(show: Open) -> None:
    odd = series(
        -1, status="n", SeriesDescription='=1+1,"x"\nnext', ProtocolName=["@a", "b"], FlipAngle=-9
    )
    wide = series(2, SeriesDescription="＝1", ProtocolName="\n=1")
    tab = series(2, SeriesDescription="\tcmd", ManufacturerModelName="+1", EchoTime=[1, 2.5])
    page = show([visit("A", odd, tab, wide, dates=["20200102", "20200103"]), *STUDY])
    text = download(page, "Download the series as CSV")
    assert text.endswith("\r\n")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(rows) == 8
    assert list(rows[0]) == [
        *("study", "visit", "date", "series_number", "series", "description"),
        *("protocol", "modality"),
        *("scanner", "tr_ms", "te_ms", "flip_angle_deg", "field_strength_t", "images"),
        "conversion",
    ]
    assert list(rows[0].values()) == [
        *("memory", "A", "2020-01-02; 2020-01-03", "-1", "-1", '\'=1+1,"x"\nnext', "'@a; b", ""),
        *("", "", "", "-9", "", "10", "none"),
    ]
    assert (rows[1]["description"], rows[1]["scanner"]) == ("'\tcmd", "'+1")
    assert rows[1]["te_ms"] == "1; 2.5"
    assert [row["series"] for row in rows[1:3]] == ["2", "2-2"]
    assert (rows[2]["description"], rows[2]["protocol"]) == ("'＝1", "'\n=1")
    field(page, "SeriesDescription").fill("müller")
    counts(page, 2, 2)
    text = download(page, "Download the series as CSV")
    assert [row["visit"] for row in csv.DictReader(io.StringIO(text))] == ["S01", "S02"]


FAKE = """#!/bin/bash
printf '%s|' "${0##*/}" "$@" >>"$LOG"; echo >>"$LOG"
[ "$1" != clone ] || case $3 in *bad*) exit 1 ;; *) mkdir -p "$3" ;; esac
"""


def run(script: str, folder: Path) -> tuple[int, list[list[str]], str]:
    """Its exit code, the commands that it ran, and what it said."""
    programs = folder / "programs"
    if not programs.exists():
        programs.mkdir(parents=True)
        for name in ("datalad", "git"):
            (programs / name).write_text(FAKE)
            (programs / name).chmod(0o755)
    log = folder / "log"
    log.write_text("")
    env = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "LOG": str(log)}
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    (folder / "get.sh").write_text(script)
    done = subprocess.run(
        ["bash", "get.sh"], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    return (
        done.returncode,
        [line.split("|")[:-1] for line in log.read_text().splitlines()],
        done.stderr,
    )


def test_the_script_clones_and_gets(show: Open, tmp_path: Path) -> None:
    url = "x::?url='$(touch pwned)';`a`&b/{visit}_{{annex_key}}"
    page = show(
        [
            visit("S01", BOLD, series(5, SeriesDescription="bold"), T1, url=url),
            visit("bad", series(2, SeriesDescription="bold")),
            visit("nowhere", BOLD, url=None),
            visit("T", BOLD),
        ],
        "SeriesDescription=bold",
    )
    script = download(page, "Download the script")
    code, commands, said = run(script, tmp_path / "a")
    assert code == 1
    assert {command[-1] for command in commands} == {"S01", "T", "bad"}
    assert ["datalad", "clone", url.replace("{visit}", "S01"), "S01"] in commands
    assert said.endswith("Failed, 2 of 4:\n  bad\n  nowhere\n")
    assert "1 of them cannot be cloned" in script

    page.get_by_label("the images of these series").check()
    code, commands, _ = run(download(page, "Download the script"), tmp_path / "a")
    asked = [*("git", "-C", "S01", "annex", "get", "--metadata", "seriesnumber=3")]
    assert [*asked, "--or", "--metadata", "seriesnumber=5"] in commands
    assert not any(command[1:3] == ["clone", "S01"] for command in commands)  # is there

    page.get_by_label("NIfTI").check()
    _, commands, _ = run(download(page, "Download the script"), tmp_path / "a")
    assert ["datalad", "-C", "S01", "get", "nifti"] in commands
    page.get_by_label("everything").check()
    _, commands, _ = run(download(page, "Download the script"), tmp_path / "a")
    assert ["datalad", "-C", "S01", "get", "."] in commands
    assert not list(tmp_path.rglob("pwned"))


def test_the_script_tells_series_of_one_number_apart(show: Open, tmp_path: Path) -> None:
    odd = "Kopf's <T2*> [a]?"
    page = show(
        [
            visit(
                "A",
                *(series(4, SeriesDescription=each, Modality="MR") for each in (odd, "EPI PE=PA")),
                *(series(5, SeriesDescription="x", EchoTime=te, Modality="MR") for te in (2.5, 30)),
                series(6, Modality="MR"),
                series(6, Modality="CT"),
            ),
            visit("B", *(series(4, Modality="MR", RepetitionTime=tr) for tr in (1, 2))),
            visit("C", series(0, Modality="MR", RepetitionTime=1)),
            visit("D", *(series(4, SeriesDescription=each, Modality="MR") for each in ("s", "ſ"))),
        ],
        "Modality=MR",
    )
    download(page, "Download the script")
    page.get_by_label("the images of these series").check()

    def got(asked: str) -> tuple[int, dict[str, list[str]], str]:
        page.evaluate("asked => { location.hash = asked }", asked)
        expect(page.locator("#count")).not_to_contain_text("loading")
        page.wait_for_function(f"decodeURIComponent(location.hash) === {json.dumps('#' + asked)}")
        code, commands, said = run(download(page, "Download the script"), tmp_path / "a")
        gets = {each[2]: each[5:] for each in commands if each[0] == "git"}
        return code, gets, said

    def by(*conditions: str) -> list[str]:
        both = [*("--metadata", conditions[0], "--and", "--metadata"), *conditions[1:]]
        return ["-(", *both, "-)"] if conditions[1:] else both[:2]

    either = "--or"
    code, gets, said = got("Modality=MR")
    assert gets["A"] == [
        *by("seriesnumber=4"),  # both are chosen
        *(either, *by("seriesnumber=5"), either),
        *by("seriesnumber=6", "modality=MR"),
    ]
    assert (gets["B"], gets["D"]) == (by("seriesnumber=4"), by("seriesnumber=4"))
    assert code == 1
    assert "C: series 0 cannot be told apart from another one; get it by its path\n" in said
    assert said.endswith("Failed, 1 of 4:\n  C\n")

    _, gets, _ = got("SeriesDescription=epi")
    assert gets == {"A": by("seriesnumber=4", "seriesdescription=EPI PE=PA")}
    _, gets, _ = got("SeriesDescription=kopf")
    assert gets == {"A": by("seriesnumber=4", "seriesdescription=Kopf[']s [<]T2[*][>] [[]a][?]")}
    _, gets, _ = got("EchoTime=30..30")
    assert gets == {"A": by("seriesnumber=5", "echotime=30")}
    _, gets, _ = got("EchoTime=2..3")
    assert gets == {"A": by("seriesnumber=5", "echotime=2.5")}
    code, gets, said = got("RepetitionTime=2..2")
    assert (code, gets) == (1, {})
    assert said.startswith("B: series 4-2 cannot be told apart")


def test_the_script_says_that_nothing_can_be_cloned(show: Open, tmp_path: Path) -> None:
    page = show([visit("A", BOLD, url=None), visit("empty")])
    assert "1 of them cannot" in download(page, "Download the script")
    page.get_by_label("the images of these series").check()
    field(page, "Visit").fill("empty")
    counts(page, 1, 0)
    code, commands, _ = run(download(page, "Download the script"), tmp_path / "a")
    assert (code, [command[1] for command in commands]) == (0, ["clone"])  # gets no image
    field(page, "Visit").fill("a bold")
    counts(page, 1, 1)
    script = download(page, "Download the script")
    assert "# Nothing can be cloned by this: no deposit URL is known" in script
    assert run(script, tmp_path / "a")[0] == 1


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
def test_hostile_values_are_text_and_break_nothing(
    show: Open, tmp_path: Path, size: tuple[int, int]
) -> None:
    values: dict[str, Any] = {
        "SeriesDescription": HOSTILE,
        "Modality": HOSTILE,
        "ManufacturerModelName": HOSTILE,
        "ProtocolName": HOSTILE,
    }
    long = series(
        2, Modality="y" * 10_000, SeriesDescription="x" * 10_000, ManufacturerModelName="z" * 10_000
    )
    page = show(
        [visit("A" * 100, series(1, **values), long, dates=["<b>bold"])],
        f"Modality={quote(HOSTILE)}&Visit={quote('<script>')}",
        [replace(DEFAULT[0], label=HOSTILE), *DEFAULT[1:]],
        size=size,
    )
    counts(page, 1, 1)
    assert HOSTILE in page.locator("[data-label=Series] bdi").all_text_contents()
    expect(page.locator("[data-label=Date]")).to_have_text("<b>bold")
    page.evaluate("location.hash = 'Visit=xxx'")
    counts(page, 1, 1)
    expect(page.locator("[data-label=Series] bdi")).to_have_text("x" * 200 + "…")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if size[0] > 1000:
        assert page.locator("#rows tr").bounding_box()["height"] < 300  # type: ignore[index]
    assert page.locator("main script, #rows img, #form img").count() == 0


def focused(page: Page) -> str:
    return str(
        page.evaluate("document.activeElement.textContent.trim() || document.activeElement.id")
    )


def test_with_the_keyboard_alone(show: Open) -> None:
    page = show(many(120))
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("bold")  # the skip link leaves the state alone
    counts(page, 120, 360)
    for _ in range(60):
        page.keyboard.press("Tab")
        if focused(page) == "Export":
            break
    page.keyboard.press("Enter")
    expect(page.locator("#csv")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    expect(page.locator("#csv")).to_be_hidden()
    assert focused(page) == "Export"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("[aria-sort=descending]")).to_have_text("Visit")
    page.keyboard.press("Shift+Tab")
    for _ in range(90):
        page.keyboard.press("Tab")
        if focused(page) == "Last":
            break
    page.keyboard.press("Enter")
    expect(page.locator("#page")).to_have_text("Page 3 of 3")
    expect(page.locator("#table")).to_be_focused()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
def test_no_rule_for_access_is_broken(
    tmp_path: Path, look: Look, serve: Serve, dark: bool, size: tuple[int, int]
) -> None:
    brand = replace(LAB, links=(("Institute", "https://a.b"),))
    store = tmp_path / "store"
    search_page(store, {"a": many(60), "b": STUDY}, site=True, brand=brand)
    guest = look(serve(store).url, dark=dark, size=size)
    page = guest.open("/catalog/search/index.html")
    ready(page)
    name = f"search-{size[0]}-{'dark' if dark else 'light'}"
    guest.shot(name, whole=False)
    assert guest.axe() == []
    page.locator("#export > summary").click()
    if size[0] < 1000:
        page.locator("#filters > summary").click()
    field(page, "Coverage").first.fill("1")
    field(page, "Modality").select_option("CT")
    expect(page.locator("#count")).to_have_text("2 visits, 2 series (a sphere needs x, y and z)")
    assert guest.axe() == []
    field(page, "Visit").fill("nothing has this")
    expect(page.locator("#nothing")).to_be_visible()
    assert guest.axe() == []
    guest.shot(f"{name}-asked", whole=False)


def test_a_narrow_page_folds_the_filters(show: Open) -> None:
    page = show(state="Modality=CT", size=(390, 844))
    expect(page.locator("#form")).to_be_hidden()
    expect(page.locator("#filters > summary")).to_have_text("Filters (1)")
    expect(page.locator("#chosen")).to_have_text("Modality: CT")
    page.evaluate("location.hash = 'StudyDate=2020-01-01..&RepetitionTime=..9&Visit=a..b'")
    chosen = "Text: a..b", "Date: 2020-01-01 or later", "TR (ms): up to 9"
    expect(page.locator("#chosen > span")).to_have_text(chosen)
    page.evaluate("location.hash = 'Modality=CT'")
    page.set_viewport_size({"width": 1280, "height": 800})
    expect(page.locator("#form")).to_be_visible()
    page.emulate_media(media="print")
    expect(page.locator("#form")).to_be_hidden()
    expect(page.locator("#chosen")).to_have_text("Modality: CT")


def test_below_a_path_and_behind_a_password(tmp_path: Path, look: Look, serve: Serve) -> None:
    store = tmp_path / "store"
    search_page(store, {"memory": STUDY})
    server = serve(store, below="/some/where", public=False)
    server.allow("memory", "lab", "horse")
    guest = look(server.url, credential=("lab", "horse"))
    page = guest.open("/memory/catalog/search/index.html#Coverage=0,0,0,50")
    expect(page.get_by_role("link", name="Datasets")).to_be_visible()
    expect(listed(page)).to_have_text(["S10", "T"])
    assert {url.partition("?")[0].rpartition(".")[2] for url in guest.requests} == {
        *("html", "js", "css", "svg")
    }
    assert all(url.startswith(f"{server.url}/memory/catalog/") for url in guest.requests)


def test_over_all_studies(tmp_path: Path, look: Look) -> None:
    studies = {"brains": [visit("S01", BOLD)], "memory": STUDY}
    page = look(search_page(tmp_path, studies, site=True)).open("/index.html")
    counts(page, 6, 6)
    assert page.locator("[data-label=Study]").all_inner_texts() == ["brains"] + 5 * ["memory"]
    field(page, "Study").select_option("brains")
    counts(page, 1, 1)
    link = page.get_by_role("link", name="S01")
    expect(link).to_have_attribute("href", "../../brains/catalog/view/S01.html")
    assert "visit 'brains/S01' " in download(page, "Download the script")


def test_without_visits(show: Open) -> None:
    page = show([])
    counts(page, 0, 0)
    expect(page.locator("#table")).to_be_hidden()


def test_without_scripts(tmp_path: Path, look: Look) -> None:
    page = look(search_page(tmp_path, {"memory": STUDY}), scripts=False).open("/index.html")
    expect(page.locator("noscript p")).to_be_visible()
    assert page.locator("main a").count() == 0
    expect(page.locator("#search")).to_be_hidden()


def test_an_old_browser_is_told(tmp_path: Path, look: Look) -> None:
    guest = look(search_page(tmp_path, {"memory": STUDY}))
    guest.page.add_init_script("delete window.DecompressionStream")
    expect(guest.open("/index.html").locator("#problem")).to_contain_text("too old")


def problem(guest: Visitor) -> Locator:
    page = guest.open("/index.html")
    ready(page)
    return page.locator("#problem")


def test_a_part_that_is_gone_or_damaged_is_told(tmp_path: Path, look: Look) -> None:
    rows = many(700)
    folder = search_page(tmp_path, {"memory": rows})
    guest = look(folder)
    expect(problem(guest)).to_be_hidden()
    counts(guest.page, 700, 7000)
    manifest = (folder / "manifest.js").read_text()
    data = [folder / "data" / name for name in _names(manifest, '"file":"data/')]
    assert len(data) > 2
    data[0].write_text(data[1].read_text())
    expect(problem(guest)).to_contain_text(f"data/{data[0].name} is damaged.")
    data[0].write_text(f'icf.data("{data[0].stem}", "eA==")')
    expect(problem(guest)).to_contain_text("is damaged")
    data[0].unlink()
    expect(problem(guest)).to_contain_text(f"data/{data[0].name} cannot be loaded.")
    expect(guest.page.locator("#rows tr")).to_have_count(50)  # of the others
    guest.forgive("ERR_FILE_NOT_FOUND")
    boxes = _names(manifest, '"boxes":"data/')
    (folder / "data" / boxes[1]).write_text("")
    page = guest.page
    page.evaluate("location.hash = 'Coverage=0,0,0'")
    expect(page.locator("#problem")).to_contain_text(f"{boxes[1]} is damaged")
    (folder / "manifest.js").write_text("icf.manifest({format: 2})")
    guest.open("/../search/index.html")
    expect(problem(guest)).to_contain_text("manifest.js is damaged, or of another version")


def _names(manifest: str, before: str) -> list[str]:
    return [part.partition('"')[0] for part in manifest.split(before)[1:]]


def test_a_catalog_that_changes_meanwhile_is_read_again(tmp_path: Path, look: Look) -> None:
    folder = search_page(tmp_path / "old", {"memory": STUDY})
    old = (folder / "manifest.js").read_text()
    new = search_page(tmp_path / "new", {"memory": STUDY[:3]})
    guest = look(new)
    served: list[str] = []

    def manifest(route: object) -> None:
        served.append("x")
        body = old if len(served) == 1 else (new / "manifest.js").read_text()
        route.fulfill(body=body, content_type="text/javascript")  # type: ignore[attr-defined]

    guest.page.route("**/manifest.js*", manifest)
    expect(problem(guest)).to_be_hidden()
    counts(guest.page, 3, 4)
    assert len(served) == 2
    guest.forgive("ERR_FILE_NOT_FOUND")


COPY = """<!doctype html><title>x</title><script defer src="copy.js"></script>
<pre id="what">a 'b' &amp; c</pre><button class="copy" data-copy="what">Copy</button>
<textarea></textarea>"""


@pytest.mark.parametrize("plain", [True, False])
def test_copying(tmp_path: Path, look: Look, plain: bool) -> None:
    static = search_page(tmp_path, {"memory": STUDY}).parent / "static"
    (static / "copy.html").write_text(COPY)
    guest = look(static)
    if plain:  # as a page from another host than this one has it without https
        guest.page.add_init_script(
            "Object.defineProperty(navigator, 'clipboard', {value: undefined})"
        )
    page = guest.open("/copy.html")
    page.locator("button").click()
    expect(page.get_by_role("status")).to_have_text("Copied")
    page.locator("textarea").click()
    page.keyboard.press("Control+V")
    expect(page.locator("textarea")).to_have_value("a 'b' & c")
    expect(page.locator("button")).to_have_text("Copy")
