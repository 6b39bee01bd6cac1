"""Search pages over series that tests make up, of any number."""

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from icf_tools.catalog.assets import static_files
from icf_tools.catalog.manifest import index_of, manifest_text
from icf_tools.catalog.pages import Pages
from icf_tools.catalog.shards import Row, SeriesRow
from icf_tools.model.brand import NO_BRAND, Brand
from icf_tools.model.search import DEFAULT, Element

URL = "datalad-annex::?type=external&externaltype=uncurl&encryption=none&url=https://a.b/{visit}_{{annex_key}}"


def series(
    number: int = 1,
    *,
    images: int = 10,
    status: str = "v",
    boxes: Sequence[int] = (),
    **values: Any,
) -> SeriesRow:
    """A series; values by keyword, one or a list."""
    lists = {key: value if isinstance(value, list) else [value] for key, value in values.items()}
    return SeriesRow(json.dumps(lists), number, images, status, tuple(boxes))


def visit(
    name: str, *has: SeriesRow, dates: Iterable[str] = (), size: int = 1000, url: str | None = URL
) -> Row:
    days = tuple(dates)
    return Row(name, size, (("StudyDate", days),) if days else (), url, has)


def search_page(
    store: Path,
    studies: Mapping[str, Sequence[Row]],
    elements: Sequence[Element] = DEFAULT,
    *,
    site: bool = False,
    brand: Brand = NO_BRAND,
) -> Path:
    """Write the search page of a study, or one over several; its folder."""
    folder = store / ("" if site else next(iter(studies))) / "catalog" / "search"
    (folder / "data").mkdir(parents=True)
    indexes = []
    for study, rows in studies.items():
        index, files = index_of(study, "", sorted(rows, key=lambda row: row.visit))
        indexes.append(index)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    base = "../../{study}/catalog/" if site else "../"
    (folder / "manifest.js").write_bytes(manifest_text(indexes, base))
    for path, content in static_files(brand, None, viewer=False).items():
        (folder.parent / path).parent.mkdir(exist_ok=True)
        (folder.parent / path).write_bytes(content)
    study = "" if site else next(iter(studies))
    page = Pages("0", brand).render("search.html", site=site, study=study, elements=elements)
    (folder / "index.html").write_text(page, encoding="utf-8")
    return folder


_KINDS = (
    ("localizer", 8.6, 4.0, 20),
    ("t1_mprage_sag_p2_iso", 2300.0, 2.98, 9),
    ("t2_space_sag_p2_iso", 3200.0, 408.0, 120),
    ("t2_tirm_tra_dark-fluid", 9000.0, 81.0, 150),
    ("gre_field_mapping", 488.0, 4.92, 60),
    ("ep2d_bold_rest_TR2000", 2000.0, 30.0, 90),
    ("ep2d_bold_faces_run-1", 2000.0, 30.0, 90),
    ("ep2d_bold_faces_run-2", 2000.0, 30.0, 90),
    ("ep2d_diff_mddw_64_p2", 8900.0, 88.0, 90),
    ("swi_tra_p2_1.5mm", 28.0, 20.0, 15),
)


def many(visits: int, seed: int = 1) -> list[Row]:
    """Visits of ten series as they look in a study of brains."""
    dice = random.Random(seed)
    scanners = ("Prisma_fit", "Skyra", "TrioTim", "Ingenia Elition X")
    rows = []
    for v in range(visits):
        scanner = scanners[v * len(scanners) // visits]
        field = 2.89362 if scanner == "Skyra" else 3
        found = []
        for s, (name, tr, te, flip) in enumerate(_KINDS):
            images = dice.choice((1, 64, 176, 192, 240, 300))
            # a few are measured a bit otherwise
            tr += dice.choice((0, 0, 0, 0, 10, 20))
            box = [dice.randrange(-200, 200) for _ in range(3)]
            box += [900, 0, dice.randrange(60), 0, 1200, 30, dice.randrange(60), 30, 1200]
            found.append(
                series(
                    s + 1,
                    images=images,
                    status=dice.choice("vvvvvvvvvusfn"),
                    boxes=box,
                    Modality="MR",
                    SeriesDescription=name,
                    ProtocolName=name,
                    ManufacturerModelName=scanner,
                    Manufacturer="SIEMENS",
                    RepetitionTime=tr,
                    EchoTime=[te, te + 2.46] if "field" in name else te,
                    FlipAngle=flip,
                    MagneticFieldStrength=field,
                )
            )
        day = f"{2012 + v * 12 // visits}{dice.randrange(1, 13):02}{dice.randrange(1, 29):02}"
        size = dice.randrange(300_000_000, 2_500_000_000)
        rows.append(visit(f"S{v + 1:05}", *found, dates=[day], size=size))
    return rows
