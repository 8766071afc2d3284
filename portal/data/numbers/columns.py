"""The numbers of one contest in one snapshot, as columns: one row a box (boxes.py).

A column is a number of the form (`secmen`, ..., `gecersiz`) or the votes of an option. Options that
are on the ballot of every district come first. The options that only one district has, such as its
independents, share the columns after them: what such a column means depends on the district. So 150
independents in 40 districts need only as many columns as the longest ballot.

`read` loads a snapshot's Parquet file; `with_changes` applies the changes of the next snapshot and
costs a copy of the columns, not a new reading. Columns are never changed.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from config.ballot import EVERY_DISTRICT, Ballot, Option
from config.result import BOX_SHEET, NUMBER_COLUMNS
from config.sheet import Secim
from config.snapshot import VOTES
from portal.data.numbers.bits import BitColumns
from portal.data.numbers.boxes import Boxes, BoxPlace
from portal.data.numbers.parquet import TIME, VERSION, Places, open_columns

FIRST_OPTION = len(NUMBER_COLUMNS)
Numbers = npt.NDArray[np.uint16] | npt.NDArray[np.int32]
_MOST = np.iinfo(np.uint16).max


@dataclass(frozen=True)
class Layout:
    """Which option each column after FIRST_OPTION has."""

    common: tuple[str, ...]
    own: Mapping[str, tuple[str, ...]]  # by district

    @property
    def width(self) -> int:
        """The number of columns."""
        return FIRST_OPTION + len(self.common) + max(map(len, self.own.values()), default=0)

    def options(self, district: str) -> tuple[str, ...]:
        """Return the options of a district, in the order of their columns."""
        return self.common + self.own.get(district, ())

    def with_own(self, district: str, options: Iterable[str]) -> "Layout":
        """Return a layout in which a district has further options of its own."""
        own = self.own.get(district, ())
        new = tuple(o for o in options if o not in own and o not in self.common)
        return Layout(self.common, {**self.own, district: own + new}) if new else self


def common_options(ballot: Ballot, secim: Secim) -> tuple[Option, ...]:
    """Return what every district has on its ballot."""
    rows = (r.option for r in ballot.rows if r.secim is secim and r.cevre == EVERY_DISTRICT)
    return tuple(sorted(rows, key=lambda option: option.sira))


def ballot_layout(ballot: Ballot | None, secim: Secim) -> Layout:
    """Return the layout for a ballot; without one, every option is added when it is seen."""
    if ballot is None:
        return Layout((), {})
    common = tuple(option.id for option in common_options(ballot, secim))
    own = {
        district: tuple(o.id for o in ballot.options(secim, district) if o.id not in common)
        for district in ballot.districts(secim)
    }
    return Layout(common, own)


@dataclass(frozen=True)
class Columns:
    """The newest results of a contest. `stated` is False where a result does not have a number."""

    layout: Layout
    numbers: Numbers  # [column, row]; 0 where nothing is stated
    stated: BitColumns
    version: npt.NDArray[np.int32]  # by row; 0: no result yet
    time: npt.NDArray[np.uint32]  # seconds since 1970
    reasons: Mapping[int, str]  # by row, where there is one

    @property
    def opened(self) -> npt.NDArray[np.bool_]:
        """Whether each box has a result."""
        return self.version > 0


def empty(layout: Layout, boxes: int) -> Columns:
    """Return the columns before the first result."""
    return Columns(
        layout,
        np.zeros((layout.width, boxes), dtype=np.uint16),
        BitColumns.empty(layout.width, boxes),
        np.zeros(boxes, dtype=np.int32),
        np.zeros(boxes, dtype=np.uint32),
        {},
    )


def read(parquet: Path, boxes: Boxes, layout: Layout) -> Columns:
    """Read the box rows of a snapshot's Parquet file; a box that `boxes` lacks is left out.

    Raises OSError if it cannot be read.
    """
    with open_columns(parquet, layout.common) as reader:
        rows = _rows(reader.places(), boxes)
        known = rows >= 0
        rows = rows[known]
        own_votes: dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = {}
        for column in reader.columns(VOTES):
            option = column.name.removeprefix(VOTES)
            at = np.flatnonzero(column.stated[known])
            own_votes[option] = rows[at], column.values[known][at]
            for district, (first, end) in boxes.district_rows.items():
                if ((own_votes[option][0] >= first) & (own_votes[option][0] < end)).any():
                    layout = layout.with_own(district, [option])
        made = empty(layout, len(boxes))
        numbers = made.numbers
        names = [*NUMBER_COLUMNS, *(f"{VOTES}{option}" for option in layout.common)]
        for column in reader.columns():
            values = column.values[known]
            if column.name == VERSION:
                made.version[rows] = values
            elif column.name == TIME:
                made.time[rows] = values
            else:
                numbers = _fitting(numbers, values)
                index = names.index(column.name)
                numbers[index, rows] = values
                made.stated.set_column(index, rows, column.stated[known])
        for _, values in own_votes.values():
            numbers = _fitting(numbers, values)
        _place_own(layout, numbers, made.stated, boxes, own_votes)
        reasons = {
            row: reason
            for *place, reason in reader.reasons()
            if (row := boxes.row_of(BoxPlace(*place))) is not None
        }
    return Columns(layout, numbers, made.stated, made.version, made.time, reasons)


def _fitting(numbers: Numbers, values: npt.NDArray[np.int64] | list[int]) -> Numbers:
    """Return the numbers in a type that has room for `values` too.

    Hardly a box has a number above 65,535, which takes two bytes.
    """
    if numbers.dtype == np.uint16 and np.max(values, initial=0) > _MOST:
        return numbers.astype(np.int32)
    return numbers


def _place_own(
    layout: Layout,
    numbers: Numbers,
    stated: BitColumns,
    boxes: Boxes,
    own_votes: Mapping[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]],
) -> None:
    start = FIRST_OPTION + len(layout.common)
    for district, options in layout.own.items():
        first, end = boxes.rows_of(district)
        for slot, option in enumerate(options, start):
            if option in own_votes:
                rows, values = own_votes[option]
                here = (rows >= first) & (rows < end)
                numbers[slot, rows[here]] = values[here]
                stated.set_column(slot, rows[here], True)


def _rows(places: Places, boxes: Boxes) -> npt.NDArray[np.int64]:
    """Return the row of each line of the file, -1 for a box that is not in `boxes`."""
    found: list[npt.NDArray[np.int64]] = []
    for district, board, numbers in places:
        first, end = boxes.rows_of(district, board)
        ranks = np.array([boxes.ranks.get(number, -1) for number in numbers], dtype=np.int64)
        there = boxes.number_rank[first:end]
        at = np.searchsorted(there, ranks)
        right = at < len(there)
        right[right] = there[at[right]] == ranks[right]
        found.append(np.where(right, at + first, -1))
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def with_changes(before: Columns, changes: Iterable[Mapping[str, Any]], boxes: Boxes) -> Columns:
    """Return the columns after the changes of a snapshot (lines of `<secim>.changes.ndjson`)."""
    newest: dict[int, Mapping[str, Any]] = {}
    layout = before.layout
    for change in changes:
        if change["belge"] != BOX_SHEET.value:
            continue
        row = boxes.row_of(BoxPlace(change["cevre"], change["kurul"], change["sandik"]))
        if row is not None:
            newest[row] = change
            layout = layout.with_own(change["cevre"], change["yeni"]["oylar"])
    if not newest:
        return before
    changed = {
        row: values_of(change["yeni"], layout, change["cevre"]) for row, change in newest.items()
    }
    numbers = np.zeros((layout.width, len(boxes)), dtype=before.numbers.dtype)
    for values in changed.values():
        numbers = _fitting(numbers, [value or 0 for value in values])
    numbers[: before.layout.width] = before.numbers
    stated = before.stated.copy(layout.width)
    version, time = before.version.copy(), before.time.copy()
    reasons = dict(before.reasons)
    for row, change in newest.items():
        values = changed[row]
        numbers[:, row] = [value or 0 for value in values]
        stated.set_row(row, [value is not None for value in values])
        version[row] = change["surum"]
        time[row] = int(datetime.fromisoformat(change["zaman"]).timestamp())
        if change["neden"]:
            reasons[row] = change["neden"]
        else:
            reasons.pop(row, None)
    return Columns(layout, numbers, stated, version, time, reasons)


def values_of(stated: Mapping[str, Any], layout: Layout, district: str) -> list[int | None]:
    """Return the columns of one row; `stated` is `eski` or `yeni` of a change."""
    votes = stated["oylar"]
    values = [stated.get(name) for name in NUMBER_COLUMNS]
    values += [votes.get(option) for option in layout.options(district)]
    return values + [None] * (layout.width - len(values))


def read_changes(file: Path) -> Iterable[Mapping[str, Any]]:
    """Yield the changes of a changes file; none if the file is missing."""
    return map(json.loads, changes_lines(file))


def changes_lines(file: Path) -> Iterator[bytes]:
    """Yield the lines of a changes file; none if the file is missing."""
    try:
        with file.open("rb") as lines:
            yield from lines
    except FileNotFoundError:
        return
