"""Finds the records of a ledger whose time is before that of the record before them.

The writer takes the wall clock's time, so this happens if the clock was set back, and also if
someone has added records with invented times.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from config import times
from keys.ledger.record import seq_of
from keys.ledger.verify.leaf_hashes import LedgerFiles

_TIME = re.compile(rb'"time":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)","what":')


@dataclass(frozen=True, slots=True)
class ClockStep:
    """A record that is dated before the record before it."""

    seq: int
    time: datetime
    before: datetime  # the time of the record before it

    def __str__(self) -> str:
        at, before = times.format_time(self.time), times.format_time(self.before)
        earlier = f"earlier than record {self.seq - 1} ({before})"
        return f"record {self.seq} is dated {at}, {earlier}: was the clock set back?"


def records_that_run_backwards(ledger: LedgerFiles) -> Iterator[ClockStep]:
    """Yield each such record.

    Raises OSError if a segment cannot be read.
    """
    before = b""
    for _, segment in sorted(ledger.segments().items()):
        with segment.open() as file:
            for line in file:
                # In canonical form only `what` and `who` come after the time, and no string has a
                # bare quote: the last one is the record's own.
                found = _TIME.match(line, max(0, line.rfind(b'"time":"')))
                if found is None:
                    continue
                if before and found[1] < before:
                    yield ClockStep(seq_of(line), _parsed(found[1]), _parsed(before))
                before = found[1]


def _parsed(stated: bytes) -> datetime:
    return datetime.fromisoformat(stated.decode().replace("Z", "+00:00"))
