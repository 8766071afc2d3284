"""Checks the results of a site: batches, rows, records, and the chain of snapshots.

Step 1  The store has the bytes of every batch, and they have the digest in their name.
Step 2  Every row in the database has its record in the results ledger, and every record of a row or
a snapshot has its row. Each column that the record or the line of its batch knows is the same
(publisher/fsck/recorded_results); so are the order of the rows and their batch.
Step 3  What the database derives is what the rows say: the newest version of each place, the
counts of each batch, and which rows each snapshot has.
Step 4  Every snapshot's files have the digests in its manifest, every manifest names the digest
of the one before, and the database and the ledger name the same. `snapshots/latest` is the last.
Step 5  Every snapshot that the trees show has the files that its own manifest lists.

No ledger has the times at which a row was decided and a batch arrived and was done; the time of the
record is a moment later. The findings of the results are not compared: the checks compute them
from rows, sheets and registry, and `ssps rebuild --catalog` computes them again.
"""

import hashlib
import heapq
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
import structlog

from config import times
from config.fault import Faults
from config.result_batch import GoodRow
from config.site import (
    LATEST_SNAPSHOT,
    LEDGERS,
    RESULT_VIEWS,
    RESULTS_DATABASE,
    RESULTS_LEDGER,
    SNAPSHOTS,
    ledgers_of_kind,
    original_file,
)
from config.snapshot import EXPORTS, MANIFEST
from publisher.fsck import recorded_results
from publisher.fsck.finding import Finding, is_writing
from publisher.fsck.merging import merge_sorted
from publisher.fsck.recorded_results import FOLDER, RecordedRow
from publisher.results import tables as t
from publisher.results.reading import open_results
from publisher.results.snapshots.folder import latest_number, snapshot_folder
from publisher.results.snapshots.snapshot import describe_file
from publisher.results.store import DUPLICATE, ResultStore, as_stored

_RESTORE = "restore it from a backup"
_REBUILD = "rebuild it with `ssps rebuild --catalog`"
_AUDIT = "run `ssps audit verify`"
_DATABASE = str(RESULTS_DATABASE)
_MAX_ROWS = 1000  # findings about single rows; more mean that this is another site's database
# What a value of another type than the publisher writes leads to.
_UNREADABLE = (
    ValueError, TypeError, AttributeError, KeyError, OverflowError, sqlite3.Error,
    sa.exc.SQLAlchemyError,
)  # fmt: skip

_log = structlog.get_logger()
_Stored = tuple[sa.Table, Any]  # a row, whose columns are its attributes


def verify_results(
    site: Path, election: str, quick: bool, progress: Callable[[str, int, int], None]
) -> Iterator[Finding]:
    """Yield the problems of a site's results; `quick` skips reading batches and snapshots."""
    with open_results(site) as reader:
        if reader.store is None:
            return
        check = _ResultsCheck(site, election, reader.store, quick, progress)
        for step in (
            check.batches,
            check.rows,
            check.newest,
            check.counts,
            check.findings,
            check.snapshots,
            check.views,
        ):
            yield from _guarded(step())


def _guarded(step: Iterator[Finding]) -> Iterator[Finding]:
    """Yield the findings of a step; a value that it cannot read is a finding too."""
    try:
        yield from step
    except Faults as error:  # of the ledger
        for fault in error.faults:
            yield Finding(fault.file, fault.message.removesuffix(f": {_AUDIT}"), _AUDIT)
    except _UNREADABLE as error:
        if isinstance(error, (AttributeError, KeyError, TypeError)):  # or it is our own mistake
            _log.exception("check-failed")
        problem = f"has a value that cannot be read ({type(error).__name__}: {error})"
        yield Finding(_DATABASE, problem, _REBUILD)


class _Batch(NamedTuple):
    name: str
    sha256: str | None
    finished: bool


