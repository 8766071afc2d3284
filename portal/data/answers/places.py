"""Districts, boards and mahalles: which there are, and how much of each is here."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from config.sheet import SandikTuru, Secim
from portal.data.criteria import Area
from portal.data.numbers.boxes import Boxes
from portal.data.numbers.columns import Columns
from portal.data.numbers.sums import Selection


@dataclass(frozen=True)
class Choices:
    """What can still be chosen, each list within what was chosen before it."""

    contests: tuple[Secim, ...]
    areas: tuple[Area, ...]
    kinds: tuple[SandikTuru, ...]
    districts: tuple[str, ...]
    boards: tuple[str, ...]  # of the chosen district
    mahalles: tuple[str, ...]  # of the chosen board
    first: str | None  # the first and last box number of what is chosen
    last: str | None


@dataclass(frozen=True, slots=True)
class CoverageLine:
    """How much of a place is here: boxes, those with a result, those with a scanned sheet."""

    cevre: str
    kurul: str | None
    boxes: int
    opened: int
    sheets: int


@dataclass(frozen=True, slots=True)
class MahalleLine:
    """A mahalle or village of a board: its number, and its first and last box."""

    cevre: str
    kurul: str
    name: str
    number: int
    first: str
    last: str


def mahalle_lines(boxes: Boxes, rows: Selection) -> list[MahalleLine]:
    """Return the mahalles of some rows, in the order of places."""
    if not len(rows):
        return []
    pairs = boxes.board[rows].astype(np.int64) << 32 | boxes.mahalle[rows]
    order = np.argsort(pairs, kind="stable")
    ordered = pairs[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    ends = np.append(starts[1:], len(rows)) - 1
    found = []
    for first, last in zip(starts.tolist(), ends.tolist(), strict=True):
        # Rows of one board are in the order of box numbers.
        row, end = int(rows[order[first]]), int(rows[order[last]])
        place = boxes.place(row)
        name = boxes.mahalles[boxes.mahalle[row]]
        number = boxes.mahalle_numbers[f"{place.cevre}/{place.kurul}/{name}"]
        found.append(
            MahalleLine(place.cevre, place.kurul, name, number, place.sandik, boxes.numbers[end])
        )
    return found


def coverage_lines(
    boxes: Boxes,
    columns: Columns,
    pages: npt.NDArray[np.uint8] | None,
    rows: Selection,
    *,
    by_board: bool,
) -> tuple[CoverageLine, ...]:
    """Return how much of each district of some rows is here, or of each board.

    `pages` has the number of scanned pages of the result sheet.
    """
    size, boards = len(boxes.boards), boxes.board[rows]
    has_sheet = np.zeros(len(rows), np.bool_) if pages is None else pages[rows] > 0
    expected = np.bincount(boards, minlength=size)
    opened = np.bincount(boards[columns.version[rows] > 0], minlength=size)
    scanned = np.bincount(boards[has_sheet], minlength=size)
    found: dict[tuple[str, str | None], CoverageLine] = {}
    for board in np.flatnonzero(expected):
        district, name = boxes.boards[board]
        place = (district, name if by_board else None)
        before = found.get(place, CoverageLine(*place, 0, 0, 0))
        found[place] = CoverageLine(
            *place,
            before.boxes + int(expected[board]),
            before.opened + int(opened[board]),
            before.sheets + int(scanned[board]),
        )
    return tuple(found.values())
