"""Copies catalog and results from one database to another, and compares what was copied.

    sqlite                          state/catalog.sqlite and state/results.sqlite of the site
    postgresql+psycopg://…          the schemas `catalog` and `results`

Step 1  No publisher may run: the ledgers of filing and results stay locked until the end.
Step 2  The target must have no row. Tables that PostgreSQL lacks are made.
Step 3  Every table is read in the order of its key and written. A table that an earlier version
        did not have is empty.
Step 4  Every table is read from both databases in the order of its key; the number of rows and the
        SHA-256 of all values must be the same.
Step 5  Only then the copy is committed, or in SQLite renamed to its final name.

If it is interrupted, or PostgreSQL goes away, the target is as it was; in SQLite there may be the
new results without a catalog. The source is never changed. PostgreSQL cannot keep the character NUL
in a text, which only a row of a batch that was not accepted may have: it becomes U+FFFD there, and
the copy is compared with that.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from config import times
from config.fault import Fault, Faults
from config.site import (
    CATALOG,
    FILING,
    LEDGERS,
    RESULTS_DATABASE,
    RESULTS_LEDGER,
    ledgers_of_kind,
)
from keys.files import sync
from keys.folder_lock import FolderLock
from keys.operations import server_state
from publisher import migrations
from publisher.catalog import tables as catalog_tables
from publisher.database import (
    SQLITE,
    Unreachable,
    changing_tables,
    exists,
    in_schema,
    logs_of,
    lost,
    reading,
    table_names,
    writing,
    writing_engine,
)
from publisher.results import tables as results_tables

_ROWS_A_FETCH = 2000
_NEW = ".new"
_TABLES = {"catalog": catalog_tables.METADATA, "results": results_tables.METADATA}
_FILES = {"catalog": CATALOG, "results": RESULTS_DATABASE}

Progress = Callable[[str, int], None]  # name of the table, how many of its rows are done


class TableCopy(NamedTuple):
    """One table that was copied: its schema and name, its rows, and the SHA-256 of their values."""

    name: str
    rows: int
    sha256: str


class Place(NamedTuple):
    """Where both databases are: in a PostgreSQL, or in files of the site if `url` is empty."""

    site: Path
    url: str = ""
    password_file: Path | None = None

    def __str__(self) -> str:
        return sa.make_url(self.url).render_as_string() if self.url else SQLITE

    def of(self, schema: str, suffix: str = "") -> sa.URL:
        """Return the URL of one of the two databases."""
        if self.url:
            return in_schema(self.url, self.password_file, schema)
        return sa.URL.create(SQLITE, database=f"{self.site / _FILES[schema]}{suffix}")


@contextmanager
def no_publisher(site: Path) -> Iterator[None]:
    """Keep publisher and results process from starting; raise Faults if one runs."""
    wrong = "the publisher runs, stop it first: `ssps publish`, or `ssps run`"
    # One that reads for another host has no ledger open, and may be elected.
    if hosts := [host for _, host in server_state.running(site, server_state.PUBLISH) if host]:
        raise Faults([Fault(str(LEDGERS / FILING), "", f"{wrong}, on {', '.join(hosts)}")])
    with ExitStack() as stack:
        kinds = (FILING, RESULTS_LEDGER)
        for name in chain(*(ledgers_of_kind(site / LEDGERS, kind) for kind in kinds)):
            folder = site / LEDGERS / name
            try:
                stack.callback(FolderLock(folder).close)
            except FileNotFoundError:
                continue  # no publisher has ever run
            except BlockingIOError:
                raise Faults([Fault(str(LEDGERS / name), "", wrong)]) from None
        yield


def count(place: Place) -> dict[str, int]:
    """Return how many rows each table has; nothing for a database that does not exist yet."""
    found = {}
    for schema, tables in _TABLES.items():
        if exists(place.of(schema)):
            with reading(place.of(schema)) as connection:
                there = table_names(connection)
                for table in tables.sorted_tables:
                    if table.name in there:
                        query = sa.select(sa.func.count()).select_from(table)
                        found[f"{schema}.{table.name}"] = connection.scalar(query) or 0
    return found


def check_empty(place: Place) -> None:
    """Raise Faults if a database has rows that a copy would mix with its own."""
    for name, rows in count(place).items():
        if rows and name != "catalog.total":  # an opened catalog has totals of 0
            wrong = f"{name} has {rows} rows already: a copy needs an empty database"
            raise Faults([Fault(str(place), "", wrong)])


def copy(
    source: Place, target: Place, now: datetime, progress: Progress = lambda name, done: None
) -> list[TableCopy]:
    """Copy both databases and return what was copied; the caller holds `no_publisher`.

    Raises Faults if the target has rows, or if the copy differs, and Unreachable if PostgreSQL goes
    away.
    """
    check_empty(target)
    copied = []
    with _target(target, now) as (into, finish):
        for schema, tables in _TABLES.items():
            if exists(source.of(schema)):
                with into(schema) as new:
                    copied += copy_tables(source.of(schema), new, schema, tables, progress)
        finish()
    return copied


def copy_tables(
    source: sa.URL,
    new: sa.Connection,
    schema: str,
    tables: sa.MetaData,
    progress: Progress = lambda name, done: None,
) -> list[TableCopy]:
    """Fill the empty tables of one database; `new` is a connection in a transaction."""
    copied = []
    if source.drivername == SQLITE:
        writing_engine(source, tables).dispose()  # adds what an earlier version made without
    with reading(source) as old:
        there = table_names(old)
        if schema == "catalog":
            new.execute(sa.delete(catalog_tables.total))  # those of 0 in an empty catalog
        known = [table for table in tables.sorted_tables if table.name in there]
        for table in known:
            _fill(old, new, table, progress)
        for table in known:
            wanted, found = _digest(old, table), _digest(new, table)
            if wanted != found:
                wrong = f"{schema}.{table.name} was not copied: {wanted[0]} rows, then {found[0]}"
                raise Faults([Fault("copy", "", f"{wrong}, or other values; nothing has changed")])
            copied.append(TableCopy(f"{schema}.{table.name}", *found))
    return copied


@contextmanager
def _target(
    place: Place, now: datetime
) -> Iterator[tuple[Callable[[str], Any], Callable[[], None]]]:
    """Open a target: yield what opens one of its databases, and what makes the copy final."""
    if place.url:
        with changing_tables(place.of("catalog")) as connection:
            for schema in migrations.SCHEMAS:
                migrations.migrate(connection, schema, times.format_stored(now))
            with connection.begin() as transaction:

                @contextmanager
                def in_transaction(schema: str) -> Iterator[sa.Connection]:
                    connection.execute(sa.text(f'SET LOCAL search_path = "{schema}"'))
                    yield connection

                def commit() -> None:
                    try:
                        transaction.commit()
                    except Unreachable as error:
                        wrong = (
                            f"{error.strerror}, while the copy was made final: it has all rows, "
                        )
                        advice = "or none. Give the command again: it says which"
                        raise Faults([Fault("copy", "", wrong + advice)]) from error

                yield in_transaction, commit
        return

    @contextmanager
    def in_new_file(schema: str) -> Iterator[sa.Connection]:
        with writing(place.of(schema, _NEW), _TABLES[schema]) as connection:
            yield connection

    def rename() -> None:
        # The catalog last: a site without one has nothing that a publisher would go on with.
        for file in map(place.site.joinpath, reversed(_FILES.values())):
            new = file.with_name(file.name + _NEW)
            if new.exists():
                sync(new)
                # A log that is left of another file would hide the rows of this one.
                for left in logs_of(file):
                    left.unlink(missing_ok=True)
                new.replace(file)
                sync(file.parent)

    for file in _FILES.values():
        (place.site / f"{file}{_NEW}").unlink(missing_ok=True)
    yield in_new_file, rename


def _fill(old: sa.Connection, new: sa.Connection, table: sa.Table, progress: Progress) -> None:
    done = 0
    for part in _parts(old, table):
        try:
            if new.dialect.name == SQLITE:
                new.execute(sa.insert(table), [row._asdict() for row in part])
            else:
                _write(new, table, part)
        except OSError:
            raise
        except Exception as error:  # of the driver, which has no class that this module may import
            if gone := lost(new, error):
                raise gone from error
            cause = getattr(error, "orig", error)
            raise Faults([Fault("copy", table.name, " ".join(str(cause).split()))]) from error
        done += len(part)
        progress(table.name, done)
    if new.dialect.name != SQLITE and done:
        # So that the next row which gets its number from PostgreSQL gets a new one.
        (key, *others) = table.primary_key.columns
        if not others and isinstance(key.type, sa.Integer):
            highest = f"(SELECT max({key.name}) FROM {table.name})"
            sequence = f"pg_get_serial_sequence('{table.name}', '{key.name}')"
            new.execute(sa.text(f"SELECT setval({sequence}, {highest})"))


def _write(new: sa.Connection, table: sa.Table, rows: Any) -> None:
    """Write rows with COPY, which is many times faster than INSERT."""
    driver: Any = new.connection.driver_connection
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    with (
        driver.cursor() as cursor,
        cursor.copy(f'COPY "{table.name}" ({names}) FROM STDIN') as writer,
    ):
        for row in rows:
            writer.write_row([_kept(value) for value in row])


def _parts(connection: sa.Connection, table: sa.Table) -> Iterator[Any]:
    query = sa.select(table).order_by(*table.primary_key.columns)
    found = connection.execute(query, execution_options={"yield_per": _ROWS_A_FETCH})
    yield from found.partitions()


def _digest(connection: sa.Connection, table: sa.Table) -> tuple[int, str]:
    digest, rows = sha256(), 0
    for part in _parts(connection, table):
        rows += len(part)
        for row in part:
            digest.update(repr([_kept(value) for value in row]).encode("utf-8", "surrogatepass"))
    return rows, digest.hexdigest()


def _kept(value: object) -> object:
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value
