"""Lets operators in: an account with a password of its own and a second factor, from YSK's network.

An address that a party has registered may not come, unless it is one of this machine; with `[staff]
networks`, only addresses of those networks may.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime

from config.party import Address
from config.scope import ALL
from config.settings import Settings, StaffSettings
from config.site import STAFF_SESSIONS
from keys.credentials import admission
from keys.credentials.admission import AdmittedOperator, Reason, Refused
from keys.credentials.users import OPERATORS, Service, User, Users
from portal.access.exchange import Exchange
from portal.access.identity import Identity
from portal.access.limits import Limits
from portal.access.recorder import Recorder
from portal.access.sessions import Session, Stage
from portal.access.site_entrance import Entering, SecondFactorEntrance, users_or_fault


class StaffEntrance(SecondFactorEntrance):
    """The entrance of one staff site; it belongs to one event loop."""

    name, service = "staff", Service.STAFF
    cookie, form_cookie = "__Host-ssps-staff", "__Host-ssps-staff-form"
    refusal_text = "Bu adresten personel sitesine erişilemez."

    def __init__(
        self,
        settings: Settings,
        recorder: Recorder,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
        limits: Limits | None = None,
        exchange: Exchange | None = None,
    ) -> None:
        super().__init__(settings, recorder, clock, monotonic, limits, STAFF_SESSIONS, exchange)

    @property
    def web(self) -> StaffSettings:
        """The settings of the staff site."""
        if self.settings.staff is None:
            raise AssertionError("a staff site without [staff] does not start")
        return self.settings.staff

    def registered(self, address: Address) -> bool:
        """Say whether operators may come from `address`."""
        if address.is_loopback:
            return True
        if any(party.registered(address) for party in self.settings.parties):
            return False
        networks = self.web.networks
        return not networks or any(address in network for network in networks)

    async def decide_login(self, login: str, password: str, address: Address) -> Entering | Refused:
        """Check a password, and say in which stage the session of its operator begins."""
        held = self.users_of(OPERATORS)

        name = login.strip().lower()
        async with self.limits.hashing:
            found = await asyncio.to_thread(
                admission.decide_operator,
                lambda: users_or_fault(held),
                name,
                password,
                self.clock(),
            )
        if isinstance(found, AdmittedOperator):
            stage = self.first_stage(found.user)
            return Entering(OPERATORS, found.user.name, found.credential, stage)
        if found.reason is not Reason.MUST_CHANGE or found.credential is None:
            # Also without a word to an operator who is suspended: it looks like a wrong password.
            return Refused(found.reason, cause=found.cause)
        return Entering(OPERATORS, name, found.credential, Stage.PASSWORD)

    def recheck(
        self, session: Session, held: Users, address: Address, now: datetime
    ) -> Reason | None:
        """Return why a session may not go on from `address`, None if it may."""
        return self._recheck(held, session.user, session.credential, address, now)

    def still_admitted(self, identity: Identity) -> bool:
        """Say whether an operator may go on reading an answer that has no end."""
        held = self.held(OPERATORS)
        user = held.named(identity.user)
        same_role = user is not None and user.role is identity.role
        reason = self._recheck(
            held, identity.user, identity.credential, identity.address, self.clock()
        )
        return same_role and reason is None

    def identity_of(
        self, session: Session, user: User, address: Address, now: datetime
    ) -> Identity:
        """Return all that a route gets of an admitted operator."""
        return Identity(
            OPERATORS,
            user.name,
            user.role,
            ALL,
            address,
            self.settings.site,
            session.credential,
            session.number,
        )

    def _recheck(
        self, held: Users, name: str, credential: str, address: Address, now: datetime
    ) -> Reason | None:
        if not self.registered(address):
            return Reason.ADDRESS
        return admission.recheck_operator(held, name, credential, now)
