"""The records of several leaders are one sequence, without those that came too late."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from config.event import Event
from config.site import FILING, LEDGERS, ledger_name
from publisher.election import terms
from publisher.election.terms import LedgerTooShort, OrderedLedger, Term

NOON = datetime(2023, 5, 14, 12, tzinfo=UTC)


@pytest.fixture
def connection() -> Iterator[sa.Connection]:
    engine = sa.create_engine("sqlite://")
    with engine.connect() as found:
        yield found
    engine.dispose()


class Leaders:
    """Opens the ledgers of leaders as a publisher does, without PostgreSQL."""

    def __init__(self, site: Path, connection: sa.Connection) -> None:
        self.site, self._connection = site, connection

    def opened(self, host: str, number: int | None = None, noted: int = 0) -> OrderedLedger:
        ledger = OrderedLedger(self.site, ledger_name(FILING, host), lambda: NOON)
        ledger.continue_after(self._connection, noted, number, lambda: None)
        return ledger

    def merged(self, first: int = 0) -> list[tuple[int, str]]:
        found = terms.records(self.site, terms.scan(self.site, FILING), first)
        return [(record.seq, record.event.what) for record in found]

    def late(self) -> list[tuple[str, str]]:
        found = terms.late_records(self.site, terms.scan(self.site, FILING))
        return [(name, record.event.what) for name, record in found]


@pytest.fixture
def leaders(tmp_path: Path, connection: sa.Connection) -> Leaders:
    return Leaders(tmp_path, connection)


def filed(what: str) -> Event:
    return Event("filed", "publisher", "", what)


def test_one_host_numbers_its_records_as_before(leaders: Leaders) -> None:
    with leaders.opened("") as ledger:
        assert ledger.append(filed("a"), filed("b")) == 1
    with leaders.opened("", number=7) as ledger:
        assert ledger.append(filed("c")) == 2

    assert [path.name for path in (leaders.site / LEDGERS).iterdir()] == [FILING]
    assert leaders.merged() == [(0, "a"), (1, "b"), (2, "c")]


def test_the_next_leader_goes_on_from_the_last_position(leaders: Leaders) -> None:
    with leaders.opened("") as ledger:
        ledger.append(filed("a"))
    with leaders.opened("pub1", number=1) as ledger:
        assert ledger.append(filed("b")) == 2
    with leaders.opened("pub2", number=2, noted=3) as ledger:
        assert ledger.next_seq == 4
        assert ledger.append(filed("c"), filed("d")) == 5
        assert [record.event.what for record in ledger.records(2)] == ["b", "2", "c", "d"]

    assert leaders.merged() == [(0, "a"), (1, "1"), (2, "b"), (3, "2"), (4, "c"), (5, "d")]
    assert leaders.merged(first=4) == [(4, "c"), (5, "d")]
    assert leaders.late() == []


def test_the_records_of_the_last_leader_survive_a_power_loss_before_their_end_is_noted(
    leaders: Leaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    with leaders.opened("pub1", number=1) as ledger:
        ledger.append(filed("a"))
    written = (leaders.site / LEDGERS / "filing@pub1/000000000000.jsonl").stat()
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino))

    with leaders.opened("pub2", number=2):
        assert written.st_ino in synced


def test_what_a_frozen_leader_appends_later_is_left_out(leaders: Leaders) -> None:
    with leaders.opened("pub1", number=1) as frozen:
        frozen.append(filed("a"))
        with leaders.opened("pub2", number=2) as ledger:
            frozen.append(filed("b"))
            assert ledger.append(filed("b")) == 3
    with leaders.opened("pub1", number=3) as ledger:
        assert ledger.append(filed("c")) == 5

    assert leaders.merged() == [(0, "1"), (1, "a"), (2, "2"), (3, "b"), (4, "3"), (5, "c")]
    assert leaders.late() == [("filing@pub1", "b")]


def test_a_leader_that_was_deposed_before_its_first_record_takes_no_position(
    leaders: Leaders,
) -> None:
    with leaders.opened("pub1", number=1) as ledger:
        ledger.append(filed("a"))
    leaders.opened("pub2", number=2).close()
    folder = leaders.site / LEDGERS / "filing@pub2"
    for file in folder.iterdir():
        file.write_bytes(b"")
    # Its term is known, as PostgreSQL would know it; its record is not there yet.
    known = (*terms.scan(leaders.site, FILING), Term(2, "filing@pub2", 0, 2))

    assert [record.seq for record in terms.records(leaders.site, known)] == [0, 1]


def test_a_ledger_of_another_host_that_is_too_short_is_waited_for(leaders: Leaders) -> None:
    with leaders.opened("pub1", number=1) as ledger:
        ledger.append(filed("a"))

    with pytest.raises(LedgerTooShort, match=r"filing@pub1: ends before number 2, but 3 more"):
        leaders.opened("pub2", number=2, noted=5)
    assert leaders.merged() == [(0, "1"), (1, "a")]
