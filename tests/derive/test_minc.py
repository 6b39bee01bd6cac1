"""What is written as MINC2 reads back as it was; and real minc-tools read the same."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped,unused-ignore]
import nibabel
import numpy as np
import pytest

from icf_tools.derive.minc import load_minc, tools, write_minc
from icf_tools.derive.planes import check
from icf_tools.derive.volumes import Mismatch, Volumes
from tests.conftest import peak_memory
from tests.derive.series import AXIAL, CORONAL, OBLIQUE, SAGITTAL, Series
from tests.derive.test_planes import ORIENTATIONS, Array, frames_of, right, save

Scale = tuple[float, float]
Space = dict[str, tuple[int, float, float, tuple[float, float, float]]]

# by hand: length, step, start and direction of each axis, the slowest first;
# nii2mnc is 73 mm beside the oblique one
EXPECTED: dict[tuple[float, ...], Space] = {
    AXIAL: {
        "zspace": (4, 3.0, 30.0, (0, 0, 1)),
        "yspace": (5, 1.5, 94.25, (0, 1, 0)),
        "xspace": (6, -2.0, 80.5, (1, 0, 0)),
    },
    CORONAL: {
        "yspace": (4, -3.0, 100.25, (0, 1, 0)),
        "zspace": (5, 1.5, 24.0, (0, 0, 1)),
        "xspace": (6, -2.0, 80.5, (1, 0, 0)),
    },
    SAGITTAL: {
        "xspace": (4, 3.0, 80.5, (1, 0, 0)),
        "zspace": (5, 1.5, 24.0, (0, 0, 1)),
        "yspace": (6, -2.0, 100.25, (0, 1, 0)),
    },
    OBLIQUE: {
        "yspace": (4, -3.0, 40.96, (-0.224, 0.768, -0.6)),
        "zspace": (5, 1.5, 62.22, (-0.168, 0.576, 0.8)),
        "xspace": (6, -2.0, 105.35, (0.96, 0.28, 0.0)),
    },
}


def written(folder: Path, image: nibabel.Nifti1Image, name: str = "out") -> Path:
    nibabel.save(image, folder / f"{name}.nii")
    write_minc(folder / f"{name}.nii", folder / f"{name}.mnc")
    return folder / f"{name}.mnc"


def of_values(folder: Path, data: Array, scale: Scale | None = None) -> Path:
    save(folder, data, np.diag([2.0, 2.0, 3.0, 1.0]), scale)
    write_minc(folder / "out.nii", folder / "out.mnc")
    return folder / "out.mnc"


def timed(series: Series, step: float, unit: str) -> nibabel.Nifti1Image:
    image = series.nifti()
    header: Any = image.header
    header["pixdim"][4], header["toffset"] = step, 5 * step
    header.set_xyzt_units("mm", unit)
    return image


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("volumes", [1, 3])
def test_what_is_written_passes(orientation: str, volumes: int, tmp_path: Path) -> None:
    series = Series.of(volumes, orientation=ORIENTATIONS[orientation])
    minc = load_minc(written(tmp_path, series.nifti()))
    nifti = Volumes.load(tmp_path / "out.nii")
    assert np.array_equal(minc.stored, nifti.stored)
    assert np.allclose(minc.affine, nifti.affine, rtol=0, atol=1e-8)
    assert (minc.name, minc.slope, minc.intercept) == ("out.mnc", 1.0, 0.0)
    frames = frames_of(series.write(tmp_path / "dicom"))
    found = [(plane.index, plane.volume) for _, plane in check([minc], frames).planes]
    assert found == [(index, volume) for volume in range(volumes) for index in range(4)]


@pytest.mark.parametrize("axes", [(1, 0, 2), (2, 0, 1), (0, 2, 1)])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1), (1, -1, -1)])
def test_another_order_of_axes(
    axes: tuple[int, ...], flips: tuple[int, ...], tmp_path: Path
) -> None:
    series = Series.of(2, orientation=OBLIQUE)
    ornt = np.array([[axis, flip] for axis, flip in zip(axes, flips, strict=True)])
    minc = load_minc(written(tmp_path, series.nifti().as_reoriented(ornt)))
    check([minc], frames_of(series.write(tmp_path / "dicom")))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_axes_in_the_file(orientation: str, tmp_path: Path) -> None:
    expected = EXPECTED[ORIENTATIONS[orientation]]
    image = timed(Series.of(2, orientation=ORIENTATIONS[orientation]), 2.2, "sec")
    with h5py.File(written(tmp_path, image)) as file:
        order = file["minc-2.0/image/0/image"].attrs["dimorder"].decode()
        assert order.split(",") == ["time", *expected]
        for name, (length, step, start, direction) in expected.items():
            attrs = file[f"minc-2.0/dimensions/{name}"].attrs
            assert attrs["length"] == length
            assert attrs["step"] == pytest.approx(step)
            assert attrs["start"] == pytest.approx(start)
            assert attrs["direction_cosines"] == pytest.approx(direction, abs=1e-6)
            assert (attrs["units"], attrs["spacetype"]) == (b"mm", b"native____")


@pytest.mark.parametrize(
    ("step", "unit", "expected"),
    [(2.2, "sec", 2.2), (2200, "msec", 2.2), (1.5, "unknown", 1.5), (0, "sec", None)],
)
def test_time(step: float, unit: str, expected: float | None, tmp_path: Path) -> None:
    with h5py.File(written(tmp_path, timed(Series.of(3), step, unit))) as file:
        attrs = file["minc-2.0/dimensions/time"].attrs
        assert (attrs["length"], attrs["units"]) == (3, b"s")
        assert attrs.get("step") == (expected and pytest.approx(expected, rel=1e-12))
        assert attrs["start"] == pytest.approx(5 * (expected or 0))


def test_what_is_not_time(tmp_path: Path) -> None:
    with pytest.raises(Mismatch, match="its volumes are ppm apart, not a time"):
        written(tmp_path, timed(Series.of(2), 1, "ppm"))


Fault = Callable[[Any], None]
IMAGE = "minc-2.0/image/0/image"


def values(change: Callable[[Array], Array]) -> Fault:
    def fault(file: Any) -> None:
        file[IMAGE][...] = change(file[IMAGE][...])

    return fault


def axis(name: str, attribute: str, change: Callable[[Any, Any], Any]) -> Fault:
    """What becomes of an attribute, of it and the step."""

    def fault(file: Any) -> None:
        attrs = file[f"minc-2.0/dimensions/{name}"].attrs
        attrs[attribute] = change(attrs[attribute], attrs["step"])

    return fault


def order_of_axes(file: Any) -> None:
    order = file[IMAGE].attrs["dimorder"].decode().split(",")
    file[IMAGE].attrs["dimorder"] = np.bytes_(",".join([order[0], *order[:0:-1]]))


def one_voxel(data: Array) -> Array:
    data[1, 2, 3, 4] += 1
    return data


def doubled(file: Any) -> None:
    file["minc-2.0/image/0/image-max"][()] *= 2


FAULTS: dict[str, Fault] = {
    **{
        f"half a voxel along {n}": axis(n, "start", lambda v, s: v + s / 2) for n in EXPECTED[AXIAL]
    },
    **{f"a voxel along {n}": axis(n, "start", lambda v, s: v - s) for n in EXPECTED[AXIAL]},
    **{f"backwards along {n}": axis(n, "step", lambda v, _: -v) for n in EXPECTED[AXIAL]},
    **{f"5 % along {n}": axis(n, "step", lambda v, _: v * 1.05) for n in EXPECTED[AXIAL]},
    **{f"turned {n}": axis(n, "direction_cosines", lambda v, _: -v) for n in EXPECTED[AXIAL]},
    "slices flipped": values(lambda data: data[:, ::-1]),
    "rows flipped": values(lambda data: data[:, :, ::-1]),
    "columns flipped": values(lambda data: data[..., ::-1]),
    "slices swapped": values(lambda data: data[:, [0, 2, 1, 3]]),
    "volumes swapped": values(lambda data: data[[0, 2, 1]]),
    "one voxel": values(one_voxel),
    "values doubled": doubled,
    "order of axes": order_of_axes,
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught(fault: str, orientation: str, tmp_path: Path) -> None:
    series = Series.of(3, orientation=ORIENTATIONS[orientation])
    minc = written(tmp_path, series.nifti())
    frames = frames_of(series.write(tmp_path / "dicom"))
    check([load_minc(minc)], frames)
    with h5py.File(minc, "r+") as file:
        FAULTS[fault](file)
    with pytest.raises(Mismatch):
        check([load_minc(minc)], frames)


@pytest.mark.parametrize("scale", [(2.5, -1024.0), (0.1, 7.3), (1.0, -1024.0), (-2.0, 5.0)])
def test_slope_and_intercept(scale: Scale, tmp_path: Path) -> None:
    series = Series.of(2, scale=scale)
    data, affine = right(series)
    save(tmp_path, data, affine, scale)
    write_minc(tmp_path / "out.nii", tmp_path / "out.mnc")
    minc = load_minc(tmp_path / "out.mnc")
    slope, intercept = (float(np.float32(part)) for part in scale)
    assert np.allclose(minc.stored, data * slope + intercept, rtol=1e-7, atol=0)
    assert minc.stored.dtype == (
        np.float64 if slope < 0 else np.float32 if slope != 1 else np.int16
    )
    check([minc], frames_of(series.write(tmp_path / "dicom")))


def test_slope_of_floating_point(tmp_path: Path) -> None:
    """Programs would take the stored values for real."""
    data = np.arange(60, dtype=np.float32).reshape(5, 4, 3, 1)
    minc = of_values(tmp_path, data, (2.5, -1024.0))
    assert np.array_equal(load_minc(minc).stored, data * 2.5 - 1024)
    with h5py.File(minc) as file:
        assert np.array_equal(file[IMAGE][...].T, data[..., 0] * 2.5 - 1024)


@pytest.mark.parametrize("stored", ["i1", "u1", "<i2", ">i2", "<u2", "<i4", "<u4", ">f4", "<f8"])
def test_types(stored: str, tmp_path: Path) -> None:
    kind = np.dtype(stored)
    random = np.random.default_rng(4711)
    data = random.normal(scale=1000, size=(6, 5, 4, 3)).astype(kind)
    if kind.kind != "f":
        ends: Any = np.iinfo(kind)
        data = random.integers(ends.min, ends.max, data.shape, kind.newbyteorder("="), True)
        data.flat[:2] = ends.min, ends.max
    image = nibabel.Nifti1Image(data.astype(kind), np.eye(4), dtype=kind)
    minc = load_minc(written(tmp_path, image))
    assert minc.stored.dtype == kind.newbyteorder("<")
    assert np.array_equal(minc.stored, data)
    with h5py.File(tmp_path / "out.mnc") as file:
        assert file[IMAGE].dtype == kind.newbyteorder("<")
        assert np.array_equal(file[IMAGE][...], data.T)


def test_a_type_that_minc_does_not_have(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.ones((3, 3, 3), np.int64), np.eye(4), dtype=np.int64)
    with pytest.raises(Mismatch, match="MINC has no values of the type int64"):
        written(tmp_path, image)
    assert not (tmp_path / "out.mnc").exists()


@pytest.mark.parametrize("value", [0, 7, 32767, -32768])
@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_all_the_same(value: int, kind: Any, tmp_path: Path) -> None:
    data = np.full((6, 5, 4, 2), value, kind)
    assert np.array_equal(load_minc(of_values(tmp_path, data)).stored, data)


def test_no_number(tmp_path: Path) -> None:
    data = np.arange(60, dtype=np.float32).reshape(5, 4, 3, 1)
    data.flat[:3] = np.nan, np.inf, -np.inf
    assert np.array_equal(load_minc(of_values(tmp_path, data)).stored, data, equal_nan=True)
    with h5py.File(tmp_path / "out.mnc") as file:
        assert list(file[IMAGE].attrs["valid_range"]) == [3, 59]


@pytest.mark.parametrize(
    "shape", [(700, 600, 3, 2), (40, 30, 500, 2), (6, 5, 1, 3), (6, 5, 1, 1), (32767, 20, 2, 1)]
)
def test_slices_of_any_size(shape: tuple[int, ...], tmp_path: Path) -> None:
    data = (np.arange(np.prod(shape)) % 4001).astype(np.int16).reshape(shape)
    assert np.array_equal(load_minc(of_values(tmp_path, data)).stored, data)
    with h5py.File(tmp_path / "out.mnc") as file:
        image = file[IMAGE]
        assert np.prod(image.chunks) * 2 <= 512 << 10
        chunks = [image.id.get_chunk_info(number) for number in range(image.id.get_num_chunks())]
        places = [chunk.byte_offset for chunk in chunks]
        assert places == sorted(places)  # whatever HDF5 holds back, of chunks at the edge


def test_the_same_bytes_again(tmp_path: Path) -> None:
    """In another folder, name, time zone and process, which finds other rubbish in its memory."""
    first = written(tmp_path, timed(Series.of(3, orientation=OBLIQUE), 2.2, "sec"))
    packed = tmp_path / "other" / "Mustermann_Erika.nii.gz"
    packed.parent.mkdir()
    nibabel.save(nibabel.load(tmp_path / "out.nii"), packed)
    second = tmp_path / "other" / "second.mnc"
    script = (
        "import sys; from pathlib import Path; from icf_tools.derive.minc import write_minc;"
        "write_minc(*map(Path, sys.argv[1:]))"
    )
    environment = os.environ | {"TZ": "Pacific/Auckland", "MALLOC_PERTURB_": "165"}
    subprocess.run([sys.executable, "-c", script, packed, second], env=environment, check=True)
    assert first.read_bytes() == second.read_bytes()


def test_it_tells_nobody(tmp_path: Path) -> None:
    minc = written(tmp_path, Series.of(2).nifti(), "Mustermann")
    content = minc.read_bytes()
    for text in (str(tmp_path), "Mustermann", socket.gethostname(), "icf"):
        assert text.encode() not in content
    with h5py.File(minc) as file:
        assert set(file["minc-2.0"].attrs) == set()
        assert list(file["minc-2.0/info"]) == []
        items: list[Any] = []
        file.visit(items.append)
        assert {h5py.h5g.get_objinfo(file[item].id).mtime for item in items} == {0}


def test_tools() -> None:
    assert tools() == [f"h5py {h5py.__version__}", f"HDF5 {h5py.version.hdf5_version}"]


def test_it_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "out.mnc").write_text("mine")
    with pytest.raises(FileExistsError):
        written(tmp_path, Series.of().nifti())
    assert (tmp_path / "out.mnc").read_text() == "mine"


@pytest.mark.parametrize(("tilt", "refused"), [(0.1, True), (0.0001, False)])
def test_tilted_gantry(tilt: float, refused: bool, tmp_path: Path) -> None:
    series = Series.of()
    affine = series.nifti().affine @ (np.eye(4) + np.diag([0, tilt, 0], 1))
    image = nibabel.Nifti1Image(right(series)[0], affine)
    image.set_qform(None, 0)
    if not refused:
        assert np.allclose(load_minc(written(tmp_path, image)).affine, affine, rtol=0, atol=1e-4)
        return
    with pytest.raises(Mismatch, match="its axes are not orthogonal"):
        written(tmp_path, image)


def test_what_is_no_nifti(tmp_path: Path) -> None:
    (tmp_path / "out.nii").write_bytes(b"no NIfTI" * 100)
    with pytest.raises(Mismatch, match="cannot be read as NIfTI-1"):
        write_minc(tmp_path / "out.nii", tmp_path / "out.mnc")
    assert not (tmp_path / "out.mnc").exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def spoilt(path: Path) -> None:
    content = bytearray(path.read_bytes())
    begin = content.index(b"dimorder")
    content[begin : begin + 8] = b"dimordre"
    path.write_bytes(content)


def no_minc(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros(3)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no MINC2" * 100),
        lambda path: path.unlink(),
        cut,
        spoilt,
        no_minc,
    ],
)
def test_what_is_no_minc(spoil: Callable[[Path], object], tmp_path: Path) -> None:
    minc = written(tmp_path, Series.of().nifti())
    spoil(minc)
    with pytest.raises(Mismatch, match=r"out\.mnc: it cannot be read as MINC2"):
        load_minc(minc)


def time_last(file: Any) -> None:
    file[IMAGE].attrs["dimorder"] = np.bytes_("zspace,yspace,xspace,time")


def flat(file: Any) -> None:
    file["minc-2.0/dimensions/xspace"].attrs["step"] = 0.0


@pytest.mark.parametrize(
    ("fault", "said"),
    [(time_last, "its axes are not three of space"), (flat, "its affine is singular")],
)
def test_minc_that_makes_no_sense(fault: Fault, said: str, tmp_path: Path) -> None:
    minc = written(tmp_path, Series.of(2).nifti())
    with h5py.File(minc, "r+") as file:
        fault(file)
    with pytest.raises(Mismatch, match=said):
        load_minc(minc)


@pytest.mark.slow
def test_memory(tmp_path: Path) -> None:
    """Of 32 MiB in 64 volumes no copy is made in 64 bit."""
    data = (np.arange(16 << 20) % 4001).astype(np.int16).reshape(64, 64, 64, 64)
    minc = of_values(tmp_path, data)
    begin = "import sys; from pathlib import Path; from icf_tools.derive.minc import *;"
    room = peak_memory(begin) + (64 << 20)
    assert peak_memory(begin + "v = load_minc(Path(sys.argv[1]))", minc) < room
    script = begin + "write_minc(*map(Path, sys.argv[1:]))"
    assert peak_memory(script, tmp_path / "out.nii", tmp_path / "b.mnc") < room


def run(*command: object, folder: Path) -> str:
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=True, cwd=folder
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("volumes", [1, 3])
def test_mincinfo(
    orientation: str, volumes: int, require: Callable[[str], str], tmp_path: Path
) -> None:
    series = Series.of(volumes, orientation=ORIENTATIONS[orientation])
    minc = written(tmp_path, timed(series, 2.5, "sec"))
    expected = EXPECTED[ORIENTATIONS[orientation]]
    program = require("mincinfo")
    names = run(program, "-vardims", "image", minc, folder=tmp_path).split()
    assert names == [*["time"][: volumes - 1], *expected]
    for name, (length, step, start, direction) in expected.items():
        wanted = ["-dimlength", name]
        for attribute in ("step", "start", "direction_cosines", "units", "spacetype"):
            wanted += ["-attvalue", f"{name}:{attribute}"]
        *told, units, spacetype = run(program, *wanted, minc, folder=tmp_path).split()
        numbers = [length, step, start, *direction]
        assert list(map(float, told)) == pytest.approx(numbers, abs=1e-5)
        assert (units, spacetype) == ("mm", "native____")
    if volumes > 1:
        wanted = ["-dimlength", "time", "-attvalue", "time:step", "-attvalue", "time:units"]
        assert run(program, *wanted, minc, folder=tmp_path).split() == ["3", "2.5", "s"]


@pytest.mark.parametrize("scale", [None, (2.5, -1024.0), (-2.0, 5.0)])
def test_mincstats(scale: Scale | None, require: Callable[[str], str], tmp_path: Path) -> None:
    data = right(Series.of(3))[0]
    minc = of_values(tmp_path, data, scale)
    slope, intercept = scale or (1.0, 0.0)
    real = data * slope + intercept
    options = ["-quiet", "-min", "-max", "-sum"]
    told = run(require("mincstats"), *options, minc, folder=tmp_path).split()
    assert list(map(float, told)) == [real.min(), real.max(), real.sum()]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("volumes", [1, 3])
def test_mnc2nii(
    orientation: str, volumes: int, require: Callable[[str], str], tmp_path: Path
) -> None:
    """It turns axes round and puts them into another order: what is where stays the same."""
    series = Series.of(volumes, orientation=ORIENTATIONS[orientation])
    minc = written(tmp_path, timed(series, 2.2, "sec"))
    run(require("mnc2nii"), minc.name, "back.nii", folder=tmp_path)
    back: Any = nibabel.load(tmp_path / "back.nii")
    stored = np.asarray(back.dataobj)
    stored = stored.reshape(*stored.shape[:3], -1)
    made = Volumes("back.nii", stored, back.affine, 1.0, 0.0)
    check([made], frames_of(series.write(tmp_path / "dicom")))
    if volumes > 1:
        assert back.header.get_zooms()[3] == pytest.approx(2.2)


@pytest.mark.parametrize("program", ["mincheader", "mincdump"])
def test_texts_are_whole(program: str, require: Callable[[str], str], tmp_path: Path) -> None:
    minc = written(tmp_path, Series.of(2).nifti())
    told = run(require(program), minc, folder=tmp_path)
    for text in (
        'image:dimorder = "time,zspace,yspace,xspace" ;',
        'image:vartype = "group________" ;',
        'xspace:spacing = "regular__" ;',
        'time:units = "s" ;',
    ):
        assert text in told
