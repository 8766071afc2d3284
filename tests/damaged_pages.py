"""Draws damaged pages: realistic sheets with both copies of the karekod, damaged in many ways.

Every page is a sheet of the rehearsal (scripts/rehearsal) with its own karekod. First the paper is
damaged, then it is scanned at 200 dpi (tilted a little, unevenly lit, soft, grainy, dusty), then
the scan is damaged. `page(kind, number, seed)` always gives the same bytes. The karekod is 13 mm
wide, so a module is 4.9 pixels. The kinds, and how strong the damage is; each page draws its own
strength from the range:

    clean           only the scan
    tilted          by up to 5 degrees either way, in addition to the scan's own tilt
    turned-90, -180 fed in sideways, either way, or upside down
    a3              the sheet lies anywhere on an A3 glass, upright or sideways
    150-dpi         scanned at three quarters of the size: a module is 3.7 pixels
    jpeg-q30        saved as JPEG of quality 30
    low-contrast    ink and paper differ by only 35 to 60 of 255 grey levels
    shadow          a hard-edged shadow over a code leaves 25 to 45 % of the light
    narrow-zone     ruled boxes 0.8 to 1.5 modules around both codes, where 4 should be free
    noisy           Gaussian noise of 25 to 45 grey levels, and 0.5 to 2 % salt and pepper
    stamped         a round seal of 24 mm, ink as dark as 60 to 130, across each code
    scribbled       one to three strokes of a pen, 0.3 to 0.45 mm wide, across each code
    dithered        black and white by error diffusion, Group 4
    bad-threshold   black and white with a threshold that thins or thickens all ink, Group 4
    photocopied     two or three generations of soft, harsh and speckled copies before the scan
    blurred         out of focus by 1.5 to 2.3 pixels (sigma), or moved by 5 to 8
    torn-corner     one of the two codes is torn off, the other is whole
    crease          two to four creases across the sheet, one of them through a code or both
    ink-bleed       ink runs 0.06 to 0.14 mm outwards, unevenly: up to half of a gap is lost
    low-toner       ink faded to grey 120 to 190 in patches, with white streaks along the feed
    fold            a fold hides a strip of 0.25 to 0.8 mm of one code, or one time in ten of both
    fax             204 x 98 or 204 x 196 dpi black and white, 1 to 3 % of the lines lost
    combined        shadow, scribble, creases or boxes; then two of tilt, noise of 10 to 22,
                    blur of 0.8 to 1.3, contrast of 70 to 110; then JPEG of quality 30

On the pages of six more kinds there are codes that are not the page's own. None of them may be
filed under such a code; where the page's own code cannot be told, it may go to quarantine:

    neighbour       both codes are sealed, scribbled on, faded or folded; another sheet lies below
                    the page, turned in any way, and shows one or both of its codes at an edge
    neighbour-part  the same, and only the part of the edge around one code is in the scan
    neighbour-strip both codes are stamped and scribbled on several times; the whole right edge of
                    another sheet shows beside the page, with both of its codes, and the picture may
                    be as wide as one sheet, so that the page's own left edge is cut off
    covered         the same, and nothing can be seen of the page's own codes: they are under a
                    white label, a dense seal or a marker pen, or their edge is torn off
    show-through    the blank back of a sheet: both codes shine through, mirrored, with 3 to 30 %
                    of their contrast and a blur of 0.5 to 2.5 pixels
    foreign-codes   30 codes of a form printer or of a post office all over the page: links, GS1
                    codes, parts of a structured append, larger versions; all have ten digits
"""

import io
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import NamedTuple

import numpy as np
import qrcode
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps
from qrcode.base import rs_blocks
from qrcode.util import BitBuffer, create_bytes, length_in_bits

from config.election import Election
from config.registry import RegistryEntry
from scripts.rehearsal.synthetic.election import entries, serial
from scripts.rehearsal.synthetic.handwriting import BLACK, MONO, font
from scripts.rehearsal.synthetic.scan_damage import DPI, expose
from scripts.rehearsal.synthetic.seeded_random import seeded_rng
from scripts.rehearsal.synthetic.sheets import (
    KAREKOD_MM,
    KAREKOD_POSITIONS,
    karekod_image,
    print_sheet,
)

