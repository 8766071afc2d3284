"""What the broker of a web daemon answers, and what it keeps open."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import web_site

from config import load
from config.site import ACCESS, CATALOG, RESULTS_DATABASE
from keys.access_requests.store import Conflict
from keys.credentials.users import OPERATORS
from keys.operations import live_sessions, server_state
from keys.operations.live_sessions import LiveSession
from portal.broker_answers import Answers


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return web_site.make(tmp_path_factory.mktemp("broker") / "site")


@pytest.fixture
def answers(site: Path) -> Iterator[Answers]:
    settings = load.load(site)
    with closing(Answers(settings, server_state.PORTAL, ACCESS, lambda new: None)) as made:
        yield made


def test_sessions_are_published_as_those_of_the_web_site_and_of_its_parties(
    site: Path, answers: Answers
) -> None:
    stated = {"session": 7, "party": "parti-a", "origin": "192.0.2.7", "client": "x", "since": "x"}
    with server_state.claim(site, server_state.PORTAL):
        answers.publish_sessions(
            [
                {**stated, "service": "sftp", "files": 3, "bytes": 4, "open": 5},
                {**stated, "party": "no-party"},
                {**stated, "party": OPERATORS},
            ]
        )
        assert live_sessions.read(site) == (
            LiveSession(7, "parti-a", "192.0.2.7", "x", "x", service=live_sessions.WEB),
        )
        with pytest.raises(ValueError, match="does not appear to be"):
            answers.publish_sessions([{**stated, "origin": "\x1b[2J"}])


def test_a_form_is_sent_and_withdrawn_only_by_a_user_of_its_party(answers: Answers) -> None:
    for by in ("parti-b.banu", "parti-a.nobody", "ayse"):
        with pytest.raises(ValueError, match="is no user of parti-a"):
            answers.submit("parti-a", b"form", 0, {}, by)
        with pytest.raises(ValueError, match="is no user of parti-a"):
            answers.withdraw("parti-a", 1, b"form", by)
    with pytest.raises(Conflict):
        answers.withdraw("parti-a", 1, b"form", "parti-a.temsilci")


def test_no_database_is_left_open(tmp_path: Path) -> None:
    site = web_site.make(tmp_path / "site")
    sound, damaged = site / CATALOG, site / RESULTS_DATABASE
    sound.parent.mkdir(exist_ok=True)
    sound.touch()
    damaged.write_bytes(b"no database " * 400)

    def held() -> set[str]:
        found = (path for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
        return {path.readlink().name for path in found} & {sound.name, damaged.name}

    answers = Answers(load.load(site), server_state.PORTAL, ACCESS, lambda new: None)
    with closing(answers):
        answers.keep_open(str(sound))
        with pytest.raises(sqlite3.DatabaseError) as kept:
            answers.keep_open(str(damaged))
        assert (held(), len(kept.traceback) > 1) == ({sound.name}, True)

    assert held() == set()
