"""A grey page -> the codes on it: the only home of zxing-cpp and pyzbar, cheap passes first.

Each stage runs only where those before found no karekod with two witnesses (publisher/witness).
What the registry knows does not matter here: a karekod that was read twice and that it does not
know sends the page to quarantine whatever else is found on it.

    whole   zxing-cpp on the whole page
    half    the same at half size, which closes gaps in thin or grainy ink
    crops   zxing-cpp on squares of 46 mm that may hold a code, through one filter after the other:
            where one was read or located already, where there are most edges both across and
            down, and in the corners of the page
    zbar    pyzbar on these squares; it reads what is stamped, faded or copied, and is less exact
    hard    zxing-cpp on the whole page with everything on, turned and shrunk

A filter is named as the evidence names it. `dark-15` to `dark-80` call ink what is darker than
that share of the way from the darkest to the paper: toner is darker than a seal's or a pen's ink.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import zxingcpp
from PIL import Image, ImageFilter
from pyzbar.pyzbar import ZBarSymbol
from pyzbar.pyzbar import decode as zbar_decode

from config.registry import is_karekod
from publisher.messages import LONGEST_TEXT, MOST_READINGS
from publisher.page import Reading
from publisher.witness import witnessed

ENOUGH = 2  # witnesses
BUDGET = 2.5  # seconds of processor time a page: on a busy machine no fewer passes are made
_PATIENCE = 4.0  # seconds by the clock, so that the reader need not end the worker
_CROP_MM, _CODE_MM, _A4_MM = 46.0, 13.0, 297.0
_CROPS = 4
_CELL = 16  # pixels of the page that count as one when edges are looked for
# QRCodeModel2 alone: QRCode also looks for Micro QR, which noise resembles.
_FORMATS = zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCodeModel2)

Filter = Callable[[Image.Image], Image.Image]
Point = tuple[float, float]
Crop = tuple[Image.Image, tuple[int, int]]  # and where its left top corner is on the page
Pixels = npt.NDArray[Any]


def read(grey: Image.Image, scale: float = 1.0, budget: float = BUDGET) -> list[Reading]:
    """Return every code that was read, each as often as it was.

    `scale` is how many of the page's pixels one of `grey` stands for, for the places of codes.
    """
    until, last = time.process_time() + budget, time.monotonic() + _PATIENCE
    found: list[Reading] = []
    for reading in _passes(grey, found):
        found += reading
        if _enough(found) or time.process_time() > until or time.monotonic() > last:
            break
    return [_scaled(reading, scale) for reading in found[:MOST_READINGS]]


def _scaled(reading: Reading, scale: float) -> Reading:
    corners = tuple((round(x * scale), round(y * scale)) for x, y in reading.corners)
    return replace(reading, corners=corners)


def _enough(found: list[Reading]) -> bool:
    texts = {reading.text for reading in found if is_karekod(reading.text)}
    return any(witnessed(text, found).witnesses >= ENOUGH for text in texts)


def _passes(grey: Image.Image, found: list[Reading]) -> Iterator[list[Reading]]:
    yield _zxing(grey, "whole")
    yield _zxing(grey.reduce(2), "half", 0.5)
    crops: list[Crop] = []
    for name, changed, scale in _FILTERS:
        crops = _crops(grey, found, crops)
        for crop, corner in crops:
            yield _zxing(changed(crop), name, scale, corner)
    for name, changed, scale in _ZBAR_FILTERS:
        crops = _crops(grey, found, crops)
        for crop, corner in crops:
            yield _zbar(changed(crop), name, scale, corner)
    yield _zxing(grey, "hard", thorough=True)


def _crops(grey: Image.Image, found: list[Reading], known: list[Crop]) -> list[Crop]:
    """Cut out the squares that may hold a code; where one was read comes first."""
    half = max(8, round(max(grey.size) / _A4_MM * _CROP_MM / 2))
    if not known:
        points = _apart([*_located(grey), *_busy(grey), *_corners(grey, half)], half)
        known = [_cut(grey, at, half) for at in points]
    read_at = _apart([_middle(r) for r in found if is_karekod(r.text)], half)
    return [*(_cut(grey, at, half) for at in read_at[:2] if not _inside(at, known)), *known]


def _inside(at: Point, crops: list[Crop]) -> bool:
    return any(
        left + crop.width / 4 <= at[0] <= left + crop.width * 3 / 4
        and top + crop.height / 4 <= at[1] <= top + crop.height * 3 / 4
        for crop, (left, top) in crops
    )


def _corners(grey: Image.Image, half: int) -> list[Point]:
    """Return the middle of the square in each corner, where forms have their codes."""
    return [(x, y) for x in (grey.width - half, half) for y in (half, grey.height - half)]


def _cut(grey: Image.Image, at: Point, half: int) -> Crop:
    left = min(max(0, round(at[0]) - half), grey.width - 1)
    top = min(max(0, round(at[1]) - half), grey.height - 1)
    right, bottom = min(grey.width, left + 2 * half), min(grey.height, top + 2 * half)
    return grey.crop((left, top, right, bottom)), (left, top)


def _apart(points: list[Point], half: int) -> list[Point]:
    kept: list[Point] = []
    for x, y in points:
        if all(max(abs(x - a), abs(y - b)) > half / 2 for a, b in kept):
            kept.append((x, y))
    return kept[: 2 * _CROPS]


def _located(grey: Image.Image) -> list[Point]:
    """Return the middle of each code that zxing-cpp sees but cannot read."""
    seen = zxingcpp.read_barcodes(
        grey,
        formats=_FORMATS,
        try_rotate=False,
        try_downscale=False,
        try_invert=False,
        return_errors=True,
    )
    return [
        (
            (code.position.top_left.x + code.position.bottom_right.x) / 2,
            (code.position.top_left.y + code.position.bottom_right.y) / 2,
        )
        for code in seen[:_CROPS]
    ]


def _busy(grey: Image.Image) -> Iterator[Point]:
    """Yield where a square of a code's size has most edges, the lesser of across and down."""
    pixels = np.asarray(grey.reduce(2), np.int16)
    across = np.abs(np.diff(pixels, axis=1))[:-1]
    down = np.abs(np.diff(pixels, axis=0))[:, :-1]
    cell = _CELL // 2
    side = max(2, round(max(grey.size) / _A4_MM * _CODE_MM / _CELL))
    energy = np.minimum(_sums(_pooled(across, cell), side), _sums(_pooled(down, cell), side))
    for _ in range(_CROPS if energy.size else 0):
        y, x = divmod(int(energy.argmax()), energy.shape[1])
        if energy[y, x] <= 0:
            return
        yield (x + side / 2) * _CELL, (y + side / 2) * _CELL
        energy[max(0, y - side) : y + side + 1, max(0, x - side) : x + side + 1] = 0


