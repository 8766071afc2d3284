"""Statistical hints: boxes of one board and contest compared with each other.

All of these have innocent causes too, so they are hints, never errors:

    zero-among-neighbours   an option has no vote here and some in every other box, 5 % on average
    shifted-columns         shifted by one column, the votes match the neighbours far better
    same-vector             two boxes have exactly the same votes, of three options or more

Only boxes with at least MIN_VALID valid votes are compared, and a board needs MIN_BOXES of them.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from config.result import Result
from publisher.results.checks.finding import Check, Finding

MIN_VALID = 50
MIN_BOXES = 6
_MIN_SHARE = 0.05
_MIN_OPTIONS = 3
_FAR, _NEAR = 0.6, 0.3  # sums of differences of shares, between 0 (the same) and 2


def check_board(results: Sequence[Result], options: Sequence[str]) -> Iterator[Finding]:
    """Compare the newest results of a board's boxes; `options` are in ballot order."""
    compared = [result for result in results if sum(result.votes.values()) >= MIN_VALID]
    yield from _same_vectors(compared, options)
    if len(compared) < MIN_BOXES:
        return
    shares = [_shares(result, options) for result in compared]
    sums = [sum(column) for column in zip(*shares, strict=True)]
    others = len(compared) - 1
    with_votes = [sum(share > 0 for share in column) for column in zip(*shares, strict=True)]
    for result, own in zip(compared, shares, strict=True):
        rest = [(total - share) / others for total, share in zip(sums, own, strict=True)]
        yield from _zeros(result, options, own, rest, with_votes, others)
        yield from _shifted(result, own, rest)


def _zeros(
    result: Result,
    options: Sequence[str],
    own: Sequence[float],
    rest: Sequence[float],
    with_votes: Sequence[int],
    others: int,
) -> Iterator[Finding]:
    missing = [
        option
        for option, share, mean, count in zip(options, own, rest, with_votes, strict=True)
        if share == 0 and mean >= _MIN_SHARE and count == others
    ]
    if missing:
        yield _finding(
            Check.ZERO_AMONG_NEIGHBOURS, (result,), {f"oylar.{option}": 0 for option in missing}
        )


def _shifted(result: Result, own: Sequence[float], rest: Sequence[float]) -> Iterator[Finding]:
    if _distance(own, rest) < _FAR:
        return
    for by in (1, -1):
        moved = [*own[by:], *own[:by]]
        if _distance(moved, rest) < _NEAR:
            votes = {f"oylar.{option}": number for option, number in result.votes.items()}
            yield _finding(Check.SHIFTED_COLUMNS, (result,), votes)
            return


def _same_vectors(results: Sequence[Result], options: Sequence[str]) -> Iterator[Finding]:
    def vector(result: Result) -> tuple[int, ...]:
        return tuple(result.votes.get(option, 0) for option in options)

    for same, group in groupby(sorted(results, key=vector), key=vector):
        found = tuple(group)
        if len(found) > 1 and sum(number > 0 for number in same) >= _MIN_OPTIONS:
            votes = {f"oylar.{o}": n for o, n in zip(options, same, strict=True) if n}
            yield _finding(Check.SAME_VECTOR, found, votes)


def _shares(result: Result, options: Sequence[str]) -> list[float]:
    total = sum(result.votes.values())
    return [result.votes.get(option, 0) / total for option in options]


def _distance(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))


def _finding(check: Check, results: Sequence[Result], numbers: dict[str, int]) -> Finding:
    places = tuple(sorted(result.key.place for result in results))
    return Finding(check, results[0].key.secim, places, numbers)
