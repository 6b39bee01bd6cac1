"""The files of a visit's dataset, as text.

in: TarballFacts, Records, URL, time    out: (path, content) for each branch

Pure: identity and time are arguments. Formats: git-annex documentation,
"internals", of the git-annex branch; DataLad's dataset layout.
"""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from uuid import UUID, uuid5

from icf_tools.errors import Conflict
from icf_tools.index.records import TarballFacts
from icf_tools.index.scan import Record
from icf_tools.model.dicom import ANNEX_METADATA, Scalar, Value
from icf_tools.model.key import AnnexKey, branch_directory, key_file, symlink_target
from icf_tools.model.names import checkout_name
from icf_tools.model.visit import Visit

_NAMESPACE = UUID("6f0b4ac4-9d0e-5d4b-8f55-3a0a3c5b6f11")  # of all dataset ids; never changes

UNCURL, ARCHIVIST, ICF = "uncurl", "archivist", "icf"
_ICF_COST = 150  # cheaper than archivist's 200, dearer than a local repository


class PathClash(Conflict):
    message = (
        "the dataset needs the path {} twice, for {} and for {}; "
        "pack the files anew with icf archive"
    )


@dataclass(frozen=True, slots=True)
class Identity:
    """The ids of a dataset and of the remotes it knows."""

    dataset: UUID

    @classmethod
    def of(cls, visit: Visit | str, md5: str) -> "Identity":
        """The same wherever a tarball, or tree, of this MD5 is deposited under this name."""
        return cls(uuid5(_NAMESPACE, f"{visit}/{md5}"))

    def remote(self, name: str) -> UUID:
        return uuid5(self.dataset, name)


@dataclass(frozen=True, slots=True)
class Entry:
    """A path of the work tree and the key it links to."""

    path: str
    key: AnnexKey
    record: Record


def tarball_key(facts: TarballFacts) -> AnnexKey:
    """The key of the tarball in its dataset."""
    return AnnexKey.md5e(facts.dataset_path, facts.size, facts.md5)


def entries(facts: TarballFacts, records: Iterable[Record]) -> list[Entry]:
    """One per member. Raises PathClash where two things want one path."""
    result = []
    taken = dict.fromkeys(
        (".gitattributes", ".datalad/.gitattributes", ".datalad/config", facts.dataset_path),
        "the dataset itself",
    )
    if facts.dataset_path in list(taken)[:3]:
        raise PathClash(facts.dataset_path, "the dataset itself", "the tarball")
    for record in records:
        path = "/".join(map(checkout_name, record.path.split("/")))
        if path in taken:
            raise PathClash(path, taken[path], f"member {record.path}")
        taken[path] = f"member {record.path}"
        result.append(Entry(path, AnnexKey.md5e(path, record.size, record.md5), record))
    for path in taken:
        folder = path
        while "/" in folder:
            folder = folder.rpartition("/")[0]
            if folder in taken:
                raise PathClash(folder, taken[folder], "a folder")
    return result


def master_files(ids: Identity) -> Iterator[tuple[str, str]]:
    """Regular files of the branch master."""
    yield ".gitattributes", "* annex.backend=MD5E\n**/.git* annex.largefiles=nothing\n"
    yield ".datalad/.gitattributes", "config annex.largefiles=nothing\n"
    yield ".datalad/config", f'[datalad "dataset"]\n\tid = {ids.dataset}\n'


def master_links(facts: TarballFacts, contents: Iterable[Entry]) -> Iterator[tuple[str, str]]:
    """Symbolic links of the branch master."""
    yield facts.dataset_path, symlink_target(facts.dataset_path, tarball_key(facts))
    for entry in contents:
        yield entry.path, symlink_target(entry.path, entry.key)


