"""Lets users in: logins, sessions and the credentials of calls, each checked at every request.

The rules are those of SFTP (keys/credentials/admission). A login is checked once with its password,
in a thread, since argon2id takes a while; afterwards each request checks everything else again:
user, credential, address, suspension and times. So a change is in force at the next request.

A program sends its password with every call. A password that was right is remembered for
REMEMBERED seconds as a keyed hash, so that argon2id does not limit the number of calls; whether
the credential is still valid is checked for every call.
"""

import asyncio
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from config.election import Rehearsal
from config.event import AccessEvent, Event, Value
from config.party import Address, Party
from config.settings import PortalSettings, Settings, Totp
from config.site import PORTAL_SESSIONS
from keys.credentials import admission
from keys.credentials.admission import AdmittedUser, Reason, Refused
from keys.credentials.users import Service, User, Users, split_login_name
from portal.access.exchange import Exchange
from portal.access.identity import Identity
from portal.access.limits import Limits
from portal.access.recorder import Recorder
from portal.access.sessions import Session, Stage
from portal.access.site_entrance import (
    MAX_LOGIN,
    MAX_PASSWORD,
    Entering,
    SiteEntrance,
    Wait,
    users_or_fault,
)

REMEMBERED = 300.0  # seconds
_MAX_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class _Remembered:
    party: str
    name: str
    credential: str
    until: float


