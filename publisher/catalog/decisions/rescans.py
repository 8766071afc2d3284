"""The requests to boards to scan a page in quarantine again.

There is one row for each file; the staff site prints them as a list for each board. A request
decides nothing: the file stays in quarantine until an operator identifies or rejects it.
"""

from typing import NamedTuple

import sqlalchemy as sa

from publisher.catalog import tables as t


class Rescan(NamedTuple):
    """A request for a new scan: the board, and the sheet (its karekod) if that is known."""

    file: str
    id: str
    who: str
    why: str
    cevre: str
    kurul: str
    karekod: str
    asked_at: str


def add(connection: sa.Connection, asked: Rescan) -> None:
    """Store a request; it replaces an earlier one for the same file."""
    connection.execute(sa.delete(t.rescan).where(t.rescan.c.file == asked.file))
    connection.execute(sa.insert(t.rescan).values(asked._asdict()))


def rescans(connection: sa.Connection) -> dict[str, Rescan]:
    """Return the requests by file, oldest first."""
    query = sa.select(*(t.rescan.c[name] for name in Rescan._fields)).order_by(t.rescan.c.id)
    return {row[0]: Rescan(*row) for row in connection.execute(query)}