def annex(
    ids: Identity, facts: TarballFacts, contents: Iterable[Entry], store_url: str, when: int
) -> Iterator[tuple[str, str]]:
    """Files of the branch git-annex. `when` is in seconds since 1970."""
    yield from remotes(ids, (UNCURL, ARCHIVIST, ICF), when)
    # two remotes that read one tarball must not count as two copies
    yield "trust.log", f"{ids.remote(ICF)} 0 timestamp={when}s\n"

    key = tarball_key(facts)
    places, urls = log_paths(key)
    yield places, f"{when}s 1 {ids.remote(UNCURL)}\n"
    yield urls, f"{when}s 1 :{store_url}/{facts.store_path}\n"

    present = _lines(f"{when}s 1 {ids.remote(name)}" for name in (ARCHIVIST, ICF))
    present_without_offset = f"{when}s 1 {ids.remote(ARCHIVIST)}\n"
    for same_key in _by_key(contents):
        places, urls = log_paths(same_key[0].key)
        known = all(entry.record.offset is not None for entry in same_key)
        yield places, present if known else present_without_offset
        members = (f"{when}s 1 :{member_url(key, entry.record)}" for entry in same_key)
        yield urls, _lines(members)
        fields = _fields(same_key)
        if fields:
            yield f"{places}.met", f"{when}s {metadata_values(fields)}\n"


def remotes(ids: Identity, names: Iterable[str], when: int) -> Iterator[tuple[str, str]]:
    """Files of the branch git-annex that tell of special remotes."""
    known = list(names)
    yield "uuid.log", _lines(f"{ids.remote(name)} {name} timestamp={when}s" for name in known)
    yield "remote.log", _lines(_remote(ids, name, when) for name in known)


def remote_settings(name: str) -> set[str]:
    """What every deposit says of a special remote."""
    settings = {"autoenable=true", "encryption=none", "type=external"}
    cost = {f"cost={_ICF_COST}"} if name == ICF else set()
    return settings | cost | {f"externaltype={name}", f"name={name}"}


def derived(
    before: Mapping[str, str | None],
    uncurl: UUID,
    keys: Iterable[AnnexKey],
    folder_url: str,
    when: int,
) -> Iterator[tuple[str, str]]:
    """Files of the branch git-annex for content that lies in a folder by its key.

    `before` is what the branch has of them; `uncurl` the remote that gets it.
    """
    for key in keys:
        for path, line in zip(
            log_paths(key),
            (f"{when}s 1 {uncurl}", f"{when}s 1 :{folder_url}/{key_file(key)}"),
            strict=True,
        ):
            known = (before.get(path) or "").splitlines()
            if line.partition(" ")[2] not in {each.partition(" ")[2] for each in known}:
                yield path, _lines([*known, line])


def log_paths(key: AnnexKey) -> tuple[str, str]:
    """Where the branch git-annex says where the content of a key is, and its URLs."""
    stem = f"{branch_directory(key)}/{key_file(key)}.log"
    return stem, f"{stem}.web"


def member_url(tarball: AnnexKey, record: Record) -> str:
    """What archivist gets the member by; the trailing fields serve the icf remote."""
    url = f"dl+archive:{tarball}#path={record.path}&size={record.size}"
    return url if record.offset is None else f"{url}&atype=tar&offset={record.offset}"


def metadata_values(fields: Mapping[str, Iterable[str]]) -> str:
    """Fields with the values they gain, as a metadata log has them."""
    return " ".join(
        " ".join([field, *(f"+{_escaped(value)}" for value in sorted(set(values)))])
        for field, values in sorted(fields.items())
    )


def _remote(ids: Identity, name: str, when: int) -> str:
    return " ".join([str(ids.remote(name)), *sorted(remote_settings(name)), f"timestamp={when}s"])


def _by_key(contents: Iterable[Entry]) -> Iterable[list[Entry]]:
    """Entries of the same content together, in the order of the first of each."""
    groups: dict[AnnexKey, list[Entry]] = {}
    for entry in contents:
        groups.setdefault(entry.key, []).append(entry)
    return groups.values()


def _fields(same_key: Iterable[Entry]) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    for entry in same_key:
        for keyword in ANNEX_METADATA:
            values = _texts((entry.record.tags or {}).get(keyword, ""))
            if values:
                fields.setdefault(keyword.lower(), []).extend(values)
    return fields


def _texts(value: Value) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text for each in values if (text := _text(each).strip())]


def _text(value: Scalar) -> str:
    """A number as people write it: 30, not 30.0."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _escaped(value: str) -> str:
    if re.search(r"[ \n\r]", value) or value.startswith("!"):
        return "!" + base64.b64encode(value.encode()).decode()
    return value


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in sorted(lines))
