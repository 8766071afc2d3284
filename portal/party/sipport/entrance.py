"""Lets representatives in, from any address and at any time: password and second factor.

It shares listener, settings and ledger with the portal, and nothing else: sessions, cookies, limits
and the queue of password checks are its own. So a session here opens no page of the portal, and
strangers who try passwords here cannot make the portal's users wait.

1. Only a party's representative can log in. A second factor is required, whatever the settings say.
2. All refusals have the same text and take the same time, because any stranger may try to log in.
3. The number of attempts is limited for each address and for each name from it.
4. All unknown addresses also share one limit. An attempt that rule 3 refuses does not count there.
   An address is known if a party has registered it, or a representative has logged in from it since
   the start: only rule 3 limits it, however many strangers try.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime

from config.party import Address
from config.settings import PortalSettings
from config.site import REQUEST_SESSIONS
from keys.credentials import admission
from keys.credentials.admission import AdmittedUser, Reason, Refused
from keys.credentials.penalties import Source, source_of
from keys.credentials.users import Service, User, Users, split_login_name
from portal.access.entrance import Entrance
from portal.access.identity import Identity
from portal.access.limits import Limits
from portal.access.sessions import Session, Stage
from portal.access.site_entrance import (
    Entering,
    SecondFactorEntrance,
    Wait,
    users_or_fault,
)

ROOT = "/sipport"
_LOGINS_PER_SECOND, _LOGINS = 2.0, 40.0  # of all unknown addresses together
_MAX_KNOWN = 4096  # addresses


class RequestsEntrance(SecondFactorEntrance):
    """The entrance of the representatives' pages; it belongs to the portal's event loop."""

    name, service = "requests", Service.WEB
    cookie, form_cookie = "__Host-ssps-talep", "__Host-ssps-talep-form"
    refusal_text = "Bu sayfalar kapalıdır."
    root = ROOT

    def __init__(
        self,
        portal: Entrance,
        monotonic: Callable[[], float] = time.monotonic,
        limits: Limits | None = None,
    ) -> None:
        made = Limits(monotonic, hashes=1) if limits is None else limits
        super().__init__(
            portal.settings,
            portal.recorder,
            portal.clock,
            monotonic,
            made,
            REQUEST_SESSIONS,
            portal.exchange,
        )
        self.codes = portal.codes  # a code is accepted once, here or on the web site
        self._known: dict[Source, None] = {}  # where representatives have logged in, oldest first

    @property
    def web(self) -> PortalSettings:
        """The settings of the portal."""
        if self.settings.portal is None:
            raise AssertionError("a portal without [portal] does not start")
        return self.settings.portal

    def registered(self, address: Address) -> bool:
        """Say whether `address` may connect: every address may if `portal.requests` is set."""
        return self.web.requests

    async def log_in(
        self, login: str, password: str, address: Address
    ) -> tuple[str, Session] | Refused | Wait:
        """Check a password, and remember the address if it is right."""
        found = await super().log_in(login, password, address)
        if isinstance(found, tuple):
            self._known.pop(source_of(address), None)
            self._known[source_of(address)] = None
            if len(self._known) > _MAX_KNOWN:
                del self._known[next(iter(self._known))]
        return found

    def login_wait(self, address: Address, login: str) -> float:
        """Count an attempt to log in; return the seconds to wait if it is one too many, else 0."""
        seconds = super().login_wait(address, login)
        known = source_of(address) in self._known or any(
            party.registered(address) for party in self.settings.parties
        )
        if seconds or known:
            return seconds
        return self.limits.address_wait(address) or self.limits.strangers.wait(
            "logins", _LOGINS_PER_SECOND, _LOGINS
        )

    async def decide_login(self, login: str, password: str, address: Address) -> Entering | Refused:
        """Check a password, and say in which stage the session of its user begins."""
        party_id, name = split_login_name(login)
        party = self.settings.party(party_id)
        held = self.users_of(party_id) if party is not None and party.has_users else Users(party_id)

        async with self.limits.hashing:
            found = await asyncio.to_thread(
                admission.decide_representative,
                self.settings,
                lambda _: users_or_fault(held),
                login,
                password,
                self.clock(),
            )
        if isinstance(found, AdmittedUser):
            stage = self.first_stage(found.user)
            return Entering(found.party.id, found.user.name, found.credential, stage)
        if found.reason is not Reason.MUST_CHANGE or found.credential is None:
            # Without the credential: a suspended party looks like a wrong password.
            return Refused(found.reason, cause=found.cause)
        return Entering(party_id, name, found.credential, Stage.PASSWORD)

    def recheck(
        self, session: Session, held: Users, address: Address, now: datetime
    ) -> Reason | None:
        """Return why a session may not go on, None if it may."""
        return admission.recheck_representative(
            self.settings, held, session.user, session.credential, now
        )

    def still_admitted(self, identity: Identity) -> bool:
        """Say whether a representative may go on reading an answer that has no end."""
        reason = admission.recheck_representative(
            self.settings,
            self.held(identity.party),
            identity.user,
            identity.credential,
            self.clock(),
        )
        return reason is None

    def identity_of(
        self, session: Session, user: User, address: Address, now: datetime
    ) -> Identity:
        """Return all that a route gets of an admitted representative."""
        party = self.settings.party(session.party)
        if party is None:
            raise AssertionError("only a user of a known party is admitted")
        return Identity(
            party.id,
            user.name,
            user.role,
            party.scope,
            address,
            self.settings.site,
            session.credential,
            session.number,
        )

    def recorded_party(self, login: str) -> str:
        """Return the party in a login name, or the name itself if there is no such party."""
        party, _ = split_login_name(login)
        return party if self.settings.party(party) is not None else login
