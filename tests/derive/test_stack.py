"""What is regular is stacked as converters stack it; the rest is refused with the reason."""

import pickle
import random
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from icf_tools.derive import stack as module
from icf_tools.derive.converters import CONVERTERS
from icf_tools.derive.frames import ORDERS, Frame, read_frames
from icf_tools.derive.planes import check
from icf_tools.derive.stack import NotRegular, Volume, stack
from icf_tools.derive.volumes import Mismatch, Volumes
from tests import dicoms
from tests.derive.series import AXIAL, CORONAL, OBLIQUE, SAGITTAL, Series
from tests.derive.test_converters import frames_of, tilted
from tests.derive.test_frames import enhanced
from tests.derive.test_planes import ORIENTATIONS

Change = Callable[[list[Frame]], Iterable[Frame]]
REAL = [
    *(f"dcm_qa_nih/In/20180918Si/mr_000{number}" for number in (3, 4, 5, 6)),
    *(f"dcm_qa_nih/In/20180918GE/mr_000{number}" for number in (4, 5, 6, 7)),
    "example-dicom-structural/dicoms",
]


def written(series: Series, folder: Path, **elements: Any) -> list[Frame]:
    return frames_of(series.write(folder / "in", **elements))


def refusal(frames: Sequence[Frame]) -> str:
    with pytest.raises(NotRegular) as caught:
        stack(frames)
    return str(caught.value.args[0])


def canonical(array: Any, affine: Any) -> tuple[Any, Any]:
    image = nibabel.as_closest_canonical(nibabel.Nifti1Image(array, affine))
    return np.asanyarray(image.dataobj), image.affine


def same(volume: Volume, image: Any, affine: float = 1e-4) -> None:
    """The affine may be rounded, as that of a file of 32 bit is."""
    mine = canonical(volume.array, volume.affine)
    theirs = canonical(image.get_fdata(), image.affine)
    assert mine[0].shape == theirs[0].shape
    assert np.array_equal(mine[0], theirs[0])
    assert np.allclose(mine[1], theirs[1], rtol=0, atol=affine)


def expected(series: Series) -> Any:
    return nibabel.funcs.squeeze_image(series.nifti())


def equal(some: Sequence[Volume], others: Sequence[Volume]) -> bool:
    return len(some) == len(others) and all(
        (one.kind, one.order, one.array.dtype) == (other.kind, other.order, other.array.dtype)
        and np.array_equal(one.array, other.array)
        and np.array_equal(one.affine, other.affine)
        for one, other in zip(some, others, strict=True)
    )


def converted(source: Path, folder: Path) -> Any:
    """What `icf convert` would keep: the file of dcm2niix, held against the images."""
    folder.mkdir()
    CONVERTERS["dcm2niix"](source, folder)
    [path] = folder.glob("*.nii")
    check([Volumes.load(path)], frames_of(source))
    return nibabel.load(path)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("volumes", [1, 3])
def test_voxels_lie_where_they_were_taken(orientation: str, volumes: int, tmp_path: Path) -> None:
    series = Series.of(volumes, orientation=ORIENTATIONS[orientation])
    [volume] = stack(written(series, tmp_path))
    # columns, rows, slices and volumes, as they were scanned
    scanned = series.stored.transpose(3, 2, 1, 0)
    assert np.array_equal(volume.array, scanned if volumes > 1 else scanned[..., 0])
    matrix = np.column_stack([*series.steps, series.position])
    assert np.allclose(volume.affine[:3], np.diag([-1, -1, 1]) @ matrix, rtol=0, atol=1e-4)
    assert volume.affine[3].tolist() == [0, 0, 0, 1]
    assert volume.array.dtype == np.int16
    assert (volume.kind, volume.order) == (
        "echo time 2.50 ms",
        "InstanceNumber" if volumes > 1 else "",
    )


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("scale", [None, (2.5, -3.0)])
def test_it_is_what_dcm2niix_makes(
    orientation: str, scale: tuple[float, float] | None, tmp_path: Path
) -> None:
    series = Series.of(3, orientation=ORIENTATIONS[orientation], scale=scale)
    [volume] = stack(written(series, tmp_path))
    same(volume, converted(tmp_path / "in", tmp_path / "made"))


@pytest.mark.parametrize("folder", REAL)
def test_real_series_are_what_dcm2niix_makes(folder: str, test_data: Path, tmp_path: Path) -> None:
    frames = frames_of(test_data / folder)
    [volume] = stack(frames)
    same(volume, converted(test_data / folder, tmp_path / "made"), affine=1e-3)
    random.Random(4711).shuffle(frames)
    assert equal([volume], stack(frames))


