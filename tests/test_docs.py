"""The documentation agrees with the program: its commands run, its tables are up to date."""

import importlib.util
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nibabel
import pytest
import yaml

from icf_tools.archive.build import build
from icf_tools.errors import IcfError
from icf_tools.model.bids_plan import plan_of
from icf_tools.model.visit import StorePath, Visit
from icf_tools.pipeline import add
from icf_tools.settings import Settings, read_settings, read_site_settings
from tests import dicoms
from tests.conftest import missing
from tests.derive.series import Series
from tests.servers import web_server

TOP = Path(__file__).resolve().parent.parent
DOCS = TOP / "docs"
MAKE = runpy.run_path(str(DOCS / "make_reference.py"))
COMMANDS: dict[str, Any] = MAKE["commands"]()
VISIT = Visit("my-study", "P000123")
USER, PASSWORD = "lab", "correct horse"


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    """The page's fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page(name), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", MAKE["pages"]())
def test_what_is_made_from_the_code_is_up_to_date(name: str) -> None:
    assert page(name) == MAKE["pages"]()[name], "run: python docs/make_reference.py"


def test_reference_has_every_program_of_the_package() -> None:
    lines = re.findall(
        r"^ {4}(\w+) = icf_tools\.cli", (TOP / "setup.cfg").read_text(), re.MULTILINE
    )
    assert {"icf", *(name for name in COMMANDS if " " not in name)} == set(lines)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_an_example_that_it_understands(name: str) -> None:
    _, _, example = COMMANDS[name].help.partition("\n\nExample: ")
    words = shlex.split(example)
    assert words[: len(name.split())] == name.split()
    COMMANDS[name].make_context(name, words[len(name.split()) :])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_explained_beside_the_reference(name: str) -> None:
    others = [file.name for file in DOCS.glob("*.md") if file.name != "reference.md"]
    assert any(name in page(other) for other in others)


def test_exit_codes_of_the_page_are_those_of_the_kinds() -> None:
    codes = [int(code) for code in re.findall(r"^\| (\d+) \|", page("admin.md"), re.MULTILINE)]
    kinds = {kind.exit_code for kind in IcfError.__subclasses__()}
    assert codes == sorted({0, 1} | kinds)


EXECUTED = {  # page: some of what its commands must say
    "quickstart.md": ("my-study/P000123\t10240 bytes\tcomplete", "get(ok)", "drop(ok)"),
    "admin.md": (
        "tarball not here\tcomplete",
        "get(ok)",
        "P000124_dicom.tar: OK",
        "dataset was there",
    ),
    "access.md": (
        "setting made: icf://",
        "user lab is let in to",
        "cloned my-study/P000123 into P000123: version 1",
        "images to get, ",
        "[from icf...]",
        "drop(ok)",
        "update(ok)",
    ),
    "fetch.md": (
        "32 files to fetch",
        "4 files to fetch",
        "<visit my-study/P000123: 32 images, 0.1 MB>\nnumber  images   MB  modality  protocol ",
        "     4      12  0.0  MR        task-rest   MoCoSeries",
        "(6, 5, 4, 3) int16 volumes by InstanceNumber\nvoxel in mm: 2.0 1.5 3.0",
        "my-study_P000123/t1/im0004.dcm 4 ",
    ),
    "views.md": (
        "\nmy-study_P000123/series_2/im001.dcm\n",
        "(from icf...)",
        "'views/master(modality=MR;seriesdescription=_)'",
        "'views/master(modality=MR;seriesdescription=_;protocolname=_)'",
        "Switched to branch 'master'",
    ),
    "nifti.md": (
        "series 2\t4 images\tverified\tnifti/002_t1-mprage.nii.gz",
        "get(ok): nifti/002_t1-mprage.nii.gz",
        "series 3\t12 images\tverified\tminc/003_task-rest.mnc",
        "preview/002_t1-mprage.webp",
        "dataset made: version 5",
        "run(ok)",
        "t1.nii.gz\tverified\t4 images of ",
    ),
    "bids.md": (
        "func/sub-P000123_task-rest_bold.nii.gz",
        "no bids: a rule leaves it out",
        "BIDS dataset of the study my-study: subjects: 2, visits: 2",
        "This dataset appears to be BIDS compatible.",
        "5 {'bids': 'no rule matches it'}",
    ),
    "catalog.md": (
        "catalog of my-study: 1 visits, 4 series; 1 pages made, 0 removed",
        "series 2\t4 images\tverified",
        "catalog of the site: 1 studies, 1 visits, 4 series",
    ),
    "credentials.md": ("my-study(user_password", "storepath", "get(ok)"),
}


@pytest.mark.annex
@pytest.mark.parametrize("name", EXECUTED)
def test_commands_of_the_page_run_one_after_the_other(
    name: str, tmp_path: Path, isolated: Path, require: Callable[[str], str]
) -> None:
    script = "\n".join(blocks(name, "bash"))
    work = tmp_path / "work"
    work.mkdir()
    (isolated / "my-study.password").write_text(PASSWORD)
    nibabel.save(Series.of().nifti(), work / "t1.nii.gz")
    source = volumes if name in ("nifti.md", "bids.md", "catalog.md", "fetch.md") else dicoms.visit
    with world(tmp_path, script, require, tarball_only=name == "admin.md", source=source) as names:
        url = names.get("https://data.example.org", "")
        said = run_script(script, names, work, {} if name == "credentials.md" else credential(url))
    assert [wanted for wanted in EXECUTED[name] if wanted not in said] == [], said


def run_script(script: str, names: Mapping[str, str], work: Path, env: Mapping[str, str]) -> str:
    """What the commands of a page print; what the page calls by `names` is elsewhere here."""
    for documented, here in names.items():
        script = script.replace(documented, here)
    assert "data.example.org" not in script
    assert "/data/" not in script
    ran = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-x", "-c", script],
        cwd=work,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
        start_new_session=True,  # no terminal to ask for a password
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


def volumes(folder: Path) -> None:
    """A visit with a volume, a time series, the MoCo copy of that, and something else."""
    rest = {"ProtocolName": "task-rest", "RepetitionTime": "2000"}
    copy = {"ImageType": ["DERIVED", "PRIMARY", "M", "MOCO"], "SeriesDescription": "MoCoSeries"}
    Series.of().write(folder / "t1", 2, ProtocolName="t1_mprage")
    for number, times, elements in ((3, 3, rest), (4, 3, rest | copy), (5, 1, {})):
        Series(Series.of(times).stored + number).write(folder / str(number), number, **elements)


@contextmanager
def world(
    folder: Path,
    script: str,
    require: Callable[[str], str],
    *,
    tarball_only: bool,
    source: Callable[[Path], object] = dicoms.visit,
) -> Iterator[dict[str, str]]:
    """What the page takes for granted; what stands here for the names that it uses."""
    names = {"/data/incoming": str(folder / "incoming")}
    for visit in ("P000123", "P000124"):
        source(folder / "incoming" / visit)
    if "https://data.example.org" not in script:
        yield names
        return
    store = StorePath(folder / "served" / "store", VISIT)
    incoming = folder / "incoming" / VISIT.visit
    tags = read_settings(store).tags
    build(incoming, store, tags=tags)
    with web_server(store.root, folder / "nginx", require("nginx")) as server:
        server.allow(VISIT.study, USER, PASSWORD)
        if not tarball_only:
            add(incoming, store, store_url=server.url, tags=tags)
        names["https://data.example.org/store"] = server.url
        names["https://data.example.org"] = server.url
        names["/data/store"] = str(store.root)
        yield names


def credential(url: str) -> dict[str, str]:
    fields = {
        "TYPE": "user_password",
        "REALM": f"{url}/{VISIT.study}",
        "USER": USER,
        "SECRET": PASSWORD,
    }
    return {f"DATALAD_CREDENTIAL_TESTER_{field}": value for field, value in fields.items()}


@pytest.mark.parametrize("text", blocks("bids.md", "yaml"))
def test_the_rules_of_the_page_are_rules(text: str) -> None:
    assert plan_of(yaml.safe_load(text)).rules


def test_the_criteria_of_the_page_are_criteria() -> None:
    table = page("bids.md").partition("| `match` | holds")[2].partition("\n\n")[0]
    found = re.findall(r"^\| `(.*?)` \|", table, re.MULTILINE)
    assert len(found) == 7
    for text in found:
        assert plan_of({"rules": [{"match": yaml.safe_load(text), "skip": True}]}).rules


@pytest.mark.parametrize("text", blocks("catalog.md", "yaml"))
def test_the_sections_of_the_page_are_settings(text: str, tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(text)
    assert read_site_settings(tmp_path) != Settings()


@pytest.mark.annex
def test_the_demo_gets_back_what_went_in(tmp_path: Path) -> None:
    here = tmp_path / "a folder"
    here.mkdir()
    ran = subprocess.run(
        ["sh", DOCS / "demo.sh"], cwd=here, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "yes: MD5 44cc71b3934020102e962004df8d7b01" in ran.stdout
    assert "catalog of demo-study: 1 visits, 3 series" in ran.stdout


@pytest.mark.parametrize("name", EXECUTED)
def test_few_commands_of_the_page_are_not_run(name: str) -> None:
    assert len(blocks(name, "bash")) > len(blocks(name, "console"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation as mkdocs builds it."""
    if importlib.util.find_spec("mkdocs") is None:
        missing("mkdocs")
    folder = tmp_path_factory.mktemp("docs") / "site"
    nowhere = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=TOP,
        env={**os.environ, **nowhere},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert built.returncode == 0, built.stderr
    return folder


def test_every_page_is_built_and_nothing_else(site: Path) -> None:
    pages = {file.stem for file in DOCS.glob("*.md")}
    assert {file.stem for file in site.glob("*.html")} - {"404", "search"} == pages
    assert [file for file in site.rglob("*") if file.suffix in (".py", ".pyc", ".sh")] == []


def test_a_page_requests_nothing_from_another_host(site: Path) -> None:
    for file in site.rglob("*.html"):
        requests = _Requests()
        requests.feed(file.read_text(encoding="utf-8"))
        assert [url for url in requests.found if re.match(r"(\w+:)?//", url)] == [], file
    for file in site.rglob("*.css"):
        text = file.read_text(encoding="utf-8")
        assert re.findall(r"(?:url\(|@import)\s*[\"']?(?:\w+:)?//[^)\"']*", text) == [], file


class _Requests(HTMLParser):
    """What a browser loads by itself; a link waits to be followed."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            loads = name in ("src", "srcset", "data", "poster", "action") or (
                tag == "link" and name == "href"
            )
            if loads and value:
                self.found.append(value)
