"""Finds codes on a page that no engine can read, for example under a seal.

If the codes of a page are damaged and another sheet lies beside it, only the clean code of the
other sheet is read, and the page would be filed as that sheet. Therefore a page is filed only if
every code on it was read, except a damaged second copy of its own karekod. The codes of one scan
have the same size, so the code that was read says how large the others are. Two steps:

    candidates   squares of a code's size in which each quarter is dark and has edges in both
                 directions, as the code that was read has; the best eight are looked at
    pattern      the correlation with what all codes of version 1 have in common: three finder
                 patterns and two timing patterns, in four turns and three tilts

Seals, pen strokes and faded ink leave a correlation of 0.55 or more, and print, handwriting,
tables and seals without a code have 0.45 or less.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.fft  # NumPy loads it on first use, which the sandbox denies
import numpy.typing as npt
from PIL import Image, ImageChops

from publisher.reading.codes.placing import Placed
from publisher.reading.codes.symbol import SIDE

_CANDIDATES = 8
_LEAST_CANDIDATE = 0.15  # as a share of the darkness and the edges of the code that was read
_LEAST_LIKENESS = 0.5
_LEAST_UPRIGHT = 0.3  # likeness without a tilt, below which the tilts are not tried
_MODULE_PX, _PATTERN_PX, _WINDOW_PX = 1.6, 34, 64
_TILTS = (0.0, -3.0, 3.0)
_LEAST_WIDTH = 60  # pixels; the edges of a code at least this wide are found at half the resolution
_QUARTER = 3  # cells across a quarter of a code

Corner = tuple[float, float]
Array = npt.NDArray[Any]


def unread_codes(
    grey: Image.Image,
    own: Sequence[Placed],
    others: Sequence[Placed],
    half: Image.Image | None = None,
) -> list[tuple[Corner, ...]]:
    """Return the corners of each code that is not among those that were read.

    `own` are the copies of the page's karekod, of which at least one was read; nothing is reported
    where the other copy may be. `others` are codes that were read and are not karekods.
    `half` is the page at half its size, if that was made before.
    """
    first = own[0]
    likely, cell = _candidate_map(grey, half, first)
    if not likely.size:
        return []
    grid: Array = np.indices(likely.shape)
    rows, columns = grid[0], grid[1]
    xs, ys = (columns + _QUARTER) * cell, (rows + _QUARTER) * cell
    for code in (*own, *others):
        reach = (code.width + first.width) * 0.55
        likely[(np.abs(xs - code.x) < reach) & (np.abs(ys - code.y) < reach)] = 0
    found = []
    looked_at = 0
    while looked_at < _CANDIDATES:
        row, column = divmod(int(likely.argmax()), likely.shape[1])
        if likely[row, column] < _LEAST_CANDIDATE:
            break
        x, y = float(xs[row, column]), float(ys[row, column])
        near: Array = (np.abs(xs - x) < first.width) & (np.abs(ys - y) < first.width)
        likely[near] = 0
        if any(code.may_be_partner(x, y) for code in own):
            continue
        looked_at += 1
        if _likeness(grey, x, y, first) >= _LEAST_LIKENESS:
            found.append(_square(x, y, first))
    return found


def _square(x: float, y: float, like: Placed) -> tuple[Corner, ...]:
    half = like.width / 2
    return tuple(
        (
            x + half * (across * like.right[0] + down * like.down[0]),
            y + half * (across * like.right[1] + down * like.down[1]),
        )
        for across, down in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    )


def _candidate_map(
    grey: Image.Image, half: Image.Image | None, like: Placed
) -> tuple[Array, float]:
    """Return how much each square resembles the code `like`, and the size of a cell in pixels.

    The square in row r and column c has its middle at (c + 3, r + 3) cells.
    """
    factor = 1 if like.width < _LEAST_WIDTH else 2
    base = (half or grey.reduce(2)) if factor == 2 else grey
    size = max(1, round(like.width / factor / (2 * _QUARTER)))
    wide, high = base.width - 1, base.height - 1
    if min(wide, high) < 2 * _QUARTER * size:
        return np.zeros((0, 0)), 1.0
    here = base.crop((0, 0, wide, high))
    across = ImageChops.difference(here, base.crop((1, 0, wide + 1, high)))
    down = ImageChops.difference(here, base.crop((0, 1, wide, high + 1)))
    pooled = [_quarters(image.reduce(size)) for image in (across, down, here)]
    edges, light = np.minimum(pooled[0], pooled[1]), pooled[2]
    paper = float(np.percentile(light, 80))
    edges, dark = _weakest(edges), _weakest(paper - light)
    cell = float(size * factor)
    row = min(max(round(like.y / cell) - _QUARTER, 0), edges.shape[0] - 1)
    column = min(max(round(like.x / cell) - _QUARTER, 0), edges.shape[1] - 1)
    around = np.s_[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
    edges /= max(float(edges[around].max()), 1.0)
    dark /= max(float(dark[around].max()), 1.0)
    return np.minimum(edges, dark), cell


def _quarters(image: Image.Image) -> Array:
    """Return the means of all squares of 3 by 3 cells."""
    total = np.pad(np.asarray(image, np.float32).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    n = _QUARTER
    sums: Array = total[n:, n:] - total[:-n, n:] - total[n:, :-n] + total[:-n, :-n]
    return sums / (n * n)


def _weakest(quarters: Array) -> Array:
    """Return the smallest value of the four quarters of each square."""
    n = _QUARTER
    rows = np.minimum(quarters[:-n], quarters[n:])
    weakest: Array = np.minimum(rows[:, :-n], rows[:, n:])
    return weakest


def _likeness(grey: Image.Image, x: float, y: float, like: Placed) -> float:
    """Return the best correlation of a code's patterns with the page around a point."""
    half = _WINDOW_PX / 2 / _MODULE_PX / SIDE * like.width
    (a, b), (c, d) = like.right, like.down
    quad = tuple(
        value
        for across, down in ((-1, -1), (-1, 1), (1, 1), (1, -1))
        for value in (x + half * (across * a + down * c), y + half * (across * b + down * d))
    )
    size = (2 * _WINDOW_PX, 2 * _WINDOW_PX)
    window = grey.transform(size, Image.Transform.QUAD, quad, Image.Resampling.BILINEAR).reduce(2)
    pixels = np.asarray(window, np.float32)
    pixels = pixels - pixels.mean()
    plain, squared = np.fft.rfft2(pixels), np.fft.rfft2(pixels * pixels)
    upright = _correlation(plain, squared, slice(0, 4))
    if upright < _LEAST_UPRIGHT:
        return upright
    return max(upright, _correlation(plain, squared, slice(4, None)))


