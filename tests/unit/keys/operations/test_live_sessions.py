"""Who is connected, and which sessions an operator has ended."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from config.site import ENDED_SESSIONS, WEB_SESSIONS
from keys.operations import live_sessions, server_state
from keys.operations.live_sessions import EndedSessions, LiveSession, SessionsFile

SESSION = LiveSession(90, "parti-a", "192.0.2.7", "OpenSSH_9.2", "2023-05-14T18:04:10+00:00")


def test_the_sessions_of_the_running_server_are_read(tmp_path: Path) -> None:
    with server_state.claim(tmp_path, server_state.SERVE):
        SessionsFile(tmp_path).update([SESSION])
        assert live_sessions.read(tmp_path) == (SESSION,)
    assert live_sessions.read(tmp_path) == ()  # it has ended


def test_the_sessions_of_the_portal_are_read_beside_those_of_the_server(tmp_path: Path) -> None:
    web = replace(SESSION, session=1 << 47, service="web", user="ayse", used=SESSION.since)
    with (
        server_state.claim(tmp_path, server_state.SERVE),
        server_state.claim(tmp_path, server_state.PORTAL),
    ):
        SessionsFile(tmp_path).update([SESSION])
        SessionsFile(tmp_path, WEB_SESSIONS).update([web])
        assert live_sessions.read(tmp_path) == (SESSION, web)
    with server_state.claim(tmp_path, server_state.PORTAL):
        assert live_sessions.read(tmp_path) == (web,)


def test_the_file_of_another_process_and_rubbish_are_ignored(tmp_path: Path) -> None:
    with server_state.claim(tmp_path, server_state.SERVE):
        SessionsFile(tmp_path).update([SESSION])
        file = tmp_path / "state/sessions.json"
        stated = json.loads(file.read_text())
        rubbish: list[object] = [{**stated, "pid": 1}, {**stated, "sessions": [{}]}, [], None]
        for content in rubbish:
            file.write_text(json.dumps(content))
            assert live_sessions.read(tmp_path) == ()


def test_the_file_is_written_only_when_something_has_changed(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    writer, file = SessionsFile(tmp_path), tmp_path / "state/sessions.json"
    writer.update([SESSION])
    before = file.stat().st_ino
    writer.update([SESSION])
    assert file.stat().st_ino == before
    writer.update([])
    assert json.loads(file.read_text())["sessions"] == []


def test_ended_sessions_are_kept_and_noticed(tmp_path: Path) -> None:
    found = EndedSessions(tmp_path)
    assert found.numbers() == frozenset()

    live_sessions.end(tmp_path, 90)
    live_sessions.end(tmp_path, 104)
    live_sessions.end(tmp_path, 90)

    assert live_sessions.ended(tmp_path) == (104, 90)
    assert found.numbers() == {90, 104}


def test_a_session_of_the_web_site_ends_whichever_host_saw_it_last(tmp_path: Path) -> None:
    live_sessions.end(tmp_path, 90, "web1")
    live_sessions.end(tmp_path, 104, "web2")

    assert EndedSessions(tmp_path, None).numbers() == {90, 104}
    assert EndedSessions(tmp_path, "web2").numbers() == {104}


def test_only_the_newest_ended_sessions_are_kept(tmp_path: Path) -> None:
    for number in range(1003):
        if number in (0, 1, 2) or number > 1000:
            live_sessions.end(tmp_path, number)
    assert live_sessions.ended(tmp_path)[-1] == 1002


def test_sessions_of_all_hosts_are_read_with_their_hosts(tmp_path: Path) -> None:
    elsewhere = replace(SESSION, host="gw2")
    with (
        server_state.claim(tmp_path, server_state.SERVE, "gw1"),
        server_state.claim(tmp_path, server_state.SERVE, "gw2"),
    ):
        SessionsFile(tmp_path, host="gw1").update([replace(SESSION, host="gw1")])
        SessionsFile(tmp_path, host="gw2").update([elsewhere])

        assert [s.number for s in live_sessions.read(tmp_path)] == ["90@gw1", "90@gw2"]
    assert live_sessions.read(tmp_path) == ()


def test_a_session_is_ended_on_its_host_only(tmp_path: Path) -> None:
    live_sessions.end(tmp_path, 90, "gw2")
    live_sessions.end(tmp_path, 104)

    assert EndedSessions(tmp_path, "gw2").numbers() == {90}
    assert EndedSessions(tmp_path, "gw1").numbers() == frozenset()
    assert EndedSessions(tmp_path).numbers() == {104}
    assert (tmp_path / ENDED_SESSIONS).read_text() == '{"sessions": ["90@gw2", 104]}\n'


@pytest.mark.parametrize("text", ["", "90@", "@gw2", "x", "-1", "90@GW", "9 0"])
def test_a_wrong_number_of_a_session_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not the number of a session"):
        live_sessions.parse_number(text)
