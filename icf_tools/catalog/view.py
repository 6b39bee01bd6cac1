"""The page of a visit: what it is, how to get it, its series, pictures and volumes.

in: Listing    out: <study>/catalog/view/<visit>.html

What static/view.js needs is in data attributes; no UID of DICOM is on the page, and
series in one frame of reference share a small number instead.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from icf_tools.catalog.listing import NOT_DERIVED, Listed, Listing, Output, Volume
from icf_tools.catalog.pages import Pages
from icf_tools.derive.report import Target
from icf_tools.model.dicom import Scalar

_MASTER = "master"
_FIRST_TITLE = "Images"
_COMMON = frozenset({"ORIGINAL", "PRIMARY", "OTHER", "NONE", ""})
"""Values of ImageType that tell nothing of an image."""
_STATUS = {
    "verified": ("\u2713", "verified"),
    "unverified": ("?", "unverified"),
    "skipped": ("\u2013", "skipped"),
    "failed": ("\u2715", "failed"),
    NOT_DERIVED: ("\u25cb", "not converted"),
}
"""A shape and a word for each; the colour says it a third time."""
_DERIVED = {
    Target.NIFTI: "NIfTI",
    Target.MINC: "MINC",
    Target.PREVIEW: "previews",
    Target.BIDS: "BIDS",
}
_LINKS = {
    "dicom.tar": "Tarball",
    "dicom.tar.md5sum": "MD5 of the tarball",
    "metadata_dicoms.json": "Metadata of each image",
    "metadata_tarball.json": "Metadata of series and other files",
    "metadata_series.json": "What was converted",
    "versions.json": "Versions of the dataset",
}


@dataclass(frozen=True, slots=True)
class _Shown:
    """A NIfTI file of a series."""

    id: str  #: in URLs: the anchor of the series; of a second file with .2 behind it
    volume: Volume
    part: str  #: what tells it from the others of its series


@dataclass(frozen=True, slots=True)
class _Row:
    listed: Listed
    kind: str
    image_type: str
    icon: str
    status: str
    frame: int  #: the same number: in the same coordinates; 0: not known
    shown: tuple[_Shown, ...]
    files: tuple[tuple[str, Output], ...]  #: each with a name that is unique in the row


def view_page(
    listing: Listing, page: Pages, *, deposit_url: str | None, has_viewer: bool = True
) -> str:
    """The HTML of the page; the same for the same arguments.

    deposit_url is what the catalog was made with. Without one the page says so, and its
    command has the URL on record, if any. has_viewer: whether the catalog has NiiVue.
    """
    visit = listing.visit
    rows = tuple(_rows(listing))
    return page.render(
        "view.html",
        visit=visit.visit,
        study=visit.study,
        listing=listing,
        facts=tuple(_facts(listing)),
        clone=_clone(listing),
        get=f"datalad get {quote(visit.prefix)}",
        gets=tuple(_gets(listing)),
        out_of_reach=_out_of_reach(listing, deposit_url),
        is_configured=deposit_url is not None,
        rows=rows,
        twice=next(filter(_is_again, listing.series), None),
        has_viewer=has_viewer,
        has_volumes=any(row.shown for row in rows),
        pictured=any(shown.volume.preview for row in rows for shown in row.shown),
        links=tuple(_links(listing)),
        versions=tuple(_history(listing)),
    )


def _facts(listing: Listing) -> Iterator[tuple[str, tuple[Scalar, ...], str]]:
    """Label, values, and the unit behind them."""
    scanners = {
        name: None
        for each in listing.series
        if (
            name := " ".join(
                str(part)
                for keyword in ("Manufacturer", "ManufacturerModelName")
                if (part := each.series.first(keyword)) != ""
            )
        )
    }
    yield "Scanner", tuple(scanners), ""
    yield "Field strength", _values(listing.series, "MagneticFieldStrength"), "T"
    yield "Modality", _values(listing.series, "Modality"), ""
    yield "Series", (len(listing.series),), ""
    yield "Images", (listing.images,), ""
    yield "Other files", (len(listing.facts.files),), ""
    if listing.facts.problems:
        yield "Unreadable files", (len(listing.facts.problems),), ""


def _values(series: Iterable[Listed], keyword: str) -> tuple[Scalar, ...]:
    """Each once, in the order of the series."""
    found = (value for each in series for value in each.series.values.get(keyword, ()))
    return tuple(dict.fromkeys(found))


def _clone(listing: Listing) -> str | None:
    """As a shell takes it: the URL has `&` and braces."""
    if listing.clone_url is None:
        return None
    folder = quote(listing.visit.visit)
    return f"datalad clone {quote(listing.clone_url)} {folder}\ncd {folder}"


def _rows(listing: Listing) -> Iterator[_Row]:
    frames: dict[str, int] = {}
    for listed in listing.series:
        series = listed.series
        icon, status = _STATUS.get(listed.status, ("?", listed.status))
        frame = frames.setdefault(series.frame, len(frames) + 1) if series.frame else 0
        first = (series.first(keyword) for keyword in ("Modality", "MRAcquisitionType"))
        yield _Row(
            listed=listed,
            kind=" ".join(str(value) for value in first if value != ""),
            image_type=" ".join(
                str(value)
                for value in series.values.get("ImageType", ())
                if value not in _COMMON and not str(value).startswith("ECHO_")
            ),
            icon=icon,
            status=status,
            frame=frame,
            shown=tuple(_shown(listed)),
            files=tuple(_files(listed)),
        )


def _is_again(listed: Listed) -> bool:
    """Whether another series before it has its number."""
    return listed.anchor != str(listed.series.number)


def _shown(listed: Listed) -> Iterator[_Shown]:
    stems = [_stem(volume) for volume in listed.volumes]
    for place, (volume, stem) in enumerate(zip(listed.volumes, stems, strict=True), 1):
        key = listed.anchor if place == 1 else f"{listed.anchor}.{place}"
        yield _Shown(key, volume, stem if len(stems) > 1 else "")


def _stem(volume: Volume) -> str:
    return Path(volume.file.name.removesuffix(".gz")).stem


def _files(listed: Listed) -> Iterator[tuple[str, Output]]:
    """NIfTI first; those of one name with the folder that they are in."""
    count = Counter(output.name for output in listed.outputs)
    for output in sorted(listed.outputs, key=lambda output: output.target != Target.NIFTI):
        folder = f"{output.target}/" if count[output.name] > 1 else ""
        yield f"{folder}{output.name}", output


def _gets(listing: Listing) -> Iterator[tuple[str, str, int]]:
    """Folder, label, bytes; of what there is."""
    size: Counter[str] = Counter()
    for each in listing.series:
        for output in each.outputs:
            size[output.target] += output.size
    for target, label in _DERIVED.items():
        if size[target]:
            yield target, label, size[target]


def _out_of_reach(listing: Listing, deposit_url: str | None) -> str:
    """Where content is that the clone URL, on the web, does not lead to; or nothing."""
    if not listing.versions or not (deposit_url or "").startswith("http"):
        return ""
    newest = listing.versions[-1]
    urls = (newest.store_url, newest.deposit_url)
    return next((url for url in urls if url.startswith("file://")), "")


def _links(listing: Listing) -> Iterator[tuple[str, str, str]]:
    """Label, file name, URL."""
    for suffix, label in _LINKS.items():
        name = f"{listing.visit.visit}_{suffix}"
        if name in listing.links:
            yield label, name, listing.links[name]


def _history(listing: Listing) -> Iterator[tuple[int, str, str, int, int]]:
    """Number, title, commit, files that came, files that went; the newest version first."""
    for version in reversed(listing.versions):
        change = version.change
        title = change.title or (_FIRST_TITLE if version.n == 1 else "")
        yield version.n, title, version.commits[_MASTER], len(change.added), len(change.gone)
