import hashlib
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image

from publisher.intake.lease import StillWritten
from publisher.page import MAX_FILE_BYTES, Arrival, ReadResult, Reason, Stamp
from publisher.reading.pool import Pool, Turns, read_page
from publisher.source import Source

NOON = datetime(2023, 5, 14, 14, 0, tzinfo=UTC)
SOURCE = Source("in", "a.jpg")
ARRIVAL = Arrival("20230514T140003000041-ffffffff", "a.jpg", SOURCE, Stamp(1, 1, 1), NOON)
RESULT = ReadResult("PNG", 1, 1)


def refuse(*_: object) -> ReadResult:
    raise AssertionError("must not be called")


def test_the_bytes_that_are_hashed_are_the_bytes_that_are_read_and_staged(tmp_path: Path) -> None:
    path = tmp_path / "page"
    path.write_bytes(b"a page")
    read_bytes, staged = [], []

    def read_content(content: bytes) -> ReadResult:
        read_bytes.append(content)
        path.write_bytes(b"changed during reading")
        return RESULT

    page = read_page(ARRIVAL, path, read_content, lambda *given: staged.append(given))

    assert read_bytes == [b"a page"]
    assert staged == [(ARRIVAL.id, b"a page")]
    assert page.sha256 == hashlib.sha256(b"a page").hexdigest()
    assert page.stamp != Stamp.of(path.stat())


def test_an_empty_file_is_refused_without_reading(tmp_path: Path) -> None:
    (tmp_path / "page").touch()

    assert (
        read_page(ARRIVAL, tmp_path / "page", refuse, lambda *_: None).result.fault is Reason.EMPTY
    )


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_a_pipe_link_or_folder_is_not_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "odd"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "link":
            path.symlink_to("/etc/passwd")
        case "folder":
            path.mkdir()

    page = read_page(ARRIVAL, path, refuse, refuse)

    assert (page.result.fault, page.sha256) == (Reason.NOT_A_FILE, None)


def test_a_file_over_the_size_limit_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)

    page = read_page(ARRIVAL, tmp_path / "huge", refuse, refuse)

    assert (page.result.fault, page.sha256) == (Reason.TOO_LARGE, None)


def test_a_file_that_grows_while_it_is_read_is_still_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "page"
    path.write_bytes(b"a page")
    opened = os.open

    def open_and_grow(name: Path, flags: int) -> int:
        descriptor = opened(name, flags)
        path.write_bytes(b"a page and more")
        return descriptor

    with monkeypatch.context() as patch, pytest.raises(StillWritten):
        patch.setattr(os, "open", open_and_grow)
        read_page(ARRIVAL, path, refuse, refuse)


@pytest.mark.slow
def test_pages_are_read_in_workers_and_an_error_of_the_disk_is_raised_by_results(
    tmp_path: Path, draw: Callable[..., Image.Image], encode: Callable[..., bytes]
) -> None:
    (tmp_path / ARRIVAL.file).write_bytes(encode(draw("1093717526")))
    wake = threading.Event()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for stage, texts in ((lambda *_: None, ("1093717526",)), (full, None)):
        wake.clear()
        pool = Pool(1, tmp_path, stage, wake)
        try:
            pool.submit(ARRIVAL)
            assert wake.wait(20)
            if texts is None:
                with pytest.raises(OSError, match="No space left"):
                    pool.results(10)
            else:
                pages, unsettled = pool.results(10)
                assert ([page.result.texts for page in pages], unsettled) == ([texts], [])
            assert pool.in_flight == 0
        finally:
            pool.close()
    assert [t.name for t in threading.enumerate() if t.name.startswith("reader")] == []


def arrival(source: str) -> Arrival:
    return Arrival(source, source, Source("in", source), Stamp(1, 1, 1), NOON)


def test_a_good_page_waits_for_one_page_of_a_long_file_at_most() -> None:
    turns = Turns()
    for number in range(1, 65):
        turns.put(arrival(f".extract-long-{number:03}"))
    assert turns.take() == arrival(".extract-long-001")

    turns.put(arrival("good.jpg"))
    turns.put(arrival(".extract-short-001"))
    turns.put(arrival(".extract-short-002"))

    order = [taken.id for _ in range(66) if (taken := turns.take())]
    assert order.index("good.jpg") <= 1
    assert order.index(".extract-short-001") <= 2
    assert order.index(".extract-short-002") <= 4
    assert len(set(order)) == 66
    assert order[-1] == ".extract-long-064"


def test_a_long_file_gets_on_while_other_files_keep_arriving() -> None:
    turns = Turns()
    for number in range(1, 6):
        turns.put(arrival(f".extract-long-{number:03}"))
    taken = []
    for number in range(40):
        turns.put(arrival(f"{number}.jpg"))
        taken.append(turns.take())

    assert sum(one is not None and one.id.startswith(".extract") for one in taken) == 5


def test_a_closed_queue_of_turns_returns_nothing() -> None:
    turns = Turns()
    turns.put(arrival("a.jpg"))
    turns.close()

    assert turns.take() is None
