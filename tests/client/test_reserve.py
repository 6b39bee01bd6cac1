"""Tests of the room that a clone leaves on its disk."""

import pytest

from icf_tools.client.reserve import reserve


@pytest.mark.parametrize(
    ("setting", "size"),
    [
        ("0", 0),
        ("12345", 12345),
        ("10 b", 10),
        ("1 byte", 1),
        ("3k", 3_000),
        ("3 kB", 3_000),
        ("1kilobyte", 1_000),
        ("100 megabytes", 100_000_000),
        ("0.5gb", 500_000_000),
        ("2 Gigabytes", 2_000_000_000),
        ("2 GiB", 2 << 30),
        ("1 mebibyte", 1 << 20),
        ("1.5 tebibytes", 3 << 39),
        ("1 tb or so", 10**12),
    ],
)
def test_units_are_those_of_git_annex(setting: str, size: int) -> None:
    assert reserve(setting) == size


@pytest.mark.parametrize("setting", [None, "", "much", "10 apples", "10apples", "-1 gb", "gb"])
def test_what_is_none_is_not_given(setting: str | None) -> None:
    assert reserve(setting) == 100_000_000
