"""Files as scanners, phones and printers write them, and PDFs that no scanner writes."""

import io
import struct
from collections.abc import Callable
from typing import Any

import damaged_pages
import numpy as np
import pikepdf
import pytest
from PIL import Image
from unit.publisher import hostile

from publisher.page import Reason
from publisher.reading.formats import pdf
from publisher.reading.worker import read_file

pytestmark = pytest.mark.slow

Draw = Callable[..., Image.Image]
Encode = Callable[..., bytes]
CODE = "1093717526"


@pytest.mark.parametrize("dpi", [72, 100, 2400])
def test_a_pdf_page_of_any_size_is_read(draw: Draw, dpi: float) -> None:
    """With 72 dpi there is one point a pixel, with 2400 the page is as small as a stamp."""
    large = draw(CODE, CODE).resize((3600, 6000))

    seen = read_file(hostile.pdf([large], dpi))

    assert (seen.fault, seen.texts) == (None, (CODE,))
    assert max(seen.width, seen.height) <= 5000


def edited(plain: bytes, edit: Callable[[pikepdf.Pdf], object]) -> bytes:
    file = io.BytesIO()
    with pikepdf.open(io.BytesIO(plain)) as document:
        edit(document)
        document.save(file)
    return file.getvalue()


def test_a_pdf_in_user_units_is_read(draw: Draw) -> None:
    def edit(document: pikepdf.Pdf) -> None:
        page = document.pages[0]
        page.obj.MediaBox = pikepdf.Array([value / 10 for value in page.mediabox.as_list()])
        page.obj.UserUnit = 10
        page.contents_add(b"0.1 0 0 0.1 0 0 cm", prepend=True)

    seen = read_file(edited(hostile.pdf([draw(CODE, CODE)]), edit))

    assert (seen.fault, seen.texts) == (None, (CODE,))


@pytest.mark.parametrize(
    "before",
    [b"\x1b%-12345X@PJL\r\n@PJL ENTER LANGUAGE=PDF\r\n", b"\0" * 70_000, b"\r\n \xef\xbb\xbf"],
)
def test_a_pdf_behind_printer_commands_or_padding_is_read(draw: Draw, before: bytes) -> None:
    seen = read_file(before + hostile.pdf([draw(CODE, CODE)]))

    assert (seen.format, seen.fault, seen.texts) == ("PDF", None, (CODE,))


def test_a_pdf_behind_anything_else_is_not_recognized(draw: Draw) -> None:
    assert read_file(b"MZ" + hostile.pdf([draw(CODE, CODE)])).fault is Reason.NOT_AN_IMAGE


def script(document: pikepdf.Pdf) -> pikepdf.Object:
    return pikepdf.Dictionary(S=pikepdf.Name.JavaScript, JS="app.alert(1)")


def annotation(document: pikepdf.Pdf, **parts: Any) -> None:
    made = pikepdf.Dictionary(Type=pikepdf.Name.Annot, Rect=[0, 0, 9, 9], **parts)
    document.pages[0].obj.Annots = pikepdf.Array([made])


def attach(document: pikepdf.Pdf) -> None:
    document.attachments["a.txt"] = b"text"


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: setattr(d.Root, "OpenAction", script(d)),
        lambda d: setattr(d.pages[0].obj, "AA", pikepdf.Dictionary(O=script(d))),
        lambda d: annotation(d, Subtype=pikepdf.Name.Link, A=script(d)),
        lambda d: annotation(
            d, Subtype=pikepdf.Name.Link, A=pikepdf.Dictionary(S=pikepdf.Name.Launch, F="a.exe")
        ),
        lambda d: annotation(
            d,
            Subtype=pikepdf.Name.Link,
            A=pikepdf.Dictionary(S=pikepdf.Name.URI, URI="http://example.org", Next=[script(d)]),
        ),
        lambda d: annotation(d, Subtype=pikepdf.Name.FileAttachment),
        attach,
    ],
)
def test_active_content_is_refused_wherever_it_is(
    draw: Draw, edit: Callable[[pikepdf.Pdf], object]
) -> None:
    plain = hostile.pdf([draw(CODE, CODE)])

    assert read_file(edited(plain, lambda document: None)).fault is None
    assert read_file(edited(plain, edit)).fault is Reason.ACTIVE_CONTENT


