"""Reads the codes on a grey page with zxing-cpp and pyzbar, cheap passes first.

Only this module uses the two engines. It makes these passes, and stops as soon as two readings
agree on a karekod (publisher/reading/codes/agreement):

    whole   zxing-cpp on the whole page
    half    zxing-cpp on the page at half size, which closes gaps in thin or grainy ink
    crops   zxing-cpp on squares of 46 mm that may contain a code, through one filter after
            another: where a code was read or located before, where there are most edges both
            across and down, and in the corners of the page
    zbar    pyzbar on the same squares; it reads stamped, faded or copied codes, but misreads more
    hard    zxing-cpp on the whole page with all its options: rotated, shrunk and inverted

A code that was read only once counts as read twice if the digits printed under it say the same
(publisher/reading/codes/digits). If two readings agree, the digits must not be another number, and
the page is searched for codes that were not read (publisher/reading/codes/locate). Each of these is
cropped and read as well, until it is read or the budget is used. Nothing may be printed outside the
sheet that the code is on (publisher/reading/codes/outline). A code that is no karekod is returned
with a text that cannot be mistaken for one:

    other 1093717526       ten digits, but a GS1 code, a part of several codes, or a larger version
    mirrored 1093717526    a karekod that shines through from the other side of the paper
    digits 10937?7528      the digits that are printed under a code, if they are another number;
                           ten question marks if there was no time to read them
    unread code            a code at which no pass read anything
    print 13.9 0.6 ...     how far print reaches from the code (publisher/reading/codes/outline)
    ink 0.0031%            a blank page, on which no code was read (publisher/reading/codes/blank)

The filters are in publisher/reading/codes/filters. The registry is not asked here: a karekod that
was read twice and is not in the registry sends the page to quarantine, whatever else is on it.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import zxingcpp
from PIL import Image
from pyzbar.pyzbar import ZBarSymbol
from pyzbar.pyzbar import decode as zbar_decode

from config.registry import is_karekod
from publisher.page import MEASURE, Reading, Reason
from publisher.reading.codes.agreement import agreement_on
from publisher.reading.codes.blank import MOST_INK, ink_share
from publisher.reading.codes.digits import DIGITS, digits_under
from publisher.reading.codes.filters import FILTERS, ZBAR_FILTERS
from publisher.reading.codes.locate import unread_codes
from publisher.reading.codes.outline import print_around
from publisher.reading.codes.placing import Placed, are_in_place, frame_of
from publisher.reading.codes.symbol import LEVELS, Symbol, symbol_of
from publisher.reading.protocol import MAX_READINGS, MAX_TEXT_LENGTH

UNREAD = "unread code"
DIGITS_ENGINE = "digits"
_QUICK_PASSES = 2  # the passes over the whole page, after which a blank page is recognised
MAX_CODES = 64  # codes that one pass may return
_COPIES = 2  # of a karekod on a form; their digits are read even if the budget is used
ENOUGH_READINGS = 2  # agreeing readings, after which no more passes are made
CPU_BUDGET = 2.5  # seconds of CPU time per page, so a busy machine makes no fewer passes
THOROUGH_BUDGET = 5.0  # the same for a page that an operator has read again
_WALL_BUDGET = 4.0  # seconds by the clock; below the deadline of the worker client
_CROP_MM, _CODE_MM, _A4_MM = 46.0, 13.0, 297.0
_CROPS = 4
_CELL = 16  # edges are counted in square cells of 16 by 16 pixels
# Only QRCodeModel2: the format QRCode includes Micro QR, which noise often resembles.
_FORMATS = zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCodeModel2)

Point = tuple[float, float]
Crop = tuple[Image.Image, tuple[int, int]]  # a square, and its top left corner on the page
Pixels = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class PageCodes:
    """The readings of one page, a reason why they may not identify it, and measures of the page.

    `print_map` says where print is, if both copies were read (publisher/print_map).
    """

    readings: list[Reading]
    fault: Reason | None = None
    measures: tuple[Reading, ...] = ()
    print_map: bytes | None = None


def read_codes(grey: Image.Image, scale: float = 1.0, budget: float = CPU_BUDGET) -> PageCodes:
    """Return every reading of every code, so a code that was read twice is returned twice.

    `scale` is the width of the page divided by the width of `grey`; it converts the corners of
    codes to pixels of the page. `budget` is in seconds of CPU time.
    """
    cpu_deadline, deadline = time.process_time() + budget, time.monotonic() + _WALL_BUDGET
    found: list[Reading] = []
    tried: set[tuple[str, int, int]] = set()
    fault: Reason | None = None
    print_map: bytes | None = None
    for number, readings in enumerate(_passes(grey, found), start=1):
        found += readings
        if number == _QUICK_PASSES and not found:
            begun = time.monotonic()
            if (ink := ink_share(grey)) <= MOST_INK:
                measure = Reading(f"ink {ink:.4%}", MEASURE, "half", milliseconds(begun))
                return PageCodes([measure], Reason.BLANK_BACK)
        if number >= _QUICK_PASSES:
            found += _confirmed_by_digits(grey, found, tried, cpu_deadline)
        if text := _agreed(found):
            fault, print_map = _fault(grey, text, found, cpu_deadline)
            break
        if time.process_time() > cpu_deadline or time.monotonic() > deadline:
            break
    scaled = [_scaled(reading, scale) for reading in _most_important(found)]
    readings = [reading for reading in scaled if reading.engine != MEASURE]
    measures = tuple(reading for reading in scaled if reading.engine == MEASURE)
    return PageCodes(readings, fault, measures, print_map)


def read_everything(grey: Image.Image, budget: float = THOROUGH_BUDGET) -> list[Reading]:
    """Return what every pass reads, however many agree, and the digits under each code.

    For an operator who wants a page read again (publisher/reading/reread).
    """
    deadline = time.process_time() + budget
    found: list[Reading] = []
    for readings in _passes(grey, found):
        found += readings
        if time.process_time() > deadline:
            break
    codes = {reading.text: reading for reading in reversed(found)}
    for reading in codes.values():
        begun = time.monotonic()
        code = Placed.of(reading.corners)
        if printed := digits_under(grey, code) if code else None:
            ms, text = milliseconds(begun), f"digits {printed.text}"
            found.append(Reading(text, DIGITS_ENGINE, "printed", ms, reading.corners))
        if time.process_time() > deadline:
            break
    return _once_for_each_pass(found)


def _once_for_each_pass(found: list[Reading]) -> list[Reading]:
    """Return at most 64 readings: one of each text, engine and scan, karekods first."""
    single: dict[tuple[str, str, str], Reading] = {}
    for reading in found:
        single.setdefault((reading.text, reading.engine, reading.scan), reading)
    ordered = sorted(single.values(), key=lambda reading: not is_karekod(reading.text))
    return ordered[:MAX_READINGS]


def _most_important(found: list[Reading]) -> list[Reading]:
    """Return at most 64 readings; other codes never take the place of a karekod's readings."""
    karekods = [reading for reading in found if is_karekod(reading.text)][:MAX_READINGS]
    others = [reading for reading in found if not is_karekod(reading.text)]
    kept = {id(r) for r in (*karekods, *others[: max(0, MAX_READINGS - len(karekods))])}
    return [reading for reading in found if id(reading) in kept]


