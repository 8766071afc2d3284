from pathlib import Path

from config.event import Event, Outcome, TransferEvent, Value
from keys.ledger import segments
from keys.ledger.writer import Ledger
from sftpd.monitor import recovery
from sftpd.monitor.recovery import LiveFile


def told(event: TransferEvent, session: int, what: str = "", **more: Value) -> Event:
    detail: dict[str, Value] = {"session": session, **more}
    return Event(event, f"parti-{session}", "192.0.2.7", what, Outcome.OK, detail)


def killed_in(folder: Path, *events: Event) -> None:
    with Ledger(folder) as written:
        written.append(*events)


def added(folder: Path, since: int) -> list[tuple[str, str, str, Value, Value]]:
    found = []
    for record in segments.read_records(folder, since):
        event = record.event
        found.append(
            (event.event, event.who, event.what, event.detail.get("handle"), event.detail["reason"])
        )
    return found


EVENTS = (
    told(TransferEvent.LOGIN, 1),
    told(TransferEvent.OPEN, 1, "/a.jpg", handle=4),
    told(TransferEvent.CLOSE, 1, "/a.jpg", handle=4),
    told(TransferEvent.OPEN, 1, "/b.jpg", handle=4),
    told(TransferEvent.LOGIN, 2),
    told(TransferEvent.OPEN, 2, "/c.jpg", handle=1),
    told(TransferEvent.CLOSE, 2, "/c.jpg", handle=1),
    told(TransferEvent.SESSION_END, 2, reason="closed"),
)


def test_what_a_killed_server_left_open_is_closed_with_the_reason(tmp_path: Path) -> None:
    killed_in(tmp_path, *EVENTS)

    with Ledger(tmp_path) as written, LiveFile(tmp_path) as live:
        live.write(0)
        assert recovery.close_unfinished(tmp_path, written, live) == 2
        assert live.first == 10

    assert added(tmp_path, 8) == [
        ("close", "parti-1", "/b.jpg", 4, "server was killed"),
        ("session-end", "parti-1", "", None, "server was killed"),
    ]
    (closed, _) = segments.read_records(tmp_path, 8)
    assert (closed.event.outcome, closed.event.detail["complete"]) == (Outcome.FAILED, False)


def test_it_is_done_once_and_only_what_is_needed_is_read(tmp_path: Path) -> None:
    killed_in(tmp_path, *EVENTS)
    with Ledger(tmp_path) as written, LiveFile(tmp_path) as live:
        live.write(4)  # nobody who is connected has a record before that
        assert recovery.close_unfinished(tmp_path, written, live) == 0
        live.write(0)
        assert recovery.close_unfinished(tmp_path, written, live) == 2
        assert recovery.close_unfinished(tmp_path, written, live) == 0


def test_without_a_number_or_with_rubbish_nothing_is_closed(tmp_path: Path) -> None:
    killed_in(tmp_path, *EVENTS)
    with Ledger(tmp_path) as written, LiveFile(tmp_path) as live:
        assert recovery.close_unfinished(tmp_path, written, live) == 0
    (tmp_path / "live").write_bytes(b"rubbish, and more")
    with Ledger(tmp_path) as written, LiveFile(tmp_path) as live:
        assert live.first is None
        assert recovery.close_unfinished(tmp_path, written, live) == 0
        assert live.first == 8
