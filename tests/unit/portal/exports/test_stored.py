"""Answers that are made before they are sent."""

import errno
import os
import tempfile
from collections.abc import Iterator

import pytest
import zstandard

from portal.exports.stored import compressed, stored

ROWS = [b"row %d\n" % n for n in range(100_000)]


def test_an_answer_comes_as_it_was_made_and_only_when_it_is_made() -> None:
    events: list[str] = []

    def rows() -> Iterator[bytes]:
        yield from ROWS
        events.append("made")

    found = []
    for chunk in stored(rows(), lambda: events.append("released")):
        assert not chunk or events == ["made", "released"]
        found.append(chunk)

    assert b"".join(found) == b"".join(ROWS)


def test_a_compressed_answer_is_one_frame() -> None:
    frame = b"".join(compressed(iter(ROWS)))

    assert len(frame) < len(b"".join(ROWS)) / 3
    assert zstandard.ZstdDecompressor().decompressobj().decompress(frame) == b"".join(ROWS)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_maker_is_released_when_the_client_is_gone_before(steps: int) -> None:
    released: list[bool] = []
    answer = compressed(iter(ROWS), lambda: released.append(True))
    for _ in range(steps):
        assert next(answer) == b""

    del answer

    assert released == [True]


def test_the_maker_is_released_when_there_is_no_room_for_a_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    released: list[bool] = []

    with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
        next(compressed(iter(ROWS), lambda: released.append(True)))

    assert released == [True]
