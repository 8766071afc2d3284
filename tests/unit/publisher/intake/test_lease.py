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


def test_a_file_that_a_process_has_open_for_writing_is_refused(page: Path, reading: int) -> None:
    with page.open("ab"), pytest.raises(StillWritten), without_writers(reading):
        raise AssertionError("the file must not be read")

    with without_writers(reading):
        assert os.pread(reading, 100, 0) == b"half a page"


def test_a_new_writer_is_blocked_until_the_lease_is_released(page: Path, reading: int) -> None:
    """The kernel announces the writer with a signal; the signal must not end this process."""
    with without_writers(reading), pytest.raises(BlockingIOError):
        os.open(page, os.O_WRONLY | os.O_NONBLOCK)

    os.close(os.open(page, os.O_WRONLY | os.O_NONBLOCK))


def test_an_open_file_that_did_not_change_for_ten_minutes_is_read(page: Path, reading: int) -> None:
    changed = page.stat().st_ctime

    with page.open("ab"):
        with (
            pytest.raises(StillWritten),
            without_writers(reading, lambda: changed + IDLE_WRITER_SECONDS - 1),
        ):
            raise AssertionError("the file must not be read")
        with without_writers(reading, lambda: changed + IDLE_WRITER_SECONDS):
            assert os.pread(reading, 100, 0) == b"half a page"
