"""Reads what the results ledger and the kept batches say: the rows that the database must have.

Each record of the ledger is one row, and names the line of the batch that it is of. The numbers are
in the batch alone, whose bytes are in the store:

    record            row
    result            of `result`: its numbers are those of the line, and have the record's digest
    result-duplicate  of `set_aside`
    result-rejected   of `set_aside`: its text is the line, or the row as canonical JSON
    snapshot          of `snapshot`: its time is in the manifest

The records of a batch are in the order of its lines, so a batch is read once, beside the ledger. If
the lines of a file begin again, it was delivered again: that is another batch.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa

from config import result_batch
from config.event import ResultsEvent
from config.fault import Fault, Faults
from config.result_batch import BadRow, GoodRow
from config.site import LEDGERS, RESULTS_LEDGER, original_file
from keys.ledger.record import Record
from publisher.election import terms
from publisher.results import tables as t
from publisher.results.store import (
    DUPLICATE,
    NO_SHEET,
    SheetBinding,
    StoredResult,
    columns_of,
)

FOLDER = LEDGERS / RESULTS_LEDGER
TABLES: dict[str, sa.Table] = {
    ResultsEvent.ACCEPTED: t.result,
    ResultsEvent.DUPLICATE: t.set_aside,
    ResultsEvent.REJECTED: t.set_aside,
    ResultsEvent.SNAPSHOT: t.snapshot,
}


@dataclass(frozen=True, slots=True)
class RecordedRow:
    """A record of a row or of a snapshot, and the line that it is of.

    `delivery` counts the batches from 1, and `is_last` says that the batch has no row after this
    one. `row` is None if the batch cannot be read, and for a snapshot.
    """

    record: Record
    delivery: int = 0
    row: GoodRow | BadRow | None = None
    is_last: bool = False

    @property
    def table(self) -> sa.Table:
        """The table that must have the row."""
        return TABLES[self.record.event.event]

    def columns(self) -> dict[str, Any]:
        """Return the columns that ledger and batch know; KeyError or ValueError if damaged."""
        event, detail, seq = self.record.event, self.record.event.detail, self.record.seq
        found: dict[str, Any] = {"seq": seq}
        if event.event == ResultsEvent.SNAPSHOT:
            number = int(event.what)
            return found | {
                "number": number,
                "sha256": detail["sha256"],
                "last_result": detail["results"],
            }
        found["line"] = detail["line"]
        if event.event == ResultsEvent.ACCEPTED:
            if isinstance(self.row, GoodRow):
                found |= self._numbers(self.row)
            found |= {name: detail[name] for name in ("secim", "belge", "version", "digest")}
            found |= {
                name: detail[name] or ""
                for name in ("reason", "sheet", "sheet_sha256")
                if name in detail
            }
            return found
        is_duplicate = event.event == ResultsEvent.DUPLICATE
        found |= {
            "fault": DUPLICATE if is_duplicate else detail["reason"],
            "message": detail["message"],
            "place": event.what,
        }
        if is_duplicate:
            found["text"] = ""
        elif isinstance(self.row, GoodRow):
            found["text"] = self.row.result.canonical().decode()
        elif self.row is not None:
            found["text"] = self.row.text
        return found

    def _numbers(self, row: GoodRow) -> dict[str, Any]:
        detail, result = self.record.event.detail, row.result
        sheet = NO_SHEET
        if detail.get("sheet"):
            sheet = SheetBinding(str(detail["sheet"]), str(detail["sheet_sha256"]))
        found = columns_of(
            StoredResult(
                0, result, result.digest(), "", row.line, self.record.time, sheet, False, None
            )
        )
        for name in ("id", "batch", "accepted_at", "newest"):
            del found[name]
        return found


def read(site: Path, election: str, *, batches: bool = True) -> Iterator[RecordedRow]:
    """Yield the records of rows and snapshots, with the rows of their batches if asked.

    Raises Faults if the ledger is damaged. A batch that cannot be read has no rows.
    """
    known: dict[tuple[str, str], tuple[int, int]] = {}  # delivery and last line of name and digest
    count = 0
    opened: _OpenBatch | None = None
    try:
        for record in _records(site):
            event, detail = record.event, record.event.detail
            if event.event not in TABLES:
                continue
            if event.event == ResultsEvent.SNAPSHOT:
                yield RecordedRow(record)
                continue
            sha256, line = detail.get("batch"), detail.get("line")
            if not isinstance(sha256, str) or not isinstance(line, int):
                wrong = f"number {record.seq} names no line of a batch: run `ssps audit verify`"
                raise Faults([Fault(str(FOLDER), "", wrong)])
            delivery, last = known.get((event.origin, sha256), (0, 0))
            if not delivery or line <= last:
                count += 1
                delivery = count
            known[event.origin, sha256] = delivery, line
            if batches and (opened is None or opened.delivery != delivery):
                if opened is not None:
                    opened.close()
                opened = _OpenBatch(site, event.origin, sha256, election, delivery)
            row, is_last = (None, False) if opened is None else opened.take(line)
            yield RecordedRow(record, delivery, row, is_last)
    finally:
        if opened is not None:
            opened.close()


def _records(site: Path) -> Iterator[Record]:
    try:
        yield from terms.records(site, terms.scan(site, RESULTS_LEDGER))
    except ValueError as error:
        raise Faults([Fault(str(FOLDER), "", f"{error}: run `ssps audit verify`")]) from error


class _OpenBatch:
    """A batch in the store, read line by line."""

    def __init__(self, site: Path, name: str, sha256: str, election: str, delivery: int) -> None:
        self.delivery = delivery
        self._rows: Iterator[GoodRow | BadRow] = iter(())
        self._file: IO[bytes] | None = None
        with suppress(OSError, ValueError):
            self._file = (site / original_file(sha256)).open("rb")
            self._rows = result_batch.read(name, self._file, election)
        self._next = next(self._rows, None)

    def take(self, line: int) -> tuple[GoodRow | BadRow | None, bool]:
        """Return the row of a line, None if there is none, and whether it is the last one."""
        while self._next is not None and self._next.line < line:
            self._next = next(self._rows, None)
        if self._next is None or self._next.line != line:
            return None, False
        row, self._next = self._next, next(self._rows, None)
        return row, self._next is None

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
