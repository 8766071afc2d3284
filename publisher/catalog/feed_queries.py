"""What the feed asks of the catalog: which sheets were filed, in the order of their records.

Read only, over a connection of its own, so that it may be asked by another thread than the one
that files. A filing's number is that of its record in the filing ledger. It is there only once
every tree shows the file, and what comes later has a higher one, so that whoever remembers the
last number that he has seen misses nothing and sees nothing twice.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple

import sqlalchemy as sa

from config.scope import Scope
from publisher.catalog import tables as t

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
    """A board, a district (no board), or neither: what one SHA256SUMS is about."""

    cevre: str | None
    kurul: str | None

    def is_covered_by(self, scope: Scope) -> bool:
        """Say whether who has that scope sees what is filed there."""
        return scope.covers_place(self.cevre, self.kurul)


class FiledPage(NamedTuple):
    """One filing, and the path of the version before it."""

    seq: int
    id: int
    path: str
    sha256: str
    filed_at: int
    place: SumsFolder
    sheet: str
    version: int
    supersedes: str


class FeedQueries:
    """Close it, or use it in a `with`."""

    def __init__(self, url: sa.URL) -> None:
        self._engine = sa.create_engine(url)
        self._connection = self._engine.connect()

    def __enter__(self) -> "FeedQueries":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()
        self._engine.dispose()

    def after(self, seq: int, limit: int) -> list[FiledPage]:
        """Return filings with higher numbers, in their order; what it costs is for those alone."""
        return self._found(t.filing.c.seq > seq, limit)

    def with_numbers(self, numbers: Sequence[int]) -> list[FiledPage]:
        """Return the filings of these numbers."""
        found: list[FiledPage] = []
        for at in range(0, len(numbers), 500):
            found += self._found(t.filing.c.seq.in_(numbers[at : at + 500]), 500)
        return found

    def newest_number(self) -> int:
        """Return the highest number, -1 if nothing was filed."""
        (found,) = self._rows(sa.select(sa.func.max(t.filing.c.seq).label("seq")))
        return -1 if found.seq is None else int(found.seq)

    def places(self) -> set[SumsFolder]:
        """Return every place where something is filed, or is just about to be."""
        rows = self._rows(sa.select(t.filing.c.cevre, t.filing.c.kurul).distinct())
        return {SumsFolder(row.cevre or None, row.kurul or None) for row in rows}

    def filed_in(self, place: SumsFolder, until: int) -> list[tuple[int, str, str]]:
        """Return (id, path, sha256) of all that is filed there up to a number, by path."""
        filing = t.filing.c
        query = sa.select(filing.id, filing.path, filing.sha256).where(
            filing.cevre == (place.cevre or ""),
            filing.kurul == (place.kurul or ""),
            filing.seq <= until,
        )
        rows = [(row.id, row.path, row.sha256) for row in self._rows(query)]
        return sorted(rows, key=lambda row: row[1])

    def gaps(self) -> frozenset[tuple[str, int]]:
        """Return (party, filing's id) of every file that a tree ought to show and does not."""
        rows = self._rows(sa.select(t.gap.c.party, t.gap.c.filing))
        return frozenset((row.party, row.filing) for row in rows)

    def gaps_by_place(self) -> list[tuple[SumsFolder, str, int]]:
        """Return the same with where each was filed: (place, party, filing's id)."""
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
        self._connection.rollback()  # so that the next question sees what was filed meanwhile
        return rows
