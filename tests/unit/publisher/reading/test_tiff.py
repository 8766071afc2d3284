import pytest
from unit.publisher.hostile import chain, directory

from publisher.reading.tiff import BrokenTiff, TooManyPages, page_sizes


def test_the_sizes_of_all_pages_are_returned() -> None:
    assert page_sizes(chain(3, 0, 70), 64) == [(70, 70)] * 3


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
        page_sizes(data, 64)


def test_more_pages_than_the_cap_are_too_many_however_many_there_are() -> None:
    assert len(page_sizes(chain(64, 0), 64)) == 64
    with pytest.raises(TooManyPages):
        page_sizes(chain(65, 0), 64)
