"""Deposit a visit's dataset, and add a version to it.

in: the two metadata files, store URL; for a later version what it adds
out: <visit>_versions.json, <visit>_XDLRA--repo-export, <visit>_XDLRA--refs, in this order

The pair is what datalad-next's `datalad-annex::` git remote reads: a list of
refs, and a ZIP of a bare repository. It is written directly; docs/formats.md
specifies it.
"""

import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from icf_tools.dataset import branch
from icf_tools.dataset.export import exported_refs, unpack, write_export
from icf_tools.dataset.repository import (
    BRANCHES,
    Commit,
    GitFailed,
    commit,
    commit_time,
    contents,
    create,
    packed_refs,
    refs_text,
)
from icf_tools.dataset.versions import (
    BadVersions,
    Change,
    Version,
    read_versions,
    tree,
    versions_text,
)
from icf_tools.errors import Conflict, UsageError
from icf_tools.index.records import NoMetadata, read_images, read_tarball
from icf_tools.model.key import AnnexKey, symlink_target
from icf_tools.model.url import checked_url
from icf_tools.model.visit import StorePath
from icf_tools.store.deposit import recorded_md5
from icf_tools.store.files import locked, new_file


class NoUrl(UsageError):
    message = (
        "no store URL is known for visit {}; pass --store-url, set ICF_STORE_URL, "
        "or write store_url into site.yaml"
    )


class OtherDeposit(Conflict):
    message = "visit {} is deposited with {}; {}"


@dataclass(frozen=True, slots=True)
class Deposited:
    """A visit's dataset in the store."""

    visit: str
    version: int
    commits: dict[str, str]  #: id by branch
    clone_url: str
    made: bool  #: False where it was there before


@dataclass(frozen=True, slots=True)
class Urls:
    """Where a visit's files are found."""

    store: str  #: of the tarballs
    deposit: str  #: of everything else

    @classmethod
    def of(cls, store: StorePath, store_url: str | None, deposit_url: str | None) -> "Urls":
        """Those given, else those on record; the deposit URL is the store URL by default.

        Raises NoUrl, BadUrl and BadVersions.
        """
        versions = read_versions(store.versions_json)
        if store_url is None and versions:
            store_url = versions[0].store_url
        if store_url is None:
            raise NoUrl(store.visit)
        if deposit_url is None and versions:
            deposit_url = versions[0].deposit_url
        return cls(checked_url(store_url), checked_url(deposit_url or store_url))


def dataset(store: StorePath, store_url: str | None, deposit_url: str | None = None) -> Deposited:
    """Write the deposit with all versions on record, or find that it is there.

    `store_url` is where the tarballs are, `deposit_url` where this folder is
    served. Raises NoUrl, BadUrl, OtherDeposit, PathClash, NoMetadata,
    BadMetadata, VisitLocked.
    """
    urls = Urls.of(store, store_url, deposit_url)
    if not any(path.exists() for path in (store.tarball_json, store.versions_json, store.refs)):
        raise NoMetadata(store.visit, store.study)
    with locked(store):
        versions = read_versions(store.versions_json)
        complete = store.refs.exists() and store.repo_export.exists()
        if complete and not versions:
            raise _other(store, "other tools, which keep no record of versions")
        if versions:
            _check_same_urls(store, versions[0], urls)
        made = not complete or not _is_pair_of(store, versions)
        if complete:
            _check_tarball(store, versions[-1])
        if made:
            versions = _complete(store, versions, urls)
        return _deposited(store, versions, made=made)


def adopt(store: StorePath, store_url: str | None, deposit_url: str | None = None) -> None:
    """Record the deposit of other tools as the first version, so that others can follow.

    Nothing is done where a version is recorded, or no pair is there. The tarball
    has to be there. Raises NoUrl, BadUrl, OtherDeposit, VisitLocked.
    """
    urls = Urls.of(store, store_url, deposit_url)
    with locked(store):
        if store.versions_json.exists() or not (store.refs.exists() and store.repo_export.exists()):
            return
        pattern = "".join(rf"(\w+) refs/heads/{name}\n" for name in BRANCHES)
        match = re.match(pattern, store.refs.read_text(errors="replace"))
        commits = dict(zip(BRANCHES, match.groups(), strict=True)) if match else {}
        md5 = recorded_md5(store)
        if md5 is None or not match or not _is_pair_at(store, commits):
            raise _other(store, "other tools, of a form that is not known")
        with tempfile.TemporaryDirectory(prefix="icf-dataset-") as name:
            folder = Path(name)
            unpack(store.repo_export, folder)
            when = max(commit_time(folder, tip) for tip in commits.values())
            path = store.visit.dataset_path
            target = contents(folder, commits["master"], [path]).get(path) or ""
            key = re.search(rf"/MD5E?-s([0-9]+)--{md5}(\.tar)?$", target)
            if key is None:
                raise _other(store, "other tools, of another tarball")
            _uncurl(contents(folder, commits["git-annex"], ["uuid.log"]))
        first = Version(1, when, urls.store, urls.deposit, int(key[1]), md5, commits)
        with new_file(store.versions_json) as out:
            out.write(versions_text((first,)))


