"""Who may come in: credentials, address and opening time -> Admitted or Refused.

The decision alone, without any SSH: `decide` is asked once for what a client offers. A key that
is offered has still to be proved by its signature, which is the caller's to verify. To the
client every refusal looks alike, with one exception: who holds the right credential and comes
from a registered address before the opening is told when access opens (`banner`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from config.election import Election
from config.fault import Faults
from config.party import Address, Party
from config.settings import Settings
from keys.ring import Credential, Ring, fingerprint

RingOf = Callable[[str], Ring]


@dataclass(frozen=True, slots=True)
class Key:
    """A public key, in the wire form of RFC 4253 6.6."""

    blob: bytes


@dataclass(frozen=True, slots=True)
class Password:
    """A password as it was typed."""

    text: str

    def __repr__(self) -> str:
        return "Password(...)"


Proof = Key | Password


class Reason(StrEnum):
    """Why a login is refused; only the record says it."""

    UNKNOWN_USER = "unknown user"
    NO_LOGIN = "receives an export, has no login"
    KEYS_UNREADABLE = "key file unreadable"
    CREDENTIAL = "wrong credential"
    CREDENTIAL_TIME = "credential not valid now"
    ADDRESS = "wrong address"
    SUSPENDED = "suspended"
    NOT_YET_OPEN = "not yet open"
    CLOSED = "closed"
    SIGNATURE = "wrong signature"
    METHOD = "method not offered"
    SESSIONS = "too many sessions"


@dataclass(frozen=True, slots=True)
class Admitted:
    """The party may come in by that credential."""

    party: Party
    credential: Credential


@dataclass(frozen=True, slots=True)
class Refused:
    """It may not; `credential` names the one that matched, if one did, `cause` a fault of ours."""

    reason: Reason
    credential: Credential | None = None
    cause: str = ""


def decide(
    settings: Settings, ring_of: RingOf, user: str, proof: Proof, address: Address, now: datetime
) -> Admitted | Refused:
    """Judge one credential that `user` offers from `address` at `now`."""
    party = settings.party(user)
    ring, cause = Ring(user), ""
    if party is not None and party.mirrors:
        try:
            ring = ring_of(party.id)
        except Faults as faults:
            cause = str(faults)
    # Asked of an empty ring too, so that an unknown user costs about the same time.
    credential = _matching(ring, proof, now)
    if party is None:
        return Refused(Reason.UNKNOWN_USER)
    if not party.mirrors:
        return Refused(Reason.NO_LOGIN)
    if cause:
        return Refused(Reason.KEYS_UNREADABLE, cause=cause)
    if credential is None:
        known = isinstance(proof, Key) and fingerprint(proof.blob) in {
            c.fingerprint for c in ring.credentials
        }
        return Refused(Reason.CREDENTIAL_TIME if known else Reason.CREDENTIAL)
    reason = _barred(settings, party, address, now)
    if reason is not None:
        return Refused(reason, credential)
    return Admitted(party, credential)


def still_valid(
    settings: Settings, ring: Ring, party_id: str, name: str, address: Address, now: datetime
) -> Reason | None:
    """Say why what was proved no longer lets in, None if it does.

    For one who was admitted before: `name` is the fingerprint of the credential, `settings` and
    `ring` are as they stand now.
    """
    party = settings.party(party_id)
    if party is None:
        return Reason.UNKNOWN_USER
    if not party.mirrors:
        return Reason.NO_LOGIN
    credential = next((c for c in ring.credentials if c.fingerprint == name), None)
    if credential is None:
        return Reason.CREDENTIAL
    if not credential.valid_at(now):
        return Reason.CREDENTIAL_TIME
    return _barred(settings, party, address, now)


def _barred(settings: Settings, party: Party, address: Address, now: datetime) -> Reason | None:
    # Suspended before the times, so that only who will be let in is told when.
    if not party.registered(address):
        return Reason.ADDRESS
    if party.suspended:
        return Reason.SUSPENDED
    if now < settings.election.opens:
        return Reason.NOT_YET_OPEN
    if not settings.election.open_at(now):
        return Reason.CLOSED
    return None


def _matching(ring: Ring, proof: Proof, now: datetime) -> Credential | None:
    if isinstance(proof, Key):
        return ring.by_key(proof.blob, now)
    return ring.by_password(proof.text, now)


def banner(election: Election) -> str:
    """Return what an early client is told, in the election's own zone, in plain ASCII."""
    opens = election.opens
    zone = opens.strftime("%z")
    zone = f"UTC{zone[:3]}:{zone[3:5]}"
    return (
        f"Erisim {opens:%d.%m.%Y} saat {opens:%H.%M.%S} ({zone}) itibariyla acilacaktir.\r\n"
        f"Access opens on {opens:%Y-%m-%d} at {opens:%H:%M:%S} ({zone}).\r\n"
    )