def backwards(series: Series) -> Series:
    """The same scan, its slices taken from the last to the first."""
    return replace(
        series,
        stored=series.stored[:, ::-1],
        position=tuple(np.array(series.position) + series.steps[2] * 3),
        distance=-series.distance,
    )


def test_slices_may_be_numbered_either_way(tmp_path: Path) -> None:
    series = Series.of(2, orientation=OBLIQUE)
    [there] = stack(written(series, tmp_path / "there"))
    [back] = stack(written(backwards(series), tmp_path / "back", SliceThickness="3"))
    assert np.array_equal(there.array, back.array)
    assert np.allclose(there.affine, back.affine, rtol=0, atol=1e-5)


def echoes(folder: Path, volumes: int = 1) -> list[Frame]:
    """Two, numbered one after another."""
    first = written(Series.of(volumes), folder / "1", EchoTime="5")
    late = Series(Series.of(volumes).stored[:, ::-1] + 7)
    second = written(late, folder / "2", EchoTime="12.5", EchoNumbers=2)
    return [*first, *(numbered(frame, 4 * volumes, path=f"late/{frame.path}") for frame in second)]


def numbered(frame: Frame, more: float, **given: Any) -> Frame:
    return replace(frame, order=((frame.order[0] or 0) + more, *frame.order[1:]), **given)


def localizer(folder: Path) -> list[Frame]:
    """Three planes, of one size or another, crossing each other."""
    frames: list[Frame] = []
    for number, orientation in enumerate((SAGITTAL, CORONAL, AXIAL)):
        stored = np.random.default_rng(number).integers(
            0, 4000, (1, 3, 5, 6 + number % 2), dtype=np.int16
        )
        series = Series(stored, orientation=orientation, distance=10.0)
        plane = written(series, folder / str(number), AcquisitionNumber=1)
        frames += [numbered(each, 3 * number, path=f"{number}/{each.path}") for each in plane]
    return frames


@pytest.mark.parametrize("volumes", [1, 3])
def test_each_echo_is_an_array(volumes: int, tmp_path: Path) -> None:
    early, late = stack(echoes(tmp_path, volumes))
    assert (early.kind, late.kind) == ("echo time 5.00 ms", "echo time 12.50 ms, echo 2")
    same(early, expected(Series.of(volumes)))
    same(late, expected(Series(Series.of(volumes).stored[:, ::-1] + 7)))


@pytest.mark.parametrize(
    ("part", "kind"), [("M", "magnitude"), ("P", "phase"), ("R", "real"), ("I", "imaginary")]
)
def test_the_kind_is_told_in_words(part: str, kind: str, tmp_path: Path) -> None:
    image = {"ImageType": ["ORIGINAL", "PRIMARY", part], "EchoTime": None}
    [volume] = stack(written(Series.of(), tmp_path, **image))
    assert volume.kind == kind


def test_each_plane_of_a_localizer_is_an_array(tmp_path: Path) -> None:
    volumes = stack(localizer(tmp_path))
    assert [volume.array.shape for volume in volumes] == [(6, 5, 3), (7, 5, 3), (6, 5, 3)]
    normals = [np.flatnonzero(volume.affine[:3, 2].round(3)).tolist() for volume in volumes]
    assert normals == [[0], [1], [2]]
    assert {volume.order for volume in volumes} == {""}


def test_a_volume_that_is_turned_is_an_array(tmp_path: Path) -> None:
    turned = np.column_stack([[np.cos(0.05), np.sin(0.05), 0], [-np.sin(0.05), np.cos(0.05), 0]])
    there = Series.of()
    also = Series(there.stored + 7, orientation=tuple(turned.T.ravel()))
    frames = written(there, tmp_path / "1", AcquisitionNumber=1)
    for frame in written(also, tmp_path / "2", AcquisitionNumber=2):
        frames.append(numbered(frame, 4, path=f"turned/{frame.path}"))
    volumes = stack(frames)
    assert [volume.array.shape for volume in volumes] == [(6, 5, 4)] * 2
    for volume, series in zip(volumes, (there, also), strict=True):
        same(volume, expected(series))


def test_one_image_counts_as_a_millimetre(tmp_path: Path) -> None:
    series = Series(Series.of().stored[:, :1], orientation=OBLIQUE)
    [volume] = stack(written(series, tmp_path))
    assert volume.array.shape == (6, 5, 1)
    normal = np.cross(OBLIQUE[:3], OBLIQUE[3:]) * [-1, -1, 1]
    assert np.allclose(volume.affine[:3, 2], normal, atol=1e-5)


