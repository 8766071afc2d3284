"""Opens the publisher's databases: to write, or beside the process that writes.

Catalog and results are two SQLite files by default. Their writer uses a write-ahead log, so that
other processes can read at the same time, and syncs each commit. If `[catalog] url` of site.toml
names a PostgreSQL database, they are two schemas in it, `catalog` and `results`, with the same
tables (publisher/migrations); each connection has one of the two as its search path.

What a page of the web site or a check asks very often goes through a `Reader`, which has no layer
between it and SQLite. Its queries are written in the SQL that SQLite and PostgreSQL have in common.

A PostgreSQL that cannot be reached, goes away later or is silent (publisher/postgresql), has no
room, is read-only or does not permit what is asked, is an OSError, `Unreachable`, as a disk that
cannot be read or written is. After it nothing is left to do but open again.
"""

import os
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, cast

import sqlalchemy as sa
from sqlalchemy.schema import CreateColumn

from config import load
from config.settings import CatalogSettings
from config.site import SITE_TOML
from keys.kernel.connections import Target
from publisher import migrations

# The database or its disk does not work: what was asked is not to blame, and may be asked again.
UNAVAILABLE = (
    sa.exc.OperationalError,
    sa.exc.InternalError,
    sa.exc.PendingRollbackError,
    sa.exc.TimeoutError,
)
_ADVICE = {
    "25006": "it is a replica, or set so: name the server that accepts changes",
    "42501": "let this role own the database and its schemas, or give it that right",
}
SQLITE = "sqlite"
_pools: dict[tuple[sa.URL, int], sa.Engine] = {}
_POOL_SECONDS = 5.0  # the longest wait for a connection that another thread uses
_ROWS_A_FETCH = 5000
_PORT = 5432
_SOCKET_FOLDERS = ("/run/postgresql", "/var/run/postgresql", "/tmp")  # noqa: S108 - those of libpq
# A connection over which nothing arrives is given up after ten seconds. The kernel of a server that
# is frozen still answers; publisher/postgresql notices that.
_CONNECTING = {
    "application_name": "ssps",
    "connect_timeout": "5",
    "keepalives_idle": "4",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
# What the server may be set to for other applications does not hold for our sessions: the publisher
# waits for pages with a transaction open, which has changed nothing; a copy of a table takes long,
# and a silent server is given up all the same (publisher/postgresql); a commit waits for the disks
# of server and replicas. The server too gives up a client that vanished, so that its locks do not
# stop the next publisher for hours.
_OPTIONS = (
    "-cidle_in_transaction_session_timeout=0 -cidle_session_timeout=0 -cstatement_timeout=0 "
    "-csynchronous_commit=on -ctcp_keepalives_idle=10 "
    "-ctcp_keepalives_interval=5 -ctcp_keepalives_count=4 -ctcp_user_timeout=30000"
)


class Unreachable(OSError):
    """PostgreSQL does not answer, or cannot or may not do what is asked; `strerror` says why."""

    def __init__(self, cause: str) -> None:
        super().__init__(0, cause, f"{SITE_TOML}: catalog.url")

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"

    def __reduce__(self) -> tuple[type["Unreachable"], tuple[str]]:
        """Let a broker send it to another process (pickle)."""
        return type(self), (self.strerror or "",)


def cause_of(error: Exception) -> str:
    """Return what the database or the disk said, without the statement that failed."""
    return str(error.orig if isinstance(error, sa.exc.DBAPIError) else error)


def servers(url: sa.URL) -> list[Target]:
    """Return the servers that a URL names, in order: a host and a port, or a UNIX socket."""
    _, options = url.get_dialect()().create_connect_args(url)
    hosts = str(options.get("hostaddr") or options.get("host") or "").split(",")
    ports = str(options.get("port") or _PORT).split(",")
    found = []
    for number, host in enumerate(hosts):
        port = int(ports[number if len(ports) > 1 else 0] or _PORT)
        if host and not host.startswith("/"):
            found.append(Target(host, port))
            continue
        for folder in [host] if host else _SOCKET_FOLDERS:
            found.append(Target(f"{folder}/.s.PGSQL.{port}", 0))
    return found


def addresses(server: Target) -> list[Target]:
    """Return the addresses of a server; none if its name is not known now."""
    if server.port == 0:
        return [server]
    try:
        found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return list(dict.fromkeys(Target(str(each[4][0]), server.port) for each in found))


def for_reading(stated: CatalogSettings, schema: str) -> sa.URL:
    """Return the URL with which a process reads a schema that has no other way to the network."""
    reader = stated.for_reading
    url = in_schema(reader.url, reader.password_file, schema)
    found = [addresses(each) for each in servers(url)]
    if not all(found):
        return url  # libpq says which name it cannot look up
    known = ["" if each[0].port == 0 else each[0].host for each in found]
    return url.update_query_dict({"hostaddr": ",".join(known)}) if any(known) else url


def files_to_connect(stated: CatalogSettings) -> list[Path]:
    """Return the files that libpq reads to connect, which may not exist."""
    home = Path.home()
    query = sa.make_url(stated.url).query
    named = [
        query[key]
        for key in ("passfile", "sslrootcert", "sslcert", "sslkey", "sslcrl")
        if key in query
    ]
    password = stated.password_file or os.environ.get("PGPASSFILE") or home / ".pgpass"
    usual = ("root.crt", "postgresql.crt", "postgresql.key", "root.crl")
    return [
        Path(password),
        *(Path(str(each)) for each in named),
        *(home / ".postgresql" / each for each in usual),
    ]


def location(site: Path, file: Path, schema: str) -> sa.URL:
    """Return the URL of a database of a site: its SQLite file, or its schema in PostgreSQL."""
    stated = load.catalog(site)
    if not stated.url:
        return sa.URL.create(SQLITE, database=str(site / file))
    return in_schema(stated.url, stated.password_file, schema)


def name_of(site: Path, file: Path) -> str:
    """Return what messages call a database of a site: its file, or its schema in PostgreSQL."""
    return f"PostgreSQL, schema {file.stem}" if load.catalog(site).url else str(file)


def in_schema(stated: str, password_file: Path | None, schema: str) -> sa.URL:
    """Return a stated URL of PostgreSQL with what each connection needs, for one schema."""
    url = sa.make_url(stated)
    mine = {"options": f"{_OPTIONS} -csearch_path={schema}", **_CONNECTING}
    if password_file is not None:
        mine["passfile"] = str(password_file)
    return url.set(query={**mine, **url.query, "options": mine["options"]})


class Database:
    """One connection, for one thread. Changes become durable with `commit`. Close it after use."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._connection = connect(engine)
        # Is called in each transaction before it is committed; what it raises keeps it from that.
        self.before_commit: Callable[[sa.Connection], object] = lambda connection: None

    def close(self) -> None:
        """Close the connection and drop changes that were not committed."""
        self._connection.close()
        _release(self._engine)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def closed_on_error(self) -> Iterator[None]:
        """Close it if the `with` block raises, which prepares it for use."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    @property
    def connection(self) -> sa.Connection:
        """The connection, for queries of other modules."""
        return self._connection

    def commit(self, *, durable: bool = True) -> None:
        """Make all changes since the last commit durable.

        If they need not be `durable`, PostgreSQL does not wait for its disk and its replicas: if it
        dies within the next second, they may be lost, but nothing that is committed later survives
        without them.
        """
        self.before_commit(self._connection)
        if not durable and self._engine.dialect.name != SQLITE:
            self._connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
        self._connection.commit()


class Rows(Protocol):
    """The rows that a query found, each a tuple."""

    def __iter__(self) -> Iterator[Any]:
        """Yield the rows that were not fetched yet."""

    def fetchone(self) -> Any:
        """Return the next row, None if there is none."""

    def fetchall(self) -> Sequence[Any]:
        """Return all rows that were not fetched yet."""


class Reader:
    """A connection that only reads. In a query each `?` takes one of the values."""

    def __init__(self, connection: sqlite3.Connection | sa.Connection) -> None:
        self._connection = connection
        self._in_transaction = False
        self._columns: set[tuple[str, str]] = set()  # that are known to exist

    def execute(self, query: str, values: Sequence[object] = ()) -> Rows:
        """Return the rows of a query."""
        if isinstance(self._connection, sqlite3.Connection):
            return self._connection.execute(query, values)
        found = self._connection.exec_driver_sql(_for_psycopg(query), tuple(values))
        # Plain tuples; the driver has fetched all of them already.
        return cast(Rows, found.cursor)

    def stream(self, query: str, values: Sequence[object] = ()) -> Iterator[Any]:
        """Yield the rows of a query that may have millions, without holding them in memory."""
        if isinstance(self._connection, sqlite3.Connection):
            yield from self._connection.execute(query, values)
        elif not self._in_transaction:  # which a cursor on the server needs
            with self.one_moment():
                yield from self.stream(query, values)
        else:
            options = {"stream_results": True, "max_row_buffer": _ROWS_A_FETCH}
            text = _for_psycopg(query)
            found = self._connection.exec_driver_sql(text, tuple(values), execution_options=options)
            with closing(found):
                yield from map(tuple, found)

    def tables(self) -> frozenset[str]:
        """Return the names of the tables that exist; an earlier version made fewer."""
        query = "SELECT name FROM sqlite_master WHERE type = 'table'"
        if not isinstance(self._connection, sqlite3.Connection):
            query = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
        return frozenset(name for (name,) in self.execute(query))

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """Let all queries in the `with` block see the database as of the same moment."""
        if isinstance(self._connection, sqlite3.Connection):
            self.execute("BEGIN")
        else:
            self._connection.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        self._in_transaction = True
        try:
            yield
        finally:
            self._in_transaction = False
            if isinstance(self._connection, sqlite3.Connection):
                self.execute("COMMIT")
            else:
                self._connection.exec_driver_sql("ROLLBACK")

    def has_column(self, table: str, column: str) -> bool:
        """Say whether a table has a column; in PostgreSQL it has those of this version."""
        if (table, column) not in self._columns and isinstance(
            self._connection, sqlite3.Connection
        ):
            found = self.execute(f"PRAGMA table_info({table})").fetchall()
            self._columns |= {(table, name) for _, name, *_ in found}
            return (table, column) in self._columns
        return True

    def elements(self, column: str) -> str:
        """Return the table that has the texts of a JSON array as its column `value`."""
        if isinstance(self._connection, sqlite3.Connection):
            return f"json_each({column})"
        return f"json_array_elements_text({column}::json) AS element(value)"


@contextmanager
def open_reader(url: sa.URL) -> Iterator[Reader | None]:
    """Open a database to read it during a `with` statement; None if it does not exist yet."""
    if url.drivername == SQLITE:
        file = Path(url.database or "")
        if not file.exists():
            yield None
            return
        name = f"{file.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(name, uri=True, check_same_thread=False)) as connection:
            yield Reader(connection)
        return
    with connect(_pool(url)) as connected:
        connected.execution_options(isolation_level="AUTOCOMMIT")
        reader = Reader(connected)
        yield reader if reader.tables() else None


def writing_engine(url: sa.URL, tables: sa.MetaData) -> sa.Engine:
    """Return an engine for the process that writes.

    In SQLite, create tables, columns and indexes that are missing. Raise Faults if the tables in
    PostgreSQL are not those of this version (`ssps catalog migrate`), Unreachable if it does not
    answer.
    """
    if url.drivername == SQLITE:
        engine = sa.create_engine(url)
        sa.event.listen(engine, "connect", _set_pragmas)
    else:
        engine = open_engine(url, pool_timeout=_POOL_SECONDS)
    try:
        if url.drivername == SQLITE:
            _make_missing(tables, engine)
        else:
            with connect(engine) as connection:
                migrations.check(connection)
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def writing(url: sa.URL, tables: sa.MetaData) -> Iterator[sa.Connection]:
    """Connect to write in one transaction; raises what `writing_engine` raises."""
    engine = writing_engine(url, tables)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _make_missing(tables: sa.MetaData, engine: sa.Engine) -> None:
    tables.create_all(engine)
    made = sa.inspect(engine)
    with engine.begin() as connection:
        for table in tables.sorted_tables:  # which an earlier version may have made
            there = {column["name"] for column in made.get_columns(table.name)}
            for column in table.columns:
                if column.server_default is not None and column.name not in there:
                    stated = CreateColumn(column).compile(engine)
                    connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {stated}")
            indexes = {i["name"]: i["column_names"] for i in made.get_indexes(table.name)}
            for index in table.indexes:
                if indexes.get(index.name) == [column.name for column in index.columns]:
                    continue
                index.drop(connection, checkfirst=True)
                index.create(connection)


def open_engine(url: sa.URL, **options: Any) -> sa.Engine:
    """Return an engine; it raises Unreachable if a server of PostgreSQL does not work."""
    engine = sa.create_engine(url, **options)
    if url.drivername == SQLITE:
        return engine
    from publisher import postgresql  # a site with SQLite needs no driver for it

    sa.event.listen(engine, "do_connect", postgresql.connect)
    sa.event.listen(engine, "handle_error", _name_what_the_server_lacks)
    return engine


def exists(url: sa.URL) -> bool:
    """Return whether a database exists; in PostgreSQL it does, with or without tables."""
    return url.drivername != SQLITE or Path(url.database or "").exists()


@contextmanager
def reading(url: sa.URL) -> Iterator[sa.Connection]:
    """Connect to a database that exists to read it, while another process may write to it."""
    engine = read_only_engine(url)
    try:
        with connect(engine) as connection:
            yield connection
    finally:
        _release(engine)


def read_only_engine(url: sa.URL) -> sa.Engine:
    """Return an engine that only reads a database, which another process may write to."""
    if url.drivername != SQLITE:
        return _pool(url)
    name = f"{Path(url.database or '').absolute().as_uri()}?mode=ro"
    return sa.create_engine(
        "sqlite://", creator=lambda: sqlite3.connect(name, uri=True), poolclass=sa.NullPool
    )


@contextmanager
def changing_tables(url: sa.URL) -> Iterator[sa.Connection]:
    """Connect to PostgreSQL once, to make or fill tables; raises Unreachable if it goes away."""
    with connect(open_engine(url, poolclass=sa.NullPool)) as connection:
        yield connection


def lost(connection: sa.Connection, error: Exception) -> Unreachable | None:
    """Return what to raise if the driver itself, without SQLAlchemy, found the server at fault."""
    driver: Any = None if connection.invalidated else connection.connection.driver_connection
    return _at_fault(error, is_lost=getattr(driver, "closed", False))


def table_names(connection: sa.Connection) -> set[str]:
    """Return the names of the tables that exist."""
    return set(sa.inspect(connection).get_table_names())


def connect(engine: sa.Engine) -> sa.Connection:
    """Connect to a database; raise Unreachable if PostgreSQL does not answer."""
    if engine.dialect.name == SQLITE:
        return engine.connect()
    with _attempts.of(engine.url):
        try:
            return engine.connect()
        except sa.exc.OperationalError as error:
            raise Unreachable(_one_line(error.orig)) from None
        except sa.exc.TimeoutError:
            raise Unreachable("all connections of this process are in use") from None


class _Attempts:
    """Lets only one thread at a time wait for a server that did not answer the last time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failed: dict[sa.URL, Unreachable] = {}
        self._trying: set[sa.URL] = set()

    @contextmanager
    def of(self, url: sa.URL) -> Iterator[None]:
        """Raise what the last attempt raised while another thread tries again."""
        server = url.set(query={"host": url.query.get("host", ())})
        with self._lock:
            failed = self._failed.get(server)
            if failed is not None:
                if server in self._trying:
                    raise Unreachable(failed.strerror or "")
                self._trying.add(server)
        try:
            yield
        except Unreachable as error:
            with self._lock:
                self._failed[server] = error
            raise
        else:
            with self._lock:
                self._failed.pop(server, None)
        finally:
            if failed is not None:
                with self._lock:
                    self._trying.discard(server)


_attempts = _Attempts()


def _name_what_the_server_lacks(context: sa.ExceptionContext) -> None:
    """Raise Unreachable if the server is gone, or does not do what is asked for a lasting cause."""
    if context.is_pre_ping:  # the pool itself replaces an idle connection that was lost
        return
    found = _at_fault(context.original_exception, is_lost=context.is_disconnect)
    if found is not None:
        if context.execution_context is not None and context.execution_context.cursor is not None:
            context.execution_context.cursor.close()  # SQLAlchemy leaves it open
        raise found


def _at_fault(error: Any, *, is_lost: bool) -> Unreachable | None:
    """Return what to raise if an error of the driver is not the fault of what was asked."""
    if advice := _advice_on(getattr(error, "sqlstate", None) or ""):
        return Unreachable(f"{error.diag.message_primary or _one_line(error)}: {advice}")
    return Unreachable(_one_line(error)) if is_lost else None


def _advice_on(sqlstate: str) -> str:
    """Return what to do about an error with that code (appendix A of the manual of PostgreSQL)."""
    if sqlstate.startswith("53"):  # no room on the disk, no memory, too many connections
        return "make room on the server of PostgreSQL"
    return _ADVICE.get(sqlstate, "")


def _one_line(error: BaseException | None) -> str:
    return " ".join(str(error).split())


def _pool(url: sa.URL) -> sa.Engine:
    """Return the connections for reading that all threads of this process share."""
    key = url, os.getpid()  # a forked process must not use them as well
    if key not in _pools:
        options = f"{url.query['options']} -cdefault_transaction_read_only=on"
        of_several = url
        if url.query.get("target_session_attrs") == "read-write":
            # To libpq a session with that option is read-only, also at the primary.
            of_several = url.update_query_dict({"target_session_attrs": "primary"})
        _pools[key] = open_engine(
            of_several,
            connect_args={"options": options},
            pool_pre_ping=True,
            pool_size=4,
            max_overflow=36,
            pool_timeout=_POOL_SECONDS,
        )
    return _pools[key]


def _release(engine: sa.Engine) -> None:
    """Close the connections of an engine, unless others share them."""
    if engine.dialect.name == SQLITE or engine not in _pools.values():
        engine.dispose()


@lru_cache(maxsize=512)
def _for_psycopg(query: str) -> str:
    return query.replace("%", "%%").replace("?", "%s")


def _set_pragmas(connection: sqlite3.Connection, _: object) -> None:
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def logs_of(file: Path) -> Iterator[Path]:
    """Yield the files that SQLite may have beside a database, with rows that are not in it yet."""
    for suffix in ("-wal", "-shm", "-journal"):
        yield file.with_name(file.name + suffix)
