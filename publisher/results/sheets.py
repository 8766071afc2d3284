"""Looks up the signed sheets of results in the publisher's catalog, which it opens only to read."""

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice

import sqlalchemy as sa

from config.result import ResultKey
from publisher.catalog import tables as catalog
from publisher.results.checks.box import SheetVersion

_KEYS_A_QUERY = 150
_KEY = ("secim", "belge", "cevre", "kurul", "sandik")


def sheet_versions(
    connection: sa.Connection | None, keys: Iterable[ResultKey]
) -> dict[ResultKey, tuple[SheetVersion, ...]]:
    """Return the filed versions of page 1 of each key's sheet, oldest first.

    A key without a sheet is left out; without a catalog (None) nothing is returned.
    """
    found: dict[ResultKey, tuple[SheetVersion, ...]] = {}
    if connection is None:
        return found
    c = catalog.filing.c
    columns = sa.tuple_(*(c[name] for name in _KEY))
    waiting = iter(set(keys))
    while some := list(islice(waiting, _KEYS_A_QUERY)):
        texts = {tuple(str(part) if part is not None else "" for part in key): key for key in some}
        query = (
            sa.select(*(c[name] for name in _KEY), c.path, c.version, c.filed_at, c.sha256)
            .where(columns.in_(list(texts)), c.page == 1, c.seq.is_not(None))
            .order_by(c.version)
        )
        for row in connection.execute(query):
            key = texts[tuple(row[: len(_KEY)])]
            filed_at = datetime.fromtimestamp(row.filed_at, UTC)
            sheet = SheetVersion(row.path, row.version, filed_at, row.sha256)
            found[key] = (*found.get(key, ()), sheet)
    return found