class _ResultsCheck:
    """One check of the results."""

    def __init__(
        self,
        site: Path,
        election: str,
        store: ResultStore,
        quick: bool,
        progress: Callable[[str, int, int], None],
    ) -> None:
        self._site = site
        self._election = election
        self._store = store
        self._connection = store.connection
        self._quick = quick
        self._progress = progress
        names = ledgers_of_kind(site / LEDGERS, RESULTS_LEDGER)
        self._writing = any(is_writing(site / LEDGERS / name) for name in names)
        self._batch_of: dict[int, str] = {}  # the id of each delivery's batch
        self._ids: dict[str, int] = {}  # the last id in each table, in the order of records

    def batches(self) -> Iterator[Finding]:
        """Yield the batches that the store does not have as they were delivered."""
        for batch in self._batches().values():
            if batch.sha256 is None:
                continue
            place = original_file(batch.sha256)
            file = self._site / place
            if not file.is_file():
                yield Finding(str(place), f"is missing: the batch {batch.name}", _RESTORE)
            elif not self._quick and describe_file(file)["sha256"] != batch.sha256:
                yield Finding(str(place), f"has other bytes: the batch {batch.name}", _RESTORE)

    def _batches(self) -> dict[str, _Batch]:
        c = t.batch.c
        rows = self._connection.execute(sa.select(c.id, c.name, c.sha256, c.finished_at))
        return {row.id: _Batch(row.name, row.sha256, row.finished_at is not None) for row in rows}

    # Rows and records.

    def rows(self) -> Iterator[Finding]:
        """Yield the differences between the rows and their records and batches."""
        last = self._store.next_seq() - 1
        recorded = recorded_results.read(self._site, self._election, batches=not self._quick)
        expected = ((_number(row.record.seq), row) for row in recorded)
        batches = self._batches()
        found = 0
        unfinished: dict[int, str] = {}  # deliveries whose last line was not seen yet
        for key, row, stored in merge_sorted(expected, self._stored()):
            seq = int.from_bytes(key, "big")
            self._progress("results", min(seq, last), last)
            if row is None and stored is not None:
                problem = f"{_name(stored)}: record {seq} is missing"
                yield Finding(_DATABASE, problem, _RESTORE)
            elif row is not None and stored is None:
                if seq <= last or not self._is_in_progress(row):
                    problem = (
                        f"number {seq} is unknown to the results database: {row.record.event.what}"
                    )
                    yield Finding(str(FOLDER), problem, _REBUILD)
            elif row is not None and stored is not None:
                for finding in self._compare(row, stored, batches):
                    found += 1
                    if found <= _MAX_ROWS:
                        yield finding
                batch = batches.get(self._batch_of.get(row.delivery, ""))
                if row.is_last:
                    unfinished.pop(row.delivery, None)
                elif row.row is not None and batch is not None and batch.finished:
                    unfinished[row.delivery] = batch.name
        for name in unfinished.values():
            problem = f"the batch {name} is done, but its last lines have no record"
            yield Finding(_DATABASE, problem, _REBUILD)

    def _stored(self) -> Iterator[tuple[bytes, _Stored]]:
        """Yield the recorded rows of all tables, in the order of their records."""
        streams = [self._stored_in(table) for table in (t.result, t.set_aside, t.snapshot)]
        return heapq.merge(*streams, key=lambda pair: pair[0])

    def _stored_in(self, table: sa.Table) -> Iterator[tuple[bytes, _Stored]]:
        columns = [column for column in table.columns if column.name != "newest"]
        not_read = sa.literal(False).label("newest")  # it is checked by itself
        query = sa.select(*columns, not_read).where(table.c.seq.is_not(None)).order_by(table.c.seq)
        for row in self._connection.execute(query, execution_options={"yield_per": 5000}):
            yield _number(row.seq), (table, row)

    def _is_in_progress(self, row: RecordedRow) -> bool:
        """Return whether the publisher is about to note a record, or does so at its next start."""
        if self._writing or row.table is t.snapshot:
            return True
        unrecorded = (
            sa.select(sa.func.count()).select_from(table).where(table.c.seq.is_(None))
            for table in (t.result, t.set_aside)
        )
        return any(self._connection.scalar(query) for query in unrecorded)

    def _compare(
        self, row: RecordedRow, stored: _Stored, batches: Mapping[str, _Batch]
    ) -> Iterator[Finding]:
        table, found = stored
        event, seq = row.record.event, row.record.seq
        if table is not row.table:
            problem = f"{_name(stored)}: number {seq} is a record of another kind"
            yield Finding(_DATABASE, problem, _REBUILD)
            return
        try:
            wanted = row.columns()
        except (KeyError, ValueError) as error:
            yield Finding(str(FOLDER), f"number {seq} makes no row ({error!r})", _AUDIT)
            return
        of = f"{_name(stored)}: {event.what}" if table is not t.snapshot else _name(stored)
        if table is t.result:
            if isinstance(row.row, GoodRow) and row.row.result.digest() != wanted["digest"]:
                problem = f"number {seq} has another digest than the line of its batch"
                yield Finding(str(FOLDER), problem, _AUDIT)
            elif row.row is None and as_stored(found).result.digest() != wanted["digest"]:
                problem = f"{of}: version {found.version} has other numbers than its record"
                yield Finding(_DATABASE, problem, _REBUILD)
        for name, value in wanted.items():
            if getattr(found, name) != value:
                stated = getattr(found, name)
                problem = f"{of}: has {name} {stated}, but its record and batch {value}"
                yield Finding(_DATABASE, problem, _REBUILD)
        yield from self._compare_order(row, stored, of, batches)

    def _compare_order(
        self, row: RecordedRow, stored: _Stored, of: str, batches: Mapping[str, _Batch]
    ) -> Iterator[Finding]:
        table, found = stored
        if table is t.snapshot:
            if (last := self._ids.get(t.result.name, 0)) != found.last_result:
                problem = f"{of}: ends with result {found.last_result}, but its record with {last}"
                yield Finding(_DATABASE, problem, _REBUILD)
            return
        if found.id <= self._ids.get(table.name, 0):
            problem = f"{of}: does not come after {self._ids[table.name]}, as its record does"
            yield Finding(_DATABASE, problem, _REBUILD)
        self._ids[table.name] = found.id
        batch = batches.get(found.batch)
        event = row.record.event
        known = self._batch_of.setdefault(row.delivery, found.batch)
        if batch is None or batch[:2] != (event.origin, event.detail["batch"]):
            problem = f"{of}: is of the batch {found.batch}, but its record of {event.origin}"
            yield Finding(_DATABASE, problem, _REBUILD)
        elif known != found.batch:
            problem = f"{of}: is of the batch {found.batch}, others of the same batch of {known}"
            yield Finding(_DATABASE, problem, _REBUILD)

    # What the database derives.

    def newest(self) -> Iterator[Finding]:
        """Yield the rows that are wrongly marked as the newest of their place, or not."""
        c, other = t.result.c, t.result.alias()
        same = (other.c[name] == c[name] for name in t.KEY_COLUMNS)
        highest = sa.select(sa.func.max(other.c.version)).where(*same).scalar_subquery()
        query = sa.select(c.id, sa.type_coerce(c.newest, sa.String)).where(
            c.newest != (c.version == highest)
        )
        for number, newest in self._connection.execute(query.limit(_MAX_ROWS)):
            problem = f"result {number}: has newest {newest}, but the versions say otherwise"
            yield Finding(_DATABASE, problem, _REBUILD)

    def counts(self) -> Iterator[Finding]:
        """Yield the batches whose counts are not those of their rows."""
        b = t.batch.c
        r, a = (_counted(table) for table in (t.result, t.set_aside))
        query = (
            sa.select(
                b.name, b.done_lines, b.accepted, b.duplicates, b.rejected,
                r.c.number.label("results"), r.c.line, a.c.number, a.c.duplicates,
                a.c.line.label("other_line"),
            )
            .select_from(
                t.batch.outerjoin(r, r.c.batch == b.id).outerjoin(a, a.c.batch == b.id)
            )
        )  # fmt: skip
        for (
            name,
            *stated,
            results,
            line,
            others,
            duplicates,
            other_line,
        ) in self._connection.execute(query):
            wanted = [
                max(line or 0, other_line or 0),
                results or 0,
                duplicates or 0,
                (others or 0) - (duplicates or 0),
            ]
            for what, one, counted in zip(
                ("done_lines", "accepted", "duplicates", "rejected"), stated, wanted, strict=True
            ):
                if one != counted:
                    problem = f"the batch {name}: has {what} {one}, but its rows say {counted}"
                    yield Finding(_DATABASE, problem, _REBUILD)

    def findings(self) -> Iterator[Finding]:
        """Read the findings, so that one that cannot be read is noticed."""
        for _ in self._store.findings():
            pass
        yield from ()

    # Snapshots.

    def snapshots(self) -> Iterator[Finding]:
        """Yield what is wrong with the files of the snapshots, and with their chain."""
        rows = {row.number: row for row in self._connection.execute(_SNAPSHOTS)}
        yield from _snapshots(self._site, rows, self._quick)
        newest, latest = max(rows, default=0), latest_number(self._site) or 0
        if latest < newest or (latest > newest and not self._writing):
            problem = f"names snapshot {latest}, but the newest is {newest}"
            yield Finding(str(LATEST_SNAPSHOT), problem, "restart the publisher")

    def views(self) -> Iterator[Finding]:
        """Yield what is wrong with the snapshots that the trees show."""
        yield from _views(self._site, self._quick)


