"""Keeps rows of a batch of pages until all of them are written together.

With PostgreSQL each statement is a message to another process and an answer, so one statement for
a hundred pages costs little more than one for one page. Before a function reads rows that may be
among these, it calls `write`; the catalog leaves that out if it knows that no row of this page is
waiting.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from config.sheet import Sheet
from publisher.catalog import arrays


class Unwritten:
    """The rows that are not written yet; `digests`, `pixels` and `sheets` say what is in them."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._rows: dict[sa.Executable, list[Mapping[str, Any]]] = {}
        self.digests: set[str] = set()
        self.pixels: set[str] = set()
        self.sheets: set[Sheet] = set()

    def add(self, statement: sa.Executable, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep rows for a statement. Statements are written in the order of their first rows."""
        self._rows.setdefault(statement, []).extend(rows)

    def write(self) -> None:
        """Write all rows; they are durable with the next commit."""
        rows, self._rows = self._rows, {}
        for statement, of_statement in rows.items():
            arrays.write_rows(self._connection, statement, of_statement)
        for known in (self.digests, self.pixels, self.sheets):
            known.clear()
