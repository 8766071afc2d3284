"""A server of PostgreSQL that is silent is given up; one that works long is waited for."""

import socket
import threading
import time
from pathlib import Path
from typing import Any

import postgres
import psycopg
import pytest
import sqlalchemy as sa

from publisher import database, postgresql
from publisher.catalog.catalog import Catalog
from publisher.database import Unreachable, connect, open_engine, open_reader


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "SILENT_SECONDS", 0.2)
    monkeypatch.setattr(postgresql, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(postgresql, "_silent", set())


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_frozen_server_is_given_up_and_used_again_later(
    postgres_server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(database._CONNECTING, "connect_timeout", "2")
    url = postgres.in_schema(postgres_server.new_database(), "catalog")
    with Catalog(url) as written, open_reader(url) as reader:
        assert reader is not None
        with postgres_server.paused():
            with pytest.raises(Unreachable, match="the server has not answered for"):
                reader.execute("SELECT 1")
            # From now on the other connections wait less long.
            monkeypatch.setattr(postgresql, "SILENT_SECONDS", 60)
            with pytest.raises(Unreachable, match="the server has not answered for"):
                written.next_seq()
            with pytest.raises(Unreachable, match="timeout expired"), open_reader(url):
                pass

    with Catalog(url) as written, open_reader(url) as reader:
        assert reader is not None
        assert written.next_seq() == 0 and not postgresql._silent
        assert reader.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_statement_that_takes_long_is_waited_for(postgres_server: postgres.Server) -> None:
    with open_reader(postgres.in_schema(postgres_server.new_database(), "catalog")) as reader:
        assert reader is not None
        assert reader.execute("SELECT pg_sleep(1)::text").fetchone() == ("",)
        assert list(reader.stream("SELECT pg_sleep(1)::text")) == [("",)]


def test_only_a_server_that_says_something_answers(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server, socket.create_server(("127.0.0.1", 0)) as other:
        server.bind(str(tmp_path / ".s.PGSQL.5432"))
        server.listen()
        port = other.getsockname()[1]

        assert not postgresql.answers(str(tmp_path), 5432, 0.05)
        assert not postgresql.answers("127.0.0.1", port, 0.05)
        assert not postgresql.answers(str(tmp_path / "nowhere"), 5432, 0.05)

        def answer() -> None:
            for _ in range(2):  # the first has given up
                asked, _ = other.accept()
                with asked:
                    asked.recv(8)
                    asked.send(b"N")

        thread = threading.Thread(target=answer)
        thread.start()
        assert postgresql.answers("127.0.0.1", port, 20)
        thread.join()


@pytest.mark.slow
def test_a_process_that_uses_all_its_connections_says_so(postgres_server: postgres.Server) -> None:
    url = postgres.in_schema(postgres_server.new_database(), "catalog")
    engine = open_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.05)

    with connect(engine), pytest.raises(Unreachable, match="are in use"):
        connect(engine)

    engine.dispose()


def test_only_one_thread_waits_for_a_server_that_did_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.in_schema(
        sa.make_url(f"postgresql+psycopg://ssps@/ssps?host={tmp_path}"), "catalog"
    )
    trying, go_on, found = threading.Event(), threading.Event(), list[str]()

    def slow(*_: object) -> object:
        trying.set()
        assert go_on.wait(20)
        raise sa.exc.OperationalError("connect", {}, OSError("timeout expired"))

    def attempt() -> None:
        with pytest.raises(Unreachable, match="timeout expired"):
            connect(engine)
        found.append("first")

    engine = open_engine(url)
    with pytest.raises(Unreachable, match="No such file"):
        connect(engine)
    monkeypatch.setattr(engine, "connect", slow)
    thread = threading.Thread(target=attempt)
    thread.start()
    assert trying.wait(20)
    since = time.monotonic()
    with pytest.raises(Unreachable, match="No such file"):
        connect(engine)
    found.append("second")
    go_on.set()
    thread.join()

    assert found == ["second", "first"] and time.monotonic() - since < 20


@pytest.mark.slow
def test_a_pooler_that_drops_what_is_asked_for_is_refused(
    postgres_server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = postgresql.Connection.connect

    def without_options(*words: str, **options: Any) -> object:  # ignore_startup_parameters
        return made(*words, **{**options, "options": ""})

    def refused(*words: str, **options: str) -> object:
        raise psycopg.OperationalError("FATAL:  unsupported startup parameter: options")

    for pooler in (without_options, refused):
        monkeypatch.setattr(postgresql.Connection, "connect", pooler)
        url = postgres.in_schema(postgres_server.new_database(), "catalog")
        for use in (Catalog, lambda url: open_reader(url).__enter__()):
            with pytest.raises(Unreachable, match="not through a pooler such as PgBouncer"):
                use(url)
