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


def test_what_a_dead_reader_left_of_a_page_that_is_done_is_removed(
    tmp_path: Path, spool: Path
) -> None:
    store = Store(tmp_path)
    done, reading = "20230514T140003000041-9f3c21ab", "20230514T140003000042-9f3c21ab"
    for arrival in (done, reading):
        for claim in ("11aa", "22bb"):
            store.stage(f"{arrival}.{claim}", CONTENT)
            (spool / f"{extract_file(arrival, 1)}.{claim}").write_bytes(EXTRACT)
        store.stage(arrival, CONTENT)

    claimed.remove_left_behind("22bb", spool, store, lambda arrival: arrival == done)

    assert {path.name.removeprefix(".staged-") for path in store.staged_files()} == {
        done, f"{done}.22bb", reading, f"{reading}.11aa", f"{reading}.22bb",
    }  # fmt: skip
    assert {path.name for path in spool.iterdir()} == {
        f"{extract_file(done, 1)}.22bb",
        *(f"{extract_file(reading, 1)}.{claim}" for claim in ("11aa", "22bb")),
    }
