"""The files that are made of a series, once what a converter wrote is found right.

in: a converter's out*.nii and what belongs to them    out: Files for each target
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from icf_tools.derive import scrub
from icf_tools.derive.compress import compress
from icf_tools.derive.frames import Frame
from icf_tools.derive.planes import check
from icf_tools.derive.report import Made
from icf_tools.derive.volumes import Mismatch, Volumes
from icf_tools.store.files import md5_of

_BESIDE = (".json", ".bval", ".bvec")  # of a NIfTI file


@dataclass(frozen=True, slots=True)
class File:
    """A file that passed, where it is until it is moved."""

    path: Path
    made: Made

    @classmethod
    def of(cls, path: Path, place: str, sha256: str = "") -> "File":
        """`place` is its path in the dataset; the digest its own unless it is given."""
        if not sha256:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(path, Made(place, path.stat().st_size, md5_of(path), sha256))

    @classmethod
    def write(cls, folder: Path, place: str, content: bytes) -> "File":
        """With this content, in the folder until it is moved."""
        path = folder / place.replace("/", "%")
        path.write_bytes(content)
        return cls.of(path, place)


def stems(folder: Path, name: str, told_by: Callable[[str], bool]) -> dict[Path, str]:
    """What the files of each volume in the folder are to be called; now they are `out...`.

    Raises Mismatch where that could tell who was scanned: a converter appends what it likes.
    """
    found = {}
    for path in sorted(folder.glob("*.nii")):
        suffix = path.stem.removeprefix("out")
        if not re.fullmatch("[A-Za-z0-9._-]*", suffix) or told_by(suffix):
            raise Mismatch(name, "the name of a file that it made may tell who was scanned")
        found[path] = f"{name}{suffix}"
    return found


def nifti_files(
    made: Path, stem: str, told_by: Callable[[str], bool], deny: Sequence[str]
) -> Iterator[File]:
    """The volume, compressed, and what belongs to it."""
    path = made.with_name(f"{stem}.nii.gz")
    digest = compress(made, path)
    yield File.of(path, f"nifti/{path.name}", digest)
    for suffix in _BESIDE:
        beside = made.with_suffix(suffix)
        if beside.exists():
            content = beside.read_bytes()
            if suffix == ".json":
                content = scrub.sidecar(content, told_by, deny)
            # a name that ends in .nii has a dot of its own in front of it
            path = made.with_name(f"{stem}{suffix}")
            path.write_bytes(content)
            yield File.of(path, f"nifti/{path.name}")


def minc_files(stems: Mapping[Path, str], frames: Sequence[Frame]) -> Iterator[File]:
    """The volumes as MINC, read back and held against the images, too. Raises Mismatch."""
    from icf_tools.derive import minc

    paths = []
    for made, stem in stems.items():
        path = made.with_name(f"{stem}.mnc")
        try:
            minc.write_minc(made, path)
        except (OSError, RuntimeError) as err:  # what h5py raises where the disk is full
            raise Mismatch(path.name, "it cannot be written") from err
        paths.append(path)
    check([minc.load_minc(path) for path in paths], frames)
    for path in paths:
        yield File.of(path, f"minc/{path.name}")


def preview_files(
    made: Path, stem: str, windows: Mapping[str, tuple[float, float]]
) -> Iterator[File]:
    """Pictures of a volume; the window is that of its name without the number, or its own."""
    from icf_tools.derive import preview

    volumes = Volumes.load(made)
    given = windows.get(stem.partition("_")[2])
    window = preview.window_of(volumes) if given is None else preview.Window(*given)
    folder = made.with_name(f"{made.stem}.preview")
    folder.mkdir()
    preview.draw(volumes, window, folder, stem)
    for path in sorted(folder.iterdir()):
        yield File.of(path, f"preview/{path.name}")