def test_one_slice_may_have_volumes(tmp_path: Path) -> None:
    stored = Series.of(5).stored[:, :1]
    [volume] = stack(written(Series(stored), tmp_path))
    assert np.array_equal(volume.array, stored.transpose(3, 2, 1, 0))


def test_an_enhanced_image(tmp_path: Path) -> None:
    path = dicoms.write(tmp_path / "image.dcm", enhanced(4))
    frames = read_frames("image.dcm", memoryview(path.read_bytes()))
    [volume] = stack(frames)
    assert volume.array.shape == (4, 4, 4)
    # stored are 0 to 3; the second frame has a slope of its own
    assert volume.array[0, 0].tolist() == [5, 8, 13, 17]
    assert volume.kind == ""  # it tells none


@pytest.mark.parametrize("angle", [18, -7.5])
def test_slices_of_a_tilted_gantry_lean(angle: float, tmp_path: Path) -> None:
    tilted(angle)(tmp_path / "in")
    [volume] = stack(frames_of(tmp_path / "in"))
    assert np.allclose(volume.affine[:3, 2], [0, 0, 3])
    assert abs(volume.affine[1, 1]) == pytest.approx(1.5 * np.cos(np.radians(angle)))


SERIES: dict[str, Callable[[Path], list[Frame]]] = {
    "plain": lambda folder: written(Series.of(), folder),
    "volumes": lambda folder: written(Series.of(3, orientation=OBLIQUE), folder),
    "scaled": lambda folder: written(Series.of(3, scale=(0.1, 7.0)), folder),
    "echoes": lambda folder: echoes(folder, 3),
    "localizer": localizer,
    "uneven": lambda folder: list(without(2)(written(Series.of(), folder))),
}


@pytest.mark.parametrize("case", SERIES)
def test_the_order_of_the_frames_is_nothing(case: str, tmp_path: Path) -> None:
    frames = SERIES[case](tmp_path)
    outcome: Any = refusal if case == "uneven" else stack
    given = outcome(frames)
    for seed in range(10):
        random.Random(seed).shuffle(frames)
        again = outcome(frames)
        assert again == given if case == "uneven" else equal(again, given)


def order_of(frame: Frame, **told: float | None) -> Frame:
    given = [told.get(name, moment) for name, moment in zip(ORDERS, frame.order, strict=True)]
    return replace(frame, order=tuple(given))


