"""A deposit made by DataLad step by step, as the first ICF tools did: a peer of `icf dataset`.

in: the store's folder, with the two metadata files of visit study/visit
out: its XDLRA--refs and XDLRA--repo-export
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from icf_tools.model.dicom import FIRST_TOOLS
from icf_tools.model.visit import StorePath, Visit

_KEY = "et:MD5-s{size}--{md5}"


def main() -> None:
    from datalad import api

    store = StorePath(Path(sys.argv[1]).resolve(), Visit("study", "visit"))
    url = store.root.as_uri()
    with tempfile.TemporaryDirectory() as folder:
        dataset = api.create(folder, result_renderer="disabled")
        annex = dataset.repo.call_annex

        uncurl = _remote(dataset.repo, "uncurl")
        tarball = json.loads(store.tarball_json.read_bytes())
        tarball["url"] = f"{url}/{tarball['storepath']}"
        (key,) = _keys(dataset, [tarball], "{url}", "{dspath}", [])
        annex(["setpresentkey", key, uncurl, "1"])

        archivist = _remote(dataset.repo, "archivist")
        images = json.loads(store.dicoms_json.read_bytes())
        member = f"dl+archive:{key}#path={{path}}&size={{size}}"
        fields = [f"{tag.keyword.lower()}={{{tag.keyword}}}" for tag in FIRST_TOOLS]
        keys = _keys(dataset, images, member, "{path}", fields)
        for each in keys:
            annex(["setpresentkey", each, archivist, "1"])

        deposit = store.visit.clone_url(url)
        dataset.repo.call_git(["remote", "add", "store", deposit])
        annex(["whereis", "--key", keys[0]])  # has git-annex commit what is in its journal
        dataset.push(to="store", data="nothing", result_renderer="disabled")
    if not (store.refs.exists() and store.repo_export.exists()):
        raise SystemExit("the push left no deposit")


def _remote(repo: Any, name: str) -> str:
    options = ["type=external", f"externaltype={name}", "encryption=none", "autoenable=true"]
    repo.call_annex(["initremote", name, *options])
    return str(repo.call_annex_records(["info", name])[0]["uuid"])


def _keys(dataset: Any, items: list[Any], url: str, path: str, fields: list[str]) -> list[str]:
    results = dataset.addurls(items, url, path, key=_KEY, meta=fields, result_renderer="disabled")
    return [result["annexkey"] for result in results if result.get("action") == "fromkey"]


if __name__ == "__main__":
    main()
