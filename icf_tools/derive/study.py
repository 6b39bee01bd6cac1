"""The BIDS dataset of a study: the trees of its visits as one.

in: what came of each visit, study.yaml    out: the deposit <study>/bids/XDLRA--*

No content is copied: it stays where the visits have it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from icf_tools import __version__
from icf_tools.dataset.study import Tree, deposit_tree, folders_in
from icf_tools.dataset.versions import read_versions, tree
from icf_tools.dataset.write import Deposited
from icf_tools.derive.asked import BadSettled, NoRules, Settled
from icf_tools.derive.bids_tree import ROOT
from icf_tools.errors import Conflict, Damaged, NotFound
from icf_tools.model import bids_texts
from icf_tools.model.bids import Labels, Plan, check_labels
from icf_tools.model.key import AnnexKey, key_file
from icf_tools.model.visit import StorePath, TreePath, Visit
from icf_tools.settings import Settings
from icf_tools.store.deposit import NoStudy, visits_of
from icf_tools.store.files import locked

_MOST = 20  # names in a message


class NoTrees(NotFound):
    message = (
        "no visit of {} has a series with a name by its rules; see that they fit, and run "
        "icf derive {} VISIT --to bids"
    )


class OldSettings(Conflict):
    message = (
        "of the visits in the BIDS dataset {} ({} in all) have no tree by the present settings; "
        "run icf derive {} VISIT --to bids for each"
    )


class OddTree(Damaged):
    message = "visit {} has {} in its BIDS tree, which its label does not give; derive it again"


@dataclass(frozen=True, slots=True)
class DerivedStudy:
    """What came of a study."""

    subjects: tuple[str, ...]  #: their labels
    visits: tuple[Visit, ...]  #: that are in it
    missing: tuple[tuple[Visit, str], ...]  #: that are not, and why
    gone: tuple[str, ...]  #: visits that were in the version before
    dataset: Deposited


def derive_study(root: Path, study: str, settings: Settings) -> DerivedStudy:
    """Deposit the BIDS trees of the visits as one dataset, or find that it is there.

    Nothing leaves it but visits that are no more, or are to be left out. Raises NoStudy,
    NoRules, NoTrees, OldSettings, OddTree, SameLabels, OtherTree, BadVersions, VisitLocked.
    """
    if not (root / study).is_dir():
        raise NoStudy(study, root)
    plan = settings.bids
    if plan is None:
        raise NoRules
    found: dict[Visit, Labels] = {}
    missing = []
    old: dict[str, Visit] = {}
    links: dict[str, tuple[str, str]] = {}
    newest, deposit_url = 0, ""
    for visit in visits_of(root, study):
        if plan.leaves_out(visit.visit):
            continue
        store = StorePath(root, visit)
        versions = read_versions(store.versions_json)
        files = {path: key for path, key in tree(versions).items() if path.startswith(ROOT)}
        if not files:
            missing.append((visit, "it has no BIDS tree"))
            continue
        deposit_url = versions[-1].deposit_url
        url = f"{deposit_url}/{visit.annex_path}"
        if not _is_present(_settled(store, tree(versions)), settings):
            missing.append((visit, "its BIDS tree is not by the present settings"))
            old[url] = visit
        elif not any(_files(files, url)):
            missing.append((visit, "none of its series has a name"))
        else:
            newest = max(newest, versions[-1].timestamp)
            mine = dict(_files(files, url))
            found[visit] = _labels(plan, visit, mine)
            links |= mine
    place = TreePath(root, study)
    before = folders_in(place)
    if lost := sorted(old[url] for url in old.keys() & before):
        raise OldSettings(", ".join(visit.visit for visit in lost[:_MOST]), len(lost), study)
    if not found:
        raise NoTrees(study, study)
    check_labels({visit.visit: labels for visit, labels in found.items()})
    subjects = tuple(sorted({labels.subject for labels in found.values()}))
    with locked(StorePath(root, Visit(study, place.folder.name))):
        deposited = deposit_tree(
            place, Tree(_texts(plan, study, subjects), links), deposit_url, newest
        )
    gone = before - {url for _, url in links.values()}
    names = sorted(url.rpartition("/")[2].removesuffix("_annex") for url in gone)
    return DerivedStudy(subjects, tuple(found), tuple(missing), tuple(names), deposited)


def _settled(store: StorePath, there: dict[str, str]) -> Settled | None:
    """What the visit's files were made and placed by."""
    key = there.get(store.visit.settings_path)
    if key is None:
        return None
    try:
        return Settled.read(store.annex / key_file(AnnexKey.parse(key)))
    except (BadSettled, FileNotFoundError):
        return None


def _is_present(settled: Settled | None, settings: Settings) -> bool:
    """Whether it says what the settings say of files and their places."""
    if settled is None or settled.bids is None or settings.bids is None:
        return False
    told, wanted = settled.bids, settings.bids
    return (set(settled.deny), told.rules, told.visit) == (
        set(settings.deny),
        wanted.rules,
        wanted.visit,
    )


def _files(files: dict[str, str], url: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """What is of the subject, below the root of the study's tree."""
    for path, key in files.items():
        if path.startswith(f"{ROOT}sub-"):
            yield path.removeprefix(ROOT), (key, url)


def _labels(plan: Plan, visit: Visit, files: dict[str, tuple[str, str]]) -> Labels:
    """Those of the visit; the names of its series may have told the session."""
    sessions = {path.split("/")[1] for path in files} if files else set()
    session = next(iter(sessions), "")
    labels = plan.labels(visit.visit, session.removeprefix("ses-") if session[:4] == "ses-" else "")
    for path in files:
        if not path.startswith(f"{labels.folder}/"):
            raise OddTree(visit, path)
    return labels


def _texts(plan: Plan, study: str, subjects: tuple[str, ...]) -> dict[str, str]:
    texts = {
        "README": bids_texts.readme(plan, study),
        "dataset_description.json": bids_texts.dataset_description(plan, study, __version__),
        "participants.json": bids_texts.participants_json(),
        "participants.tsv": bids_texts.participants_tsv(subjects),
    }
    return {path: content.decode() for path, content in texts.items()}
