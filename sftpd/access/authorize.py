"""Who may come in: credentials, address and opening time -> Admitted or Refused.

The decision alone, without any SSH: `decide` is asked once for what a client offers. A key that
is offered has still to be proved by its signature, which is the caller's to verify. To the
client every refusal looks alike, with one exception: who holds the right credential and comes
from a registered address before the opening is told when access opens (`banner`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from config.election import Election, Rehearsal
from config.fault import Faults
from config.party import Address, Party
from config.settings import Settings
from keys.credentials.ring import Credential, CredentialKind, Ring, fingerprint

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
    REHEARSAL = "rehearsal over"
    MUST_CHANGE = "password must be changed"


@dataclass(frozen=True, slots=True)
class Admitted:
    """The party may come in by that credential, to a rehearsal's tree or to the election's."""

    party: Party
    credential: Credential
    rehearsal: Rehearsal | None = None


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
    credential = _matching_credential(ring, proof, now)
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
    reason = _reason_to_refuse(settings, party, address, now)
    if reason in (None, Reason.NOT_YET_OPEN) and must_change(settings, credential):
        reason = Reason.MUST_CHANGE  # before the opening too: that is when there is time for it
    if reason is not None:
        return Refused(reason, credential)
    stage = settings.stage(now)
    return Admitted(party, credential, stage if isinstance(stage, Rehearsal) else None)


def must_change(settings: Settings, credential: Credential) -> bool:
    """Say whether this credential is good only for setting another (Genelge md. 5/c)."""
    initial = credential.kind is CredentialKind.PASSWORD and not credential.chosen
    return initial and settings.sftp.must_change_password


def may_change(
    settings: Settings, ring: Ring, party_id: str, name: str, address: Address, now: datetime
) -> bool:
    """Say whether the password of that fingerprint may be changed from there, by its party."""
    party = settings.party(party_id)
    credential = next((c for c in ring.credentials if c.fingerprint == name), None)
    if party is None or not party.mirrors or credential is None or not credential.valid_at(now):
        return False
    refusal = _reason_to_refuse(settings, party, address, now)
    return refusal in (None, Reason.NOT_YET_OPEN) and must_change(settings, credential)


def recheck(
    settings: Settings,
    ring: Ring,
    party_id: str,
    name: str,
    address: Address,
    now: datetime,
    rehearsal: str = "",
) -> Reason | None:
    """Say why what was proved no longer lets in, None if it does.

    For one who was admitted before: `name` is the fingerprint of the credential, `settings` and
    `ring` are as they stand now, `rehearsal` is the id of the one whose tree it was let into.
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
    if must_change(settings, credential):
        return Reason.MUST_CHANGE
    reason = _reason_to_refuse(settings, party, address, now)
    stage = settings.stage(now)
    another = rehearsal != (stage.id if isinstance(stage, Rehearsal) else "")
    # An address or a suspension goes before; whatever else is on, it is another tree.
    if another and reason in (None, Reason.NOT_YET_OPEN, Reason.CLOSED):
        return Reason.REHEARSAL if rehearsal else Reason.NOT_YET_OPEN
    return reason


def _reason_to_refuse(
    settings: Settings, party: Party, address: Address, now: datetime
) -> Reason | None:
    # Suspended before the times, so that only who will be let in is told when.
    if not party.registered(address):
        return Reason.ADDRESS
    if party.suspended:
        return Reason.SUSPENDED
    if settings.stage(now) is not None:
        return None
    return Reason.NOT_YET_OPEN if now < settings.election.opens else Reason.CLOSED


def _matching_credential(ring: Ring, proof: Proof, now: datetime) -> Credential | None:
    if isinstance(proof, Key):
        return ring.by_key(proof.blob, now)
    return ring.by_password(proof.text, now)


def banner(
    election: Election, rehearsals: Iterable[Rehearsal] = (), now: datetime | None = None
) -> str:
    """Return what an early client is told, in the election's own zone, in plain ASCII.

    With `now`, also when the next rehearsal is.
    """
    opens = election.opens
    zone = opens.strftime("%z")
    zone = f"UTC{zone[:3]}:{zone[3:5]}"
    coming = [r for r in rehearsals if now is not None and now < r.opens < opens]
    told = ""
    if coming:
        first = min(coming, key=lambda r: r.opens)
        begins, ends = (t.astimezone(opens.tzinfo) for t in (first.opens, first.closes))
        told = (
            f"Prova {begins:%d.%m.%Y %H.%M} - {ends:%d.%m.%Y %H.%M} ({zone}).\r\n"
            f"Rehearsal from {begins:%Y-%m-%d %H:%M} to {ends:%Y-%m-%d %H:%M} ({zone}).\r\n"
        )
    return told + (
        f"Erisim {opens:%d.%m.%Y} saat {opens:%H.%M.%S} ({zone}) itibariyla acilacaktir.\r\n"
        f"Access opens on {opens:%Y-%m-%d} at {opens:%H:%M:%S} ({zone}).\r\n"
    )
