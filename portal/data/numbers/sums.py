"""Adds up the boxes of a search, with the parties' shares of joint votes (law 7102 md. 18).

Sums are made for each district first, because the columns of a district's own options mean
something else in the next one, and because joint votes are divided within a district, or within an
ilçe where `[results] share_level` is `ilce`. A share exists only where whole districts (or ilçe)
are added up: the law knows no share of a single box or of a mahalle.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from config.ballot import Ballot
from config.layout import ilce_of
from config.result import NUMBER_COLUMNS
from config.settings import ShareLevel
from config.sheet import Secim
from portal.data.numbers.boxes import Boxes
from portal.data.numbers.columns import FIRST_OPTION, Columns
from publisher.results.snapshots.shares import divide
from publisher.results.snapshots.summary import Shares

_ROWS_AT_ONCE = 4096
Selection = npt.NDArray[np.int64]  # rows, in order


@dataclass(frozen=True)
class Sum:
    """The sum of some boxes of one contest.

    `paylar` has for each alliance the members with `own`, `share` (an exact fraction as text),
    `total` of both, and each rounded; None if shares are not defined for these boxes.
    """

    boxes: int  # with a result
    numbers: Mapping[str, int]  # secmen, oy_kullanan, ...
    votes: Mapping[str, int]  # by option
    paylar: Mapping[str, Mapping[str, Any]] | None

    @property
    def turnout(self) -> float | None:
        """Voters who voted / registered voters, of the boxes with a result."""
        registered = self.numbers["secmen"]
        return self.numbers["oy_kullanan"] / registered if registered else None


@dataclass(frozen=True)
class Group:
    """The sum of the boxes of one board or one district."""

    cevre: str
    kurul: str | None
    boxes: int
    values: tuple[int, ...]  # by column

    def votes(self, columns: Columns) -> dict[str, int]:
        """Return the votes of each option of the district."""
        options = columns.layout.options(self.cevre)
        return dict(zip(options, self.values[FIRST_OPTION:], strict=False))


def by_board(columns: Columns, boxes: Boxes, rows: Selection) -> list[Group]:
    """Add up rows by board; boards without a result are left out."""
    rows = rows[columns.version[rows] > 0]
    if not len(rows):
        return []
    if len(rows) == 1:  # what follows takes longer for one box
        (row,) = rows.tolist()
        district, board = boxes.boards[boxes.board[row]]
        return [Group(district, board, 1, tuple(columns.numbers[:, row].tolist()))]
    boards = boxes.board[rows]
    starts = np.flatnonzero(np.diff(boards, prepend=-1))
    counts = np.diff(starts, append=len(rows))
    first, end = int(rows[0]), int(rows[-1]) + 1
    is_range = end - first == len(rows)
    # NumPy makes a copy of what it adds up as `int64`: of the whole country that is 70 MB, unless
    # it gets one column after the other.
    if is_range and len(rows) <= _ROWS_AT_ONCE:
        block = columns.numbers[:, first:end]
        added = np.add.reduceat(block, starts, axis=1, dtype=np.int64)
    else:
        added = np.empty((len(columns.numbers), len(starts)), dtype=np.int64)
        for number, column in enumerate(columns.numbers):
            values = column[first:end] if is_range else column.take(rows)
            added[number] = np.add.reduceat(values, starts, dtype=np.int64)
    names = [boxes.boards[index] for index in boards[starts]]
    listed = zip(names, counts.tolist(), added.T.tolist(), strict=True)
    return [
        Group(district, board, count, tuple(values)) for (district, board), count, values in listed
    ]


def by_district(groups: Iterable[Group]) -> list[Group]:
    """Add up the groups of each district; groups of one district follow each other."""
    return [_added(part, None) for _, part in groupby(groups, lambda group: group.cevre)]


def by_ilce(boards: Iterable[Group]) -> list[Group]:
    """Add up the boards of each ilçe (kadikoy-1 and kadikoy-2), under the name of the ilçe."""

    def place(group: Group) -> tuple[str, str]:
        return group.cevre, ilce_of(group.kurul or "")

    return [_added(part, ilce) for (_, ilce), part in groupby(sorted(boards, key=place), key=place)]


def _added(groups: Iterable[Group], kurul: str | None) -> Group:
    first, *others = groups
    if not others:
        return Group(first.cevre, kurul, first.boxes, first.values)
    parts = (first, *others)
    values = tuple(map(sum, zip(*(part.values for part in parts), strict=True)))
    return Group(first.cevre, kurul, sum(part.boxes for part in parts), values)


def add_up(
    columns: Columns,
    boards: list[Group],
    secim: Secim,
    ballot: Ballot | None,
    level: ShareLevel,
    whole: bool,
) -> Sum:
    """Add up boards; `whole` says that they are whole districts (or ilçe, at that level)."""
    numbers = [0] * FIRST_OPTION
    votes: dict[str, int] = dict.fromkeys(columns.layout.common, 0)
    districts = by_district(boards)
    for group in districts:
        for column in range(FIRST_OPTION):
            numbers[column] += group.values[column]
        for option, number in group.votes(columns).items():
            votes[option] = votes.get(option, 0) + number
    paylar: dict[str, Mapping[str, Any]] | None = None
    if whole and ballot is not None:
        shared: dict[str, Shares] = {}
        for group in by_ilce(boards) if level is ShareLevel.ILCE else districts:
            alliances = ballot.alliances(secim, group.cevre)
            of_group = group.votes(columns)
            for alliance, members in alliances.items():
                share = Shares.of(divide(alliance, [m.id for m in members], of_group))
                shared.setdefault(alliance, Shares()).add(share)
        paylar = {alliance: share.as_json() for alliance, share in shared.items()}
    return Sum(
        sum(group.boxes for group in boards),
        dict(zip(NUMBER_COLUMNS, numbers, strict=True)),
        votes,
        paylar,
    )
