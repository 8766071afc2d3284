"""Exchanges with the other portals of a site what all of them have to agree on.

It is used if the catalog is in PostgreSQL. Each portal has all sessions and limits in memory, and
asks its broker every INTERVAL to store what has changed here and to return what has changed
elsewhere (portal/shared_state). So what happens at one portal is known at the others within a
second:

    a login, a later stage, the end of a session     stored before the answer is sent (`settle`)
    a cookie that this portal does not know yet      asked for at once (`fetch`)
    a code of the second factor                      asked for at once (`claim_code`)
    the time of a session's last request             every USED_SECONDS
    attempts to log in, calls, penalties             each portal takes off what the others gave
    connections of an address                        each portal counts those at the others

A portal that could not exchange for STALE seconds cannot know whether a session was ended
elsewhere: until it can, it lets no session go on, and says so to the balancer
(portal/access/front). A process that was frozen learns everything again before it answers.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

import structlog

from config.fault import Faults
from portal import broker_client
from portal.access.limits import Limits, Spent
from portal.access.sessions import Session, Sessions, fields_of, name_of, session_of
from portal.connection_share import ConnectionShare
from portal.shared_state import News, Stored

INTERVAL, STALE, USED_SECONDS = 0.5, 10.0, 10.0
_ANSWER_SECONDS = 8.0  # for which a request waits
_UNKNOWN_SECONDS, _MAX_UNKNOWN = 2.0, 1024  # cookies that are no session anywhere
_TOKEN_LENGTH = 43  # of a session's token
_MAX_ENDED = 1024
_FETCHES = 8  # at a time

_log = structlog.get_logger()


class Unavailable(Exception):
    """What all portals have to agree on cannot be asked or stored now."""


class SharedSessions:
    """Keeps the sessions of one entrance for all portals (portal/access/sessions.Storage)."""

    save_after = timedelta(seconds=USED_SECONDS)

    def __init__(self, exchange: "Exchange", entrance: str) -> None:
        self._exchange, self._entrance = exchange, entrance
        self.holders: dict[str, str] = {}  # the process that has seen each session last

    def add(self, name: str, session: Session) -> None:
        """Keep a session that has begun."""
        self._note("add", name, session)

    def update(self, name: str, session: Session) -> None:
        """Keep what a request has changed in a session."""
        self._note("use", name, session)

    def remove(self, name: str, session: Session | None, *, expired: bool) -> None:
        """Forget a session that was ended or has expired."""
        self.holders.pop(name, None)
        if session is not None:
            self._exchange.note("expire" if expired else "end", self._entrance, name, session)

    def is_here(self, name: str) -> bool:
        """Say whether this portal is the one that publishes a session."""
        return self._exchange.publishes(self.holders.get(name, ""))

    def close(self) -> None:
        """Do nothing: the exchange stops at the end."""

    def _note(self, what: str, name: str, session: Session) -> None:
        self.holders[name] = self._exchange.instance
        self._exchange.note(what, self._entrance, name, session)


class Exchange:
    """The exchange of one web daemon; it belongs to one event loop."""

    def __init__(
        self,
        ask: Callable[..., Any] = broker_client.ask,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.instance = secrets.token_hex(8)
        self._ask, self._monotonic = ask, monotonic
        self._storages: dict[str, SharedSessions] = {}
        self._sessions: dict[str, Sessions] = {}
        self._limits: dict[str, Limits] = {}
        self._shares: ConnectionShare | None = None
        self._others: tuple[str, ...] = ()
        self._since = -1
        self._changes: dict[tuple[str, str, str], Session] = {}  # not stored yet, in order
        self._storing: dict[tuple[str, str, str], Session] = {}  # in the exchange that runs
        self._ended_here: set[str] = set()
        self._spent = Spent()
        self._counted: Any = None  # the connections as the others know them
        self._unknown: dict[str, float] = {}
        self._fetching: set[str] = set()  # those that have ended meanwhile are taken out
        self._fetches = asyncio.Semaphore(_FETCHES)
        self._running: asyncio.Task[None] | None = None
        self._exchanged_at = float("-inf")
        self._failed = False
        self.number = 0  # of changes that were noted here

    # What takes part.

    def storage(self, entrance: str) -> SharedSessions:
        """Return what keeps the sessions of an entrance."""
        return self._storages.setdefault(entrance, SharedSessions(self, entrance))

    def follow(self, entrance: str, sessions: Sessions, limits: Limits) -> None:
        """Tell sessions and limits of an entrance what happens at the other portals."""
        self._sessions[entrance], self._limits[entrance] = sessions, limits
        limits.share(entrance, self._spent)

    def follow_connections(self, share: ConnectionShare) -> None:
        """Count the connections at the other portals too."""
        self._shares = share

    # What the entrances and the gate use.

    def note(self, what: str, entrance: str, name: str, session: Session) -> None:
        """Note what happened to a session, to be stored."""
        self.number += 1
        # What happened last to a session of the same kind counts, after what was noted before.
        self._changes.pop((what, entrance, name), None)
        self._changes[what, entrance, name] = session

    def publishes(self, holder: str) -> bool:
        """Say whether this process publishes the sessions that `holder` has seen last."""
        if holder == self.instance:
            return True
        return holder not in self._others and self.instance <= min(self._others, default="~")

    def is_fresh(self) -> bool:
        """Say whether this process knows what has happened at the others."""
        return self._monotonic() < self._exchanged_at + STALE

    async def settle(self) -> None:
        """Wait until everything that was noted is stored; raise Unavailable if it cannot be."""
        while self._changes or self._storing:
            await self._wait(self._begin())
            if self._failed:
                raise Unavailable

    async def ended_here(self, ended: Mapping[str, Session]) -> list[Session]:
        """Return those of the sessions ended just now that no other portal ended before."""
        try:
            await self.settle()
        except Unavailable:
            return list(ended.values())  # rather two records than none
        found = [session for name, session in ended.items() if name in self._ended_here]
        self._ended_here.clear()
        return found

    async def fetch(self, entrance: str, token: str) -> None:
        """Ask for a session that may have begun at another portal a moment ago."""
        sessions, name, now = self._sessions[entrance], name_of(token), self._monotonic()
        if len(token) != _TOKEN_LENGTH or sessions.knows(token):
            return
        if self._unknown.get(name, 0.0) > now or self._ends(entrance, name):
            return
        async with self._fetches:
            self._fetching.add(name)
            found: Stored | None = await self._ask_soon("shared_session", entrance, name)
        if found is not None:
            if name in self._fetching and not sessions.knows(token):
                self._learn(found)
            return
        if len(self._unknown) >= _MAX_UNKNOWN:
            self._unknown.clear()
        self._unknown[name] = now + _UNKNOWN_SECONDS

    def _ends(self, entrance: str, name: str) -> bool:
        """Say whether the end of a session is on its way to the database."""
        key = "end", entrance, name
        return key in self._changes or key in self._storing

    async def claim_code(self, login: str, step: int) -> bool:
        """Note that a user uses the code of that step; False if it was used before."""
        return bool(await self._ask_soon("use_code", login, step))

    # The exchange.

    async def run(self) -> None:
        """Exchange again and again, until the task is cancelled."""
        while True:
            await self.exchange()
            await asyncio.sleep(INTERVAL)

    async def exchange(self) -> None:
        """Exchange once, or wait for the exchange that is under way, but not for ever."""
        with suppress(Unavailable):
            await self._wait(self._begin())

    def _begin(self) -> asyncio.Task[None]:
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._exchange())
        return self._running

    async def _wait(self, task: asyncio.Task[None]) -> None:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await asyncio.shield(task)
        except TimeoutError:
            raise Unavailable from None

    async def _exchange(self) -> None:
        began = self._monotonic()
        changes, self._storing, self._changes = self._changes, self._changes, {}
        spent = self._spent.take()
        counted = None if self._shares is None else self._shares.counts()
        try:
            news: News = await asyncio.to_thread(
                self._ask,
                "exchange",
                self.instance,
                self._since,
                [[*key, *fields_of(session)] for key, session in changes.items()],
                spent,
                None if counted == self._counted else counted,
            )
            self._use(news)
        except Exception as error:
            self._changes = {**changes, **self._changes}
            if not self._failed:
                _log.error("portals-not-in-step", cause=str(error))
            self._failed, self._counted = True, None
            return
        finally:
            self._storing = {}
        if self._failed:
            _log.info("portals-in-step")
        self._failed, self._counted = False, counted
        self._since = news.change
        if len(self._ended_here) > _MAX_ENDED:
            self._ended_here.clear()
        self._ended_here.update(news.ended)
        self._exchanged_at = began

    def _use(self, news: News) -> None:
        self._others = tuple(news.connections)
        pending = {(entrance, name) for _, entrance, name in self._changes}
        if news.everything:
            self._learn_everything(news.sessions, pending)
        else:
            for each in news.sessions:
                # What was noted here meanwhile is newer.
                if (each.entrance, each.token_sha256) not in pending:
                    self._learn(each)
        for kind, entrance, key, rate, burst, amount in news.spent:
            if (limits := self._limits.get(entrance)) is not None:
                limits.take(kind, key, float(rate), float(burst), float(amount))
        if self._shares is not None:
            self._shares.use_others(news.connections.values())

    def _learn(self, found: Stored) -> None:
        session = None if found.fields is None else session_of(*found.fields)
        self._fetching.discard(found.token_sha256)
        storage = self._storages[found.entrance]
        if session is None:
            storage.holders.pop(found.token_sha256, None)
        else:
            storage.holders[found.token_sha256] = found.instance
        self._sessions[found.entrance].learn(found.token_sha256, session)

    def _learn_everything(self, stored: tuple[Stored, ...], pending: set[tuple[str, str]]) -> None:
        self._fetching.clear()
        for entrance, sessions in self._sessions.items():
            kept = {each.token_sha256 for each in stored if each.entrance == entrance}
            kept |= {name for where, name in pending if where == entrance}
            sessions.keep_only(kept)
        for each in stored:
            if (each.entrance, each.token_sha256) not in pending:
                self._learn(each)

    async def _ask_soon(self, verb: str, *words: object) -> Any:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await asyncio.to_thread(self._ask, verb, *words)
        except (OSError, Faults, TimeoutError) as error:
            raise Unavailable from error
