import random
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from unit.publisher import hostile

from publisher.page import Reason
from publisher.reading.codes import decode
from publisher.reading.codes.agreement import agreement_on
from publisher.reading.worker import read_file

Draw = Callable[..., Image.Image]
Encode = Callable[..., bytes]
CODE, OTHER = "1093717526", "1093717527"


def g4(page: Image.Image, encode: Encode) -> bytes:
    return encode(page.convert("1"), "TIFF", compression="group4")


def test_both_printed_copies_are_read_whatever_the_scanner_writes(
    draw: Draw, encode: Encode
) -> None:
    page = draw(CODE, CODE)
    colour = page.convert("RGB")

    for data, kind in (
        (encode(page), "JPEG"),
        (encode(page, quality=30), "JPEG"),
        (encode(colour), "JPEG"),
        (encode(page.convert("CMYK")), "JPEG"),
        (encode(page, "PNG"), "PNG"),
        (encode(colour, "PNG"), "PNG"),
        (encode(page, "TIFF"), "TIFF"),
        (encode(colour, "TIFF"), "TIFF"),
        (encode(page, "TIFF", compression="jpeg"), "TIFF"),
        (encode(page, "TIFF", compression="tiff_lzw"), "TIFF"),
        (g4(page, encode), "TIFF"),
        (hostile.pdf([page]), "PDF"),
        (hostile.pdf([page.convert("1")]), "PDF"),
    ):
        seen = read_file(data)
        assert (seen.format, seen.texts, seen.fault) == (kind, (CODE,), None)
        assert agreement_on(CODE, seen.readings).copies == 2
        assert (seen.width, seen.height) == (900, 1500)


@pytest.mark.parametrize("tilt", [-5, 3, 90, 180])
def test_a_tilted_page_is_read(draw: Draw, encode: Encode, tilt: float) -> None:
    assert read_file(encode(draw(CODE, CODE, tilt=tilt))).texts == (CODE,)


def test_pixels_that_two_viewers_show_differently_are_refused(draw: Draw, encode: Encode) -> None:
    """Black ink on a transparent page looks different on each background."""
    page = draw(CODE, CODE)
    black = Image.new("RGBA", page.size, (0, 0, 0, 0))
    black.putalpha(page.point(lambda value: 255 - value))

    assert read_file(encode(black, "PNG")).fault is Reason.ODD_PIXELS
    assert read_file(encode(page.convert("F"), "TIFF")).fault is Reason.ODD_PIXELS
    assert read_file(encode(page.convert("RGBA"), "PNG")).texts == (CODE,)


def test_a_page_with_sixteen_bits_per_pixel_is_read(draw: Draw, encode: Encode) -> None:
    deep = Image.new("I;16", (900, 1500))
    deep.putdata(np.asarray(draw(CODE), np.uint16).ravel() * 256)

    assert read_file(encode(deep, "TIFF")).texts == (CODE,)


def test_every_code_on_the_page_is_reported(draw: Draw, encode: Encode) -> None:
    seen = read_file(encode(draw(CODE, OTHER, "https://example.org"), "PNG"))

    assert set(seen.texts) == {CODE, OTHER, "https://example.org"}
    assert {reading.engine for reading in seen.readings} == {"zxing-cpp"}


def test_a_qr_code_with_a_link_does_not_end_the_search_for_a_second_reading(
    draw: Draw, encode: Encode
) -> None:
    page = draw(CODE, OTHER, "https://example.org")
    rng = random.Random(1)  # noqa: S311 - the same noise every time
    lower = page.crop((720, 1180, 900, 1380))
    noisy = bytes(min(255, max(0, int(value + rng.gauss(0, 50)))) for value in lower.tobytes())
    page.paste(Image.frombytes("L", lower.size, noisy), (720, 1180))  # readable at half size only

    seen = read_file(encode(page, "PNG"))

    assert {reading.text: reading.scan for reading in seen.readings}[OTHER] == "half"


def test_a_text_that_is_not_utf8_is_cut_to_the_limit() -> None:
    """The largest code, once its bytes are escaped, is longer than an answer may be."""
    assert len(decode._text(b"\xff" * 2953)) == 4096


def test_a_page_without_a_code_has_no_readings(draw: Draw, encode: Encode) -> None:
    seen = read_file(encode(draw()))

    assert (seen.readings, seen.fault) == ((), None)


