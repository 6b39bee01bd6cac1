"""`icf catalog` beside datalad-catalog's own commands, and its pages in a browser."""

import json
import shutil
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
from icf_tools.catalog import nodes
from icf_tools.model.visit import CatalogPath, StorePath, Visit
from tests.catalog.browser import chromium
from tests.catalog.shards import many, search_page

STUDY = "study"
_IMAGES = 400  # of a visit
_ROUNDS = 5
_SEARCHED = ((1000, "<= 1 s"), (10_000, "<= 2 s"))  # visits of ten series
_ADD = """
import json, sys
from datalad_catalog.add import Add
from datalad_catalog.webcatalog import WebCatalog
catalog = WebCatalog(sys.argv[1])
if sys.argv[2:]:
    catalog.create()
    catalog.set_main_dataset(*sys.argv[2:])
for line in open(sys.argv[1] + ".records"):
    Add()(catalog=catalog, metadata=json.loads(line), on_failure="stop", result_renderer="disabled")
"""


def rows(quick: bool) -> Sequence[Row]:
    """Writing the catalog of 1,000 visits, adding one; searching in 1,000 and 10,000."""
    return [*_writing(20 if quick else 1000, quick), *_pages(quick)]


def _writing(visits: int, quick: bool) -> Sequence[Row]:
    with scratch() as folder:
        store, peer = folder / "store", folder / "peer"
        aside(_deposit, store, visits)
        warm(store)
        place = CatalogPath(store, STUDY)
        home = (nodes.study_id(STUDY), nodes.STUDY_VERSION)
        at: list[str | Path] = [
            "--store-dir",
            store,
            "--deposit-url",
            "https://data.example.org/store",
        ]
        all_of_it = Command([*ICF, "catalog", STUDY, *at], partial(_remove, place.folder))
        take_turns(1, ours=all_of_it)
        aside(_tell, place, folder / "all.records")
        aside(_tell, place, folder / "one.records", f"P{visits // 2:05}")

        def before(name: str) -> None:
            if name == "all":
                _remove(peer)
            shutil.copyfile(folder / f"{name}.records", f"{peer}.records")

        rounds = 1 if quick else 3
        whole = take_turns(
            rounds,
            ours=all_of_it,
            peer=Command([sys.executable, "-c", _ADD, peer, *home], partial(before, "all")),
        )
        one = f"P{visits // 2:05}"
        each = take_turns(
            1 if quick else 7,
            ours=Command([*ICF, "catalog", STUDY, one, *at]),
            start=Command([*ICF, "status", STUDY, one, *at[:2]]),
            peer=Command([sys.executable, "-c", _ADD, peer], partial(before, "one")),
        )
    pairs = zip(each["ours"], each["start"], strict=True)
    beyond = [Run(max(0.0, ours.wall - start.wall), 0, 0.0) for ours, start in pairs]
    size = f"{visits} visits"
    target = f"<= {20 * visits / 1000:g} s"
    return [
        Row("icf catalog STUDY", size, whole["ours"], "catalog_add", whole["peer"], target),
        Row("icf catalog STUDY VISIT", size, each["ours"], "catalog_add", each["peer"]),
        Row("  beyond icf status", size, beyond, target="<= 0.05 s"),
    ]


def _deposit(store: Path, visits: int) -> None:
    for number in range(visits):
        records.write(StorePath(store, Visit(STUDY, f"P{number:05}")), _IMAGES, _IMAGES // 10)


def _tell(place: CatalogPath, path: Path, visit: str = "") -> None:
    """Write what catalog_add is told of all visits, or of one, and of the study."""
    found = [json.loads(each.read_bytes()) for each in place.metadata.glob("*/*/*/*.json")]
    with path.open("w") as out:
        for node in sorted(found, key=lambda node: node["dataset_version"] == nodes.STUDY_VERSION):
            if "subdatasets" in node and visit:
                node["subdatasets"] = [e for e in node["subdatasets"] if e["name"] == visit]
            elif visit not in ("", node["name"]):
                continue
            del node["children"], node["metadata_sources"]["key_source_map"]
            out.write(json.dumps(node) + "\n")


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
        sizes: list[int] = []
        page.on("requestfinished", lambda request: sizes.append(_sent(request)))
        page.goto(url)
        usable = page.evaluate(_COUNTED)
        loaded = sum(sizes)
        slowest = max(page.evaluate(_FILTERED, list(each)) for each in _ENTERED)
    return usable / 1000, slowest / 1000, loaded


def _sent(request: Any) -> int:
    """With its head."""
    sizes = request.sizes()
    return int(sizes["responseBodySize"] + sizes["responseHeadersSize"])


_ENTERED = (
    ("Visit", "t1 mprage"),
    ("SeriesDescription", "bold"),
    ("EchoTime", "25"),
    ("NumberOfSeriesRelatedInstances", "200"),
    ("Visit", ""),
    ("Visit", "0"),
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
# without the wait for the next letter that is typed
_FILTERED = """([name, value]) => {
    const field = document.querySelector(`[data-name="${name}"]`);
    const input = field.querySelector("input");
    input.value = value;
    const start = performance.now();
    input.form.dispatchEvent(new Event("change", {bubbles: true}));
    document.getElementById("rows").offsetHeight;
    return performance.now() - start;
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
