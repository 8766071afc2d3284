"""Opening a database for writing brings one of an earlier version up to date."""

import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from publisher.results.store import ResultStore


def test_an_index_that_an_earlier_version_lacked_is_made(tmp_path: Path) -> None:
    file = tmp_path / "results.sqlite"
    url = sa.URL.create("sqlite", database=str(file))
    ResultStore(url).close()
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("DROP INDEX finding_place")

    ResultStore(url).close()

    with closing(sqlite3.connect(file)) as database, database:
        indexes = {row[1] for row in database.execute("PRAGMA index_list(finding)")}
    assert "finding_place" in indexes
