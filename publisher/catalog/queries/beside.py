"""Copies rows of a catalog in PostgreSQL into SQLite, beside the registry.

The registry is an SQLite file, and what is expected and what is filed are compared in one query.
If the catalog is an SQLite file too, it is only attached.
"""

import sqlite3
from collections.abc import Sequence

from publisher.database import Reader

COLUMNS = {
    "filing": (
        "id", "cevre", "kurul", "sandik", "secim", "belge", "page", "version", "karekod", "path",
        "seq",
    ),
    "absence": ("id", "cevre", "kurul", "sandik", "karekod", "withdrawn"),
}  # fmt: skip
_PLACE = "cevre, kurul, sandik, secim, belge, page"


def make_tables(database: sqlite3.Connection, schema: str) -> None:
    """Create the empty tables in an attached database."""
    for table, columns in COLUMNS.items():
        key, *others = columns
        names = ", ".join([f"{key} PRIMARY KEY", *others])
        database.execute(f"CREATE TABLE {schema}.{table} ({names})")
    database.execute(f"CREATE INDEX {schema}.filing_place ON filing ({_PLACE})")


def copy_rows(
    catalog: Reader,
    database: sqlite3.Connection,
    table: str,
    condition: str = "true",
    values: Sequence[object] = (),
) -> None:
    """Copy the rows that satisfy a condition; rows that were copied before are replaced."""
    columns = COLUMNS[table]
    query = f"SELECT {', '.join(columns)} FROM {table} AS one WHERE {condition}"
    marks = ", ".join("?" * len(columns))
    rows = catalog.stream(query, values)
    database.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", rows)
    database.commit()
