"""Compares what operators decided, as the catalog has it, with the ledgers.

Absences, reviews, identifications and requests for a new scan are rare, so they are read from the
ledgers into tables in memory (publisher/fsck/rebuild_catalog), and every row and field is compared
with the catalog. Only the time of an identification and of such a request is not: no ledger has it.
"""

from collections.abc import Iterator

import sqlalchemy as sa

from config.settings import Settings
from config.site import CATALOG
from publisher.catalog import tables as t
from publisher.database import Reader
from publisher.fsck import rebuild_catalog
from publisher.fsck.finding import Finding

_ADVICE = "the ledgers are the record: restore the catalog from a backup, or rebuild it"
# What each row is called, the columns that identify it, and those that no ledger has.
_TABLES: tuple[tuple[sa.Table, str, tuple[str, ...], frozenset[str]], ...] = (
    (t.absence, "absence", ("id",), frozenset()),
    (t.review, "ruling", ("file",), frozenset()),
    (t.identification, "naming", ("file", "who"), frozenset({"named_at"})),
    (t.rescan, "request for a new scan", ("file",), frozenset({"asked_at"})),
)
_Rows = dict[tuple[object, ...], dict[str, object]]


def compare_decisions(settings: Settings, live: Reader) -> Iterator[Finding]:
    """Yield the rows that differ. Raises Faults if a ledger or one of its records is damaged."""
    engine = sa.create_engine("sqlite://")
    try:
        t.METADATA.create_all(engine)
        with engine.connect() as connection:
            vague = rebuild_catalog.fill_decisions(settings, connection)
            for table, name, key, unknown in _TABLES:
                columns = [column.name for column in table.columns if column.name not in unknown]
                query = sa.select(*(table.c[column] for column in columns))
                wanted = _by_key(columns, key, connection.execute(query).all())
                chosen = f"SELECT {', '.join(columns)} FROM {table.name}"
                # A catalog of an earlier version may lack the table.
                rows = live.execute(chosen).fetchall() if table.name in live.tables() else []
                found = _by_key(columns, key, rows)
                yield from _differences(name, wanted, found, vague if table is t.review else set())
    finally:
        engine.dispose()


def _by_key(columns: list[str], key: tuple[str, ...], rows: object) -> _Rows:
    named = [dict(zip(columns, row, strict=True)) for row in rows]  # type: ignore[attr-defined]
    return {tuple(row[column] for column in key): row for row in named}


def _differences(name: str, wanted: _Rows, found: _Rows, vague: set[str]) -> Iterator[Finding]:
    for key in sorted({*wanted, *found}, key=repr):
        of = f"{name} of {' '.join(map(str, key))}"
        if key not in found:
            yield Finding(str(CATALOG), f"lacks the {of}", _ADVICE)
        elif key not in wanted:
            yield Finding(str(CATALOG), f"has the {of}, which no ledger has", _ADVICE)
        else:
            # Records of earlier versions do not say why and when a page was identified.
            skipped = {"why", "ruled_at"} if str(key[0]) in vague else set()
            for column, value in wanted[key].items():
                if found[key][column] != value and column not in skipped:
                    problem = f"has {column} {found[key][column]} in the {of}, the ledger {value}"
                    yield Finding(str(CATALOG), problem, _ADVICE)
