"""Turns a page into a scan: slightly tilted, unevenly lit, soft and noisy, encoded as a file.

Most scanners write grey or colour JPEG. Older ones write black and white TIFF with CCITT Group 4
compression (ITU-T T.6). All scan at 200 dpi and write the resolution into the file.
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
_SHARES = {_GREY: 0.70, _COLOUR: 0.15, _BILEVEL: 0.15}  # of all scans
_NOISE_MARGIN = 512  # pixels by which the noise image is larger than a page, to shift it
_MIDDLE_GREY = 128


class EncodedScan(NamedTuple):
    """The bytes of a file, and the extension of its format."""

    content: bytes
    extension: str


def scan(page: Image.Image, rng: random.Random) -> EncodedScan:
    """Scan `page`, an RGB image at 200 dpi; the same random numbers give the same bytes."""
    mode = rng.choices(list(_SHARES), list(_SHARES.values()))[0]
    image = expose(page if mode == _COLOUR else page.convert(_GREY), rng)
    out = io.BytesIO()
    if mode == _BILEVEL:
        threshold = rng.randint(135, 165)
        table = [255 * (value > threshold) for value in range(256)]
        image.point(table, "1").save(out, "TIFF", compression="group4", dpi=(DPI, DPI))
        return EncodedScan(out.getvalue(), "tif")
    image.save(out, "JPEG", quality=rng.randint(60, 82), dpi=(DPI, DPI))
    return EncodedScan(out.getvalue(), "jpg")


def expose(image: Image.Image, rng: random.Random) -> Image.Image:
    """Return the page as the sensor sees it, RGB or grey at 200 dpi, before it is encoded."""
    image = _tilted(image, rng)
    image = _blurred(image, rng)
    image = _unevenly_lit(image, rng)
    _add_dust(image, rng)
    return _noisy(image, rng)


def _tilted(image: Image.Image, rng: random.Random) -> Image.Image:
    """Tilt, scale and shift the page on the glass; the rest shows the scanner's lid."""
    tilt = math.radians(max(-4.0, min(4.0, rng.gauss(0, 1.1))))
    scale = rng.uniform(0.988, 1.008)
    across, down = rng.uniform(-12, 12), rng.uniform(-12, 12)
    cos, sin = math.cos(tilt) / scale, math.sin(tilt) / scale
    middle_x, middle_y = image.width / 2, image.height / 2
    left = middle_x - cos * (middle_x + across) - sin * (middle_y + down)
    top = middle_y + sin * (middle_x + across) - cos * (middle_y + down)
    lid = rng.choice((70, 120, 236, 246))
    return image.transform(
        image.size,
        Image.Transform.AFFINE,
        (cos, sin, left, -sin, cos, top),
        resample=Image.Resampling.BILINEAR,
        fillcolor=lid if image.mode == _GREY else (lid, lid, lid),
    )


def _blurred(image: Image.Image, rng: random.Random) -> Image.Image:
    """Blur slightly with a 3 x 3 kernel that mixes in a share of each neighbouring pixel."""
    side = rng.uniform(0.05, 0.45)
    corner = side * side
    weights = (corner, side, corner, side, 1.0, side, corner, side, corner)
    return image.filter(ImageFilter.Kernel((3, 3), weights))


def _unevenly_lit(image: Image.Image, rng: random.Random) -> Image.Image:
    """Darken the page towards one side, and tint it: paper is not pure white."""
    white = rng.uniform(0.90, 0.985)
    slope_x, slope_y = rng.uniform(-0.06, 0.06), rng.uniform(-0.06, 0.06)
    x, y = np.meshgrid(np.linspace(-1, 1, 12), np.linspace(-1, 1, 16))
    field = 255 * (white + slope_x * x + slope_y * y - 0.02 * (x * x + y * y))
    tints = (1.0, rng.uniform(0.97, 1.0), rng.uniform(0.90, 0.99))
    bands = [
        Image.fromarray((field * tint).clip(0, 255).astype(np.uint8)).resize(
            image.size, Image.Resampling.BILINEAR
        )
        for tint in tints[: len(image.getbands())]
    ]
    light = bands[0] if image.mode == _GREY else Image.merge(_COLOUR, bands)
    return ImageChops.multiply(image, light)


def _add_dust(image: Image.Image, rng: random.Random) -> None:
    """Draw specks of dust, and sometimes a hair, anywhere on the page."""
    draw = ImageDraw.Draw(image)
    for _ in range(rng.randint(2, 25)):
        x, y = rng.randrange(image.width), rng.randrange(image.height)
        shade, size = rng.randint(90, 200), rng.randint(0, 2)
        draw.ellipse((x, y, x + size, y + size), (shade,) * len(image.getbands()))
    if rng.random() < 0.2:
        x, y = rng.randrange(image.width), rng.randrange(image.height)
        turn = rng.uniform(0, math.tau)
        hair = []
        for _ in range(12):
            hair.append((x, y))
            turn += rng.uniform(-0.5, 0.5)
            x, y = x + round(9 * math.cos(turn)), y + round(9 * math.sin(turn))
        draw.line(hair, (120,) * len(image.getbands()), 1)


def _noisy(image: Image.Image, rng: random.Random) -> Image.Image:
    """Add the noise of the sensor; each page uses another part of the noise image."""
    grain = _noise(image.size, rng.choice((0.6, 1.0, 1.5)))
    across, down = rng.randrange(_NOISE_MARGIN), rng.randrange(_NOISE_MARGIN)
    piece = grain.crop((across, down, across + image.width, down + image.height))
    if image.mode == _COLOUR:
        piece = Image.merge(_COLOUR, (piece, piece, piece))
    return ImageChops.add(image, piece, 1, -_MIDDLE_GREY)


@cache
def _noise(size: tuple[int, int], sigma: float) -> Image.Image:
    # Generated once with a fixed seed; each page shifts it by its own random numbers.
    shape = size[1] + _NOISE_MARGIN, size[0] + _NOISE_MARGIN
    noise = np.random.Generator(np.random.PCG64(round(sigma * 10))).standard_normal(
        shape, dtype=np.float32
    )
    return Image.fromarray((_MIDDLE_GREY + noise * sigma).round().clip(0, 255).astype(np.uint8))
