"""Several portals of a site have the same sessions, codes and limits, which are in PostgreSQL."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import postgres
import pyotp
import pytest

from config.settings import CatalogSettings
from keys.credentials.admission import Reason
from keys.operations.server_state import PORTAL
from portal.access import exchange as exchanging
from portal.access.exchange import Exchange, Unavailable
from portal.access.limits import Limits
from portal.access.sessions import Lifetimes, Sessions, Stage
from portal.access.totp import TotpCodes
from portal.connection_share import KEPT, STRANGER, ConnectionShare
from portal.shared_state import SCHEMA, SharedState
from publisher.database import Unreachable

pytestmark = pytest.mark.slow

NOW = datetime(2023, 5, 14, 18, 0, tzinfo=UTC)
HOME, AWAY = ip_address("192.0.2.7"), ip_address("198.51.100.9")
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@dataclass
class PortalOfTest:
    """The shared part of one portal, without a web site."""

    state: SharedState
    now: datetime = NOW
    monotonic: float = 1000.0
    reachable: bool = True
    exchange: Exchange = field(init=False)
    sessions: Sessions = field(init=False)
    limits: Limits = field(init=False)
    share: ConnectionShare = field(init=False)
    codes: TotpCodes = field(init=False)

    def __post_init__(self) -> None:
        self.exchange = Exchange(self.ask, lambda: self.monotonic)
        lifetimes = Lifetimes(timedelta(minutes=30), timedelta(hours=12))
        storage = self.exchange.storage("portal")
        self.sessions = Sessions(storage, lambda: self.now, lambda: lifetimes)
        self.limits = Limits(lambda: self.monotonic)
        self.exchange.follow("portal", self.sessions, self.limits)
        self.share = ConnectionShare(lambda address: address == HOME, lambda _: False)
        self.exchange.follow_connections(self.share)
        self.codes = TotpCodes(self.exchange.claim_code)

    def ask(self, verb: str, *words: Any) -> Any:
        if not self.reachable:
            raise Unreachable("connection refused")
        verbs: dict[str, Callable[..., Any]] = {
            "exchange": self.state.exchange,
            "shared_session": self.state.session,
            "use_code": self.state.use_code,
        }
        return verbs[verb](*json.loads(json.dumps(words)))

    def begin(self, user: str = "ayse") -> str:
        return self.sessions.begin("parti-a", user, "c", "", Stage.FULL, str(HOME))[0]


@pytest.fixture
def new_portal(postgres_server: postgres.Server) -> Iterator[Callable[[], PortalOfTest]]:
    """Make a portal of one site; each has a connection of its own to the database."""
    url = postgres_server.new_database().render_as_string()
    with ExitStack() as opened:

        def make() -> PortalOfTest:
            state = SharedState(CatalogSettings(url), PORTAL, "", ("portal", "requests"))
            return PortalOfTest(opened.enter_context(closing(state)))

        yield make


@pytest.fixture
def portals(
    new_portal: Callable[[], PortalOfTest],
) -> tuple[PortalOfTest, PortalOfTest]:
    return new_portal(), new_portal()


def run(story: Callable[[], Awaitable[object]]) -> None:
    async def whole() -> None:
        await story()

    asyncio.run(whole())


def test_a_session_goes_on_at_another_portal_at_once_and_ends_at_both(
    portals: tuple[PortalOfTest, PortalOfTest],
) -> None:
    one, two = portals

    async def story() -> None:
        await one.exchange.exchange()
        await two.exchange.exchange()
        token = one.begin()
        await one.exchange.settle()

        assert two.sessions.find(token) is None
        await two.exchange.fetch("portal", token)
        found = two.sessions.find(token, "198.51.100.9", "Firefox")
        assert found is not None and (found.user, found.stage) == ("ayse", Stage.FULL)

        two.sessions.end(token)
        await two.exchange.settle()
        assert one.sessions.is_live(token)
        await one.exchange.exchange()
        assert one.sessions.find(token) is None
        await one.exchange.fetch("portal", token)
        assert one.sessions.find(token) is None

    run(story)


def test_a_portal_that_starts_knows_the_sessions_and_a_frozen_one_learns_what_ended(
    new_portal: Callable[[], PortalOfTest],
) -> None:
    one = new_portal()

    async def story() -> None:
        kept, ended = one.begin("ayse"), one.begin("banu")
        await one.exchange.settle()
        two = new_portal()
        await two.exchange.exchange()
        assert two.sessions.find(kept) and two.sessions.find(ended)

        one.sessions.end(ended)
        await one.exchange.settle()
        postgres.change(one.state._url, "DELETE FROM session WHERE ended_at IS NOT NULL")
        postgres.change(one.state._url, "UPDATE instance SET seen_at = seen_at - 301")
        two.monotonic += 301
        assert not two.exchange.is_fresh()
        begun_meanwhile = two.begin("cem")
        await two.exchange.exchange()
        assert two.exchange.is_fresh()
        assert two.sessions.find(ended) is None
        assert two.sessions.find(kept) and two.sessions.find(begun_meanwhile)

    run(story)


def test_a_session_is_used_by_the_clock_of_the_portal_that_saw_it_last(
    portals: tuple[PortalOfTest, PortalOfTest],
) -> None:
    one, two = portals

    async def story() -> None:
        token = one.begin()
        await one.exchange.settle()
        await two.exchange.exchange()
        for minute in range(1, 40):
            one.now = NOW + timedelta(minutes=minute)
            assert one.sessions.find(token)
        await one.exchange.exchange()

        # The other one has not heard of it yet, and expires a session that goes on.
        two.now = NOW + timedelta(minutes=39)
        assert two.sessions.find(token) is None
        await two.exchange.exchange()
        assert two.sessions.find(token) is not None
        await one.exchange.exchange()
        assert one.sessions.find(token) is not None

    run(story)


def test_an_end_that_cannot_be_stored_is_refused_and_stored_later(
    portals: tuple[PortalOfTest, PortalOfTest],
) -> None:
    one, two = portals

    async def story() -> None:
        token = one.begin()
        await one.exchange.settle()
        await two.exchange.exchange()
        one.reachable = False
        one.sessions.end(token)
        with pytest.raises(Unavailable):
            await one.exchange.settle()
        with pytest.raises(Unavailable):
            await one.exchange.fetch("portal", "x" * 43)
        with pytest.raises(Unavailable):
            await one.exchange.claim_code("parti-a.ayse", 1)
        assert one.sessions.find(token) is None

        one.reachable = True
        await one.exchange.exchange()
        await two.exchange.exchange()
        assert two.sessions.find(token) is None

    run(story)


def test_a_portal_without_the_database_does_not_know_the_sessions_for_long(
    portals: tuple[PortalOfTest, PortalOfTest],
) -> None:
    one, _ = portals

    async def story() -> None:
        assert not one.exchange.is_fresh()
        await one.exchange.exchange()
        one.reachable = False
        one.monotonic += exchanging.STALE - 1
        await one.exchange.exchange()
        assert one.exchange.is_fresh()
        one.monotonic += 1
        assert not one.exchange.is_fresh()

    run(story)


def test_a_code_is_used_once_whichever_portal_gets_it(
    portals: tuple[PortalOfTest, PortalOfTest],
) -> None:
    one, two = portals
    totp = pyotp.TOTP(SECRET)
    code, next_code = totp.at(NOW), totp.at(NOW + timedelta(seconds=30))

    async def story() -> None:
        answers = await asyncio.gather(
            *(p.codes.accept("parti-a.ayse", SECRET, code, NOW) for p in (one, two))
        )
        assert sorted(answers) == [False, True]
        assert await two.codes.accept("parti-a.ayse", SECRET, next_code, NOW)
        assert not await one.codes.accept("parti-a.ayse", SECRET, next_code, NOW)
        assert await one.codes.accept("parti-a.banu", SECRET, next_code, NOW)

    run(story)


def test_attempts_calls_and_penalties_count_at_all_portals(
    portals: tuple[PortalOfTest, PortalOfTest],
) -> None:
    one, two = portals

    async def story() -> None:
        await two.exchange.exchange()
        assert [one.limits.login_wait(HOME, "parti-a.ayse") for _ in range(10)] == [0.0] * 10
        for _ in range(12):
            one.limits.login_failed(AWAY, Reason.CREDENTIAL)
        assert one.limits.call_wait("parti-a.servis", 60) == 0.0
        assert two.limits.login_wait(HOME, "parti-a.ayse") == 0.0
        assert two.limits.login_wait(AWAY, "x") == 0.0

        await one.exchange.exchange()
        await two.exchange.exchange()

        assert two.limits.login_wait(HOME, "parti-a.ayse") > 0
        assert two.limits.login_wait(HOME, "parti-a.banu") == 0.0
        assert two.limits.login_wait(AWAY, "x") > 0
        assert [two.limits.call_wait("parti-a.servis", 60) for _ in range(9)] == [0.0] * 9
        assert two.limits.call_wait("parti-a.servis", 60) > 0

    run(story)


def test_all_portals_together_give_as_many_calls_as_one(
    portals: tuple[PortalOfTest, PortalOfTest],
) -> None:
    given = 0

    async def story() -> None:
        nonlocal given
        for portal in portals:
            await portal.exchange.exchange()
        for _ in range(60):
            for portal in portals:
                portal.monotonic += 1
                while portal.limits.call_wait("parti-a.servis", 600) == 0.0:
                    given += 1
            for portal in portals:
                await portal.exchange.exchange()

    run(story)
    # 10 a second and the burst of 100; the second portal gave its burst before it heard.
    assert 600 <= given <= 600 + 2 * 100 + 20


def test_an_address_has_its_share_of_connections_at_all_portals_together(
    portals: tuple[PortalOfTest, PortalOfTest],
) -> None:
    one, two = portals
    one.share._most = two.share._most = 2 * KEPT

    async def story() -> None:
        await two.exchange.exchange()
        taken = [one.share.take(HOME) for _ in range(KEPT)]
        strangers = [one.share.take(AWAY) for _ in range(STRANGER)]
        assert None not in (*taken, *strangers)
        await one.exchange.exchange()
        await two.exchange.exchange()
        assert two.share.take(HOME) is None and two.share.take(AWAY) is None

        one.share.release(taken[0])  # type: ignore[arg-type]
        await one.exchange.exchange()
        await two.exchange.exchange()
        assert two.share.take(HOME) is not None

        postgres.change(one.state._url, "UPDATE instance SET seen_at = seen_at - 16")
        await two.exchange.exchange()  # the other one is gone, and its connections with it
        assert two.share.take(AWAY) is not None

    run(story)


def test_a_session_is_published_by_one_portal_and_its_end_recorded_by_one(
    portals: tuple[PortalOfTest, PortalOfTest],
) -> None:
    one, two = portals

    async def story() -> None:
        token = one.begin()
        for portal in (one, two, one):
            await portal.exchange.exchange()
        (session,) = one.sessions.live()
        assert two.sessions.live() == []

        assert two.sessions.find(token, "198.51.100.9", "Firefox")
        for portal in (two, one):
            await portal.exchange.exchange()
        assert one.sessions.live() == [] and len(two.sessions.live()) == 1

        postgres.change(
            one.state._url,
            "UPDATE instance SET seen_at = seen_at - 16 WHERE id = ?",
            two.exchange.instance,
        )
        await one.exchange.exchange()
        assert len(one.sessions.live()) == 1  # its portal is gone

        numbers = frozenset({session.number})
        ended = one.sessions.end_numbers(numbers), two.sessions.end_numbers(numbers)
        by_one = await one.exchange.ended_here(ended[0])
        by_two = await two.exchange.ended_here(ended[1])
        assert [each.user for each in by_one] == ["ayse"] and by_two == []

    run(story)


def test_the_database_refuses_what_is_not_of_this_daemon(
    portals: tuple[PortalOfTest, PortalOfTest],
) -> None:
    one, _ = portals
    assert SCHEMA == "portal"
    with pytest.raises(ValueError, match="is not an entrance"):
        one.state.session("staff", "x")
    with pytest.raises(ValueError, match="is not an entrance"):
        one.state.exchange("i", 0, [["end", "staff", "x"]], [], None)
