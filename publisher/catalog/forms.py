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


class UsualExtent(NamedTuple):
    """Mean and standard deviation of each side, on so many pages."""

    pages: int
    means: Sides
    deviations: Sides


def usual_extent(connection: sa.Connection, belge: Belge, copy: str) -> UsualExtent | None:
    """Return what was learned of one copy (`upper` or `lower`), None if nothing was."""
    found = _sums(connection, belge, copy)
    if found is None:
        return None
    pages, sums = found
    means = [value / pages for value in sums[:4]]
    spread = [
        math.sqrt(max(0.0, square / pages - mean * mean))
        for square, mean in zip(sums[4:], means, strict=True)
    ]
    return UsualExtent(pages, _sides(means), _sides(spread))


def learn_extent(connection: sa.Connection, belge: Belge, copy: str, sides: Sides) -> None:
    """Add one page to what is known."""
    added = [*sides, *(side * side for side in sides)]
    found = _sums(connection, belge, copy)
    if found is None:
        row = {"belge": belge.value, "copy": copy, "pages": 1, "sums": json.dumps(added)}
        connection.execute(sa.insert(t.form), [row])
        return
    pages, sums = found
    text = json.dumps([round(a + b, 4) for a, b in zip(sums, added, strict=True)])
    chosen = (t.form.c.belge == belge.value) & (t.form.c.copy == copy)
    connection.execute(sa.update(t.form).where(chosen).values(pages=pages + 1, sums=text))


def _sums(connection: sa.Connection, belge: Belge, copy: str) -> tuple[int, list[float]] | None:
    chosen = (t.form.c.belge == belge.value) & (t.form.c.copy == copy)
    query = sa.select(t.form.c.pages, t.form.c.sums).where(chosen)
    row = connection.execute(query).one_or_none()
    return (row.pages, json.loads(row.sums)) if row else None


def _sides(values: list[float]) -> Sides:
    left, right, up, down = values
    return left, right, up, down
