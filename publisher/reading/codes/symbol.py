"""Compares a code that an engine read with the code that its text would be printed as.

A karekod is a QR code model 2 of version 1 with ten digits and nothing else. Engines also return
such a text for other codes: for one part of a structured append, for a GS1 code, and for a code
that is read mirrored, because it shines through from the other side of the paper. The engines do
not say so in every case, so the modules themselves are compared.

`Symbol.MIRRORED` is evidence of the back of a sheet, `Symbol.OTHER` is not a karekod.
"""

from enum import StrEnum
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import qrcode
from PIL import Image
from qrcode.util import MODE_8BIT_BYTE, MODE_ALPHA_NUM, MODE_NUMBER, QRData

SIDE = 21  # modules across a code of version 1
LEVELS = {"L": qrcode.ERROR_CORRECT_L, "M": qrcode.ERROR_CORRECT_M} | {
    "Q": qrcode.ERROR_CORRECT_Q,
    "H": qrcode.ERROR_CORRECT_H,
}
_ZEROS = "0" * 10
_MODES = (MODE_NUMBER, MODE_8BIT_BYTE, MODE_ALPHA_NUM)
_SAMPLES = 3  # pixels that are averaged in each direction of a module
# The likeness of a code that is printed as expected is 0.75 or more even if it is damaged, that of
# another code is less than 0.35 (tests/unit/publisher/reading/codes/test_symbol.py).
_LIKELY = 0.5

Corners = tuple[tuple[float, float], ...]
Modules = npt.NDArray[Any]


class Symbol(StrEnum):
    """How a code looks beside the code that its text would be printed as."""

    PRINTED = "printed"
    MIRRORED = "mirrored"
    OTHER = "other"


def symbol_of(
    grey: Image.Image, corners: Corners, text: str, level: str = "L", mask: int | None = None
) -> tuple[Symbol, int]:
    """Return what the modules of a code with ten digits show, and how it is turned.

    `corners` are those of the code on `grey`: top left, top right, bottom right, bottom left. If
    the engine does not know which is which, `mask` is None and every turn and mask is tried; the
    turn is the number of the corner, from 0, that is the top left one.
    """
    seen = _sampled(grey, corners)
    turns = range(1) if mask is not None else range(4)
    masks = range(8) if mask is None else (mask,)
    best, symbol, turned_by = _LIKELY, Symbol.OTHER, 0
    for mode in _MODES:
        varying = _varying(level, mode)
        for turn in turns:
            turned = np.rot90(seen, turn)
            for number in masks:
                expected = _expected(text, level, number, mode)
                printed = _likeness(turned, expected, varying)
                mirrored = _likeness(turned.T, expected, varying)
                for likeness, what in ((printed, Symbol.PRINTED), (mirrored, Symbol.MIRRORED)):
                    if likeness > best:
                        best, symbol, turned_by = likeness, what, turn
        if symbol is not Symbol.OTHER:
            break
    return symbol, turned_by


def _sampled(grey: Image.Image, corners: Corners) -> Modules:
    """Return the brightness of each module, compared with the modules around it."""
    (a, b), (c, d), (e, f), (g, h) = corners
    size = (SIDE * _SAMPLES, SIDE * _SAMPLES)
    quad = (a, b, g, h, e, f, c, d)
    flat = grey.transform(size, Image.Transform.QUAD, quad, Image.Resampling.BILINEAR)
    pixels = np.asarray(flat, np.float32).reshape(SIDE, _SAMPLES, SIDE, _SAMPLES).mean((1, 3))
    around = np.pad(pixels, 3, mode="reflect").cumsum(0).cumsum(1)
    around = np.pad(around, ((1, 0), (1, 0)))
    sums = around[7:, 7:] - around[:-7, 7:] - around[7:, :-7] + around[:-7, :-7]
    seen: Modules = pixels - sums / 49
    return seen


def _likeness(seen: Modules, expected: Modules, varying: Modules) -> float:
    """Return the correlation of the varying modules: 1 if all are the same, about 0 by chance."""
    values, wanted = seen[varying], expected[varying]
    values, wanted = values - values.mean(), wanted - wanted.mean()
    return float((values * wanted).sum() / (np.linalg.norm(values) * np.linalg.norm(wanted) + 1e-9))


@lru_cache(maxsize=16)
def _varying(level: str, mode: int) -> Modules:
    """Return the modules that depend on the ten digits; padding is the same in other codes."""
    samples = [f"{number * 7919 % 10**10:010d}" for number in range(1, 10**7, 10**7 // 24)]
    drawn = np.stack([_expected(text, level, 0, mode) for text in samples])
    varied: Modules = drawn.min(0) != drawn.max(0)
    return varied


@lru_cache(maxsize=256)
def _expected(text: str, level: str, mask: int, mode: int) -> Modules:
    """Return the modules of a code: -1 for dark ones, 1 for light ones."""
    if mode != MODE_NUMBER:
        return _drawn(text, level, mask, mode)
    flipped = _flipped(level)[_bits(text)].sum(0) & 1
    modules: Modules = np.where(flipped, -1, 1) * _drawn(_ZEROS, level, mask, mode)
    return modules.astype(np.float32)


def _bits(text: str) -> list[int]:
    """Return which bits of ten digits are set: three digits are ten bits, the last one is four."""
    groups = [int(text[at : at + 3]) for at in range(0, len(_ZEROS), 3)]
    return [
        10 * number + bit
        for number, group in enumerate(groups)
        for bit in range(10)
        if group >> bit & 1
    ]


@lru_cache(maxsize=len(LEVELS))
def _flipped(level: str) -> Modules:
    """Return the modules that each bit of the digits changes.

    A code is linear: what two bits change is what each changes, except where both change a module,
    whatever the mask is. So a code need not be encoded for each text.
    """
    zeros = _drawn(_ZEROS, level, 0, MODE_NUMBER)
    groups = [(at, 3, 10) for at in (0, 3, 6)] + [(9, 1, 4)]
    texts = [
        _ZEROS[:at] + f"{1 << bit:0{digits}}" + _ZEROS[at + digits :]
        for at, digits, bits in groups
        for bit in range(bits)
    ]
    drawn = np.stack([_drawn(text, level, 0, MODE_NUMBER) for text in texts])
    flipped: Modules = (drawn != zeros).astype(np.uint8)
    return flipped


@lru_cache(maxsize=64)
def _drawn(text: str, level: str, mask: int, mode: int) -> Modules:
    code = qrcode.QRCode(version=1, error_correction=LEVELS[level], border=0, mask_pattern=mask)
    code.add_data(QRData(text, mode=mode), optimize=0)
    code.make(fit=False)
    return np.where(np.array(code.modules), -1.0, 1.0).astype(np.float32)
