"""Opens the publisher's databases to read them beside the processes that write."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from pathlib import Path

import sqlalchemy as sa

from config.site import SITE_TOML
from portal import broker_client
from publisher.catalog import catalog
from publisher.database import Reader, open_reader
from publisher.results import store

CATALOG_SCHEMA, RESULTS_SCHEMA = "catalog", "results"
_ADDRESS_SECONDS = 30
Connection = Reader | None  # None: the database does not exist yet


def open_catalog(site: Path) -> AbstractContextManager[Connection]:
    """Open a site's catalog during a `with` statement."""
    return _opened(_url(site, CATALOG_SCHEMA), {"filing", "absence"})


def open_results(site: Path) -> AbstractContextManager[Connection]:
    """Open a site's results during a `with` statement."""
    return _opened(_url(site, RESULTS_SCHEMA), {"finding", "result", "snapshot"})


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
def _asked_url(site: Path, schema: str, *_stamp: int) -> sa.URL:
    found: sa.URL = broker_client.ask("database", str(site), schema)
    return found


@contextmanager
def _opened(url: sa.URL, needed: set[str]) -> Iterator[Connection]:
    with open_reader(url) as reader:
        found = frozenset() if reader is None else _tables(url, reader)
        # Another process may be creating the tables at this moment.
        yield reader if needed <= found else None


def _tables(url: sa.URL, reader: Reader) -> frozenset[str]:
    try:
        return reader.tables()
    except sqlite3.OperationalError:
        if not broker_client.in_use():
            raise
        # A confined process cannot make the files that SQLite needs beside a database.
        broker_client.ask("keep_open", url.database)
        return reader.tables()
