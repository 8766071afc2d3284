"""Opens the publisher's databases to read them beside the processes that write.

The portal asks small questions often, so it uses sqlite3 without a layer between.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

from config.site import CATALOG, RESULTS_DATABASE

Connection = sqlite3.Connection | None  # None: the database does not exist yet


def open_catalog(site: Path) -> AbstractContextManager[Connection]:
    """Open a site's catalog during a `with` statement."""
    return _opened(site / CATALOG, {"filing", "absence"})


def open_results(site: Path) -> AbstractContextManager[Connection]:
    """Open a site's results during a `with` statement."""
    return _opened(site / RESULTS_DATABASE, {"finding", "result", "snapshot"})


@contextmanager
def _opened(file: Path, needed: set[str]) -> Iterator[Connection]:
    if not file.exists():
        yield None
        return
    name = f"{file.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(name, uri=True, check_same_thread=False)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        # Another process may be creating the tables at this moment.
        yield connection if needed <= tables else None
