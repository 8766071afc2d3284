"""Queries of the feed, the sums and the exports: which pages were filed, in the order of filing.

They use a read-only connection of their own, so a thread other than the publisher's main thread can
run them.

The number of a filing (`seq`) is the number of its record in the filing ledger. A filing gets its
number only after every tree shows the page, and later filings get higher numbers. So a reader that
remembers the last number it has seen misses nothing and sees nothing twice.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from config.scope import Scope
from publisher.catalog import tables as t
from publisher.database import Database, open_engine

_BEFORE = t.filing.alias("before")
_IS_BEFORE = sa.and_(
    *(
        t.filing.c[name] == _BEFORE.c[name]
        for name in ("cevre", "kurul", "sandik", "secim", "belge", "page")
    ),
    _BEFORE.c.version == t.filing.c.version - 1,
)
_FILED = sa.select(t.filing, _BEFORE.c.path.label("supersedes")).outerjoin(_BEFORE, _IS_BEFORE)


class SumsFolder(NamedTuple):
    """What one SHA256SUMS covers: a board, a district (`kurul` is None) or the election.

    For the election both are None.
    """

    cevre: str | None
    kurul: str | None

    def is_covered_by(self, scope: Scope) -> bool:
        """Return whether a party with that scope sees the pages in this folder."""
        return scope.covers_place(self.cevre, self.kurul)


class FiledPage(NamedTuple):
    """A filed page; `supersedes` is the path of its previous version, empty if there is none."""

    seq: int
    id: int
    path: str
    sha256: str
    filed_at: int
    folder: SumsFolder
    sheet: str
    version: int
    supersedes: str


class FeedQueries(Database):
    """An open connection for these queries; use it in a `with` statement."""

    def __init__(self, url: sa.URL) -> None:
        super().__init__(open_engine(url))

    def after(self, seq: int, limit: int) -> list[FiledPage]:
        """Return up to `limit` filings with numbers above `seq`, in order.

        The cost depends only on how many it returns.
        """
        return self._found(t.filing.c.seq > seq, limit)

    def with_numbers(self, numbers: Sequence[int]) -> list[FiledPage]:
        """Return the filings that have these numbers."""
        found: list[FiledPage] = []
        for at in range(0, len(numbers), 500):
            found += self._found(t.filing.c.seq.in_(numbers[at : at + 500]), 500)
        return found

    def newest_number(self) -> int:
        """Return the highest number, -1 if nothing is filed."""
        (found,) = self._rows(sa.select(sa.func.max(t.filing.c.seq).label("seq")))
        return -1 if found.seq is None else int(found.seq)

    def folders(self) -> set[SumsFolder]:
        """Return every folder that has a page, or gets one when the pages in flight are filed."""
        rows = self._rows(sa.select(t.filing.c.cevre, t.filing.c.kurul).distinct())
        return {SumsFolder(row.cevre or None, row.kurul or None) for row in rows}

    def filed_in(self, folder: SumsFolder, until: int) -> list[tuple[int, str, str]]:
        """Return (id, path, sha256) of the pages in a folder up to a number, sorted by path."""
        filing = t.filing.c
        query = sa.select(filing.id, filing.path, filing.sha256).where(
            filing.cevre == (folder.cevre or ""),
            filing.kurul == (folder.kurul or ""),
            filing.seq <= until,
        )
        rows = [(row.id, row.path, row.sha256) for row in self._rows(query)]
        return sorted(rows, key=lambda row: row[1])

    def gaps(self) -> frozenset[tuple[str, int]]:
        """Return (party, id of the filing) of every page that a tree must show but does not."""
        rows = self._rows(sa.select(t.gap.c.party, t.gap.c.filing))
        return frozenset((row.party, row.filing) for row in rows)

    def gaps_by_folder(self) -> list[tuple[SumsFolder, str, int]]:
        """Return the same with the folder of each page: (folder, party, id of the filing)."""
        filing = t.filing.c
        query = sa.select(filing.cevre, filing.kurul, t.gap.c.party, t.gap.c.filing)
        rows = self._rows(query.join_from(t.gap, t.filing))
        return [
            (SumsFolder(row.cevre or None, row.kurul or None), row.party, row.filing)
            for row in rows
        ]

    def _found(self, chosen: sa.ColumnElement[bool], limit: int) -> list[FiledPage]:
        query = _FILED.where(chosen).order_by(t.filing.c.seq).limit(limit)
        return [
            FiledPage(
                row.seq,
                row.id,
                row.path,
                row.sha256,
                row.filed_at,
                SumsFolder(row.cevre or None, row.kurul or None),
                row.belge,
                row.version,
                row.supersedes or "",
            )
            for row in self._rows(query)
        ]

    def _rows(self, query: sa.Select[Any]) -> Sequence[Any]:
        rows = self._connection.execute(query).all()
        self._connection.rollback()  # so that the next query sees what was filed meanwhile
        return rows
