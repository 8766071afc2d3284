"""Describes where the print on a page is, and recognises a page that lies beside its code.

If all codes of a page are covered, and the right edge of another sheet shows beside it with both of
its codes, everything about these codes is right: they agree, and their places are those of a form.
Only the page left of them is another one: its print is further left than on the other sheet. So the
place of print is described for every page on which both copies of its karekod were read, the usual
place is learned for each contest and sheet type (publisher/catalog/print_maps), and a page whose
print fits better at another place than at its own is not filed.

The middles of the two copies say how the page is turned and how large it is; a width is a twentieth
of their distance, about 13 mm. A print map has a cell for each square of a quarter of a width, from
17 widths left of the upper copy to 4 right of it, and from 4 above it to 24 below. A cell has one
of four levels: less than 2 %, 8 % or 20 % of it is print, or more. As bytes, a print map has four
cells a byte, row by row, the first in the highest bits.

Likeness is the correlation of a print map with the mean of others, without the columns at the right
in which the other sheet would show. Of 10,000 pages of tests/damaged_pages.py, the likeness at the
own place was higher by 0.19 or more than at any other; that of a page beside the code was higher by
0.04 at most.
"""

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

ROWS, COLUMNS = 112, 84
SIZE = ROWS * COLUMNS // 4  # bytes
_CELL = 0.25  # widths
_LEFT, _UP = 17.0, 4.0  # widths from the upper copy to the first column and row
_LEVELS = (0.02, 0.08, 0.2)
_COMPARED = 60  # columns: up to two widths left of the codes
_NEAR = range(-2, 3)  # cells by which a page may be shifted and be at its own place
_ASIDE, _DOWN = range(-24, -5), range(-16, 17)  # cells by which a page beside the code is shifted
_SURELY_HERE = 0.8
_LEAST_ELSEWHERE, _LESS_LIKELY = 0.4, 0.12

Array = npt.NDArray[Any]


def print_map_of(across: Array, down: Array, width: float) -> bytes:
    """Return the print_map of pixels that are print, in widths from the upper copy.

    A width has `width` pixels.
    """
    rows = np.floor((down + _UP) / _CELL).astype(np.intp)
    columns = np.floor((across + _LEFT) / _CELL).astype(np.intp)
    inside = (rows >= 0) & (rows < ROWS) & (columns >= 0) & (columns < COLUMNS)
    cells = rows[inside] * COLUMNS + columns[inside]
    shares = np.bincount(cells, minlength=ROWS * COLUMNS) / (width * _CELL) ** 2
    levels = np.digitize(shares, _LEVELS).astype(np.uint8).reshape(-1, 4)
    packed: Array = (levels << np.array((6, 4, 2, 0), np.uint8)).sum(1, dtype=np.uint8)
    return packed.tobytes()


def cells_of(print_map: bytes) -> Array:
    """Return the levels of the cells of a print map."""
    packed = np.frombuffer(print_map, np.uint8)
    levels: Array = packed[:, None] >> np.array((6, 4, 2, 0), np.uint8) & 3
    return levels.reshape(ROWS, COLUMNS)


class UsualPrint:
    """The mean of the print maps of a number of pages."""

    def __init__(self, pages: int, sums: Array) -> None:
        """`sums` has the sum of the levels of each cell."""
        self.pages = pages
        self.sums = sums

    def plus(self, print_map: bytes) -> "UsualPrint":
        """Return the mean with one more page."""
        return UsualPrint(self.pages + 1, self.sums + cells_of(print_map))

    @cached_property
    def _here(self) -> Array:
        return self._shifted([(0, 0)])

    def likeness_here(self, print_map: bytes) -> float:
        """Return the likeness of a page at its own place, which need not be exact."""
        found = float(_likeness(print_map, self._here)[0])
        if found >= _SURELY_HERE:
            return found
        near = [(down, across) for down in _NEAR for across in _NEAR]
        return float(_likeness(print_map, self._shifted(near)).max())

    def likeness_elsewhere(self, print_map: bytes) -> float:
        """Return the highest likeness of a page that lies left of the code."""
        return max(
            float(_likeness(print_map, self._shifted([(down, across) for down in _DOWN])).max())
            for across in _ASIDE
        )

    def _shifted(self, shifts: list[tuple[int, int]]) -> Array:
        """Return a normalized row of cells for each shift down and across."""
        far = -_ASIDE.start
        wide = np.pad(self.sums.astype(np.float32), far)
        parts = [
            wide[far - down : far - down + ROWS, far - across : far - across + _COMPARED]
            for down, across in shifts
        ]
        return _normalized(np.stack(parts).reshape(len(parts), -1))


def is_beside_its_code(
    print_map: bytes, usual: UsualPrint, every_usual: Iterable[UsualPrint]
) -> bool:
    """Return whether a page may be one that lies beside the sheet of its code.

    `usual` is that of the sheet of the code, `every_usual` are those of all that it may be.
    """
    here = usual.likeness_here(print_map)
    if here >= _SURELY_HERE:
        return False
    limit = max(_LEAST_ELSEWHERE, here - _LESS_LIKELY)
    return any(one.likeness_elsewhere(print_map) >= limit for one in every_usual)


def _likeness(print_map: bytes, rows: Array) -> Array:
    cells = cells_of(print_map)[:, :_COMPARED].astype(np.float32).reshape(1, -1)
    found: Array = rows @ _normalized(cells)[0]
    return found


def _normalized(rows: Array) -> Array:
    apart = rows - rows.mean(1, keepdims=True)
    found: Array = apart / (np.linalg.norm(apart, axis=1, keepdims=True) + 1e-9)
    return found
