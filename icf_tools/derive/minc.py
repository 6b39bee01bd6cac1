"""A verified NIfTI file as MINC2, and MINC2 read back to be held against the images.

in: a NIfTI file    out: an HDF5 file that minc-tools and nibabel read; the Volumes in one

MINC has for each axis a direction, a step along it and how far along it the
first voxel lies, counted from the scanner's origin. Values may be scaled: the
`valid_range` of what is stored stands for `image-min` to `image-max`.

Source: MINC 2.0 File Format Reference,
https://en.wikibooks.org/wiki/MINC/Reference/MINC2.0_File_Format_Reference
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped,unused-ignore]
import nibabel
import numpy as np
from nibabel.minc2 import Minc2Image
from numpy.typing import DTypeLike, NDArray

from icf_tools.derive.volumes import TOLERANCE, Mismatch, Volumes

_ROOT = "minc-2.0"
_IMAGE = f"{_ROOT}/image/0/image"
_SPACE = ("xspace", "yspace", "zspace")  # to the right, to the front, to the head, as in NIfTI
_TYPES = frozenset(["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8"])
_SECONDS = {"sec": 1.0, "unknown": 1.0, "msec": 1e-3, "usec": 1e-6}  # NIfTI-1, xyzt_units
_STANDARD = {"varid": "MINC standard variable", "version": "MINC Version    1.0"}
# what HDF5 1.8 reads, and each chunk written at once: the defaults, and so the bytes, change
# with the version of HDF5; a child that another thread starts meanwhile would hold its lock
_FILE = {"libver": ("earliest", "v108"), "rdcc_nbytes": 0, "locking": False}
# bytes: programs hold 1 MiB of chunks, and unpack a larger one each time that they look into it
_CHUNK = 512 << 10
# MR volumes are a seventh smaller with the bytes of a value shuffled apart, and sooner packed;
# level 4 makes them 1 % smaller, and takes a quarter longer
_PACKED = {"compression": "gzip", "compression_opts": 3, "shuffle": True}
_PACKED |= {"fill_time": "ifset", "track_times": False}  # as _FILE, for the bytes; h5py 3.12


@dataclass(frozen=True, slots=True)
class _Dimension:
    """An axis of the image."""

    name: str
    length: int
    step: float | None  #: mm or s from a voxel to the next; None where it is not known
    start: float  #: mm along the direction, or s, of the first voxel
    direction: NDArray[np.float64] | None  #: (3,), of length 1, RAS; None for time


def tools() -> list[str]:
    """What the bytes depend on, beside this package; the same with h5py 3.12 to 3.16."""
    return [f"h5py {h5py.__version__}", f"HDF5 {h5py.version.hdf5_version}"]


def write_minc(nifti: Path, minc: Path) -> None:
    """Write a new file that holds the same values at the same places.

    The same volumes give the same bytes, whenever, wherever and under whatever
    name. Nothing is in the file that tells who made it, of whom, or when.
    Raises Mismatch where MINC has no means to say what the NIfTI file says.
    """
    volumes = Volumes.load(nifti)
    dimensions = [*_time(nifti, volumes), *_space(volumes)]
    kind = volumes.stored.dtype.newbyteorder("<")
    if kind.str[1:] not in _TYPES:
        raise Mismatch(nifti.name, f"MINC has no values of the type {kind.name}")
    slope, intercept = volumes.slope, volumes.intercept
    values = volumes.stored.T  # ([volume,] z, y, x): HDF5 counts the fastest axis last
    values = values[0] if len(values) == 1 else values
    valid = _range(values)
    low, high = sorted(bound * slope + intercept for bound in valid)
    # MINC does not scale floating point, and its minimum is not above its maximum
    real = (slope, intercept) != (1.0, 0.0) and (kind.kind == "f" or slope < 0)
    if real:
        kind, valid = np.dtype("<f8"), (low, high)
    with h5py.File(minc, "x", **_FILE) as file:
        root = file.create_group(_ROOT)
        root.create_group("info")
        _put_dimensions(root.create_group("dimensions"), dimensions)
        group = root.create_group("image/0")
        for name, bound in (("image-min", low), ("image-max", high)):
            scalar = group.create_dataset(name, data=bound, dtype="<f8", track_times=False)
            _put_texts(scalar, vartype="var_attribute", **_STANDARD)
        chunk = _chunk(values.shape, kind)
        image = group.create_dataset("image", values.shape, kind, chunks=chunk, **_PACKED)
        image.attrs["valid_range"] = np.array(valid, "<f8")
        order = ",".join(dimension.name for dimension in dimensions)
        _put_texts(image, dimorder=order, vartype="group________", complete="true_", **_STANDARD)
        for place in _slabs(values.shape, kind):
            slab = values[place]
            image[place] = slab * np.float64(slope) + intercept if real else slab


def load_minc(minc: Path) -> Volumes:
    """The real values of a .mnc file, with the axes in the order of the NIfTI file it was.

    Read by nibabel, which knows nothing of how it was written here. Raises
    Mismatch where it cannot be read, or says nothing that makes sense.
    """
    try:
        return _load(minc)
    except Mismatch:
        raise
    except Exception as err:  # HDF5 and nibabel raise what a broken file leads them to
        raise Mismatch(minc.name, "it cannot be read as MINC2") from err


def _load(minc: Path) -> Volumes:
    with h5py.File(minc, "r") as file:
        *other, _, _, _ = file[_IMAGE].attrs["dimorder"].decode().split(",")
    image = Minc2Image.from_filename(minc)
    proxy: Any = image.dataobj
    kind = np.dtype(image.get_data_dtype())
    if other not in ([], ["time"]) or len(proxy.shape) != len(other) + 3 or 0 in proxy.shape:
        raise Mismatch(minc.name, "its axes are not three of space, with time before them")
    # nibabel has an axis for each of space, in the order of the file, and none for time
    affine = np.asarray(image.affine, np.float64)[:, [2, 1, 0, 3]]
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise Mismatch(minc.name, "its affine is singular")
    values = np.empty(proxy.shape, kind)
    if not _read(proxy, values):
        values = np.empty(proxy.shape, np.result_type(kind, np.float32))
        _read(proxy, values)
    stored = values.T.reshape(*values.shape[:-4:-1], -1, order="F")
    return Volumes(minc.name, stored, affine, 1.0, 0.0)


def _read(proxy: Any, values: NDArray[Any]) -> bool:
    """Fill with the real values, a piece at a time, as nibabel gives them in 64 bit.

    False where they are asked for as integers, and are none of that type.
    """
    for place in _slabs(values.shape, values.dtype):
        real = proxy[place]
        with np.errstate(invalid="ignore"):
            values[place] = real
        if values.dtype.kind != "f" and not np.array_equal(values[place], real):
            return False
    return True


def _time(nifti: Path, volumes: Volumes) -> Iterator[_Dimension]:
    """The axis of the volumes, where there are several."""
    count = volumes.stored.shape[3]
    if count == 1:
        return
    header: Any = nibabel.Nifti1Image.from_filename(nifti).header
    unit = header.get_xyzt_units()[1]
    if unit not in _SECONDS:
        raise Mismatch(nifti.name, f"its volumes are {unit} apart, not a time")
    # 2.2 where 32 bit say 2.2: they would be 2.200000047683716 in 64
    step = float(str(header["pixdim"][4])) * _SECONDS[unit]
    start = float(header["toffset"]) * _SECONDS[unit]
    yield _Dimension("time", count, step if 0 < step < np.inf else None, start, None)


def _space(volumes: Volumes) -> Iterator[_Dimension]:
    """The axes of space as they are in the file: what varies fastest is the last.

    Each has the name of the axis of the patient that it is nearest to, and its
    direction is that one's: where it runs against it, the step is negative.
    """
    steps = np.linalg.norm(volumes.affine[:3, :3], axis=0)  # mm
    nearest, signs = nibabel.io_orientation(volumes.affine).T
    steps *= signs
    directions = volumes.affine[:3, :3] / steps + 0.0  # in columns; no -0
    _check_square(volumes, directions)
    # the origin is the sum of directions times starts; last bits differ between processors
    starts = np.round(np.linalg.solve(directions, volumes.affine[:3, 3]), 9) + 0.0
    for axis in (2, 1, 0):
        name, length = _SPACE[int(nearest[axis])], volumes.stored.shape[axis]
        yield _Dimension(name, length, steps[axis], starts[axis], directions[:, axis])


def _check_square(volumes: Volumes, directions: NDArray[np.float64]) -> None:
    """See that no voxel is moved by taking the axes for orthogonal, as programs do.

    Raises Mismatch where they are not, as of a CT with a tilted gantry.
    """
    before, _, after = np.linalg.svd(directions)
    apart = np.abs(before @ after - directions)  # from the nearest that is orthogonal
    voxel = np.linalg.norm(volumes.affine[:3, :3], axis=0)
    sizes = np.maximum(np.array(volumes.stored.shape[:3]) - 1, 1)
    if not (apart @ (voxel * sizes)).max() <= TOLERANCE * voxel.min():
        raise Mismatch(volumes.name, "its axes are not orthogonal, which MINC asks for")


def _range(values: NDArray[Any]) -> tuple[float, float]:
    """The least and the greatest value; never the same, as the scale is one range by another.

    Ends of the same range on both sides make the scale exactly 1. Programs
    take it for what is to be seen, so it is that of the values, not of the type.
    """
    low, high = np.inf, -np.inf
    for place in _slabs(values.shape, values.dtype):
        slab = values[place]
        if values.dtype.kind == "f":
            slab = slab[np.isfinite(slab)]
        if slab.size:
            low, high = min(low, float(slab.min())), max(high, float(slab.max()))
    if low != high:
        return (low, high) if low < high else (0.0, 1.0)  # no number at all
    if values.dtype.kind == "f":
        return low, low + max(1.0, abs(low))
    return (low, low + 1) if low < np.iinfo(values.dtype).max else (low - 1, low)


def _chunk(shape: tuple[int, ...], kind: DTypeLike) -> tuple[int, ...]:
    """What is packed together: slices where they fit, else rows; of one volume."""
    room = _CHUNK // np.dtype(kind).itemsize
    sizes: list[int] = []
    for size in shape[:-4:-1]:
        sizes.insert(0, max(1, min(size, room)))
        room //= size
    return (1,) * (len(shape) - 3) + tuple(sizes)


def _slabs(shape: tuple[int, ...], kind: DTypeLike) -> Iterator[tuple[int | slice, ...]]:
    """Places that are as thick as a chunk, so that each is packed once."""
    thick = _chunk(shape, kind)[-3]
    for volume in np.ndindex(shape[:-3]):
        for first in range(0, shape[-3], thick):
            yield *volume, slice(first, first + thick)


def _put_dimensions(group: Any, dimensions: list[_Dimension]) -> None:
    for dimension in dimensions:
        item = group.create_dataset(dimension.name, data=np.int32(0), track_times=False)
        item.attrs["length"] = np.uint32(dimension.length)
        if dimension.step is not None:
            item.attrs["step"] = np.float64(dimension.step)
        item.attrs["start"] = np.float64(dimension.start)
        texts = {"units": "s", "alignment": "start_"}
        if dimension.direction is not None:
            item.attrs["direction_cosines"] = dimension.direction
            texts = {"units": "mm", "alignment": "centre", "spacetype": "native____"}  # scanner's
        _put_texts(item, spacing="regular__", vartype="dimension____", **texts, **_STANDARD)


def _put_texts(item: Any, **texts: str) -> None:
    for name, text in texts.items():
        # h5py's own have no NUL at their end, and HDF5 2 would cut off the last letter for it
        kind = h5py.h5t.C_S1.copy()
        kind.set_size(len(text) + 1)
        kind.set_strpad(h5py.h5t.STR_NULLTERM)
        item.attrs.create(name, text.encode(), dtype=h5py.Datatype(kind))
