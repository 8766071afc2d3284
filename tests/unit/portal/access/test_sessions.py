import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from portal.access.sessions import Lifetimes, SessionFile, Sessions, Stage

NOW = datetime(2023, 5, 14, 18, 0, tzinfo=UTC)
LIFETIMES = Lifetimes(timedelta(minutes=30), timedelta(hours=12))


def opened(file: Path) -> Sessions:
    return Sessions(file, lambda: NOW, lambda: LIFETIMES)


def database_of(sessions: Sessions) -> sqlite3.Connection:
    assert isinstance(sessions._storage, SessionFile)
    return sessions._storage.database


@pytest.mark.parametrize("damage", ["no database", "a stage that does not exist"])
def test_a_damaged_file_is_replaced_and_leaves_no_connection_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    file = tmp_path / "sessions.sqlite"
    sessions = opened(file)
    token, _ = sessions.begin("parti-a", "ayse", "c", "", Stage.FULL)
    if damage == "no database":
        sessions.close()
        file.write_bytes(b"no database" * 100)
    else:
        with database_of(sessions) as database:
            database.execute("UPDATE session SET stage = 'other'")
        sessions.close()
    connections: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def noted(database: Path) -> sqlite3.Connection:
        connections.append(connect(database))
        return connections[-1]

    monkeypatch.setattr(sqlite3, "connect", noted)

    sessions = opened(file)

    assert sessions.find(token) is None
    assert len(connections) == 2
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connections[0].execute("SELECT 1")
    sessions.close()


def test_sessions_in_a_file_of_an_earlier_version_go_on(tmp_path: Path) -> None:
    file = tmp_path / "sessions.sqlite"
    sessions = opened(file)
    token, before = sessions.begin("parti-a", "ayse", "c", "", Stage.FULL)
    with database_of(sessions) as database:
        for column in ("origin", "client"):
            database.execute(f"ALTER TABLE session DROP COLUMN {column}")
    sessions.close()

    sessions = opened(file)

    assert sessions.find(token) == before
    seen = sessions.find(token, "192.0.2.7", "Firefox")
    sessions.close()
    sessions = opened(file)
    assert sessions.find(token) == seen
    assert seen is not None and (seen.origin, seen.client) == ("192.0.2.7", "Firefox")
    sessions.close()


def test_a_session_that_is_used_all_the_time_is_stored_all_the_time(tmp_path: Path) -> None:
    file, now = tmp_path / "sessions.sqlite", [NOW]
    sessions = Sessions(file, lambda: now[0], lambda: LIFETIMES)
    token, _ = sessions.begin("parti-a", "ayse", "c", "", Stage.FULL)
    for minute in range(40):
        for second in (0, 30):
            now[0] = NOW + timedelta(minutes=minute, seconds=second)
            assert sessions.find(token)
    sessions.close()

    sessions = Sessions(file, lambda: now[0], lambda: LIFETIMES)

    assert sessions.find(token) is not None
    sessions.close()
