"""Indexes ledgers in a DuckDB database, so that the audit commands can query them quickly.

The index is a cache: it is built from the ledgers' lines and can be deleted at any time. It
remembers the size and mtime of each segment, and reads only the segments that changed since. It
verifies nothing: `ssps audit verify` does. DuckDB reads JSON lines directly and stores columns;
tests/bench/ledger.py compares it with SQLite. The table that is queried is

    record    log, name, segment, seq, time, mono, event, who, origin, what, outcome, detail,
              session, credential

`log` is the ledger's folder, and `name` its kind: `transfer` also for the ledger `transfer@gw2`.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from datetime import UTC
from pathlib import Path
from typing import Any

import duckdb

from config.event import Event, Outcome
from config.site import ledger_kind
from keys.ledger import segments
from keys.ledger.record import Record
from keys.ledger.segments import Segment
from scripts.shared import console

_VERSION = (
    1  # of the tables; it is in the file's name, so that an index of another version is not used
)
_SCHEMA = """
create table if not exists source (log varchar, segment bigint, size bigint, changed bigint);
create table if not exists record (log varchar, name varchar, segment bigint, seq bigint,
    time timestamp, mono bigint, event varchar, who varchar, origin varchar, what varchar,
    outcome varchar, detail json, session bigint, credential varchar);
"""
_LOAD = """
insert into record select ?, ?, ?, seq, strptime(time, '%Y-%m-%dT%H:%M:%S.%fZ'), mono, event, who,
    "from", what, outcome, detail, try_cast(detail->>'session' as bigint), detail->>'credential'
from read_json(?, format = 'newline_delimited', compression = ?, ignore_errors = true, columns = {
    seq: 'bigint', time: 'varchar', mono: 'bigint', event: 'varchar', who: 'varchar',
    "from": 'varchar', what: 'varchar', outcome: 'varchar', detail: 'json'})
where seq is not null
"""
_COLUMNS = "log, seq, time, mono, event, who, origin, what, outcome, detail"
Connection = duckdb.DuckDBPyConnection


def open_index(ledgers: Sequence[Path], rebuild: bool = False) -> Connection:
    """Open the index of these ledgers and bring it up to date; `rebuild` deletes the old one first.

    Raises Faults if a ledger has lines that are not records, or if the index cannot be opened.
    """
    path = index_path(ledgers)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if rebuild:
        path.unlink(missing_ok=True)
    try:
        database = _connect(path)
        _refresh(database, ledgers)
    except (duckdb.CatalogException, duckdb.BinderException, duckdb.SerializationException):
        path.unlink(missing_ok=True)  # damaged, or written by another version of DuckDB
        database = _connect(path)
        _refresh(database, ledgers)
    except duckdb.IOException as error:
        advice = "delete it, or wait until the other command that uses it has ended"
        raise console.fault(str(path), "", f"cannot be opened ({error}): {advice}") from None
    return database


def select_records(
    database: Connection, where: str, values: Sequence[object] = ()
) -> Iterator[tuple[str, Record]]:
    """Yield (ledger, record) for each record that meets an SQL condition.

    `where` may end with `order by` and `limit`; `values` are its parameters.
    """
    cursor = database.cursor()
    cursor.execute(f"select {_COLUMNS} from record where {where}", list(values))
    while rows := cursor.fetchmany(10_000):
        for log, seq, time, mono, event, who, origin, what, outcome, detail in rows:
            recorded = Event(event, who, origin, what, Outcome(outcome), json.loads(detail))
            yield log, Record(seq, time.replace(tzinfo=UTC), mono, recorded)


def select_rows(database: Connection, statement: str, values: Sequence[object] = ()) -> list[Any]:
    """Return all rows of an SQL select statement."""
    return database.cursor().execute(statement, list(values)).fetchall()


def index_path(ledgers: Sequence[Path]) -> Path:
    """Return the file in the user's cache that holds the index of these ledgers."""
    digest = hashlib.sha256("\n".join(map(str, ledgers)).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "ssps" / f"audit-{digest}-{_VERSION}.duckdb"


def _connect(path: Path) -> Connection:
    # Everything it needs is built in: DuckDB must not download extensions.
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    database = duckdb.connect(path, config=config)
    database.execute(_SCHEMA)
    return database


def _refresh(database: Connection, ledgers: Sequence[Path]) -> None:
    """Read the segments that are new or have changed since the last time."""
    known = {
        (log, segment): (size, changed)
        for log, segment, size, changed in select_rows(database, "select * from source")
    }
    stale: list[tuple[Path, Segment, int, int]] = []
    for folder in ledgers:
        for segment in segments.list_segments(folder):
            stat = segment.path.stat()
            stamp = (stat.st_size, stat.st_mtime_ns)
            if known.pop((str(folder), segment.first), None) != stamp:
                stale.append((folder, segment, *stamp))
    for log, first in known:  # The segment is gone. Its records stay in the index until --rebuild.
        database.execute("delete from source where log = ? and segment = ?", [log, first])
    bar, show = console.progress_bar("indexing", sum(size for _, _, size, _ in stale))
    read = 0
    with bar:
        for folder, segment, size, changed in stale:
            _load(database, folder, segment, size, changed)
            read += size
            show(read)


def _load(database: Connection, folder: Path, segment: Segment, size: int, changed: int) -> None:
    log, first = str(folder), segment.first
    database.execute("begin")
    for table in ("record", "source"):
        database.execute(f"delete from {table} where log = ? and segment = ?", [log, first])
    if size:
        compression = "gzip" if segment.compressed else "uncompressed"
        values = [log, ledger_kind(folder.name), first, str(segment.path), compression]
        database.execute(_LOAD, values)
        statement = "select count(*) from record where log = ? and segment = ?"
        loaded = database.execute(statement, [log, first]).fetchall()[0][0]
        with segment.open() as file:
            lines = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
        if loaded < lines:
            database.execute("rollback")
            wrong = f"lines that are not records: {lines - loaded}; `ssps audit verify` names them"
            raise console.fault(str(segment.path), "", wrong)
    database.execute("insert into source values (?, ?, ?, ?)", [log, first, size, changed])
    database.execute("commit")
