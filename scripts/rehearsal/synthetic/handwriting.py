"""Draws a printed page and the handwriting on it.

Lengths are in millimetres, type sizes in points.
"""

import math
import random
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from config.fault import Fault, Faults

A4 = (210.0, 297.0)
BLACK = (18, 18, 18)
GREY = (150, 150, 150)
INKS = ((24, 38, 120), (20, 30, 90), (30, 30, 34))
Colour = tuple[int, int, int]

SANS, BOLD, MONO = "DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono.ttf"
_FOLDERS = ("/usr/share/fonts/truetype/dejavu", "/usr/share/fonts/TTF", "/usr/share/fonts/dejavu")

# The strokes of each handwritten digit: points (across, down) from its top left corner, 0 to 1.
_STROKES: dict[str, tuple[tuple[tuple[float, float], ...], ...]] = {
    "0": (((0.5, 0), (0.1, 0.3), (0.1, 0.75), (0.5, 1), (0.9, 0.7), (0.85, 0.25), (0.45, 0.02)),),
    "1": (((0.2, 0.3), (0.6, 0), (0.55, 1)),),
    "2": (((0.1, 0.25), (0.4, 0), (0.8, 0.2), (0.6, 0.55), (0.1, 1), (0.95, 0.95)),),
    "3": (((0.1, 0.1), (0.6, 0), (0.8, 0.25), (0.4, 0.45), (0.85, 0.7), (0.5, 1), (0.05, 0.9)),),
    "4": (((0.6, 0), (0.05, 0.65), (0.95, 0.6)), ((0.65, 0.35), (0.6, 1))),
    "5": (((0.85, 0), (0.25, 0.02), (0.2, 0.4), (0.8, 0.5), (0.75, 0.9), (0.1, 1)),),
    "6": (((0.75, 0), (0.2, 0.5), (0.2, 0.9), (0.6, 1), (0.85, 0.7), (0.5, 0.5), (0.2, 0.7)),),
    "7": (((0.1, 0.05), (0.9, 0), (0.4, 1)), ((0.3, 0.5), (0.8, 0.48))),
    "8": (
        ((0.8, 0.1), (0.4, 0), (0.2, 0.25), (0.8, 0.7), (0.5, 1), (0.15, 0.75), (0.75, 0.3)),
        ((0.75, 0.3), (0.8, 0.1)),
    ),
    "9": (((0.8, 0.3), (0.4, 0.5), (0.15, 0.2), (0.5, 0), (0.85, 0.2), (0.7, 1)),),
}


@cache
def font(name: str, pixels: int) -> ImageFont.FreeTypeFont:
    """Return a font with the Turkish letters; raise Faults if it is not installed."""
    for folder in _FOLDERS:
        path = Path(folder, name)
        if path.is_file():
            # The basic layout engine draws the same everywhere, and Turkish needs no shaping.
            return ImageFont.truetype(path, pixels, layout_engine=ImageFont.Layout.BASIC)
    wrong = "font not found: install it with `apt-get install fonts-dejavu-core`"
    raise Faults([Fault(name, "", wrong)])


