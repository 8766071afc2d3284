"""Reads the rows of a snapshot's Parquet file, and writes them as lines of a batch.

The portal starts a process for each file that it reads (portal/data/numbers/parquet), which imports
this module. So it must not import SQLAlchemy, which takes longer than reading.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb

from config.snapshot import AGGREGATES, VOTES

Rows = Callable[[], Iterator[Sequence[Any]]]
_ROWS_A_FETCH = 5000


def parquet_columns(database: duckdb.DuckDBPyConnection, parquet: Path) -> list[str]:
    """Return the names of the columns of a snapshot's Parquet file."""
    described = database.execute(f"DESCRIBE SELECT * FROM {quoted(parquet)}").fetchall()
    return [row[0] for row in described]


def read_parquet(
    database: duckdb.DuckDBPyConnection, parquet: Path, condition: str = "true"
) -> Iterator[Sequence[Any]]:
    """Yield the rows of a snapshot's Parquet file that satisfy an SQL condition, times as text."""
    shown = ", ".join(
        "strftime(zaman AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%SZ') AS zaman"
        if column == "zaman"
        else f'"{column}"'
        for column in parquet_columns(database, parquet)
    )
    query = f"SELECT {shown} FROM {quoted(parquet)} WHERE {condition}"
    found = database.execute(query)
    while part := found.fetchmany(_ROWS_A_FETCH):
        yield from part


def quoted(path: Path) -> str:
    """Return the name of a file as a text of SQL, in quotes."""
    return "'" + str(path).replace("'", "''") + "'"


def ndjson_lines(columns: Sequence[str], rows: Rows, name: str) -> Iterator[bytes]:
    """Yield the rows of a snapshot's table, `mv` or `mv-birlestirme`, as lines of a batch."""
    secim = name.removesuffix(AGGREGATES)
    votes = [(n, c.removeprefix(VOTES)) for n, c in enumerate(columns) if c.startswith(VOTES)]
    others = [(n, c) for n, c in enumerate(columns) if not c.startswith(VOTES)]
    for row in rows():
        line: dict[str, Any] = {"secim": secim}
        line |= {column: row[n] for n, column in others if row[n] not in (None, "")}
        line.setdefault("neden", "")
        line["oylar"] = {option: row[n] for n, option in votes if row[n] is not None}
        yield json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
