"""Replaces a database by one that was rebuilt beside it, so that the site has one of the two.

The new one is written as `<name>.new` and then renamed over the old one, of which a copy stays as
`<name>.before`, or `<name>.before-2` if that is there: what is kept is never replaced. If the
process is killed, the site has the old database or the new one. No process may write to it. In
PostgreSQL the rows are replaced in one transaction, and the copy of the old ones is that file too.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

import sqlalchemy as sa

from config.fault import Fault, Faults
from keys.files import sync
from publisher.database import SQLITE, logs_of, writing
from publisher.fsck import copying


def new_file(path: Path) -> Path:
    """Return the file in which a database is rebuilt."""
    return path.with_name(f"{path.name}.new")


def kept_file(path: Path, number: int = 1) -> Path:
    """Return the copy of the database that the rebuilt one with that number has replaced."""
    return path.with_name(f"{path.name}.before" + (f"-{number}" if number > 1 else ""))


def clear(path: Path) -> Path:
    """Remove what an earlier rebuild has left; return the file for the new one."""
    new = new_file(path)
    for left in (new, *logs_of(new)):
        left.unlink(missing_ok=True)
    return new


def put_in_place(
    place: sa.URL,
    path: Path,
    schema: str,
    tables: sa.MetaData,
    step: Callable[[str], None] = lambda step: None,
) -> None:
    """Replace the database at `place` by the one that was rebuilt beside the file `path`.

    `step` is called after each step. Call `move_log_into` first.
    """
    if place.drivername != SQLITE:
        _put_into_postgresql(place, path, schema, tables)
        return
    new = new_file(path)
    sync(new)
    if path.exists():
        _keep(path)
        step("kept")
    # What a log has belongs to the old one, and must not be found beside the new one.
    for left in logs_of(path):
        left.unlink(missing_ok=True)
    step("logs removed")
    new.replace(path)
    sync(path.parent)
    step("replaced")


def _put_into_postgresql(place: sa.URL, path: Path, schema: str, tables: sa.MetaData) -> None:
    """Keep a copy of the old rows as an SQLite file, and replace all of them at once."""
    with writing(_sqlite(_not_kept_yet(path)), tables) as connection:
        copying.copy_tables(place, connection, schema, tables)
    with writing(place, tables) as connection:
        for table in reversed(tables.sorted_tables):
            connection.execute(sa.delete(table))
        copying.copy_tables(_sqlite(new_file(path)), connection, schema, tables)
    clear(path)


def _sqlite(file: Path) -> sa.URL:
    return sa.URL.create(SQLITE, database=str(file))


def _keep(path: Path) -> None:
    """Link a database to its next `.before`, unless an interrupted run has done it."""
    if not any(kept.samefile(path) for kept in path.parent.glob(f"{kept_file(path).name}*")):
        _not_kept_yet(path).hardlink_to(path)


def _not_kept_yet(path: Path) -> Path:
    return next(file for n in count(1) if not (file := kept_file(path, n)).exists())


def move_log_into(path: Path) -> None:
    """Move the newest rows of an SQLite database from its log into its file.

    Raises Faults if a process that reads it keeps that from being done.
    """
    if not path.exists():
        return
    busy = 0
    with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as connection:  # it may be damaged
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        wrong = "is being read: stop the portal and the staff site, and try again"
        raise Faults([Fault(path.name, "", wrong)])
