"""Closes numbered, immutable snapshots of all results, in `snapshots/00000042/`.

A snapshot has, for each contest:

    <secim>.parquet                one row a box, its newest version
    <secim>-birlestirme.parquet    one row an aggregate sheet, its newest version
    <secim>.changes.ndjson         the versions that became the newest since the snapshot before
    <secim>.sums.ndjson            sums by board and district, with the shares of joint votes

and `manifest.json` with `manifest.json.sig`, a signature that `ssh-keygen -Y verify` accepts. The
ready-made exports follow later (publisher/results/snapshots/exports). The manifest is

    {"format": "ssps-snapshot-v1", "election": "2023-05-14-cb-mv", "number": 42,
     "closed_at": "2023-05-14T18:04:10+00:00", "previous": "<sha256 of the previous manifest>",
     "contests": {"mv": {"boxes": 2010, "aggregates": 31, "changes": 12}},
     "files": {"mv.parquet": {"sha256": "...", "bytes": 123456}}}

with `previous` null in snapshot 1: the manifests are a chain. A changes file has one object a line,
in the order in which the results were accepted:

    {"secim": "mv", "belge": "sandik-sonuc", "cevre": "34-istanbul-1", "kurul": "kadikoy-2",
     "sandik": "1234", "surum": 2, "neden": "itiraz kabul", "zaman": "...", "eski": {...}|null,
     "yeni": {"gecerli": 245, ..., "oylar": {"parti-a": 100}}}

A Parquet row has the same columns, votes as `oylar.<option>` in the order of the ballot; an option
that a row does not state, or that is not on the ballot of its district, is null there. A contest
in which nothing changed keeps its file: a hard link.

Steps, each durable before the next: the folder is written as `.00000042.new` and renamed; the
results ledger gets a record; the database notes the number; `snapshots/latest` names it. After a
crash `recover` finishes a renamed folder and removes an unfinished one.
"""

import csv
import hashlib
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from json.encoder import encode_basestring
from pathlib import Path
from typing import IO, Any

import duckdb
import sqlalchemy as sa
import structlog

from config.event import Event, ResultsEvent, Value
from config.result import BOX_SHEET, NUMBER_COLUMNS, Result, ResultKey
from config.sheet import Secim
from config.site import LATEST_SNAPSHOT, SNAPSHOTS
from config.snapshot import AGGREGATES as AGGREGATES
from config.snapshot import FORMAT
from config.snapshot import MANIFEST as MANIFEST
from config.snapshot import SIGNATURE as SIGNATURE
from config.snapshot import VOTES as VOTES
from keys.files import replace, sync
from keys.ledger.segments import read_records
from keys.ledger.writer import Clock, Ledger
from publisher.results import tables as t
from publisher.results.snapshots.folder import latest_number as latest_number
from publisher.results.snapshots.folder import snapshot_folder as snapshot_folder
from publisher.results.store import ResultStore, StoredResult

PLACE_COLUMNS = ("belge", "cevre", "kurul", "sandik", "sandik_turu")
VERSION_COLUMNS = ("surum", "neden", "zaman")
QUIET = "SET enable_progress_bar = false"  # else DuckDB draws one on stdout after two seconds
_WHO = "publisher"
_NEW = ".new"
_NULL = "\\N"  # in the rows that are loaded into DuckDB
_ROWS_AN_INSERT = 20_000
_CHANGES_A_TIME = 5000
_MODE = 0o444

