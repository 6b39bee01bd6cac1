"""Deposit a visit's dataset.

in: the two metadata files, store URL
out: <visit>_versions.json, <visit>_XDLRA--repo-export, <visit>_XDLRA--refs, in this order

The pair is what datalad-next's `datalad-annex::` git remote reads: a list of
refs, and a ZIP of a bare repository. It is written directly; docs/formats.md
specifies it.
"""

import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from icf_tools.dataset import branch
from icf_tools.dataset.repository import Commit, export_files, packed_refs, refs_text, write
from icf_tools.dataset.versions import Version, read_versions, versions_text
from icf_tools.errors import Conflict, UsageError
from icf_tools.index.records import NoMetadata, read_images, read_tarball
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
    message = "visit {} is deposited with {}; to make another one, move {}, {} and {} away"


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
        versions = read_versions(store)
        if store_url is None and versions:
            store_url = versions[0].store_url
        if store_url is None:
            raise NoUrl(store.visit)
        if deposit_url is None and versions:
            deposit_url = versions[0].deposit_url
        return cls(checked_url(store_url), checked_url(deposit_url or store_url))


def dataset(store: StorePath, store_url: str | None, deposit_url: str | None = None) -> Deposited:
    """Write the deposit, or find that it is there.

    `store_url` is where the tarballs are, `deposit_url` where this folder is
    served. Raises NoUrl, BadUrl, OtherDeposit, PathClash, NoMetadata,
    BadMetadata, VisitLocked.
    """
    urls = Urls.of(store, store_url, deposit_url)
    if not any(path.exists() for path in (store.tarball_json, store.versions_json, store.refs)):
        raise NoMetadata(store.visit, store.study)
    with locked(store):
        versions = read_versions(store)
        complete = store.refs.exists() and store.repo_export.exists()
        if complete and not versions:
            raise OtherDeposit(
                store.visit, "other tools, which keep no record of versions", *_pair(store)
            )
        if versions:
            _check_same_urls(store, versions[0], urls)
        if complete:
            _check_pair(store, versions[-1])
        else:
            versions = (_deposit(store, versions, urls),)
    return Deposited(
        visit=store.visit.visit,
        version=len(versions),
        commits=versions[-1].commits,
        clone_url=store.visit.clone_url(urls.deposit),
        made=not complete,
    )


def _pair(store: StorePath) -> tuple[str, str, str]:
    return store.versions_json.name, store.repo_export.name, store.refs.name


def _deposit(store: StorePath, recorded: tuple[Version, ...], urls: Urls) -> Version:
    facts = read_tarball(store)
    ids = branch.Identity.of(store.visit, facts.md5)
    when = facts.timestamp
    contents = branch.entries(facts, [*facts.files, *read_images(store, facts)])
    contents.sort(key=lambda entry: entry.path)
    with tempfile.TemporaryDirectory(prefix="icf-dataset-") as name:
        folder = Path(name)
        commits = write(
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
        )
        version = Version(
            n=1,
            timestamp=when,
            store_url=urls.store,
            deposit_url=urls.deposit,
            size=facts.size,
            md5=facts.md5,
            commits=commits,
        )
        if not recorded:
            with new_file(store.versions_json) as out:
                out.write(versions_text((version,)))
        elif recorded != (version,):
            said = f"a record in {store.versions_json.name} that its metadata does not give"
            raise OtherDeposit(store.visit, said, *_pair(store))
        if not store.repo_export.exists():
            with new_file(store.repo_export) as out:
                _write_export(out, folder, commits)
        elif _exported_refs(store.repo_export) != packed_refs(commits):
            raise OtherDeposit(store.visit, f"another {store.repo_export.name}", *_pair(store))
    with new_file(store.refs) as out:
        out.write(refs_text(commits).encode())
    return version


def _check_pair(store: StorePath, last: Version) -> None:
    """See that it is what the record says, and so is the tarball that the store knows."""
    pair = store.refs.read_text(errors="replace"), _exported_refs(store.repo_export)
    if pair != (refs_text(last.commits), packed_refs(last.commits)):
        raise OtherDeposit(store.visit, "a pair that is not of its record", *_pair(store))
    if store.tarball_json.exists():
        read_tarball(store)  # refuses that of another visit
    sizes = {last.size, store.tarball.stat().st_size if store.tarball.exists() else last.size}
    if recorded_md5(store) != last.md5 or len(sizes) > 1:
        raise OtherDeposit(store.visit, "a tarball that is not of its record", *_pair(store))


def _check_same_urls(store: StorePath, first: Version, urls: Urls) -> None:
    for kind, there, asked in (
        ("store URL", first.store_url, urls.store),
        ("deposit URL", first.deposit_url, urls.deposit),
    ):
        if there != asked:
            raise OtherDeposit(store.visit, f"the {kind} {there}, not {asked}", *_pair(store))


def _write_export(out: BinaryIO, folder: Path, commits: dict[str, str]) -> None:
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in export_files(folder, commits):
            info = zipfile.ZipInfo(name)  # dated 1980-01-01
            info.create_system = 3
            info.compress_type = zipfile.ZIP_STORED if name.endswith("/") else zipfile.ZIP_DEFLATED
            info.external_attr = (0o40755 if name.endswith("/") else 0o100644) << 16
            with archive.open(info, "w") as member:
                if isinstance(content, Path):
                    with content.open("rb") as file:
                        while piece := file.read(1 << 20):
                            member.write(piece)
                else:
                    member.write(content)


def _exported_refs(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
            return archive.read("packed-refs").decode()
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError, NotImplementedError):
        return None
