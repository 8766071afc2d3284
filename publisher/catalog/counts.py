"""How many came and what became of them, counted from outside: whoever else has the catalog open.

It is opened only to be looked at, as the SQLite file that it is.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from config.site import CATALOG
from publisher.catalog import tables as t
from publisher.catalog.catalog import (
    DUPLICATE,
    FILED,
    QUARANTINED,
    VERSIONS,
)
from publisher.page import ID_LENGTH


@dataclass(frozen=True, slots=True)
class Counts:
    """Sheets filed at least once; further versions; arrivals by outcome, and still under way.

    `ruled` counts those of the quarantined that a person has decided on since, `gaps` the links
    that a party's tree would not take.
    """

    filed: int = 0
    versions: int = 0
    duplicates: int = 0
    quarantined: int = 0
    waiting: int = 0
    gaps: int = 0
    reviewed: int = 0


def counts(site: Path) -> Counts:
    """Count in a site's catalog; nothing came where there is none. The cost does not grow."""
    with open_read_only(site) as connection:
        return Counts() if connection is None else _count(connection)


@contextmanager
def open_read_only(site: Path) -> Iterator[sa.Connection | None]:
    """Open a site's catalog only to look, whoever else has it open; None where there is none."""
    file = site / CATALOG
    if not file.exists():
        yield None
        return
    name = f"{file.absolute().as_uri()}?mode=ro"
    engine = sa.create_engine(
        "sqlite://", creator=lambda: sqlite3.connect(name, uri=True), poolclass=sa.NullPool
    )
    try:
        with engine.connect() as connection:
            present = set(sa.inspect(connection).get_table_names())
            # It may be being made just now.
            yield connection if present >= set(t.METADATA.tables) else None
    finally:
        engine.dispose()


def _count(connection: sa.Connection) -> Counts:
    totals = {row.name: row.number for row in connection.execute(sa.select(t.total))}
    waiting = sa.select(sa.func.count()).select_from(t.arrival).where(t.arrival.c.seq.is_(None))
    gaps = sa.select(sa.func.count()).select_from(t.gap)
    # A file that was found in a tree may be ruled on as well, and never was an arrival.
    arrived = sa.exists().where(t.arrival.c.id == sa.func.substr(t.review.c.file, 1, ID_LENGTH))
    reviewed = sa.select(sa.func.count()).select_from(t.review).where(arrived)
    return Counts(
        totals.get(FILED, 0),
        totals.get(VERSIONS, 0),
        totals.get(DUPLICATE, 0),
        totals.get(QUARANTINED, 0),
        connection.scalar(waiting) or 0,
        connection.scalar(gaps) or 0,
        connection.scalar(reviewed) or 0,
    )
