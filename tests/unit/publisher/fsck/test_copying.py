"""A catalog is copied from one database to another, whole or not at all."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import postgres
import pytest
import sqlalchemy as sa
from unit.publisher.filed_site import PageFiler
from unit.publisher.fsck.test_rebuild_catalog import site_with_decisions as site_with_decisions
from unit.publisher.results.results_site import ResultsSite, row

from config.fault import Faults
from config.settings import Settings
from config.sheet import Belge, Secim, Sheet
from config.site import CATALOG, FILING, LEDGERS
from keys.ledger.writer import Ledger
from publisher.catalog import catalog
from publisher.catalog import tables as t
from publisher.database import Unreachable
from publisher.fsck import copying
from publisher.fsck.copying import Place
from publisher.results import tables as results_tables

LOST = "terminating connection|the connection is lost"
NOW = datetime(2023, 5, 14, 20, 0, tzinfo=UTC)
SHEET = Sheet(Secim.CB, Belge.SANDIK_SONUC, "34-istanbul-1", "kadikoy-2", "9", 1)

pytestmark = [pytest.mark.slow, postgres.own_database]


@pytest.fixture
def target(postgres_server: postgres.Server, settings: Settings) -> Place:
    """An empty PostgreSQL database."""
    url = postgres_server.new_database(empty=True)
    return Place(settings.site, url.render_as_string())


def with_results(site: Path) -> None:
    """Take in a batch, of which one row is not accepted and has the character NUL.

    The findings lack a column, as those of an earlier version.
    """
    found = ResultsSite(site.with_name("results"))
    found.take_in(found.deliver(row(1), row(2), row(77)))
    with found.store() as store:
        store.connection.execute(sa.update(results_tables.set_aside).values(text="a\0b"))
        store.commit()
    file = found.path / "state" / "results.sqlite"
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("DROP INDEX finding_place")
        database.execute("ALTER TABLE finding DROP COLUMN last_result")
    file.rename(site / "state" / "results.sqlite")


def test_a_catalog_is_the_same_in_postgresql_and_back_in_sqlite(
    site_with_decisions: Settings, target: Place, tmp_path: Path
) -> None:
    site = site_with_decisions.site
    with_results(site)
    (tmp_path / "other" / "state").mkdir(parents=True)
    back = Place(tmp_path / "other")
    log = tmp_path / "other" / f"{CATALOG}-wal"  # of a file that was moved away without it
    log.write_bytes(b"of an earlier catalog")

    there = copying.copy(Place(site), target, NOW)
    again = copying.copy(target, back, NOW)

    assert there == again
    assert not log.exists()
    copied = {one.name: one.rows for one in there}
    assert copied == copying.count(Place(site)) == copying.count(target) == copying.count(back)
    full = {"filing", "arrival", "naming", "ruling", "absence", "tally", "total", "party"}
    assert all(copied[f"catalog.{name}"] for name in full)
    assert copied["results.result"] == 2 and copied["results.set_aside"] == 1
    texts = sa.select(results_tables.set_aside.c.text)
    with postgres.changing(back.of("results")) as connection:
        assert connection.scalar(texts) == "a\ufffdb"
    with postgres.changing(Place(site).of("results")) as connection:
        assert connection.scalar(texts) == "a\0b", "the source has changed"


def test_the_next_filing_gets_a_new_number(settings: Settings, target: Place) -> None:
    PageFiler(settings).file(SHEET, "a page")
    copying.copy(Place(settings.site), target, NOW)

    with postgres.changing(target.of("catalog")) as connection:
        (first,) = connection.scalars(sa.select(t.filing.c.id)).all()
        values = dict(connection.execute(sa.select(t.filing)).mappings().one())
        del values["id"]
        values |= {"path": "x", "seq": 99, "frame": 2}
        connection.execute(sa.insert(t.filing), [{**values, "page": 2}])
        assert sorted(connection.scalars(sa.select(t.filing.c.id))) == [first, first + 1]


def test_a_database_with_rows_is_refused(settings: Settings, target: Place) -> None:
    PageFiler(settings).file(SHEET, "a page")
    copying.copy(Place(settings.site), target, NOW)

    with pytest.raises(Faults, match=r"catalog\.arrival has 1 rows already"):
        copying.copy(Place(settings.site), target, NOW)
    with pytest.raises(Faults, match=r"catalog\.arrival has 1 rows already"):
        copying.copy(target, Place(settings.site), NOW)


def test_a_value_that_cannot_be_kept_stops_the_copy_and_leaves_nothing(
    settings: Settings, target: Place
) -> None:
    PageFiler(settings).file(SHEET, "a page")
    postgres.change(catalog.url(settings.site), "UPDATE filing SET version = 'first'")

    with pytest.raises(Faults, match=r"filing: .*invalid input syntax"):
        copying.copy(Place(settings.site), target, NOW)

    assert sum(copying.count(target).values()) == 0


def test_a_copy_that_differs_is_not_kept(
    settings: Settings, target: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    PageFiler(settings).file(SHEET, "a page")
    write = copying._write

    def lossy(new: sa.Connection, table: sa.Table, rows: list[object]) -> None:
        write(new, table, [] if table is t.filing else rows)

    monkeypatch.setattr(copying, "_write", lossy)

    with pytest.raises(Faults, match=r"catalog\.filing was not copied: 1 rows, then 0"):
        copying.copy(Place(settings.site), target, NOW)

    assert sum(copying.count(target).values()) == 0


def sessions_end_before(
    function: str, table: sa.Table, target: Place, patched: pytest.MonkeyPatch
) -> None:
    """End all sessions of the target once, before a function of the copy works on a table."""
    original = getattr(copying, function)

    def ends_sessions(connection: sa.Connection, of: sa.Table, *rest: object) -> object:
        if of is table and connection.dialect.name != "sqlite":
            end_sessions(target)
        return original(connection, of, *rest)

    patched.setattr(copying, function, ends_sessions)


def end_sessions(place: Place) -> None:
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    with postgres.changing(place.of("catalog")) as connection:
        connection.exec_driver_sql(f"{ended} AND datname = current_database()")


@pytest.mark.parametrize("function", ["_write", "_digest"])
def test_a_copy_whose_database_goes_away_leaves_nothing(
    function: str, settings: Settings, target: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    PageFiler(settings).file(SHEET, "a page")

    with monkeypatch.context() as patched:
        sessions_end_before(function, t.filing, target, patched)
        with pytest.raises(Unreachable, match=LOST):
            copying.copy(Place(settings.site), target, NOW)
    assert sum(copying.count(target).values()) == 0

    copying.copy(Place(settings.site), target, NOW)
    assert copying.count(target)["catalog.filing"] == 1


@pytest.mark.parametrize("function", ["_parts", "_digest"])
def test_a_copy_into_files_whose_source_goes_away_leaves_no_catalog(
    function: str,
    settings: Settings,
    target: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    PageFiler(settings).file(SHEET, "a page")
    copying.copy(Place(settings.site), target, NOW)
    (tmp_path / "other" / "state").mkdir(parents=True)
    sessions_end_before(function, t.filing, target, monkeypatch)

    with pytest.raises(Unreachable, match=LOST):
        copying.copy(target, Place(tmp_path / "other"), NOW)

    assert not (tmp_path / "other" / CATALOG).exists()


def test_a_copy_whose_commit_is_not_answered_says_so(
    settings: Settings, postgres_server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    PageFiler(settings).file(SHEET, "a page")
    target = Place(settings.site, postgres_server.new_database().render_as_string())
    commit = sa.RootTransaction.commit

    def ended(transaction: sa.RootTransaction) -> None:
        connection = transaction.connection
        in_target = connection.dialect.name != "sqlite"  # the source commits too
        if in_target and connection.scalar(sa.text("SELECT count(*) FROM catalog.arrival")):
            end_sessions(target)
        commit(transaction)

    with monkeypatch.context() as patched:
        patched.setattr(sa.RootTransaction, "commit", ended)

        with pytest.raises(Faults, match="it has all rows, or none"):
            copying.copy(Place(settings.site), target, NOW)

    assert sum(copying.count(target).values()) == 0


def test_nothing_is_copied_while_a_publisher_runs(settings: Settings) -> None:
    with (
        Ledger(settings.site / LEDGERS / FILING),
        pytest.raises(Faults, match="the publisher runs, stop it first"),
        copying.no_publisher(settings.site),
    ):
        pass


def test_a_copy_into_files_that_is_killed_leaves_no_catalog(
    settings: Settings, target: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PageFiler(settings).file(SHEET, "a page")
    copying.copy(Place(settings.site), target, NOW)
    (tmp_path / "other" / "state").mkdir(parents=True)

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(copying, "_digest", stopped)
        with pytest.raises(KeyboardInterrupt):
            copying.copy(target, Place(tmp_path / "other"), NOW)
    assert not (tmp_path / "other" / CATALOG).exists()

    copying.copy(target, Place(tmp_path / "other"), NOW)

    assert copying.count(Place(tmp_path / "other"))["catalog.filing"] == 1
