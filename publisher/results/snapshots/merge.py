"""The process that writes the tables of a snapshot: the one before, with the rows that changed.

    python -m publisher.results.snapshots.merge PARENT < request

The request is described in publisher/results/snapshots/row_files. Each table becomes
`<table>.parquet`, durable; stdout then says how many rows each has: `{"mv": 201000}`. It ends with
its parent. Exit code 1 if the disk failed; the cause is the last line on stderr.

DuckDB gets MEMORY, and keeps what does not fit on the disk in `.merge.new` until the table is done.
If that is too little, it gets as much as it takes.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import duckdb

from config.snapshot import PARQUET, VOTES
from keys.files import sync
from keys.kernel.process import end_with_parent
from publisher.results.snapshots.row_files import (
    NO_NUMBER,
    ChangedTable,
    MergeRequest,
    RowFile,
    columns_of,
    kind_of,
)
from publisher.results.snapshots.rows import parquet_columns, quoted

QUIET = "SET enable_progress_bar = false"  # else DuckDB draws one on stdout after two seconds
MEMORY = "256MB"
_KEY = "cevre, kurul, sandik, belge"
_ROWS_A_GROUP = 10_240
_MAX_LINE = 1 << 16  # bytes, of a file of rows
_CSV_BUFFER = 1 << 20  # bytes that DuckDB reads at a time
_MODE = 0o444


def merge(request: MergeRequest) -> dict[str, int]:
    """Write the tables; return how many rows each has."""
    try:
        return _merge(request, MEMORY)
    except duckdb.OutOfMemoryException:
        for table in request.tables:
            (request.folder / f"{table.name}{PARQUET}").unlink(missing_ok=True)
        return _merge(request, None)


def _merge(request: MergeRequest, memory: str | None) -> dict[str, int]:
    with duckdb.connect() as database:
        spilled = quoted(request.folder.with_name(".merge.new"))
        for setting in (
            QUIET,
            "SET threads = 1",
            # It takes a file of rows for small, and would keep all of it in memory for a join.
            "SET disabled_optimizers = 'build_side_probe_side'",
            f"SET temp_directory = {spilled}",
            *([f"SET memory_limit = '{memory}'"] if memory else []),
        ):
            database.execute(setting)
        return {table.name: _write(database, request, table) for table in request.tables}


def _write(database: duckdb.DuckDBPyConnection, request: MergeRequest, table: ChangedTable) -> int:
    before = request.before / f"{table.name}{PARQUET}" if request.before else None
    if before is not None and not before.exists():
        before = None
    written = _options_of(database, before)
    known = {option for file in table.files for option in file.options}
    # An option that is not on the ballot any more keeps its column if it ever got a vote.
    left = (written | known) - set(table.options)
    options = (*table.options, *sorted(left & _with_votes(database, before, table.files, left)))
    columns = ", ".join(f'"{column}"' for column in columns_of(options))
    target = request.folder / f"{table.name}{PARQUET}"
    database.execute(f"CREATE OR REPLACE TEMP TABLE newest AS {_newest_versions(table.files)}")
    rows = database.execute(
        f"COPY (SELECT {columns} FROM ({_newest(before, table.files, options)}) ORDER BY {_KEY}) "
        f"TO {quoted(target)} "
        f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROWS_A_GROUP})"
    ).fetchone()
    target.chmod(_MODE)
    sync(target)
    return int(rows[0]) if rows else 0


def _newest_versions(files: Iterable[RowFile]) -> str:
    """Return a query for the newest version of each place in files of rows."""
    keys = [*_KEY.split(", "), "surum"]
    empty = f"SELECT {', '.join(f'NULL::{kind_of(key)} AS {key}' for key in keys)} WHERE false"
    found = _union([empty, *(_rows(file, keys) for file in files)])
    return f"SELECT {_KEY}, max(surum) AS surum FROM ({found}) GROUP BY {_KEY}"


def _newest(before: Path | None, files: Iterable[RowFile], options: tuple[str, ...]) -> str:
    """Return a query for the newest row of each place, with the table `newest`."""
    named = columns_of(options)
    empty = ", ".join(f'NULL::{kind_of(column)} AS "{column}"' for column in named)
    parts = [f"SELECT {empty} WHERE false"]  # so that each column is there
    for file in files:
        rows = _rows(file, columns_of(file.options))
        parts.append(f"SELECT * FROM ({rows}) SEMI JOIN newest USING ({_KEY}, surum)")
    if before is not None:
        parts.append(f"SELECT * FROM {quoted(before)} ANTI JOIN newest USING ({_KEY})")
    return _union(parts)


def _rows(file: RowFile, columns: list[str]) -> str:
    """Return a query for some columns of a file of rows."""
    kinds = ", ".join(f"'{name}': '{kind_of(name)}'" for name in columns_of(file.options))
    named = ", ".join(f'"{column}"' for column in columns)
    return (
        f"SELECT {named} FROM read_csv({quoted(file.path)}, columns = {{{kinds}}}, "
        f"header = false, nullstr = '{NO_NUMBER}', auto_detect = false, delim = ',', "
        "quote = '\"', escape = '\"', parallel = false, "
        f"max_line_size = {_MAX_LINE}, buffer_size = {_CSV_BUFFER})"
    )


def _union(queries: Iterable[str]) -> str:
    return " UNION ALL BY NAME ".join(queries)


def _options_of(database: duckdb.DuckDBPyConnection, parquet: Path | None) -> set[str]:
    if parquet is None:
        return set()
    columns = parquet_columns(database, parquet)
    return {name.removeprefix(VOTES) for name in columns if name.startswith(VOTES)}


def _with_votes(
    database: duckdb.DuckDBPyConnection,
    before: Path | None,
    files: Iterable[RowFile],
    options: set[str],
) -> set[str]:
    """Return which of these options some row states."""
    found: set[str] = set()
    queries = [(f"FROM {quoted(before)}", _options_of(database, before))] if before else []
    queries += [
        (f"FROM ({_rows(file, columns_of(file.options))})", set(file.options)) for file in files
    ]
    for source, stated in queries:
        asked = sorted(options & stated - found)
        if asked:
            counts = ", ".join(f'count("{VOTES}{option}")' for option in asked)
            row = database.execute(f"SELECT {counts} {source}").fetchone() or ()
            found.update(option for option, count in zip(asked, row, strict=True) if count)
    return found


def main(parent: int) -> int:
    """Merge what stdin asks for."""
    end_with_parent(parent)
    try:
        rows = merge(MergeRequest.parse(sys.stdin.buffer.read()))
    except (OSError, duckdb.Error) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
