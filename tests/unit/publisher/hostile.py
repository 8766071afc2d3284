"""Hostile and damaged files, each with the reason for which it goes to quarantine."""

import io
import re
import struct
import zlib
from collections.abc import Callable

import qrcode
from PIL import Image, ImageDraw

from publisher.page import Reason

Encode = Callable[..., bytes]


def directory(entries: list[tuple[int, int, int, int]], following: int) -> bytes:
    """Return one directory of a little-endian TIFF."""
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<H", len(entries)) + packed + struct.pack("<I", following)


def chain(count: int, last: int, side: int = 8) -> bytes:
    """Return a TIFF of `count` directories without pixels; the last one points to `last`."""
    size = 2 + 2 * 12 + 4
    entries = [(256, 4, 1, side), (257, 4, 1, side)]
    following = [8 + size * number for number in range(1, count)] + [last]
    return b"II*\0" + struct.pack("<I", 8) + b"".join(directory(entries, n) for n in following)


def png_that_claims(width: int, height: int) -> bytes:
    """Return a PNG whose header states a size that its pixels do not fill."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def jpeg_that_claims(jpeg: bytes, width: int, height: int) -> bytes:
    """Return the same JPEG with another size in its header."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


def pdf(pages: list[Image.Image], dpi: float = 200) -> bytes:
    """Return a PDF of scanned pages."""
    file = io.BytesIO()
    pages[0].save(file, "PDF", resolution=dpi, save_all=True, append_images=pages[1:])
    return file.getvalue()


def _found(pattern: bytes, where: bytes) -> bytes:
    match = re.search(pattern, where)
    assert match
    return match[1]


def with_script(plain: bytes) -> bytes:
    """Return the PDF with a script that runs when it is opened, in an incremental update."""
    before = int(plain[plain.rindex(b"startxref") + 9 :].split()[0])
    trailer = plain[plain.rindex(b"trailer") :]
    root = int(_found(rb"/Root (\d+) 0 R", trailer))
    size = int(_found(rb"/Size (\d+)", trailer))
    pages = _found(rb"/Pages (\d+ 0 R)", plain)
    action = b"%d 0 obj\n<< /S /JavaScript /JS (app.alert(1)) >>\nendobj\n" % size
    tree = b"<< /JavaScript << /Names [(a) %d 0 R] >> >>" % size
    catalog = b"%d 0 obj\n<< /Type /Catalog /Pages %s /Names %s >>\nendobj\n" % (root, pages, tree)
    at = len(plain) + len(action)
    table = b"xref\n%d 1\n%010d 00000 n \n%d 1\n%010d 00000 n \n" % (root, at, size, len(plain))
    added = b"trailer\n<< /Size %d /Root %d 0 R /Prev %d >>\n" % (size + 1, root, before)
    start = len(plain) + len(action) + len(catalog)
    end = b"startxref\n%d\n%%%%EOF\n" % start
    return plain + action + catalog + table + added + end


def finder_patterns() -> Image.Image:
    """Return a page full of the squares that mark the corners of a QR code."""
    page = Image.new("L", (1654, 2339), 255)
    draw = ImageDraw.Draw(page)
    for x in range(0, 1654, 32):
        for y in range(0, 2339, 32):
            for inset, shade in ((0, 0), (4, 255), (8, 0)):
                draw.rectangle((x + inset, y + inset, x + 27 - inset, y + 27 - inset), shade)
    return page


def code(content: bytes) -> Image.Image:
    """Return a page with one code that contains these bytes."""
    made = qrcode.QRCode(None, qrcode.constants.ERROR_CORRECT_L, box_size=4, border=6)
    made.add_data(qrcode.util.QRData(content, qrcode.util.MODE_8BIT_BYTE))
    image: Image.Image = made.make_image().get_image()
    return image.convert("L")


def files(page: Image.Image, two: Image.Image, encode: Encode) -> dict[str, tuple[bytes, Reason]]:
    """Return every file by name, made from a good page and from a page with two karekods."""
    jpeg, tiff = encode(page), encode(page.convert("1"), "TIFF", compression="group4")
    clear = Image.new("RGBA", page.size, (0, 0, 0, 0))
    clear.putalpha(page.point(lambda value: 255 - value))
    unreadable, odd, none = Reason.UNREADABLE_IMAGE, Reason.ODD_PIXELS, Reason.NO_KAREKOD
    incomplete = Reason.INCOMPLETE
    no_image, polyglot = Reason.NOT_AN_IMAGE, Reason.POLYGLOT
    comment = b"\xff\xfe" + struct.pack(">H", 15) + b"%PDF-1.4 hello"[:13]
    return {
        "empty.jpg": (b"", Reason.EMPTY),
        "truncated.jpg": (jpeg[: len(jpeg) // 2], incomplete),
        "lacks-its-end.jpg": (jpeg[:-2], incomplete),
        "truncated.png": (encode(page, "PNG")[:-40], incomplete),
        "truncated.tif": (tiff[: len(tiff) // 2], unreadable),
        "truncated.pdf": (pdf([page])[:-400], incomplete),
        "bomb.png": (png_that_claims(50_000, 50_000), Reason.TOO_LARGE),
        "bomb-under-twice-the-limit.png": (png_that_claims(11_000, 11_000), Reason.TOO_LARGE),
        "bomb.jpg": (jpeg_that_claims(jpeg, 65_000, 65_000), Reason.TOO_LARGE),
        "bomb.tif": (chain(1, 0, 65_536), Reason.TOO_LARGE),
        "bomb.pdf": (pdf([Image.new("1", (12_000, 12_000))], 20), Reason.TOO_LARGE),
        "10000-frames.tif": (chain(10_000, 0), Reason.TOO_MANY_PAGES),
        "65-pages.pdf": (pdf([Image.new("1", (80, 80))] * 65), Reason.TOO_MANY_PAGES),
        "cut-chain.tif": (chain(3, 1 << 20), unreadable),
        "looping-chain.tif": (chain(3, 8), unreadable),
        "eps.jpg": (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n",
            Reason.FORMAT_POSTSCRIPT,
        ),
        "gif.jpg": (encode(page, "GIF"), Reason.FORMAT_GIF),
        "bmp.tif": (encode(page, "BMP"), Reason.FORMAT_BMP),
        "rubbish.png": (b"rubbish" * 1000, no_image),
        "rubbish.pdf": (b"%PDF-1.4\n" + b"rubbish" * 1000 + b"%%EOF", unreadable),
        "pdf-in-a-jpeg.jpg": (jpeg[:2] + comment + jpeg[2:], polyglot),
        "zip-after-a-jpeg.jpg": (jpeg + b"PK\5\6" + bytes(18), polyglot),
        "page-after-html.png": (encode(page, "PNG") + b"PK\5\6" + bytes(18), polyglot),
        "script.pdf": (with_script(pdf([page])), Reason.ACTIVE_CONTENT),
        "float.tif": (encode(page.convert("F"), "TIFF"), odd),
        "transparent.png": (encode(clear, "PNG"), odd),
        "finder-patterns.png": (encode(finder_patterns(), "PNG"), none),
        "path.png": (encode(code(b"../../../etc/passwd"), "PNG"), none),
        "nul.png": (encode(code(b"1093717526\0"), "PNG"), none),
        "ansi.png": (encode(code(b"\x1b[2J\x1b[31m1093717526"), "PNG"), none),
        "long.png": (encode(code(b"1093717526" * 290), "PNG"), none),
        "no-utf8.png": (encode(code(bytes(range(128, 256))), "PNG"), none),
        "two-sheets.jpg": (encode(two), Reason.SEVERAL_SHEETS),
    }
