"""Decodes the pages of a file to grey images. Only this module uses Pillow's and pdfium's decoders.

The first bytes of a file give its format, never its name. JPEG and PNG have one page, TIFF and PDF
up to 64. What a camera adds to a JPEG is skipped: smaller pictures, and bytes after its end. A file
is refused before anything is decoded if

- it is cut off: no end marker in JPEG or PNG, a broken chain of directories in TIFF, no trailer
  in PDF;
- a page has more pixels than a scanner makes;
- it is a file of another kind at the same time, because two programs would then show different
  pages;
- it is a PDF with active content (publisher/reading/formats/pdf).

PDF pages are rendered at 200 dpi for reading; the store keeps the PDF itself. Some programs write a
wrong page size, for example one point for each pixel. If the longer side of a page would have fewer
than 1,500 or more than 5,000 pixels, it gets as many as that of its largest picture, up to 3,400. A
page longer than 5,000 pixels (A3 at 300 dpi has 4,961) is reduced by a whole factor.
"""

import io
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pikepdf
import pypdfium2 as pdfium
import pypdfium2.raw as raw
from PIL import Image, JpegImagePlugin, MpoImagePlugin, PngImagePlugin, TiffImagePlugin

from publisher.page import Reason, format_of, pdf_start, refused_format
from publisher.reading.formats import pdf, pixels, tiff
from publisher.reading.protocol import MAX_FRAMES

MAX_PIXELS = 120_000_000
PDF_DPI = 200
MAX_SIDE = 5_000
_LEAST_SIDE, _RENDERED_SIDE = 1_500, 3_400  # of PDF pages
_PNG_END = b"IEND\xaeB`\x82"
_SCAN, _JPEG_END = 0xDA, 0xD9
_NO_LENGTH = {0x01, *range(0xD0, 0xD9)}  # markers without a segment
_MARKER = re.compile(rb"\xff[^\0\xd0-\xd7\xff]")  # the end of a scan
_PDF_TAIL = 2048  # %%EOF must be in the last bytes; some programs add padding after it
# Imported here, so that they are loaded before the sandbox of a worker forbids opening files.
_PLUGINS = (JpegImagePlugin, MpoImagePlugin, PngImagePlugin, TiffImagePlugin)
# Compressions of TIFF that no decoder here knows.
_NOT_DECODED = {
    33003: Reason.FORMAT_JPEG_2000,
    33004: Reason.FORMAT_JPEG_2000,
    33005: Reason.FORMAT_JPEG_2000,
    34661: Reason.FORMAT_JBIG,
    34715: Reason.FORMAT_JBIG2,
    34718: Reason.FORMAT_MDI,
    34719: Reason.FORMAT_MDI,
    34720: Reason.FORMAT_MDI,
    50001: Reason.FORMAT_WEBP,
    50002: Reason.FORMAT_JPEG_XL,
}
_NO_IMAGE = (
    pdf.Unreadable,
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    struct.error,
    pdfium.PdfiumError,
)

# This module checks sizes before decoding; Pillow would only warn up to twice its limit.
Image.MAX_IMAGE_PIXELS = None


class Refused(Exception):
    """A file or one of its pages is not read, for `reason`."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Frames:
    """The pages of a file: their sizes in pixels, and functions for one of them, from 0.

    `decode` returns its pixels, `copy` returns a file that has only this page, and `digest` that of
    its pixels.
    """

    format: str
    sizes: tuple[tuple[int, int], ...]
    decode: Callable[[int], Image.Image]
    copy: Callable[[int], bytes]
    digest: Callable[[int], str | None]

    def grey(self, number: int) -> Image.Image:
        """Decode one page and reduce it if it is large; raises Refused."""
        with _decoder_errors_refused():
            grey = self.decode(number)
            factor = _reduction(grey.size)
            return grey.reduce(factor) if factor > 1 else grey

    def extract(self, number: int) -> bytes:
        """Return a file that has only this page; raises Refused."""
        with _decoder_errors_refused():
            return self.copy(number)

    def pixels(self, number: int) -> str | None:
        """Return the digest of one page's pixels, None if it has none."""
        try:
            return self.digest(number)
        except (*_NO_IMAGE, NotImplementedError, MemoryError, pikepdf.PdfError, RuntimeError):
            return None