Step = Callable[[Image.Image, random.Random], Image.Image]
Encode = Callable[[Image.Image, random.Random], bytes]
FORMS = 12  # sheets that are printed, each again and again under other karekods
_ELECTION = Election("prova", "Prova", datetime(2023, 5, 14, tzinfo=UTC))
_MODULE = KAREKOD_MM / 21


class DamagedPage(NamedTuple):
    """A page as a scanner's file, and the karekod printed on it, None on a blank back."""

    content: bytes
    karekod: str | None


@dataclass(frozen=True)
class Damage:
    """A kind of damage; `reach` is how many of a hundred such pages must be read."""

    name: str
    reach: float
    paper: Step | None = None
    sensor: Step | None = None
    encode: Encode | None = None
    blank: bool = False


def page(kind: Damage, number: int, seed: int) -> DamagedPage:
    """Draw one page."""
    chance = seeded_rng(seed, kind.name, number)
    karekod = serial(seed, chance.randrange(10**9))
    image = printed(karekod)
    if kind.paper:
        image = kind.paper(image, chance)
    image = expose(image, chance)
    if kind.sensor:
        image = kind.sensor(image, chance)
    content = (kind.encode or _jpeg)(image, chance)
    return DamagedPage(content, None if kind.blank else karekod)


def px(mm: float) -> int:
    """Return millimetres as pixels."""
    return round(mm * DPI / 25.4)


def printed(karekod: str) -> Image.Image:
    """Print the sheet of a karekod."""
    image = _form(form_number(karekod)).copy()
    draw = ImageDraw.Draw(image)
    code = karekod_image(karekod, px(KAREKOD_MM))
    quiet = px(4 * _MODULE)
    for left, top in KAREKOD_POSITIONS:
        x, y = px(left), px(top)
        box = (x - quiet, y - quiet, x + code.width + quiet, y + code.height + quiet + px(3))
        draw.rectangle(box, 255)
        image.paste(code, (x, y))
        below = top + KAREKOD_MM + 4 * _MODULE + 0.8
        at = px(left + KAREKOD_MM / 2), px(below)
        draw.text(at, karekod, BLACK[0], font(MONO, round(7.5 * DPI / 72)), "mm")
    return image


def form_number(karekod: str) -> int:
    """Return which of the printed sheets has this karekod."""
    return int(karekod) % FORMS


@cache
def form_entry(number: int) -> RegistryEntry:
    """Return the registry's entry of one of the printed sheets."""
    made = list(entries(40, 7))
    return made[number * len(made) // FORMS]


@cache
def _form(number: int) -> Image.Image:
    return print_sheet(form_entry(number), _ELECTION, 7, DPI).convert("L")


def _codes(chance: random.Random, both: float) -> list[tuple[int, int]]:
    """Return the centre of both codes with the probability `both`, else of one."""
    places = (
        list(KAREKOD_POSITIONS) if chance.random() < both else [chance.choice(KAREKOD_POSITIONS)]
    )
    return [(px(x + KAREKOD_MM / 2), px(y + KAREKOD_MM / 2)) for x, y in places]


def _dark(image: Image.Image, ink: Image.Image) -> Image.Image:
    """Lay a translucent layer over the page; white is transparent."""
    return ImageChops.multiply(image, ink)


def _array(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.float32)


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _noise(chance: random.Random) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(chance.getrandbits(64)))


