r"""Digests of decoded pixels: the same scan in another container has the same digest.

    SHA-256 of   "L 1654x2339\n", then the pixels row by row

L are eight bits of grey, also for black and white; RGB are colours and CMYK inks of eight bits
each; L16 are 16 bits of grey, little-endian. A picture in colour of which every pixel is grey
counts as a grey one. So the digest says nothing about the format, its compression, the metadata or
the date, and differs if any pixel does.

A PDF page that shows one picture and nothing else has the digest of its picture, if that fills the
page upright. Of any other page the bytes of its copy count (publisher/reading/formats/pdf), which
has no metadata; what a renderer makes of it could be the same for two different pages.
"""

import hashlib
import io
from typing import Any

import numpy as np
import pikepdf
from PIL import Image, ImageChops

_SMALL = 10_000_000  # pixels; a larger page is hashed in parts, so that it is in memory only once
_ROWS = 512
_SAMPLE = (64, 64)  # enough to see that a page is coloured
_BOX_TOLERANCE = 3.0  # points by which a picture may be smaller or larger than its page
_PLAIN = {"q", "Q", "cm", "Do"}
_SAME_MODE = ("L", "RGB", "CMYK")


def digest(image: Image.Image, *, negative: bool = False) -> str | None:
    """Return the digest of a decoded image, None for pixels of a kind that is not compared.

    With `negative`, 0 is white in an image of 16 bits.
    """
    image.load()
    if image.mode.startswith("I;16"):
        deep = np.asarray(image)
        return _hashed("L16", (~deep if negative else deep).astype("<u2"), image.size)
    plain = _plain(image)
    if plain is None:
        return None
    if plain.mode == "RGB" and _is_grey(plain):
        plain = plain.getchannel(0)
    state = hashlib.sha256(_head(plain.mode, plain.size))
    if plain.width * plain.height <= _SMALL:
        state.update(plain.tobytes())
        return state.hexdigest()
    for top in range(0, plain.height, _ROWS):
        rows = plain.crop((0, top, plain.width, min(plain.height, top + _ROWS)))
        state.update(rows.tobytes())
    return state.hexdigest()


def digest_of_pdf_page(data: bytes, copy: bytes) -> str | None:
    """Return the digest of a PDF of one page; `copy` is the copy of that page."""
    with pikepdf.open(io.BytesIO(data)) as document:
        if "/OCProperties" in document.Root:
            return None  # layers may be hidden
        page = document.pages[0]
        if "/Annots" in page.obj and len(page.obj.Annots):
            return None  # they are shown, and the copy does not have them
        picture = _only_picture(page)
        if picture is not None:
            with _decoded(picture) as image:
                if found := digest(image):
                    return found
    return hashlib.sha256(b"PDF page\n" + copy).hexdigest()


def _head(mode: str, size: tuple[int, int]) -> bytes:
    return f"{mode} {size[0]}x{size[1]}\n".encode()


def _hashed(mode: str, values: Any, size: tuple[int, int]) -> str:
    state = hashlib.sha256(_head(mode, size))
    state.update(np.ascontiguousarray(values).tobytes())
    return state.hexdigest()


def _plain(image: Image.Image) -> Image.Image | None:
    if image.mode in _SAME_MODE and not image.has_transparency_data:
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("P", "PA", "LA", "RGBA", "L", "RGB"):
        full = image.convert("RGBA")
        return full.convert("RGB") if full.getchannel("A").getextrema() == (255, 255) else None
    return None


def _is_grey(image: Image.Image) -> bool:
    sample = image.resize(_SAMPLE, Image.Resampling.NEAREST)
    return all(_bands_are_equal(part) for part in (sample, image))


def _bands_are_equal(image: Image.Image) -> bool:
    red, *others = image.split()
    return all(ImageChops.difference(red, band).getbbox() is None for band in others)


def _only_picture(page: pikepdf.Page) -> pikepdf.Stream | None:
    """Return the picture of a page that shows it upright, from edge to edge, and nothing else."""
    if int(page.obj.get("/Rotate", 0)) % 360:
        return None
    matrix = pikepdf.Matrix()
    stack: list[pikepdf.Matrix] = []
    shown: list[tuple[pikepdf.Object, pikepdf.Matrix]] = []
    for instruction in pikepdf.parse_content_stream(page):
        operands, name = instruction.operands, str(instruction.operator)
        if name not in _PLAIN:
            return None
        if name == "q":
            stack.append(matrix)
        elif name == "Q" and stack:
            matrix = stack.pop()
        elif name == "cm":
            matrix = pikepdf.Matrix(*(float(value) for value in operands)) @ matrix
        elif name == "Do":
            shown.append((page.resources.XObject[str(operands[0])], matrix))
    if len(shown) != 1:
        return None
    ((picture, matrix),) = shown
    plain = picture.get("/Subtype") == pikepdf.Name.Image and not any(
        key in picture for key in ("/SMask", "/Mask", "/Decode", "/ImageMask", "/OC")
    )
    # pikepdf would start another program to decode JBIG2, which the sandbox of a worker denies.
    known = "/JBIG2Decode" not in str(picture.get("/Filter"))
    if isinstance(picture, pikepdf.Stream) and plain and known and _fills(matrix, page):
        return picture
    return None


def _fills(matrix: pikepdf.Matrix, page: pikepdf.Page) -> bool:
    left, bottom, right, top = (float(value) for value in page.cropbox)
    return (
        abs(matrix.b) + abs(matrix.c) < 1e-6
        and matrix.a > 0 < matrix.d
        and all(
            abs(found - wanted) <= _BOX_TOLERANCE
            for found, wanted in (
                (matrix.e, left),
                (matrix.f, bottom),
                (matrix.e + matrix.a, right),
                (matrix.f + matrix.d, top),
            )
        )
    )


def _decoded(picture: pikepdf.Stream) -> Image.Image:
    if picture.get("/Filter") == pikepdf.Name.DCTDecode:
        return Image.open(io.BytesIO(picture.read_raw_bytes()), formats=["JPEG"])
    return pikepdf.PdfImage(picture).as_pil_image()
