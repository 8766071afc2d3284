"""Keeps the usual print_map of the pages of each contest and sheet type, for each election.

It is learned from the first 200 filed pages of each on which both copies of the karekod were read
(publisher/print_map). A sheet type is known from its tenth page on. Only the publisher learns, so
what was learned is kept in memory; every tenth page is written to the catalog, and after a crash at
most nine pages are forgotten.
"""

import numpy as np
import sqlalchemy as sa

from config.sheet import Sheet
from publisher.catalog import tables as t
from publisher.print_map import COLUMNS, ROWS, UsualPrint

LEAST_PAGES = 10
_MOST_PAGES = 200
_WRITTEN = 10  # every so many pages what was learned is written
_STORED = "<u2"  # of each cell, the sum of its levels

Kind = tuple[str, str, str]  # election, contest and sheet type


class PrintMaps:
    """The usual print maps in an open catalog."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._usual: dict[Kind, UsualPrint] = {
            (row.election, row.secim, row.belge): UsualPrint(
                row.pages, np.frombuffer(row.sums, _STORED).reshape(ROWS, COLUMNS)
            )
            for row in connection.execute(sa.select(t.print_map))
        }

    def of(self, election: str, sheet: Sheet) -> UsualPrint | None:
        """Return the usual print_map of pages like this one, None if it is not known."""
        usual = self._usual.get(_kind(election, sheet))
        return usual if usual and usual.pages >= LEAST_PAGES else None

    def every(self, election: str) -> list[UsualPrint]:
        """Return every usual print_map of an election that is known."""
        return [
            usual
            for kind, usual in self._usual.items()
            if kind[0] == election and usual.pages >= LEAST_PAGES
        ]

    def learn(self, election: str, sheet: Sheet, print_map: bytes) -> None:
        """Add one page to what is known, until that is enough."""
        kind = _kind(election, sheet)
        before = self._usual.get(kind)
        if before and before.pages >= _MOST_PAGES:
            return
        usual = (before or UsualPrint(0, np.zeros((ROWS, COLUMNS), _STORED))).plus(print_map)
        self._usual[kind] = usual
        if usual.pages % _WRITTEN:
            return
        key = dict(zip(("election", "secim", "belge"), kind, strict=True))
        chosen = sa.and_(*(t.print_map.c[name] == value for name, value in key.items()))
        self._connection.execute(sa.delete(t.print_map).where(chosen))
        values = {"pages": usual.pages, "sums": usual.sums.astype(_STORED).tobytes()}
        self._connection.execute(sa.insert(t.print_map), [key | values])


def _kind(election: str, sheet: Sheet) -> Kind:
    return election, sheet.secim.value, sheet.belge.value
