"""git-annex keys, and the paths that git-annex derives from them.

Formats: git-annex documentation, "internals" and "internals/hashing", and the
extension rule of backends that end in E ("backends").
"""

import re
from dataclasses import dataclass
from hashlib import md5

_MAX_EXTENSION_BYTES = 4  # annex.maxextensionlength
_MAX_EXTENSIONS = 2  # annex.maxextensions
_MIXED = "0123456789zqjxkmvwgpfZQJXKMVWGPF"


@dataclass(frozen=True, slots=True)
class AnnexKey:
    """A key with its size in bytes; `AnnexKey.parse(str(key)) == key`."""

    backend: str
    size: int | None
    name: str
    more: str = ""  #: the time or the chunk that a key of another backend than ours may tell

    def __str__(self) -> str:
        size = "" if self.size is None else f"-s{self.size}"  # an empty file has size 0
        return f"{self.backend}{size}{self.more}--{self.name}"

    @classmethod
    def parse(cls, text: str) -> "AnnexKey":
        match = re.fullmatch(
            r"([A-Z0-9_]+)(?:-s([0-9]+))?((?:-[mSC][0-9]+)*)--(.+)", text, re.DOTALL
        )
        if match is None:
            raise ValueError(f"not a git-annex key: {text!r}")
        backend, size, more, name = match.groups()
        return cls(backend, None if size is None else int(size), name, more)

    @classmethod
    def of_target(cls, target: str) -> "AnnexKey":
        """The key that an annexed file's link leads to. Raises ValueError where there is none."""
        name = target.rpartition("/")[2]
        for escape, char in (("%", "/"), ("&c", ":"), ("&s", "%"), ("&a", "&")):
            name = name.replace(escape, char)
        return cls.parse(name)

    @classmethod
    def md5e(cls, path: str, size: int, md5_hex: str) -> "AnnexKey":
        """The key that `git annex add` makes of a file with the backend MD5E."""
        return cls("MD5E", size, md5_hex + extension(path))


def extension(path: str) -> str:
    """What a key of an E backend keeps of a file's name, dots included."""
    basename = path.rpartition("/")[2].lstrip(".")
    kept: list[str] = []
    for part in reversed(basename.split(".")[1:]):
        if len(part.encode(errors="surrogateescape")) > _MAX_EXTENSION_BYTES:
            break
        if all(char.isalnum() or char > "\x7f" for char in part):
            kept.append(part)
    parts = [part for part in kept[:_MAX_EXTENSIONS] if part]
    return "".join(f".{part}" for part in reversed(parts))


def key_file(key: AnnexKey) -> str:
    """The key as a file name."""
    text = str(key)
    for char, escape in (("&", "&a"), ("%", "&s"), (":", "&c"), ("/", "%")):
        text = text.replace(char, escape)
    return text


def branch_directory(key: AnnexKey) -> str:
    """hashdirlower: where the branch git-annex keeps the key's logs."""
    digest = md5(str(key).encode(errors="surrogateescape"), usedforsecurity=False).hexdigest()
    return f"{digest[:3]}/{digest[3:6]}"


def object_directory(key: AnnexKey) -> str:
    """hashdirmixed: where a non-bare repository keeps the key's content."""
    digest = md5(str(key).encode(errors="surrogateescape"), usedforsecurity=False).digest()
    word = int.from_bytes(digest[:4], "little")
    a, b, c, d = (_MIXED[(word >> 6 * place) & 31] for place in range(4))
    return f"{b}{a}/{d}{c}"


def symlink_target(path: str, key: AnnexKey) -> str:
    """What the annexed file at `path` in the work tree links to."""
    name = key_file(key)
    return f"{'../' * path.count('/')}.git/annex/objects/{object_directory(key)}/{name}/{name}"