def _correlation(plain: Array, squared: Array, which: slice) -> float:
    """Return the best correlation of some of the patterns with a window, given its transforms."""
    patterns, masks, counts = (part[which] for part in _patterns())
    shape = (_WINDOW_PX, _WINDOW_PX)
    match = np.fft.irfft2(plain * patterns, shape)
    sums = np.fft.irfft2(plain * masks, shape)
    squares = np.fft.irfft2(squared * masks, shape)
    spread = np.maximum(squares - sums * sums / counts, 1.0)
    free = _WINDOW_PX - _PATTERN_PX
    return float((match / np.sqrt(spread))[:, :free, :free].max())


@lru_cache(maxsize=1)
def _patterns() -> tuple[Array, Array, Array]:
    """Return the transforms of the patterns and of their masks, and the pixels in each mask."""
    finder = -np.ones((7, 7))
    finder[1:6, 1:6] = 1
    finder[2:5, 2:5] = -1
    code, mask = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE))
    for rows, columns in ((0, 0), (0, SIDE - 7), (SIDE - 7, 0)):
        edge = np.s_[max(0, rows - 1) : rows + 8, max(0, columns - 1) : columns + 8]
        code[edge] = mask[edge] = 1
        code[rows : rows + 7, columns : columns + 7] = finder
    for at in range(8, SIDE - 8):
        code[6, at] = code[at, 6] = 1 if at % 2 else -1
        mask[6, at] = mask[at, 6] = 1
    drawn = [
        (_drawn(np.rot90(code, turn), tilt), _drawn(np.rot90(mask, turn), tilt) > 0.5)
        for tilt in _TILTS
        for turn in range(4)
    ]
    patterns, masks = np.zeros((2, len(drawn), _WINDOW_PX, _WINDOW_PX), np.float32)
    for number, (values, inside) in enumerate(drawn):
        values = np.where(inside, values - values[inside].mean(), 0)
        patterns[number, :_PATTERN_PX, :_PATTERN_PX] = values / np.linalg.norm(values)
        masks[number, :_PATTERN_PX, :_PATTERN_PX] = inside
    counts = masks.sum((1, 2))[:, None, None]
    return np.conj(np.fft.rfft2(patterns)), np.conj(np.fft.rfft2(masks)), counts


def _drawn(modules: Array, tilt: float) -> Array:
    fine = Image.fromarray(np.kron(modules, np.ones((8, 8))).astype(np.float32))
    turned = fine.rotate(tilt, Image.Resampling.BILINEAR)
    size = (_PATTERN_PX, _PATTERN_PX)
    return np.asarray(turned.resize(size, Image.Resampling.BOX), np.float32)
