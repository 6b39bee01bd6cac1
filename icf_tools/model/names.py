"""Member names that every tool downstream can handle.

in: the names in one folder, as bytes    out: a safe name for each
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable

ORIGINAL = "icf original_path: "
"""Begins the pax comment that keeps a replaced name; every tar reader ignores it."""

_LONGEST = 255  # bytes of a component in nearly every file system

# The archivist special remote cuts a URL at '#' and '&'; control characters and
# line separators break line-based logs; a backslash is a separator elsewhere.
_UNSAFE = re.compile(r"[#&\\]")
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})

# git refuses to check out .git and, as symbolic links, .gitmodules, in any case
# and under their short names of NTFS (verify_path in git's read-cache.c).
_GIT = re.compile(r"\.git|gi[a-z0-9]{1,4}~[0-9]", re.IGNORECASE)
# HFS+ ignores these within a name (is_hfs_dotgit in git's utf8.c).
_IGNORED_BY_HFS = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")


def can_be_fetched(path: str) -> bool:
    """Whether stock clients get a member of this path out of a tarball."""
    return all(_replace_characters(part) == part for part in path.split("/"))


def can_be_checked_out(component: str) -> bool:
    """Whether git puts a link of this name into a work tree."""
    return checkout_name(component) == component


def checkout_name(component: str) -> str:
    """The component, or what stands for it in a work tree."""
    visible = _IGNORED_BY_HFS.sub("", component)
    name = f"_{visible.removeprefix('.')}" if _GIT.match(visible) else component
    if len(_bytes(name)) <= _LONGEST:
        return name
    return _told_apart(name, _bytes(component), set())


def safe_names(originals: Iterable[bytes]) -> dict[bytes, str]:
    """A safe name for each entry of one folder; safe ones stay as they are.

    Where a replacement is taken by a sibling it is told apart by a digest of
    the original, so the result does not depend on the order.
    """
    wanted = {name: _safe(name) for name in sorted(set(originals))}
    unchanged = {safe for name, safe in wanted.items() if safe.encode() == name}
    result: dict[bytes, str] = {}
    taken = set(unchanged)
    for name, safe in wanted.items():
        if safe.encode() != name:
            if safe in taken:
                safe = _told_apart(safe, name, taken)
            taken.add(safe)
        result[name] = safe
    return result


def readable(original: bytes) -> str:
    """The original path as text; bytes that are not UTF-8 stand as \\xNN."""
    return original.decode("utf-8", "backslashreplace")


def _safe(name: bytes) -> str:
    return checkout_name(_replace_characters(name.decode("utf-8", "surrogateescape")))


def _replace_characters(name: str) -> str:
    if name.isascii() and name.isprintable():
        return _UNSAFE.sub("_", name)
    return "".join(
        "_" if unicodedata.category(char) in _UNSAFE_CATEGORIES else char
        for char in _UNSAFE.sub("_", name)
    )


def _told_apart(safe: str, original: bytes, taken: set[str]) -> str:
    stem, dot, extension = safe.partition(".")
    digest = hashlib.sha256(original).hexdigest()
    for length in range(8, len(digest)):
        mark = f"-{digest[:length]}"
        name = f"{stem}{mark}{dot}{extension}"
        if len(_bytes(name)) > _LONGEST:
            kept = _bytes(safe)[: _LONGEST - len(mark)]
            name = kept.decode("utf-8", "ignore") + mark
        if name not in taken:
            break
    return name


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
