"""Statistical hints: boxes of one board and contest compared with each other.

All of these have innocent causes too, so they are hints, never errors:

    zero-among-neighbours   an option has no vote here and some in every other box, 5 % on average
    shifted-columns         shifted by one column, the votes match the neighbours far better
    same-vector             two boxes have exactly the same votes, of three options or more

Only boxes with at least MIN_VALID valid votes are compared, and a board needs MIN_BOXES of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from config.sheet import Secim
from publisher.results.checks.finding import Check, Finding

MIN_VALID = 50
MIN_BOXES = 6
_MIN_SHARE = 0.05
_MIN_OPTIONS = 3
_FAR, _NEAR = 0.6, 0.3  # sums of differences of shares, between 0 (the same) and 2


class BoxVotes(NamedTuple):
    """The newest votes of one box in one contest."""

    secim: Secim
    place: str
    votes: Mapping[str, int]


def check_board(boxes: Sequence[BoxVotes], options: Sequence[str]) -> Iterator[Finding]:
    """Compare the newest votes of a board's boxes; `options` are in ballot order."""
    compared = [box for box in boxes if sum(box.votes.values()) >= MIN_VALID]
    yield from _same_vectors(compared, options)
    if len(compared) < MIN_BOXES or not options:
        return
    votes = [[box.votes.get(option, 0) for option in options] for box in compared]
    totals = [[sum(box.votes.values())] for box in compared]
    # A row for each box, a column for each option.
    shares: NDArray[np.float64] = np.array(votes, float) / np.array(totals, float)
    others = len(compared) - 1
    rest = (shares.sum(axis=0) - shares) / others  # the mean of the other boxes
    with_votes = (shares > 0).sum(axis=0)
    missing = (shares == 0) & (rest >= _MIN_SHARE) & (with_votes == others)
    for row in np.flatnonzero(missing.any(axis=1)):
        numbers = {f"oylar.{options[int(column)]}": 0 for column in np.flatnonzero(missing[row])}
        yield _finding(Check.ZERO_AMONG_NEIGHBOURS, [compared[row]], numbers)
    for row in np.flatnonzero(np.abs(shares - rest).sum(axis=1) >= _FAR):
        moved = (np.roll(shares[row], by) for by in (-1, 1))
        if any(np.abs(each - rest[row]).sum() < _NEAR for each in moved):
            numbers = {f"oylar.{name}": number for name, number in compared[row].votes.items()}
            yield _finding(Check.SHIFTED_COLUMNS, [compared[row]], numbers)


def _same_vectors(boxes: Sequence[BoxVotes], options: Sequence[str]) -> Iterator[Finding]:
    def vector(box: BoxVotes) -> tuple[int, ...]:
        return tuple([box.votes.get(option, 0) for option in options])

    for same, group in groupby(sorted(boxes, key=vector), key=vector):
        found = list(group)
        if len(found) > 1 and sum(number > 0 for number in same) >= _MIN_OPTIONS:
            votes = {f"oylar.{o}": n for o, n in zip(options, same, strict=True) if n}
            yield _finding(Check.SAME_VECTOR, found, votes)


def _finding(check: Check, boxes: Sequence[BoxVotes], numbers: dict[str, int]) -> Finding:
    return Finding(check, boxes[0].secim, tuple(sorted(box.place for box in boxes)), numbers)
