"""In a container, a folder that only it has: what is written there ends with it.

in: a path    out: whether it lies outside, so that it may be written
"""

import os
import re
from pathlib import Path

from icf_tools.errors import NotFound

_MOUNTS = Path("/proc/self/mountinfo")
# these lie in the memory that the runtime lends to a container, those of them that it mounts
_OWN = tuple(map(Path, ("/dev", "/etc/group", "/etc/passwd", "/etc/resolv.conf")))
_DEV, _SHM = Path("/dev"), Path("/dev/shm")  # noqa: S108  nothing is written there


class NotBound(NotFound):
    message = (
        "the folder {} is not bound into the container; see that its path is right, and bind it, "
        "or one above it, with singularity's option -B or in ICF_BIND of icf-utils"
    )


def is_bound(place: Path) -> bool:
    """Whether a path, there or not, is outside of this container; it is if this is none."""
    if "APPTAINER_CONTAINER" not in os.environ and "SINGULARITY_CONTAINER" not in os.environ:
        return True
    try:
        mounts = _MOUNTS.read_text("utf-8", "surrogateescape")
    except OSError:  # without /proc there is no telling
        return True
    return lies_outside(Path(os.path.realpath(place)), mounts)


def lies_outside(place: Path, mounts: str) -> bool:
    """Whether a path lies neither in the image nor in the container's memory.

    Format of the mounts: proc(5), /proc/pid/mountinfo.
    """
    devices = {}
    for line in filter(None, mounts.split("\n")):
        fields, _, source = line.partition(" - ")
        device, _, point = fields.split(" ")[2:5]
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), point)
        devices[Path(point)] = (source.split(" ")[0], device)
    own = {devices[file] for file in _OWN if devices.get(file, ("", ""))[0] == "tmpfs"}
    if devices.get(_DEV) in own and _SHM in devices:
        own.add(devices[_SHM])  # --contain makes it, too, and binds no other
    nearest = next(folder for folder in (place, *place.parents) if folder in devices)
    return nearest != Path("/") and devices[nearest] not in own
