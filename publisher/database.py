"""Opens the publisher's databases: to write, or beside the process that writes.

The catalog and the results are SQLite files by default. Their writer uses a write-ahead log, so
that other processes can read at the same time, and syncs each commit.

What a page of the web site or a check asks very often goes through a `Reader`, which has no layer
between it and SQLite. Its queries are written in the SQL that SQLite and PostgreSQL have in common.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import sqlalchemy as sa


class Database:
    """One connection, for one thread. Changes become durable with `commit`. Close it after use."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._connection = engine.connect()

    def close(self) -> None:
        """Close the connection and drop changes that were not committed."""
        self._connection.close()
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def connection(self) -> sa.Connection:
        """The connection, for queries of other modules."""
        return self._connection

    def commit(self) -> None:
        """Make all changes since the last commit durable."""
        self._connection.commit()


class Rows(Protocol):
    """The rows that a query found, each a tuple."""

    def __iter__(self) -> Iterator[Any]:
        """Yield the rows that were not fetched yet."""

    def fetchone(self) -> Any:
        """Return the next row, None if there is none."""

    def fetchmany(self, size: int = ..., /) -> Sequence[Any]:
        """Return up to so many of the next rows."""

    def fetchall(self) -> Sequence[Any]:
        """Return all rows that were not fetched yet."""

    def close(self) -> object:
        """Drop the rows that were not fetched."""


class Reader:
    """A connection that only reads. In a query each `?` takes one of the values."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, query: str, values: Sequence[object] = ()) -> Rows:
        """Return the rows of a query."""
        return self._connection.execute(query, values)

    def tables(self) -> frozenset[str]:
        """Return the names of the tables that exist; an earlier version made fewer."""
        rows = self.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return frozenset(name for (name,) in rows)

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """Let all queries in the `with` block see the database as of the same moment."""
        self.execute("BEGIN")
        try:
            yield
        finally:
            self.execute("COMMIT")

    @staticmethod
    def elements(column: str) -> str:
        """Return the table that has the texts of a JSON array as its column `value`."""
        return f"json_each({column})"


@contextmanager
def open_reader(file: Path) -> Iterator[Reader | None]:
    """Open a database to read it during a `with` statement; None if it does not exist yet."""
    if not file.exists():
        yield None
        return
    name = f"{file.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(name, uri=True, check_same_thread=False)) as connection:
        yield Reader(connection)


def writing_engine(url: sa.URL, tables: sa.MetaData) -> sa.Engine:
    """Return an engine for the process that writes; create tables and indexes that are missing."""
    engine = sa.create_engine(url)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _set_pragmas)
    tables.create_all(engine)
    for table in tables.sorted_tables:
        for index in table.indexes:
            index.create(engine, checkfirst=True)  # an earlier version made the table without it
    return engine


def read_only_engine(file: Path) -> sa.Engine:
    """Return an engine that only reads an SQLite file, which another process may write to."""
    name = f"{file.absolute().as_uri()}?mode=ro"
    return sa.create_engine(
        "sqlite://", creator=lambda: sqlite3.connect(name, uri=True), poolclass=sa.NullPool
    )


def _set_pragmas(connection: sqlite3.Connection, _: object) -> None:
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")
