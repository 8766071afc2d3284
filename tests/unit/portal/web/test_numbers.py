"""How pages show numbers."""

import pytest

from portal.web.numbers import percent


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [
        (0, 201_384, "%0,00"),
        (1, 3, "%33,33"),
        (2, 3, "%66,67"),
        (201_383, 201_384, "%99,99"),
        (201_384, 201_384, "%100,00"),
        (2_345, 100, "%2.345,00"),
        (1, 0, "–"),
    ],
)
def test_a_share_has_two_decimals_and_only_all_is_a_hundred(
    part: int, whole: int, shown: str
) -> None:
    assert percent(part, whole) == shown
