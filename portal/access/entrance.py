"""Lets users in: logins, sessions and the credentials of calls, each checked at every request.

The rules are those of SFTP (keys/credentials/admission). A login is checked once with its password,
in a thread, since argon2id takes a while; afterwards each request checks everything else again:
user, credential, address, suspension and times. So a change is in force at the next request.

A program sends its password with every call. A password that was right is remembered for
REMEMBERED seconds as a keyed hash, so that argon2id does not limit the number of calls; whether
the credential is still valid is checked for every call.
"""

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from config.event import AccessEvent, Event, Outcome, Value
from config.fault import Faults
from config.party import Address, Party
from config.settings import PortalSettings, Settings, Totp
from config.site import PORTAL_SESSIONS
from keys.credentials import admission
from keys.credentials.admission import AdmittedUser, Reason, Refused
from keys.credentials.users import Service, User, Users, split_login_name
from portal.access.accounts import Accounts
from portal.access.identity import Identity
from portal.access.limits import Limits
from portal.access.recorder import Recorder
from portal.access.sessions import Lifetimes, Session, Sessions, Stage
from portal.access.totp import TotpCodes

REMEMBERED = 300.0  # seconds
_MAX_REMEMBERED = 4096
_MAX_PASSWORD, _MAX_LOGIN = 1024, 100  # characters; a longer one is never right

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Wait:
    """Too many attempts or calls: the client has to wait that many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class _Remembered:
    party: str
    name: str
    credential: str
    until: float


class Entrance:
    """The entrance of one portal; it belongs to one event loop."""

    def __init__(
        self,
        settings: Settings,
        recorder: Recorder,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
        limits: Limits | None = None,
    ) -> None:
        self.settings = settings
        self.recorder = recorder
        self.clock = clock
        self._monotonic = monotonic
        self.accounts = Accounts(settings.site)
        self.limits = Limits(monotonic) if limits is None else limits
        self.sessions = Sessions(settings.site / PORTAL_SESSIONS, clock, self._lifetimes)
        self.codes = TotpCodes()
        self.stopping = asyncio.Event()  # answers without an end stop when it is set
        self._key = secrets.token_bytes(32)
        self._remembered: dict[bytes, _Remembered] = {}

    @property
    def portal(self) -> PortalSettings:
        """The settings of the portal."""
        if self.settings.portal is None:
            raise AssertionError("a portal without [portal] does not start")
        return self.settings.portal

    def registered(self, address: Address) -> bool:
        """Say whether any party has registered `address`."""
        return any(party.registered(address) for party in self.settings.parties)

    # Logins to the web site.

    async def log_in(
        self, login: str, password: str, address: Address
    ) -> tuple[str, Session] | Refused | Wait:
        """Check a password; begin a session in the stage that comes first for this user."""
        if seconds := self.limits.login_wait(address, login):
            return Wait(seconds)
        found = await self._decide(login, password, Service.WEB, address)
        must_change = isinstance(found, Refused) and found.reason is Reason.MUST_CHANGE
        if isinstance(found, Refused) and not must_change:
            await self._refuse(login, found, Service.WEB, address)
            return found
        party_id, name = split_login_name(login)
        credential = found.credential
        if credential is None:
            raise AssertionError("an admitted user has a credential")
        if isinstance(found, AdmittedUser):
            party_id, name = found.party.id, found.user.name
            stage = self.first_stage(found.party, found.user)
        else:
            stage = Stage.PASSWORD
        rehearsal = self._stage()
        token, session = self.sessions.begin(
            party_id, name, credential.fingerprint, rehearsal, stage
        )
        detail: dict[str, Value] = {
            "user": f"{party_id}.{name}",
            "session": session.number,
            "credential": credential.fingerprint,
            "service": str(Service.WEB),
            "stage": str(stage),
            "rehearsal": rehearsal,
        }
        event = Event(AccessEvent.LOGIN, party_id, str(address), "", detail=detail)
        try:
            await self.recorder.record(event)
        except BaseException:
            self.sessions.end(token)
            raise
        return token, session

    def first_stage(self, party: Party, user: User) -> Stage:
        """Return the first stage after a right password that the user chose itself."""
        if user.totp:
            return Stage.TOTP
        return self.stage_after_totp(party, user)

    def stage_after_totp(self, party: Party, user: User) -> Stage:
        """Return the stage after the second factor, or for a user without one."""
        if not user.totp and (party.totp_required or self.portal.totp is Totp.REQUIRED):
            return Stage.ENROL
        return Stage.FULL if user.terms else Stage.TERMS

    async def _decide(
        self, login: str, password: str, service: Service, address: Address
    ) -> AdmittedUser | Refused:
        if len(login) > _MAX_LOGIN or len(password) > _MAX_PASSWORD:
            login, password = "", "-"
        party_id, _ = split_login_name(login)
        try:
            known = self.settings.party(party_id) is not None
            held: Users | Faults = self.accounts.in_force(party_id) if known else Users(party_id)
        except Faults as faults:
            held = faults

        def users_of(_: str) -> Users:
            if isinstance(held, Faults):
                raise held
            return held

        async with self.limits.hashing:
            return await asyncio.to_thread(
                admission.decide_user,
                self.settings,
                users_of,
                login,
                password,
                service,
                address,
                self.clock(),
            )

    async def _refuse(self, login: str, found: Refused, service: Service, address: Address) -> None:
        self.limits.login_failed(address, found.reason)
        party, _ = split_login_name(login)
        known = self.settings.party(party) is not None
        name = login.strip()[:_MAX_LOGIN]
        detail: dict[str, Value] = {
            "user": name,
            "service": str(service),
            "reason": str(found.reason),
            "credential": found.credential.fingerprint if found.credential else None,
        }
        if found.cause:
            _log.error("login-impossible", user=name, cause=found.cause)
        event = Event(
            AccessEvent.LOGIN_REFUSED,
            party if known else name,
            str(address),
            "",
            Outcome.REFUSED,
            detail,
        )
        await self.recorder.record(event)

    # Requests of a session, and calls of the web service.

    def identify(self, session: Session, address: Address) -> Identity | Reason:
        """Return who uses a session from `address`, or why it may not go on."""
        if self.settings.party(session.party) is None:
            return Reason.UNKNOWN_USER
        held, _ = self.accounts.look_up(session.party)
        reason = admission.recheck_user(
            self.settings,
            held or Users(session.party),
            session.user,
            session.credential,
            Service.WEB,
            address,
            self.clock(),
            session.rehearsal,
        )
        if session.stage is Stage.PASSWORD and reason in (Reason.MUST_CHANGE, Reason.NOT_YET_OPEN):
            reason = None
        if reason is not None:
            return reason
        return self._identity(
            session.party, session.user, session.credential, address, session.number
        )

    async def identify_call(
        self, login: str, password: str, address: Address
    ) -> Identity | Refused | Wait:
        """Return who sends a call with that password from `address`, or why it is refused."""
        proof = hmac.new(self._key, f"{login}\0{password}".encode(), hashlib.sha256).digest()
        known = self._remembered.get(proof)
        if known is not None and self._monotonic() < known.until:
            held, _ = self.accounts.look_up(known.party)
            reason = admission.recheck_user(
                self.settings,
                held or Users(known.party),
                known.name,
                known.credential,
                Service.API,
                address,
                self.clock(),
                self._stage(),
            )
            if reason is None:
                login_name = f"{known.party}.{known.name}"
                if seconds := self.limits.call_wait(login_name, self.portal.calls_per_minute):
                    return Wait(seconds)
                return self._identity(known.party, known.name, known.credential, address, None)
            del self._remembered[proof]
        if seconds := self.limits.login_wait(address, login):
            return Wait(seconds)
        found = await self._decide(login, password, Service.API, address)
        if isinstance(found, Refused):
            await self._refuse(login, found, Service.API, address)
            return found
        name, credential = found.user.name, found.credential.fingerprint
        detail: dict[str, Value] = {
            "user": f"{found.party.id}.{name}",
            "session": None,
            "credential": credential,
            "service": str(Service.API),
            "rehearsal": self._stage(),
        }
        event = Event(AccessEvent.LOGIN, found.party.id, str(address), "", detail=detail)
        await self.recorder.record(event)
        if len(self._remembered) >= _MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        until = self._monotonic() + REMEMBERED
        self._remembered[proof] = _Remembered(found.party.id, name, credential, until)
        return self._identity(found.party.id, name, credential, address, None)

    def still_admitted(self, identity: Identity) -> bool:
        """Say whether a user may go on reading an answer that has no end, such as a stream."""
        if self.settings.party(identity.party) is None:
            return False
        held, _ = self.accounts.look_up(identity.party)
        reason = admission.recheck_user(
            self.settings,
            held or Users(identity.party),
            identity.user,
            identity.credential,
            identity.service,
            identity.address,
            self.clock(),
            identity.rehearsal,
        )
        party = self.settings.party(identity.party)
        return reason is None and party is not None and party.scope == identity.scope

    def _identity(
        self, party_id: str, name: str, credential: str, address: Address, session: int | None
    ) -> Identity:
        party = self.settings.party(party_id)
        user = self.accounts.in_force(party_id).named(name)
        if party is None or user is None:
            raise AssertionError("only an admitted user has an identity")
        stage = self.settings.stage(self.clock())
        rehearsal = self._stage()
        folder = self.settings.site
        if rehearsal:
            folder = next(r.folder for r in self.settings.rehearsals if r is stage)
        return Identity(
            party.id, name, user.role, party.scope, address, folder, credential, session, rehearsal
        )

    def _stage(self) -> str:
        stage = self.settings.stage(self.clock())
        ids = (r.id for r in self.settings.rehearsals if r is stage)
        return next(ids, "")

    def _lifetimes(self) -> Lifetimes:
        portal = self.portal
        return Lifetimes(
            timedelta(minutes=portal.idle_minutes), timedelta(hours=portal.session_hours)
        )
