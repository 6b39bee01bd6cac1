"""What a study's admin would write to feed datalad-catalog: its records, out of the metadata.

in: store, study    out: a line of JSON for each visit, and for the study, to standard output
"""

import json
import sys
from pathlib import Path

from icf_tools.catalog import nodes
from icf_tools.catalog.listing import list_visit
from icf_tools.model.brand import NO_BRAND
from icf_tools.model.visit import StorePath
from icf_tools.settings import Settings
from icf_tools.store.deposit import visits_of


def main(root: Path, study: str, only: str = "") -> None:
    entries = []
    for visit in visits_of(root, study):
        if only not in ("", visit.visit):
            continue
        listing = list_visit(StorePath(root, visit), Settings(), "https://data.example.org/store")
        entries.append(nodes.visit_entry(listing))
        _tell(nodes.visit_node(listing))
    _tell(nodes.study_node(study, NO_BRAND, entries))


def _tell(node: nodes.Node) -> None:
    del node["children"], node["metadata_sources"]["key_source_map"]
    print(json.dumps(node))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
