"""The page of datalad-catalog that shows the nodes, as a study wants it.

in: the files of the installed package, Brand    out: the files of the catalog's folder

The package is not imported, which takes long; its page is changed in few places, each of
which has to be there. So the page asks no other host for anything, links to our own pages,
lists any number of visits, and its buttons work where a store is served without https.
"""

import importlib.metadata
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path, PurePosixPath
from typing import Any

from icf_tools.errors import Damaged, NotFound
from icf_tools.model.brand import SOCIAL, Brand

VERSION = "1.1.1"
SEARCH = "search/index.html"  # not the folder alone, which not every host of files completes

_PACKAGE = "datalad_catalog"
_FOLDERS = ("artwork", "assets", "schema", "templates")
_UNUSED = frozenset(
    {
        "artwork/catalog_logo.svg",
        "artwork/datalad_catalog_logo_1_dark.svg",
        "artwork/datalad_catalog_logo_1_light.svg",
        "assets/app_component_about.js",
        "assets/display_schema.js",
        "assets/meta_entry.js",
        *(
            f"assets/jsonschema_{name}.json"
            for name in ("authors", "catalog", "dataset", "file", "metadata_sources")
        ),
        "templates/main-template.html",  # holds a video of another host
    }
)
"""Of pages that are left out: display_schema.html, metadata-entry.html, about."""

_NAME = "DICOM archive"
_LINK, _LINK_HOVER = (
    "#0a5bab",
    "#084482",
)  # of static/style.css; those of the package are too light to read on white
_LISTED = 50  # visits; a card has dozens of elements
_POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-eval'; object-src 'none'; base-uri 'none'; form-action 'none'"
)
"""Vue compiles its templates in the browser, which is `unsafe-eval`."""


class NoCatalogPackage(NotFound):
    message = "datalad-catalog {} is needed and {} is installed; pip install datalad-catalog=={}"


class ChangedPackage(Damaged):
    message = (
        "{} of datalad-catalog is not as published: {!r} is in it {} times in place of {}; "
        "install datalad-catalog again"
    )


@dataclass(frozen=True, slots=True)
class _Patch:
    file: str
    old: str
    new: str
    times: int = 1  #: how often the old is there

    def apply(self, content: bytes) -> bytes:
        found = content.count(self.old.encode())
        if found != self.times:
            raise ChangedPackage(self.file, self.old, found, self.times)
        return content.replace(self.old.encode(), self.new.encode())


