"""Each fault that a converter can make is caught; what is right passes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from icf_tools.derive.frames import Frame, read_frames
from icf_tools.derive.planes import Match, check
from icf_tools.derive.volumes import Mismatch, Volumes
from tests.derive.series import AXIAL, CORONAL, OBLIQUE, SAGITTAL, Series

ORIENTATIONS = {"axial": AXIAL, "coronal": CORONAL, "sagittal": SAGITTAL, "oblique": OBLIQUE}
Array = NDArray[Any]


def frames_of(folder: Path) -> list[Frame]:
    return [
        frame
        for file in sorted(folder.iterdir())
        for frame in read_frames(file.name, memoryview(file.read_bytes()))
    ]


def save(folder: Path, data: Array, affine: Array, scale: tuple[float, float] | None = None,
         name: str = "out.nii") -> Volumes:  # fmt: skip
    image = nibabel.Nifti1Image(data, None)
    header: Any = image.header
    header.set_sform(affine, 1)
    header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)
    header["scl_slope"], header["scl_inter"] = scale or (1, 0)
    path = folder / name
    # nibabel would fit a scale of its own: the bytes are written as they are
    header["magic"], header["vox_offset"] = b"n+1", 352
    path.write_bytes(header.binaryblock + b"\0" * 4 + data.tobytes(order="F"))
    return Volumes.load(path)


def right(series: Series) -> tuple[Array, Array]:
    image = series.nifti()
    return np.asanyarray(image.dataobj), image.affine


def judged(series: Series, folder: Path, data: Array, affine: Array, **given: Any) -> Match:
    frames = frames_of(series.write(folder / "dicom"))
    return check([save(folder, data, affine, series.scale, **given)], frames)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("volumes", [1, 3])
def test_what_is_right_passes(orientation: str, volumes: int, tmp_path: Path) -> None:
    series = Series.of(volumes, orientation=ORIENTATIONS[orientation])
    match = judged(series, tmp_path, *right(series))
    assert match.order == ("InstanceNumber" if volumes > 1 else "")
    first, plane = match.planes[0]
    assert (first.path, plane.index, plane.volume) == ("im0001.dcm", 0, 0)
    assert len(match.planes) == 4 * volumes


@pytest.mark.parametrize("axes", [(1, 0, 2), (2, 0, 1), (0, 2, 1)])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1), (1, -1, -1)])
def test_another_order_of_axes_is_as_right(
    axes: tuple[int, ...], flips: tuple[int, ...], tmp_path: Path
) -> None:
    series = Series.of(2, orientation=OBLIQUE)
    image = series.nifti()
    ornt = np.array([[axis, flip] for axis, flip in zip(axes, flips, strict=True)])
    turned = image.as_reoriented(ornt)
    judged(series, tmp_path, np.asanyarray(turned.dataobj), turned.affine)


def moved(affine: Array, axis: int, voxels: float) -> Array:
    result = affine.copy()
    result[:3, 3] += affine[:3, axis] * voxels
    return result


def stretched(affine: Array, axis: int, factor: float) -> Array:
    result = affine.copy()
    result[:3, axis] *= factor
    return result


def swapped(data: Array, axis: int, first: int, second: int) -> Array:
    order = list(range(data.shape[axis]))
    order[first], order[second] = order[second], order[first]
    return data.take(order, axis)


def changed(data: Array) -> Array:
    result = data.copy()
    result[3, 2, 1, 1] += 1
    return result


def mirrored(affine: Array, axis: int) -> Array:
    """The affine says that the axis runs the other way, through the same middle."""
    return moved(stretched(affine, axis, -1.0), axis, -([6, 5, 4][axis] - 1))


Fault = Callable[[Array, Array], tuple[Array, Array]]


def along(axis: int) -> dict[str, Fault]:
    return {
        f"data flipped along {axis}": lambda d, a: (np.flip(d, axis), a),
        f"affine mirrored along {axis}": lambda d, a: (d, mirrored(a, axis)),
        f"half a voxel along {axis}": lambda d, a: (d, moved(a, axis, 0.5)),
        f"a voxel along {axis}": lambda d, a: (d, moved(a, axis, 1)),
        f"5 % along {axis}": lambda d, a: (d, stretched(a, axis, 1.05)),
    }


FAULTS: dict[str, Fault] = {
    **along(0),
    **along(1),
    **along(2),
    "left and right": lambda d, a: (d, np.diag([-1.0, 1, 1, 1]) @ a),
    "slices swapped": lambda d, a: (swapped(d, 2, 1, 2), a),
    "volumes swapped": lambda d, a: (swapped(d, 3, 0, 1), a),
    "volumes backwards": lambda d, a: (d[..., ::-1], a),
    "slice lost": lambda d, a: (d[:, :, :-1], a),
    "first slice lost": lambda d, a: (d[:, :, 1:], moved(a, 2, 1)),
    "slice too many": lambda d, a: (np.concatenate([d, d[:, :, :1]], 2), a),
    "volume lost": lambda d, a: (d[..., :-1], a),
    "volume twice": lambda d, a: (np.concatenate([d, d[..., :1]], 3), a),
    "row lost": lambda d, a: (d[:, :-1], a),
    "one pixel": lambda d, a: (changed(d), a),
    "rounded": lambda d, a: ((d // 2 * 2).astype(np.int16), a),
    "sheared": lambda d, a: (d, a @ (np.eye(4) + np.diag([0.1, 0, 0], 1))),
    "singular": lambda d, a: (d, stretched(a, 2, 0.0)),
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught(fault: str, orientation: str, tmp_path: Path) -> None:
    series = Series.of(3, orientation=ORIENTATIONS[orientation])
    data, affine = FAULTS[fault](*right(series))
    with pytest.raises(Mismatch):
        judged(series, tmp_path, data, affine)


@pytest.mark.parametrize("scale", [(1.0, 0.0), (2.5, -1024.0)])
@pytest.mark.parametrize("wrong", [(2.0, 0.0), (2.5, 0.0), (2.5001, -1024.0), (1.0, 1.0)])
def test_a_wrong_scale_is_caught(
    scale: tuple[float, float], wrong: tuple[float, float], tmp_path: Path
) -> None:
    series = Series.of(scale=scale)
    data, affine = right(series)
    frames = frames_of(series.write(tmp_path / "dicom"))
    check([save(tmp_path, data, affine, scale)], frames)
    with pytest.raises(Mismatch, match="slope and intercept"):
        check([save(tmp_path, data, affine, wrong)], frames)


def test_values_that_were_scaled_are_as_right(tmp_path: Path) -> None:
    series = Series.of(scale=(2.5, -1024.0))
    data, affine = right(series)
    frames = frames_of(series.write(tmp_path / "dicom"))
    real = (data * 2.5 - 1024).astype(np.float32)
    check([save(tmp_path, real, affine)], frames)
    real[2, 2, 2] += 1
    with pytest.raises(Mismatch, match="other values"):
        check([save(tmp_path, real, affine)], frames)


def test_faults_are_named(tmp_path: Path) -> None:
    series = Series.of(3)
    data, affine = right(series)
    frames = frames_of(series.write(tmp_path / "dicom"))
    for made, said in (
        (swapped(data, 2, 1, 2), "plane 2 of volume 1 should be im0002.dcm, which is plane 3 of "),
        (swapped(data, 3, 0, 1), "plane 1 of volume 2 was taken before the volume before it"),
        (changed(data), "plane 2 of volume 2 has other values than im0006.dcm"),
        (data[..., :-1], "im0009.dcm is in no volume"),
        (np.concatenate([data, data[..., :1]], 3), "plane 1 of volume 4 is of no image"),
    ):  # fmt: skip
        with pytest.raises(Mismatch) as caught:
            check([save(tmp_path, made, affine)], frames)
        assert str(caught.value).startswith(f"out.nii: {said}")


def test_echoes_in_files_of_their_own(tmp_path: Path) -> None:
    """Several files of one place: each image is in exactly one."""
    echoes = [Series.of(), Series(Series.of().stored[:, ::-1] + 7)]
    folder = tmp_path / "dicom"
    for number, echo in enumerate(echoes):
        echo.write(tmp_path / str(number))
    frames = [frame for number in range(2) for frame in frames_of(tmp_path / str(number))]
    files = [save(tmp_path, *right(echo), name=f"e{n}.nii") for n, echo in enumerate(echoes)]
    match = check(files, frames)
    assert {plane.file for frame, plane in match.planes[:4]} == {"e0.nii"}
    assert check(files[::-1], frames).planes == match.planes
    with pytest.raises(Mismatch, match="is in no volume"):
        check(files[:1], frames)
    with pytest.raises(Mismatch, match="is of no image"):
        check([*files, files[0]], frames)
    assert not folder.exists()


def test_equal_planes_are_told_apart_by_their_order(tmp_path: Path) -> None:
    series = Series.of(4)
    series.stored[:, 1] = 0  # nothing but background
    series.stored[2] = series.stored[0]
    match = judged(series, tmp_path, *right(series))
    volumes = [plane.volume for _, plane in match.planes]
    assert volumes == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4


def test_the_digest_tells_which_image_became_which_plane(tmp_path: Path) -> None:
    series = Series.of(2)
    frames = frames_of(series.write(tmp_path / "dicom"))
    digests = {
        check([save(tmp_path, *right(series))], frames).digest,
        check([save(tmp_path, *right(series), name="b.nii")], frames).digest,
    }
    assert len(digests) == 2
    assert check([save(tmp_path, *right(series))], frames[::-1]).planes != ()


def test_sform_and_qform_must_agree(tmp_path: Path) -> None:
    series = Series.of()
    image = series.nifti()
    image.set_qform(moved(image.affine, 0, 0.5), 1)
    nibabel.save(image, tmp_path / "out.nii")
    with pytest.raises(Mismatch, match="its sform and its qform differ"):
        Volumes.load(tmp_path / "out.nii")
    image.set_qform(None, 0)
    image.set_sform(None, 0)
    nibabel.save(image, tmp_path / "out.nii")
    with pytest.raises(Mismatch, match="does not say where it lies"):
        Volumes.load(tmp_path / "out.nii")


@pytest.mark.parametrize("content", [b"", b"no NIfTI" * 100])
def test_what_is_no_nifti(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "out.nii").write_bytes(content)
    with pytest.raises(Mismatch, match="cannot be read"):
        Volumes.load(tmp_path / "out.nii")


def test_nifti_that_is_cut_off(tmp_path: Path) -> None:
    nibabel.save(Series.of().nifti(), tmp_path / "out.nii")
    whole = (tmp_path / "out.nii").read_bytes()
    (tmp_path / "out.nii").write_bytes(whole[:-10])
    with pytest.raises(Mismatch, match="cannot be read"):
        Volumes.load(tmp_path / "out.nii")


def numbered(folder: Path, change: Callable[[Any, int, int], None]) -> list[Frame]:
    """Frames of images, each changed by its place in (volume, slice) before it is read."""
    import pydicom

    for file in sorted(folder.iterdir()):
        image = pydicom.dcmread(file)
        volume, index = divmod(int(image.InstanceNumber) - 1, 4)
        change(image, volume, index)
        image.save_as(file)
    return frames_of(folder)


def slice_by_slice(image: Any, volume: int, index: int) -> None:
    image.InstanceNumber = index * 3 + volume + 1


MIXES = [(0, 1, 2, 0), (1, 0, 0, 1), (2, 1, 1, 1), (0, 2, 0, 2), (2, 2, 1, 0)]


@pytest.mark.parametrize("lost", MIXES)
@pytest.mark.parametrize("change", [slice_by_slice, lambda *_: None])
def test_volumes_of_images_that_were_not_taken_together(
    lost: tuple[int, ...], change: Callable[[Any, int, int], None], tmp_path: Path
) -> None:
    """One image is lost at each place, and what is left is put together in order."""
    series = Series.of(3)
    folder = series.write(tmp_path / "dicom", AcquisitionTime=None, AcquisitionNumber=None)
    kept = series.stored[:2].copy()
    for index, volume in enumerate(lost):
        kept[:, index] = np.delete(series.stored[:, index], volume, axis=0)
        (folder / f"im{1 + volume * 4 + index:04}.dcm").unlink()
    made = save(tmp_path, *right(Series(kept)))
    with pytest.raises(Mismatch):
        check([made], numbered(folder, change))


def test_slices_may_be_numbered_one_after_the_other(tmp_path: Path) -> None:
    series = Series.of(3)
    frames = numbered(series.write(tmp_path / "dicom"), slice_by_slice)
    assert check([save(tmp_path, *right(series))], frames).order == "InstanceNumber"


def test_slices_exchanged_between_echoes(tmp_path: Path) -> None:
    echoes = [Series.of(), Series(Series.of().stored[:, ::-1] + 7)]
    frames = []
    for number, echo in enumerate(echoes):
        echo.write(tmp_path / str(number), EchoTime=str(5 * number + 5))
        frames += frames_of(tmp_path / str(number))
    mixed = [echo.stored.copy() for echo in echoes]
    mixed[0][0, 1], mixed[1][0, 1] = echoes[1].stored[0, 1], echoes[0].stored[0, 1]
    right_ones = [save(tmp_path, *right(echo), name=f"r{n}.nii") for n, echo in enumerate(echoes)]
    wrong = [save(tmp_path, *right(Series(each)), name=f"e{n}.nii") for n, each in enumerate(mixed)]
    assert check(right_ones, frames)
    with pytest.raises(Mismatch):
        check(wrong, frames)


@pytest.mark.parametrize(
    "elements", [{"EchoTime": "9"}, {"EchoNumbers": 2}, {"ImageType": ["ORIGINAL", "PRIMARY", "P"]}]
)
def test_kinds_in_one_file(elements: dict[str, Any], tmp_path: Path) -> None:
    series = Series.of(2)

    def change(image: Any, volume: int, index: int) -> None:
        if volume:
            for keyword, value in elements.items():
                setattr(image, keyword, value)

    frames = numbered(series.write(tmp_path / "dicom"), change)
    with pytest.raises(Mismatch, match="several echoes, or of magnitude and phase"):
        check([save(tmp_path, *right(series))], frames)


def test_the_order_must_be_told(tmp_path: Path) -> None:
    series = Series.of(2)
    made = save(tmp_path, *right(series))
    backwards = save(tmp_path, *right(Series(series.stored[::-1])), name="back.nii")
    times: dict[str, Any] = {"InstanceNumber": None, "AcquisitionTime": None}

    def untold(image: Any, volume: int, index: int) -> None:
        for keyword in times:
            delattr(image, keyword)

    frames = numbered(series.write(tmp_path / "untold"), untold)
    for file in (made, backwards):
        with pytest.raises(Mismatch, match="no element of the images tells the order"):
            check([file], frames)

    def contradicted(image: Any, volume: int, index: int) -> None:
        image.ContentTime = f"1{1 - volume}0000"

    frames = numbered(series.write(tmp_path / "contradicted"), contradicted)
    assert check([made], frames).order == "InstanceNumber"
    with pytest.raises(Mismatch):
        check([backwards], frames)


@pytest.mark.parametrize(
    "change",
    [
        lambda real: real + 0.03,
        lambda real: np.where(real > 3000, real, 0),
        lambda real: real * 1.00001,
        lambda real: real.astype(np.complex64),
        lambda real: real + 1j,
    ],
)
def test_values_must_be_the_same(change: Callable[[Array], Array], tmp_path: Path) -> None:
    series = Series.of()
    data, affine = right(series)
    frames = frames_of(series.write(tmp_path / "dicom"))
    assert check([save(tmp_path, data.astype(np.float32), affine)], frames)
    with pytest.raises(Mismatch):
        check([save(tmp_path, change(data.astype(np.float32)), affine)], frames)


@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("place", ["scl_slope", "scl_inter"])
def test_a_scale_that_is_no_number(number: float, place: str, tmp_path: Path) -> None:
    scale = (number, 0.0) if place == "scl_slope" else (1.0, number)
    with pytest.raises(Mismatch):
        save(tmp_path, *right(Series.of()), scale)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pixdim", [1, 7, 8, 9, 1, 1, 1, 1]),
        ("xyzt_units", 1),
        ("xyzt_units", 3),
        ("qoffset_x", np.nan),
    ],
)
def test_headers_that_say_something_else(name: str, value: Any, tmp_path: Path) -> None:
    image = Series.of().nifti()
    header: Any = image.header
    header[name] = value
    image.header["scl_slope"], image.header["scl_inter"] = 1, 0
    data = np.asanyarray(image.dataobj)
    header["magic"], header["vox_offset"] = b"n+1", 352
    (tmp_path / "out.nii").write_bytes(header.binaryblock + b"\0" * 4 + data.tobytes(order="F"))
    with pytest.raises(Mismatch):
        Volumes.load(tmp_path / "out.nii")


def test_five_dimensions(tmp_path: Path) -> None:
    data, affine = right(Series.of(2))
    with pytest.raises(Mismatch, match="more than four dimensions"):
        save(tmp_path, data.reshape(*data.shape[:3], 1, 2), affine)


def test_background_in_several_files(tmp_path: Path) -> None:
    """Of equal planes, the one that is next in time is meant."""
    stored = Series.of(2).stored
    one, other = stored.copy(), stored[::-1].copy() + 3
    one[1], other[0] = 0, 0
    frames = []
    for number, each in enumerate([Series(one), Series(other)]):
        folder = each.write(tmp_path / str(number), EchoTime=str(5 - number))

        def change(image: Any, volume: int, index: int, number: int = number) -> None:
            image.InstanceNumber = 1 + 8 * volume + 2 * index + (1 - number)

        frames += numbered(folder, change)
    files = [
        save(tmp_path, *right(Series(each)), name=f"{n}.nii") for n, each in enumerate([one, other])
    ]
    assert check(files, frames)


def test_one_volume_of_two_echoes(tmp_path: Path) -> None:
    series = Series.of()

    def change(image: Any, volume: int, index: int) -> None:
        image.EchoTime = str(5 + index // 2)

    frames = numbered(series.write(tmp_path / "dicom"), change)
    with pytest.raises(Mismatch, match="several echoes"):
        check([save(tmp_path, *right(series))], frames)


def test_a_gap_in_the_numbers_is_final(tmp_path: Path) -> None:
    """No other element may explain what is left."""
    series = Series.of(3)
    folder = series.write(tmp_path / "dicom", AcquisitionNumber=None)
    kept = series.stored[:2].copy()
    for index, volume in enumerate((0, 2, 0, 2)):
        kept[:, index] = np.delete(series.stored[:, index], volume, axis=0)
        (folder / f"im{1 + volume * 4 + index:04}.dcm").unlink()
    made = save(tmp_path, *right(Series(kept)))
    with pytest.raises(Mismatch, match="InstanceNumber has gaps"):
        check([made], numbered(folder, slice_by_slice))


def test_a_series_across_midnight(tmp_path: Path) -> None:
    series = Series.of(3)

    def change(image: Any, volume: int, index: int) -> None:
        image.AcquisitionTime = ["235959", "000001", "000003"][volume]

    frames = numbered(series.write(tmp_path / "dicom"), change)
    assert check([save(tmp_path, *right(series))], frames).order == "InstanceNumber"


def test_blank_slices_of_interleaved_echoes(tmp_path: Path) -> None:
    echoes = [Series.of(3), Series(Series.of(3).stored + 9)]
    frames, files = [], []
    for number, echo in enumerate(echoes):
        echo.stored[:, 3] = 0
        folder = echo.write(tmp_path / str(number), EchoTime=str(5 + number), AcquisitionTime=None)

        def change(image: Any, volume: int, index: int, number: int = number) -> None:
            image.InstanceNumber = 1 + 8 * volume + 2 * index + number
            image.AcquisitionNumber = 1

        frames += numbered(folder, change)
        files.append(save(tmp_path, *right(echo), name=f"{number}.nii"))
    assert check(files, frames)
    assert check(files[::-1], frames)


def test_an_acquisition_number_for_each_slice(tmp_path: Path) -> None:
    series = Series.of(4)

    def change(image: Any, volume: int, index: int) -> None:
        image.AcquisitionNumber = index + 1

    frames = numbered(series.write(tmp_path / "dicom"), change)
    assert check([save(tmp_path, *right(series))], frames)
