"""Opening a database for writing brings one of an earlier version up to date."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import postgres
import pytest
import sqlalchemy as sa

from config.site import CATALOG, SITE_TOML
from publisher.catalog.catalog import Catalog
from publisher.database import Unreachable, location, name_of, open_reader
from publisher.results.store import ResultStore
from scripts.shared import console


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


def test_a_column_that_an_earlier_version_lacked_is_added_and_its_index_made_again(
    tmp_path: Path,
) -> None:
    file = tmp_path / "results.sqlite"
    url = sa.URL.create("sqlite", database=str(file))
    ResultStore(url).close()
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("DROP INDEX finding_place")
        database.execute("ALTER TABLE finding DROP COLUMN last_result")
        database.execute("CREATE INDEX finding_place ON finding (check_name, places, secim)")
        database.execute(
            "INSERT INTO finding VALUES (1, 'x', 'nobody-voted', '', 'mv', '', '', '')"
        )

    ResultStore(url).close()

    with closing(sqlite3.connect(file)) as database, database:
        assert list(database.execute("SELECT id, last_result FROM finding")) == [(1, 0)]
        columns = [row[2] for row in database.execute("PRAGMA index_info(finding_place)")]
    assert columns == ["check_name", "places", "secim", "last_result"]


def no_index(file: Path) -> None:
    """Put a table there that lacks the columns of an index."""
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE absence (id INTEGER)")


def no_print_map(file: Path) -> None:
    Catalog(sa.URL.create("sqlite", database=str(file))).close()
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("INSERT INTO print_map VALUES ('e', 'cb', 'sandik-sonuc', 3, x'00')")


@pytest.mark.parametrize("damage", [no_index, no_print_map])
def test_a_database_that_cannot_be_used_is_not_left_open(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    file = tmp_path / "catalog.sqlite"
    damage(file)
    # Keeps every frame, and so what would otherwise be closed only by a garbage collector.
    with pytest.raises((sa.exc.DatabaseError, ValueError)) as kept:
        Catalog(sa.URL.create("sqlite", database=str(file)))

    assert kept.tb
    held = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert [path for path in held if path.name.startswith(file.name)] == []


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> sa.URL:
    """A new catalog in each of the two databases."""
    if request.param == "sqlite":
        return sa.URL.create("sqlite", database=str(tmp_path / "catalog.sqlite"))
    server: postgres.Server = request.getfixturevalue("postgres_server")
    return postgres.in_schema(server.new_database(), "catalog")


def test_a_reader_sees_the_same_rows_in_both_databases(url: sa.URL) -> None:
    with Catalog(url) as written, open_reader(url) as reader:
        written.commit()
        assert reader is not None
        assert "filing" in reader.tables()
        query = "SELECT name, number FROM total WHERE name LIKE '%ed' AND name <> ? ORDER BY name"
        rows = [("filed", 0), ("quarantined", 0)]
        assert reader.execute(query, ("x",)).fetchall() == rows
        assert list(reader.stream(query, ("x",))) == rows
        assert dict(reader.execute(query, ("x",))) == dict(rows)
        places = f"SELECT value FROM {reader.elements('evidence')} ORDER BY 1"
        of = f"SELECT ({places} LIMIT 1) FROM (SELECT ? AS evidence) AS row_of_it"
        assert reader.execute(of, ('["b", "a"]',)).fetchone() == ("a",)


def test_a_moment_does_not_see_what_is_written_during_it(url: sa.URL) -> None:
    query = "SELECT count(*) FROM total WHERE number = 7"
    with Catalog(url) as written, open_reader(url) as reader:
        assert reader is not None
        with reader.one_moment():
            assert reader.execute(query).fetchone() == (0,)
            written.connection.execute(sa.text("UPDATE total SET number = 7"))
            written.commit()
            assert reader.execute(query).fetchone() == (0,)
        assert reader.execute(query).fetchone() == (5,)


@pytest.mark.slow
def test_a_reader_of_postgresql_can_change_nothing(postgres_server: postgres.Server) -> None:
    url = postgres.in_schema(postgres_server.new_database(), "catalog")
    with open_reader(url) as reader:
        assert reader is not None
        with pytest.raises(Unreachable, match="read-only"):
            reader.execute("DELETE FROM total")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "for_others", "ours"),
    [
        ("synchronous_commit", "off", "on"),
        ("statement_timeout", "30s", "0"),
        ("idle_session_timeout", "5min", "0"),
        ("idle_in_transaction_session_timeout", "5min", "0"),
    ],
)
def test_what_a_server_is_set_to_for_others_does_not_hold_for_the_catalog(
    postgres_server: postgres.Server, setting: str, for_others: str, ours: str
) -> None:
    url = postgres_server.new_database()
    with postgres.changing(url) as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {url.database} SET {setting} = '{for_others}'")

    with Catalog(postgres.in_schema(url, "catalog")) as opened:
        assert opened.connection.exec_driver_sql(f"SHOW {setting}").scalar() == ours


@pytest.mark.slow
def test_a_reader_finds_the_primary_among_several_servers(
    postgres_server: postgres.Server,
) -> None:
    several = postgres_server.new_database().update_query_dict(
        {
            "host": f"/nowhere,{postgres_server.folder}",
            "target_session_attrs": "read-write",
        }
    )
    with open_reader(postgres.in_schema(several, "catalog")) as reader:
        assert reader is not None
        assert reader.execute("SELECT count(*) FROM arrival").fetchone() == (0,)


def test_a_server_that_does_not_answer_is_an_error_of_the_machine(tmp_path: Path) -> None:
    stated = f"postgresql+psycopg://ssps@/ssps?host={tmp_path}"
    (tmp_path / SITE_TOML).write_text(f'[catalog]\nurl = "{stated}"\n')

    with pytest.raises(Unreachable, match="failed: No such file"):
        Catalog(location(tmp_path, Path("state/catalog.sqlite"), "catalog"))


@pytest.mark.slow
def test_a_server_that_goes_away_is_an_error_of_one_line(postgres_server: postgres.Server) -> None:
    url = postgres.in_schema(postgres_server.new_database(), "catalog")
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    ended += f" AND datname = '{url.database}'"
    with open_reader(url) as reader, Catalog(url) as written:
        assert reader is not None
        with postgres.changing(url) as other:
            assert len(other.exec_driver_sql(ended).all()) == 2

        with pytest.raises(Unreachable) as reading:
            reader.execute("SELECT 1")
        with pytest.raises(Unreachable, match="terminating connection"):
            written.connection.exec_driver_sql("SELECT 1")

    (line,) = console.error_lines(reading.value)
    assert line.startswith("site.toml: catalog.url: terminating connection") and "\n" not in line
    with open_reader(url) as reader:  # the pool has no connection that was lost
        assert reader is not None


def test_a_server_that_does_not_answer_can_be_told_to_another_process() -> None:
    again, words = Unreachable("no route to host").__reduce__()  # for a broker, which pickles it

    assert str(again(*words)) == "site.toml: catalog.url: no route to host"


def test_messages_name_the_database_that_the_site_has(tmp_path: Path) -> None:
    (tmp_path / SITE_TOML).write_text("")
    assert postgres.EVERYTHING or name_of(tmp_path, CATALOG) == "state/catalog.sqlite"

    stated = "postgresql+psycopg://ssps@db/ssps"
    (tmp_path / SITE_TOML).write_text(f'[catalog]\nurl = "{stated}"\n')
    assert name_of(tmp_path, CATALOG) == "PostgreSQL, schema catalog"
