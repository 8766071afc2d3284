"""A database over ledgers, to ask them quickly: made of the lines alone, thrown away at will.

DuckDB, since it reads JSON lines itself and keeps columns: tests/bench/ledger.py sets it beside
SQLite. It remembers each segment's size and time, and reads again only what has changed. It proves
nothing: `ssps audit verify` does.

    record    log, name, segment, seq, time, mono, event, who, origin, what, outcome, detail,
              session, credential
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
from keys.ledger import segments
from keys.ledger.record import Record
from keys.ledger.segments import Segment
from scripts.shared import console

_VERSION = 1  # of the tables; others are thrown away
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
    """Return a database that is up to date with the ledgers; raises Faults for what is no line."""
    path = index_path(ledgers)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if rebuild:
        path.unlink(missing_ok=True)
    try:
        found = _connect(path)
        _refresh(found, ledgers)
    except (duckdb.CatalogException, duckdb.BinderException, duckdb.SerializationException):
        path.unlink(missing_ok=True)  # of another version, or damaged
        found = _connect(path)
        _refresh(found, ledgers)
    except duckdb.IOException as error:
        advice = f"remove {path}, or wait for whoever uses it"
        raise console.fault(str(path), "", f"cannot be used ({error}), {advice}") from None
    return found


def select_records(
    database: Connection, where: str, values: Sequence[object] = ()
) -> Iterator[tuple[str, Record]]:
    """Yield ledger and record of what a condition (and an order, a limit) picks out."""
    cursor = database.cursor()
    cursor.execute(f"select {_COLUMNS} from record where {where}", list(values))
    while rows := cursor.fetchmany(10_000):
        for log, seq, time, mono, event, who, origin, what, outcome, detail in rows:
            told = Event(event, who, origin, what, Outcome(outcome), json.loads(detail))
            yield log, Record(seq, time.replace(tzinfo=UTC), mono, told)


def select_rows(database: Connection, question: str, values: Sequence[object] = ()) -> list[Any]:
    """Return what a question comes to."""
    return database.cursor().execute(question, list(values)).fetchall()


def index_path(ledgers: Sequence[Path]) -> Path:
    """Return where the index of these ledgers is cached."""
    named = hashlib.sha256("\n".join(map(str, ledgers)).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "ssps" / f"audit-{named}-{_VERSION}.duckdb"


def _connect(path: Path) -> Connection:
    # Nothing is fetched from anywhere: what it needs is built in.
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    found = duckdb.connect(path, config=config)
    found.execute(_SCHEMA)
    return found


def _refresh(database: Connection, ledgers: Sequence[Path]) -> None:
    known = {
        (log, segment): (size, changed)
        for log, segment, size, changed in select_rows(database, "select * from source")
    }
    stale: list[tuple[Path, Segment, int, int]] = []
    for folder in ledgers:
        for segment in segments.listed(folder):
            stat = segment.path.stat()
            stamp = (stat.st_size, stat.st_mtime_ns)
            if known.pop((str(folder), segment.first), None) != stamp:
                stale.append((folder, segment, *stamp))
    for log, first in known:  # removed meanwhile: it is not forgotten here before a rebuild
        database.execute("delete from source where log = ? and segment = ?", [log, first])
    bar, show = console.progress_bar("index", sum(size for _, _, size, _ in stale))
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
        packing = "gzip" if segment.packed else "uncompressed"
        values = [log, folder.name, first, str(segment.path), packing]
        database.execute(_LOAD, values)
        counted = "select count(*) from record where log = ? and segment = ?"
        found = database.execute(counted, [log, first]).fetchall()[0][0]
        with segment.open() as file:
            lines = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
        if found < lines:
            database.execute("rollback")
            wrong = f"{lines - found} of its lines are no records, `ssps audit verify` names them"
            raise console.fault(str(segment.path), "", wrong)
    database.execute("insert into source values (?, ?, ?, ?)", [log, first, size, changed])
    database.execute("commit")
