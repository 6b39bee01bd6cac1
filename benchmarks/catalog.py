"""`icf catalog` beside datalad-catalog's own commands, and its pages in a browser."""

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import records
from benchmarks.measure import ICF, Command, Row, Run, aside, main, scratch, take_turns, warm
from icf_tools.model.visit import CatalogPath, StorePath, Visit
from tests.catalog.browser import chromium
from tests.catalog.shards import many, search_page

STUDY = "study"
_DATALAD = str(Path(sys.executable).parent / "datalad")
_URL = "https://data.example.org/store"
_PEER = "datalad catalog-add"
_WAY = """
"$1" -m benchmarks.catalog_way "$2" "$3" $7 > "$4" && "$6" catalog-add -c "$5" -m "$4"
"""
_IMAGES = 400  # of a visit
_ROUNDS = 5
_SEARCHED = ((1000, "<= 1 s"), (10_000, "<= 2 s"))  # visits of ten series


def rows(quick: bool) -> Sequence[Row]:
    """Writing the catalog of 1,000 visits, adding one; searching in 1,000 and 10,000."""
    return [*_writing(20 if quick else 1000, quick), *_pages(quick)]


def _writing(visits: int, quick: bool) -> Sequence[Row]:
    with scratch() as folder:
        store, peer = folder / "store", folder / "peer"
        aside(_deposit, store, visits)
        warm(store)
        place = CatalogPath(store, STUDY)
        at: list[str | Path] = ["--store-dir", store, "--deposit-url", _URL]
        ours = Command([*ICF, "catalog", STUDY, *at], partial(_remove, place.folder))
        way: list[str | Path] = ["sh", "-c", _WAY, "sh", sys.executable, store, STUDY]
        way += [folder / "records", peer, _DATALAD]
        whole = take_turns(1 if quick else 3, ours=ours, peer=Command(way, partial(_create, peer)))
        one = f"P{visits // 2:05}"
        each = take_turns(
            1 if quick else 7,
            ours=Command([*ICF, "catalog", STUDY, one, *at]),
            start=Command([*ICF, "catalog", STUDY, "none", *at], failing=True),
            peer=Command([*way, one]),
        )
    pairs = zip(each["ours"], each["start"], strict=True)
    beyond = [Run(max(0.0, ours.wall - start.wall), 0, 0.0) for ours, start in pairs]
    size = f"{visits} visits"
    return [
        Row("icf catalog STUDY", size, whole["ours"], _PEER, whole["peer"], "<= 20 s"),
        Row("icf catalog STUDY VISIT", size, each["ours"], _PEER, each["peer"]),
        Row("  beyond process start", size, beyond, target="<= 0.05 s"),
    ]


def _deposit(store: Path, visits: int) -> None:
    for number in range(visits):
        records.write(StorePath(store, Visit(STUDY, f"P{number:05}")), _IMAGES, _IMAGES // 10)


def _create(peer: Path) -> None:
    _remove(peer)
    command = [_DATALAD, "catalog-create", "-c", str(peer)]
    subprocess.run(command, check=True, capture_output=True)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _pages(quick: bool) -> Iterator[Row]:
    program = shutil.which("chromium")
    if program is None:
        raise SystemExit("there is no chromium; install it, or leave out this part")
    with scratch() as folder, _served(folder) as url, chromium(program, folder / "home") as browser:
        for visits, target in ((100, ""), (200, "")) if quick else _SEARCHED:
            place = CatalogPath(folder / f"store{visits}", STUDY)
            aside(_generate, place.root, visits)
            page = f"{url}/{place.search.relative_to(folder)}/index.html"
            found = [_search(browser, page) for _ in range(1 if quick else _ROUNDS)]
            usable, filtered = ([Run(each[n], 0, 0.0) for each in found] for n in (0, 1))
            size = f"{visits} visits"
            yield Row("search page: usable", size, usable, target=target)
            yield Row("  slowest filter", size, filtered, target="<= 0.1 s")
            kilobytes = f"{median(each[2] for each in found) / 1000:.0f} kB"
            yield Row("  first load", size, usable, ratio=kilobytes, target="<= 500 kB")


def _generate(root: Path, visits: int) -> None:
    search_page(root, {STUDY: many(visits)})


def _search(browser: Any, url: str) -> tuple[float, float, int]:
    """Seconds until all is counted, of the slowest filter, and bytes of the first load."""
    with browser.new_context() as context:
        page = context.new_page()
        requests: list[Any] = []
        page.on("requestfinished", lambda request: requests.append(request))
        page.goto(url)
        usable = page.evaluate(_COUNTED)
        page.wait_for_load_state("networkidle")
        loaded = sum(map(_sent, requests))
        slowest = max(page.evaluate(_FILTERED, list(each)) for each in _ENTERED)
    return usable / 1000, slowest / 1000, loaded


def _sent(request: Any) -> int:
    """With its head."""
    sizes = request.sizes()
    return int(sizes["responseBodySize"] + sizes["responseHeadersSize"])


_ENTERED = (  # one after the other
    ("NumberOfSeriesRelatedInstances", "70"),
    ("Visit", "e"),
    ("SeriesDescription", "bold"),
    ("EchoTime", "35"),
    ("SeriesDescription", ""),
    ("Visit", ""),
)
_SETTLED = """
    const settled = () => {
        const text = document.getElementById("count").textContent;
        return /series/.test(text) && !/oading/.test(text);
    };
"""
_COUNTED = f"""() => new Promise(done => {{ {_SETTLED}
    const look = () => settled() ? done(performance.now()) : setTimeout(look, 2);
    look();
}})"""
# without the pause in which more might be typed
_FILTERED = """async ([name, value]) => {
    const input = document.querySelector(`[data-name="${name}"] input`);
    const later = window.setTimeout;
    let act;
    window.setTimeout = (call) => { act = call; };
    input.value = value;
    input.dispatchEvent(new Event("input", {bubbles: true}));
    window.setTimeout = later;
    const before = document.getElementById("count").textContent;
    const start = performance.now();
    act();
    await new Promise((done) => later(done));
    document.getElementById("rows").offsetHeight;
    const took = performance.now() - start;
    if (document.getElementById("count").textContent === before) throw Error(`${name} did nothing`);
    return took;
}"""


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


if __name__ == "__main__":
    main(rows)
