"""Decides whether codes are at the places where a form has its karekod.

A form has two copies of its karekod, one above the other at its right edge. Everything is measured
along the code's own sides, so it holds for all four turns and for tilted pages. Measured on real
sheets of 2023 and on the printed form, in widths of the code (13 mm) and in shares of the picture,
with room for perspective and for cut margins:

    between the copies   11 to 20 widths down, less than 1 across    allowed: 10 to 23, 2
    across the picture   at 0.79 to 0.93                             allowed: 0.6 or more
    down the picture     at 0.05 to 0.21, or at 0.70 to 0.98         allowed: outside 0.4 to 0.6

If the scanner's glass is larger than the sheet, the shares are different. Then a copy is at its
place if the picture extends at least 8 widths to its left (a form has 14), and at least 10 widths
above or below it (a form has 19).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

LEAST_DOWN, MOST_DOWN = 10.0, 23.0
BETWEEN = 20  # of these units are between the copies in a frame (publisher/print_map)
_MOST_ACROSS = 2.0
_PARTNER_ACROSS = 1.2  # how far to the side of a copy its damaged partner may be
_LEAST_LEFT = 8.0
_LEAST_SHARE_ACROSS = 0.6
_MIDDLE = (0.4, 0.6)  # the shares down the picture where no copy is
_LIKE_WIDTH = 1.3  # the widths of two copies differ by at most this factor
_LIKE_DIRECTION = 0.9  # cosine of the angle between them

Corners = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Placed:
    """A code on a page: its middle, its width, and the directions of its upper and left side."""

    x: float
    y: float
    width: float
    right: tuple[float, float]
    down: tuple[float, float]

    @classmethod
    def of(cls, corners: Corners) -> "Placed | None":
        """Measure a code by its four corners, clockwise from its own top left one.

        Returns None if there are not four corners, or if they enclose nothing.
        """
        if len(corners) != 4:
            return None
        (a, b), (c, d), (e, f), (g, h) = corners
        across, below = (
            ((c - a + e - g) / 2, (d - b + f - h) / 2),
            (
                (g - a + e - c) / 2,
                (h - b + f - d) / 2,
            ),
        )
        wide, high = math.hypot(*across), math.hypot(*below)
        if not wide or not high:
            return None
        return cls(
            (a + c + e + g) / 4,
            (b + d + f + h) / 4,
            (wide + high) / 2,
            (across[0] / wide, across[1] / wide),
            (below[0] / high, below[1] / high),
        )

    def offset(self, x: float, y: float) -> tuple[float, float]:
        """Return how far a point is to the right of this code and below it, in widths."""
        across, below = x - self.x, y - self.y
        return (
            (across * self.right[0] + below * self.right[1]) / self.width,
            (across * self.down[0] + below * self.down[1]) / self.width,
        )

    def may_be_partner(self, x: float, y: float) -> bool:
        """Return whether the other copy of this code may be at a point."""
        across, down = self.offset(x, y)
        return abs(across) <= _PARTNER_ACROSS and LEAST_DOWN <= abs(down) <= MOST_DOWN


def are_two_copies(one: Placed, other: Placed) -> bool:
    """Return whether two codes are where the two copies on one form are."""
    across, down = one.offset(other.x, other.y)
    alike = one.down[0] * other.down[0] + one.down[1] * other.down[1]
    return (
        LEAST_DOWN <= abs(down) <= MOST_DOWN
        and abs(across) <= _MOST_ACROSS
        and alike >= _LIKE_DIRECTION
        and max(one.width, other.width) <= _LIKE_WIDTH * min(one.width, other.width)
    )


def frame_of(codes: Iterable[Placed]) -> Placed | None:
    """Return the upper copy of a karekod, measured by both copies; None if only one was read.

    Its width is a twentieth of the distance of the copies.
    """
    placed = list(codes)
    for upper in placed:
        for lower in placed:
            if upper is lower or not are_two_copies(upper, lower):
                continue
            if upper.offset(lower.x, lower.y)[1] > 0:
                x, y = lower.x - upper.x, lower.y - upper.y
                far = math.hypot(x, y)
                down = x / far, y / far
                return Placed(upper.x, upper.y, far / BETWEEN, (down[1], -down[0]), down)
    return None


def is_at_a_place(code: Placed, size: tuple[int, int]) -> bool:
    """Return whether a form with this code at one of its places is in a picture of this size."""
    left, right = _room(code, (-code.right[0], -code.right[1]), size), _room(code, code.right, size)
    above, below = _room(code, (-code.down[0], -code.down[1]), size), _room(code, code.down, size)
    across, down = left / (left + right + 1e-9), above / (above + below + 1e-9)
    return (across >= _LEAST_SHARE_ACROSS and not _MIDDLE[0] < down < _MIDDLE[1]) or (
        left >= _LEAST_LEFT and max(above, below) >= LEAST_DOWN
    )


def are_in_place(codes: Sequence[Placed], size: tuple[int, int]) -> bool:
    """Return whether at least one of the copies of a karekod is at a place of the form."""
    return any(are_two_copies(one, other) for one, other in combinations(codes, 2)) or any(
        is_at_a_place(code, size) for code in codes
    )


def _room(code: Placed, direction: tuple[float, float], size: tuple[int, int]) -> float:
    """Return how far it is from a code to the edge of the picture, in widths of the code."""
    far = math.inf
    for at, step, length in zip((code.x, code.y), direction, size, strict=True):
        if abs(step) > 1e-6:
            far = min(far, ((length if step > 0 else 0) - at) / step)
    return max(far, 0.0) / code.width
