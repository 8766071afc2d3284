import math

import pytest

from publisher.reading.codes.placing import Placed, are_in_place, are_two_copies

A4 = (1654, 2339)  # pixels at 200 dpi


def code(x: float, y: float, turn: float = 0, width: float = 102) -> Placed:
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    half = width / 2
    corners = [
        (x + half * (a * cos - d * sin), y + half * (a * sin + d * cos))
        for a, d in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    found = Placed.of(corners)
    assert found
    return found


def test_a_code_is_measured_along_its_own_sides() -> None:
    found = code(500, 400, 90)

    assert (round(found.x), round(found.y), round(found.width)) == (500, 400, 102)
    assert [round(part) for part in (*found.right, *found.down)] == [0, 1, -1, 0]
    assert Placed.of(()) is None
    assert Placed.of(((1, 1),) * 4) is None


@pytest.mark.parametrize(
    ("other", "two"),
    [
        (code(1524, 2146), True),
        (code(1640, 2146), True),  # a picture taken at an angle
        (code(1524, 1400), True),  # a form with the lower copy higher up
        (code(1524, 900), False),  # less than half of the page below
        (code(1100, 2146), False),  # beside the column
        (code(1524, 2146, 180), False),  # upside down
        (code(1524, 2146, width=160), False),  # larger
    ],
)
def test_two_codes_are_two_copies_where_a_form_has_them(other: Placed, two: bool) -> None:
    assert are_two_copies(code(1524, 122), other) is two
    assert are_two_copies(other, code(1524, 122)) is two


@pytest.mark.parametrize("turn", [0, 90, 180, 270, 4, 86])
def test_the_two_copies_are_recognised_on_a_page_in_any_turn(turn: float) -> None:
    far = 2024
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))

    assert are_two_copies(code(3000, 3000, turn), code(3000 - far * sin, 3000 + far * cos, turn))


@pytest.mark.parametrize(
    ("single", "in_place"),
    [
        (code(1524, 122), True),
        (code(1524, 2146), True),
        (code(130, 122), False),  # the left edge of a neighbour
        (code(1000, 1170), True),  # a sheet on a larger glass
        (code(122, 300, 90), False),  # sideways, without room to the left of the code
        (code(130, 2217, 180), True),  # upside down
    ],
)
def test_a_single_code_needs_the_room_of_a_form_to_its_left_and_above_or_below(
    single: Placed, in_place: bool
) -> None:
    assert are_in_place([single], A4) is in_place
