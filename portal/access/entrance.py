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

    def recheck(self, session: Session, address: Address) -> Reason | None:
        """Return why a session may not go on from `address`, None if it may."""
        if self.settings.party(session.party) is None:
            return Reason.UNKNOWN_USER
        held, _ = self.accounts.look_up(session.party)
        return admission.recheck_user(
            self.settings,
            held or Users(session.party),
            session.user,
            session.credential,
            Service.WEB,
            address,
            self.clock(),
            session.rehearsal,
        )

    async def identify_call(
        self, login: str, password: str, address: Address
    ) -> Identity | Refused | Wait:
        """Return who sends a call with that password from `address`, or why it is refused."""
        proof = hmac.digest(self._key, f"{login}\0{password}".encode(), "sha256")
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
                self.current_rehearsal(),
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

    def identity_of(self, session: Session, address: Address) -> Identity:
        """Return all that a route gets of an admitted user."""
        return self._identity(
            session.party, session.user, session.credential, address, session.number
        )

    def _identity(
        self, party_id: str, name: str, credential: str, address: Address, session: int | None
    ) -> Identity:
        party = self.settings.party(party_id)
        user = self.accounts.in_force(party_id).named(name)
        if party is None or user is None:
            raise AssertionError("only an admitted user has an identity")
        stage = self.settings.stage(self.clock())
        rehearsal = self.current_rehearsal()
        folder = self.settings.site
        if rehearsal:
            folder = next(r.folder for r in self.settings.rehearsals if r is stage)
        return Identity(
            party.id, name, user.role, party.scope, address, folder, credential, session, rehearsal
        )

    def current_rehearsal(self) -> str:
        """Return the id of the rehearsal that is open now, nothing if none is."""
        stage = self.settings.stage(self.clock())
        ids = (r.id for r in self.settings.rehearsals if r is stage)
        return next(ids, "")