def _scaled(reading: Reading, scale: float) -> Reading:
    corners = tuple((round(x * scale), round(y * scale)) for x, y in reading.corners)
    return replace(reading, corners=corners)


def _agreed(found: list[Reading]) -> str | None:
    texts = dict.fromkeys(reading.text for reading in found if is_karekod(reading.text))
    return next(
        (text for text in texts if agreement_on(text, found).agreeing >= ENOUGH_READINGS), None
    )


def _fault(
    grey: Image.Image, text: str, found: list[Reading], cpu_deadline: float
) -> tuple[Reason | None, bytes | None]:
    """Return why a page is not filed although two readings agree on `text`, and its print_map.

    Located codes that no pass has read are read now; one that cannot be read is added to `found`.
    """
    if any(is_karekod(reading.text) and reading.text != text for reading in found):
        return None, None  # the registry decides which sheets they are
    own = _placed(reading for reading in found if reading.text == text)
    others = _placed(reading for reading in found if reading.text != text)
    begun = time.monotonic()
    for number, reading in enumerate(_copies(found, text), 1):
        code = Placed.of(reading.corners)
        late = number > _COPIES and time.process_time() > cpu_deadline
        printed = digits_under(grey, code) if code and not late else None
        if late or (printed and printed.contradict(text)):
            ms, seen = milliseconds(begun), f"digits {printed.text if printed else '?' * DIGITS}"
            found.append(Reading(seen, DIGITS_ENGINE, "printed", ms, reading.corners))
            return Reason.CONFLICTING_KAREKODS, None
    half = grey.reduce(2)
    for corners in unread_codes(grey, own, others, half):
        square = Placed.of(corners)
        assert square is not None  # noqa: S101 - a square has four corners
        if not _read_at(grey, square, found, cpu_deadline):
            places = tuple((round(x), round(y)) for x, y in corners)
            found.append(Reading(UNREAD, "pattern", "located", milliseconds(begun), places))
            return Reason.CONFLICTING_KAREKODS, None
    if not are_in_place(own, grey.size):
        return Reason.CODE_OUT_OF_PLACE, None
    begun = time.monotonic()
    measured = print_around(half, own[0], frame_of(own))
    if measured is None:
        return None, None
    extent, print_map = measured
    corners, ms = _copies(found, text)[0].corners, milliseconds(begun)
    found.append(Reading(str(extent), MEASURE, "outline", ms, corners))
    if not extent.is_on_a_sheet():
        return Reason.CODE_OUT_OF_PLACE, None
    return None, print_map


