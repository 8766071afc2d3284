"""The same scan in another container has the same digest, and a page with another pixel has not."""

import io
import struct
from collections.abc import Callable

import numpy as np
import pikepdf
import pytest
from PIL import Image, ImageDraw, PngImagePlugin

from publisher.reading.worker import read_file

Draw = Callable[..., Image.Image]
Encode = Callable[..., bytes]
CODE = "1093717526"


def digest(data: bytes) -> str:
    seen = read_file(data)
    assert (seen.fault, seen.texts) == (None, (CODE,))
    assert seen.pixels
    return seen.pixels


@pytest.fixture
def page(draw: Draw) -> Image.Image:
    return draw(CODE, CODE)


def with_segment(jpeg: bytes, marker: int, content: bytes) -> bytes:
    """Add a segment behind the first marker of a JPEG."""
    segment = bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content
    return jpeg[:2] + segment + jpeg[2:]


def in_pdf(jpeg: bytes, size: tuple[int, int], *, dpi: float = 200, title: str = "") -> bytes:
    """Wrap a JPEG in a PDF page without touching it."""
    wide, high = (side * 72 / dpi for side in size)
    document = pikepdf.new()
    document.add_blank_page(page_size=(wide, high))
    picture = document.make_stream(jpeg)
    picture.update(
        pikepdf.Dictionary(
            Type=pikepdf.Name.XObject,
            Subtype=pikepdf.Name.Image,
            Width=size[0],
            Height=size[1],
            ColorSpace=pikepdf.Name.DeviceGray,
            BitsPerComponent=8,
            Filter=pikepdf.Name.DCTDecode,
        )
    )
    page = document.pages[0]
    page.obj.Resources = pikepdf.Dictionary(XObject=pikepdf.Dictionary(Im0=picture))
    page.contents_add(f"q {wide} 0 0 {high} 0 0 cm /Im0 Do Q".encode())
    if title:
        document.docinfo["/Title"] = title
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def test_the_same_jpeg_in_other_containers(page: Image.Image, encode: Encode) -> None:
    jpeg = encode(page, quality=80)
    same = [
        with_segment(jpeg, 0xFE, b"scanned on another day"),
        with_segment(jpeg, 0xE1, b"Exif\0\0 broken"),
        jpeg + b"padding of a camera",
        in_pdf(jpeg, page.size),
        in_pdf(jpeg, page.size, dpi=300, title="Tutanak"),
        encode(Image.open(io.BytesIO(jpeg)), "PNG"),
        encode(Image.open(io.BytesIO(jpeg)), "TIFF", compression="tiff_lzw"),
        encode(Image.open(io.BytesIO(jpeg)).convert("RGB"), "PNG"),
    ]

    assert {digest(data) for data in same} == {digest(jpeg)}


def test_a_black_and_white_page_in_other_containers(page: Image.Image, encode: Encode) -> None:
    plain = page.convert("1", dither=Image.Dither.NONE)
    text = PngImagePlugin.PngInfo()
    text.add_text("Creation Time", "2023-05-14")

    same = [
        encode(plain, "TIFF", compression="group4", dpi=(200, 200)),
        encode(plain, "TIFF", compression="packbits", dpi=(300, 300)),
        encode(plain, "PNG", pnginfo=text),
        encode(plain.convert("L"), "PNG"),
    ]

    assert len({digest(data) for data in same}) == 1


def test_colours_count(page: Image.Image, encode: Encode) -> None:
    coloured = page.convert("RGB")
    ImageDraw.Draw(coloured).rectangle((100, 1200, 300, 1300), (200, 30, 40))
    other = page.convert("RGB")
    ImageDraw.Draw(other).rectangle((100, 1200, 300, 1300), (30, 125, 40))

    png = digest(encode(coloured, "PNG"))
    jpeg = encode(coloured, quality=90)

    assert digest(encode(coloured, "TIFF")) == png
    assert digest(encode(other, "PNG")) != png
    assert digest(encode(coloured.quantize(256, dither=Image.Dither.NONE), "PNG")) is not None
    assert digest(with_segment(jpeg, 0xFE, b"a comment")) == digest(jpeg)


