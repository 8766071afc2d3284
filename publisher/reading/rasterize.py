"""Decodes the pages of a file to grey images. Only this module uses Pillow's and pdfium's decoders.

The first bytes of a file give its format, never its name. JPEG and PNG have one page, TIFF and PDF
up to 64. A file is refused before anything is decoded if

- it is cut off: no end marker in JPEG or PNG, a broken chain of directories in TIFF, no trailer
  in PDF;
- a page has more pixels than a scanner makes;
- it is a file of another kind at the same time, because two programs would then show different
  pages.

PDF pages are rendered at 200 dpi for reading; the store keeps the PDF itself. A page longer than
5,000 pixels (A3 at 300 dpi has 4,961) is reduced by a whole factor.
"""

import io
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pypdfium2 as pdfium
import pypdfium2.raw as raw
from PIL import Image, JpegImagePlugin, MpoImagePlugin, PngImagePlugin, TiffImagePlugin

from publisher.page import Reason, format_of
from publisher.reading import tiff
from publisher.reading.protocol import MAX_FRAMES

MAX_PIXELS = 120_000_000
PDF_DPI = 200
MAX_SIDE = 5_000
_PNG_END = b"IEND\xaeB`\x82"
_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
_PDF_TAIL = 2048  # %%EOF must be in the last bytes; some programs add padding after it
# Imported here, so that they are loaded before the sandbox of a worker forbids opening files.
_PLUGINS = (JpegImagePlugin, MpoImagePlugin, PngImagePlugin, TiffImagePlugin)
_NO_IMAGE = (OSError, ValueError, SyntaxError, EOFError, struct.error, pdfium.PdfiumError)

# This module checks sizes before decoding; Pillow would only warn up to twice its limit.
Image.MAX_IMAGE_PIXELS = None


class Refused(Exception):
    """A file or one of its pages is not read, for `reason`."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Frames:
    """The pages of a file: their sizes in pixels, and a function that decodes one, from 0."""

    format: str
    sizes: tuple[tuple[int, int], ...]
    decode: Callable[[int], Image.Image]

    def grey(self, number: int) -> Image.Image:
        """Decode one page and reduce it if it is large; raises Refused."""
        with _decoder_errors_refused():
            grey = self.decode(number)
            factor = _reduction(grey.size)
            return grey.reduce(factor) if factor > 1 else grey


def open_file(data: bytes) -> Frames:
    """Check a file and open it; raises Refused."""
    kind = format_of(data)
    if kind is None:
        raise Refused(Reason.NOT_AN_IMAGE)
    if _is_polyglot(data, kind):
        raise Refused(Reason.POLYGLOT)
    if _is_truncated(data, kind):
        raise Refused(Reason.INCOMPLETE)
    with _decoder_errors_refused():
        if kind == "PDF":
            document = pdfium.PdfDocument(data)
            if _has_active_content(document):
                raise Refused(Reason.POLYGLOT)
            return Frames(
                kind, _checked_sizes(_pdf_sizes(document)), lambda n: _render_pdf_page(document[n])
            )
        sizes = _checked_sizes(tiff.page_sizes(data, MAX_FRAMES)) if kind == "TIFF" else ()
        image = Image.open(io.BytesIO(data), formats=[kind])
        if kind != "TIFF" and getattr(image, "is_animated", False):
            raise Refused(Reason.NOT_AN_IMAGE)  # its other pictures would not be read
        return Frames(kind, sizes or _checked_sizes([image.size]), lambda n: _grey(image, n))


@contextmanager
def _decoder_errors_refused() -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise Refused(Reason.TOO_LARGE) from None
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
            return data.rfind(_JPEG_END) < data.rfind(_SCAN) or _SCAN not in data
        case "PNG":
            return _PNG_END not in data
        case "PDF":
            return b"%%EOF" not in data[-_PDF_TAIL:]
    return False  # a TIFF has its directories anywhere; publisher/reading/tiff checks them


def _checked_sizes(sizes: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    if any(width * height > MAX_PIXELS for width, height in sizes):
        raise Refused(Reason.TOO_LARGE)
    return tuple(sizes)


def _grey(image: Image.Image, number: int) -> Image.Image:
    if image.format == "TIFF":
        image.seek(number)
    elif image.format in ("JPEG", "MPO"):
        factor = _reduction(image.size)
        image.draft("L", (image.width // factor, image.height // factor))
    if image.mode.startswith("I;16"):
        return image.point(lambda value: value * (1 / 256)).convert("L")
    if image.mode in ("F", "I"):
        raise Refused(Reason.ODD_PIXELS)
    if image.has_transparency_data:
        image.load()
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise Refused(Reason.ODD_PIXELS)
    image.load()
    return image.convert("L")


def _reduction(size: tuple[int, int]) -> int:
    return -(-max(size) // MAX_SIDE)


def _pdf_sizes(document: pdfium.PdfDocument) -> list[tuple[int, int]]:
    count = len(document)
    if count > MAX_FRAMES:
        raise Refused(Reason.TOO_MANY_PAGES)
    if not count:
        raise Refused(Reason.UNREADABLE_IMAGE)
    sizes = []
    for number in range(count):
        width, height = document.get_page_size(number)
        sizes.append((round(width * PDF_DPI / 72), round(height * PDF_DPI / 72)))
    return sizes


def _has_active_content(document: pdfium.PdfDocument) -> bool:
    """Return True if a PDF contains scripts or attached files; a scanner adds neither."""
    scripts = raw.FPDFDoc_GetJavaScriptActionCount(document)
    return bool(scripts or raw.FPDFDoc_GetAttachmentCount(document))


def _render_pdf_page(page: pdfium.PdfPage) -> Image.Image:
    for part in page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE], max_depth=8):
        width, height = part.get_px_size()
        if width * height > MAX_PIXELS:
            raise Refused(Reason.TOO_LARGE)
    grey: Image.Image = page.render(scale=PDF_DPI / 72, grayscale=True).to_pil()
    return grey.convert("L")
