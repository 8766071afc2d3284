"""Filters that make a damaged code readable, in the order in which they are tried.

FILTERS are for zxing-cpp, ZBAR_FILTERS for pyzbar. The name of a filter is the name of the scan in
the evidence. `dark-15` keeps only dark pixels: if the darkest grey is 0 % and the paper 100 %,
those below 15 %. Toner is darker than the ink of a stamp or a pen. To add a filter, add a line to a
list. The order matters, because reading stops at the first two readings that agree.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

Apply = Callable[[Image.Image], Image.Image]


class Filter(NamedTuple):
    """One filter; it returns a picture that is `scale` times as large."""

    name: str
    apply: Apply
    scale: float = 1


def _same(crop: Image.Image) -> Image.Image:
    return crop


def _dark(share: float, blur: float = 0) -> Apply:
    def filtered(crop: Image.Image) -> Image.Image:
        soft = crop.filter(ImageFilter.GaussianBlur(blur)) if blur else crop
        levels = np.cumsum(soft.histogram())
        darkest, paper = (int(np.searchsorted(levels, levels[-1] * p)) for p in (0.02, 0.8))
        at = darkest + (paper - darkest) * share
        return soft.point([255 * (value > at) for value in range(256)])

    return filtered


def _blurred(radius: float) -> Apply:
    return lambda crop: crop.filter(ImageFilter.GaussianBlur(radius))


def _larger(scale: float, blur: float = 0) -> Apply:
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


def _shrunk(crop: Image.Image, extreme: np.ufunc) -> Image.Image:
    pixels = np.pad(np.asarray(crop), 1, mode="edge")
    middle = extreme(pixels[1:-1, 1:-1], extreme(pixels[:-2, 1:-1], pixels[2:, 1:-1]))
    return Image.fromarray(extreme(middle, extreme(pixels[1:-1, :-2], pixels[1:-1, 2:])))


FILTERS: tuple[Filter, ...] = (
    Filter("crop", _same),
    Filter("dark-15", _dark(0.15)),
    Filter("blur-1", _blurred(1)),
    Filter("thin", _thin),
    Filter("dark-35", _dark(0.35)),
    Filter("sharp", _sharp),
    Filter("dark-80", _dark(0.8)),
    Filter("blur-1-dark-25", _dark(0.25, 1)),
    Filter("dark-25", _dark(0.25)),
    Filter("blur-1.5-double", _larger(2, 1.5), 2),
    Filter("thick", _thick),
    Filter("double", _larger(2), 2),
    Filter("sharp-double", _sharp_larger, 2),
    Filter("median", _median),
    Filter("dark-8", _dark(0.08)),
    Filter("0.7", _larger(0.7), 0.7),
    Filter("blur-1-dark-70", _dark(0.7, 1)),
    Filter("dark-20", _dark(0.2)),
    Filter("dark-11", _dark(0.11)),
    Filter("dark-30", _dark(0.3)),
    Filter("dark-5", _dark(0.05)),
    Filter("blur-1-dark-10", _dark(0.1, 1)),
    Filter("blur-1-dark-85", _dark(0.85, 1)),
    Filter("blur-1.5-dark-15", _dark(0.15, 1.5)),
    Filter("double-thin", lambda crop: _thin(_larger(2)(crop)), 2),
    Filter("thin-twice", lambda crop: _thin(_thin(crop))),
    Filter("1.4-dark-20", lambda crop: _dark(0.2)(_larger(1.4)(crop)), 1.4),
)
ZBAR_FILTERS: tuple[Filter, ...] = (
    Filter("dark-15", _dark(0.15)),
    Filter("thin", _thin),
    Filter("dark-25", _dark(0.25)),
    Filter("crop", _same),
    Filter("blur-1", _blurred(1)),
    Filter("dark-35", _dark(0.35)),
    Filter("blur-1-dark-25", _dark(0.25, 1)),
    Filter("0.7", _larger(0.7), 0.7),
    Filter("sharp-double", _sharp_larger, 2),
    Filter("median", _median),
    Filter("dark-8", _dark(0.08)),
    Filter("dark-20", _dark(0.2)),
    Filter("thin-twice", lambda crop: _thin(_thin(crop))),
    Filter("blur-1-dark-10", _dark(0.1, 1)),
    Filter("1.4-dark-20", lambda crop: _dark(0.2)(_larger(1.4)(crop)), 1.4),
)