@pytest.mark.parametrize("name", ORDERS)
def test_volumes_follow_each_other_by_what_is_told(name: str, tmp_path: Path) -> None:
    series = Series.of(3)
    none = dict.fromkeys(ORDERS)
    frames = [
        order_of(frame, **none | {name: 30.0 + number // 4})
        for number, frame in enumerate(written(series, tmp_path))
    ]
    [volume] = stack(frames)
    assert volume.order == name
    assert np.array_equal(volume.array, series.stored.transpose(3, 2, 1, 0))


def test_an_order_that_does_not_hold_gives_way_to_the_next(tmp_path: Path) -> None:
    series = Series.of(2)
    frames = [
        # numbered by place, forwards at one place and backwards at the next
        order_of(frame, InstanceNumber=2 * (number % 4) + (number // 4 + number) % 2)
        for number, frame in enumerate(written(series, tmp_path))
    ]
    [volume] = stack(frames)
    assert volume.order == "AcquisitionTime"
    assert np.array_equal(volume.array, series.stored.transpose(3, 2, 1, 0))


def without(*numbers: int) -> Change:
    return lambda frames: [each for number, each in enumerate(frames) if number not in numbers]


def one(number: int, **change: Any) -> Change:
    """Change one frame; what is changed by a function of it is told so."""

    def apply(frames: list[Frame]) -> list[Frame]:
        frame = frames[number]
        given = {key: new(frame) if callable(new) else new for key, new in change.items()}
        return [*frames[:number], replace(frame, **given), *frames[number + 1 :]]

    return apply


def shifted(*mm: float) -> Callable[[Frame], Any]:
    return lambda frame: frame.corner + mm


def twice(number: int) -> Change:
    def apply(frames: list[Frame]) -> list[Frame]:
        return [*frames, numbered(frames[number], 100, path="again.dcm")]

    return apply


def late(number: int) -> Change:
    """One image of the first volume was taken after that of the second."""
    return one(number, order=lambda frame: order_of(frame, AcquisitionTime=40000.0).order)


IRREGULAR: dict[str, tuple[int, Change, str]] = {
    "none": (1, lambda frames: [], "there are none"),
    "two series": (1, one(0, series="1.2.3"), "of several series"),
    "slice missing": (1, without(1), "slices are 3 to 6 mm apart"),
    "slice missing in all volumes": (2, without(1, 5), "slices are 3 to 6 mm apart"),
    "slice missing in a volume": (3, without(5), "2 at one place and 3 at another"),
    "last slice missing in a volume": (3, without(11), "2 at one place and 3 at another"),
    "volume missing": (3, without(4, 5, 6, 7), "InstanceNumber has gaps"),
    "gap": (1, one(3, corner=shifted(0, 0, 1)), "slices are 3 to 4 mm apart"),
    "aside": (1, one(2, corner=shifted(0.1, 0, 0)), "slices are not in one line"),
    "hardly uneven": (1, one(2, corner=shifted(0, 0, 0.09)), "slices are 2.91 to 3.09 mm apart"),
    "slice twice": (1, twice(1), "1 at one place and 2 at another"),
    "slice of a volume twice": (2, twice(1), "2 at one place and 3 at another"),
    "all twice": (
        1,
        lambda frames: [*frames, *(replace(frame, path=f"x{frame.path}") for frame in frames)],
        "no element tells their order",
    ),
    "order unknown": (
        2,
        lambda frames: [replace(frame, order=(None,) * 4) for frame in frames],
        "no element tells their order",
    ),
    "order of one unknown": (
        2,
        one(3, order=(None,) * 4),
        "no element tells their order",
    ),
    "orders that contradict": (2, late(2), "was taken before the volume before it"),
    "another size": (1, one(1, stored=np.zeros((5, 7))), "some have 6 x 5 pixels, others 7 x 5"),
    "other pixels": (1, one(1, across=lambda frame: frame.across * 1.1), "pixels differ in size"),
    "turned": (1, one(1, down=lambda frame: -frame.down), "slices are 3 to 6 mm apart"),
    "no plane": (1, one(1, down=lambda frame: frame.across), "make no plane"),
    "no length": (1, one(1, across=lambda frame: frame.across * 0), "make no plane"),
    "a line": (1, one(1, stored=np.zeros((1, 6))), "make no plane"),
    "nowhere": (1, one(1, corner=shifted(0, np.nan, 0)), "no number"),
    "slope of nothing": (1, one(1, slope=0.0), "slope and intercept"),
    "endless intercept": (1, one(1, intercept=np.inf), "slope and intercept"),
}


@pytest.mark.parametrize("case", IRREGULAR)
def test_what_is_irregular_is_refused(case: str, tmp_path: Path) -> None:
    volumes, change, reason = IRREGULAR[case]
    frames = written(Series.of(volumes), tmp_path)
    stack(frames)
    assert reason in refusal(list(change(frames)))


def test_a_lost_image_of_a_localizer_is_missed(tmp_path: Path) -> None:
    frames = localizer(tmp_path)
    del frames[4]  # what is left of its plane is as even as before
    assert "InstanceNumber has gaps" in refusal(frames)


def test_the_same_arrangement_is_tried_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def refuse(*given: object) -> None:
        tried.append(given)
        raise Mismatch("a.nii", "it is not right")

    monkeypatch.setattr(module, "check", refuse)
    # InstanceNumber and AcquisitionTime tell the same
    assert refusal(written(Series.of(2), tmp_path)) == "it is not right"
    assert len(tried) == 1


def test_what_is_within_the_tolerance_is_regular(tmp_path: Path) -> None:
    frames = written(Series.of(2), tmp_path)
    stack(list(one(2, corner=shifted(0.01, -0.01, 0.01))(frames)))


def test_a_refusal_is_one_sentence_and_survives(tmp_path: Path) -> None:
    error = NotRegular("slices are 3 to 6 mm apart")
    assert str(pickle.loads(pickle.dumps(error))) == (
        "the images of the series do not make a regular grid: slices are 3 to 6 mm apart;"
        " convert them with icf convert, or read them one by one"
    )


def test_values_are_those_stored_without_a_scale(tmp_path: Path) -> None:
    frames = written(Series.of(), tmp_path)
    for kind in (np.uint8, np.int16, np.uint16, np.int32):
        [volume] = stack([replace(frame, stored=frame.stored.astype(kind)) for frame in frames])
        assert volume.array.dtype == kind
    # one that has a sign among those that have none
    mixed = [replace(frame, stored=frame.stored.astype(np.uint16)) for frame in frames[1:]]
    [volume] = stack([replace(frames[0], stored=-frames[0].stored), *mixed])
    assert volume.array.dtype == np.int32
    assert np.array_equal(volume.array[..., 0], -frames[0].stored.T)


def test_each_image_has_a_slope_of_its_own(tmp_path: Path) -> None:
    frames = written(Series.of(2), tmp_path)
    pet = [replace(frame, slope=0.37 + number / 7) for number, frame in enumerate(frames)]
    # as it stands among others: a slope of 1
    pet[5] = replace(pet[5], slope=1.0)
    [volume] = stack(pet)
    assert volume.array.dtype == np.float32
    for number, frame in enumerate(pet):
        real = frame.stored.astype(float) * frame.slope
        made = volume.array[:, :, number % 4, number // 4]
        assert np.array_equal(made, real.T.astype(np.float32))
        assert np.array_equal(np.rint(made / frame.slope), frame.stored.T)


@pytest.mark.parametrize(
    ("slope", "intercept", "kind"),
    [
        (2.5, -3.0, np.float32),
        (-1.0, 4095.0, np.float32),
        (1.0, -1024.0, np.float32),
        (1e-9, 0.0, np.float32),
        (0.001, 1e5, np.float64),  # 32 bit are 0.008 apart there
        (1e-50, 0.0, np.float64),
        (1e38, 0.0, np.float64),
    ],
)
def test_real_values_have_the_bits_they_need(
    slope: float, intercept: float, kind: Any, tmp_path: Path
) -> None:
    frames = [
        replace(frame, slope=slope, intercept=intercept) for frame in written(Series.of(), tmp_path)
    ]
    [volume] = stack(frames)
    assert volume.array.dtype == kind
    stored = np.stack([frame.stored.T for frame in frames], 2)
    told = np.rint((volume.array.astype(np.float64) - intercept) / slope)
    assert np.array_equal(told, stored)


def test_one_image_that_needs_64_bit_is_enough(tmp_path: Path) -> None:
    frames = [replace(frame, slope=0.5) for frame in written(Series.of(), tmp_path)]
    frames[2] = replace(frames[2], intercept=1e8)
    [volume] = stack(frames)
    assert volume.array.dtype == np.float64
    assert np.array_equal(volume.array[..., 2], frames[2].stored.T * 0.5 + 1e8)


def test_numbers_of_32_bit_keep_all_of_them(tmp_path: Path) -> None:
    frames = written(Series.of(), tmp_path)
    large = [
        replace(frame, stored=frame.stored.astype(np.int32) + 2**30, slope=0.5) for frame in frames
    ]
    [volume] = stack(large)
    assert volume.array.dtype == np.float64
    assert np.array_equal(volume.array[..., 1], large[1].stored.T * 0.5)


def fill_wrongly(change: Callable[[Any], Any]) -> Callable[..., None]:
    right = module._fill

    def fill(array: Any, *given: Any) -> None:
        right(array, *given)
        array[...] = change(array)

    return fill


def touched(array: Any) -> Any:
    """The least change of one number."""
    result = array.copy()
    result[0, 0, 0, 0] = np.nextafter(result[0, 0, 0, 0], np.inf, dtype=result.dtype)
    return result


@pytest.mark.parametrize("scale", [None, (0.5, 0.0)])
@pytest.mark.parametrize(
    "change",
    [lambda array: array[::-1], lambda array: array[:, :, ::-1], lambda array: array[..., ::-1]],
)
def test_what_the_plane_check_does_not_pass_is_never_returned(
    change: Callable[[Any], Any],
    scale: tuple[float, float] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frames = written(Series.of(2, scale=scale), tmp_path)
    stack(frames)
    monkeypatch.setattr(module, "_fill", fill_wrongly(change))
    with pytest.raises(NotRegular) as caught:
        stack(frames)
    assert isinstance(caught.value.__cause__, Mismatch)


def test_real_values_are_proved_to_the_last_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = written(Series.of(2, scale=(0.5, 0.0)), tmp_path)
    monkeypatch.setattr(module, "_fill", fill_wrongly(touched))
    assert refusal(frames) == "plane 1 of volume 1 has not the values of its image"


@pytest.mark.parametrize("scale", [(1.0, 0.0), (0.5, 1.0)])
def test_it_holds_no_more_than_the_frames_and_the_result(
    scale: tuple[float, float], tmp_path: Path
) -> None:
    stored = np.random.default_rng(4711).integers(0, 4000, (160, 128, 128), dtype=np.int16)
    [frame, *_] = written(Series.of(), tmp_path)
    frames = [
        replace(
            frame, path=str(number), stored=plane, slope=scale[0], intercept=scale[1],
            corner=frame.corner + [0, 0, number % 40], order=(float(number), None, None, None),
            acquisition="",
        )
        for number, plane in enumerate(stored)
    ]  # fmt: skip
    tracemalloc.start()
    [volume] = stack(frames)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert volume.array.shape == (128, 128, 40, 4)
    assert most < 1.3 * volume.array.nbytes
