"""Starts a PostgreSQL server for tests, with a new cluster and a socket in a temporary folder.

It listens on no network address. PostgreSQL refuses to run as root, so for root it runs as the user
`postgres`, which Debian's package creates.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa

from config import load
from config.settings import CatalogSettings
from config.site import SITE_TOML
from publisher import database, migrations

USER = "tests"
EVERYTHING = bool(os.environ.get("SSPS_POSTGRESQL"))  # run whole suites on PostgreSQL
_TEMPLATE = "with_tables"
MARK = ".database-of-test"  # a file in a site that has a database of its own
# For tests of what only a file can have: no file, a strange name, tables that are missing.
sqlite_only = pytest.mark.skipif(EVERYTHING, reason="looks into the SQLite file")
# For tests that state themselves which database a site has.
own_database = pytest.mark.skipif(EVERYTHING, reason="states its databases itself, of both kinds")


def programs() -> Path | None:
    """Return the folder with the newest installed `initdb`, None if there is none."""
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max((path.parent for path in found), key=lambda p: int(p.parts[-2]), default=None)


@dataclass
class Server:
    """A server; `folder` has its socket."""

    folder: Path
    _binaries: Path
    _user: str | None
    durable: bool = False  # syncs what is committed, as a server of a site does
    _numbers: "count[int]" = field(default_factory=count)
    _process: "subprocess.Popen[bytes] | None" = None
    _killed: bool = False

    def start(self) -> None:
        """Start it, and wait until it answers; after a crash it recovers first."""
        options = [
            "listen_addresses=", f"unix_socket_directories={self.folder}", "max_connections=300",
        ]  # fmt: skip
        if not self.durable:
            # What was committed and need not be durable is lost when the server is killed.
            options += ["fsync=off", "full_page_writes=off", "autovacuum=off"]
            options += ["wal_writer_delay=10s"]
        deadline = time.monotonic() + 30
        while self._process is None:
            with (self.folder / "log").open("wb") as log:
                process = subprocess.Popen(
                    [
                        self._binaries / "postgres", "-D", self.folder / "data",
                        *(f"--{option}" for option in options),
                    ],
                    stdout=log, stderr=log, user=self._user, cwd=self.folder,
                )  # fmt: skip
            if self._answers(process, deadline):
                self._process = process

    def _answers(self, process: "subprocess.Popen[bytes]", deadline: float) -> bool:
        """Wait for an answer; False if it ended, since processes of a killed server still lived."""
        ready: list[str | Path] = [self._binaries / "pg_isready", "-q", "-h", self.folder]
        while subprocess.run(ready, check=False).returncode != 0:
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            if process.poll() is not None:
                return False
            time.sleep(0.05)
        return True

    @property
    def pid(self) -> int:
        """The server's first process, whose children the others are."""
        assert self._process is not None
        return self._process.pid

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop every process of the server, as a frozen machine does, until the end of `with`."""
        stopped: list[int] = []
        try:
            # The first process first, so that it starts no other one meanwhile.
            pids = [self.pid]
            while pids:
                for pid in pids:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGSTOP)
                    stopped.append(pid)
                children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
                pids = [pid for pid in map(int, children.split()) if pid not in stopped]
            yield
        finally:
            for pid in stopped:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def replica(self, folder: Path) -> "Server":
        """Make a streaming replica of this running server in a new folder, and start it."""
        make_private(folder, self._user)
        subprocess.run(
            [
                self._binaries / "pg_basebackup", "-R", "-D", folder / "data",
                "-h", self.folder, "-U", USER, "-c", "fast", "--no-sync",
            ],
            check=True, capture_output=True, user=self._user, cwd=folder,
        )  # fmt: skip
        replica = Server(folder, self._binaries, self._user)
        replica.start()
        return replica

    def promote(self) -> None:
        """Let a replica become a primary; return when it has."""
        self._do("SELECT pg_promote()")

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it: by default a "fast" shutdown, which ends open sessions."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=30)
            self._process = None
            self._killed = number == signal.SIGKILL

    def end(self) -> None:
        """Stop it for good; its folder can be removed.

        A killed server leaves shared memory behind, which it removes when it is started again.
        """
        if self._killed:
            self.start()
        self.stop()

    def url(self, database: str) -> sa.URL:
        """Return the URL of a database."""
        host = {"host": str(self.folder)}
        return sa.URL.create("postgresql+psycopg", USER, database=database, query=host)

    def new_database(self, *, empty: bool = False) -> sa.URL:
        """Create a database, with the tables of a site or empty, and return its URL."""
        number = next(self._numbers)
        if number == 0:
            self._create(_TEMPLATE, "template0")
            for schema in migrations.SCHEMAS:
                engine = sa.create_engine(self.url(_TEMPLATE), poolclass=sa.NullPool)
                with engine.connect() as connection:
                    migrations.migrate(connection, schema, "2023-05-14T00:00:00+00:00")
        name = f"test{os.getpid()}_{number}"
        self._create(name, "template0" if empty else _TEMPLATE)
        return self.url(name)

    def clone(self, other: sa.URL) -> sa.URL:
        """Create a database like another one, whose sessions are ended."""
        name = f"test{os.getpid()}_{next(self._numbers)}"
        close_pools()
        self._do(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{other.database}'"
        )
        self._create(name, str(other.database))
        return self.url(name)

    def _create(self, name: str, template: str) -> None:
        self._do(f"CREATE DATABASE {name} TEMPLATE {template}")

    def _do(self, statement: str) -> None:
        engine = sa.create_engine(
            self.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
        )
        with engine.connect() as connection:
            connection.execute(sa.text(statement))


class Sites:
    """Gives each site that states no database one of its own, for whole suites on PostgreSQL.

    A copy of a site gets a copy of its database.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._known: dict[Path, sa.URL] = {}
        self._stated = load.catalog
        # Threads that ask at once get one database, and none reads a half-written site.toml.
        self._lock = threading.Lock()

    def catalog(self, site: Path) -> CatalogSettings:
        """Return what config/load.catalog returns, and state it in site.toml for processes."""
        with self._lock:
            return self._catalog(site)

    def _catalog(self, site: Path) -> CatalogSettings:
        stated, place, mark = self._stated(site), site.resolve(), site / MARK
        if stated.url and stated.url not in map(_text, self._known.values()):
            return stated  # of the test itself
        if place not in self._known:
            first = Path(mark.read_text()) if mark.exists() else None
            self._known[place] = (
                self._server.clone(self._known[first]) if first else self._server.new_database()
            )
        url = _text(self._known[place])
        if site.is_dir():
            mark.write_text(str(place))
        file = site / SITE_TOML
        if file.exists() and stated.url != url:
            text = file.read_text()
            table = f'\n[catalog]\nurl = "{url}"\n'
            file.write_text(text.replace(stated.url, url) if stated.url else text + table)
        return CatalogSettings(url)


