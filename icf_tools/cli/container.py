"""In a container, a folder that is not bound: what is written there ends with the container.

in: a folder that a command was given    out: the same folder, or a refusal
"""

import os
import re
from pathlib import Path

from icf_tools.errors import NotFound

_MOUNTS = Path("/proc/self/mountinfo")
_OWN = Path("/etc/passwd")  # lies in the memory that the runtime lends to the container


class NotBound(NotFound):
    message = (
        "the folder {} is not bound into the container; name it, or one above it, "
        "with the option --bind of singularity"
    )


def bound(folder: Path) -> Path:
    """The folder; raises NotBound where a container alone would have it."""
    if "APPTAINER_CONTAINER" in os.environ or "SINGULARITY_CONTAINER" in os.environ:
        place = Path(os.path.realpath(folder))
        if not is_bound(place, _MOUNTS.read_text("utf-8", "surrogateescape")):
            raise NotBound(place)
    return folder


def is_bound(place: Path, mounts: str) -> bool:
    """Whether a path lies neither in the image nor in the container's memory.

    Format of the mounts: proc(5), /proc/pid/mountinfo.
    """
    devices = {}
    for line in mounts.splitlines():
        fields, _, source = line.partition(" - ")
        device, _, point = fields.split()[2:5]
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), point)
        devices[Path(point)] = (source.split()[0], device)
    nearest = next(folder for folder in (place, *place.parents) if folder in devices)
    own = devices.get(_OWN)
    return nearest != Path("/") and not (own == devices[nearest] and own[0] == "tmpfs")