def open_file(data: bytes) -> Frames:
    """Check a file and open it; raises Refused."""
    kind = format_of(data)
    if kind is None:
        raise Refused(refused_format(data))
    if _is_polyglot(data, kind):
        raise Refused(Reason.POLYGLOT)
    if _is_truncated(data, kind):
        raise Refused(Reason.INCOMPLETE)
    with _decoder_errors_refused():
        if kind == "PDF":
            data = data[pdf_start(data) :]
            if pdf.has_active_content(data):
                raise Refused(Reason.ACTIVE_CONTENT)
            document, copies = pdfium.PdfDocument(data), pdf.Pages(data)
            sizes = _checked_sizes(_pdf_sizes(document))
            return Frames(
                kind,
                sizes,
                lambda n: _render_pdf_page(document[n], sizes[n]),
                copies.extract,
                lambda n: pixels.digest_of_pdf_page(data, copies.extract(n)),
            )
        if kind == "TIFF":
            pages = tiff.pages(data, MAX_FRAMES)
            for page in pages:
                if reason := _NOT_DECODED.get(page.compression):
                    raise Refused(reason)
            sizes = _checked_sizes([(page.width, page.height) for page in pages])
            return Frames(
                kind,
                sizes,
                lambda n: _grey(_tiff_page(data, pages[n]), pages[n].is_deep_negative),
                lambda n: tiff.extract(data, pages[n]),
                lambda n: pixels.digest(
                    _tiff_page(data, pages[n]), negative=pages[n].is_deep_negative
                ),
            )
        image = Image.open(io.BytesIO(data), formats=[kind])
        if kind == "JPEG" and _has_only_previews(image):
            image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
        if getattr(image, "is_animated", False):
            raise Refused(Reason.NOT_AN_IMAGE)  # only the first picture would be read
        mode, size = image.mode, image.size
        return Frames(
            kind,
            _checked_sizes([size]),
            lambda n: _grey(image),
            lambda n: data,
            lambda n: _digest(image, data, mode, size),
        )


def _tiff_page(data: bytes, page: tiff.Directory) -> Image.Image:
    """Open one page of a TIFF; the pixels of a negative of 16 bits are not inverted."""
    if page.is_deep_negative:
        data = tiff.as_positive(data, page)
    image = Image.open(io.BytesIO(data), formats=["TIFF"])
    image.seek(page.number)
    return image


def _has_only_previews(image: Image.Image) -> bool:
    """Return whether every further picture in a JPEG is smaller than the first."""
    first = image.size
    for number in range(1, getattr(image, "n_frames", 1)):
        image.seek(number)
        if image.width >= first[0] or image.height >= first[1]:
            image.seek(0)
            return False
    return True


@contextmanager
def _decoder_errors_refused() -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise Refused(Reason.TOO_LARGE) from None
    except pdf.Encrypted:
        raise Refused(Reason.ENCRYPTED_PDF) from None
    except tiff.TooManyPages:
        raise Refused(Reason.TOO_MANY_PAGES) from None
    except _NO_IMAGE:
        raise Refused(Reason.UNREADABLE_IMAGE) from None


def _is_polyglot(data: bytes, kind: str) -> bool:
    head = data[:1024].lower()
    if kind != "PDF" and b"%pdf-" in head:
        return True
    if any(mark in head for mark in (b"<html", b"<script", b"<?php", b"<!doctype")):
        return True
    # A ZIP archive is found from its end: a directory whose comment ends at the last byte.
    tail = data[-65_557:]
    at = tail.rfind(b"PK\5\6")
    return at >= 0 and len(tail) == at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little")


