"""Reads the ledgers of several hosts as one, in order of time.

Within a ledger the records keep their order, even if its host's clock was set back. Records of
different ledgers are as much out of order as their hosts' clocks differ.
"""

import heapq
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from config.site import ledgers_of_kind
from keys.ledger import segments
from keys.ledger.record import Record

_CHUNK_RECORDS = 4096


def folders_of_kind(ledgers: Path, kind: str) -> list[Path]:
    """Return the folders of all ledgers of that kind: `transfer`, `transfer@gw2`."""
    return [ledgers / name for name in ledgers_of_kind(ledgers, kind)]


def read_records(*folders: Path) -> Iterator[Record]:
    """Yield the records of these ledgers; raise ValueError for a line that is not a record."""
    readers = [segments.read_records(folder) for folder in folders]
    return heapq.merge(*readers, key=lambda record: record.time)


def read_backwards(*folders: Path, limit: int | None = None) -> Iterator[Record]:
    """Yield the last `limit` records of these ledgers, newest first."""
    readers = [_backwards(folder, limit) for folder in folders]
    return islice(heapq.merge(*readers, key=lambda record: record.time, reverse=True), limit)


def _backwards(folder: Path, limit: int | None) -> Iterator[Record]:
    if not folder.exists():
        return
    end = segments.next_seq(folder)
    last = 0 if limit is None else max(0, end - limit)
    while end > last:
        begin = max(last, end - _CHUNK_RECORDS)
        found = [
            r for r in islice(segments.read_records(folder, begin), end - begin) if r.seq < end
        ]
        yield from reversed(found)
        end = begin
