"""Boxes as a table shows them, their sum, and the order of a table's rows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

import numpy as np
import numpy.typing as npt

from config.result import NUMBER_COLUMNS
from config.sheet import SandikTuru, Secim
from portal.data.numbers.boxes import KINDS, Boxes, BoxPlace
from portal.data.numbers.columns import FIRST_OPTION, Columns
from portal.data.numbers.sums import Selection, Sum

PLACE_ORDER, BOX_NUMBER, MAHALLE, KIND, TURNOUT = "yer", "sandik", "mahalle", "tur", "katilim"
VERSION, TIME, VOTE = "surum", "zaman", "oylar."
SORTS = (PLACE_ORDER, BOX_NUMBER, MAHALLE, KIND, VERSION, TIME, TURNOUT, *NUMBER_COLUMNS)
_ROWS_AT_A_TIME = 256


@dataclass(frozen=True, slots=True)
class BoxRow:
    """A box as a table shows it; without a result `version` is 0 and it has no numbers."""

    place: BoxPlace
    kind: SandikTuru
    mahalle: str
    version: int
    reason: str
    time: datetime | None
    numbers: Mapping[str, int | None]
    votes: Mapping[str, int]  # by option; one that the board did not state is left out
    sheets: int  # scanned pages of the result sheet
    count_sheets: int  # scanned pages of the counting sheet


@dataclass(frozen=True)
class Summary:
    """The summary of a search: how many of its boxes have a result, and their sum."""

    boxes: int
    opened: int
    registered_opened: int
    total: Sum


@dataclass(frozen=True)
class Table:
    """A part of the boxes of a search; `count` is how many there are in all."""

    rows: tuple[BoxRow, ...]
    count: int
    total: Sum


@dataclass(frozen=True, slots=True)
class Gap:
    """A box that has no result or no sheet, and the recorded reason where there is one."""

    row: BoxRow
    secim: Secim
    reason: str
    why: str


def in_order(
    boxes: Boxes,
    columns: Columns | None,
    rows: Selection,
    sort: str,
    descending: bool,
    offset: int,
    limit: int,
) -> Selection:
    """Return a part of the rows in an order: one of SORTS or `oylar.<option>`, else ValueError.

    Rows that lack the number come last.
    """
    if sort == PLACE_ORDER:
        ordered = rows[::-1] if descending else rows
        return ordered[offset : offset + limit]
    if columns is None or not len(rows):
        if sort not in SORTS and not sort.startswith(VOTE):
            raise ValueError(sort)
        return rows
    values, stated = _sort_values(boxes, columns, rows, sort)
    keys = -values if descending else values
    keys = np.where(stated, keys, np.inf)
    end = min(offset + limit, len(rows))
    if end < len(rows) // 4:
        # Only the first rows are shown: find where they end, and sort no more than those.
        threshold = np.partition(keys, end)[end]
        near = np.flatnonzero(keys <= threshold)
    else:
        near = np.arange(len(rows))
    order = near[np.argsort(keys[near], kind="stable")]
    return rows[order[offset:end]]


def _sort_values(
    boxes: Boxes, columns: Columns, rows: Selection, sort: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    opened = columns.version[rows] > 0
    everywhere = np.ones(len(rows), dtype=np.bool_)
    if sort == BOX_NUMBER:
        return boxes.number_rank[rows].astype(np.float64), everywhere
    if sort == MAHALLE:
        return boxes.mahalle[rows].astype(np.float64), everywhere
    if sort == KIND:
        return boxes.kind[rows].astype(np.float64), everywhere
    if sort == VERSION:
        return columns.version[rows].astype(np.float64), opened
    if sort == TIME:
        return columns.time[rows].astype(np.float64), opened
    if sort == TURNOUT:
        registered = columns.numbers[NUMBER_COLUMNS.index("secmen")][rows]
        voted = columns.numbers[NUMBER_COLUMNS.index("oy_kullanan")][rows]
        known = registered > 0
        return voted / np.where(known, registered, 1), known
    if sort in NUMBER_COLUMNS:
        index = NUMBER_COLUMNS.index(sort)
        return columns.numbers[index][rows].astype(np.float64), columns.stated.column(index, rows)
    return _vote_values(boxes, columns, rows, sort)


def _vote_values(
    boxes: Boxes, columns: Columns, rows: Selection, sort: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    option, layout = sort.removeprefix(VOTE), columns.layout
    if sort.startswith(VOTE) and option in layout.common:
        index = FIRST_OPTION + layout.common.index(option)
        return columns.numbers[index][rows].astype(np.float64), columns.stated.column(index, rows)
    values, stated = np.zeros(len(rows)), np.zeros(len(rows), dtype=np.bool_)
    owners = {d: own.index(option) for d, own in layout.own.items() if option in own}
    if not sort.startswith(VOTE) or not owners:
        raise ValueError(sort)
    for district, slot in owners.items():
        first, end = boxes.rows_of(district)
        here = (rows >= first) & (rows < end)
        index = FIRST_OPTION + len(layout.common) + slot
        values[here] = columns.numbers[index][rows[here]]
        stated[here] = columns.stated.column(index, rows[here])
    return values, stated


def box_rows(
    boxes: Boxes,
    columns: Columns,
    pages: Sequence[npt.NDArray[np.uint8] | None],
    rows: Iterable[int],
) -> Iterator[BoxRow]:
    """Yield the boxes of some rows; `pages` has the scanned pages by row, for each of BOX_FORMS."""
    listed = iter(rows)
    # Several rows at a time: taking one out of a column costs much more than adding one.
    while part := [int(row) for row in islice(listed, _ROWS_AT_A_TIME)]:
        numbers = columns.numbers[:, part].T.tolist()
        stated = columns.stated.of_rows(part)
        shown = [[0] * len(part) if n is None else n[part].tolist() for n in pages]
        for row, values, has, *sheets in zip(part, numbers, stated, *shown, strict=True):
            district, board = boxes.boards[boxes.board[row]]
            version = int(columns.version[row])
            votes = zip(
                columns.layout.options(district),
                values[FIRST_OPTION:],
                has[FIRST_OPTION:],
                strict=False,
            )
            yield BoxRow(
                BoxPlace(district, board, boxes.numbers[row]),
                KINDS[boxes.kind[row]],
                boxes.mahalles[boxes.mahalle[row]],
                version,
                columns.reasons.get(row, ""),
                datetime.fromtimestamp(int(columns.time[row]), UTC) if version else None,
                {
                    name: value if known else None
                    for name, value, known in zip(NUMBER_COLUMNS, values, has, strict=False)
                },
                {option: value for option, value, known in votes if known},
                *sheets,
            )
