"""Finds the rows of a search: the boxes that satisfy its criteria."""

import numpy as np
import numpy.typing as npt

from portal.data.criteria import Area, Criteria, Status
from portal.data.numbers.boxes import ABROAD, KINDS, Boxes
from portal.data.numbers.columns import Columns
from portal.data.numbers.sums import Selection


def matching(
    boxes: Boxes,
    columns: Columns,
    expected: npt.NDArray[np.bool_],
    criteria: Criteria,
    first: int,
    end: int,
) -> Selection:
    """Return the rows from `first` to before `end` that satisfy all criteria, in order.

    The district of the criteria must be chosen already, by `first` and `end`; and so must its
    board. `expected` says which boxes have the contest.
    """
    mask = expected[first:end].copy()
    if criteria.cevre is None and criteria.kurul is not None:
        named = [n for n, (_, board) in enumerate(boxes.boards) if board == criteria.kurul]
        mask &= np.isin(boxes.board[first:end], named)
    if criteria.area is not Area.EVERYWHERE:
        abroad = np.zeros(len(boxes), dtype=np.bool_)
        for district in ABROAD:
            abroad[slice(*boxes.rows_of(district))] = True
        mask &= abroad[first:end] == (criteria.area is Area.ABROAD)
    if criteria.kind is not None:
        mask &= boxes.kind[first:end] == KINDS.index(criteria.kind)
    if criteria.mahalle is not None:
        known = boxes.mahalles
        named = [n for n, text in enumerate(known) if text == criteria.mahalle]
        mask &= np.isin(boxes.mahalle[first:end], named)
    if criteria.first is not None or criteria.last is not None:
        lowest, highest = boxes.rank_range(criteria.first, criteria.last)
        ranks = boxes.number_rank[first:end]
        mask &= (ranks >= lowest) & (ranks < highest)
    if criteria.status is not Status.ALL:
        opened = columns.version[first:end] > 0
        mask &= opened == (criteria.status is Status.OPENED)
    return np.flatnonzero(mask) + first
