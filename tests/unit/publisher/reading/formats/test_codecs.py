"""How scanners compress pages: every codec is read, or refused with a reason that names it."""

import io
import struct
from collections.abc import Callable
from typing import Any

import pikepdf
import pytest
from PIL import Image, TiffImagePlugin
from slow_rest import slow_rest

from publisher.page import Reason, refused_format
from publisher.reading.worker import read_file

pytestmark = pytest.mark.slow

Draw = Callable[..., Image.Image]
CODE = "1093717526"


def tiff(page: Image.Image, compression: str, **tags: Any) -> bytes:
    """Return a TIFF of one strip."""
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[278] = page.height
    for tag, value in tags.items():
        info[int(tag.removeprefix("tag"))] = value
    file = io.BytesIO()
    page.save(file, "TIFF", compression=compression, tiffinfo=info)
    return file.getvalue()


def strip(page: Image.Image, compression: str, **tags: Any) -> bytes:
    """Return a page as the one strip of a TIFF has it."""
    data = tiff(page, compression, **tags)
    with Image.open(io.BytesIO(data)) as image:
        assert isinstance(image, TiffImagePlugin.TiffImageFile)
        (start,), (length,) = image.tag_v2[273], image.tag_v2[279]
    return data[start : start + length]


def jpeg_2000(page: Image.Image) -> bytes:
    file = io.BytesIO()
    page.save(file, "JPEG2000", irreversible=False)
    return file.getvalue()


def jbig2(page: Image.Image) -> bytes:
    """Return a page as the segments of JBIG2 that a PDF embeds (ITU-T T.88, section 7).

    Its one region is coded as MMR, which is ITU-T T.6 with black as 1.
    """
    size = struct.pack(">II", *page.size)
    coded = strip(page, "group4", tag262=0)
    info = size + struct.pack(">IIBH", 0, 0, 0, 0)
    region = size + struct.pack(">IIBB", 0, 0, 0, 1) + coded
    segments = (
        struct.pack(">IBBBI", number, kind, 0, 1, len(content)) + content
        for number, kind, content in ((0, 48, info), (1, 38, region))
    )
    return b"".join(segments)


def pdf(page: Image.Image, stream: bytes, filters: str, parms: str = "") -> bytes:
    """Return a PDF that shows a page whose pixels are compressed in a stream."""
    bits = 1 if page.mode == "1" else 8
    with pikepdf.new() as document:
        document.add_blank_page(page_size=(page.width * 0.36, page.height * 0.36))
        picture = pikepdf.Stream(document, b"")
        for key, value in {
            "/Subtype": pikepdf.Name.Image, "/Width": page.width, "/Height": page.height,
            "/BitsPerComponent": bits, "/ColorSpace": pikepdf.Name.DeviceGray,
        }.items():  # fmt: skip
            picture[key] = value
        picture.write(stream)
        picture.Filter = pikepdf.Object.parse(filters.encode())
        if parms:
            picture.DecodeParms = pikepdf.Object.parse(parms.encode())
        shown = document.pages[0]
        shown.Resources = pikepdf.Dictionary(XObject=pikepdf.Dictionary(I=picture))
        box = f"{page.width * 0.36} 0 0 {page.height * 0.36} 0 0 cm"
        shown.Contents = pikepdf.Stream(document, f"q {box} /I Do Q".encode())
        file = io.BytesIO()
        document.save(file, stream_decode_level=pikepdf.StreamDecodeLevel.none)
        return file.getvalue()


