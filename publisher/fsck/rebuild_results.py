"""Rebuilds the results from the results ledger and the batches in the store.

The new database is written beside the old one and then put in its place
(publisher/fsck/rebuilt_file). No publisher may run.

    batch             one for each delivery of a file (publisher/fsck/recorded_results)
    result            one for each record of a result, with the numbers of its line
    set_aside         one for each record of a duplicate or a rejected row
    snapshot          one for each record of a snapshot, with the time in its manifest
    finding           what the checks find in them now

What no ledger holds differs from the lost database:

- The times of a batch and of its rows are those of their records, which are a moment later.
- A batch has another id. One that is not done yet has the name of its file in the spool, so that
  the publisher's next start goes on with it.
- A batch without rows is missing, and so is a batch with no decided row. The file of the latter is
  in the spool, and the publisher's next start takes it in.
- `left_behind` is empty. A file that is still in results/ is taken in again: as duplicates.
"""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from config import times
from config.fault import Fault, Faults
from config.registry import Registry
from config.result import BOX_SHEET, ResultKey
from config.result_batch import GoodRow
from config.sheet import Secim
from config.site import (
    REGISTRY_INDEX,
    RESULTS_DATABASE,
    RESULTS_SPOOL,
    original_file,
)
from config.snapshot import MANIFEST
from keys.ledger.record import Record
from publisher.catalog import tables as catalog_tables
from publisher.database import SQLITE, reading
from publisher.fsck import rebuilt_file, recorded_results
from publisher.fsck.recorded_results import FOLDER, RecordedRow
from publisher.page import arrival_id, safe_name
from publisher.results import tables as t
from publisher.results.ballot_file import BallotFile
from publisher.results.checker import Checker
from publisher.results.sheets import sheet_versions
from publisher.results.snapshots.folder import snapshot_folder
from publisher.results.store import DUPLICATE, ResultStore, url

_ROWS_A_TIME = 4000

_COUNTS = ("done_lines", "accepted", "duplicates", "rejected", "finished_at")

Progress = Callable[[int], None]


class Rebuilt(NamedTuple):
    """What a database of results has."""

    batches: int
    results: int
    set_aside: int
    snapshots: int
    findings: int

    def lines(self) -> list[str]:
        """Return one line for each number."""
        return [f"{name.replace('_', ' ')}: {number}" for name, number in self._asdict().items()]


def build(
    site: Path, election: str, catalog: Path, progress: Progress = lambda done: None
) -> Rebuilt | None:
    """Write new results beside the old ones; None if the site has no results ledger.

    `election` is the id of the election that the batches are of, and `catalog` the file of the
    catalog with the sheets, against which the results are checked. Raises Faults if a record or its
    batch cannot be read. The caller holds the results ledger, so that no publisher runs.
    """
    path = rebuilt_file.clear(site / RESULTS_DATABASE)
    if not (site / FOLDER).exists():
        return None
    with ResultStore(sa.URL.create(SQLITE, database=str(path))) as store:
        _Rebuild(site, election, store).all(progress)
        store.commit()
        _find(site, store, catalog)
        store.commit()
        return summary(store.connection)


def put_in_place(site: Path, step: Callable[[str], None] = lambda step: None) -> None:
    """Replace the results by those that `build` has written, if it has."""
    path = site / RESULTS_DATABASE
    if rebuilt_file.new_file(path).exists():
        rebuilt_file.put_in_place(url(site), path, "results", t.METADATA, step)


def summary(connection: sa.Connection) -> Rebuilt:
    """Count the rows of a database of results."""
    tables = (t.batch, t.result, t.set_aside, t.snapshot, t.finding)
    counted = (connection.scalar(sa.select(sa.func.count()).select_from(one)) for one in tables)
    return Rebuilt(*(number or 0 for number in counted))


@dataclass
class _Batch:
    """A batch whose rows are being read."""

    id: str
    name: str
    sha256: str
    done_lines: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    finished_at: str | None = None


