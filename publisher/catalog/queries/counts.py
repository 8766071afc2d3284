"""Totals of the catalog, read by other processes than the publisher.

They open it read only. The publisher may have it open at the same time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from publisher.catalog import tables as t
from publisher.catalog.catalog import (
    DUPLICATE,
    FILED,
    QUARANTINED,
    VERSIONS,
    url,
)
from publisher.database import exists, reading, table_names
from publisher.page import ID_LENGTH, Reason


@dataclass(frozen=True, slots=True)
class Counts:
    """What a site's catalog counts.

    `filed` are sheets with at least one version, `versions` the later versions. `duplicates` and
    `quarantined` are arrivals with that outcome, and `waiting` arrivals that are not done yet.
    `gaps` are links that a party's tree could not take. `reviewed` are quarantined arrivals about
    which operators have decided since. `blank` are those of the others that are blank backs of
    sheets, about which there is nothing to decide.
    """

    filed: int = 0
    versions: int = 0
    duplicates: int = 0
    quarantined: int = 0
    waiting: int = 0
    gaps: int = 0
    reviewed: int = 0
    blank: int = 0


def counts(site: Path) -> Counts:
    """Return a site's counts, all 0 if it has no catalog. The cost does not grow with the site."""
    with open_read_only(site) as connection:
        return Counts() if connection is None else count(connection)


@contextmanager
def open_read_only(site: Path) -> Iterator[sa.Connection | None]:
    """Open a site's catalog read only; yield None if there is none yet.

    Other processes may have it open, and may write to it, at the same time.
    """
    place = url(site)
    if not exists(place):
        yield None
        return
    with reading(place) as connection:
        # Another process may be creating the tables at this moment.
        # A catalog of an earlier version lacks the newer ones until its publisher starts.
        newer = {t.extract.name, t.pixels.name, t.form.name, t.print_map.name, t.rescan.name}
        there = table_names(connection) >= set(t.METADATA.tables) - newer
        yield connection if there else None


def count(connection: sa.Connection) -> Counts:
    """Return the counts of an open catalog."""
    totals = {row.name: row.number for row in connection.execute(sa.select(t.total))}
    waiting = sa.select(sa.func.count()).select_from(t.arrival).where(t.arrival.c.seq.is_(None))
    gaps = sa.select(sa.func.count()).select_from(t.gap)
    # A file that was found in a tree may have a review too, but it never was an arrival.
    arrived = sa.exists().where(t.arrival.c.id == sa.func.substr(t.review.c.file, 1, ID_LENGTH))
    reviewed = sa.select(sa.func.count()).select_from(t.review).where(arrived)
    is_blank = t.arrival.c.reason == Reason.BLANK_BACK.value
    blank = sa.select(sa.func.count()).select_from(t.arrival).where(is_blank)
    reviewed_blank = reviewed.where(arrived.where(is_blank))
    return Counts(
        totals.get(FILED, 0),
        totals.get(VERSIONS, 0),
        totals.get(DUPLICATE, 0),
        totals.get(QUARANTINED, 0),
        connection.scalar(waiting) or 0,
        connection.scalar(gaps) or 0,
        connection.scalar(reviewed) or 0,
        (connection.scalar(blank) or 0) - (connection.scalar(reviewed_blank) or 0),
    )