def test_control_characters_and_paths_are_returned_unchanged(draw: Draw, encode: Encode) -> None:
    hostile = "../../x\x00\x1b[31m"

    assert read_file(encode(draw(hostile), "PNG")).texts == (hostile,)


def png_that_claims(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + b"\0\0\0\0IDAT"
        + struct.pack(">I", zlib.crc32(b"IDAT"))
        + b"\0\0\0\0IEND\xaeB`\x82"
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"rubbish", Reason.NOT_AN_IMAGE),
        (b"", Reason.NOT_AN_IMAGE),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", Reason.FORMAT_POSTSCRIPT),
        (b"GIF89a" + bytes(100), Reason.FORMAT_GIF),
        (b"BM" + bytes(100), Reason.FORMAT_BMP),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), Reason.FORMAT_HEIC),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(100), Reason.FORMAT_HEIC),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(100), Reason.FORMAT_AVIF),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp41isom" + bytes(100), Reason.NOT_AN_IMAGE),
        (b"RIFF\x64\0\0\0WEBPVP8 " + bytes(100), Reason.FORMAT_WEBP),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100), Reason.FORMAT_JPEG_2000),
        (b"\xff\x4f\xff\x51" + bytes(100), Reason.FORMAT_JPEG_2000),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(100), Reason.FORMAT_JPEG_XL),
        (b"AT&TFORM" + bytes(100), Reason.FORMAT_DJVU),
        (b"PK\3\4" + bytes(100), Reason.FORMAT_ZIP),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100), Reason.FORMAT_OFFICE),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', Reason.FORMAT_SVG),
        (b"\xff\xd8\xff\xe0" + bytes(100), Reason.INCOMPLETE),
        (b"II*\0" + bytes(100), Reason.UNREADABLE_IMAGE),
        (png_that_claims(50_000, 50_000), Reason.TOO_LARGE),
        (png_that_claims(11_000, 11_000), Reason.TOO_LARGE),
        (png_that_claims(100, 100), Reason.UNREADABLE_IMAGE),
    ],
)
def test_bytes_that_are_not_a_page_are_refused_with_a_reason(
    data: bytes, reason: Reason, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as in a worker

    assert read_file(data).fault is reason


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # as in a worker
def test_a_truncated_page_is_incomplete_or_unreadable(draw: Draw, encode: Encode) -> None:
    page = draw(CODE, CODE)
    jpeg, png, tiff = encode(page), encode(page, "PNG"), g4(page, encode)

    for data, reason in (
        (jpeg, Reason.INCOMPLETE),
        (png, Reason.INCOMPLETE),
        (tiff, Reason.UNREADABLE_IMAGE),
    ):
        assert read_file(data[: len(data) * 2 // 3]).fault is reason
        assert read_file(data[:-2] if data is jpeg else data[:-5]).fault is reason


def test_a_file_of_several_pages_becomes_a_file_for_each(draw: Draw, encode: Encode) -> None:
    first, second = draw(CODE), draw(OTHER, OTHER)

    seen = read_file(encode(first, "TIFF", save_all=True, append_images=[second, draw()]))

    assert (seen.frames, seen.fault, seen.readings) == (3, None, ())
    pages = [read_file(extract) for extract in seen.extracts]
    assert [(page.frames, page.texts, page.extracts) for page in pages] == [
        (1, (CODE,), ()),
        (1, (OTHER,), ()),
        (1, (), ()),
    ]


@pytest.mark.slow
def test_a_page_of_600_dpi_is_reduced_and_the_corners_are_those_of_the_full_page(
    draw: Draw, encode: Encode
) -> None:
    page = draw(CODE, CODE)
    large = page.resize((page.width * 6, page.height * 6))

    for data in (encode(large), encode(large, "PNG")):
        seen = read_file(data)
        assert (seen.width, seen.height) == (5400, 9000)
        assert seen.texts == (CODE,)
        left = min(x for reading in seen.readings for x, _ in reading.corners)
        assert 6 * 720 < left < 6 * 760


def test_a_file_with_more_pages_than_the_limit_is_not_read(draw: Draw, encode: Encode) -> None:
    page = Image.new("1", (8, 8))

    seen = read_file(encode(page, "TIFF", save_all=True, append_images=[page] * 64))

    assert (seen.fault, seen.readings) == (Reason.TOO_MANY_PAGES, ())
