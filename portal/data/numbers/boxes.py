"""The ballot boxes of the registry, as columns: one row a box, in the order of places.

All numbers of a snapshot are columns with the same rows (portal/data/numbers/columns). Rows are
sorted by district, board and box number, so the boxes of a district or of a board are one range of
rows. A box that takes part in several contests has one row; `expected` says which contests it has.

The columns cost about 15 bytes a box. Texts that repeat, such as box numbers, are kept once.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from config import cevre
from config.sheet import SandikTuru, Secim
from config.turkish import sort_key
from portal.data.numbers import ids

KINDS = tuple(SandikTuru)
ABROAD = (cevre.ABROAD, cevre.CUSTOMS)
Rows = tuple[int, int]  # the first row, and the one after the last
Mask = npt.NDArray[np.bool_]
Entry = tuple[str, str, str, str, str, str]  # contest, district, board, number, kind, mahalle
_T = TypeVar("_T")


class BoxPlace(NamedTuple):
    """The place of a box; also its key."""

    cevre: str
    kurul: str
    sandik: str

    def __str__(self) -> str:
        return f"{self.cevre}/{self.kurul}/sandik-{self.sandik}"


@dataclass(frozen=True)
class Boxes:
    """All boxes; `boards` are (district, board), each with its range of rows in `board_rows`."""

    boards: tuple[tuple[str, str], ...]
    board_rows: tuple[Rows, ...]
    numbers: Sequence[str]  # of the box (at customs: its rumuz), by row
    number_rank: npt.NDArray[np.int32]  # the order of the number among all different ones
    ranked_numbers: tuple[str, ...]  # all different numbers, in that order
    board: npt.NDArray[np.int32]  # index into `boards`, by row
    kind: npt.NDArray[np.uint8]  # index into KINDS
    mahalle: npt.NDArray[np.int32]  # index into `mahalles`
    mahalles: tuple[str, ...]  # in Turkish order; the empty one is first
    expected: Mapping[Secim, Mask]
    ranks: Mapping[str, int] = field(repr=False)  # of each number
    _sort_keys: list[str] = field(repr=False)  # of `ranked_numbers`

    def __len__(self) -> int:
        return len(self.numbers)

    @cached_property
    def district_rows(self) -> Mapping[str, Rows]:
        """The rows of each district."""
        found: dict[str, Rows] = {}
        for (district, _), (first, end) in zip(self.boards, self.board_rows, strict=True):
            found[district] = (found.get(district, (first, end))[0], end)
        return found

    @cached_property
    def board_index(self) -> Mapping[tuple[str, str], int]:
        """The index of each board."""
        return {board: number for number, board in enumerate(self.boards)}

    @cached_property
    def board_numbers(self) -> Mapping[str, int]:
        """The number of each board (portal/data/numbers/ids), by `<district>/<board>`."""
        return ids.numbers("/".join(board) for board in self.boards)

    @cached_property
    def mahalle_numbers(self) -> Mapping[str, int]:
        """The number of each mahalle, by `<district>/<board>/<mahalle>`."""
        pairs = np.unique(self.board.astype(np.int64) << 32 | self.mahalle)
        return ids.numbers(
            f"{'/'.join(self.boards[pair >> 32])}/{self.mahalles[pair & 0xFFFFFFFF]}"
            for pair in pairs.tolist()
        )

    def place(self, row: int) -> BoxPlace:
        """Return the place of a row."""
        district, board = self.boards[self.board[row]]
        return BoxPlace(district, board, self.numbers[row])

    def row_of(self, place: BoxPlace) -> int | None:
        """Return the row of a box, None if the registry has no such box."""
        index = self.board_index.get((place.cevre, place.kurul))
        if index is None:
            return None
        first, end = self.board_rows[index]
        rank = self.ranks.get(place.sandik)
        if rank is None:
            return None
        at = first + int(np.searchsorted(self.number_rank[first:end], rank))
        return at if at < end and self.numbers[at] == place.sandik else None

    def rows_of(self, district: str, board: str | None = None) -> Rows:
        """Return the rows of a district or a board; (0, 0) if there is no such place."""
        if board is None:
            return self.district_rows.get(district, (0, 0))
        index = self.board_index.get((district, board))
        return (0, 0) if index is None else self.board_rows[index]

    def rank_range(self, first: str | None, last: str | None) -> tuple[int, int]:
        """Return the ranks from the first number to the last one, the end excluded."""
        keys = self._sort_keys
        low = bisect_left(keys, number_key(first)) if first else 0
        high = bisect_right(keys, number_key(last)) if last else len(keys)
        return low, high


def number_key(number: str) -> str:
    """Return the key by which box numbers sort: 2 before 10, A1 before A2, a1 as A1."""
    return sort_key(number)[0]


def build(entries: Iterable[Entry]) -> Boxes:
    """Build the columns from the registry's boxes (Registry.ballot_boxes)."""
    contests = {secim.value: 1 << bit for bit, secim in enumerate(Secim)}
    kinds = {kind.value: number for number, kind in enumerate(KINDS)}
    mahalles: dict[str, int] = {"": 0}
    texts: dict[str, str] = {}
    # By board, by number: contests, kind, mahalle; packed into one integer.
    boards: dict[tuple[str, str], dict[str, int]] = {}
    for secim, district, board, number, kind, mahalle in entries:
        of_board = boards.setdefault((district, board), {})
        found = mahalles.setdefault(mahalle, len(mahalles)) << 16 | kinds[kind] << 8
        number = texts.setdefault(number, number)
        of_board[number] = of_board.get(number, found) | contests[secim]
    keys = {number: number_key(number) for number in texts}
    ranked = sorted(texts, key=lambda number: (keys[number], number))
    rank_of = {number: rank for rank, number in enumerate(ranked)}
    order = {name: place for place, name in enumerate(cevre.names())}
    names = sorted(boards, key=lambda b: (order.get(b[0], len(order)), b[0], sort_key(b[1])))
    numbers: list[str] = []
    packed, ranks, board_of = array("q"), array("i"), array("i")
    board_rows = []
    for index, name in enumerate(names):
        of_board = boards.pop(name)
        listed = sorted(of_board, key=rank_of.__getitem__)
        board_rows.append((len(numbers), len(numbers) + len(listed)))
        numbers += listed
        ranks.extend(rank_of[number] for number in listed)
        packed.extend(of_board[number] for number in listed)
        board_of.extend([index] * len(listed))
    values = np.array(packed, dtype=np.int64)
    by_name = sorted(mahalles, key=sort_key)
    new_index = np.zeros(len(mahalles), dtype=np.int32)
    for place, text in enumerate(by_name):
        new_index[mahalles[text]] = place
    return Boxes(
        boards=tuple(names),
        board_rows=tuple(board_rows),
        numbers=numbers,
        number_rank=np.array(ranks, dtype=np.int32),
        ranked_numbers=tuple(ranked),
        board=np.array(board_of, dtype=np.int32),
        kind=(values >> 8 & 0xFF).astype(np.uint8),
        mahalle=new_index[values >> 16],
        mahalles=tuple(by_name),
        expected={
            secim: made for secim in Secim if (made := values & contests[secim.value] != 0).any()
        },
        ranks=rank_of,
        _sort_keys=[keys[number] for number in ranked],
    )
