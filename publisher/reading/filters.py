"""What a square of a page is put through so that a code on it can be read, in the order tried.

A filter is named as the evidence names it, and stands with the scale of what it makes. `dark-15` to
`dark-80` call ink what is darker than that share of the way from the darkest to the paper: toner is
darker than a seal's or a pen's ink.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

Filter = Callable[[Image.Image], Image.Image]


def _same(crop: Image.Image) -> Image.Image:
    return crop


def _dark(share: float, blur: float = 0) -> Filter:
    def filtered(crop: Image.Image) -> Image.Image:
        soft = crop.filter(ImageFilter.GaussianBlur(blur)) if blur else crop
        levels = np.cumsum(soft.histogram())
        darkest, paper = (int(np.searchsorted(levels, levels[-1] * p)) for p in (0.02, 0.8))
        at = darkest + (paper - darkest) * share
        return soft.point([255 * (value > at) for value in range(256)])

    return filtered


def _blurred(radius: float) -> Filter:
    return lambda crop: crop.filter(ImageFilter.GaussianBlur(radius))


def _larger(scale: float, blur: float = 0) -> Filter:
    def filtered(crop: Image.Image) -> Image.Image:
        soft = crop.filter(ImageFilter.GaussianBlur(blur)) if blur else crop
        size = round(crop.width * scale), round(crop.height * scale)
        return soft.resize(size, Image.Resampling.BICUBIC)

    return filtered


def _sharp(crop: Image.Image) -> Image.Image:
    return crop.filter(ImageFilter.UnsharpMask(2, 250, 0))


def _sharp_larger(crop: Image.Image) -> Image.Image:
    return _larger(2)(crop).filter(ImageFilter.UnsharpMask(4, 250, 0))


def _median(crop: Image.Image) -> Image.Image:
    return crop.filter(ImageFilter.MedianFilter(3))


def _thin(crop: Image.Image) -> Image.Image:
    return _shrunk(crop, np.maximum)


def _thick(crop: Image.Image) -> Image.Image:
    return _shrunk(crop, np.minimum)


def _shrunk(crop: Image.Image, most: np.ufunc) -> Image.Image:
    pixels = np.pad(np.asarray(crop), 1, mode="edge")
    middle = most(pixels[1:-1, 1:-1], most(pixels[:-2, 1:-1], pixels[2:, 1:-1]))
    return Image.fromarray(most(middle, most(pixels[1:-1, :-2], pixels[1:-1, 2:])))


FILTERS: tuple[tuple[str, Filter, float], ...] = (
    ("crop", _same, 1),
    ("dark-15", _dark(0.15), 1),
    ("blur-1", _blurred(1), 1),
    ("thin", _thin, 1),
    ("dark-35", _dark(0.35), 1),
    ("sharp", _sharp, 1),
    ("dark-80", _dark(0.8), 1),
    ("blur-1-dark-25", _dark(0.25, 1), 1),
    ("dark-25", _dark(0.25), 1),
    ("blur-1.5-double", _larger(2, 1.5), 2),
    ("thick", _thick, 1),
    ("double", _larger(2), 2),
    ("sharp-double", _sharp_larger, 2),
    ("median", _median, 1),
    ("dark-8", _dark(0.08), 1),
    ("0.7", _larger(0.7), 0.7),
    ("blur-1-dark-70", _dark(0.7, 1), 1),
    ("dark-20", _dark(0.2), 1),
    ("dark-11", _dark(0.11), 1),
    ("dark-30", _dark(0.3), 1),
    ("dark-5", _dark(0.05), 1),
    ("blur-1-dark-10", _dark(0.1, 1), 1),
    ("blur-1-dark-85", _dark(0.85, 1), 1),
    ("blur-1.5-dark-15", _dark(0.15, 1.5), 1),
    ("double-thin", lambda crop: _thin(_larger(2)(crop)), 2),
    ("thin-twice", lambda crop: _thin(_thin(crop)), 1),
    ("1.4-dark-20", lambda crop: _dark(0.2)(_larger(1.4)(crop)), 1.4),
)
ZBAR_FILTERS: tuple[tuple[str, Filter, float], ...] = (
    ("dark-15", _dark(0.15), 1),
    ("thin", _thin, 1),
    ("dark-25", _dark(0.25), 1),
    ("crop", _same, 1),
    ("blur-1", _blurred(1), 1),
    ("dark-35", _dark(0.35), 1),
    ("blur-1-dark-25", _dark(0.25, 1), 1),
    ("0.7", _larger(0.7), 0.7),
    ("sharp-double", _sharp_larger, 2),
    ("median", _median, 1),
    ("dark-8", _dark(0.08), 1),
    ("dark-20", _dark(0.2), 1),
    ("thin-twice", lambda crop: _thin(_thin(crop)), 1),
    ("blur-1-dark-10", _dark(0.1, 1), 1),
    ("1.4-dark-20", lambda crop: _dark(0.2)(_larger(1.4)(crop)), 1.4),
)
