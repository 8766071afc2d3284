"""Opens the publisher's databases to read them beside the processes that write."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from config.site import CATALOG, RESULTS_DATABASE
from publisher.database import Reader, open_reader

Connection = Reader | None  # None: the database does not exist yet


def open_catalog(site: Path) -> AbstractContextManager[Connection]:
    """Open a site's catalog during a `with` statement."""
    return _opened(site / CATALOG, {"filing", "absence"})


def open_results(site: Path) -> AbstractContextManager[Connection]:
    """Open a site's results during a `with` statement."""
    return _opened(site / RESULTS_DATABASE, {"finding", "result", "snapshot"})


@contextmanager
def _opened(file: Path, needed: set[str]) -> Iterator[Connection]:
    with open_reader(file) as reader:
        # Another process may be creating the tables at this moment.
        yield reader if reader is not None and needed <= reader.tables() else None
