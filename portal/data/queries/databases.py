"""Opens the publisher's databases to read them beside the processes that write.

To open an SQLite file and to read its schema takes longer than most questions, so a daemon keeps
its connections open between questions (`kept_open`). If the file was replaced since, a connection
to the new one is opened.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import sqlalchemy as sa

from config.site import SITE_TOML
from portal import broker_client
from publisher.catalog import catalog
from publisher.database import SQLITE, Reader, open_reader
from publisher.results import store

CATALOG_SCHEMA, RESULTS_SCHEMA = "catalog", "results"
_ADDRESS_SECONDS = 30
Connection = Reader | None  # None: the database does not exist yet
_MAX_IDLE = 4  # connections of one database that wait for the next question
_CACHE_KIB = 512  # of one connection; the kernel has the rest of the file in memory, once for all
_File = tuple[str, int, int]  # name, device, inode


def open_catalog(site: Path) -> AbstractContextManager[Connection]:
    """Open a site's catalog during a `with` statement."""
    return _opened(_url(site, CATALOG_SCHEMA), {"filing", "absence"})


def open_results(site: Path) -> AbstractContextManager[Connection]:
    """Open a site's results during a `with` statement."""
    return _opened(_url(site, RESULTS_SCHEMA), {"finding", "result", "snapshot"})


def in_files(site: Path) -> bool:
    """Say whether catalog and results of a site are files of SQLite."""
    if not broker_client.in_use():
        return _url(site, CATALOG_SCHEMA).drivername == SQLITE
    return _asked_in_files(site)


def url_of(site: Path, schema: str) -> sa.URL:
    """Return where the catalog or the results of a site are."""
    return catalog.url(site) if schema == CATALOG_SCHEMA else store.url(site)


def _url(site: Path, schema: str) -> sa.URL:
    if not broker_client.in_use():
        return url_of(site, schema)
    try:
        found = (site / SITE_TOML).stat()
    except FileNotFoundError:
        return _asked_url(site, schema)  # the folder of a rehearsal may have none
    # Another address may belong to the name of the database's host by now.
    period = int(time.monotonic() // _ADDRESS_SECONDS)
    return _asked_url(site, schema, found.st_ino, found.st_mtime_ns, found.st_size, period)


@lru_cache(maxsize=64)
def _asked_in_files(site: Path) -> bool:
    # Another `catalog.url` needs a restart; the address of a server is not looked up for this.
    return _url(site, CATALOG_SCHEMA).drivername == SQLITE


@lru_cache(maxsize=64)
def _asked_url(site: Path, schema: str, *_stamp: int) -> sa.URL:
    found: sa.URL = broker_client.ask("database", str(site), schema)
    return found


@dataclass(frozen=True)
class _Kept:
    """A connection that is kept open, and the tables that it found when it was opened."""

    file: _File
    reader: Reader
    tables: frozenset[str]
    opened: ExitStack


class _Pool:
    """The connections that wait for the next question; None in a process that keeps none."""

    idle: dict[_File, list[_Kept]] | None = None


@contextmanager
def kept_open() -> Iterator[None]:
    """Keep connections to SQLite open from one question to the next, during a `with` statement."""
    _Pool.idle = {}
    try:
        yield
    finally:
        idle, _Pool.idle = _Pool.idle, None
        for waiting in idle.values():
            _close(waiting)


@contextmanager
def _opened(url: sa.URL, needed: set[str]) -> Iterator[Connection]:
    idle = _Pool.idle
    if idle is None or url.drivername != SQLITE:
        with open_reader(url) as reader:
            found = frozenset() if reader is None else _tables(url, reader)
            # Another process may be creating the tables at this moment.
            yield reader if needed <= found else None
        return
    kept = _take(idle, url)
    if kept is None:
        yield None
        return
    with ExitStack() as closing:  # after an error it is not used again
        closing.push(kept.opened)
        yield kept.reader if needed <= kept.tables else None
        if needed <= kept.tables and len(idle.setdefault(kept.file, [])) < _MAX_IDLE:
            closing.pop_all()
            idle[kept.file].append(kept)


def _take(idle: dict[_File, list[_Kept]], url: sa.URL) -> _Kept | None:
    """Return a connection that no other thread uses; None if the database does not exist yet."""
    name = url.database or ""
    try:
        found = Path(name).stat()
    except FileNotFoundError:
        return None
    file = name, found.st_dev, found.st_ino
    if waiting := idle.get(file):
        with suppress(IndexError):  # another thread has taken the last one
            return waiting.pop()
    for other in list(idle):
        if other[0] == name and other != file:  # it was replaced
            _close(idle.pop(other, []))
    with ExitStack() as opened:
        reader = opened.enter_context(open_reader(url))
        if reader is None:
            return None
        reader.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        return _Kept(file, reader, _tables(url, reader), opened.pop_all())


def _close(waiting: list[_Kept]) -> None:
    while waiting:
        waiting.pop().opened.close()


def _tables(url: sa.URL, reader: Reader) -> frozenset[str]:
    try:
        return reader.tables()
    except sqlite3.OperationalError:
        if not broker_client.in_use():
            raise
        # A confined process cannot make the files that SQLite needs beside a database.
        broker_client.ask("keep_open", url.database)
        return reader.tables()