def test_sixteen_bits_count_all(page: Image.Image, encode: Encode) -> None:
    deep = np.asarray(page).astype(np.uint16) * 257
    other = deep.copy()
    other[700, 400] ^= 1
    little, big = (Image.fromarray(deep.astype(order)) for order in ("<u2", ">u2"))

    first = digest(encode(little, "TIFF"))

    assert digest(encode(little, "PNG")) == first
    assert digest(encode(big, "TIFF")) == first
    assert digest(encode(Image.fromarray(other), "TIFF")) != first


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_one_pixel_makes_another_page(page: Image.Image, encode: Encode, kind: str) -> None:
    changed = page.copy()
    changed.putpixel((200, 700), page.getpixel((200, 700)) ^ 1)  # type: ignore[operator]

    assert digest(encode(changed, kind)) != digest(encode(page, kind))


@pytest.mark.slow
def test_a_large_page_counts_in_full(page: Image.Image, encode: Encode) -> None:
    """It is read at half its size, where the two are the same."""
    large = page.resize((page.width * 6, page.height * 6), Image.Resampling.NEAREST)
    changed = large.copy()
    changed.putpixel((300, 4000), 244)

    assert digest(encode(changed, "PNG")) != digest(encode(large, "PNG"))


def edited(plain: bytes, edit: Callable[[pikepdf.Pdf], object]) -> bytes:
    file = io.BytesIO()
    with pikepdf.open(io.BytesIO(plain)) as document:
        edit(document)
        document.save(file)
    return file.getvalue()


def test_a_pdf_page_that_shows_its_picture_otherwise_is_another(
    page: Image.Image, encode: Encode
) -> None:
    jpeg = encode(page, quality=80)
    plain = in_pdf(jpeg, page.size)

    def turn(document: pikepdf.Pdf) -> None:
        document.pages[0].obj.Rotate = 180

    def crop(document: pikepdf.Pdf) -> None:
        document.pages[0].obj.CropBox = pikepdf.Array([0, 0, 324, 534])

    def draw_over(document: pikepdf.Pdf) -> None:
        document.pages[0].contents_add(b"0 0 40 40 re f")

    def annotate(document: pikepdf.Pdf) -> None:
        note = pikepdf.Dictionary(Type=pikepdf.Name.Annot, Subtype=pikepdf.Name.Square)
        note.Rect = pikepdf.Array([10, 10, 90, 90])
        document.pages[0].obj.Annots = document.make_indirect(pikepdf.Array([note]))

    seen = [read_file(edited(plain, edit)) for edit in (turn, crop, draw_over, annotate)]

    assert [(one.fault, one.texts) for one in seen] == [(None, (CODE,))] * 4
    digests = [one.pixels for one in seen]
    assert digest(plain) == digest(jpeg)
    assert digest(jpeg) not in digests
    assert digests[3] is None
    assert len(set(digests)) == 4


def test_a_drawn_pdf_page_is_compared_without_its_metadata(
    page: Image.Image, encode: Encode
) -> None:
    plain = in_pdf(encode(page, quality=80), page.size)

    def draw_over(document: pikepdf.Pdf) -> None:
        document.pages[0].contents_add(b"0 0 40 40 re f")

    def date(document: pikepdf.Pdf) -> None:
        draw_over(document)
        document.docinfo["/CreationDate"] = "D:20230514180000+03'00'"
        document.docinfo["/Producer"] = "another program"

    assert digest(edited(plain, draw_over)) == digest(edited(plain, date))


def test_a_page_without_a_karekod_has_no_digest(draw: Draw, encode: Encode) -> None:
    assert read_file(encode(draw(), "PNG")).pixels is None