_PATCHES = (
    # Vue came from unpkg.com, though the package has it
    _Patch(
        "index.html",
        '    <script src="https://unpkg.com/vue@2.6.14/dist/vue.js"></script>\n'
        '    <!-- <script src="assets/vue.2.6.14.min.js"></script> -->\n',
        '    <script src="assets/vue.2.6.14.min.js"></script>\n',
    ),
    _Patch("index.html", '    <script src="assets/app_component_about.js"></script>\n', ""),
    _Patch(
        "assets/app_router.js", '  { path: "/about", component: aboutPage, name: "about" },\n', ""
    ),
    # its home page only leads on, which the router calls a failure
    _Patch(
        "assets/app_router.js",
        "// Create router\n",
        """\
const push = VueRouter.prototype.push;
VueRouter.prototype.push = function (place) {
  return push.call(this, place).catch((error) => {
    if (!VueRouter.isNavigationFailure(error)) throw error;
  });
};

// Create router
""",
    ),
    # without these the page shows links of DataLad
    _Patch(
        "assets/app_globals.js",
        """\
    about: null,
    documentation: "https://docs.datalad.org/projects/catalog/en/latest/",
    github: "https://github.com/datalad/datalad-catalog",
    mastodon: "https://fosstodon.org/@datalad",
    x: "https://x.com/datalad"
""",
        "",
    ),
    # an entry of the study says what is listed of a visit: no request for each
    _Patch(
        "assets/app_globals.js",
        "async function grabSubDatasets(app) {\n",
        """\
async function grabSubDatasets(app) {
  return app.selectedDataset.subdatasets.map((entry) => ({
    ...entry,
    metadata_sources: { sources: [{ source_time: entry.source_time }] },
  }));
}

async function fetchSubDatasets(app) {
""",
    ),
    _Patch(
        "templates/dataset-template.html",
        '<b-card v-for="ds in sortedSubdatasets" ',
        f'<p v-if="sortedSubdatasets.length > {_LISTED}">The first {_LISTED} of '
        "{{sortedSubdatasets.length}} are listed. Filter them here, or "
        f'<a href="{SEARCH}">search for series</a>.</p>\n'
        f'                <b-card v-for="ds in sortedSubdatasets.slice(0, {_LISTED})" '
        ':key="ds.dataset_id" ',
    ),
    _Patch("templates/dataset-template.html", "Filter by dataset or author name", "Filter by name"),
    # says the same as the pill of the study's node
    _Patch(
        "templates/dataset-template.html",
        '<span v-if="selectedDataset.subdatasets_available_count"><b-button',
        '<span v-if="false"><b-button',
    ),
    # our own page of the visit
    _Patch(
        "templates/dataset-template.html",
        '          <div style="display: flex; flex-direction: row;">\n',
        """\
          <div style="display: flex; flex-flow: row wrap; gap: 0.3em;">
            <span v-if="selectedDataset.icf_page"><b-button variant="primary" size="sm" \
:href="selectedDataset.icf_page.url">{{selectedDataset.icf_page.name}}</b-button>&nbsp;</span>
""",
    ),
    _Patch(
        "templates/dataset-template.html",
        '<span><b-button variant="outline-dark" size="sm" @click="openWithBinder(',
        '<span v-if="false"><b-button variant="outline-dark" size="sm" @click="openWithBinder(',
    ),
    # `history` is not known within a template
    _Patch("templates/dataset-template.html", "history.back()", "$router.back()"),
    _Patch(
        "templates/dataset-template.html",
        "Make sure that you have a recent version of DataLad installed on your system.",
        "Make sure that you have DataLad and its extension datalad-next on your system:\n"
        "              <code>pip install datalad datalad-next git-annex</code>.",
    ),
    # the name of a tab is compared with one in lower case
    _Patch(
        "assets/app_component_dataset.js",
        "available_tabs.push(sDs.additional_display[t].name)",
        "available_tabs.push(sDs.additional_display[t].name.toLowerCase())",
        times=2,
    ),
    # one of a visit is DICOM, where it may have no content; no file for each to say so
    _Patch(
        "assets/app_component_dataset.js",
        'default_tab ? default_tab : "content"',
        'this.$root.selectedDataset.has_subdatasets ? "subdatasets" : "dicom"',
        times=2,
    ),
    _Patch(
        "assets/app_component_dataset.js",
        "configresponse = await fetch(dataset_config_path);",
        "configresponse = { status: 404 };",
        times=2,
    ),
    # a tab cannot be opened before it is there
    _Patch(
        "templates/dataset-template.html",
        '@activate-tab="newTabActivated"',
        '@activate-tab="newTabActivated" '
        '@changed="selectedDataset.available_tabs && (tabIndex = getDefaultTabIdx())"',
    ),
    # navigator.clipboard is not there without https
    _Patch(
        "assets/app_component_dataset.js",
        "navigator.clipboard\n              .writeText(selectText)",
        "copyText(selectText)",
        times=2,
    ),
    _Patch(
        "assets/app_globals.js",
        "async function checkFileExists(url) {\n",
        """\
function copyText(text) {
  if (navigator.clipboard) {
    return navigator.clipboard.writeText(text);
  }
  const give = (event) => {
    event.clipboardData.setData("text/plain", text);
    event.preventDefault();
  };
  document.addEventListener("copy", give);
  const done = document.execCommand("copy");
  document.removeEventListener("copy", give);
  return done ? Promise.resolve() : Promise.reject("select the text and press Ctrl+C");
}

async function checkFileExists(url) {
""",
    ),
    # links to files are relative
    _Patch(
        "templates/item-template.html",
        """v-if="downloadURL.includes('http')\"""",
        'v-if="downloadURL"',
    ),
    # as sizes are written elsewhere
    _Patch("assets/app_component_item.js", "const k = 1024;", "const k = 1000;"),
    _Patch(
        "assets/style.css",
        "body a {\n",
        ".btn, td {\n  overflow-wrap: anywhere;\n}\n\nbody a {\n",
    ),
)


