"""Who says that a text stands on a page: from readings to the number of independent witnesses.

A misread karekod would file a sheet under another box, so no single reading is believed. Two
printed copies that say the same are two witnesses: they were damaged each by itself. So are two
passes over one copy, be it by two engines or by one at another scale or through another filter,
for noise that turns into a good code for one of them does not do so for the other. One engine
that sees the very same pixels once more (a part of the page as it is) is no further witness.

Evidence is written, a line a reading, as `copy 1 by zxing-cpp, whole, 2 ms`: copies are numbered
in the order in which they were found, and the scan is named by its scale or filter.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from publisher.page import Reading

_UNFILTERED = ("whole", "crop", "hard")


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the readings of one page say for one text: each with the copy that it read."""

    readings: tuple[tuple[int, Reading], ...]

    @property
    def copies(self) -> int:
        """How many printed copies were read."""
        return len({copy for copy, _ in self.readings})

    @property
    def agreeing(self) -> int:
        """How many readings count: the same pass over the same copy counts once."""
        passes = ((copy, reading.engine, reading.scan) for copy, reading in self.readings)
        return len(
            {(copy, by, "as it is" if scan in _UNFILTERED else scan) for copy, by, scan in passes}
        )

    @property
    def engines(self) -> str:
        """The engines that read it, in one word each."""
        return " ".join(sorted({reading.engine for _, reading in self.readings}))

    def lines(self) -> list[str]:
        """Write the evidence."""
        return [f"copy {n} by {r.engine}, {r.scan}, {r.ms} ms" for n, r in self.readings]


def agreement_on(text: str, readings: Sequence[Reading]) -> Agreement:
    """Return what is said for `text` by the readings of one page."""
    places: list[tuple[float, float, float]] = []
    heard = []
    for reading in readings:
        if reading.text == text:
            heard.append((_copy_number(_centre_and_width(reading), places), reading))
    return Agreement(tuple(heard))


def _centre_and_width(reading: Reading) -> tuple[float, float, float]:
    """Return the middle of a code, and how wide it is."""
    xs, ys = [x for x, _ in reading.corners], [y for _, y in reading.corners]
    if not xs:
        return 0.0, 0.0, 0.0
    return sum(xs) / len(xs), sum(ys) / len(ys), max(max(xs) - min(xs), max(ys) - min(ys))


def _copy_number(place: tuple[float, float, float], known: list[tuple[float, float, float]]) -> int:
    # Two passes find the corners of one code a few pixels apart; two codes never overlap.
    x, y, wide = place
    for number, (left, top, broad) in enumerate(known, start=1):
        if max(abs(x - left), abs(y - top)) <= max(wide, broad) / 2:
            return number
    known.append(place)
    return len(known)
