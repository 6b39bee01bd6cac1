"""b-values and b-vectors: one for each volume, of length 1."""

import pytest

from icf_tools.derive.gradients import check_gradients
from icf_tools.derive.volumes import Mismatch


@pytest.mark.parametrize(
    ("values", "vectors"),
    [
        ("0 1000", "0 1\n0 0\n0 0\n"),
        ("0 1000\n", "0 0.6\n0 0.8\n1 0"),
        ("5 1000", "0 -0.577\n0 0.577\n0 0.577\n"),
    ],
)
def test_right(values: str, vectors: str) -> None:
    check_gradients("out.nii", values, vectors, 2)


@pytest.mark.parametrize(
    ("values", "vectors", "said"),
    [
        ("0 1000", "0 1 0\n0 0 0\n0 0 0\n", "has not a b-value and a b-vector for each"),
        ("0 1000 1000", "0 1\n0 0\n0 0\n", "has not a b-value and a b-vector for each"),
        ("0", "0\n0\n0\n", "has not a b-value and a b-vector for each"),
        ("0 1000", "", "has not a b-value and a b-vector for each"),
        ("", "0 1\n0 0\n0 0\n", "has not a b-value and a b-vector for each"),
        ("0 1000", "0 1\n0 0\n", "has not a b-value and a b-vector for each"),
        ("0 1000", "0 1\n0\n0 0\n", "are no numbers"),
        ("0 b", "0 1\n0 0\n0 0\n", "are no numbers"),
        ("0 1000", "0 0.9\n0 0\n0 0\n", "does not have the length 1"),
        ("0 1000", "0 0\n0 0\n0 0\n", "does not have the length 1"),
        ("0 1000", "0.5 1\n0 0\n0 0\n", "does not have the length 1"),
        ("0 1000", "nan 1\n0 0\n0 0\n", "does not have the length 1"),
        ("0 inf", "0 1\n0 0\n0 0\n", "a b-value is none"),
        ("0 -1", "0 1\n0 0\n0 0\n", "a b-value is none"),
    ],
)
def test_wrong(values: str, vectors: str, said: str) -> None:
    with pytest.raises(Mismatch, match=said):
        check_gradients("out.nii", values, vectors, 2)
