import errno
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from unit.fake_clock import FakeClock

from config.event import Event
from keys.ledger.segments import read_records
from keys.ledger.writer import Ledger, WritePolicy
from sftpd.monitor.records.group_commit import GroupCommit

ONE, TWO, THREE = (Event(name, "parti-a", "192.0.2.7", "") for name in ("one", "two", "three"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "transfer"


def names(folder: Path) -> list[str]:
    return [record.event.event for record in read_records(folder)]


def test_the_lag_is_the_age_of_the_oldest_unsynced_record(folder: Path) -> None:
    clock = FakeClock()
    with Ledger(folder) as ledger:
        group_commit = GroupCommit(ledger, clock)
        assert (group_commit.lag(), group_commit.unsynced) == (0.0, 0)
        group_commit.append(ONE)
        clock.now += 2.0
        group_commit.append(TWO)
        assert (group_commit.lag(), group_commit.unsynced) == (2.0, 2)
        group_commit.mark_synced()
        assert (group_commit.lag(), group_commit.unsynced) == (0.0, 0)


def test_held_records_are_written_with_the_next_append_or_at_flush(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[int] = []
    with Ledger(folder) as ledger:
        group_commit, append = GroupCommit(ledger), ledger.append
        monkeypatch.setattr(ledger, "append", lambda *e: (writes.append(len(e)), append(*e)))
        group_commit.hold()
        assert group_commit.append(ONE)
        assert names(folder) == []
        group_commit.release()
        assert group_commit.append(TWO)
        group_commit.hold()
        assert group_commit.append(THREE)
        group_commit.flush()
        group_commit.flush()
    assert (names(folder), writes) == (["one", "two", "three"], [2, 1])


def test_a_failed_commit_calls_each_rollback_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rolled_back: list[bool] = []

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    with Ledger(folder, policy=WritePolicy(sync_always=True)) as ledger:
        group_commit = GroupCommit(ledger)
        assert group_commit.append(ONE)
        group_commit.on_rollback(rolled_back.append)
        assert names(folder) == []
        assert group_commit.commit()
        assert group_commit.append(TWO)
        group_commit.on_rollback(rolled_back.append)
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            assert not group_commit.commit()
        assert rolled_back == [False]
        assert group_commit.append(THREE)
        group_commit.on_rollback(rolled_back.append)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fdatasync", full)
            assert not group_commit.commit()
        assert group_commit.commit()
    assert rolled_back == [False, True]  # the last one may be in the ledger
    assert names(folder) == ["one", "three"]


@pytest.mark.parametrize("always", [False, True])
def test_closes_and_session_ends_are_written_when_the_disk_has_room_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, always: bool
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    closed, ended, opened = (Event(e, "parti-a", "", "") for e in ("close", "session-end", "open"))
    with Ledger(folder, policy=WritePolicy(sync_always=always)) as ledger:
        group_commit = GroupCommit(ledger)
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            for event in (closed, opened, ended):
                group_commit.append(event)
                group_commit.commit()
            group_commit.flush_pending()
            group_commit.commit()
            assert group_commit.pending == 2
        group_commit.flush_pending()
        group_commit.commit()
        group_commit.flush_pending()
        group_commit.commit()
        assert group_commit.pending == 0
    assert names(folder) == ["close", "session-end"]


def test_a_close_in_the_batch_counts_as_pending_until_the_commit(folder: Path) -> None:
    with Ledger(folder, policy=WritePolicy(sync_always=True)) as ledger:
        group_commit = GroupCommit(ledger)
        group_commit.append(*(Event(event, "parti-a", "", "") for event in ("open", "close")))
        assert group_commit.pending == 1
        assert group_commit.commit()
        assert group_commit.pending == 0


def test_a_record_that_was_written_but_not_synced_is_not_written_twice(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "broken")

    with Ledger(folder, policy=WritePolicy(sync_always=True)) as ledger:
        group_commit = GroupCommit(ledger)
        group_commit.append(Event("close", "parti-a", "", ""))
        with monkeypatch.context() as patched:
            patched.setattr(os, "fdatasync", broken)
            assert not group_commit.commit()
        group_commit.flush_pending()
        assert group_commit.commit()
    assert names(folder) == ["close"]


def test_the_number_of_pending_records_is_limited(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    with Ledger(folder) as ledger:
        group_commit = GroupCommit(ledger)
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            patched.setattr("sftpd.monitor.records.group_commit._MAX_PENDING", 2)
            for name in ("1", "2", "3"):
                group_commit.append(Event("session-end", name, "", ""))
            with capture_logs() as logs:
                group_commit.flush_pending()
            assert [(log["event_names"], log["records"]) for log in logs] == [(["session-end"], 2)]
        group_commit.flush_pending()
    assert [record.event.who for record in read_records(folder)] == ["1", "2"]
