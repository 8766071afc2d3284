import io

import damaged_pages
import numpy as np
import pytest
from PIL import Image

from publisher.print_map import (
    COLUMNS,
    ROWS,
    SIZE,
    UsualPrint,
    cells_of,
    is_beside_its_code,
    print_map_of,
)
from publisher.reading.worker import read_file
from scripts.rehearsal.synthetic.sheets import KAREKOD_POSITIONS

NOTHING = UsualPrint(0, np.zeros((ROWS, COLUMNS)))


def mapped(*squares: tuple[float, float, float, float]) -> bytes:
    """Return the map of a page with black squares: left, top, right and bottom, in widths."""
    ys, xs = np.mgrid[-4:24:0.05, -17:4:0.05]
    black = np.zeros(xs.shape, bool)
    for left, top, right, bottom in squares:
        black |= (xs >= left) & (xs < right) & (ys >= top) & (ys < bottom)
    return print_map_of(xs[black], ys[black], 20)


FORM = (
    (-13, 1, -9, 1.5),
    (-13, 3, 0, 3.3),
    (-13, 5, -12.5, 18),
    (-3, 5, -2.5, 18),
    (-9, 20, -7, 21),
)


def beside(aside: float, down: float = 0) -> bytes:
    return mapped(*((a - aside, b + down, c - aside, d + down) for a, b, c, d in FORM))


def test_a_map_has_a_level_for_each_cell() -> None:
    plain = mapped((-17, -4, -16.75, -3.75), (3.75, 23.75, 3.8, 24))

    assert len(plain) == SIZE
    cells = cells_of(plain)
    assert cells.shape == (ROWS, COLUMNS)
    assert (cells[0, 0], cells[0, 1], cells[-1, -1]) == (3, 0, 3)
    assert int(cells.sum()) == 6
    assert print_map_of(np.array([-20.0, 9.0]), np.array([0.0, 0.0]), 20) == bytes(SIZE)


@pytest.mark.parametrize(("aside", "down"), [(2, 0), (3.4, 0), (2.5, 2), (3, -2)])
def test_a_page_left_of_its_place_is_beside_its_code(aside: float, down: float) -> None:
    usual = NOTHING.plus(mapped(*FORM)).plus(mapped(*FORM[:-1]))

    assert is_beside_its_code(beside(aside, down), usual, [usual])
    assert not is_beside_its_code(beside(0.3, 0.3), usual, [usual]), "a scan is never exact"
    assert not is_beside_its_code(mapped(*FORM[2:4]), usual, [usual]), "most of it is too faint"


def test_a_page_of_another_kind_is_recognised_beside_the_code() -> None:
    usual = NOTHING.plus(mapped((-13, 1, 0, 8)))
    other = NOTHING.plus(mapped(*FORM))

    assert is_beside_its_code(beside(3), usual, [usual, other])
    assert not is_beside_its_code(beside(3), usual, [usual]), "nothing says what it is"
    assert not is_beside_its_code(beside(0), usual, [usual, other]), "it lies where its code is"


@pytest.mark.parametrize("form", [0, 2, 10])
def test_a_page_with_covered_codes_is_told_from_the_sheet_whose_edge_shows(form: int) -> None:
    """Codes and places are right, and the picture is as wide as one sheet: only print tells it."""
    first = 1093717524 // damaged_pages.FORMS * damaged_pages.FORMS + form
    strip = damaged_pages.px(32)
    page = damaged_pages.printed(str(first))
    other = damaged_pages.printed(str(first + damaged_pages.FORMS))
    for left, top in KAREKOD_POSITIONS:
        x, y = damaged_pages.px(left), damaged_pages.px(top)
        page.paste(255, (x - 30, y - 30, x + 140, y + 160))
    cut = page.crop((strip, 0, *page.size))
    beside_it = other.copy()
    beside_it.paste(cut, (0, 0))
    usual = NOTHING.plus(read(other)[1])

    text, found = read(beside_it)

    assert text == str(first + damaged_pages.FORMS)
    assert is_beside_its_code(found, usual, [usual])


def read(image: Image.Image) -> tuple[str, bytes]:
    file = io.BytesIO()
    image.save(file, "PNG")
    seen = read_file(file.getvalue())
    assert seen.fault is None
    assert seen.print_map
    (text,) = seen.texts
    return text, seen.print_map


@pytest.mark.slow
def test_a_damaged_page_is_at_its_own_place() -> None:
    content, karekod = damaged_pages.page(damaged_pages.KINDS[0], 0, 1)
    assert karekod
    image = Image.open(io.BytesIO(content))
    usual = NOTHING.plus(read(image)[1])

    for turn in (90, 180):
        text, found = read(image.rotate(turn, expand=True))
        assert text == karekod
        assert usual.likeness_here(found) > 0.8
        assert not is_beside_its_code(found, usual, [usual])
