"""Trains the network that reads the digits under a karekod, and writes its weights.

    python -m scripts.train_digits [--fonts FOLDER ...] [--lines 12000] [--check]

Lines of ten digits are drawn in every font that is found in the folders, 150 to 300 dpi, and
damaged as scanners do it: blurred, faded, thickened or thinned, tilted, noisy, struck through. The
cells that are cut out of them, a little beside their true place, are what the network learns; cells
between two digits, letters and empty paper are "none". The same seed gives the same weights. With
--check the weights in use are only tested, on lines that were not trained with.
"""

import argparse
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from publisher.reading.codes import digits
from publisher.reading.codes.digits import CELL_HIGH, CELL_WIDE, DIGITS
from scripts.rehearsal.synthetic.seeded_random import seeded_rng

_FONTS = (Path("/usr/share/fonts"),)
_SKIPPED = ("Math", "Symbol", "Dingbats", "D050000L", "StandardSymbols")
_HIDDEN = 64
_BATCH = 256
_HELD_OUT = 1000  # lines

Array = npt.NDArray[Any]


def main() -> None:
    """Draw, train, test and write."""
    parser = argparse.ArgumentParser(prog="python -m scripts.train_digits", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--fonts", type=Path, nargs="+", default=[])
    parser.add_argument("--lines", type=int, default=12_000)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    faces = font_files([*_FONTS, *given.fonts])
    test_cells, test_labels = examples(faces, _HELD_OUT, given.seed + 1)
    if not given.check:
        cells, labels = examples(faces, given.lines, given.seed)
        print(f"{len(faces)} fonts, {len(labels)} cells")
        weights = train(cells, labels, given.epochs, given.seed)
        names = ("one", "one_bias", "two", "two_bias")
        halves: dict[str, Any] = {
            n: w.astype(np.float16) for n, w in zip(names, weights, strict=True)
        }
        np.savez_compressed(Path(digits.__file__).with_name("digits.npz"), **halves)
    chances = digits.classify(test_cells)
    right = chances.argmax(1) == test_labels
    sure = chances.max(1) >= 0.97
    is_digit = test_labels < DIGITS
    print(f"digits right: {right[is_digit].mean():.3%}, none: {right[~is_digit].mean():.3%}")
    claimed = sure & (chances.argmax(1) < DIGITS)
    print(f"sure: {claimed[is_digit].mean():.2%}, wrong of these: {1 - right[claimed].mean():.4%}")


def font_files(folders: list[Path]) -> list[Path]:
    """Return the font files with digits in the folders, sorted by name."""
    found = {
        path.name: path
        for folder in folders
        for pattern in ("*.ttf", "*.otf")
        for path in folder.rglob(pattern)
        if not any(word in path.name for word in _SKIPPED)
    }
    return [found[name] for name in sorted(found)]


def examples(faces: list[Path], lines: int, seed: int) -> tuple[Array, Array]:
    """Draw lines and return their cells with labels: the digit, or 10 for none."""
    chance = seeded_rng(seed, "digits")
    found = [pair for _ in range(lines) for pair in _line(chance.choice(faces), chance)]
    return np.stack([cell for cell, _ in found]), np.array([label for _, label in found])


def _line(face: Path, chance: random.Random) -> Iterator[tuple[Array, int]]:
    high = chance.uniform(10, 26)  # pixels of a digit in the strip
    font = ImageFont.truetype(face, round(high / 0.73 * 2), layout_engine=ImageFont.Layout.BASIC)
    letters = chance.random() < 0.06
    alphabet = "ABCDEFGHKLMNPRSTUVYZ/-.:" if letters else "0123456789"
    text = "".join(chance.choice(alphabet) for _ in range(DIGITS))
    pitch = max(font.getlength(digit) for digit in "0123456789")
    pitch *= chance.uniform(0.97, 1.15)
    wide, tall = round(pitch * (DIGITS + 3)), round(high * 2 * 2.6)
    ink = chance.randint(0, 90)
    image = Image.new("L", (wide, tall), 255)
    draw = ImageDraw.Draw(image)
    left, middle = pitch * 1.5, tall / 2
    for n, letter in enumerate(text):
        draw.text((left + (n + 0.5) * pitch, middle), letter, ink, font, "ms")
    box = font.getbbox("0123456789", anchor="ms")
    top, bottom = middle + box[1], middle + box[3]
    dark, ratio = _scanned(image, chance)
    top, bottom, left, pitch = (value * ratio for value in (top, bottom, left, pitch))
    for _ in range(2):
        moved = chance.gauss(0, 0.07) * pitch
        size = pitch * chance.uniform(0.97, 1.03)
        start = left + moved - (size - pitch) * DIGITS / 2
        up, low = (chance.gauss(0, 0.06) * (bottom - top) for _ in range(2))
        cut = digits.cells(dark, start, size, top + up, bottom + low)
        for n, cell in enumerate(cut):
            yield cell, DIGITS if letters else int(text[n])
        if chance.random() < 0.25:  # between two digits, and beside them
            shifted = start + size * chance.choice((-0.5, 0.5))
            beside = digits.cells(dark, shifted, size, top, bottom)
            for cell in (beside[chance.randrange(1, 9)], beside[chance.randrange(1, 9)]):
                yield cell, DIGITS
            off = (bottom - top) * chance.choice((-0.6, 0.6))
            yield digits.cells(dark, start, size, top + off, bottom + off)[4], DIGITS


def _scanned(image: Image.Image, chance: random.Random) -> tuple[Array, float]:
    """Damage a line that is drawn at double size; return its darkness, and its new scale."""
    if chance.random() < 0.3:
        kind = ImageFilter.MinFilter if chance.random() < 0.6 else ImageFilter.MaxFilter
        image = image.filter(kind(3))
    image = image.rotate(chance.gauss(0, 0.7), Image.Resampling.BILINEAR, fillcolor=255)
    if chance.random() < 0.35:
        _strike(image, chance)
    ratio = chance.choice((0.5, 0.5, 0.375, 0.75))
    image = image.filter(ImageFilter.GaussianBlur(chance.uniform(0.3, 2.4)))
    size = round(image.width * ratio), round(image.height * ratio)
    image = image.resize(size, Image.Resampling.BOX)
    if ratio != 0.5:  # the strip is always as large
        size = round(image.width * 0.5 / ratio), round(image.height * 0.5 / ratio)
        image = image.resize(size, Image.Resampling.BILINEAR)
    noise = np.random.default_rng(chance.getrandbits(32))
    pixels: Array = np.asarray(image, np.float32)
    lightest = chance.uniform(200, 255)
    contrast = chance.uniform(0.15, 1)
    pixels = lightest - (255 - pixels) * contrast
    pixels = pixels + noise.normal(0, chance.uniform(0, 0.1) * 255 * contrast, pixels.shape)
    if chance.random() < 0.25:
        limit = lightest - 255 * contrast * chance.uniform(0.25, 0.6)
        pixels = np.where(pixels > limit, 255.0, 0.0)
    if chance.random() < 0.2:
        dots = noise.random(pixels.shape) < chance.uniform(0, 0.02)
        pixels[dots] = noise.choice((0, 255), int(dots.sum()))
    return digits.darkness(pixels.clip(0, 255)), 0.5


def _strike(image: Image.Image, chance: random.Random) -> None:
    draw = ImageDraw.Draw(image)
    for _ in range(chance.randint(1, 2)):
        ends = [
            (chance.uniform(-0.2, 1.2) * image.width, chance.uniform(0, 1) * image.height)
            for _ in range(2)
        ]
        draw.line(ends, chance.randint(20, 150), chance.randint(2, 7))


def train(found: Array, labels: Array, epochs: int, seed: int) -> list[Array]:
    """Train with Adam, and return weights and biases of both layers."""
    chance = np.random.default_rng(seed)
    size = CELL_WIDE * CELL_HIGH
    inputs = found.reshape(len(found), -1).astype(np.float32)
    weights: list[Array] = [
        (chance.standard_normal((size, _HIDDEN)) * (2 / size) ** 0.5).astype(np.float32),
        np.zeros(_HIDDEN, np.float32),
        (chance.standard_normal((_HIDDEN, DIGITS + 1)) * (2 / _HIDDEN) ** 0.5).astype(np.float32),
        np.zeros(DIGITS + 1, np.float32),
    ]
    first, second = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
    step = 0
    for epoch in range(epochs):
        rate = 2e-3 * 0.5 * (1 + np.cos(np.pi * epoch / epochs)) + 2e-5
        order = chance.permutation(len(inputs))
        for at in range(0, len(order), _BATCH):
            step += 1
            chosen = order[at : at + _BATCH]
            for n, slope in enumerate(_slopes(inputs[chosen], labels[chosen], weights)):
                first[n] = 0.9 * first[n] + 0.1 * slope
                second[n] = 0.999 * second[n] + 0.001 * slope * slope
                move = first[n] / (1 - 0.9**step)
                weights[n] -= rate * move / (np.sqrt(second[n] / (1 - 0.999**step)) + 1e-8)
    return weights


def _slopes(inputs: Array, labels: Array, weights: list[Array]) -> list[Array]:
    one, one_bias, two, two_bias = weights
    hidden = np.maximum(inputs @ one + one_bias, 0)
    scores = hidden @ two + two_bias
    exp = np.exp(scores - scores.max(1, keepdims=True))
    off = exp / exp.sum(1, keepdims=True)
    off[np.arange(len(labels)), labels] -= 1
    off /= len(labels)
    back = (off @ two.T) * (hidden > 0)
    return [inputs.T @ back + 1e-5 * one, back.sum(0), hidden.T @ off + 1e-5 * two, off.sum(0)]


if __name__ == "__main__":
    main()
