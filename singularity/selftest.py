"""Run every program of the package on generated images, and get them back with DataLad.

in: a folder to work in, or a temporary one    out: exit code 0, or what went wrong

The image holds this as its %test; `apptainer test icf.sif` runs it.
"""

import hashlib
import os
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from tempfile import TemporaryDirectory

from tests import dicoms

_IMAGE = "series_1/im001.dcm"
_REMOTE = "git-annex-remote-icf"  # datalad get runs it
_NIFTI = "nifti/003_protocol-3.nii.gz"


def selftest(work: Path) -> None:
    """Work in an empty folder; raises SystemExit with what was not as it should be."""
    os.environ["HOME"] = str(work)
    os.environ["GIT_CONFIG_GLOBAL"] = os.devnull
    for who in ("AUTHOR", "COMMITTER"):
        os.environ |= {f"GIT_{who}_NAME": "selftest", f"GIT_{who}_EMAIL": "selftest@localhost"}
    os.environ["DATALAD_UI_PROGRESSBAR"] = "none"
    incoming = dicoms.visit(work / "incoming")
    _volume(incoming / "series_3")
    store = work / "store"
    at = ["--store-dir", str(store)]
    url = ["--store-url", store.as_uri()]
    visit = ["--id", "selftest", "scripts"]
    programs = {
        "make_studyvisit_archive": [*at, *visit, str(incoming)],
        "deposit_visit_metadata": [*at, *visit],
        "deposit_visit_dataset": [*at, *url, *visit],
        "derive_visit": [*at, *visit, "--series", "3", "--to", "nifti", "--to", "minc"],
        "catalogify_studyvisit_from_meta": [*at, *url, *visit],
        "icf": ["add", "selftest", "icf", str(incoming), *at, *url],
    }
    installed = distribution("icf_tools").entry_points.select(group="console_scripts")
    if untried := set(installed.names) ^ {*programs, _REMOTE}:
        raise SystemExit(f"selftest: tries not what is installed: {', '.join(sorted(untried))}")
    for program, arguments in programs.items():
        _run(program, *arguments, cwd=work)
    _get_back(incoming, store, work)
    _look_at(store)


def _volume(folder: Path) -> None:
    """Write images that say where they lie, so that a NIfTI file can be made of them."""
    for number in range(1, 4):
        image = dicoms.image(
            3,
            number,
            ImagePositionPatient=[0, 0, 3 * number],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=[2, 2],
            SliceThickness=3,
        )
        dicoms.write(folder / f"im{number:03}.dcm", image)


def _get_back(incoming: Path, store: Path, work: Path) -> None:
    # datalad-next runs git annex init in the repository around a new clone
    _run("git", "init", "-q", ".", cwd=work)
    remote = "datalad-annex::?type=external&externaltype=uncurl&encryption=none"
    url = f"{remote}&url={store.as_uri()}/selftest/scripts_{{{{annex_key}}}}"
    clone = work / "clone"
    _run("datalad", "clone", url, str(clone), cwd=work)
    path = f"selftest_scripts/{_IMAGE}"
    _run("datalad", "get", path, _NIFTI, cwd=clone)
    if _md5(clone / path) != _md5(incoming / _IMAGE):
        raise SystemExit(f"selftest: {path} is not the image that went in")
    if (clone / "icf" / "scripts_dicom.tar").exists():
        raise SystemExit(f"selftest: {_REMOTE} did not read the image out of the tarball")
    if not (clone / _NIFTI).read_bytes().startswith(b"\x1f\x8b"):
        raise SystemExit(f"selftest: {_NIFTI} is no compressed file")


def _look_at(store: Path) -> None:
    """See that the pages name the visit, and that the viewer came along."""
    catalog = store / "selftest" / "catalog"
    page = (catalog / "view" / "scripts.html").read_text("utf-8")
    if _NIFTI.rpartition("/")[2] not in page:
        raise SystemExit("selftest: the page of the visit does not name its NIfTI file")
    if not any((catalog / "static" / "niivue").glob("*.js")):
        raise SystemExit("selftest: the pages have no viewer")


def _run(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"selftest: {command[0]} ended with {done.returncode}: {done.stderr}")


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


if __name__ == "__main__":
    with TemporaryDirectory(dir=next(iter(sys.argv[1:]), None), prefix="icf-selftest-") as folder:
        selftest(Path(folder))