class _Rebuild:
    """Fills an empty database of results."""

    def __init__(self, site: Path, election: str, store: ResultStore) -> None:
        self._site = site
        self._election = election
        self._connection = store.connection
        self._batches: dict[int, _Batch] = {}
        self._ids = {t.result.name: 0, t.set_aside.name: 0}
        self._rows: dict[str, list[dict[str, Any]]] = {}

    def all(self, progress: Progress) -> None:
        for row in recorded_results.read(self._site, self._election):
            try:
                self._take(row)
            except (KeyError, TypeError, ValueError) as error:
                wrong = f"number {row.record.seq} makes no row ({error!r}): run `ssps audit verify`"
                raise Faults([Fault(str(FOLDER), "", wrong)]) from error
            progress(row.record.seq)
        self._flush()
        for batch in self._batches.values():
            values = {name: getattr(batch, name) for name in _COUNTS}
            self._connection.execute(
                sa.update(t.batch).where(t.batch.c.id == batch.id).values(**values)
            )
            if batch.finished_at is None:
                self._continue_with_spool(batch)
        self._mark_newest()

    def _take(self, row: RecordedRow) -> None:
        record, when = row.record, times.format_stored(row.record.time)
        columns = row.columns()
        if row.table is t.snapshot:
            # An earlier database may have left out ids.
            self._ids[t.result.name] = max(self._ids[t.result.name], columns["last_result"])
            columns["closed_at"] = self._closed_at(record, columns)
            self._add(t.snapshot, columns)
            return
        self._require_line(row)
        batch = self._batch(row, when)
        batch.done_lines = columns["line"]
        self._ids[row.table.name] += 1
        columns |= {"id": self._ids[row.table.name], "batch": batch.id}
        if row.table is t.result:
            batch.accepted += 1
            columns |= {"accepted_at": when, "newest": False}
        else:
            batch.duplicates += columns["fault"] == DUPLICATE
            batch.rejected += columns["fault"] != DUPLICATE
            columns["set_aside_at"] = when
        if row.is_last:
            batch.finished_at = when
        self._add(row.table, columns)

    def _require_line(self, row: RecordedRow) -> None:
        event, detail = row.record.event, row.record.event.detail
        place = str(original_file(str(detail["batch"])))
        of = f"line {detail['line']} of the batch {event.origin}"
        if row.row is None:
            raise Faults([Fault(place, "", f"{of} cannot be read: restore it from a backup")])
        if row.table is t.result and (
            not isinstance(row.row, GoodRow) or row.row.result.digest() != detail["digest"]
        ):
            wrong = f"{of} has other numbers than record {row.record.seq}: restore it from a backup"
            raise Faults([Fault(place, "", wrong)])

    def _batch(self, row: RecordedRow, when: str) -> _Batch:
        if row.delivery not in self._batches:
            event = row.record.event
            identity = arrival_id(row.record.time, f"{row.record.seq:08x}")
            sha256 = str(event.detail["batch"])
            batch = _Batch(f"{identity}-{safe_name(event.origin)}", event.origin, sha256)
            self._batches[row.delivery] = batch
            values = {**vars(batch), "received_at": when}
            self._connection.execute(sa.insert(t.batch).values(**values))
        return self._batches[row.delivery]

    def _add(self, table: sa.Table, columns: dict[str, Any]) -> None:
        self._rows.setdefault(table.name, []).append(columns)
        if len(self._rows[table.name]) >= _ROWS_A_TIME:
            self._flush()

    def _flush(self) -> None:
        for name, rows in self._rows.items():
            self._connection.execute(sa.insert(t.METADATA.tables[name]), rows)
        self._rows.clear()

    def _closed_at(self, record: Record, columns: dict[str, Any]) -> str:
        """Return the time in a snapshot's manifest; that of the record if it was changed."""
        with suppress(OSError, ValueError, KeyError):
            file = snapshot_folder(self._site, columns["number"]) / MANIFEST
            content = file.read_bytes()
            if hashlib.sha256(content).hexdigest() == columns["sha256"]:
                stated = datetime.fromisoformat(json.loads(content)["closed_at"])
                return times.format_stored(stated)
        return times.format_stored(record.time)

    def _continue_with_spool(self, batch: _Batch) -> None:
        """Give a batch that is not done the name of its file in the spool, if that is there."""
        for path in sorted((self._site / RESULTS_SPOOL).glob("*")):
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != batch.sha256:
                    continue
            row = self._connection.execute(sa.select(t.batch).filter_by(id=batch.id)).one()
            self._connection.execute(sa.insert(t.batch).values(row._asdict() | {"id": path.name}))
            for table in (t.result, t.set_aside):
                moved = sa.update(table).where(table.c.batch == batch.id)
                self._connection.execute(moved.values(batch=path.name))
            self._connection.execute(sa.delete(t.batch).where(t.batch.c.id == batch.id))
            return

    def _mark_newest(self) -> None:
        c, other = t.result.c, t.result.alias()
        same = (other.c[name] == c[name] for name in t.KEY_COLUMNS)
        highest = sa.select(sa.func.max(other.c.version)).where(*same).scalar_subquery()
        self._connection.execute(
            sa.update(t.result).where(c.version == highest).values(newest=True)
        )


def _find(site: Path, store: ResultStore, catalog: Path) -> None:
    """Check all results against registry, ballot and sheets."""
    registry = Registry(site / REGISTRY_INDEX)
    try:
        with reading(sa.URL.create(SQLITE, database=str(catalog))) as sheets:
            checker = Checker(
                store, registry, BallotFile(site), lambda keys: sheet_versions(sheets, keys), 0
            )
            keys = iter(sorted(_boxes(store, sheets)))
            while some := list(islice(keys, _ROWS_A_TIME)):
                store.replace_findings(checker.recheck(some))
            store.replace_findings(checker.check_changed_places())
    finally:
        registry.close()


def _boxes(store: ResultStore, sheets: sa.Connection) -> set[ResultKey]:
    """Return the boxes that have a result or a filed sheet, once for each contest."""
    found: set[ResultKey] = set()
    for connection, c in ((store.connection, t.result.c), (sheets, catalog_tables.filing.c)):
        query = sa.select(c.secim, c.cevre, c.kurul, c.sandik).distinct()
        rows = connection.execute(query.where(c.belge == BOX_SHEET.value, c.seq.is_not(None)))
        found.update(ResultKey(Secim(row[0]), BOX_SHEET, *row[1:]) for row in rows)
    return found