def test_a_jpeg_with_a_preview_behind_it_is_read(draw: Draw, encode: Encode) -> None:
    page = draw(CODE, CODE)
    file = io.BytesIO()
    page.save(file, "MPO", save_all=True, append_images=[page.reduce(4)])
    two = io.BytesIO()
    page.save(two, "MPO", save_all=True, append_images=[draw("1093717527", "1093717527")])

    assert read_file(file.getvalue()).texts == (CODE,)
    assert read_file(two.getvalue()).fault is Reason.NOT_AN_IMAGE, "a second page would be lost"


@pytest.mark.parametrize("behind", [b"\0" * 100, b"\xff\xda\x12\x34", b"SEFT\xff\xd8\xff\xda"])
def test_bytes_behind_the_end_of_a_jpeg_are_skipped(
    draw: Draw, encode: Encode, behind: bytes
) -> None:
    jpeg = encode(draw(CODE, CODE))

    assert read_file(jpeg + behind).texts == (CODE,)
    assert read_file(jpeg[:-2] + behind).fault is Reason.INCOMPLETE


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_blocks": 8}])
def test_a_jpeg_of_several_scans_or_with_restarts_is_whole(
    draw: Draw, encode: Encode, options: dict[str, object]
) -> None:
    jpeg = encode(draw(CODE, CODE), **options)

    assert read_file(jpeg).texts == (CODE,)
    assert read_file(jpeg[: len(jpeg) * 9 // 10]).fault is Reason.INCOMPLETE


def test_a_big_endian_tiff_of_sixteen_bits_is_read(draw: Draw) -> None:
    page = draw(CODE, CODE)
    deep = (np.asarray(page, np.uint16) * 257).astype(">u2").tobytes()
    entries = [
        (256, 4, page.width),
        (257, 4, page.height),
        (258, 3, 16 << 16),
        (259, 3, 1 << 16),
        (262, 3, 1 << 16),
        (273, 4, 8),
        (277, 3, 1 << 16),
        (278, 4, page.height),
        (279, 4, len(deep)),
    ]
    table = b"".join(struct.pack(">HHII", tag, kind, 1, value) for tag, kind, value in entries)
    head = struct.pack(">2sHI", b"MM", 42, 8 + len(deep))

    seen = read_file(head + deep + struct.pack(">H", len(entries)) + table + bytes(4))

    assert (seen.format, seen.fault, seen.texts) == ("TIFF", None, (CODE,))


def test_a_bigtiff_is_read(draw: Draw, encode: Encode) -> None:
    page = encode(draw(CODE, CODE), "TIFF", big_tiff=True)

    assert (page[:4], read_file(page).texts) == (b"II+\0", (CODE,))


def test_the_thumbnail_of_a_tiff_is_not_a_page(draw: Draw, encode: Encode) -> None:
    page = draw(CODE, CODE)
    thumbnail = page.reduce(6)
    thumbnail.encoderinfo = {"tiffinfo": {254: 1}}

    seen = read_file(encode(page, "TIFF", save_all=True, append_images=[thumbnail]))

    assert (seen.frames, seen.texts) == (1, (CODE,))


@pytest.mark.slow
def test_a_page_of_a_pdf_is_copied_alone_and_always_to_the_same_bytes(draw: Draw) -> None:
    """All pages share one dictionary of resources, as some scanners write it."""

    def share(document: pikepdf.Pdf) -> None:
        shared = pikepdf.Dictionary()
        for number, page in enumerate(document.pages):
            name = f"/P{number}"
            ((old, picture),) = page.obj.Resources.XObject.items()
            shared[name] = picture
            content = page.Contents.read_bytes().replace(old.encode(), name.encode())
            page.obj.Contents = document.make_stream(content)
        for page in document.pages:
            page.obj.Resources = pikepdf.Dictionary(XObject=shared)

    drawn = [draw(CODE, CODE), draw("1093717527", "1093717527"), draw()]
    two = edited(hostile.pdf(drawn[:2]), share)
    three = edited(hostile.pdf(drawn), share)

    copies = [pdf.extract(three, number) for number in range(3)]

    assert [read_file(copy).texts for copy in copies] == [(CODE,), ("1093717527",), ()]
    assert [read_file(copy).frames for copy in copies] == [1, 1, 1]
    assert copies[:2] == [pdf.extract(two, number) for number in range(2)]
    assert sum(map(len, copies)) < len(three) + 6000, "no copy has another page's picture"


def test_the_pictures_of_a_copied_page_keep_their_bytes() -> None:
    content, karekod = damaged_pages.page(damaged_pages.KINDS[0], 0, 1)
    with pikepdf.new() as document:
        document.add_blank_page(page_size=(595, 842))
        picture = document.make_stream(content)
        picture.Type, picture.Subtype = pikepdf.Name.XObject, pikepdf.Name.Image
        picture.Filter, picture.ColorSpace = pikepdf.Name.DCTDecode, pikepdf.Name.DeviceGray
        picture.Width, picture.Height, picture.BitsPerComponent = 1654, 2339, 8
        document.pages[0].obj.Resources = pikepdf.Dictionary(XObject={"/I": picture})
        document.pages[0].obj.Contents = document.make_stream(b"q 595 0 0 842 0 0 cm /I Do Q")
        file = io.BytesIO()
        document.save(file)

    copied = pdf.extract(file.getvalue(), 0)

    assert content in copied
    assert read_file(copied).texts == (karekod,)


def deep_tiff(pixels: "np.ndarray", order: str, photometric: int) -> bytes:
    """Write grey of 16 bits as a TIFF without compression; Pillow writes no negatives."""
    high, wide = pixels.shape
    data = pixels.astype(f"{order}u2").tobytes()
    tags = [(256, wide), (257, high), (258, 16), (259, 1), (262, photometric)]
    tags += [(273, 8 + 2 + 12 * 9 + 4), (277, 1), (278, high), (279, len(data))]
    out = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    for tag, value in tags:
        short = tag in (258, 259, 262, 277)
        out += struct.pack(f"{order}HHI", tag, 3 if short else 4, 1)
        out += struct.pack(f"{order}HH", value, 0) if short else struct.pack(f"{order}I", value)
    return out + struct.pack(f"{order}I", 0) + data


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [9, 10, 12, 14, 16])
def test_grey_of_more_than_eight_bits_is_read_in_every_form(
    draw: Draw, order: str, bits: int
) -> None:
    page = np.asarray(draw(CODE, CODE)).astype(np.uint16) << (bits - 8)

    positive = read_file(deep_tiff(page, order, 1))
    negative = read_file(deep_tiff(65535 - page, order, 0))

    for seen in (positive, negative):
        assert (seen.fault, seen.texts) == (None, (CODE,))
    assert positive.pixels == negative.pixels


def test_a_broken_pdf_of_many_pages_is_opened_once(
    draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is repaired each time that it is opened, which took 19 s for 64 pages of 43 MB."""
    plain = hostile.pdf([draw(CODE, CODE)] * 5)
    broken = plain.replace(b"startxref\n", b"startxref\n9")
    opened: list[object] = []
    open_pdf = pikepdf.open
    monkeypatch.setattr(pikepdf, "open", lambda *a, **k: opened.append(a) or open_pdf(*a, **k))

    seen = read_file(broken)

    assert (seen.fault, seen.frames, len(opened)) == (None, 5, 2)
    assert seen.extracts == read_file(plain).extracts
    assert [pdf.extract(broken, number) for number in range(5)] == list(seen.extracts)