def _is_truncated(data: bytes, kind: str) -> bool:
    match kind:
        case "JPEG":
            return not _jpeg_ends(data)
        case "PNG":
            return _PNG_END not in data
        case "PDF":
            return b"%%EOF" not in data[-_PDF_TAIL:]
    return False  # a TIFF has its directories anywhere; publisher/reading/formats/tiff checks them


def _jpeg_ends(data: bytes) -> bool:
    """Return whether the first picture of a JPEG is whole (ISO/IEC 10918-1, annex B)."""
    at, scanned = 2, False
    while at + 4 <= len(data) or (scanned and at + 2 <= len(data)):
        if data[at] != 0xFF:
            return False
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker == _JPEG_END:
            return scanned
        elif marker in _NO_LENGTH:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            if marker == _SCAN:
                scanned = True
                end = _MARKER.search(data, at)
                if end is None:
                    return False
                at = end.start()
    return False


def _checked_sizes(sizes: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    if any(width * height > MAX_PIXELS for width, height in sizes):
        raise Refused(Reason.TOO_LARGE)
    return tuple(sizes)


def _grey(image: Image.Image, negative: bool = False) -> Image.Image:
    if image.format in ("JPEG", "MPO"):
        factor = _reduction(image.size)
        image.draft("L", (image.width // factor, image.height // factor))
    if image.mode.startswith("I;16"):
        deep = ~np.asarray(image) if negative else np.asarray(image)
        # A scanner of 10, 12 or 14 bits may leave the highest bits empty.
        shift = max(0, 2 * -(-int(deep.max()).bit_length() // 2) - 8)
        return Image.fromarray((deep >> shift).astype(np.uint8))
    if image.mode in ("F", "I"):
        raise Refused(Reason.ODD_PIXELS)
    if image.has_transparency_data:
        image.load()
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise Refused(Reason.ODD_PIXELS)
    image.load()
    return image if image.mode == "L" else image.convert("L")  # which would be a copy


def _digest(image: Image.Image, data: bytes, mode: str, size: tuple[int, int]) -> str | None:
    """Return the digest of a page's pixels, all of them and with their colours.

    `mode` and `size` are those of the image before it was decoded for reading.
    """
    if image.format in ("JPEG", "MPO") and (mode != "L" or _reduction(size) > 1):
        image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))  # it was decoded smaller, or grey
    return pixels.digest(image)


def _reduction(size: tuple[int, int]) -> int:
    return -(-max(size) // MAX_SIDE)


def _pdf_sizes(document: pdfium.PdfDocument) -> list[tuple[int, int]]:
    count = len(document)
    if count > MAX_FRAMES:
        raise Refused(Reason.TOO_MANY_PAGES)
    if not count:
        raise Refused(Reason.UNREADABLE_IMAGE)
    return [_pdf_size(document[number]) for number in range(count)]


def _pdf_size(page: pdfium.PdfPage) -> tuple[int, int]:
    """Return the pixels to which a page is rendered."""
    width, height = (side * PDF_DPI / 72 for side in page.get_size())
    side = max(width, height, 1)
    wanted = side
    if not _LEAST_SIDE <= side <= MAX_SIDE:
        pictures = [max(part.get_px_size()) for part in _pictures(page)]
        wanted = min(max(pictures, default=_RENDERED_SIDE), _RENDERED_SIDE)
        wanted = max(wanted, side) if side < _LEAST_SIDE else wanted
    return max(1, round(width * wanted / side)), max(1, round(height * wanted / side))


def _pictures(page: pdfium.PdfPage) -> Iterator[pdfium.PdfImage]:
    yield from page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE], max_depth=8)


def _render_pdf_page(page: pdfium.PdfPage, size: tuple[int, int]) -> Image.Image:
    for part in _pictures(page):
        width, height = part.get_px_size()
        if width * height > MAX_PIXELS:
            raise Refused(Reason.TOO_LARGE)
    scale = max(size) / max(*page.get_size(), 1)
    grey: Image.Image = page.render(scale=scale, grayscale=True).to_pil()
    return grey.convert("L")
