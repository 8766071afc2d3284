"""Reads the ten digits that are printed under a karekod: a reading that needs no engine.

    line      the strip below the code, straightened along the code's own sides, and in it the
              line of print that is nearest to the code
    cells     ten digits have the same pitch: of all pitches and starts, that whose boundaries
              have the least ink
    network   280 pixels of a cell, 64 hidden units, and eleven outputs: ten digits, and "none"

A digit counts only if the network is sure of it. scripts/train_digits.py draws digits in many fonts
and damages them, trains the network and writes its weights, `digits.npz`.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from publisher.reading.codes.placing import Placed

DIGITS = 10
CELL_WIDE, CELL_HIGH = 14, 20  # pixels of a cell as the network gets it
_WEIGHTS = Path(__file__).with_name("digits.npz")
_SCALE = 104  # pixels of the strip for each width of the code
_LEFT, _RIGHT, _TOP, _BOTTOM = -0.85, 0.85, 0.56, 1.30  # of the strip, in widths from the middle
_LINE_HIGH = (7, 30)  # pixels: the height of a line of digits
_PITCHES = np.linspace(0.085, 0.165, 33) * _SCALE
_STARTS = np.arange(-0.9, 0.0, 0.01) * _SCALE
_OFF_CENTRE = 0.12  # widths by which the middle of the line may be beside that of the code
_LEAST_INK = 12.0  # grey levels; less is noise of the paper
_SURE = 0.97
_MOST_UNKNOWN = 1

Array = npt.NDArray[Any]


class Digits(NamedTuple):
    """The digits under a code; one that could not be read is `?`."""

    text: str

    def confirm(self, karekod: str) -> bool:
        """Return whether at least nine digits are those of a karekod, and none is another."""
        same, other = self._compared(karekod)
        return other == 0 and same >= DIGITS - _MOST_UNKNOWN

    def contradict(self, karekod: str) -> bool:
        """Return whether they are another number, read well enough to be believed."""
        same, other = self._compared(karekod)
        if any(self._compared(karekod, shift)[1] == 0 for shift in (-2, -1, 1, 2)):
            return False  # the cells were cut out beside the digits
        return other >= 2 and same + other >= DIGITS - _MOST_UNKNOWN

    def _compared(self, karekod: str, shift: int = 0) -> tuple[int, int]:
        """Return how many digits are the same and how many others, `shift` places further."""
        text, of = self.text[max(0, shift) :], karekod[max(0, -shift) :]
        pairs = [(a, b) for a, b in zip(text, of, strict=False) if a != "?"]
        same = sum(a == b for a, b in pairs)
        return same, len(pairs) - same


def digits_under(grey: Image.Image, code: Placed) -> Digits | None:
    """Read the digits under a code; None if there is no line of print."""
    strip = _strip(grey, code)
    if strip is None:
        return None
    dark = darkness(strip)
    best: tuple[float, str] | None = None
    for top, bottom in _lines(dark):
        for start, pitch in _combs(dark[top:bottom].mean(0)):
            chances = classify(cells(dark, start, pitch, top, bottom))
            found, sure = chances.argmax(1), chances.max(1)
            text = "".join(
                str(digit) if digit < DIGITS and chance >= _SURE else "?"
                for digit, chance in zip(found, sure, strict=True)
            )
            if "?" not in text:
                return Digits(text)
            score = float(np.log(sure + 1e-6).sum() - 4 * (found == DIGITS).sum())
            if best is None or score > best[0]:
                best = score, text
    return Digits(best[1]) if best else None


def classify(found: Array) -> Array:
    """Return the chance of each digit, and of none, for cells of 14 by 20 pixels."""
    one, one_bias, two, two_bias = _weights()
    hidden = np.maximum(found.reshape(len(found), -1) @ one + one_bias, 0)
    scores = hidden @ two + two_bias
    exp = np.exp(scores - scores.max(1, keepdims=True))
    chances: Array = exp / exp.sum(1, keepdims=True)
    return chances


def darkness(strip: Array) -> Array:
    """Return how much darker than the paper each pixel is, in grey levels."""
    dark: Array = (np.percentile(strip, 75) - strip).clip(0, None)
    return dark


def cells(dark: Array, start: float, pitch: float, top: float, bottom: float) -> Array:
    """Cut ten digits out of a line: as many arrays of 20 by 14 pixels, from 0 to about 1."""
    margin = (bottom - top) * 0.12
    ys = np.linspace(top - margin, bottom + margin - 1, CELL_HIGH)
    across = (np.arange(CELL_WIDE) + 0.5) / CELL_WIDE * pitch * 1.1 - pitch * 0.05
    xs = start + np.arange(DIGITS)[:, None] * pitch + across[None, :]
    y0, x0 = np.floor(ys).astype(int), np.floor(xs).astype(int)
    fy, fx = (ys - y0)[None, :, None], (xs - x0)[:, None, :]
    high, wide = dark.shape
    ya, yb = (np.clip(y0 + n, 0, high - 1)[None, :, None] for n in (0, 1))
    xa, xb = (np.clip(x0 + n, 0, wide - 1)[:, None, :] for n in (0, 1))
    upper = dark[ya, xa] * (1 - fx) + dark[ya, xb] * fx
    lower = dark[yb, xa] * (1 - fx) + dark[yb, xb] * fx
    found = (upper * (1 - fy) + lower * fy).astype(np.float32)
    scaled: Array = (found / max(float(np.percentile(found, 92)), _LEAST_INK)).clip(0, 1.3)
    return scaled


def _strip(grey: Image.Image, code: Placed) -> Array | None:
    corners = []
    for across, down in ((_LEFT, _TOP), (_LEFT, _BOTTOM), (_RIGHT, _BOTTOM), (_RIGHT, _TOP)):
        across, down = across * code.width, down * code.width
        corners.append(code.x + across * code.right[0] + down * code.down[0])
        corners.append(code.y + across * code.right[1] + down * code.down[1])
    xs, ys = corners[::2], corners[1::2]
    if not (0 <= sum(xs) / 4 < grey.width and 0 <= sum(ys) / 4 < grey.height):
        return None
    size = round((_RIGHT - _LEFT) * _SCALE), round((_BOTTOM - _TOP) * _SCALE)
    shrink = max(1, round(code.width / _SCALE))  # a large page has more pixels than are needed
    fine = size[0] * shrink, size[1] * shrink
    flat = grey.transform(
        fine, Image.Transform.QUAD, tuple(corners), Image.Resampling.BILINEAR, fillcolor=255
    )
    return np.asarray(flat.reduce(shrink) if shrink > 1 else flat, np.float32)


def _lines(dark: Array) -> list[tuple[int, int]]:
    """Return the top and the bottom of the two lines of print that are nearest to the code."""
    third = dark.shape[1] // 5
    profile = dark[:, third:-third].mean(1)
    limit = 0.25 * float(np.percentile(profile, 95))
    if limit < _LEAST_INK / 8:
        return []
    found, top = [], None
    for row, value in enumerate([*profile, 0.0]):
        if value > limit and top is None:
            top = row
        elif value <= limit and top is not None:
            if _LINE_HIGH[0] <= row - top <= _LINE_HIGH[1]:
                found.append((top, row))
            top = None
    return found[:2]


def _combs(profile: Array) -> list[tuple[float, float]]:
    """Return the starts and pitches of the ten cells whose boundaries have the least ink."""
    smooth = np.convolve(profile, (0.25, 0.5, 0.25), "same")
    starts, pitches = np.meshgrid(_STARTS - _LEFT * _SCALE, _PITCHES, indexing="ij")
    middle = (starts + pitches * DIGITS / 2) / _SCALE + _LEFT
    starts, pitches = (part[np.abs(middle) <= _OFF_CENTRE] for part in (starts, pitches))
    if not starts.size:
        return []
    edges = starts[:, None] + pitches[:, None] * np.arange(DIGITS + 1)
    inside = starts[:, None] + pitches[:, None] * (np.arange(DIGITS) + 0.5)
    beyond = np.stack((starts - pitches * 0.4, starts + pitches * (DIGITS + 0.4)), 1)
    score = (
        _at(smooth, inside).mean(1)
        - 1.5 * _at(smooth, edges).mean(1)
        - 0.5 * _at(smooth, beyond).mean(1)
    )
    best = []
    for _ in range(3):
        at = int(score.argmax())
        best.append((float(starts[at]), float(pitches[at])))
        close = (np.abs(starts - starts[at]) < 3) & (np.abs(pitches - pitches[at]) < 0.6)
        score[close] = -np.inf
        if not np.isfinite(score).any():
            break
    return best


def _at(profile: Array, where: Array) -> Array:
    found: Array = profile[np.clip(np.round(where).astype(int), 0, len(profile) - 1)]
    return found


@lru_cache(maxsize=1)
def _weights() -> tuple[Array, ...]:
    with np.load(_WEIGHTS) as saved:
        return tuple(
            saved[name].astype(np.float32) for name in ("one", "one_bias", "two", "two_bias")
        )
