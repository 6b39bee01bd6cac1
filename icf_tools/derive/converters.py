"""The programs that make NIfTI of DICOM; none of them is believed.

in: a folder with the images of one series    out: out*.nii, .json, .bval, .bvec in another one
"""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from icf_tools.derive.volumes import Mismatch


def _dcm2niix(source: Path, made: Path) -> None:
    import dcm2niix

    # -g i: no settings of the user; -ba y: anonymous; -p n: the slope that DICOM has
    options = ["-g", "i", "-b", "y", "-ba", "y", "-z", "n", "-p", "n", "-f", "out"]
    done = subprocess.run(
        [dcm2niix.bin, *options, "-o", str(made), str(source)],
        env={"PATH": os.defpath, "HOME": str(made), "LC_ALL": "C", "TZ": "UTC"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=3600,
    )
    for path in made.iterdir():
        # what it resampled beside the volume is no image any more
        if re.search("_(Eq|Tilt)(_|\\.)", path.name):
            path.unlink()
    if not any(made.glob("*.nii")):
        raise Mismatch("no file", f"it made no file (exit code {done.returncode})")


CONVERTERS: dict[str, Callable[[Path, Path], None]] = {"dcm2niix": _dcm2niix}
"""What is tried, in this order: each writes out*.nii, and what belongs to them."""


def version_of(converter: str) -> str:
    """Its name and the version that is installed."""
    from importlib.metadata import version

    return f"{converter} {version(converter)}"
