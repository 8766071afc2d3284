"""Connections to the databases are kept between questions, and opened again when needed."""

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path

import postgres
import pytest
import sqlalchemy as sa

from config.site import CATALOG
from portal.data.queries import databases
from portal.data.queries.databases import open_catalog
from publisher.database import Reader, open_reader

pytestmark = postgres.sqlite_only


@pytest.fixture(autouse=True)
def kept() -> Iterator[None]:
    with databases.kept_open():
        yield


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    make(tmp_path / CATALOG, "first")
    return tmp_path


def make(file: Path, path: str) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE filing (path)")
        database.execute("CREATE TABLE absence (seq)")
        database.execute("INSERT INTO filing VALUES (?)", (path,))
        database.commit()


def paths(site: Path) -> list[str]:
    with open_catalog(site) as reader:
        assert reader is not None
        return [path for (path,) in reader.execute("SELECT path FROM filing")]


def opened(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return a list that gets an entry for each connection that is opened from now on."""
    found: list[object] = []

    def counted(url: sa.URL) -> AbstractContextManager[Reader | None]:
        found.append(url)
        return open_reader(url)

    monkeypatch.setattr(databases, "open_reader", counted)
    return found


def test_a_second_question_uses_the_connection_of_the_first(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = opened(monkeypatch)

    assert [paths(site), paths(site), paths(site)] == [["first"]] * 3

    assert len(connections) == 1


def test_questions_at_the_same_time_have_connections_of_their_own(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = opened(monkeypatch)
    for _ in range(2):
        with open_catalog(site) as one, open_catalog(site) as other:
            assert one is not other

    assert len(connections) == 2


def test_only_a_few_connections_wait_each_with_a_small_cache(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = opened(monkeypatch)
    for _ in range(2):
        with ExitStack() as stack:
            readers = [stack.enter_context(open_catalog(site)) for _ in range(10)]
            sizes = {reader.execute("PRAGMA cache_size").fetchone() for reader in readers if reader}

    assert sizes == {(-512,)}  # KiB
    assert len(connections) == 10 + 6  # four were kept


def test_a_database_that_was_replaced_is_opened_again(site: Path) -> None:
    assert paths(site) == ["first"]
    make(site / "fresh.sqlite", "second")
    (site / "fresh.sqlite").replace(site / CATALOG)

    assert paths(site) == ["second"]


def test_a_connection_is_not_kept_after_an_error(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = opened(monkeypatch)
    with pytest.raises(sqlite3.OperationalError), open_catalog(site) as reader:
        assert reader is not None
        reader.execute("SELECT nothing FROM filing")

    assert paths(site) == ["first"]
    assert len(connections) == 2


def test_a_table_that_is_made_later_is_found(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with open_catalog(tmp_path) as reader:
        assert reader is None
    with closing(sqlite3.connect(tmp_path / CATALOG)) as database:
        database.execute("CREATE TABLE filing (path)")
    with open_catalog(tmp_path) as reader:
        assert reader is None
    with closing(sqlite3.connect(tmp_path / CATALOG)) as database:
        database.execute("CREATE TABLE absence (seq)")

    assert paths(tmp_path) == []
