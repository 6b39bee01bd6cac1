"""Who a visit is, and where each of its files lies.

Every file name of the store is spelled here and nowhere else.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from icf_tools.errors import UsageError

# No slash, no leading dot, no blank: safe as a file name, in a URL and in a
# shell. 100 characters leave room for the suffixes below (255 bytes a name).
_NAME = r"[A-Za-z0-9][A-Za-z0-9._+=@,-]{0,99}"


LATEST = 0o77777777777
"""The latest time that is kept, in seconds since 1970: what ustar holds, and git takes."""


class BadIdentifier(UsageError):
    message = (
        "the {} identifier {!r} is not a safe file name; use 1 to 100 of the characters "
        "A-Z a-z 0-9 . _ + = @ , - and begin with a letter or a digit"
    )


@dataclass(frozen=True, slots=True, order=True)
class Visit:
    """The time between entering and leaving a scanner."""

    study: str  #: unique in the store
    visit: str  #: unique in its study

    def __post_init__(self) -> None:
        for kind, name in (("study", self.study), ("visit", self.visit)):
            if not self.is_name(name):
                raise BadIdentifier(kind, name)

    @staticmethod
    def is_name(text: str) -> bool:
        """Whether the text may be an identifier."""
        return re.fullmatch(_NAME, text) is not None

    @classmethod
    def parse(cls, text: str) -> "Visit":
        """The inverse of `str`."""
        study, _, visit = text.partition("/")
        return cls(study, visit)

    def __str__(self) -> str:
        return f"{self.study}/{self.visit}"

    @property
    def prefix(self) -> str:
        """First component of every member path of the tarball."""
        return f"{self.study}_{self.visit}"

    @property
    def dataset_path(self) -> str:
        """Where the tarball lies inside the visit's dataset."""
        return f"icf/{self.visit}_dicom.tar"

    @property
    def settings_path(self) -> str:
        """Where what the study settled lies inside it, as far as files are made by it."""
        return "icf/derive.json"

    @property
    def store_path(self) -> str:
        """Where the tarball lies below the store URL."""
        return f"{self.study}/{self.visit}_dicom.tar"

    @property
    def annex_path(self) -> str:
        """Where the content of derivatives lies below the deposit URL."""
        return f"{self.study}/{self.visit}_annex"

    def clone_url(self, deposit_url: str) -> str:
        """What `datalad clone` wants; quote it for a shell."""
        return _clone_url(f"{deposit_url}/{self.study}/{self.visit}_")


@dataclass(frozen=True, slots=True)
class StorePath:
    """The files of one visit in a store."""

    root: Path
    visit: Visit

    @property
    def study(self) -> Path:
        return self.root / self.visit.study

    def _file(self, suffix: str) -> Path:
        return self.study / f"{self.visit.visit}_{suffix}"

    @property
    def tarball(self) -> Path:
        return self._file("dicom.tar")

    @property
    def md5sum(self) -> Path:
        return self._file("dicom.tar.md5sum")

    @property
    def tarball_json(self) -> Path:
        return self._file("metadata_tarball.json")

    @property
    def dicoms_json(self) -> Path:
        return self._file("metadata_dicoms.json")

    @property
    def versions_json(self) -> Path:
        return self._file("versions.json")

    @property
    def series_json(self) -> Path:
        return self._file("metadata_series.json")

    @property
    def annex(self) -> Path:
        """The folder with the content of derivatives, by key."""
        return self._file("annex")

    @property
    def work(self) -> str:
        """What the names of temporary folders begin with; no identifier has the `%`."""
        return f".{self.visit.visit}%derive-"

    @property
    def refs(self) -> Path:
        return self._file("XDLRA--refs")

    @property
    def repo_export(self) -> Path:
        return self._file("XDLRA--repo-export")

    @property
    def files(self) -> tuple[Path, ...]:
        """In the order of the flow: each may point only to what stands before it."""
        return (
            self.tarball,
            self.md5sum,
            self.dicoms_json,
            self.tarball_json,
            self.series_json,
            self.versions_json,
            self.repo_export,
            self.refs,
        )

    @property
    def lock(self) -> Path:
        return self.study / f".{self.visit.visit}.lock"


@dataclass(frozen=True, slots=True)
class TreePath:
    """The files of a dataset of a whole study: its BIDS tree."""

    root: Path
    study: str

    @property
    def folder(self) -> Path:
        return self.root / self.study / "bids"

    @property
    def versions_json(self) -> Path:
        return self.folder / "versions.json"

    @property
    def refs(self) -> Path:
        return self.folder / "XDLRA--refs"

    @property
    def repo_export(self) -> Path:
        return self.folder / "XDLRA--repo-export"

    def clone_url(self, deposit_url: str) -> str:
        """What `datalad clone` wants; quote it for a shell."""
        return _clone_url(f"{deposit_url}/{self.study}/bids/")


@dataclass(frozen=True, slots=True)
class CatalogPath:
    """The pages of a study, or of a whole store where no study is named."""

    root: Path
    study: str | None

    @property
    def folder(self) -> Path:
        return (self.root if self.study is None else self.root / self.study) / "catalog"

    @property
    def lock(self) -> Path:
        """No visit has one of this name: no identifier has the `%`."""
        return self.folder.parent / ".%catalog.lock"

    @property
    def static(self) -> Path:
        """What all pages share."""
        return self.folder / "static"

    @property
    def search(self) -> Path:
        return self.folder / "search"

    @property
    def metadata(self) -> Path:
        """The nodes of datalad-catalog."""
        return self.folder / "metadata"

    def view(self, visit: str) -> Path:
        """The page of a visit."""
        return self.folder / "view" / f"{visit}.html"


def _clone_url(prefix: str) -> str:
    return (
        "datalad-annex::?type=external&externaltype=uncurl&encryption=none"
        # datalad-next takes one level of quoting off
        f"&url={quote(prefix, safe=':/@+=,')}{{{{annex_key}}}}"
    )


SITE_SETTINGS = "site.yaml"
STUDY_SETTINGS = "study.yaml"
