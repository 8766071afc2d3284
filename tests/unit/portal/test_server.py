"""The portal publishes who is logged in, and ends the sessions that an operator ends."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from web_site import HOME, OPEN, Portal

from config import times
from config.settings import CatalogSettings
from config.site import ACCESS
from keys.operations import live_sessions, server_state
from keys.operations.live_sessions import LiveSession
from portal import broker_client
from portal.broker_answers import Answers
from portal.server import Server

CLIENT = "Mozilla/5.0 (X11; Linux x86_64)"


@pytest.fixture
def server(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that is not started, with its broker; its tasks are called by the tests."""
    settings = portal.entrance.settings
    answers = Answers(settings, server_state.PORTAL, ACCESS, lambda new: None)
    monkeypatch.setattr(broker_client, "ask", lambda verb, *words: getattr(answers, verb)(*words))
    with server_state.claim(portal.site, server_state.PORTAL):
        yield Server(portal.entrance, portal.requests)


def test_a_session_of_the_web_site_is_published_with_user_address_and_browser(
    portal: Portal, server: Server
) -> None:
    browser = portal.client(headers={"user-agent": CLIENT})
    browser.log_in()
    assert browser.get("/hesap").status_code == 200

    portal.runner.run(server._look_at_sessions())

    (found,) = live_sessions.read(portal.site)
    now = times.format_time(OPEN)
    assert found == LiveSession(
        found.session, "parti-a", HOME, CLIENT, now, service="web", user="ayse", used=now
    )
    assert found.session >= 1 << 47


def test_a_session_that_an_operator_has_ended_ends_on_the_record_and_no_other(
    portal: Portal, server: Server
) -> None:
    ended, other = portal.signed_in(), portal.signed_in("parti-a.temsilci")
    portal.runner.run(server._look_at_sessions())
    number = next(s.session for s in live_sessions.read(portal.site) if s.user == "ayse")

    live_sessions.end(portal.site, number)
    portal.runner.run(server._look_at_sessions())

    assert [s.user for s in live_sessions.read(portal.site)] == ["temsilci"]
    assert ended.get("/hesap").headers["location"].startswith("/giris")
    assert other.get("/hesap").status_code == 200
    detail = {"user": "parti-a.ayse", "session": number, "reason": "ended by operator"}
    assert ("session-end", "parti-a", "", "ok", detail) in portal.records()


def test_what_an_open_page_follows_ends_with_its_session(portal: Portal) -> None:
    browser = portal.signed_in()
    (session,) = portal.entrance.sessions.live()

    async def follow() -> str:
        request = browser.http.build_request("GET", "/canli")
        # The stream checks again each second; its session has ended before the first look.
        portal.entrance.sessions.find = lambda token, *seen: session
        portal.entrance.sessions.end_numbers(frozenset({session.number}))
        async with asyncio.timeout(10):
            return (await browser.http.send(request)).text

    assert portal.runner.run(follow()) == "retry: 3000\n\n"


def test_a_catalog_that_moves_to_postgresql_needs_a_restart(server: Server) -> None:
    settings = server.entrance.settings
    assert settings.portal is not None
    moved = replace(settings, catalog=CatalogSettings("postgresql+psycopg://ssps@db.example/ssps"))

    found = server.fixed(settings, moved, settings.portal, settings.portal)

    assert [key for key, was, now in found if was != now] == ["catalog.url"]