def dataset_id(store: StorePath) -> UUID:
    """What DataLad knows the dataset by, as it is in the last version of the pair."""
    last = read_versions(store.versions_json)[-1]
    with tempfile.TemporaryDirectory(prefix="icf-dataset-") as name:
        unpack(store.repo_export, Path(name))
        text = contents(Path(name), last.commits["master"], [".datalad/config"])
    match = re.search(r"^\s*id = ([0-9a-f-]{36})$", text.get(".datalad/config") or "", re.MULTILINE)
    if match is None:
        raise _other(store, "a dataset that has no id")
    return UUID(match[1])


def extend(store: StorePath, change: Change) -> Deposited:
    """Add a version to a deposit that is complete. The caller holds the visit's lock.

    Raises OtherDeposit, PathClash.
    """
    versions = read_versions(store.versions_json)
    last = versions[-1]
    with tempfile.TemporaryDirectory(prefix="icf-dataset-") as name:
        folder = Path(name)
        unpack(store.repo_export, folder)
        _check_paths(folder, last.commits["master"], set(change.added) - tree(versions).keys())
        new = replace(last, n=last.n + 1, timestamp=versions[0].timestamp + last.n, change=change)
        new = replace(new, commits=_grow(store, folder, versions, new))
        versions = (*versions, new)
        with new_file(store.versions_json, replace=True) as out:
            out.write(versions_text(versions))
        _write_pair(store, folder, new)
    return _deposited(store, versions, made=True)


def _deposited(store: StorePath, versions: tuple[Version, ...], *, made: bool) -> Deposited:
    return Deposited(
        visit=store.visit.visit,
        version=len(versions),
        commits=versions[-1].commits,
        clone_url=store.visit.clone_url(versions[-1].deposit_url),
        made=made,
    )


def _complete(store: StorePath, versions: tuple[Version, ...], urls: Urls) -> tuple[Version, ...]:
    """Record the first version if none is, and bring the pair to the last one."""
    with tempfile.TemporaryDirectory(prefix="icf-dataset-") as name:
        folder = Path(name)
        stands = _stands(store, versions)
        if stands:
            unpack(store.repo_export, folder)
        else:
            first = _first(store, folder, urls)
            if not versions:
                if store.repo_export.exists() and exported_refs(store.repo_export) != packed_refs(
                    first.commits
                ):
                    raise _other_export(store)
                versions = (first,)
                with new_file(store.versions_json) as out:
                    out.write(versions_text(versions))
            elif versions[0] != first:
                raise _other_record(store)
        for n in range(max(stands, 1), len(versions)):
            if _grow(store, folder, versions[:n], versions[n]) != versions[n].commits:
                raise _other_record(store)
        _write_pair(store, folder, versions[-1])
    return versions


def _stands(store: StorePath, versions: tuple[Version, ...]) -> int:
    """The number of the version that the exported repository has; 0 where there is none."""
    if not versions or not store.repo_export.exists():
        return 0
    exported = exported_refs(store.repo_export)
    for version in versions:
        if exported == packed_refs(version.commits):
            return version.n
    raise _other_export(store)


def _write_pair(store: StorePath, folder: Path, version: Version) -> None:
    if exported_refs(store.repo_export) != packed_refs(version.commits):
        with new_file(store.repo_export, replace=True) as out:
            write_export(out, folder, version.commits)
    with new_file(store.refs, replace=True) as out:
        out.write(refs_text(version.commits).encode())


