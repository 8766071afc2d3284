"""What cells of several pages show."""

import pytest

from portal.party.cells import in_ballot_order
from portal.web.numbers import percent


def test_what_changed_is_in_the_order_of_the_form_and_then_of_the_ballot() -> None:
    changed = [
        ("secmen", 1, 2),
        ("gecerli", 1, 2),
        ("oylar.ortak-1", 1, 2),
        ("oylar.parti-1", 1, 2),
        ("oylar.parti-10", 1, 2),
        ("oylar.parti-2", 1, 2),
        ("oylar.silinen", 1, None),
    ]
    options = ("parti-1", "parti-2", "parti-10", "ortak-1")

    found = [name for name, *_ in in_ballot_order(changed, options)]

    assert found == [
        "secmen",
        "gecerli",
        "oylar.parti-1",
        "oylar.parti-2",
        "oylar.parti-10",
        "oylar.ortak-1",
        "oylar.silinen",
    ]


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
