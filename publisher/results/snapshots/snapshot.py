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

import hashlib
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

import sqlalchemy as sa
import structlog

from config.event import Event, ResultsEvent, Value
from config.result import Result, ResultKey
from config.sheet import Secim
from config.site import LATEST_SNAPSHOT, SNAPSHOTS
from config.snapshot import AGGREGATES, FORMAT, MANIFEST, PARQUET, SIGNATURE
from keys.files import replace, sync
from keys.ledger.writer import Clock, Ledger
from publisher.results import tables as t
from publisher.results.snapshots.folder import latest_number, snapshot_folder
from publisher.results.snapshots.row_files import (
    ChangedTable,
    Merge,
    MergeRequest,
    RowFiles,
    contest_of,
    merge_apart,
    table_of,
)
from publisher.results.store import ResultStore, StoredResult

_WHO = "publisher"
_NEW = ".new"
_ROWS_A_TIME = 5000
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
        sign: Sign,
        clock: Clock,
        step: Callable[[str], None] = lambda step: None,
        options: Callable[[Secim], Sequence[str]] = lambda secim: (),
        merge: Merge = merge_apart,
    ) -> None:
        """`options` returns the ids of a contest's options, in the order of the ballot."""
        self._site = site
        self._election = election
        self._store = store
        self._ledger = ledger
        self._sign = sign
        self._clock = clock
        self._step = step
        self._options = options
        self._merge = merge
        self._rows = RowFiles(site / SNAPSHOTS, options)
        self._tables: dict[str, int] = {}  # how many rows each has in the last snapshot
        self._changed: set[str] = set()
        self._changes = Changes(site / SNAPSHOTS)
        self.last: Snapshot | None = None

    def close(self) -> None:
        """Remove the files of what is in no snapshot yet; the next start writes them again."""
        self._rows.clear()
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
        sound = self.last is None or self._load_tables(self.last)
        self._load_changes(self.last.last_result if self.last else 0, with_rows=sound)
        if self.last is not None and not sound:
            log.error("snapshot-damaged", snapshot=self.last.number)
            self._load_all_rows()

    def _load_tables(self, last: Snapshot) -> bool:
        """Note the tables of the last snapshot; return whether each is as its manifest says."""
        folder = snapshot_folder(self._site, last.number)
        try:
            content = (folder / MANIFEST).read_bytes()
            if hashlib.sha256(content).hexdigest() != last.sha256:
                return False
            manifest = json.loads(content)
            for name, stated in manifest["files"].items():
                if name.endswith(PARQUET) and describe_file(folder / name) != stated:
                    return False
        except FileNotFoundError:
            return False
        for secim, counts in manifest["contests"].items():
            for table, rows in ((secim, "boxes"), (f"{secim}{AGGREGATES}", "aggregates")):
                if f"{table}{PARQUET}" in manifest["files"]:
                    self._tables[table] = counts[rows]
        return True

    def _load_all_rows(self) -> None:
        """Take every row from the database, since the last snapshot lacks some."""
        for secim in Secim:
            found = self._store.newest(secim)
            while part := [stored.result for stored in islice(found, _ROWS_A_TIME)]:
                self._rows.add(part)
                self._changed.update(table_of(result.key) for result in part)

    def _load_changes(self, held: int, *, with_rows: bool) -> None:
        """Write again the changes, and rows, that an earlier run noted after the last snapshot."""
        last = self._store.last_recorded()
        found = self._store.since(held, last)
        while part := list(islice(found, _ROWS_A_TIME)):
            first = part[0].id
            known = {
                key: older
                for key, versions in self._store.versions(s.result.key for s in part).items()
                if (older := {v: s for v, s in versions.items() if s.id < first})
            }
            if with_rows:
                self.add(part, known)
            else:
                self._changes.add(part, known)

    def add(
        self,
        results: Sequence[StoredResult],
        known: Mapping[ResultKey, Mapping[int, StoredResult]],
    ) -> None:
        """Add results that were recorded just now; `known` are the earlier versions."""
        newest = [stored.result for stored in results if stored.newest]
        self._rows.add(newest)
        self._changed.update(table_of(result.key) for result in newest)
        self._changes.add(results, known)

    @property
    def due(self) -> bool:
        """Return True if something changed since the last snapshot."""
        return bool(self._changed)

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
        tables = self._write_tables(fresh)
        changes = self._changes.move_to(fresh, set(map(contest_of, tables)))
        for secim in sorted(changes):
            self._write_sums(fresh, secim, sums)
        manifest = self._manifest(fresh, number, closed_at, last_result, changes, tables)
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
        self._tables = tables
        self._changed.clear()
        self._rows.clear()
        log.info("snapshot-closed", snapshot=number, changes=sum(changes.values()))
        return closed

    def _write_tables(self, fresh: Path) -> dict[str, int]:
        """Write the tables that changed, link the others; return how many rows each has."""
        before = snapshot_folder(self._site, self.last.number) if self.last else None
        for table in self._tables.keys() - self._changed:
            assert before is not None  # noqa: S101 - the tables are those of a snapshot
            (fresh / f"{table}{PARQUET}").hardlink_to(before / f"{table}{PARQUET}")
        changed = tuple(
            ChangedTable(table, tuple(self._options(contest_of(table))), self._rows.files(table))
            for table in sorted(self._changed)
        )
        return self._tables | self._merge(
            MergeRequest(fresh, before if self._tables else None, changed)
        )

    def _write_sums(self, fresh: Path, secim: Secim, sums: SumsOf) -> None:
        name = f"{secim}.sums.ndjson"
        if secim.value not in self._changed and self.last is not None:
            with suppress(FileNotFoundError):
                (fresh / name).hardlink_to(snapshot_folder(self._site, self.last.number) / name)
                return
        _write(fresh / name, b"".join(sums(secim)))

    def _manifest(
        self,
        fresh: Path,
        number: int,
        closed_at: datetime,
        last_result: int,
        changes: Mapping[Secim, int],
        tables: Mapping[str, int],
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
                    "boxes": tables.get(secim.value, 0),
                    "aggregates": tables.get(f"{secim}{AGGREGATES}", 0),
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
                for record in self._ledger.records(first)
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
