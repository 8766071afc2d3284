"""What a scanner makes of a page: a little tilted, unevenly lit, soft and grainy, as a file.

Most scanners write JPEG, grey or colour; the older ones black and white as TIFF, CCITT Group 4
(ITU-T T.6). All at 200 dpi, and the dpi stands in the file.
"""

import io
import math
import random
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

DPI = 200
_GREY, _COLOUR, _BILEVEL = "L", "RGB", "1"
_SHARES = {_GREY: 0.70, _COLOUR: 0.15, _BILEVEL: 0.15}
_GRAIN = 512  # pixels that the grain is larger than a page, so that it can be shifted
_MIDDLE = 128


class Scanned(NamedTuple):
    """A file's bytes, and the extension that says what they are."""

    content: bytes
    extension: str


def scan(page: Image.Image, chance: random.Random) -> Scanned:
    """Scan `page`, which is RGB at 200 dpi; the same dice give the same bytes."""
    mode = chance.choices(list(_SHARES), list(_SHARES.values()))[0]
    image = expose(page if mode == _COLOUR else page.convert(_GREY), chance)
    out = io.BytesIO()
    if mode == _BILEVEL:
        threshold = chance.randint(135, 165)
        table = [255 * (value > threshold) for value in range(256)]
        image.point(table, "1").save(out, "TIFF", compression="group4", dpi=(DPI, DPI))
        return Scanned(out.getvalue(), "tif")
    image.save(out, "JPEG", quality=chance.randint(60, 82), dpi=(DPI, DPI))
    return Scanned(out.getvalue(), "jpg")


def expose(image: Image.Image, chance: random.Random) -> Image.Image:
    """Return what the sensor sees of a page, RGB or grey at 200 dpi, before it is saved."""
    image = _laid(image, chance)
    image = _soft(image, chance)
    image = _lit(image, chance)
    _dust(image, chance)
    return _grainy(image, chance)


def _laid(image: Image.Image, chance: random.Random) -> Image.Image:
    """Lay the page askew on the glass; what the page leaves free is the lid."""
    tilt = math.radians(max(-4.0, min(4.0, chance.gauss(0, 1.1))))
    scale = chance.uniform(0.988, 1.008)
    across, down = chance.uniform(-12, 12), chance.uniform(-12, 12)
    cos, sin = math.cos(tilt) / scale, math.sin(tilt) / scale
    middle_x, middle_y = image.width / 2, image.height / 2
    left = middle_x - cos * (middle_x + across) - sin * (middle_y + down)
    top = middle_y + sin * (middle_x + across) - cos * (middle_y + down)
    lid = chance.choice((70, 120, 236, 246))
    return image.transform(
        image.size,
        Image.Transform.AFFINE,
        (cos, sin, left, -sin, cos, top),
        resample=Image.Resampling.BILINEAR,
        fillcolor=lid if image.mode == _GREY else (lid, lid, lid),
    )


def _soft(image: Image.Image, chance: random.Random) -> Image.Image:
    """Blur a little: a 3 x 3 kernel of that share of a pixel's neighbours."""
    side = chance.uniform(0.05, 0.45)
    corner = side * side
    weights = (corner, side, corner, side, 1.0, side, corner, side, corner)
    return image.filter(ImageFilter.Kernel((3, 3), weights))


def _lit(image: Image.Image, chance: random.Random) -> Image.Image:
    """Darken towards one side, and tint: paper is not white and lamps are not even."""
    white = chance.uniform(0.90, 0.985)
    slope_x, slope_y = chance.uniform(-0.06, 0.06), chance.uniform(-0.06, 0.06)
    x, y = np.meshgrid(np.linspace(-1, 1, 12), np.linspace(-1, 1, 16))
    field = 255 * (white + slope_x * x + slope_y * y - 0.02 * (x * x + y * y))
    tints = (1.0, chance.uniform(0.97, 1.0), chance.uniform(0.90, 0.99))
    bands = [
        Image.fromarray((field * tint).clip(0, 255).astype(np.uint8)).resize(
            image.size, Image.Resampling.BILINEAR
        )
        for tint in tints[: len(image.getbands())]
    ]
    light = bands[0] if image.mode == _GREY else Image.merge(_COLOUR, bands)
    return ImageChops.multiply(image, light)


def _dust(image: Image.Image, chance: random.Random) -> None:
    """Specks and a hair here and there, on the glass and so anywhere on the page."""
    draw = ImageDraw.Draw(image)
    for _ in range(chance.randint(2, 25)):
        x, y = chance.randrange(image.width), chance.randrange(image.height)
        shade, size = chance.randint(90, 200), chance.randint(0, 2)
        draw.ellipse((x, y, x + size, y + size), (shade,) * len(image.getbands()))
    if chance.random() < 0.2:
        x, y = chance.randrange(image.width), chance.randrange(image.height)
        turn = chance.uniform(0, math.tau)
        hair = []
        for _ in range(12):
            hair.append((x, y))
            turn += chance.uniform(-0.5, 0.5)
            x, y = x + round(9 * math.cos(turn)), y + round(9 * math.sin(turn))
        draw.line(hair, (120,) * len(image.getbands()), 1)


def _grainy(image: Image.Image, chance: random.Random) -> Image.Image:
    """Add the sensor's noise, each page another piece of it."""
    grain = _grain(image.size, chance.choice((0.6, 1.0, 1.5)))
    across, down = chance.randrange(_GRAIN), chance.randrange(_GRAIN)
    piece = grain.crop((across, down, across + image.width, down + image.height))
    if image.mode == _COLOUR:
        piece = Image.merge(_COLOUR, (piece, piece, piece))
    return ImageChops.add(image, piece, 1, -_MIDDLE)


@cache
def _grain(size: tuple[int, int], sigma: float) -> Image.Image:
    # Drawn once, from a seed of its own: a page shifts it by its own dice.
    shape = size[1] + _GRAIN, size[0] + _GRAIN
    noise = np.random.Generator(np.random.PCG64(round(sigma * 10))).standard_normal(
        shape, dtype=np.float32
    )
    return Image.fromarray((_MIDDLE + noise * sigma).round().clip(0, 255).astype(np.uint8))
