"""The special remote icf in clones that were made where its program was not.

in: a clone    out: whether it is enabled now

git-annex since 2026 wants to know that a remote enabled by hand is safe. It is
where its configuration is what every deposit has: this program, which only
reads what the dataset says, and no place of its own.
"""

import re
from pathlib import Path

from icf_tools.client.files import Clone, CommandFailed, run_git
from icf_tools.client.programs import run, telling
from icf_tools.dataset.branch import ICF, remote_settings

_SAFE = re.compile(r"verifyremote \S+ --safe (\S+)")


def enable_remote(clone: Path) -> bool:
    """Enable it where the dataset has it and the clone does not; tell whether that was so.

    Raises NoClone, and CommandFailed with the words of git-annex.
    """
    at = Clone.at(clone)
    is_there = f"remote.{ICF}.annex-uuid" in at.settings
    if (is_there and at.settings.get(f"remote.{ICF}.annex-verified") != "manual") or not _is_ours(
        at
    ):
        return False
    said = _git_annex(at, "verifyremote" if is_there else "enableremote")
    if wanted := _SAFE.search(said):
        _git_annex(at, "verifyremote", "--safe", wanted[1])
    return True


def _git_annex(clone: Clone, command: str, *options: str) -> str:
    code, said = run(["git", "annex", command, ICF, *options], clone.top)
    if code:
        raise CommandFailed(f"git annex {command} {ICF}", telling(said))
    return said


def _is_ours(clone: Clone) -> bool:
    """Whether the dataset has it, with the settings of every deposit and no others."""
    try:
        log = run_git(clone.top, "show", "refs/heads/git-annex:remote.log")
    except CommandFailed:  # it has none
        return False
    lines = (set(line.split(" ")[1:]) for line in log.decode(errors="replace").splitlines())
    return any(
        {word for word in words if not word.startswith("timestamp=")} == remote_settings(ICF)
        for words in lines
    )