def _pooled(values: Pixels, cell: int) -> Pixels:
    high, wide = values.shape[0] // cell, values.shape[1] // cell
    whole = values[: high * cell, : wide * cell]
    pooled: Pixels = whole.reshape(high, cell, wide, cell).sum((1, 3), dtype=np.float32)
    return pooled


def _sums(values: Pixels, side: int) -> Pixels:
    if min(values.shape) < side:
        return np.zeros((0, 0), np.float32)
    total = np.pad(values.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    rows: Pixels = total[side:] - total[:-side]
    return rows[:, side:] - rows[:, :-side]


# The filters.


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


_FILTERS: tuple[tuple[str, Filter, float], ...] = (
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
_ZBAR_FILTERS: tuple[tuple[str, Filter, float], ...] = (
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


# The engines.


def _zxing(
    grey: Image.Image,
    scan: str,
    scale: float = 1,
    corner: tuple[int, int] = (0, 0),
    *,
    thorough: bool = False,
) -> list[Reading]:
    begun = time.monotonic()
    codes = zxingcpp.read_barcodes(
        grey,
        formats=_FORMATS,
        try_rotate=thorough,
        try_downscale=thorough,
        try_invert=thorough,
    )
    ms = milliseconds(begun)
    found = []
    for code in codes[:MOST_READINGS]:
        at = code.position
        corners = (at.top_left, at.top_right, at.bottom_right, at.bottom_left)
        places = tuple(_placed(point.x, point.y, scale, corner) for point in corners)
        # `.text` rewrites control characters, `.bytes` is what the code holds.
        found.append(Reading(_text(code.bytes), "zxing-cpp", scan, ms, places))
    return found


def _zbar(grey: Image.Image, scan: str, scale: float, corner: tuple[int, int]) -> list[Reading]:
    begun = time.monotonic()
    try:
        codes = zbar_decode(grey, symbols=[ZBarSymbol.QRCODE])
    except Exception:
        codes = []
    ms = milliseconds(begun)
    return [
        Reading(
            _text(code.data),
            "pyzbar",
            scan,
            ms,
            tuple(_placed(point.x, point.y, scale, corner) for point in code.polygon[:4]),
        )
        for code in codes[:MOST_READINGS]
    ]


def _placed(x: float, y: float, scale: float, corner: tuple[int, int]) -> tuple[int, int]:
    return round(x / scale) + corner[0], round(y / scale) + corner[1]


def _middle(reading: Reading) -> Point:
    xs, ys = [x for x, _ in reading.corners], [y for _, y in reading.corners]
    return (sum(xs) / len(xs), sum(ys) / len(ys)) if xs else (0.0, 0.0)


def _text(content: bytes) -> str:
    # Escaping bytes that are no UTF-8 can never turn them into a karekod.
    return content.decode("utf-8", "backslashreplace")[:LONGEST_TEXT]


def milliseconds(since: float) -> int:
    """Return how long ago a time of the monotonic clock was."""
    return round((time.monotonic() - since) * 1000)
