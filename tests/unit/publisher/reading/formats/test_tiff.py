import io

import pytest
from PIL import Image, ImageChops
from unit.publisher.hostile import chain, directory

from publisher.reading.formats.tiff import BrokenTiff, TooManyPages, extract, pages


def test_the_sizes_of_all_pages_are_returned() -> None:
    assert [(page.width, page.height) for page in pages(chain(3, 0, 70), 64)] == [(70, 70)] * 3


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (chain(3, 8), "occurs twice"),
        (chain(3, 1 << 20), "ends before"),
        (chain(3, 0)[:-1], "ends before"),
        (b"II*\0\0\0\0\0", "has no directory"),
        (b"II*\0\x08\0\0\0" + directory([(256, 4, 1, 9)], 0), "a page has no size"),
        (b"II*\0\x08\0\0\0" + directory([(273, 4, 100_001, 8)], 0), "has 100001 values"),
        (
            b"MM\0*\0\0\0\x08\0\x01\x01\0\0\x03\0\0\0\x01\0\x09\0\0\0\0\0\0",
            "a page has no size",
        ),
        (
            b"II*\0\x08\0\0\0" + directory([(273, 4, 1, 8), (279, 4, 1, 999)], 0),
            "999 bytes of a page at 8 exceed the file",
        ),
    ],
)
def test_a_broken_chain_is_refused(data: bytes, fault: str) -> None:
    with pytest.raises(BrokenTiff, match=fault):
        pages(data, 64)


def test_a_file_with_more_pages_than_the_limit_is_refused() -> None:
    assert len(pages(chain(64, 0), 64)) == 64
    with pytest.raises(TooManyPages):
        pages(chain(65, 0), 64)


def picture(number: int) -> Image.Image:
    return Image.linear_gradient("L").resize((120, 90)).rotate(90 * number)


def file_of(count: int, **options: object) -> bytes:
    file = io.BytesIO()
    first, *rest = (picture(number) for number in range(count))
    first.save(file, "TIFF", save_all=True, append_images=rest, dpi=(200, 200), **options)
    return file.getvalue()


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "jpeg", "tiff_adobe_deflate"])
@pytest.mark.parametrize("big", [False, True])
def test_a_page_is_copied_without_decoding_it(compression: str, big: bool) -> None:
    data = file_of(3, compression=compression, big_tiff=big)
    original = Image.open(io.BytesIO(data))

    for number, page in enumerate(pages(data, 64)):
        copied = extract(data, page)
        alone = Image.open(io.BytesIO(copied))
        original.seek(number)
        assert (getattr(alone, "n_frames", 0), alone.info["dpi"]) == (1, (200, 200))
        assert ImageChops.difference(alone.convert("L"), original.convert("L")).getbbox() is None
        (again,) = pages(copied, 64)
        assert extract(copied, again) == copied


def test_a_page_gives_the_same_bytes_whatever_else_is_in_the_file() -> None:
    short, long = file_of(2, compression="tiff_lzw"), file_of(5, compression="tiff_lzw")

    assert [extract(short, page) for page in pages(short, 64)] == [
        extract(long, page) for page in pages(long, 64)[:2]
    ]


def test_a_smaller_picture_of_a_page_is_not_a_page() -> None:
    file = io.BytesIO()
    thumbnail = picture(1).resize((12, 9))
    thumbnail.encoderinfo = {"tiffinfo": {254: 1}}
    picture(0).save(file, "TIFF", save_all=True, append_images=[thumbnail])

    assert [(page.width, page.height) for page in pages(file.getvalue(), 64)] == [(120, 90)]
