"""When a ledger is opened again, marks the last records that no checkpoint covers.

A daemon that stops signs its last record. So records behind the newest checkpoint are from a crash,
or were added by hand while no daemon ran: nothing tells the two apart. The next writer therefore
appends a record before anything is signed, such as

    {"detail":{"first":17,"records":2},"event":"unconfirmed",...,"seq":19,...}

It says that records 17 and 18 were there, and that no daemon vouches for them. Lines behind the
checkpoint that are no records, or have the wrong number, are moved to a `.torn` file first
(keys/ledger/writer).
"""

import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from config.event import Event, Value
from keys.ledger import note, segments
from keys.ledger.record import parse_record, seq_of
from keys.ledger.segments import CHECKPOINTS, Segment
from keys.ledger.writer import Ledger

UNCONFIRMED = "unconfirmed"
_MARK = f'"event":"{UNCONFIRMED}"'.encode()


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """Records that a writer found unsigned, and the number of the record that says so, or -1."""

    ledger: str
    first: int
    records: int
    seq: int = -1

    def __str__(self) -> str:
        last = self.first + self.records - 1
        which = (
            f"record {last} was" if self.records == 1 else f"records {self.first} to {last} were"
        )
        return f"{which} not signed when the ledger was opened again: left by a crash, or added"


def mark(ledger: Ledger, folder: Path, wait_seconds: float) -> Unconfirmed | None:
    """Append the mark if records before those of this writer are not signed; return what it says.

    Waits until a signer that still works on the ledger has finished: it signs the last record. If
    it has not after `wait_seconds`, it hangs. With 0 seconds a signer that works is enough, and
    nothing is marked. Raises Unwritable.
    """
    with _lock_of_signer(folder, wait_seconds) as free:
        if not (free or wait_seconds):
            return None
        found = Unconfirmed(folder.name, signed := _signed(folder), ledger.first_own - signed)
        if found.records <= 0 or _is_marked(folder, found):
            return None
        detail: dict[str, Value] = {"first": found.first, "records": found.records}
        ledger.append(Event(UNCONFIRMED, folder.name, "", UNCONFIRMED, detail=detail))
        ledger.sync()
        return found


def in_line(folder: str, line: bytes) -> Unconfirmed | None:
    """Return what a line of a ledger says, None if it is no such mark."""
    if _MARK not in line:
        return None
    try:
        record = parse_record(line)
    except ValueError:
        return None  # `ssps audit verify` names a damaged line
    first, records = record.event.detail.get("first"), record.event.detail.get("records")
    if record.event.event != UNCONFIRMED or not isinstance(first, int):
        return None
    return Unconfirmed(folder, first, records, record.seq) if isinstance(records, int) else None


def marks_in(ledger: Iterable[Segment], name: str) -> Iterator[Unconfirmed]:
    """Yield all marks in the segments of a ledger; raise OSError if one cannot be read."""
    for segment in ledger:
        with segment.open() as file:
            for line in file:
                if (found := in_line(name, line)) is not None:
                    yield found


def format_line(found: Unconfirmed) -> str:
    """Write it as one line for the record of a start."""
    return f"{found.ledger} {found.first} {found.records}"


def parse_line(line: str) -> Unconfirmed:
    """Read a line of `format_line`; raise ValueError for any other."""
    name, first, records = line.split(" ")
    return Unconfirmed(name, int(first), int(records))


def _is_marked(folder: Path, found: Unconfirmed) -> bool:
    """Say whether the last of these records is a mark that covers the others."""
    last = found.first + found.records - 1
    for _, _, line in segments.read_lines(folder, last):
        if seq_of(line) == last:
            mark = in_line(folder.name, line)
            return mark is not None and (mark.first, mark.records) == (
                found.first,
                found.records - 1,
            )
    return False


def _signed(folder: Path) -> int:
    """Return how many records the newest checkpoint covers."""
    message = segments.read_checkpoint(folder)
    if message is None:
        kept = note.split_notes((folder / CHECKPOINTS).read_bytes())
        message = kept[-1] if kept else None
    try:
        return 0 if message is None else note.unverified_checkpoint(message).size
    except ValueError:
        return 0  # the signer refuses to go on, and logs the cause


@contextmanager
def _lock_of_signer(folder: Path, wait_seconds: float) -> Iterator[bool]:
    """Hold the lock of the ledger's signer (keys/ledger/signer); yield whether it became free."""
    history = os.open(folder / CHECKPOINTS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + wait_seconds
    try:
        while True:
            try:
                fcntl.flock(history, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.02)
                    continue
                yield False
            else:
                yield True
            return
    finally:
        os.close(history)
