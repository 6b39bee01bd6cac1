"""The record of each version of a visit's dataset: <visit>_versions.json.

It is state: from the tarball and these records the deposit can be made again.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from icf_tools.dataset.repository import BRANCHES
from icf_tools.errors import Damaged
from icf_tools.model.visit import StorePath


class BadVersions(Damaged):
    message = "{} cannot be read: {}; take it from a copy of the store"


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


def read_versions(store: StorePath) -> tuple[Version, ...]:
    """All versions, the oldest first; none where nothing is recorded. Raises BadVersions."""
    path = store.versions_json
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
    return item


def _version(item: dict[str, Any]) -> Version:
    rest = {key: item[key] for key in ("n", "timestamp", "store_url", "deposit_url", "commits")}
    texts = (rest["store_url"], rest["deposit_url"], *map(rest["commits"].get, BRANCHES))
    if not all(isinstance(text, str) for text in texts) or type(rest["timestamp"]) is not int:
        raise TypeError(rest)
    return Version(size=item["tarball"]["size"], md5=item["tarball"]["md5"], **rest)