def _confirmed_by_digits(
    grey: Image.Image, found: list[Reading], tried: set[tuple[str, int, int]], cpu_deadline: float
) -> list[Reading]:
    """Return a reading for each code whose single reading the printed digits confirm.

    `tried` are the codes whose digits were read before. One code is tried however late it is.
    """
    confirmed = []
    for text in dict.fromkeys(reading.text for reading in found if is_karekod(reading.text)):
        if agreement_on(text, found).agreeing >= ENOUGH_READINGS:
            continue
        for reading in _copies(found, text):
            code = Placed.of(reading.corners)
            if code is None or (at := (text, *_rough(reading))) in tried:
                continue
            tried.add(at)
            begun = time.monotonic()
            printed = digits_under(grey, code)
            if printed and printed.confirm(text):
                ms = milliseconds(begun)
                confirmed.append(Reading(text, DIGITS_ENGINE, "printed", ms, reading.corners))
            if time.process_time() > cpu_deadline:
                return confirmed
    return confirmed


def _copies(found: list[Reading], text: str) -> list[Reading]:
    """Return one reading of each copy of a code."""
    copies: list[Reading] = []
    for reading in found:
        if reading.text == text and all(
            max(abs(a - b) for a, b in zip(_middle(reading), _middle(copy), strict=True))
            > _width(reading) / 2
            for copy in copies
        ):
            copies.append(reading)
    return copies


def _rough(reading: Reading) -> tuple[int, int]:
    x, y = _middle(reading)
    return round(x / 16), round(y / 16)


def _width(reading: Reading) -> float:
    code = Placed.of(reading.corners)
    return code.width if code else 0.0


def _placed(readings: Iterable[Reading]) -> list[Placed]:
    return [code for reading in readings if (code := Placed.of(reading.corners))]


def _read_at(grey: Image.Image, square: Placed, found: list[Reading], cpu_deadline: float) -> bool:
    """Try one filter after another on a located code; add the reading to `found`."""
    half = max(8, round(max(grey.size) / _A4_MM * _CROP_MM / 2))
    crop, corner = _crop(grey, (square.x, square.y), half)
    for engine, filters in ((_zxing, FILTERS), (_zbar, ZBAR_FILTERS)):
        for name, apply, scale in filters:
            for reading in engine(apply(crop), name, scale, corner):
                at = Placed.of(reading.corners)
                if at and max(abs(at.x - square.x), abs(at.y - square.y)) < square.width / 2:
                    found.append(reading)
                    return True
            if time.process_time() > cpu_deadline:
                return False
    return False


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
    """Cut out the squares that may contain a code, first those in which a karekod was read."""
    half = max(8, round(max(grey.size) / _A4_MM * _CROP_MM / 2))
    if not known:
        points = _spread_out(
            [*_unread_codes(grey), *_edge_rich(grey, found), *_page_corners(grey, half)], half
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
        for code in [code for code in seen if not code.valid][:_CROPS]
    ]


