import errno
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from unit.sftpd.fake_clock import FakeClock

from config.event import Event
from keys.ledger.segments import read_records
from keys.ledger.writer import Ledger, WritePolicy
from sftpd.monitor.group_commit import GroupCommit

ONE, TWO, THREE = (Event(name, "parti-a", "192.0.2.7", "") for name in ("one", "two", "three"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "transfer"


def names(folder: Path) -> list[str]:
    return [record.event.event for record in read_records(folder)]


def test_the_lag_is_that_of_the_oldest_record_not_on_the_disk(folder: Path) -> None:
    time = FakeClock()
    with Ledger(folder) as ledger:
        group_commit = GroupCommit(ledger, time)
        assert (group_commit.lag(), group_commit.unsynced) == (0.0, 0)
        group_commit.append(ONE)
        time.now += 2.0
        group_commit.append(TWO)
        assert (group_commit.lag(), group_commit.unsynced) == (2.0, 2)
        group_commit.mark_synced()
        assert (group_commit.lag(), group_commit.unsynced) == (0.0, 0)


def test_what_is_held_goes_with_what_comes_after_it_or_alone(
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


def test_what_is_gathered_and_lost_is_taken_back_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undone: list[bool] = []

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    with Ledger(folder, policy=WritePolicy(sync_always=True)) as ledger:
        group_commit = GroupCommit(ledger)
        assert group_commit.append(ONE)
        group_commit.on_rollback(undone.append)
        assert names(folder) == []
        assert group_commit.commit()
        assert group_commit.append(TWO)
        group_commit.on_rollback(undone.append)
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            assert not group_commit.commit()
        assert undone == [False]
        assert group_commit.append(THREE)
        group_commit.on_rollback(undone.append)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fdatasync", full)
            assert not group_commit.commit()
        assert group_commit.commit()
    assert undone == [False, True]  # of the last it is not known
    assert names(folder) == ["one", "three"]


@pytest.mark.parametrize("always", [False, True])
def test_what_has_happened_is_on_record_once_there_is_room_again(
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


def test_what_is_only_on_its_way_to_the_disk_is_owed_still(folder: Path) -> None:
    with Ledger(folder, policy=WritePolicy(sync_always=True)) as ledger:
        group_commit = GroupCommit(ledger)
        group_commit.append(*(Event(event, "parti-a", "", "") for event in ("open", "close")))
        assert group_commit.pending == 1
        assert group_commit.commit()
        assert group_commit.pending == 0


def test_what_the_disk_only_did_not_confirm_is_not_written_twice(
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


def test_there_is_an_end_to_what_is_kept_for_a_full_disk(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    with Ledger(folder) as ledger:
        group_commit = GroupCommit(ledger)
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            patched.setattr("sftpd.monitor.group_commit._MAX_PENDING", 2)
            for name in ("1", "2", "3"):
                group_commit.append(Event("session-end", name, "", ""))
            with capture_logs() as logs:
                group_commit.flush_pending()
            assert [(log["event_names"], log["records"]) for log in logs] == [(["session-end"], 2)]
        group_commit.flush_pending()
    assert [record.event.who for record in read_records(folder)] == ["1", "2"]
