"""The record of each version of a dataset: <visit>_versions.json.

It is state: from the tarball and these records the deposit can be made again.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from icf_tools.dataset.repository import BRANCHES
from icf_tools.errors import Damaged
from icf_tools.model.key import AnnexKey


class BadVersions(Damaged):
    message = "{} cannot be read: {}; take it from a copy of the store"


@dataclass(frozen=True, slots=True)
class Change:
    """What a version has that the one before has not, and why."""

    added: Mapping[str, str] = field(default_factory=dict)  #: key by path; replaces what is there
    gone: tuple[str, ...] = ()  #: paths
    title: str = ""  #: one line
    run: Mapping[str, Any] = field(default_factory=dict)  #: DataLad's record of a command, if any

    @property
    def message(self) -> str:
        """Of the commit; `datalad rerun` reads it. Format: DataLad, core/local/run.py."""
        if not self.run:
            return f"{self.title}\n"
        record = json.dumps(self.run, indent=1, sort_keys=True, ensure_ascii=False)
        return (
            f"[DATALAD RUNCMD] {self.title}\n\n"
            f"=== Do not change lines below ===\n{record}\n"
            "^^^ Do not change lines above ^^^\n"
        )


@dataclass(frozen=True, slots=True)
class Version:
    """One version of the dataset."""

    n: int
    timestamp: int  #: T, seconds since 1970: of its commits and log lines
    store_url: str  #: of the tarball
    deposit_url: str  #: of everything else
    size: int  #: bytes of the tarball
    md5: str  #: of the tarball
    commits: dict[str, str]  #: id by branch
    change: Change = Change()  #: what it has beside the files of the tarball; nothing in the first


def tree(versions: tuple[Version, ...]) -> dict[str, str]:
    """The key by path of what the newest of them has beside the files of the tarball."""
    paths: dict[str, str] = {}
    for version in versions:
        paths |= version.change.added
        for path in version.change.gone:
            paths.pop(path, None)
    return paths


def read_versions(path: Path) -> tuple[Version, ...]:
    """All versions, the oldest first; none where nothing is recorded. Raises BadVersions."""
    try:
        items = json.loads(path.read_bytes())
        versions = tuple(_version(item) for item in items)
    except FileNotFoundError:
        return ()
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as err:
        raise BadVersions(path, "it does not follow its format") from err
    if not versions:
        raise BadVersions(path, "it has no version")
    if [version.n for version in versions] != list(range(1, len(versions) + 1)):
        raise BadVersions(path, "its versions are not numbered 1, 2, ...")
    return versions


def versions_text(versions: tuple[Version, ...]) -> bytes:
    """The content of the file."""
    return json.dumps([_item(version) for version in versions], indent=1).encode() + b"\n"


def _item(version: Version) -> dict[str, Any]:
    item = asdict(version)
    item["tarball"] = {"size": item.pop("size"), "md5": item.pop("md5")}
    change = item.pop("change")
    return item if version.change == Change() else item | change


def _version(item: dict[str, Any]) -> Version:
    rest = {key: item[key] for key in ("n", "timestamp", "store_url", "deposit_url", "commits")}
    texts = (rest["store_url"], rest["deposit_url"], *map(rest["commits"].get, BRANCHES))
    change = Change(
        added=dict(item.get("added", {})),
        gone=tuple(item.get("gone", ())),
        title=item.get("title", ""),
        run=dict(item.get("run", {})),
    )
    if not all(isinstance(text, str) for text in (*texts, change.title, *change.gone)):
        raise TypeError(rest)
    if not all(re.fullmatch("[0-9a-f]{40}([0-9a-f]{24})?", each) for each in texts[2:]):
        raise ValueError(texts)
    "".join((*texts, change.title)).encode()  # what is no text cannot be written
    if type(rest["timestamp"]) is not int:
        raise TypeError(rest)
    for path, key in change.added.items():
        AnnexKey.parse(key)
        if any(part in ("", ".", "..") for part in path.split("/")):
            raise ValueError(path)
    return Version(size=item["tarball"]["size"], md5=item["tarball"]["md5"], change=change, **rest)