def _edge_rich(grey: Image.Image, found: list[Reading]) -> Iterator[Point]:
    """Yield the squares of a code's size that have most edges, the best first.

    A code has edges in both directions, so the direction with fewer of them counts. Squares with a
    code that was read and is not a karekod are left out.
    """
    pixels = np.asarray(grey.reduce(2), np.int16)
    across = np.abs(np.diff(pixels, axis=1))[:-1]
    down = np.abs(np.diff(pixels, axis=0))[:, :-1]
    cell = _CELL // 2
    side = max(2, round(max(grey.size) / _A4_MM * _CODE_MM / _CELL))
    energy = np.minimum(_sums(_pooled(across, cell), side), _sums(_pooled(down, cell), side))
    for code in _placed(reading for reading in found if not is_karekod(reading.text)):
        top, left = (int(at / _CELL - side * 1.5) for at in (code.y, code.x))
        energy[max(0, top) : max(0, top + 2 * side), max(0, left) : max(0, left + 2 * side)] = 0
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
    for code in codes[:MAX_CODES]:
        at = code.position
        corners = (at.top_left, at.top_right, at.bottom_right, at.bottom_left)
        points = tuple((point.x, point.y) for point in corners)
        places = tuple(_on_page(x, y, scale, corner) for x, y in points)
        # `.text` rewrites control characters; `.bytes` is the content of the code.
        text = _text(code.bytes)
        if is_karekod(text):
            text = _marked(text, _symbol_by_zxing(grey, code, points, text))
        found.append(Reading(text, "zxing-cpp", scan, ms, places))
    return found


def _symbol_by_zxing(
    grey: Image.Image, code: zxingcpp.Barcode, points: tuple[Point, ...], text: str
) -> Symbol:
    # ]Q1 is a plain QR code model 2; ]Q3 and ]Q5 are GS1 and AIM codes, ]Q2 has another charset.
    extra: Any = code.extra
    if code.symbology_identifier != "]Q1" or extra.get("Version") != "1":
        return Symbol.OTHER
    level, mask = extra.get("ECLevel"), extra.get("DataMask")
    if level not in LEVELS or mask not in range(8):
        return Symbol.OTHER
    return symbol_of(grey, points, text, level, mask)[0]


def _marked(text: str, symbol: Symbol) -> str:
    """Return the text of a karekod; put a word before the ten digits of any other code."""
    return text if symbol is Symbol.PRINTED else f"{symbol} {text}"


def _zbar(grey: Image.Image, scan: str, scale: float, corner: tuple[int, int]) -> list[Reading]:
    begun = time.monotonic()
    try:
        codes = zbar_decode(grey, symbols=[ZBarSymbol.QRCODE])
    except Exception:
        codes = []
    ms = milliseconds(begun)
    found = []
    for code in codes[:MAX_CODES]:
        text = _text(code.data)
        points = tuple((float(point.x), float(point.y)) for point in code.polygon)
        if len(points) != 4:
            continue
        if is_karekod(text):
            # ZBar gives the corners anticlockwise, and does not say which is the top left one.
            points = points[::-1]
            symbol, turn = symbol_of(grey, points, text)
            text, points = _marked(text, symbol), points[turn:] + points[:turn]
        places = tuple(_on_page(x, y, scale, corner) for x, y in points)
        found.append(Reading(text, "pyzbar", scan, ms, places))
    return found


def _on_page(x: float, y: float, scale: float, corner: tuple[int, int]) -> tuple[int, int]:
    return round(x / scale) + corner[0], round(y / scale) + corner[1]


def _middle(reading: Reading) -> Point:
    xs, ys = [x for x, _ in reading.corners], [y for _, y in reading.corners]
    return (sum(xs) / len(xs), sum(ys) / len(ys)) if xs else (0.0, 0.0)


def _text(content: bytes) -> str:
    # Escaped bytes contain a backslash, so they can never look like a karekod.
    return content.decode("utf-8", "backslashreplace")[:MAX_TEXT_LENGTH]


def milliseconds(since: float) -> int:
    """Return the milliseconds since a time of the monotonic clock."""
    return round((time.monotonic() - since) * 1000)
