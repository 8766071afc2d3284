"""Measures how far the print on a page reaches from a code, and compares it with the sheet.

A code says how large its sheet is and how it lies: it is 13 mm wide, on the right half of an A4
sheet, and nearer to its top or to its end than to its middle. If there is print a little beyond the
sheet, the edge of another one is in the picture, and the code may be that of a neighbour. Distances
are in widths of the code. From its middle, print may reach 15 to the left, which is the whole
sheet, and 3.5 to the right, both together 16.6; up and down together 22.9, the length of a sheet,
and one of them 7. Print that reaches further is that of a larger sheet if it is as wide and as high
as A3 or as a sheet that lies sideways.

A sheet that was photographed at an angle may seem 5 % larger. Print is what is darker than the
paper around it by a fifth of the contrast of the code. What is at the edge of the picture does not
count: scanners leave dark lines there. The measure is written as `print 13.9 0.6 0.4 21.2`: left,
right, up and down.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from publisher.print_map import print_map_of
from publisher.reading.codes.placing import Placed

_MOST_LEFT, _MOST_RIGHT, _MOST_ACROSS, _MOST_DOWN, _MOST_NEAR = 15.0, 3.5, 16.6, 22.9, 7.0
_MOST_FAR = 22.6  # from the upper copy down, or from the lower one up
_LARGER_SHEETS = (  # print across and down, least and most: A4 sideways, A3, A3 sideways
    ((19.6, 24.0), (0.0, 17.0)),
    ((19.6, 24.0), (27.5, 34.0)),
    ((27.5, 34.0), (0.0, 24.0)),
)
_LARGER = 1.05  # a sheet may seem larger by this factor
_CODE_PX = 26  # width of the code in the picture that is searched
_CONTRAST = 0.2
_THICK = 8  # pixels of that picture: 4 mm; a power of two
_EDGE = 0.012  # of the picture
_MOST_PRINT = 40  # pixels of that picture that do not count on each side
_WORD = "print"
Array = npt.NDArray[Any]


class Extent(NamedTuple):
    """How far print reaches from the middle of a code, in widths of the code."""

    left: float
    right: float
    up: float
    down: float

    def __str__(self) -> str:
        return f"{_WORD} {self.left:.1f} {self.right:.1f} {self.up:.1f} {self.down:.1f}"

    @classmethod
    def parse(cls, text: str) -> "Extent | None":
        """Parse what `str` wrote; None for any other text."""
        word, *values = text.split(" ")
        try:
            return cls(*map(float, values)) if word == _WORD else None
        except (ValueError, TypeError):
            return None

    @property
    def copy(self) -> str:
        """Which copy of a karekod it is: the one at the top of the print, or at its end."""
        return "upper" if self.up < self.down else "lower"

    def is_on_a_sheet(self) -> bool:
        """Return whether all print may be on the sheet that the code belongs to."""
        across, down = self.left + self.right, self.up + self.down
        if self.left > _MOST_LEFT * _LARGER or across > _MOST_ACROSS * _LARGER:
            fits = any(
                wide[0] <= across <= wide[1] and high[0] <= down <= high[1]
                for wide, high in _LARGER_SHEETS
            )
        else:
            far = max(self.up, self.down)
            fits = far <= _MOST_FAR and down <= _MOST_DOWN * _LARGER
        return (
            fits
            and self.right <= _MOST_RIGHT * _LARGER
            and min(self.up, self.down) <= _MOST_NEAR * _LARGER
        )


def print_around(
    half: Image.Image, code: Placed, frame: Placed | None = None
) -> tuple[Extent, bytes | None] | None:
    """Measure how far print reaches from a code; None if the picture is too small.

    `half` is the page at half its size. With a `frame` (publisher/print_map) the print_map
    of the page is returned too.
    """
    shrink = max(1, round(code.width / 2 / _CODE_PX))
    small, factor = half.reduce(shrink) if shrink > 1 else half, 2 * shrink
    if min(small.size) < 2 * _CODE_PX:
        return None
    xs, ys = _print(small, code, factor)
    if len(xs) <= _MOST_PRINT:
        return None
    right, below = _from(code, xs, ys, factor)
    extent = Extent(_reach(-right), _reach(right), _reach(-below), _reach(below))
    if frame is None:
        return extent, None
    return extent, print_map_of(*_from(frame, xs, ys, factor), frame.width / factor)


def _from(code: Placed, xs: Array, ys: Array, factor: int) -> tuple[Array, Array]:
    """Return how far pixels are to the right of a code and below it, in widths."""
    width = code.width / factor
    across, down = (xs - code.x / factor) / width, (ys - code.y / factor) / width
    return (
        across * code.right[0] + down * code.right[1],
        across * code.down[0] + down * code.down[1],
    )


def _reach(distances: Array) -> float:
    return float(-np.partition(-distances, _MOST_PRINT)[_MOST_PRINT])


def _print(small: Image.Image, code: Placed, factor: int) -> tuple[Array, Array]:
    """Return x and y of the pixels that are print."""
    coarse = small.reduce(8).filter(ImageFilter.MedianFilter(3))
    paper = np.asarray(coarse.resize(small.size, Image.Resampling.BILINEAR), np.int16)
    pixels = np.asarray(small, np.int16)
    half = max(2, round(code.width / factor / 2))
    x, y = round(code.x / factor), round(code.y / factor)
    inside = pixels[max(0, y - half) : y + half, max(0, x - half) : x + half]
    contrast = np.percentile(inside, 90) - np.percentile(inside, 10) if inside.size else 0.0
    # Print is thin: the edge of the paper on a dark lid is not print.
    paper = np.minimum(paper, _closed(np.asarray(small)))
    is_print = paper - pixels > max(_CONTRAST * float(contrast), 6.0)
    edge_x, edge_y = round(small.width * _EDGE), round(small.height * _EDGE)
    is_print[:edge_y] = is_print[small.height - edge_y :] = False
    is_print[:, :edge_x] = is_print[:, small.width - edge_x :] = False
    rows, columns = np.nonzero(is_print)
    return columns, rows


def _closed(pixels: Array) -> Array:
    """Return the pixels without what is dark and thinner than `_THICK` (a closing)."""
    padded = np.pad(pixels, _THICK - 1, mode="edge")
    for extreme in (np.maximum, np.minimum):
        for axis in (0, 1):
            step = 1
            while step < _THICK:
                ahead = padded[step:] if axis == 0 else padded[:, step:]
                behind = padded[:-step] if axis == 0 else padded[:, :-step]
                padded = extreme(ahead, behind)
                step *= 2
    return padded