def _text(url: sa.URL) -> str:
    return url.render_as_string()


@contextmanager
def changing(url: sa.URL) -> Iterator[sa.Connection]:
    """Connect to one of a site's databases, SQLite or PostgreSQL, to read or change rows in it."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        yield connection


def change(url: sa.URL, statement: str, *values: object) -> int:
    """Damage rows with a statement that checks no foreign key; return how many it changed.

    `rowid` names a row in both databases, and `x'00ff'` is two bytes.
    """
    with changing(url) as connection:
        if url.drivername != database.SQLITE:
            check_no_foreign_key(connection)
            statement = statement.replace("%", "%%").replace("?", "%s")
            statement = statement.replace("rowid", "ctid").replace("x'00ff'", r"'\x00ff'")
        return connection.exec_driver_sql(statement, values).rowcount


Rows = dict[sa.Table, list[dict[str, object]]]


def rows_of(url: sa.URL, tables: sa.MetaData) -> Rows:
    """Return the rows of all tables of a database, in the order of their keys."""
    with changing(url) as connection:
        found = {
            table: connection.execute(sa.select(table).order_by(*table.primary_key.columns))
            for table in tables.sorted_tables
        }
        return {table: [row._asdict() for row in rows] for table, rows in found.items()}


def replace_rows(url: sa.URL, kept: Rows) -> None:
    """Let a database have these rows and no others, as if it was restored from a backup."""
    with changing(url) as connection:
        check_no_foreign_key(connection)
        for table, rows in kept.items():
            connection.execute(sa.delete(table))
            if rows:
                connection.execute(sa.insert(table), rows)


@contextmanager
def put_back(url: sa.URL, tables: sa.MetaData) -> Iterator[None]:
    """Put the rows of all tables back as they were, at the end of the `with` block."""
    kept = rows_of(url, tables)
    yield
    replace_rows(url, kept)


def check_no_foreign_key(connection: sa.Connection) -> None:
    """Let PostgreSQL check no foreign key in this transaction, as SQLite does without a pragma."""
    if connection.dialect.name != database.SQLITE:
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")


def create_reader(url: sa.URL, role: str) -> None:
    """Create a role that may only read catalog and results, as docs/operate.md says."""
    with changing(url) as connection:
        for statement in (
            f"CREATE ROLE {role} LOGIN",
            f"GRANT USAGE ON SCHEMA catalog, results TO {role}",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA catalog, results TO {role}",
        ):
            connection.exec_driver_sql(statement)


def close_pools() -> None:
    """Close the connections that readers of this process share."""
    for pool in database._pools.values():
        pool.dispose()


def in_schema(url: sa.URL, schema: str) -> sa.URL:
    """Return the URL of one schema of a database, as the product makes it of the setting."""
    return database.in_schema(url.render_as_string(), None, schema)


@contextmanager
def running(binaries: Path, *, durable: bool = False) -> Iterator[Server]:
    """Run a server until the end of the `with` block."""
    # The path of a socket may have 107 bytes at most, so not below pytest's long names.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    try:
        subprocess.run(
            [binaries / "initdb", "-D", folder / "data", "-U", USER, "-A", "trust", "--no-sync"],
            check=True, capture_output=True, user=user, cwd=folder,
        )  # fmt: skip
        server = Server(folder, binaries, user, durable)
        server.start()
        try:
            yield server
        finally:
            server.end()
    finally:
        shutil.rmtree(folder)


def make_private(folder: Path, user: str | None) -> None:
    """Create a folder that the server's user owns."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if user is not None:
        shutil.chown(folder, user)


@dataclass
class Pair:
    """A primary that waits for its replica with each commit; `url` names both."""

    primary: Server
    replica: Server
    url: sa.URL

    def kill_primary(self) -> None:
        self.primary.stop(signal.SIGKILL)

    def promote(self) -> None:
        self.replica.promote()


@contextmanager
def running_pair(server: Server) -> Iterator[Pair]:
    """Run a primary and a synchronous replica of their own; `server` only says who runs them."""
    with running(server._binaries) as primary:
        name = str(primary.new_database(empty=True).database)
        folder = Path(tempfile.mkdtemp(prefix="ssps-pg-"))
        make_private(folder, primary._user)
        replica = primary.replica(folder)
        try:
            primary._do("ALTER SYSTEM SET synchronous_standby_names = '*'")
            primary._do("SELECT pg_reload_conf()")
            hosts = {
                "host": f"{primary.folder},{replica.folder}",
                "target_session_attrs": "read-write",
            }
            url = sa.URL.create("postgresql+psycopg", USER, database=name, query=hosts)
            yield Pair(primary, replica, url)
        finally:
            replica.end()
            shutil.rmtree(folder)
