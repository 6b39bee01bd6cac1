"""Deposit a dataset of a whole study, of files whose content its visits have.

in: texts, and keys by path and folder of content
out: <study>/bids/versions.json, XDLRA--repo-export, XDLRA--refs, in this order

As for a visit, each version is a commit on the one before, and all of them can be
made again from the record; docs/formats.md specifies it.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from icf_tools.dataset import branch
from icf_tools.dataset.export import exported_refs, write_export
from icf_tools.dataset.repository import Commit, commit, contents, create, packed_refs, refs_text
from icf_tools.dataset.versions import BadVersions
from icf_tools.dataset.write import Deposited
from icf_tools.errors import Conflict
from icf_tools.model.key import AnnexKey, symlink_target
from icf_tools.model.visit import TreePath
from icf_tools.store.files import new_file


class OtherTree(Conflict):
    message = "{} does not give what is in {}; take it from a copy of the store"


@dataclass(frozen=True, slots=True)
class Tree:
    """What a version of the dataset has."""

    texts: Mapping[str, str]  #: content by path
    links: Mapping[str, tuple[str, str]]  #: key, and URL of the folder that has it, by path


@dataclass(frozen=True, slots=True)
class _Version:
    n: int
    timestamp: int  #: seconds since 1970: of its commits and log lines
    commits: dict[str, str]  #: id by branch
    texts: dict[str, str]  #: those that are new or other
    added: dict[str, dict[str, str]]  #: key by path, by the URL of the folder that has it
    gone: tuple[str, ...] = ()


def deposit_tree(place: TreePath, tree: Tree, deposit_url: str, when: int) -> Deposited:
    """Write the deposit, add a version to it, or find that it is there.

    `when` is the time of the first version, in seconds since 1970. The caller
    holds a lock on the study's tree. Raises BadVersions, OtherTree.
    """
    versions = _read(place.versions_json)
    _check_pair(place, versions)
    before = _tree(versions)
    new = []
    if (before, bool(versions)) != (tree, True):
        new.append(_next(versions, before, tree, when))
    made = bool(new) or not _is_pair_of(place, versions[-1])
    if made:
        with tempfile.TemporaryDirectory(prefix="icf-dataset-") as name:
            folder = Path(name)
            done = _write(place, folder, versions, new)
            place.folder.mkdir(parents=True, exist_ok=True)
            if new:
                with new_file(place.versions_json, replace=True) as out:
                    content = [asdict(version) for version in done]
                    out.write(json.dumps(content, indent=1).encode() + b"\n")
            with new_file(place.repo_export, replace=True) as out:
                write_export(out, folder, done[-1].commits)
            with new_file(place.refs, replace=True) as out:
                out.write(refs_text(done[-1].commits).encode())
        versions = done
    return Deposited(
        visit=place.study,
        version=len(versions),
        commits=versions[-1].commits,
        clone_url=place.clone_url(deposit_url),
        made=made,
    )


def folders_in(place: TreePath) -> set[str]:
    """The URLs of the folders whose content the dataset has. Raises BadVersions."""
    return {url for _, url in _tree(_read(place.versions_json)).links.values()}


def _read(path: Path) -> list[_Version]:
    try:
        items: list[dict[str, Any]] = json.loads(path.read_bytes())
        versions = [_Version(**item | {"gone": tuple(item["gone"])}) for item in items]
    except FileNotFoundError:
        return []
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as err:
        raise BadVersions(path, "it does not follow its format") from err
    if not versions:
        raise BadVersions(path, "it has no version")
    return versions


def _tree(versions: list[_Version]) -> Tree:
    texts: dict[str, str] = {}
    links: dict[str, tuple[str, str]] = {}
    for version in versions:
        for path in version.gone:
            texts.pop(path, None)
            links.pop(path, None)
        texts |= version.texts
        for url, keys in version.added.items():
            links |= {path: (key, url) for path, key in keys.items()}
    return Tree(texts, links)


def _next(versions: list[_Version], before: Tree, tree: Tree, when: int) -> _Version:
    """What makes one out of the other."""
    added: dict[str, dict[str, str]] = {}
    for path, (key, url) in sorted(tree.links.items()):
        if before.links.get(path) != (key, url):
            added.setdefault(url, {})[path] = key
    there = {*before.texts, *before.links}
    return _Version(
        n=len(versions) + 1,
        timestamp=versions[0].timestamp + len(versions) if versions else when,
        commits={},
        texts={p: t for p, t in sorted(tree.texts.items()) if before.texts.get(p) != t},
        added=added,
        gone=tuple(sorted(there - {*tree.texts, *tree.links})),
    )


def _write(
    place: TreePath, folder: Path, versions: list[_Version], new: list[_Version]
) -> list[_Version]:
    """All commits, into an empty folder; those on record have to come out as they are there."""
    create(folder)
    first = [*versions, *new][0]
    digest = hashlib.md5(json.dumps(first.added).encode(), usedforsecurity=False).hexdigest()
    ids = branch.Identity.of(f"{place.study}/bids", digest)
    done: list[_Version] = []
    for version in (*versions, *new):
        parents = done[-1].commits if done else {}
        files = dict(version.texts)
        logs: dict[str, str] = {}
        if not done:
            files |= branch.master_files(ids)
            # git-annex leaves them in git when they are changed
            plain = "".join(f"/{path} annex.largefiles=nothing\n" for path in version.texts)
            files[".gitattributes"] += plain
            logs |= branch.remotes(ids, [branch.UNCURL], version.timestamp)
        keys = {
            url: sorted({AnnexKey.parse(key) for key in added.values()}, key=str)
            for url, added in version.added.items()
        }
        paths = [path for each in keys.values() for key in each for path in branch.log_paths(key)]
        known = contents(folder, parents["git-annex"], paths) if done else {}
        uncurl = ids.remote(branch.UNCURL)
        for url, each in keys.items():
            # two visits may have the same content
            logs |= branch.derived({**known, **logs}, uncurl, each, url, version.timestamp)
        links = [
            (path, symlink_target(path, AnnexKey.parse(key)))
            for added in version.added.values()
            for path, key in added.items()
        ]
        message = f"BIDS tree of {place.study}: version {version.n}\n"
        commits = commit(
            folder,
            {
                "master": Commit(message, sorted(files.items()), sorted(links), version.gone),
                "git-annex": Commit(message, sorted(logs.items())),
            },
            version.timestamp,
            parents,
        )
        if version.commits not in ({}, commits):
            raise OtherTree(place.versions_json, place.refs.name)
        done.append(replace(version, commits=commits))
    return done


def _check_pair(place: TreePath, versions: list[_Version]) -> None:
    """See that what is there is of some version on record. Raises OtherTree."""
    refs = {refs_text(version.commits) for version in versions}
    exports = {packed_refs(version.commits) for version in versions}
    if (place.refs.exists() and place.refs.read_text(errors="replace") not in refs) or (
        place.repo_export.exists() and exported_refs(place.repo_export) not in exports
    ):
        raise OtherTree(place.versions_json, place.refs.name)


def _is_pair_of(place: TreePath, version: _Version) -> bool:
    try:
        shown = place.refs.read_text(errors="replace")
    except FileNotFoundError:
        return False
    return shown == refs_text(version.commits) and (
        exported_refs(place.repo_export) == packed_refs(version.commits)
    )
