"""`ssps verify` names every column of the catalog that was changed, and never crashes."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import postgres
import pytest
import sqlalchemy as sa
from unit.publisher.fsck import test_rebuild_catalog

from config.event import Event, Value
from config.settings import Settings
from keys.ledger.record import Record
from publisher.catalog import catalog
from publisher.catalog import tables as t
from publisher.database import SQLITE, Reader
from publisher.fsck.rows import compare_record
from publisher.fsck.verify import verify

site_with_decisions = test_rebuild_catalog.site_with_decisions
# What may change without notice, and why.
UNNOTICED = {
    "arrival.evidence": "how a page was read; the record has its own `evidence`",
    "arrival.source": "where the file was in the intake; nothing reads it after the record",
    "filing.id": "a number of the database's own, which only `gap` names",
    "form.*": "learned from the pages; a site works with none",
    "print_map.*": "learned from the pages; a site works with none",
    "left_behind.*": "files that are still in the intake; at worst one is filed as a duplicate",
    "naming.named_at": "no ledger has it",
    "rescan.asked_at": "no ledger has it",
}
PARTS = ("extract", "pixels")  # the test below
COLUMNS = [f"{table}.{c.name}" for table in t.METADATA.sorted_tables for c in table.columns]


def noticed(column: str) -> bool:
    return column not in UNNOTICED and f"{column.split('.')[0]}.*" not in UNNOTICED


@pytest.fixture
def site(site_with_decisions: Settings) -> Settings:
    """A site that has a row in every table of the catalog."""
    place = catalog.url(site_with_decisions.site)
    postgres.change(place, "INSERT INTO gap SELECT 'parti-a', min(id) FROM filing WHERE secim='mv'")
    with postgres.changing(place) as opened:
        path = opened.scalar(sa.select(t.filing.c.path).where(t.filing.c.secim == "mv"))
    (site_with_decisions.site / f"trees/parti-a/{path}").unlink()
    postgres.replace_rows(place, postgres.rows_of(place, t.METADATA))  # the first is the first key
    return site_with_decisions


def told(settings: Settings) -> list[str]:
    return [str(found) for found in verify(settings, pause=lambda seconds: None)]


def changed(place: sa.URL, table: str, column: str, value: str) -> bool:
    """Change a column by hand; return False if PostgreSQL refuses a value of that type."""
    where = f"rowid = (SELECT min(rowid) FROM {table} WHERE {column} IS NOT NULL)"
    try:
        return postgres.change(place, f"UPDATE {table} SET {column} = {value} WHERE {where}") == 1
    except (sa.exc.ProgrammingError, sa.exc.DataError):
        assert place.drivername != SQLITE
        return False


@pytest.mark.slow
@pytest.mark.no_cover
def test_every_changed_column_is_named_and_no_value_stops_the_check(site: Settings) -> None:
    before, place = told(site), catalog.url(site.site)
    assert [line for line in before if "is missing" not in line] == []  # the gap
    silent = []
    for column in filter(noticed, COLUMNS):
        table, name = column.split(".")
        if table in PARTS:
            continue
        for value in ("'x'", "4711", "x'00ff'"):
            with postgres.put_back(place, t.METADATA):
                if changed(place, table, name, value) and not set(told(site)) - set(before):
                    silent.append((column, value))

    assert silent == []
    decided = ("absence", "naming", "ruling", "rescan")
    for table in ("arrival", "filing", *decided, "party", "total", "tally"):
        with postgres.put_back(place, t.METADATA):
            lost = f"DELETE FROM {table} WHERE rowid = (SELECT min(rowid) FROM {table})"
            assert postgres.change(place, lost) == 1
            assert set(told(site)) - set(before), table
    assert told(site) == before


PAGE = "20230514T140003000041-9f3c21ab"
WHOLE = "20230514T140002000041-9f3c21ab"


@pytest.fixture
def parts() -> Iterator[sqlite3.Connection]:
    """Tables with one page of a file that was split, and its pixels."""
    with closing(sqlite3.connect(":memory:")) as opened:
        for table in (t.arrival, t.filing, t.extract, t.pixels):
            opened.execute(str(sa.schema.CreateTable(table)))
        opened.execute(
            "INSERT INTO arrival (id, name, source, source_stamp, received_at, state, outcome,"
            " what, sha256, seq)"
            " VALUES (?, 'a.pdf', x'', '', '', 'split', 'split', 'store', 'whole', 0)",
            (WHOLE,),
        )
        opened.execute("INSERT INTO extract VALUES (?, ?, 2, 'whole', 77)", (PAGE, WHOLE))
        opened.execute("INSERT INTO pixels VALUES ('copied', 'shown')")
        opened.execute(
            "INSERT INTO filing (id, arrival, frame, secim, belge, cevre, kurul, sandik, page,"
            " version, karekod, sha256, path, filed_at, seq)"
            " VALUES (1, ?, 1, '', '', '', '', '', 1, 1, '', 'copied', 'no/path', 77, 1)",
            (PAGE,),
        )
        yield opened


def parts_told(parts: sqlite3.Connection) -> list[str]:
    split: dict[str, Value] = {"page": WHOLE, "sha256": "whole", "extracts": [], "filed_at": 77}
    page: dict[str, Value] = {"page": PAGE, "sha256": "copied", "original": "whole"}
    page |= {"original_page": 2, "pixels": "shown"}
    now = datetime(2023, 5, 14, tzinfo=UTC)
    records = [
        Record(0, now, 0, Event("split", "publisher", "a.pdf", "store", detail=split)),
        Record(1, now, 1, Event("filed", "publisher", "a.pdf", "no/path", detail=page)),
    ]
    found = [
        finding.problem for record in records for finding in compare_record(Reader(parts), record)
    ]
    return [line for line in found if "extract" in line or "pixels" in line]


@pytest.mark.parametrize("column", [c for c in COLUMNS if c.split(".")[0] in PARTS])
@pytest.mark.parametrize("value", ["'x'", "4711", "x'00ff'"])
def test_a_changed_page_of_a_split_file_is_named(
    parts: sqlite3.Connection, column: str, value: str
) -> None:
    assert parts_told(parts) == []
    table, name = column.split(".")

    parts.execute(f"UPDATE {table} SET {name} = {value}")

    assert parts_told(parts) != []