log = structlog.get_logger()
Sign = Callable[[bytes], bytes]
SumsOf = Callable[[Secim], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A closed snapshot: its number, its manifest's digest, and the last result that it holds."""

    number: int
    closed_at: datetime
    last_result: int
    sha256: str


class Columns:
    """The newest results of each contest in an embedded DuckDB, ready to be written as Parquet."""

    def __init__(self) -> None:
        self._database = duckdb.connect()
        self._database.execute(QUIET)
        self._database.execute("SET threads = 1")
        self._votes: dict[str, list[str]] = {}
        self._pending: dict[str, dict[ResultKey, Result]] = {}
        self._pending_rows = 0
        self.changed: set[str] = set()

    def close(self) -> None:
        """Release the memory."""
        self._database.close()

    def replace(self, results: Iterable[Result]) -> None:
        """Replace the results of the same places by these."""
        for result in results:
            table = _table(result.key)
            self.changed.add(table)
            self._pending.setdefault(table, {})[result.key] = result
            self._pending_rows += 1
        if self._pending_rows >= _ROWS_AN_INSERT:
            self._load()

    def _load(self) -> None:
        """Insert the pending rows at once, in a third of the time of many small parts."""
        for table, rows in self._pending.items():
            listed = list(rows.values())
            self._add_vote_columns(table, listed)
            self._insert(table, listed)
        self._pending.clear()
        self._pending_rows = 0

    def tables(self) -> list[str]:
        """Return the tables that have rows: `mv`, `mv-birlestirme`."""
        self._load()
        return sorted(self._votes)

    def count(self, table: str) -> int:
        """Return how many rows a table has; 0 if there is no such table."""
        self._load()
        if table not in self._votes:
            return 0
        row = self._database.execute(f'SELECT count(*) FROM "{table}"').fetchone()
        return int(row[0]) if row else 0

    def write_parquet(self, table: str, file: Path, options: Sequence[str] = ()) -> None:
        """Write a table in the order of places; `options` have a column in any case, and first."""
        self._load()
        known = self._votes[table]
        votes = "".join(
            f', "{VOTES}{option}"' if option in known else f', NULL::BIGINT AS "{VOTES}{option}"'
            for option in (*options, *sorted(set(known) - set(options)))
        )
        columns = ", ".join((*PLACE_COLUMNS, *VERSION_COLUMNS, *NUMBER_COLUMNS)) + votes
        name = str(file).replace("'", "''")
        self._database.execute(
            f'COPY (SELECT {columns} FROM "{table}" ORDER BY cevre, kurul, sandik, belge) '
            f"TO '{name}' (FORMAT parquet, COMPRESSION zstd)"
        )

    def _add_vote_columns(self, table: str, results: Sequence[Result]) -> None:
        if table not in self._votes:
            places = ", ".join(f"{name} VARCHAR NOT NULL" for name in PLACE_COLUMNS)
            numbers = ", ".join(f"{name} BIGINT" for name in NUMBER_COLUMNS)
            self._database.execute(
                f'CREATE TABLE "{table}" ({places}, surum INTEGER, neden VARCHAR, '
                f"zaman TIMESTAMPTZ, {numbers}, PRIMARY KEY (cevre, kurul, sandik, belge))"
            )
            self._votes[table] = []
        known = self._votes[table]
        for option in sorted({option for result in results for option in result.votes}):
            if option not in known:
                self._database.execute(f'ALTER TABLE "{table}" ADD COLUMN "{VOTES}{option}" BIGINT')
                known.append(option)

    def _insert(self, table: str, results: Sequence[Result]) -> None:
        votes = self._votes[table]
        columns = [*PLACE_COLUMNS, *VERSION_COLUMNS, *NUMBER_COLUMNS]
        columns += [VOTES + option for option in votes]
        text = io.StringIO()
        write = csv.writer(text).writerow
        for result in results:
            numbers = (*result.numbers().values(), *map(result.votes.get, votes))
            write((*_texts(result), *(_NULL if n is None else n for n in numbers)))
        named = ", ".join(f'"{name}"' for name in columns)
        kinds = ", ".join(f"'{name}': '{_kind(name)}'" for name in columns)
        rows = _memory_file(text.getvalue().encode())
        try:
            self._database.execute(
                f'INSERT OR REPLACE INTO "{table}" SELECT {named} FROM read_csv('
                f"'/proc/self/fd/{rows}', columns = {{{kinds}}}, header = false, "
                f"nullstr = '{_NULL}', auto_detect = false, delim = ',', quote = '\"', "
                "escape = '\"', parallel = false)"
            )
        finally:
            os.close(rows)


class Changes:
    """The changes since the last snapshot, written to a file for each contest as they come."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[Secim, IO[bytes]] = {}
        self._counts: Counter[Secim] = Counter()

    def add(
        self,
        results: Iterable[StoredResult],
        known: Mapping[ResultKey, Mapping[int, StoredResult]],
    ) -> None:
        """Write each version that became the newest; `known` are the earlier versions."""
        newest: dict[ResultKey, Result] = {}
        for stored in results:
            key = stored.result.key
            before = newest.get(key)
            if before is None and (older := known.get(key)):
                before = older[max(older)].result
            if before is None or stored.result.version > before.version:
                newest[key] = stored.result
                self._file(key.secim).write(_change(before, stored.result))
                self._counts[key.secim] += 1

    def move_to(self, folder: Path, contests: Iterable[Secim]) -> dict[Secim, int]:
        """Move the files into a snapshot's folder, durably; return how many changes each has."""
        counts: dict[Secim, int] = {}
        for secim in contests:
            file = self._file(secim)
            file.flush()
            os.fchmod(file.fileno(), _MODE)
            os.fsync(file.fileno())
            file.close()
            Path(file.name).rename(folder / f"{secim}.changes.ndjson")
            counts[secim] = self._counts[secim]
        self._files.clear()
        self._counts.clear()
        return counts

    def close(self) -> None:
        """Close the files; what they have is written again after the next start."""
        for file in self._files.values():
            file.close()
            Path(file.name).unlink(missing_ok=True)

    def _file(self, secim: Secim) -> IO[bytes]:
        if secim not in self._files:
            path = self._folder / f".{secim}.changes{_NEW}"
            path.unlink(missing_ok=True)
            self._files[secim] = path.open("xb")
        return self._files[secim]


class SnapshotWriter:
    """Closes snapshots, for one thread. `step` is called with the name of each step done."""

    def __init__(
        self,
        site: Path,
        election: str,
        store: ResultStore,
        ledger: Ledger,
        ledger_folder: Path,
        sign: Sign,
        clock: Clock,
        step: Callable[[str], None] = lambda step: None,
        options: Callable[[Secim], Sequence[str]] = lambda secim: (),
    ) -> None:
        """`options` returns the ids of a contest's options, in the order of the ballot."""
        self._site = site
        self._election = election
        self._store = store
        self._ledger = ledger
        self._ledger_folder = ledger_folder
        self._sign = sign
        self._clock = clock
        self._step = step
        self._options = options
        self._columns = Columns()
        self._changes = Changes(site / SNAPSHOTS)
        self.last: Snapshot | None = None

    def close(self) -> None:
        """Release the memory and the files."""
        self._columns.close()
        self._changes.close()

    def recover(self) -> None:
        """Finish or remove what an earlier run left, and load the newest results."""
        folder = self._site / SNAPSHOTS
        folder.mkdir(exist_ok=True)
        for path in folder.glob(f".*{_NEW}"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        query = sa.select(t.snapshot).order_by(t.snapshot.c.number.desc()).limit(1)
        row = self._store.connection.execute(query).one_or_none()
        if row is not None:
            closed_at = datetime.fromisoformat(row.closed_at)
            self.last = Snapshot(row.number, closed_at, row.last_result, row.sha256)
        number = self.last.number + 1 if self.last else 1
        left = snapshot_folder(self._site, number)
        if left.exists():
            self._finish(self._read(number, left))
        elif self.last is not None:
            self._show(self.last.number)
        held = self.last.last_result if self.last else 0
        for secim in Secim:
            batch: list[Result] = []
            for stored in self._store.newest(secim):
                batch.append(stored.result)
                if len(batch) == _ROWS_AN_INSERT:
                    self._columns.replace(batch)
                    batch = []
            self._columns.replace(batch)
        self._columns.changed.clear()
        self._load_changes(held)

    def _load_changes(self, held: int) -> None:
        """Write again the changes that an earlier run noted after the last snapshot."""
        last = self._store.last_recorded()
        found = self._store.since(held, last)
        while part := list(islice(found, _CHANGES_A_TIME)):
            first = part[0].id
            known = {
                key: older
                for key, versions in self._store.versions(s.result.key for s in part).items()
                if (older := {v: s for v, s in versions.items() if s.id < first})
            }
            self._changes.add(part, known)
            self._columns.changed.update(_table(stored.result.key) for stored in part)

    def add(
        self,
        results: Sequence[StoredResult],
        known: Mapping[ResultKey, Mapping[int, StoredResult]],
    ) -> None:
        """Add results that were recorded just now; `known` are the earlier versions."""
        self._columns.replace(stored.result for stored in results if stored.newest)
        self._changes.add(results, known)

    @property
    def due(self) -> bool:
        """Return True if something changed since the last snapshot."""
        return bool(self._columns.changed)

    def close_snapshot(self, sums: SumsOf = lambda secim: ()) -> Snapshot:
        """Close the next snapshot of all results that are recorded; `sums` gives their sums."""
        number = self.last.number + 1 if self.last else 1
        folder = snapshot_folder(self._site, number)
        fresh = folder.with_name(f".{folder.name}{_NEW}")
        fresh.mkdir(mode=0o755)
        closed_at = self._clock().astimezone(UTC)
        if self.last is not None:  # the clock may have been set back
            closed_at = max(closed_at, self.last.closed_at)
        last_result = self._store.last_recorded()
        changes = self._changes.move_to(fresh, self._contests())
        for table in self._columns.tables():
            self._write_table(fresh, table)
        for secim in sorted(changes):
            self._write_sums(fresh, secim, sums)
        manifest = self._manifest(fresh, number, closed_at, last_result, changes)
        content = (
            json.dumps(manifest, ensure_ascii=False, indent=1, sort_keys=True).encode() + b"\n"
        )
        _write(fresh / MANIFEST, content)
        _write(fresh / SIGNATURE, self._sign(content))
        sync(fresh)
        self._step("written")
        fresh.rename(folder)
        sync(folder.parent)
        self._step("renamed")
        digest = hashlib.sha256(content).hexdigest()
        closed = Snapshot(number, closed_at, last_result, digest)
        self._finish(closed)
        self._columns.changed.clear()
        log.info("snapshot-closed", snapshot=number, changes=sum(changes.values()))
        return closed

    def _contests(self) -> set[Secim]:
        return {Secim(table.removesuffix(AGGREGATES)) for table in self._columns.tables()}

    def _write_sums(self, fresh: Path, secim: Secim, sums: SumsOf) -> None:
        name = f"{secim}.sums.ndjson"
        if secim.value not in self._columns.changed and self.last is not None:
            with suppress(FileNotFoundError):
                (fresh / name).hardlink_to(snapshot_folder(self._site, self.last.number) / name)
                return
        _write(fresh / name, b"".join(sums(secim)))

    def _write_table(self, fresh: Path, table: str) -> None:
        name = f"{table}.parquet"
        before = snapshot_folder(self._site, self.last.number) / name if self.last else None
        if table not in self._columns.changed and before is not None:
            with suppress(FileNotFoundError):
                (fresh / name).hardlink_to(before)
                return
        options = self._options(Secim(table.removesuffix(AGGREGATES)))
        self._columns.write_parquet(table, fresh / name, options)
        (fresh / name).chmod(_MODE)
        sync(fresh / name)

    def _manifest(
        self,
        fresh: Path,
        number: int,
        closed_at: datetime,
        last_result: int,
        changes: dict[Secim, int],
    ) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "election": self._election,
            "number": number,
            "closed_at": closed_at.isoformat(timespec="seconds"),
            "previous": self.last.sha256 if self.last else None,
            "last_result": last_result,
            "contests": {
                secim.value: {
                    "boxes": self._columns.count(secim.value),
                    "aggregates": self._columns.count(f"{secim}{AGGREGATES}"),
                    "changes": count,
                }
                for secim, count in sorted(changes.items())
            },
            "files": {path.name: describe_file(path) for path in sorted(fresh.iterdir())},
        }

    def _read(self, number: int, folder: Path) -> Snapshot:
        content = (folder / MANIFEST).read_bytes()
        manifest = json.loads(content)
        return Snapshot(
            number,
            datetime.fromisoformat(manifest["closed_at"]),
            manifest["last_result"],
            hashlib.sha256(content).hexdigest(),
        )

    def _finish(self, closed: Snapshot) -> None:
        """Record a snapshot whose folder is complete, note it, and show it as the latest."""
        seq = self._recorded(closed)
        if seq is None:
            detail: dict[str, Value] = {
                "sha256": closed.sha256,
                "results": closed.last_result,
                "previous": self.last.sha256 if self.last else None,
            }
            seq = self._ledger.append(
                Event(ResultsEvent.SNAPSHOT, _WHO, "", str(closed.number), detail=detail)
            )
            self._ledger.sync()
        self._step("recorded")
        values = {
            "number": closed.number,
            "closed_at": closed.closed_at.isoformat(timespec="microseconds"),
            "last_result": closed.last_result,
            "sha256": closed.sha256,
            "seq": seq,
        }
        self._store.connection.execute(sa.insert(t.snapshot).values(values))
        self._store.commit()
        self._step("noted")
        self.last = closed
        self._show(closed.number)

    def _recorded(self, closed: Snapshot) -> int | None:
        first = self._store.next_seq()
        if first >= self._ledger.next_seq:
            return None
        return next(
            (
                record.seq
                for record in read_records(self._ledger_folder, first)
                if record.event.event == ResultsEvent.SNAPSHOT
                and record.event.detail.get("sha256") == closed.sha256
            ),
            None,
        )

    def _show(self, number: int) -> None:
        if latest_number(self._site) != number:
            replace(self._site / LATEST_SNAPSHOT, f"{number:08}\n".encode(), 0o644)
        self._step("shown")


def describe_file(path: Path) -> dict[str, str | int]:
    """Return digest and size of a snapshot's file, as manifests list them."""
    with path.open("rb") as file:
        return {
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
            "bytes": os.fstat(file.fileno()).st_size,
        }


def _table(key: ResultKey) -> str:
    return key.secim.value if key.belge is BOX_SHEET else f"{key.secim}{AGGREGATES}"


def _texts(result: Result) -> tuple[str | int, ...]:
    key = result.key
    return (
        key.belge.value,
        key.cevre or "",
        key.kurul or "",
        key.sandik or "",
        result.sandik_turu.value if result.sandik_turu else "",
        result.version,
        result.reason,
        result.time.isoformat(),
    )


def _kind(column: str) -> str:
    if column in PLACE_COLUMNS or column == "neden":
        return "VARCHAR"
    return {"surum": "INTEGER", "zaman": "TIMESTAMPTZ"}.get(column, "BIGINT")


def _change(before: Result | None, after: Result) -> bytes:
    # Written without json.dumps: this runs for every row.
    key = after.key
    places = (("cevre", key.cevre), ("kurul", key.kurul), ("sandik", key.sandik))
    named = "".join(f'"{name}": {_quoted(place)}, ' for name, place in places)
    time = after.time.isoformat(timespec="seconds")
    return (
        f'{{"secim": "{key.secim.value}", "belge": "{key.belge.value}", {named}'
        f'"surum": {after.version}, "neden": {_quoted(after.reason)}, "zaman": "{time}", '
        f'"eski": {"null" if before is None else _stated(before)}, "yeni": {_stated(after)}}}\n'
    ).encode()


def _stated(result: Result) -> str:
    numbers = [f'"{n}": {"null" if v is None else v}' for n, v in result.numbers().items()]
    votes = ", ".join([f"{encode_basestring(o)}: {n}" for o, n in result.votes.items()])
    return f'{{{", ".join(numbers)}, "oylar": {{{votes}}}}}'


def _quoted(text: str | None) -> str:
    return "null" if text is None else encode_basestring(text)


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), _MODE)
        os.fsync(file.fileno())


def _memory_file(content: bytes) -> int:
    descriptor = os.memfd_create("rows", os.MFD_CLOEXEC)
    at = 0
    while at < len(content):
        at += os.write(descriptor, content[at:])
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
