"""Writes the CLOSE and SESSION_END records that a killed server could not write.

The server writes a file `live` beside the transfer ledger: one decimal number, padded with spaces
to 16 characters. No connected client has a record before that number. The server rewrites it about
once a second. It needs no fsync: with an older number, the next server only reads more records.

At the next start the server reads the ledger from that record on. For each file that is still open
and each party that is still logged in it appends the missing CLOSE or SESSION_END, with the reason
`server was killed`. How many bytes had been sent is not known, so `bytes` is null.
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
    """The file `live`; close it, or use it in a `with`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @property
    def first(self) -> int | None:
        """The number in the file; None if there is none, or the file is damaged."""
        digits = os.pread(self._file, _WIDTH, 0).strip()
        return int(digits) if digits.isdigit() else None

    def write(self, first: int) -> None:
        """Write that no connected client has a record before number `first`."""
        os.pwrite(self._file, f"{first:{_WIDTH}}".encode(), 0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def __enter__(self) -> "LiveFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def close_unfinished(folder: Path, ledger: Ledger, live: LiveFile) -> int:
    """Append the records that a killed server could not write; return their number."""
    first = live.first
    end = ledger.next_seq
    if first is not None and first < end:
        missing = missing_records(folder, first)
        if missing:
            ledger.append(*missing)
            ledger.sync()
            _log.warning("killed-server-recovered", records=len(missing))
    live.write(ledger.next_seq)
    return ledger.next_seq - end


def missing_records(folder: Path, first: int) -> list[Event]:
    """Return the CLOSE and SESSION_END events that are missing from record `first` on."""
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


def _close(opened: Record) -> Event:
    event = opened.event
    detail: dict[str, Value] = {
        "session": event.detail["session"],
        "handle": _handle(opened),
        "bytes": None,
        "complete": False,
        "ms": None,
        "reason": _REASON,
    }
    return Event(TransferEvent.CLOSE, event.who, event.origin, event.what, Outcome.FAILED, detail)


def _end(login: Record) -> Event:
    event = login.event
    session = event.detail["session"]
    detail: dict[str, Value] = {"session": session, "files": None, "bytes": None, "ms": None}
    detail["reason"] = _REASON
    return Event(TransferEvent.SESSION_END, event.who, event.origin, "", Outcome.FAILED, detail)
