"""`ssps verify` names every column of the results that was changed, and never crashes."""

import json
import shutil
from collections.abc import Iterator
from copy import copy
from pathlib import Path

import postgres
import pytest
import sqlalchemy as sa
from unit.publisher.fsck import test_results
from unit.publisher.fsck.test_results import problems
from unit.publisher.results.results_site import Killed, ResultsSite, row

from config.sheet import Secim
from publisher.page import Stamp
from publisher.results import tables as t
from publisher.results.checks.finding import Check, Finding
from publisher.results.store import url
from publisher.source import Source

original = test_results.original
pytestmark = pytest.mark.slow
# What may change without notice, and why.
UNNOTICED = {
    "batch.received_at": "no ledger has it",
    "batch.finished_at": "no ledger has it, only that a batch is done",
    "result.accepted_at": "no ledger has it; its record is a moment later",
    "set_aside.set_aside_at": "no ledger has it; its record is a moment later",
    "left_behind.*": "files that are still in results/; at worst their rows are duplicates",
    "finding.*": "computed from rows, sheets and registry; a rebuild computes them again",
}
COLUMNS = [f"{table}.{c.name}" for table in t.METADATA.sorted_tables for c in table.columns]


@pytest.fixture(scope="module")
def site(original: ResultsSite) -> ResultsSite:
    """A site that has a row in every table of the results."""
    with original.store() as store:
        store.note_left_behind([(Source("results", "a.csv"), Stamp(1, 2, 3), "x")])
        found = Finding(Check.SHEET_WITHOUT_RESULT, Secim.MV, ("34-istanbul-1",), {}, ("a.jpg",))
        store.replace_findings({"box mv 34-istanbul-1": [found]})
        store.commit()
    return original


@pytest.fixture
def database(site: ResultsSite) -> Iterator[sa.URL]:
    """The database of the results, put back as it was."""
    with postgres.put_back(url(site.path), t.METADATA):
        yield url(site.path)


def changed(database: sa.URL, table: str, column: str, value: str) -> bool:
    """Change a column by hand; return False if it has that value, or the database refuses it."""
    where = f"rowid = (SELECT min(rowid) FROM {table}) AND {column} IS DISTINCT FROM {value}"
    try:
        return postgres.change(database, f"UPDATE {table} SET {column} = {value} WHERE {where}") > 0
    except (sa.exc.IntegrityError, sa.exc.DataError, sa.exc.ProgrammingError):
        return False


def noticed(column: str) -> bool:
    return column not in UNNOTICED and f"{column.split('.')[0]}.*" not in UNNOTICED


def test_the_site_has_no_problem(site: ResultsSite) -> None:
    assert problems(site) == problems(site, quick=True) == []
    with postgres.changing(url(site.path)) as opened:
        counted = (sa.select(sa.func.count()).select_from(one) for one in t.METADATA.sorted_tables)
        assert all(map(opened.scalar, counted))


@pytest.mark.no_cover
@pytest.mark.parametrize("column", COLUMNS)
def test_every_changed_column_is_named_and_no_value_stops_the_check(
    site: ResultsSite, column: str
) -> None:
    table, name = column.split(".")
    silent = []
    for value in ("'x'", "4711", "x'00ff'", "NULL"):
        with postgres.put_back(url(site.path), t.METADATA):
            if changed(url(site.path), table, name, value) and not problems(site):
                silent += [value] if noticed(column) else []

    assert silent == []


@pytest.mark.parametrize("table", ["batch", "result", "set_aside", "snapshot"])
@pytest.mark.parametrize("which", ["min", "max"])
def test_a_lost_row_is_named(site: ResultsSite, database: sa.URL, table: str, which: str) -> None:
    row_of = f"rowid = (SELECT {which}(rowid) FROM {table})"
    assert postgres.change(database, f"DELETE FROM {table} WHERE {row_of}") == 1

    assert problems(site) != []


def copied(site: ResultsSite, tmp_path: Path) -> ResultsSite:
    found = copy(site)
    found.path = shutil.copytree(site.path, tmp_path / "site")
    return found


def test_a_batch_that_is_marked_as_done_too_early_is_named(
    site: ResultsSite, tmp_path: Path
) -> None:
    site = copied(site, tmp_path)
    site.kill_at = "noted"
    with pytest.raises(Killed), pytest.MonkeyPatch.context() as patched:
        patched.setattr("publisher.results.intake.take_in.CHUNK_ROWS", 1)
        site.take_in(site.deliver(row(3), row(4)))
    assert problems(site) == []

    done = "UPDATE batch SET finished_at = received_at WHERE finished_at IS NULL"
    assert postgres.change(url(site.path), done) == 1

    assert any("its last lines have no record" in line for line in problems(site))


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("field", ["boxes", "aggregates", "changes"])
def test_a_changed_total_of_a_snapshot_is_named(
    site: ResultsSite, tmp_path: Path, field: str, quick: bool
) -> None:
    site = copied(site, tmp_path)
    file = site.path / "snapshots/00000001/manifest.json"
    manifest = json.loads(file.read_bytes())
    manifest["contests"]["mv"][field] += 1
    file.unlink()
    file.write_text(json.dumps(manifest))

    assert "snapshots/00000001/manifest.json: was changed" in problems(site, quick)


def test_changed_sums_and_an_older_latest_snapshot_are_named(
    site: ResultsSite, tmp_path: Path
) -> None:
    site = copied(site, tmp_path)
    sums = site.path / "snapshots/00000002/mv.sums.ndjson"
    sums.unlink()
    sums.write_text("{}\n")
    (site.path / "snapshots/latest").write_text("00000001\n")

    assert problems(site) == [
        "snapshots/00000002/mv.sums.ndjson: was changed",
        "snapshots/latest: names snapshot 1, but the newest is 2",
    ]
