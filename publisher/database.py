"""Opens the publisher's databases: to write, or beside the process that writes.

The catalog and the results are SQLite files by default. Their writer uses a write-ahead log, so
that other processes can read at the same time, and syncs each commit.
"""

import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Self

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