def _patchy(size: tuple[int, int], cell: int, chance: random.Random) -> np.ndarray:
    """Return smooth noise with mean 0 and deviation about 1 that changes over `cell` pixels."""
    small = _noise(chance).standard_normal((size[1] // cell + 2, size[0] // cell + 2))
    return _array(Image.fromarray(small.astype(np.float32)).resize(size, Image.Resampling.BICUBIC))


# Damage to the paper.


def _shadow(image: Image.Image, chance: random.Random) -> Image.Image:
    left, top = _codes(chance, 0)[0]
    light = Image.new("L", image.size, 255)
    turn = chance.uniform(0, math.tau)
    off = chance.uniform(-0.4, 0.4) * px(KAREKOD_MM)
    cos, sin = math.cos(turn), math.sin(turn)
    x, y = left + off * cos, top + off * sin
    far = 4 * px(KAREKOD_MM)
    corners = ((0, -far), (far, -far), (far, far), (0, far))
    shade = [(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in corners]
    ImageDraw.Draw(light).polygon(shade, round(255 * chance.uniform(0.25, 0.45)))
    return _dark(image, light.filter(ImageFilter.GaussianBlur(chance.uniform(1, 4))))


def _narrow(image: Image.Image, chance: random.Random) -> Image.Image:
    draw = ImageDraw.Draw(image)
    side = px(KAREKOD_MM)
    for left, top in KAREKOD_POSITIONS:
        gap = round(chance.uniform(0.8, 1.5) * px(_MODULE * 10) / 10)
        x, y = px(left), px(top)
        for line in range(chance.randint(1, 3)):
            box = (x - gap - line, y - gap - line, x + side + gap + line, y + side + gap + line)
            draw.rectangle(box, outline=chance.randint(0, 60))
    return image


def _stamp(image: Image.Image, chance: random.Random) -> Image.Image:
    ink = Image.new("L", image.size, 255)
    draw = ImageDraw.Draw(ink)
    for x, y in _codes(chance, 1):
        shade = chance.randint(60, 130)
        x, y = x + px(chance.uniform(-9, 9)), y + px(chance.uniform(-9, 9))
        for radius, width in ((12.0, 0.5), (10.6, 0.25), (6.5, 0.25)):
            box = tuple(v + sign * px(radius) for sign in (-1, 1) for v in (x, y))
            draw.ellipse(box, outline=shade, width=max(1, px(width)))
        start = chance.uniform(0, math.tau)
        for number, letter in enumerate("PROVA SANDIK KURULU PROVA "):
            angle = start + number * math.tau / 26
            at = x + px(8.5) * math.cos(angle), y + px(8.5) * math.sin(angle)
            draw.text(at, letter, shade, font(MONO, px(2.4)), "mm")
        draw.text((x, y), "PROVA", shade, font(MONO, px(3)), "mm")
    return _dark(image, ink.filter(ImageFilter.GaussianBlur(0.7)))


def _scribble(image: Image.Image, chance: random.Random) -> Image.Image:
    draw = ImageDraw.Draw(image)
    half = px(KAREKOD_MM / 2)
    for x, y in _codes(chance, 1):
        for _ in range(chance.randint(1, 3)):
            turn = chance.uniform(0, math.tau)
            aside = chance.uniform(-0.8, 0.8) * half
            path = []
            for step in range(9):
                along = (step / 4 - 1) * half * 1.3
                across = aside + chance.uniform(-0.12, 0.12) * half
                path.append(
                    (
                        x + along * math.cos(turn) - across * math.sin(turn),
                        y + along * math.sin(turn) + across * math.cos(turn),
                    )
                )
            width = px(chance.uniform(0.3, 0.45) * 10) / 10
            draw.line(path, chance.randint(30, 80), max(2, round(width)), joint="curve")
    return image


def _torn(image: Image.Image, chance: random.Random) -> Image.Image:
    draw = ImageDraw.Draw(image)
    bottom = chance.random() < 0.5
    far, down = px(chance.uniform(34, 55)), px(chance.uniform(34, 55))
    rim = [
        (image.width - far * (1 - n / 20) - chance.uniform(0, 9), down * n / 20) for n in range(21)
    ]
    corner = [(x, image.height - y if bottom else y) for x, y in rim]
    edge = image.height if bottom else 0
    last = image.height - down if bottom else down
    points = [(image.width - far, edge), *corner, (image.width, last), (image.width, edge)]
    draw.polygon(points, chance.choice((70, 120, 236)))
    return image


def _creases(image: Image.Image, chance: random.Random) -> Image.Image:
    through = _codes(chance, 0)[0]
    for number in range(chance.randint(2, 4)):
        at = (
            through
            if number == 0
            else (
                chance.randrange(image.width),
                chance.randrange(image.height),
            )
        )
        image = _crease(image, at, chance)
    return image


def _crease(image: Image.Image, at: tuple[int, int], chance: random.Random) -> Image.Image:
    turn = chance.uniform(0, math.pi)
    cos, sin = math.cos(turn), math.sin(turn)
    x = np.arange(image.width, dtype=np.float32) - at[0] - chance.uniform(-30, 30)
    y = np.arange(image.height, dtype=np.float32) - at[1] - chance.uniform(-30, 30)
    # The distance of each pixel from the line. Paper beyond it is shifted, and shaded near it.
    away = x[None, :] * -sin + y[:, None] * cos
    shift = chance.uniform(1.0, 3.0)
    moved = image.transform(
        image.size,
        Image.Transform.AFFINE,
        (1, 0, -sin * shift, 0, 1, cos * shift),
        Image.Resampling.BILINEAR,
        fillcolor=255,
    )
    image = Image.composite(moved, image, _image((away > 0) * 255.0))
    depth, wide = chance.uniform(60, 130), chance.uniform(1.2, 3.0)
    pixels = _array(image) - depth * np.exp(-((away - 2) ** 2) / (2 * wide**2))
    pixels += chance.uniform(60, 140) * np.exp(-((away + 2) ** 2) / (2 * wide**2))
    pixels -= chance.uniform(5, 25) * np.exp(-np.abs(away) / 40) * np.sign(away)
    return _image(pixels)


def _bleed(image: Image.Image, chance: random.Random) -> Image.Image:
    run = chance.uniform(0.5, 1.1)  # pixels outwards
    soft = _array(image.filter(ImageFilter.GaussianBlur(1.6)))
    # The blurred ink of a straight edge falls below this value at `run` pixels from the edge.
    edge = 255 * 0.5 * (1 + math.erf(run / (1.6 * math.sqrt(2))))
    rough = edge + 14 * _patchy(image.size, 9, chance)
    spread = 255 / (1 + np.exp(-(soft - rough) / 8))
    return _image(np.minimum(spread, _array(image)))


def _faded(image: Image.Image, chance: random.Random) -> Image.Image:
    level = chance.uniform(120, 190)
    ink = 1 - _array(image) / 255
    patches = 1 + 0.22 * _patchy(image.size, 40, chance) + 0.18 * _patchy(image.size, 3, chance)
    streaks = np.ones(image.width, np.float32)
    for _ in range(chance.randint(6, 24)):
        at = chance.randrange(image.width)
        streaks[at : at + chance.randint(1, 3)] = chance.uniform(0.0, 0.5)
    return _image(255 - ink * (255 - level) * patches.clip(0, 1.3) * streaks[None, :])


def _fold(image: Image.Image, chance: random.Random) -> Image.Image:
    upright = chance.random() < 0.1  # then it goes through both codes, one above the other
    x, y = _codes(chance, 0)[0]
    hidden = max(2, px(chance.uniform(0.2, 0.8)))
    off = round(chance.uniform(-0.42, 0.42) * px(KAREKOD_MM))
    if not upright:
        image = image.transpose(Image.Transpose.TRANSPOSE)
        x = y
    at = x + off
    folded = image.copy()
    folded.paste(image.crop((at + hidden, 0, image.width, image.height)), (at, 0))
    folded.paste(250, (image.width - hidden, 0, image.width, image.height))
    pixels = _array(folded)
    away = np.arange(image.width, dtype=np.float32) - at
    pixels -= chance.uniform(60, 150) * np.exp(-(away**2) / (2 * chance.uniform(0.8, 2.0) ** 2))
    pixels -= chance.uniform(0, 35) * np.exp(-away.clip(0) / 25) * (away > 0)
    folded = _image(pixels)
    return folded if upright else folded.transpose(Image.Transpose.TRANSPOSE)


def _copied(image: Image.Image, chance: random.Random) -> Image.Image:
    for _ in range(chance.randint(2, 3)):
        image = image.rotate(chance.uniform(-0.6, 0.6), Image.Resampling.BILINEAR, fillcolor=250)
        pixels = _array(image.filter(ImageFilter.GaussianBlur(chance.uniform(0.7, 1.1))))
        pixels += chance.uniform(4, 9) * _noise(chance).standard_normal(
            pixels.shape, dtype=np.float32
        )
        middle = chance.uniform(105, 165)
        image = _image(255 / (1 + np.exp(-(pixels - middle) / chance.uniform(18, 30))))
        draw = ImageDraw.Draw(image)
        for _ in range(chance.randint(150, 500)):
            a, b = chance.randrange(image.width), chance.randrange(image.height)
            size = chance.choice((0, 0, 1, 1, 2))
            draw.ellipse((a, b, a + size, b + size), chance.randint(0, 80))
    return image


# Codes that are not the page's own.


def _sealed(image: Image.Image, chance: random.Random) -> Image.Image:
    """Put a dense seal on both codes: a double ring, and strokes as of letters."""
    ink = Image.new("L", image.size, 255)
    draw = ImageDraw.Draw(ink)
    for x, y in _codes(chance, 1):
        shade, radius = chance.randint(40, 100), px(chance.uniform(10, 13))
        x, y = x + px(chance.uniform(-2, 2)), y + px(chance.uniform(-2, 2))
        for part, width in ((1.0, 7), (0.76, 4), (0.37, 5)):
            far = round(radius * part)
            draw.ellipse((x - far, y - far, x + far, y + far), outline=shade, width=width)
        for k in range(-radius * 2 // 3, radius * 2 // 3, chance.randint(15, 22)):
            draw.line((x - radius * 2 // 3, y + k, x + radius * 2 // 3, y + k + 6), shade, 6)
    return _dark(image, ink.filter(ImageFilter.GaussianBlur(0.8)))


def _neighbour(image: Image.Image, chance: random.Random, part: bool = False) -> Image.Image:
    """Damage both codes, and lay the page on another sheet whose right or upper edge shows."""
    spoil = chance.choice((_sealed, _sealed, _stamp, _scribble, _faded))
    image = spoil(image, chance)
    if spoil in (_stamp, _scribble):
        image = spoil(image, chance)
    other = printed(serial(chance.getrandbits(30), chance.randrange(10**9)))
    across, down = chance.choice(((1, 0), (1, 0), (0, -1), (0, 1)))
    aside = px(chance.uniform(26, 45)) + (px(10) if down > 0 else 0)
    along = px(chance.uniform(-40, 40) if across else chance.uniform(-30, 5))
    if part:  # only what is near one of the two codes
        keep = chance.choice((0, 1))
        y = px(KAREKOD_POSITIONS[1 - keep][1])
        other.paste(chance.choice((250, 245)), (0, y - px(8), other.width, y + px(24)))
    shift = (aside, along) if across else (along, down * aside)
    turns = chance.choice((0, 0, 1, 2, 3))
    for _ in range(turns):
        other = other.transpose(Image.Transpose.ROTATE_90)
        shift = (shift[1], -shift[0])
    left, top = min(0, shift[0]), min(0, shift[1])
    size = (
        max(image.width, shift[0] + other.width) - left,
        max(image.height, shift[1] + other.height) - top,
    )
    glass = Image.new("L", size, chance.choice((236, 250)))
    glass.paste(other, (shift[0] - left, shift[1] - top))
    if chance.random() < 0.5:  # the edge of the paper throws a shadow
        box = (-left - 3, -top - 3, image.width - left + 3, image.height - top + 3)
        ImageDraw.Draw(glass).rectangle(box, outline=chance.randint(120, 220), width=3)
    glass.paste(image, (-left, -top))
    return glass


def _neighbour_part(image: Image.Image, chance: random.Random) -> Image.Image:
    return _neighbour(image, chance, part=True)


def _covered(image: Image.Image, chance: random.Random) -> Image.Image:
    """Cover both codes and the digits under them, so that nothing of them can be seen."""
    image = image.copy()
    draw = ImageDraw.Draw(image)
    how = chance.choice(("label", "seal", "marker", "torn"))
    if how == "torn":
        edge = px(210 - chance.uniform(26, 32))
        rim = [(edge + chance.uniform(-6, 6), image.height * n / 30) for n in range(31)]
        beyond = [(image.width, image.height), (image.width, 0)]
        draw.polygon([*rim, *beyond], chance.choice((236, 250)))
        return image
    for x, y in _codes(chance, 1):
        far, shade = px(chance.uniform(9.5, 13)), chance.randint(15, 60)
        if how == "label":
            box = (x - far, y - far, x + far, y + far + px(3))
            draw.rectangle(box, chance.randint(248, 255), chance.choice((None, 225, 180)))
        elif how == "seal":
            draw.ellipse((x - far, y - far, x + far, y + far), shade)
        else:
            path = [
                (x + far * (n % 2 * 2 - 1) + chance.uniform(-9, 9), y - far + n * far / 8)
                for n in range(20)
            ]
            draw.line(path, shade, px(2.6), joint="curve")
    return image


def _spoiled(image: Image.Image, chance: random.Random) -> Image.Image:
    for step in chance.sample((_sealed, _stamp, _stamp, _scribble, _scribble, _scribble), 3):
        image = step(image, chance)
    return image


def _beside_a_strip(
    image: Image.Image, chance: random.Random, spoil: Step = _spoiled
) -> Image.Image:
    """Lay the page on another sheet, whose whole right edge shows."""
    image = spoil(image, chance)
    other = printed(serial(chance.getrandbits(30), chance.randrange(10**9)))
    strip, down = px(chance.uniform(26, 45)), px(chance.choice((0, chance.uniform(-25, 25))))
    size = image.width + strip, image.height + abs(down)
    glass = Image.new("L", size, chance.choice((70, 236, 250)))
    glass.paste(other, (strip, max(0, down)))
    at = 0, max(0, -down)
    if chance.random() < 0.5:  # the edge of the paper throws a shadow
        right = image.width
        box = (right, at[1], right + chance.randint(1, 4), at[1] + image.height)
        ImageDraw.Draw(glass).rectangle(box, chance.randint(120, 220))
    glass.paste(image, at)
    cut = strip * chance.choice((0, 0, 0.5, 1))
    return glass.crop((round(cut), 0, *size)) if cut else glass


def _covered_beside_a_strip(image: Image.Image, chance: random.Random) -> Image.Image:
    return _beside_a_strip(image, chance, _covered)


def _show_through(image: Image.Image, chance: random.Random) -> Image.Image:
    soft = ImageOps.mirror(image).filter(ImageFilter.GaussianBlur(chance.uniform(0.5, 2.5)))
    return _image(250 - (255 - _array(soft)) * chance.uniform(0.03, 0.3))


def _foreign(image: Image.Image, chance: random.Random) -> Image.Image:
    """Print 30 codes in the body of the form, each with ten digits or a link."""
    places = [(left, top) for top in range(75, 220, 25) for left in range(12, 150, 27)]
    for left, top in chance.sample(places, 30):
        digits = serial(chance.getrandbits(30), chance.randrange(10**9))
        code = foreign_code(digits, chance.choice(("link", "gs1", "part", "version")))
        side = px(chance.uniform(11, 20))
        code = code.resize((side, side), Image.Resampling.BOX)
        image.paste(code, (px(left), px(top)))
    return image


def foreign_code(digits: str, what: str) -> Image.Image:
    """Return a code, four pixels a module, of a kind that is no karekod."""
    version = {"link": 2, "version": 2}.get(what, 1)
    code = qrcode.QRCode(version, qrcode.ERROR_CORRECT_L, box_size=4, border=4)
    code.add_data(f"https://example.org/{digits}" if what == "link" else digits)
    head = {"gs1": [(5, 4)], "part": [(3, 4), (0, 4), (3, 4), (0x5A, 8)]}.get(what, [])
    code.data_cache = _codewords(code, version, head)
    code.make(fit=False)
    drawn: Image.Image = code.make_image().convert("L")
    return drawn


def _codewords(code: qrcode.QRCode, version: int, head: list[tuple[int, int]]) -> list[int]:
    """Encode what is in `code`, after a header of ISO/IEC 18004, section 7.4 or 8."""
    bits = BitBuffer()
    for value, length in head:
        bits.put(value, length)
    for part in code.data_list:
        bits.put(part.mode, 4)
        bits.put(len(part), length_in_bits(part.mode, version))
        part.write(bits)
    blocks = rs_blocks(version, qrcode.ERROR_CORRECT_L)
    limit = sum(block.data_count for block in blocks) * 8
    bits.put(0, min(4, limit - len(bits)))
    bits.put(0, -len(bits) % 8)
    for number in range((limit - len(bits)) // 8):
        bits.put((0xEC, 0x11)[number % 2], 8)
    made: list[int] = create_bytes(bits, blocks)
    return made


# Damage to the scan.


def _tilted(image: Image.Image, chance: random.Random) -> Image.Image:
    tilt = chance.uniform(-5, 5)
    lid = chance.choice((70, 236))
    return image.rotate(tilt, Image.Resampling.BICUBIC, expand=True, fillcolor=lid)


def _sideways(image: Image.Image, chance: random.Random) -> Image.Image:
    return image.transpose(chance.choice((Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270)))


def _upside_down(image: Image.Image, _: random.Random) -> Image.Image:
    return image.transpose(Image.Transpose.ROTATE_180)


def _a3(image: Image.Image, chance: random.Random) -> Image.Image:
    if chance.random() < 0.5:
        image = _sideways(image, chance)
    glass = Image.new("L", (px(297), px(420)), chance.choice((70, 120, 236, 246)))
    free = glass.width - image.width, glass.height - image.height
    glass.paste(image, (chance.randint(0, max(0, free[0])), chance.randint(0, max(0, free[1]))))
    return glass


def _150_dpi(image: Image.Image, _: random.Random) -> Image.Image:
    size = image.width * 3 // 4, image.height * 3 // 4
    return image.resize(size, Image.Resampling.BOX)


def _pale(image: Image.Image, chance: random.Random) -> Image.Image:
    apart, dark = chance.uniform(35, 60), chance.uniform(70, 150)
    return image.point([round(dark + apart * value / 255) for value in range(256)])


def _noisy(image: Image.Image, chance: random.Random) -> Image.Image:
    noise = _noise(chance)
    pixels = _array(image)
    pixels = pixels + chance.uniform(25, 45) * noise.standard_normal(pixels.shape, np.float32)
    dots = noise.random(pixels.shape, np.float32)
    share = chance.uniform(0.005, 0.02) / 2
    pixels[dots < share] = 0
    pixels[dots > 1 - share] = 255
    return _image(pixels)


def _blurred(image: Image.Image, chance: random.Random) -> Image.Image:
    if chance.random() < 0.6:
        return image.filter(ImageFilter.GaussianBlur(chance.uniform(1.5, 2.3)))
    # The page moved during the scan, along the feed or across it.
    wide = chance.randint(5, 8)
    pixels = _array(image)
    axis = chance.randrange(2)
    shifted = [np.roll(pixels, step, axis) for step in range(wide)]
    return _image(np.sum(shifted, axis=0) / wide)


def _combined(image: Image.Image, chance: random.Random) -> Image.Image:
    for step in chance.sample((_tilted, _half_noisy, _half_blurred, _half_pale), 2):
        image = step(image, chance)
    return image


def _combined_paper(image: Image.Image, chance: random.Random) -> Image.Image:
    return chance.choice((_shadow, _scribble, _creases, _narrow))(image, chance)


def _half_noisy(image: Image.Image, chance: random.Random) -> Image.Image:
    pixels = _array(image)
    noise = _noise(chance).standard_normal(pixels.shape, np.float32)
    return _image(pixels + chance.uniform(10, 22) * noise)


def _half_blurred(image: Image.Image, chance: random.Random) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(chance.uniform(0.8, 1.3)))


def _half_pale(image: Image.Image, chance: random.Random) -> Image.Image:
    apart, dark = chance.uniform(70, 110), chance.uniform(40, 110)
    return image.point([round(dark + apart * value / 255) for value in range(256)])


# How the scan is saved.


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, dpi=(DPI, DPI), **options)
    return file.getvalue()


def _jpeg(image: Image.Image, chance: random.Random) -> bytes:
    return _saved(image, "JPEG", quality=chance.randint(60, 82))


def _jpeg_30(image: Image.Image, _: random.Random) -> bytes:
    return _saved(image, "JPEG", quality=30)


def _dithered(image: Image.Image, _: random.Random) -> bytes:
    return _saved(image.convert("1"), "TIFF", compression="group4")


def _black_or_white(image: Image.Image, threshold: int) -> Image.Image:
    return image.point([255 * (value > threshold) for value in range(256)], "1")


def _bad_threshold(image: Image.Image, chance: random.Random) -> bytes:
    threshold = chance.choice((chance.randint(50, 80), chance.randint(180, 197)))
    soft = image.filter(ImageFilter.GaussianBlur(0.8))
    return _saved(_black_or_white(soft, threshold), "TIFF", compression="group4")


def _fax(image: Image.Image, chance: random.Random) -> bytes:
    lines = round(image.height * (98 if chance.random() < 0.3 else 196) / DPI)
    coarse = image.resize((round(image.width * 204 / DPI), lines), Image.Resampling.BOX)
    pixels = np.asarray(_black_or_white(coarse, chance.randint(110, 150)).convert("L")).copy()
    share = chance.uniform(0.01, 0.03)
    for line in range(1, lines):
        if chance.random() < share:
            pixels[line] = pixels[line - 1]
    sent = Image.fromarray(pixels).resize(image.size, Image.Resampling.NEAREST)
    return _saved(sent.convert("1", dither=Image.Dither.NONE), "TIFF", compression="group4")


KINDS = (
    Damage("clean", 99.5),
    Damage("tilted", 99.5, sensor=_tilted),
    Damage("turned-90", 99.5, sensor=_sideways),
    Damage("turned-180", 99.5, sensor=_upside_down),
    Damage("a3", 99.5, sensor=_a3),
    Damage("150-dpi", 99.5, sensor=_150_dpi),
    Damage("jpeg-q30", 99.5, encode=_jpeg_30),
    Damage("low-contrast", 99.5, sensor=_pale),
    Damage("shadow", 99.5, paper=_shadow),
    Damage("narrow-zone", 99.5, paper=_narrow),
    Damage("noisy", 99, sensor=_noisy),
    Damage("stamped", 99, paper=_stamp),
    Damage("scribbled", 99, paper=_scribble),
    Damage("dithered", 99, encode=_dithered),
    Damage("bad-threshold", 99, encode=_bad_threshold),
    Damage("photocopied", 99, paper=_copied),
    Damage("blurred", 99, sensor=_blurred),
    Damage("torn-corner", 99, paper=_torn),
    Damage("crease", 95, paper=_creases),
    Damage("ink-bleed", 95, paper=_bleed),
    Damage("low-toner", 90, paper=_faded),
    Damage("fold", 90, paper=_fold),
    Damage("fax", 90, encode=_fax),
    Damage("combined", 90, paper=_combined_paper, sensor=_combined, encode=_jpeg_30),
    # Pages with codes that are not their own.
    Damage("neighbour", 0, paper=_neighbour),
    Damage("neighbour-part", 0, paper=_neighbour_part),
    Damage("neighbour-strip", 0, paper=_beside_a_strip),
    Damage("covered", 0, paper=_covered_beside_a_strip),
    Damage("show-through", 0, paper=_show_through, blank=True),
    Damage("foreign-codes", 99, paper=_foreign),
)
# The kinds of which every page must be read.
OWN_CODES = tuple(kind for kind in KINDS if kind.reach)
