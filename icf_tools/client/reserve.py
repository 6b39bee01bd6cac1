"""Room that a clone leaves on its disk.

in: git's setting annex.diskreserve    out: bytes

Format: git-annex documentation, "annex.diskreserve": a number and a unit, as in "0.5 gb",
"10 GiB" or "100 megabytes"; what is none counts as not given there, too.
"""

import re

_DEFAULT = 100 * 1000**2  # bytes, as git-annex has it
_SIZE = re.compile(
    r"\s*([0-9]++(?:\.[0-9]++)?+)\s*+"
    r"([kmgtp]?)(?:(i|[ie]bi)|ilo|ega|iga|era|eta)?(?:b|bytes?)?(?![a-z]).*",
    re.IGNORECASE | re.DOTALL,
)


def reserve(setting: str | None) -> int:
    """Bytes that stay free."""
    match = _SIZE.fullmatch(setting or "")
    if match is None:
        return _DEFAULT
    number, prefix, binary = match.groups()
    base = 1024.0 if binary else 1000.0
    return round(float(number) * base ** " kmgtp".index(prefix.lower() or " "))