class Entrance(SiteEntrance):
    """The entrance of one portal; it belongs to one event loop."""

    name, service = "portal", Service.WEB
    cookie, form_cookie = "__Host-ssps", "__Host-ssps-form"
    refusal_text = (
        "Bu adresten SSPS'ye erişilemez. Erişim yalnız partinizin bildirdiği sabit adreslerden "
        "açıktır."
    )

    def __init__(
        self,
        settings: Settings,
        recorder: Recorder,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
        limits: Limits | None = None,
        exchange: Exchange | None = None,
    ) -> None:
        super().__init__(settings, recorder, clock, monotonic, limits, PORTAL_SESSIONS, exchange)
        self._monotonic = monotonic
        self._key = secrets.token_bytes(32)
        self._remembered: dict[bytes, _Remembered] = {}

    @property
    def portal(self) -> PortalSettings:
        """The settings of the portal."""
        if self.settings.portal is None:
            raise AssertionError("a portal without [portal] does not start")
        return self.settings.portal

    @property
    def web(self) -> PortalSettings:
        """The settings of the portal."""
        return self.portal

    def registered(self, address: Address) -> bool:
        """Say whether any party has registered `address`."""
        return any(party.registered(address) for party in self.settings.parties)

    # Logins to the web site.

    async def decide_login(self, login: str, password: str, address: Address) -> Entering | Refused:
        """Check a password, and say in which stage the session of its user begins."""
        found = await self._decide(login, password, Service.WEB, address)
        if isinstance(found, AdmittedUser):
            stage = self.first_stage(found.party, found.user)
            return Entering(found.party.id, found.user.name, found.credential, stage)
        if found.reason is not Reason.MUST_CHANGE or found.credential is None:
            return found
        return Entering(*split_login_name(login), found.credential, Stage.PASSWORD)

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

    def stage_after_password(self, identity: Identity) -> Stage | None:
        """Return the stage after a user set its own password, None if it has to come later."""
        party, user = self.settings.party(identity.party), self.user(identity)
        early = self.settings.stage(self.clock()) is None
        if party is None or user is None or early or identity.service is Service.API:
            # A service user has no page (md. 3/d); the others wait for the opening.
            return None
        return self.first_stage(party, user)

    def stage_after_code(self, identity: Identity) -> Stage:
        """Return the stage after the code of the second factor."""
        user = self.user(identity)
        return Stage.FULL if user is not None and user.terms else Stage.TERMS

    async def _decide(
        self, login: str, password: str, service: Service, address: Address
    ) -> AdmittedUser | Refused:
        if len(login) > MAX_LOGIN or len(password) > MAX_PASSWORD:
            login, password = "", "-"
        party_id, _ = split_login_name(login)
        known = self.settings.party(party_id) is not None
        held = self.users_of(party_id) if known else Users(party_id)

        async with self.limits.hashing:
            return await asyncio.to_thread(
                admission.decide_user,
                self.settings,
                lambda _: users_or_fault(held),
                login,
                password,
                service,
                address,
                self.clock(),
            )

    def recorded_party(self, login: str) -> str:
        """Return the party in a login name, or the name itself if there is no such party."""
        party, _ = split_login_name(login)
        return party if self.settings.party(party) is not None else login

    # Requests of a session, and calls of the web service.

    def recheck(
        self, session: Session, held: Users, address: Address, now: datetime
    ) -> Reason | None:
        """Return why a session may not go on from `address`, None if it may."""
        return admission.recheck_user(
            self.settings,
            held,
            session.user,
            session.credential,
            Service.WEB,
            address,
            now,
            session.rehearsal,
        )

    async def identify_call(
        self, login: str, password: str, address: Address
    ) -> Identity | Refused | Wait:
        """Return who sends a call with that password from `address`, or why it is refused."""
        proof = hmac.digest(self._key, f"{login}\0{password}".encode(), "sha256")
        known = self._remembered.get(proof)
        if known is not None and self._monotonic() < known.until:
            caller = self._recheck_call(known, address)
            if isinstance(caller, Identity):
                if seconds := self.limits.call_wait(caller.login, self.portal.calls_per_minute):
                    return Wait(seconds)
                return caller
            del self._remembered[proof]
        if seconds := self.limits.login_wait(address, login):
            return Wait(seconds)
        found = await self._decide(login, password, Service.API, address)
        if isinstance(found, Refused):
            await self.refuse(login, found, Service.API, address)
            return found
        name, credential = found.user.name, found.credential.fingerprint
        detail: dict[str, Value] = {
            "user": f"{found.party.id}.{name}",
            "session": None,
            "credential": credential,
            "service": str(Service.API),
            "rehearsal": self.current_rehearsal(),
        }
        event = Event(AccessEvent.LOGIN, found.party.id, str(address), "", detail=detail)
        await self.recorder.record(event)
        known = _Remembered(found.party.id, name, credential, self._monotonic() + REMEMBERED)
        caller = self._recheck_call(known, address)
        if not isinstance(caller, Identity):  # changed while the password was checked
            refused = Refused(caller, found.credential)
            await self.refuse(login, refused, Service.API, address)
            return refused
        if len(self._remembered) >= _MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[proof] = known
        return caller

    def _recheck_call(self, known: _Remembered, address: Address) -> Identity | Reason:
        held, now = self.held(known.party), self.clock()
        reason = admission.recheck_user(
            self.settings,
            held,
            known.name,
            known.credential,
            Service.API,
            address,
            now,
            self._rehearsal(now)[0],
        )
        user = held.named(known.name)
        if reason is not None or user is None:
            return reason or Reason.UNKNOWN_USER
        return self._identity(known.party, user, known.credential, address, None, now)

    def still_admitted(self, identity: Identity) -> bool:
        """Say whether a user may go on reading an answer that has no end, such as a stream."""
        reason = admission.recheck_user(
            self.settings,
            self.held(identity.party),
            identity.user,
            identity.credential,
            identity.service,
            identity.address,
            self.clock(),
            identity.rehearsal,
        )
        party = self.settings.party(identity.party)
        return reason is None and party is not None and party.scope == identity.scope

    def identity_of(
        self, session: Session, user: User, address: Address, now: datetime
    ) -> Identity:
        """Return all that a route gets of an admitted user."""
        return self._identity(session.party, user, session.credential, address, session.number, now)

    def _identity(
        self,
        party_id: str,
        user: User,
        credential: str,
        address: Address,
        session: int | None,
        now: datetime,
    ) -> Identity:
        party = self.settings.party(party_id)
        if party is None:
            raise AssertionError("only a user of a known party is admitted")
        rehearsal, folder = self._rehearsal(now)
        return Identity(
            party.id,
            user.name,
            user.role,
            party.scope,
            address,
            folder,
            credential,
            session,
            rehearsal,
        )

    def current_rehearsal(self) -> str:
        """Return the id of the rehearsal that is open now, nothing if none is."""
        return self._rehearsal(self.clock())[0]

    def _rehearsal(self, now: datetime) -> tuple[str, Path]:
        """Return the id of the rehearsal that is open, or nothing, and the folder of the data."""
        stage = self.settings.stage(now)
        if isinstance(stage, Rehearsal):
            return stage.id, stage.folder
        return "", self.settings.site