def _first(store: StorePath, folder: Path, urls: Urls) -> Version:
    facts = read_tarball(store)
    ids = branch.Identity.of(store.visit, facts.md5)
    when = facts.timestamp
    contents = branch.entries(facts, [*facts.files, *read_images(store, facts)])
    contents.sort(key=lambda entry: entry.path)
    create(folder)
    commits = commit(
        folder,
        {
            "master": Commit(
                f"Visit {store.visit}: {len(contents)} files\n",
                branch.master_files(ids),
                branch.master_links(facts, contents),
            ),
            "git-annex": Commit(
                "Register the files of the visit\n",
                branch.annex(ids, facts, contents, urls.store, when),
            ),
        },
        when,
        {},
    )
    return Version(
        n=1,
        timestamp=when,
        store_url=urls.store,
        deposit_url=urls.deposit,
        size=facts.size,
        md5=facts.md5,
        commits=commits,
    )


def _grow(
    store: StorePath, folder: Path, before: tuple[Version, ...], version: Version
) -> dict[str, str]:
    """Add the commits of a version to a repository that has those before it."""
    parents = before[-1].commits
    added = {path: AnnexKey.parse(key) for path, key in sorted(version.change.added.items())}
    keys = sorted(set(added.values()), key=str)
    logs = [path for key in keys for path in branch.log_paths(key)]
    known = contents(folder, parents["git-annex"], ["uuid.log", *logs])
    folder_url = f"{version.deposit_url}/{store.visit.annex_path}"
    return commit(
        folder,
        {
            "master": Commit(
                version.change.message,
                (),
                [(path, symlink_target(path, key)) for path, key in added.items()],
                version.change.gone,
            ),
            "git-annex": Commit(
                "Register what was made of the visit\n",
                branch.derived(known, _uncurl(known), keys, folder_url, version.timestamp),
            ),
        },
        version.timestamp,
        parents,
    )


def _uncurl(known: dict[str, str | None]) -> UUID:
    for line in (known.get("uuid.log") or "").splitlines():
        uuid, _, rest = line.partition(" ")
        if rest.rpartition(" timestamp=")[0] == branch.UNCURL:
            return UUID(uuid)
    raise GitFailed("the dataset has no remote uncurl")


def _check_paths(folder: Path, tip: str, new: set[str]) -> None:
    """See that nothing of the tarball is where something new is to be. Raises PathClash."""
    folders = {
        "/".join(path.split("/")[:end]) for path in new for end in range(1, path.count("/") + 1)
    }
    there = contents(folder, tip, sorted(new | folders))
    for path, content in there.items():
        if path in new or content is not None:
            raise branch.PathClash(path, "a file of the tarball", "what is made of it")


def _is_pair_at(store: StorePath, commits: dict[str, str]) -> bool:
    return (store.refs.read_text(errors="replace"), exported_refs(store.repo_export)) == (
        refs_text(commits),
        packed_refs(commits),
    )


def _is_pair_of(store: StorePath, versions: tuple[Version, ...]) -> bool:
    """Whether the pair is of the last version; it may be of an earlier one, and of no other."""
    shown = store.refs.read_text(errors="replace")
    exported = exported_refs(store.repo_export)
    texts = [(refs_text(each.commits), packed_refs(each.commits)) for each in versions]
    if shown not in dict(texts) or exported not in dict(texts).values():
        raise _other(store, "a pair that is not of its record")
    return (shown, exported) == texts[-1]


def _check_tarball(store: StorePath, last: Version) -> None:
    """See that the tarball that the store knows is that of the record."""
    if store.tarball_json.exists():
        read_tarball(store)  # refuses that of another visit
    sizes = {last.size, store.tarball.stat().st_size if store.tarball.exists() else last.size}
    if recorded_md5(store) != last.md5 or len(sizes) > 1:
        raise _other(store, "a tarball that is not of its record")


def _check_same_urls(store: StorePath, first: Version, urls: Urls) -> None:
    for kind, there, asked in (
        ("store URL", first.store_url, urls.store),
        ("deposit URL", first.deposit_url, urls.deposit),
    ):
        if there != asked:
            raise _other(store, f"the {kind} {there}, not {asked}")


def _other(store: StorePath, said: str) -> OtherDeposit:
    names = (store.versions_json.name, store.repo_export.name, store.refs.name)
    files = f"{names[0]}, {names[1]} and {names[2]}"
    try:
        count = len(read_versions(store.versions_json))
    except BadVersions:
        count = 0
    if count > 1:  # they would be lost
        return OtherDeposit(
            store.visit, said, f"it has {count} versions, so take what is wrong from a copy"
        )
    return OtherDeposit(store.visit, said, f"to make another one, move {files} away")


def _other_export(store: StorePath) -> OtherDeposit:
    return _other(store, f"another {store.repo_export.name}")


def _other_record(store: StorePath) -> OtherDeposit:
    return _other(store, f"a record in {store.versions_json.name} that its metadata does not give")
