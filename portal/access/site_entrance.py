"""What the entrances of the portal and of the staff site have in common: logins and sessions.

A login is checked once with its password, in a thread, since argon2id takes a while; afterwards
each request checks everything else again. So a change is in force at the next request.

Each site has cookies with names of its own: a browser sends the cookies of a host to all its ports.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from config.event import AccessEvent, Event, Outcome, Value
from config.fault import Faults
from config.party import Address
from config.settings import Settings, WebSettings
from keys.credentials.admission import Reason, Refused
from keys.credentials.ring import Credential
from keys.credentials.users import Service, User, Users, login_name
from portal.access.accounts import Accounts
from portal.access.exchange import Exchange
from portal.access.identity import Identity
from portal.access.limits import Limits
from portal.access.recorder import Recorder
from portal.access.sessions import Lifetimes, Session, Sessions, Stage
from portal.access.totp import TotpCodes

MAX_PASSWORD, MAX_LOGIN = 1024, 100  # characters; a longer one is never right

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Wait:
    """Too many attempts or calls: the client has to wait that many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Entering:
    """A user whose password is right, and the first stage of its session."""

    party: str
    name: str
    credential: Credential
    stage: Stage


class SiteEntrance(ABC):
    """The entrance of one site; it belongs to one event loop."""

    name: str  # among the entrances of a site
    service: Service
    cookie: str
    form_cookie: str
    refusal_text: str  # for an address that may not come
    root = ""  # before the paths of the site's pages, if it is a part of another site

    def __init__(
        self,
        settings: Settings,
        recorder: Recorder,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        limits: Limits | None,
        sessions: Path,
        exchange: Exchange | None = None,
    ) -> None:
        """`exchange` is that with the other portals, None if there are no others."""
        self.settings = settings
        self.recorder = recorder
        self.clock = clock
        self.accounts = Accounts(settings.site)
        self.limits = Limits(monotonic) if limits is None else limits
        self.exchange = exchange
        storage = settings.site / sessions if exchange is None else exchange.storage(self.name)
        self.sessions = Sessions(storage, clock, self._lifetimes)
        if exchange is not None:
            exchange.follow(self.name, self.sessions, self.limits)
        self.codes = TotpCodes(None if exchange is None else exchange.claim_code)
        self.stopping = asyncio.Event()  # answers without an end stop when it is set
        self.draining = False

    @property
    @abstractmethod
    def web(self) -> WebSettings:
        """The settings of the site."""

    @abstractmethod
    def registered(self, address: Address) -> bool:
        """Say whether anybody may come from `address`."""

    @abstractmethod
    async def decide_login(self, login: str, password: str, address: Address) -> Entering | Refused:
        """Check a password, and say in which stage the session of its user begins."""

    @abstractmethod
    def recheck(
        self, session: Session, held: Users, address: Address, now: datetime
    ) -> Reason | None:
        """Return why a session may not go on from `address`, None if it may.

        `held` are the users of its party.
        """

    @abstractmethod
    def still_admitted(self, identity: Identity) -> bool:
        """Say whether a user may go on reading an answer that has no end, such as a stream."""

    @abstractmethod
    def stage_after_password(self, identity: Identity) -> Stage | None:
        """Return the stage after a user set its own password, None if it has to come later."""

    @abstractmethod
    def stage_after_code(self, identity: Identity) -> Stage:
        """Return the stage after the code of the second factor."""

    @abstractmethod
    def identity_of(
        self, session: Session, user: User, address: Address, now: datetime
    ) -> Identity:
        """Return all that a route gets of an admitted user."""

    def obstacle(self) -> str:
        """Return why a balancer should send no client here now; empty if it may."""
        if self.draining:
            return "draining"
        return "" if self.knows_the_others() else "no database"

    def knows_the_others(self) -> bool:
        """Say whether the sessions here are those of all portals now."""
        return self.exchange is None or self.exchange.is_fresh()

    def recorded_party(self, login: str) -> str:
        """Return the `who` of a refused login's record."""
        return login

    def current_rehearsal(self) -> str:
        """Return the id of the rehearsal that is open now, nothing if none is."""
        return ""

    def user(self, identity: Identity) -> User | None:
        """Return the user as it is on the disk now."""
        return self.accounts.in_force(identity.party).named(identity.user)

    def held(self, party: str) -> Users:
        """Return the users of a party in force now; none if there is no such party."""
        if party and self.settings.party(party) is None:
            return Users(party)
        found, _ = self.accounts.look_up(party)
        return found or Users(party)

    def users_of(self, party: str) -> Users | Faults:
        """Return the users of a party, or why there are none."""
        try:
            return self.accounts.in_force(party)
        except Faults as faults:
            return faults

    def login_wait(self, address: Address, login: str) -> float:
        """Count an attempt to log in; return the seconds to wait if it is one too many, else 0."""
        return self.limits.login_wait(address, login)

    async def log_in(
        self, login: str, password: str, address: Address
    ) -> tuple[str, Session] | Refused | Wait:
        """Check a password; begin a session in the stage that comes first for this user."""
        if seconds := self.login_wait(address, login):
            return Wait(seconds)
        if len(login) > MAX_LOGIN or len(password) > MAX_PASSWORD:
            found = await self.decide_login("", "-", address)
        else:
            found = await self.decide_login(login, password, address)
        if isinstance(found, Refused):
            await self.refuse(login, found, self.service, address)
            return found
        fingerprint, rehearsal = found.credential.fingerprint, self.current_rehearsal()
        token, session = self.sessions.begin(
            found.party, found.name, fingerprint, rehearsal, found.stage, str(address)
        )
        detail: dict[str, Value] = {
            "user": login_name(found.party, found.name),
            "session": session.number,
            "credential": fingerprint,
            "service": str(self.service),
            "stage": str(found.stage),
            "rehearsal": rehearsal,
        }
        who = found.party or found.name
        event = Event(AccessEvent.LOGIN, who, str(address), "", detail=detail)
        try:
            await self.recorder.record(event)
        except BaseException:
            self.sessions.end(token)
            raise
        return token, session

    async def refuse(self, login: str, found: Refused, service: Service, address: Address) -> None:
        """Charge the address for a refused login, and record it."""
        self.limits.login_failed(address, found.reason)
        name = login.strip()[:MAX_LOGIN]
        detail: dict[str, Value] = {
            "user": name,
            "service": str(service),
            "reason": str(found.reason),
            "credential": found.credential.fingerprint if found.credential else None,
        }
        if found.cause:
            _log.error("login-impossible", user=name, cause=found.cause)
        who = self.recorded_party(name)
        event = Event(AccessEvent.LOGIN_REFUSED, who, str(address), "", Outcome.REFUSED, detail)
        await self.recorder.record(event)

    def identify(self, session: Session, address: Address) -> Identity | Reason:
        """Return who uses a session from `address`, or why it may not go on."""
        held, now = self.held(session.party), self.clock()
        reason, user = self.recheck(session, held, address, now), held.named(session.user)
        if session.stage is Stage.PASSWORD and reason in (Reason.MUST_CHANGE, Reason.NOT_YET_OPEN):
            reason = None
        if reason is not None or user is None:
            return reason or Reason.UNKNOWN_USER
        return self.identity_of(session, user, address, now)

    def _lifetimes(self) -> Lifetimes:
        web = self.web
        return Lifetimes(timedelta(minutes=web.idle_minutes), timedelta(hours=web.session_hours))


class SecondFactorEntrance(SiteEntrance):
    """The entrance of a site that requires a second factor of every user."""

    def stage_after_password(self, identity: Identity) -> Stage | None:
        """Return the stage after a user set its own password."""
        user = self.user(identity)
        return None if user is None else self.first_stage(user)

    def stage_after_code(self, identity: Identity) -> Stage:
        """Return the stage after the code of the second factor: all is open now."""
        return Stage.FULL

    @staticmethod
    def first_stage(user: User) -> Stage:
        """Return the stage after the password: its code, or first setting up the second factor."""
        return Stage.TOTP if user.totp else Stage.ENROL


def users_or_fault(held: Users | Faults) -> Users:
    """Return the users, or raise the faults for which there are none."""
    if isinstance(held, Faults):
        raise held
    return held
