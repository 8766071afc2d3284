"""What a server that was killed left open in the record, closed by the next one.

Beside the transfer ledger stands `live`, the number of a record in decimal: whoever is connected
has left no record before it. It is written about once a second and needs no fsync, since an older
number only means more to read. The next start reads from there, and for each file still open and
each party still logged in it appends the record that was never written, with `server was killed`
as its reason; how much had been sent is not known.
"""

import os
from pathlib import Path

import structlog

from config.event import Event, Outcome, TransferEvent, Value
from keys.ledger import segments
from keys.ledger.record import Record
from keys.ledger.writer import Ledger

_FILE = "live"
_WIDTH = 16
_REASON = "server was killed"
_log = structlog.get_logger()


class LiveFile:
    """The number in the file; close it, or use it in a `with`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @property
    def first(self) -> int | None:
        """Return the number, None if there is none that can be read."""
        digits = os.pread(self._file, _WIDTH, 0).strip()
        return int(digits) if digits.isdigit() else None

    def write(self, first: int) -> None:
        """Write that whoever is connected has no record before number `first`."""
        os.pwrite(self._file, f"{first:{_WIDTH}}".encode(), 0)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def __enter__(self) -> "LiveFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def close_unfinished(folder: Path, ledger: Ledger, live: LiveFile) -> int:
    """Close in the record what a killed server left open; return how many records that took."""
    first = live.first
    end = ledger.next_seq
    if first is not None and first < end:
        missing = missing_records(folder, first)
        if missing:
            ledger.append(*missing)
            ledger.sync()
            _log.warning("closed what a killed server left open", records=len(missing))
    live.write(ledger.next_seq)
    return ledger.next_seq - end


def missing_records(folder: Path, first: int) -> list[Event]:
    """Return the closes and session ends that are lacking from record `first` on."""
    files: dict[tuple[Value, Value], Record] = {}
    sessions: dict[Value, Record] = {}
    for record in segments.read_records(folder, first):
        event = record.event
        session = event.detail.get("session")
        if not isinstance(session, int):
            continue
        match event.event:
            case TransferEvent.LOGIN:
                sessions[session] = record
            case TransferEvent.OPEN if event.outcome is Outcome.OK:
                files[session, _handle(record)] = record
            case TransferEvent.CLOSE:
                files.pop((session, _handle(record)), None)
            case TransferEvent.SESSION_END:
                sessions.pop(session, None)
                files = {key: value for key, value in files.items() if key[0] != session}
    closes = [_close(record) for record in files.values()]
    return closes + [_end(record) for record in sessions.values()]


def _handle(record: Record) -> Value:
    handle = record.event.detail.get("handle")
    return handle if isinstance(handle, int) else None


def _close(record: Record) -> Event:
    event = record.event
    detail: dict[str, Value] = {
        "session": event.detail["session"],
        "handle": _handle(record),
        "bytes": None,
        "complete": False,
        "ms": None,
        "reason": _REASON,
    }
    return Event(TransferEvent.CLOSE, event.who, event.origin, event.what, Outcome.FAILED, detail)


def _end(record: Record) -> Event:
    event = record.event
    session = event.detail["session"]
    detail: dict[str, Value] = {"session": session, "files": None, "bytes": None, "ms": None}
    detail["reason"] = _REASON
    return Event(TransferEvent.SESSION_END, event.who, event.origin, "", Outcome.FAILED, detail)
