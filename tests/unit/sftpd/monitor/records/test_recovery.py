from pathlib import Path

from config.event import Event, Outcome, TransferEvent, Value
from keys.ledger import segments
from keys.ledger.writer import Ledger
from sftpd.monitor.records import recovery
from sftpd.monitor.records.recovery import LiveFile


def event_of(event: TransferEvent, session: int, what: str = "", **more: Value) -> Event:
    detail: dict[str, Value] = {"session": session, **more}
    return Event(event, f"parti-{session}", "192.0.2.7", what, Outcome.OK, detail)


def write(folder: Path, *events: Event) -> None:
    with Ledger(folder) as ledger:
        ledger.append(*events)


def added(folder: Path, since: int) -> list[tuple[str, str, str, Value, Value]]:
    found = []
    for record in segments.read_records(folder, since):
        event = record.event
        found.append(
            (event.event, event.who, event.what, event.detail.get("handle"), event.detail["reason"])
        )
    return found


EVENTS = (
    event_of(TransferEvent.LOGIN, 1),
    event_of(TransferEvent.OPEN, 1, "/a.jpg", handle=4),
    event_of(TransferEvent.CLOSE, 1, "/a.jpg", handle=4),
    event_of(TransferEvent.OPEN, 1, "/b.jpg", handle=4),
    event_of(TransferEvent.LOGIN, 2),
    event_of(TransferEvent.OPEN, 2, "/c.jpg", handle=1),
    event_of(TransferEvent.CLOSE, 2, "/c.jpg", handle=1),
    event_of(TransferEvent.SESSION_END, 2, reason="closed"),
)


def test_files_and_sessions_of_a_killed_server_are_closed(tmp_path: Path) -> None:
    write(tmp_path, *EVENTS)

    with Ledger(tmp_path) as ledger, LiveFile(tmp_path) as live:
        live.write(0)
        assert recovery.close_unfinished(tmp_path, ledger, live) == 2
        assert live.first == 10

    assert added(tmp_path, 8) == [
        ("close", "parti-1", "/b.jpg", 4, "server was killed"),
        ("session-end", "parti-1", "", None, "server was killed"),
    ]
    (closed, _) = segments.read_records(tmp_path, 8)
    assert (closed.event.outcome, closed.event.detail["complete"]) == (Outcome.FAILED, False)


def test_recovery_starts_at_the_live_number_and_is_done_once(tmp_path: Path) -> None:
    write(tmp_path, *EVENTS)
    with Ledger(tmp_path) as ledger, LiveFile(tmp_path) as live:
        live.write(4)  # the open of /b.jpg is record 3, before that
        assert recovery.close_unfinished(tmp_path, ledger, live) == 0
        live.write(0)
        assert recovery.close_unfinished(tmp_path, ledger, live) == 2
        assert recovery.close_unfinished(tmp_path, ledger, live) == 0


def test_without_a_valid_live_number_nothing_is_closed(tmp_path: Path) -> None:
    write(tmp_path, *EVENTS)
    with Ledger(tmp_path) as ledger, LiveFile(tmp_path) as live:
        assert recovery.close_unfinished(tmp_path, ledger, live) == 0
    (tmp_path / "live").write_bytes(b"rubbish, and more")
    with Ledger(tmp_path) as ledger, LiveFile(tmp_path) as live:
        assert live.first is None
        assert recovery.close_unfinished(tmp_path, ledger, live) == 0
        assert live.first == 8