@pytest.mark.parametrize(
    "compression",
    ["raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "jpeg", "zstd", "lzma"],
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_tiff_of_grey_or_colour_is_read(draw: Draw, compression: str, mode: str) -> None:
    seen = read_file(tiff(draw(CODE, CODE).convert(mode), compression))

    assert (seen.fault, seen.texts) == (None, (CODE,))


@pytest.mark.parametrize(
    ("compression", "tags"),
    [
        *(("tiff_ccitt", {}), ("group3", {}), ("group3", {"tag292": 1}), ("group3", {"tag292": 5})),
        *(("group4", {}), ("group4", {"tag266": 2}), ("packbits", {}), ("raw", {})),
        *(("group4", {"tag262": 0}), ("tiff_lzw", {}), ("tiff_adobe_deflate", {})),
    ],
)
def test_a_tiff_in_black_and_white_is_read(
    draw: Draw, compression: str, tags: dict[str, int]
) -> None:
    """Huffman coding, Group 3 in one and in two dimensions, Group 4, also with low bits first."""
    seen = read_file(tiff(draw(CODE, CODE).convert("1"), compression, **tags))

    assert (seen.fault, seen.texts) == (None, (CODE,))


@pytest.mark.parametrize(
    "name", slow_rest(["jbig2", "g4", "g3", "g3-2d", "lzw", "run-length", "flate-a85"], 2)
)
def test_a_pdf_in_black_and_white_is_read(draw: Draw, name: str) -> None:
    page = draw(CODE, CODE).convert("1")
    size = f"/Columns {page.width} /Rows {page.height}"
    hexadecimal = strip(page, "tiff_adobe_deflate").hex().encode() + b">"
    stream, filters, parms = {
        "g4": (strip(page, "group4", tag262=0), "/CCITTFaxDecode", f"<</K -1 {size}>>"),
        "g3": (strip(page, "group3", tag262=0), "/CCITTFaxDecode", f"<</K 0 {size}>>"),
        "g3-2d": (
            strip(page, "group3", tag262=0, tag292=1),
            "/CCITTFaxDecode",
            f"<</K 4 /EndOfLine true {size}>>",
        ),
        "jbig2": (jbig2(page), "/JBIG2Decode", ""),
        "lzw": (strip(page, "tiff_lzw"), "/LZWDecode", ""),
        "run-length": (strip(page, "packbits") + b"\x80", "/RunLengthDecode", ""),
        "flate-a85": (hexadecimal, "[/ASCIIHexDecode /FlateDecode]", ""),
    }[name]

    seen = read_file(pdf(page, stream, filters, parms))

    assert (seen.fault, seen.texts) == (None, (CODE,))


def test_a_pdf_of_jpeg_2000_is_read(draw: Draw) -> None:
    page = draw(CODE, CODE)

    seen = read_file(pdf(page, jpeg_2000(page), "/JPXDecode"))

    assert (seen.fault, seen.texts) == (None, (CODE,))


@pytest.mark.parametrize(
    ("compression", "reason"),
    [
        *((34661, Reason.FORMAT_JBIG), (34715, Reason.FORMAT_JBIG2), (34718, Reason.FORMAT_MDI)),
        *((50001, Reason.FORMAT_WEBP), (50002, Reason.FORMAT_JPEG_XL)),
        *((33003, Reason.FORMAT_JPEG_2000), (33005, Reason.FORMAT_JPEG_2000)),
    ],
)
def test_a_tiff_whose_codec_is_not_known_is_refused_by_its_name(
    draw: Draw, compression: int, reason: Reason
) -> None:
    plain = tiff(draw(CODE).convert("1"), "raw")
    entry = struct.pack("<HHIHH", 259, 3, 1, 1, 0)
    assert plain.count(entry) == 1

    seen = read_file(plain.replace(entry, struct.pack("<HHIHH", 259, 3, 1, compression, 0)))

    assert (seen.fault, seen.texts) == (reason, ())


def test_a_file_of_one_codec_is_refused_by_its_name(draw: Draw) -> None:
    assert read_file(jpeg_2000(draw(CODE))).fault is Reason.FORMAT_JPEG_2000
    assert refused_format(b"\x97JB2\r\n\x1a\n\1\0\0\0\1") is Reason.FORMAT_JBIG2
    assert refused_format(b"EP*\0\x08\0\0\0") is Reason.FORMAT_MDI
