"""Opens the publisher's databases to read them beside the processes that write."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import sqlalchemy as sa

from publisher.catalog import catalog
from publisher.database import Reader, open_reader
from publisher.results import store

Connection = Reader | None  # None: the database does not exist yet


def open_catalog(site: Path) -> AbstractContextManager[Connection]:
    """Open a site's catalog during a `with` statement."""
    return _opened(catalog.url(site), {"filing", "absence"})


def open_results(site: Path) -> AbstractContextManager[Connection]:
    """Open a site's results during a `with` statement."""
    return _opened(store.url(site), {"finding", "result", "snapshot"})


@contextmanager
def _opened(url: sa.URL, needed: set[str]) -> Iterator[Connection]:
    with open_reader(url) as reader:
        # Another process may be creating the tables at this moment.
        yield reader if reader is not None and needed <= reader.tables() else None
