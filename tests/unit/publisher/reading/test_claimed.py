"""Two processes read one page: neither changes what the other one made of it."""

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from publisher.page import Arrival, Page, ReadResult, Stamp, extract_file
from publisher.reading import claimed, pool
from publisher.source import Source
from publisher.store.store import Store

CONTENT, EXTRACT = b"a scan", b"its first page"


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    (tmp_path / "spool").mkdir()
    return tmp_path / "spool"


@pytest.fixture
def arrival(spool: Path) -> Arrival:
    path = spool / "arrival-1"
    path.write_bytes(CONTENT)
    source = Source.parse(b"intake/a.pdf")
    return Arrival(path.name, "a.pdf", source, Stamp.of(path.stat()), datetime.now(UTC))


class Reader:
    """A process that reads pages for a store of its own."""

    def __init__(self, claim: str, spool: Path, store: Store) -> None:
        self.claim, self.spool, self.store = claim, spool, store
        wake = threading.Event()
        with_names = claimed.new_pool(claim, 0, spool, store, wake, pytest.fail)
        self.stage, self.name_extract = with_names._stage, with_names._name_extract
        with_names.close()

    def read(self, arrival: Arrival) -> Page:
        result = ReadResult(extracts=(EXTRACT,))
        path = self.spool / "arrival-1"
        return pool.read_page(arrival, path, lambda _: result, self.stage, self.name_extract)

    def adopt(self, page: Page) -> None:
        claimed.adopt(page, self.claim, self.spool, self.store)


def test_a_process_that_wakes_up_leaves_what_another_one_has_read(
    tmp_path: Path, spool: Path, arrival: Arrival
) -> None:
    former = Reader("11aa", spool, Store(tmp_path))
    leader = Reader("22bb", spool, Store(tmp_path))
    page = leader.read(arrival)
    leader.adopt(page)
    staged, extract = leader.store.staged_path(arrival.id), spool / extract_file(arrival.id, 1)
    inodes = staged.stat().st_ino, extract.stat().st_ino

    former.read(arrival)
    assert (staged.stat().st_ino, extract.stat().st_ino) == inodes
    claimed.sweep(former.claim, spool, former.store)
    assert (staged.read_bytes(), extract.read_bytes()) == (CONTENT, EXTRACT)
    assert {path.name for path in spool.iterdir()} == {"arrival-1", extract.name}


def test_what_another_process_has_read_first_is_discarded(
    tmp_path: Path, spool: Path, arrival: Arrival
) -> None:
    late = Reader("11aa", spool, Store(tmp_path))

    claimed.discard(late.read(arrival), late.claim, spool, late.store)

    assert [path.name for path in spool.iterdir()] == ["arrival-1"]
    assert not list((tmp_path / "store").glob(".staged-*"))


def test_a_page_that_is_not_there_any_more_cannot_be_adopted(
    tmp_path: Path, spool: Path, arrival: Arrival
) -> None:
    leader = Reader("22bb", spool, Store(tmp_path))
    page = leader.read(arrival)
    Store(tmp_path).sweep()

    with pytest.raises(FileNotFoundError):
        leader.adopt(page)
