"""Counts how many independent readings of a page agree on a text.

A misread karekod would file a sheet under another box, so a single reading is not enough. What
counts as independent:

Rule 1. Two printed copies of the code that read the same count as two, because each copy is
        damaged in its own way. They must be as far apart as the two copies on a form
        (publisher/reading/codes/placing); the readings of other codes are not added up.
Rule 2. Two passes over the same copy count as two if the engine, the scale or the filter differs:
        noise that looks like a valid code in one pass does not look so in the other.
Rule 3. The digits that are printed under a copy count as a pass over it.
Rule 4. If the same engine reads the same pixels again (a crop of the unfiltered page), it does not
        count.

The evidence has one line per reading: `copy 1 by zxing-cpp, whole, 2 ms`. Copies are numbered in
the order in which they were found; a scan is named after its scale or filter.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from publisher.page import Reading
from publisher.reading.codes.placing import Placed, are_two_copies

_UNFILTERED = ("whole", "crop", "hard")  # scans of the same pixels


@dataclass(frozen=True, slots=True)
class Agreement:
    """The readings of one page that gave one text, each with the number of the copy it read."""

    readings: tuple[tuple[int, Reading], ...]

    @property
    def copies(self) -> int:
        """How many printed copies were read."""
        return len({copy for copy, _ in self.readings})

    @property
    def agreeing(self) -> int:
        """How many independent readings there are."""
        passes = {
            (copy, reading.engine, "as it is" if reading.scan in _UNFILTERED else reading.scan)
            for copy, reading in self.readings
        }
        counts = Counter(copy for copy, _, _ in passes)
        return max(
            (sum(counts[copy] for copy in group) for group in self._groups(list(counts))), default=0
        )

    def _groups(self, copies: list[int]) -> Iterator[tuple[int, ...]]:
        """Yield each copy alone, and each pair of copies that are as far apart as on a form."""
        placed = {copy: Placed.of(reading.corners) for copy, reading in reversed(self.readings)}
        yield from ((copy,) for copy in copies)
        for one, other in combinations(copies, 2):
            here, there = placed[one], placed[other]
            if here and there and are_two_copies(here, there):
                yield one, other

    @property
    def engines(self) -> str:
        """The engines that read the text, separated by spaces."""
        return " ".join(sorted({reading.engine for _, reading in self.readings}))

    def lines(self) -> list[str]:
        """Return the evidence, one line per reading."""
        return [f"copy {n} by {r.engine}, {r.scan}, {r.ms} ms" for n, r in self.readings]


def agreement_on(text: str, readings: Sequence[Reading]) -> Agreement:
    """Return which of the readings of one page gave `text`."""
    copies: list[tuple[float, float, float]] = []
    agreeing = []
    for reading in readings:
        if reading.text == text:
            agreeing.append((_copy_number(_centre_and_width(reading), copies), reading))
    return Agreement(tuple(agreeing))


def _centre_and_width(reading: Reading) -> tuple[float, float, float]:
    """Return x and y of the middle of a code, and its width, in pixels."""
    xs, ys = [x for x, _ in reading.corners], [y for _, y in reading.corners]
    if not xs:
        return 0.0, 0.0, 0.0
    return sum(xs) / len(xs), sum(ys) / len(ys), max(max(xs) - min(xs), max(ys) - min(ys))


def _copy_number(code: tuple[float, float, float], copies: list[tuple[float, float, float]]) -> int:
    # Two passes find the same code a few pixels apart; two printed codes never overlap.
    x, y, width = code
    for number, (other_x, other_y, other_width) in enumerate(copies, start=1):
        if max(abs(x - other_x), abs(y - other_y)) <= max(width, other_width) / 2:
            return number
    copies.append(code)
    return len(copies)