def shell_files(brand: Brand, logo: bytes | None = None) -> Iterator[tuple[PurePosixPath, bytes]]:
    """All files of the shell, the one that names the others last.

    Raises NoCatalogPackage and ChangedPackage.
    """
    root = _package()
    site = root / "catalog"
    paths = [path for folder in _FOLDERS for path in sorted((site / folder).rglob("*"))]
    names = {path.relative_to(site).as_posix(): path for path in paths if path.is_file()}
    files = {name: path.read_bytes() for name, path in names.items() if name not in _UNUSED}
    logo_path = ""
    if logo:
        logo_path = f"artwork/logo{PurePosixPath(brand.logo).suffix}"
        files[logo_path] = logo
    stock = json.loads((root / "config" / "config.json").read_bytes())
    files["config.json"] = _config(brand, logo_path, stock)
    files["index.html"] = (site / "index.html").read_bytes()
    for patch in (*_PATCHES, *_brand_patches(brand, logo_path)):
        files[patch.file] = patch.apply(files.get(patch.file, b""))
    for name, content in files.items():
        yield PurePosixPath(name), content


def _package() -> Path:
    """Where the package is installed."""
    try:
        found = importlib.metadata.version(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        found = "none"
    spec = importlib.util.find_spec(_PACKAGE)
    if found != VERSION or spec is None or spec.origin is None:
        raise NoCatalogPackage(VERSION, found, VERSION)
    return Path(spec.origin).parent


def _brand_patches(brand: Brand, logo: str) -> Iterator[_Patch]:
    """Of index.html: Vue would run what stands in {{ }}, were it not for v-pre."""
    name = escape(brand.name or _NAME)
    style = "max-width:100%;max-height:6em;"
    picture = f'<img v-pre src="{logo}" alt="" style="{style}"> ' if logo else ""
    links = "".join(
        f'\n      <a class="btn btn-link" href="{escape(url)}">{escape(label)}</a>'
        for label, url in brand.links
        if label not in SOCIAL
    )
    yield _Patch("index.html", "<title>DataLad Catalog</title>", f"<title>{name}</title>")
    yield _Patch(
        "index.html",
        '    <meta charset="utf-8" />\n',
        '    <meta charset="utf-8" />\n'
        f'    <meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '    <meta name="referrer" content="no-referrer">\n',
    )
    # outside of Vue: it is there at once, and also where the page itself cannot run
    yield _Patch(
        "index.html",
        '  <body id="mainbody">\n',
        f"""\
  <body id="mainbody">
    <nav class="container" aria-label="Pages" style="padding-top: 1em;">
      <a class="btn btn-primary btn-lg" href="{SEARCH}">\
<i class="fas fa-search" aria-hidden="true"></i> Search for series</a>{links}
    </nav>
""",
    )
    yield _Patch(
        "index.html",
        '<span v-show="logo_path"><a @click="gotoHome"><img :src="logo_path" '
        'class="d-inline-block" alt="datalad" style="width:100%;"></a></span>',
        f'<a href="#/" @click.prevent="gotoHome" class="text-decoration-none">{picture}'
        f'<span v-pre class="h1">{name}</span></a>',
    )


def _config(brand: Brand, logo: str, stock: dict[str, Any]) -> bytes:
    links = dict(brand.links)
    content = {
        "catalog_name": brand.name or _NAME,
        "logo_path": logo,
        "link_color": brand.link_color or _LINK,
        "link_hover_color": brand.link_hover_color or _LINK_HOVER,
        "social_links": {label: links.get(label) for label in SOCIAL},
        "dataset_options": stock["dataset_options"],
        "property_sources": stock["property_sources"],
    }
    return json.dumps(content, indent=1).encode() + b"\n"
