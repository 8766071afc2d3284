"""Reads the codes on a grey page with zxing-cpp and pyzbar, cheap passes first.

Only this module uses the two engines. It makes these passes, and stops as soon as two readings
agree on a karekod (publisher/reading/agreement):

    whole   zxing-cpp on the whole page
    half    zxing-cpp on the page at half size, which closes gaps in thin or grainy ink
    crops   zxing-cpp on squares of 46 mm that may contain a code, through one filter after
            another: where a code was read or located before, where there are most edges both
            across and down, and in the corners of the page
    zbar    pyzbar on the same squares; it reads stamped, faded or copied codes, but misreads more
    hard    zxing-cpp on the whole page with all its options: rotated, shrunk and inverted

The filters are in publisher/reading/filters. The registry is not asked here: a karekod that was
read twice and is not in the registry sends the page to quarantine, whatever else is on it.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import zxingcpp
from PIL import Image
from pyzbar.pyzbar import ZBarSymbol
from pyzbar.pyzbar import decode as zbar_decode

from config.registry import is_karekod
from publisher.page import Reading
from publisher.reading.agreement import agreement_on
from publisher.reading.filters import FILTERS, ZBAR_FILTERS
from publisher.reading.protocol import MAX_READINGS, MAX_TEXT_LENGTH

ENOUGH_READINGS = 2  # agreeing readings, after which no more passes are made
CPU_BUDGET = 2.5  # seconds of CPU time per page, so a busy machine makes no fewer passes
_WALL_BUDGET = 4.0  # seconds by the clock; below the deadline of the worker client
_CROP_MM, _CODE_MM, _A4_MM = 46.0, 13.0, 297.0
_CROPS = 4
_CELL = 16  # edges are counted in square cells of 16 by 16 pixels
# Only QRCodeModel2: the format QRCode includes Micro QR, which noise often resembles.
_FORMATS = zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCodeModel2)

Point = tuple[float, float]
Crop = tuple[Image.Image, tuple[int, int]]  # a square, and its top left corner on the page
Pixels = npt.NDArray[Any]


def read_codes(grey: Image.Image, scale: float = 1.0, budget: float = CPU_BUDGET) -> list[Reading]:
    """Return every reading of every code, so a code that was read twice is returned twice.

    `scale` is the width of the page divided by the width of `grey`; it converts the corners of
    codes to pixels of the page. `budget` is in seconds of CPU time.
    """
    cpu_deadline, deadline = time.process_time() + budget, time.monotonic() + _WALL_BUDGET
    found: list[Reading] = []
    for readings in _passes(grey, found):
        found += readings
        if _has_agreement(found):
            break
        if time.process_time() > cpu_deadline or time.monotonic() > deadline:
            break
    return [_scaled(reading, scale) for reading in found[:MAX_READINGS]]


def _scaled(reading: Reading, scale: float) -> Reading:
    corners = tuple((round(x * scale), round(y * scale)) for x, y in reading.corners)
    return replace(reading, corners=corners)


def _has_agreement(found: list[Reading]) -> bool:
    texts = {reading.text for reading in found if is_karekod(reading.text)}
    return any(agreement_on(text, found).agreeing >= ENOUGH_READINGS for text in texts)


def _passes(grey: Image.Image, found: list[Reading]) -> Iterator[list[Reading]]:
    yield _zxing(grey, "whole")
    yield _zxing(grey.reduce(2), "half", 0.5)
    crops: list[Crop] = []
    for name, apply, scale in FILTERS:
        crops = _candidate_crops(grey, found, crops)
        for crop, corner in crops:
            yield _zxing(apply(crop), name, scale, corner)
    for name, apply, scale in ZBAR_FILTERS:
        crops = _candidate_crops(grey, found, crops)
        for crop, corner in crops:
            yield _zbar(apply(crop), name, scale, corner)
    yield _zxing(grey, "hard", thorough=True)


def _candidate_crops(grey: Image.Image, found: list[Reading], known: list[Crop]) -> list[Crop]:
    """Cut out the squares that may contain a code; those where one was read come first."""
    half = max(8, round(max(grey.size) / _A4_MM * _CROP_MM / 2))
    if not known:
        points = _spread_out(
            [*_unread_codes(grey), *_edge_rich(grey), *_page_corners(grey, half)], half
        )
        known = [_crop(grey, at, half) for at in points]
    read_at = _spread_out([_middle(r) for r in found if is_karekod(r.text)], half)
    return [*(_crop(grey, at, half) for at in read_at[:2] if not _inside(at, known)), *known]


def _inside(at: Point, crops: list[Crop]) -> bool:
    return any(
        left + crop.width / 4 <= at[0] <= left + crop.width * 3 / 4
        and top + crop.height / 4 <= at[1] <= top + crop.height * 3 / 4
        for crop, (left, top) in crops
    )


def _page_corners(grey: Image.Image, half: int) -> list[Point]:
    """Return the middle of a square in each corner of the page, where forms have their codes."""
    return [(x, y) for x in (grey.width - half, half) for y in (half, grey.height - half)]


def _crop(grey: Image.Image, at: Point, half: int) -> Crop:
    left = min(max(0, round(at[0]) - half), grey.width - 1)
    top = min(max(0, round(at[1]) - half), grey.height - 1)
    right, bottom = min(grey.width, left + 2 * half), min(grey.height, top + 2 * half)
    return grey.crop((left, top, right, bottom)), (left, top)


def _spread_out(points: list[Point], half: int) -> list[Point]:
    kept: list[Point] = []
    for x, y in points:
        if all(max(abs(x - a), abs(y - b)) > half / 2 for a, b in kept):
            kept.append((x, y))
    return kept[: 2 * _CROPS]


def _unread_codes(grey: Image.Image) -> list[Point]:
    """Return the middle of each code that zxing-cpp locates but cannot read."""
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


def _edge_rich(grey: Image.Image) -> Iterator[Point]:
    """Yield the squares of a code's size with most edges: the smaller of across and down counts."""
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
    for code in codes[:MAX_READINGS]:
        at = code.position
        corners = (at.top_left, at.top_right, at.bottom_right, at.bottom_left)
        places = tuple(_on_page(point.x, point.y, scale, corner) for point in corners)
        # `.text` rewrites control characters; `.bytes` is the content of the code.
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
            tuple(_on_page(point.x, point.y, scale, corner) for point in code.polygon[:4]),
        )
        for code in codes[:MAX_READINGS]
    ]


def _on_page(x: float, y: float, scale: float, corner: tuple[int, int]) -> tuple[int, int]:
    return round(x / scale) + corner[0], round(y / scale) + corner[1]


def _middle(reading: Reading) -> Point:
    xs, ys = [x for x, _ in reading.corners], [y for _, y in reading.corners]
    return (sum(xs) / len(xs), sum(ys) / len(ys)) if xs else (0.0, 0.0)


def _text(content: bytes) -> str:
    # Escaped bytes contain a backslash, so they can never make up a karekod.
    return content.decode("utf-8", "backslashreplace")[:MAX_TEXT_LENGTH]


def milliseconds(since: float) -> int:
    """Return the milliseconds since a time of the monotonic clock."""
    return round((time.monotonic() - since) * 1000)
