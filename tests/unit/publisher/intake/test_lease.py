import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from publisher.intake.lease import IDLE_WRITER_SECONDS, StillWritten, without_writers


@pytest.fixture
def page(tmp_path: Path) -> Path:
    (tmp_path / "page").write_bytes(b"half a page")
    return tmp_path / "page"


@pytest.fixture
def reading(page: Path) -> Iterator[int]:
    descriptor = os.open(page, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_a_file_that_a_process_has_open_for_writing_is_unsettled(page: Path, reading: int) -> None:
    with page.open("ab"), pytest.raises(StillWritten), without_writers(reading):
        raise AssertionError("is not to be read")

    with without_writers(reading):
        assert os.pread(reading, 100, 0) == b"half a page"


def test_who_wants_to_write_is_kept_out_meanwhile_and_let_in_after(
    page: Path, reading: int
) -> None:
    """The kernel announces the writer by a signal, which this process survives."""
    with without_writers(reading), pytest.raises(BlockingIOError):
        os.open(page, os.O_WRONLY | os.O_NONBLOCK)

    os.close(os.open(page, os.O_WRONLY | os.O_NONBLOCK))


def test_a_writer_that_did_nothing_for_ten_minutes_is_waited_for_no_longer(
    page: Path, reading: int
) -> None:
    changed = page.stat().st_ctime

    with page.open("ab"):
        with (
            pytest.raises(StillWritten),
            without_writers(reading, lambda: changed + IDLE_WRITER_SECONDS - 1),
        ):
            raise AssertionError("is not to be read")
        with without_writers(reading, lambda: changed + IDLE_WRITER_SECONDS):
            assert os.pread(reading, 100, 0) == b"half a page"