def _counted(table: sa.Table) -> sa.Subquery:
    """Return the number of recorded rows and their last line, by batch."""
    columns = [
        table.c.batch,
        sa.func.count().label("number"),
        sa.func.max(table.c.line).label("line"),
    ]
    if table is t.set_aside:
        duplicate = sa.case((table.c.fault == DUPLICATE, 1), else_=0)
        columns.append(sa.func.sum(duplicate).label("duplicates"))
    counted = sa.select(*columns).where(table.c.seq.is_not(None))
    return counted.group_by(table.c.batch).subquery()


def _name(stored: _Stored) -> str:
    table, row = stored
    return f"{table.name} {row.number if table is t.snapshot else row.id}"


def _number(seq: int) -> bytes:
    return seq.to_bytes(8, "big")


_SNAPSHOTS = sa.select(t.snapshot).order_by(t.snapshot.c.number)


def _snapshots(site: Path, snapshots: Mapping[int, Any], quick: bool) -> Iterator[Finding]:
    previous = None
    for number, row in snapshots.items():
        folder = snapshot_folder(site, number)
        place = str(SNAPSHOTS / folder.name)
        try:
            content = (folder / MANIFEST).read_bytes()
        except OSError as error:
            yield Finding(f"{place}/{MANIFEST}", f"cannot be read ({error.strerror})", _RESTORE)
            previous = row.sha256
            continue
        digest = hashlib.sha256(content).hexdigest()
        if digest != row.sha256:
            yield Finding(f"{place}/{MANIFEST}", "was changed", _RESTORE)
            previous = row.sha256
            continue
        manifest = json.loads(content)
        closed_at = datetime.fromisoformat(row.closed_at).replace(microsecond=0)
        signed_at = times.format_stored(datetime.fromisoformat(manifest["closed_at"]))
        for name, signed, stated in (
            ("closed_at", signed_at, times.format_stored(closed_at)),
            ("number", manifest["number"], number),
            ("last_result", manifest["last_result"], row.last_result),
        ):
            if signed != stated:
                problem = f"has {name} {signed}, but the results database {stated}"
                yield Finding(f"{place}/{MANIFEST}", problem, _REBUILD)
        if manifest["previous"] != previous:
            yield Finding(f"{place}/{MANIFEST}", "does not follow the one before", _RESTORE)
        previous = digest
        listed = dict(manifest["files"])
        if (folder / EXPORTS).exists():
            listed |= json.loads((folder / EXPORTS).read_bytes())["files"]
        for name, stated in listed.items():
            file = folder / name
            if not file.is_file():
                # Exports of older snapshots may be removed; what the manifest names stays.
                if name in manifest["files"]:
                    yield Finding(f"{place}/{name}", "is missing", _RESTORE)
            elif not quick and describe_file(file) != stated:
                yield Finding(f"{place}/{name}", "was changed", _RESTORE)


def _views(site: Path, quick: bool) -> Iterator[Finding]:
    for manifest in sorted((site / RESULT_VIEWS).glob("[0-9]*/[!.]*/" + MANIFEST)):
        place = manifest.parent.relative_to(site)
        try:
            listed = json.loads(manifest.read_bytes())["files"]
        except (OSError, ValueError, KeyError) as error:
            yield Finding(f"{place}/{MANIFEST}", f"cannot be read ({error})", _RESTORE)
            continue
        for name, stated in listed.items():
            file = manifest.with_name(name)
            if not file.is_file():
                yield Finding(f"{place}/{name}", "is missing", _RESTORE)
            elif not quick and describe_file(file) != stated:
                yield Finding(f"{place}/{name}", "was changed", _RESTORE)
