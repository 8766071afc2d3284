"""Keeps how far print reaches from each copy of the karekod, for each sheet type.

It is learned from the filed pages on which both copies were read: left, right, up and down of the
copy, in widths of the code (publisher/reading/codes/outline). A page on which only one copy was
read is compared with it (publisher/filing/decide).
"""

import json
import math
from typing import NamedTuple

import sqlalchemy as sa

from config.sheet import Belge
from publisher.catalog import tables as t

Sides = tuple[float, float, float, float]
# Both databases have this form of INSERT; SQLAlchemy has one for each.
_WRITE = sa.text(
    "INSERT INTO form (belge, copy, pages, sums) VALUES (:belge, :copy, :pages, :sums) "
    "ON CONFLICT (belge, copy) DO UPDATE SET pages = excluded.pages, sums = excluded.sums"
)


class UsualExtent(NamedTuple):
    """Mean and standard deviation of each side, on so many pages."""

    pages: int
    means: Sides
    deviations: Sides


class Extents:
    """What was learned, in an open catalog. Only the publisher learns, so it is kept in memory."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._learned: dict[tuple[str, str], tuple[int, list[float]]] = {
            (row.belge, row.copy): (row.pages, json.loads(row.sums))
            for row in connection.execute(sa.select(t.form))
        }
        self._unwritten: set[tuple[str, str]] = set()

    def of(self, belge: Belge, copy: str) -> UsualExtent | None:
        """Return what was learned of one copy (`upper` or `lower`), None if nothing was."""
        found = self._learned.get((belge.value, copy))
        if found is None:
            return None
        pages, sums = found
        means = [value / pages for value in sums[:4]]
        spread = [
            math.sqrt(max(0.0, square / pages - mean * mean))
            for square, mean in zip(sums[4:], means, strict=True)
        ]
        return UsualExtent(pages, _sides(means), _sides(spread))

    def learn(self, belge: Belge, copy: str, sides: Sides) -> None:
        """Add one page to what is known."""
        key = belge.value, copy
        added = [*sides, *(side * side for side in sides)]
        pages, sums = self._learned.get(key, (0, [0.0] * len(added)))
        total = [round(a + b, 4) for a, b in zip(sums, added, strict=True)]
        self._learned[key] = pages + 1, total
        self._unwritten.add(key)

    def write(self) -> None:
        """Write what was learned since; it is durable with the next commit."""
        changed, self._unwritten = self._unwritten, set()
        rows = []
        for belge, copy in sorted(changed):
            pages, sums = self._learned[belge, copy]
            rows.append({"belge": belge, "copy": copy, "pages": pages, "sums": json.dumps(sums)})
        if rows:
            self._connection.execute(_WRITE, rows)


def _sides(values: list[float]) -> Sides:
    left, right, up, down = values
    return left, right, up, down