class PrintedPage:
    """An A4 page while it is printed and filled in."""

    def __init__(self, dpi: int, watermark: str) -> None:
        self.dpi = dpi
        self.image = _paper((self.px(A4[0]), self.px(A4[1])), watermark).copy()
        self.draw = ImageDraw.Draw(self.image)

    def px(self, mm: float) -> int:
        """Convert millimetres to pixels."""
        return round(mm * self.dpi / 25.4)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        points: float,
        *,
        name: str = SANS,
        anchor: str = "lm",
        colour: Colour = BLACK,
    ) -> None:
        """Print one line of text; `anchor` is as in Pillow, by default left and middle."""
        face = font(name, round(points * self.dpi / 72))
        self.draw.text((self.px(x), self.px(y)), text, colour, face, anchor)

    def rule(self, x1: float, y1: float, x2: float, y2: float, mm: float = 0.25) -> None:
        """Print a line."""
        ends = (self.px(x1), self.px(y1), self.px(x2), self.px(y2))
        self.draw.line(ends, BLACK, max(1, self.px(mm)))

    def grid(self, x: list[float], y: list[float]) -> None:
        """Print the lines of a table with columns at `x` and rows at `y`."""
        for row in y:
            self.rule(x[0], row, x[-1], row)
        for column in x:
            self.rule(column, y[0], column, y[-1])

    def shade(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """Print a light grey rectangle."""
        box = (self.px(x1), self.px(y1), self.px(x2), self.px(y2))
        self.draw.rectangle(box, (228, 228, 228))

    def digits(
        self, x: float, y: float, number: int, mm: float, ink: Colour, rng: random.Random
    ) -> None:
        """Write a number by hand, `mm` high, starting at `x`, with its middle at `y`."""
        slant = rng.uniform(0.05, 0.25)
        for digit in str(number):
            height = mm * rng.uniform(0.9, 1.1)
            top = y - height / 2 + rng.uniform(-0.06, 0.06) * mm
            for stroke in _STROKES[digit]:
                points = [
                    (
                        x + (across + slant * (1 - down)) * height * 0.55 + rng.gauss(0, 0.03 * mm),
                        top + down * height + rng.gauss(0, 0.03 * mm),
                    )
                    for across, down in stroke
                ]
                self.stroke(points, ink, 0.4)
            x += mm * rng.uniform(0.72, 0.82)

    def words(
        self, x: float, y: float, text: str, points: float, ink: Colour, rng: random.Random
    ) -> None:
        """Write words as if by hand: slanted, and not exactly on the line."""
        face = font(SANS, round(points * self.dpi / 72))
        left, top, right, bottom = (round(edge) for edge in face.getbbox(text))
        slant = rng.uniform(0.18, 0.32)
        width, height = right - left, bottom - top
        mask = Image.new("L", (width + round(height * slant) + 2, height), 0)
        ImageDraw.Draw(mask).text((-left, -top), text, 255, face)
        slanted = mask.transform(
            mask.size,
            Image.Transform.AFFINE,
            (1, slant, -height * slant, 0, 1, 0),
            resample=Image.Resampling.BILINEAR,
        )
        middle = self.px(y + rng.uniform(-0.5, 0.5))
        at = (self.px(x + rng.uniform(0, 2)), middle - height // 2)
        self.image.paste(ink, at, slanted)

    def signature(self, x: float, y: float, mm: float, ink: Colour, rng: random.Random) -> None:
        """Scribble a made-up signature about `mm` width, centred at (x, y)."""
        loops, lean = rng.uniform(2.5, 5), rng.uniform(-0.25, 0.25)
        tall, phase = mm * rng.uniform(0.12, 0.28), rng.uniform(0, math.tau)
        wobble = rng.uniform(1.3, 2.7)
        points = []
        for step in range(60):
            t = step / 59
            turn = loops * math.tau * t
            across = (t - 0.5) * mm + 0.12 * mm * math.sin(turn + phase)
            fade = 1 - 0.7 * t
            down = tall * fade * math.cos(turn) + 0.3 * tall * math.sin(wobble * turn)
            points.append((x + across, y + down - lean * across))
        points.append((x + mm * 0.6, y - tall * rng.uniform(-0.4, 0.8)))
        self.stroke(points, ink, 0.35)

    def stroke(self, points: list[tuple[float, float]], ink: Colour, mm: float) -> None:
        """Draw one pen stroke, `mm` wide."""
        path = [(self.px(x), self.px(y)) for x, y in points]
        self.draw.line(path, ink, max(1, self.px(mm)), joint="curve")

    def seal(self, x: float, y: float, text: str, rng: random.Random) -> None:
        """Stamp a round seal, 24 mm wide, centred at (x, y)."""
        colour = (86, 70, 150)
        for radius, width in ((12.0, 0.5), (10.6, 0.25), (6.5, 0.25)):
            box = tuple(self.px(v) for v in (x - radius, y - radius, x + radius, y + radius))
            self.draw.ellipse(box, outline=colour, width=max(1, self.px(width)))
        start = rng.uniform(0, math.tau)
        around = f"{text} · " * 3
        for number, letter in enumerate(around):
            angle = start + number * math.tau / len(around)
            at = x + 8.5 * math.cos(angle), y + 8.5 * math.sin(angle)
            self.text(*at, letter, 6, anchor="mm", colour=colour)
        self.text(x, y, text, 7, name=BOLD, anchor="mm", colour=colour)


@cache
def _paper(size: tuple[int, int], watermark: str) -> Image.Image:
    mask = Image.new("L", size, 0)
    middle = size[0] // 2, size[1] // 2
    ImageDraw.Draw(mask).text(middle, watermark, 255, font(BOLD, size[0] // 4), "mm")
    paper = Image.new("RGB", size, (255, 255, 255))
    paper.paste((232, 232, 232), (0, 0), mask.rotate(50, Image.Resampling.BILINEAR))
    return paper
