"""What came into a clone, told to git-annex all at once.

in: keys, and what is known of where they are    out: the branch git-annex says that they are here

git-annex takes over a branch whose name ends in `/git-annex` when it runs next:
so its documentation has others change its own ("internals"). One commit for all
keys takes a quarter of the time of `git annex setpresentkey --batch`.
"""

from collections.abc import Iterator, Mapping

from icf_tools.client.files import Clone, CommandFailed, log_lines, run_git
from icf_tools.client.programs import run, telling
from icf_tools.dataset.branch import log_paths
from icf_tools.dataset.repository import Commit, commit
from icf_tools.model.key import AnnexKey

_BRANCH = "icf-get-log/git-annex"
_MERGES = "annex.merge-annex-branches=true"


def note(clone: Clone, places: Mapping[AnnexKey, str], when: float) -> None:
    """Have git-annex know that keys are here; `places` are their logs, `when` is in seconds.

    One time for all: their logs are the same blob then. Raises CommandFailed.
    """
    _forget(clone)
    if not places:
        return
    tip = run_git(clone.top, "rev-parse", "refs/heads/git-annex").decode().strip()
    logs = Commit("icf get", _logs(clone.uuid, places, when))
    commit(clone.git_dir, {_BRANCH: logs}, int(when), {_BRANCH: tip})
    key = str(next(iter(places)))
    try:
        command = ["git", "-c", _MERGES, "annex", "readpresentkey", key, clone.uuid]
        code, said = run(command, clone.top)
        if code:
            raise CommandFailed("git annex readpresentkey", telling(said))
    finally:
        _forget(clone)


def _logs(here: str, places: Mapping[AnnexKey, str], when: float) -> Iterator[tuple[str, str]]:
    for key, log in places.items():
        newest = when
        lines = []
        for moment, rest in log_lines(log):
            if rest.endswith(f" {here}"):
                newest = max(newest, moment + 1)  # whatever the clock says
            else:
                lines.append(f"{moment:f}s {rest}\n")
        yield log_paths(key)[0], "".join([*lines, f"{newest:.6f}s 1 {here}\n"])


def _forget(clone: Clone) -> None:
    run_git(clone.top, "update-ref", "-d", f"refs/heads/{_BRANCH}")
