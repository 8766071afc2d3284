"""The rules of admission: whether a login is accepted, and whether a live session may go on.

Pure functions over settings and a party's ring, without protocol or files, so that every service of
a site can use the same rules:

- the user is a party that receives files by itself;
- the credential is in the party's ring and valid now;
- the client's address is one that the party registered (Genelge md. 4/b-2);
- the party is not suspended;
- a rehearsal or the election is open. Once the election has opened, rehearsals do not count;
- if the site says so, an initial password can be used only to set a new one (Genelge md. 5/c).

The users of the web site and the web service have their own credentials (keys/credentials/users),
and `decide_user` and `recheck_user` apply the same rules to them. A user also has to be active, and
its credential opens one service only (Genelge md. 3/d). Its initial password always has to be
changed.

The operators of the staff site belong to no party and work before the opening as well;
`decide_operator` and `recheck_operator` have their rules. A party's representative sends the
request form from any address and at any time, also for a party that is only invited so far:
`decide_representative` and `recheck_representative`.

`decide` is called each time a client offers a credential. A public key must also be proved by a
signature, which the caller verifies. All refusals look the same to the client, with one exception:
a client with the right credential, at a registered address, learns why it may not come in now
(access is not open yet, closed or suspended), and that it has to change its password. `recheck` is
called before a session begins, and several times a second while it lasts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from config.election import Rehearsal
from config.fault import Faults
from config.party import Address, Party
from config.settings import Settings
from keys.credentials.ring import Credential, CredentialKind, Ring, fingerprint
from keys.credentials.users import (
    OPERATORS,
    Role,
    Service,
    State,
    User,
    Users,
    split_login_name,
)

RingOf = Callable[[str], Ring]
UsersOf = Callable[[str], Users]


@dataclass(frozen=True, slots=True)
class Key:
    """A public key, in the wire form of RFC 4253 section 6.6."""

    blob: bytes


@dataclass(frozen=True, slots=True)
class Password:
    """A password as the client sent it."""

    text: str

    def __repr__(self) -> str:
        return "Password(...)"


@dataclass(frozen=True, slots=True)
class CheckedPassword:
    """A password that another process has compared with the hashes of the party's ring.

    `matched` is the fingerprint of the credential that matches, None if no credential does.
    """

    matched: str | None


Proof = Key | Password | CheckedPassword


class Reason(StrEnum):
    """Why a login is refused, for the record; a client gets no reason."""

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
    SERVICE = "credential of another service"
    USER_STATE = "user suspended or passive"


@dataclass(frozen=True, slots=True)
class Admitted:
    """The party is admitted with that credential, to the election or to a rehearsal."""

    party: Party
    credential: Credential
    rehearsal: Rehearsal | None = None


@dataclass(frozen=True, slots=True)
class AdmittedUser:
    """A user of the portal is admitted with that credential."""

    party: Party
    user: User
    credential: Credential
    rehearsal: Rehearsal | None = None


@dataclass(frozen=True, slots=True)
class AdmittedOperator:
    """An operator of the staff site is admitted with that credential."""

    user: User
    credential: Credential


@dataclass(frozen=True, slots=True)
class Refused:
    """The login is refused.

    `credential` is the one that matched, if one did; `cause` is an error on the server's side.
    """

    reason: Reason
    credential: Credential | None = None
    cause: str = ""


def decide(
    settings: Settings, ring_of: RingOf, user: str, proof: Proof, address: Address, now: datetime
) -> Admitted | Refused:
    """Decide on one credential that `user` offers from `address` at `now`."""
    party = settings.party(user)
    ring, cause = Ring(user), ""
    if party is not None and party.mirrors:
        try:
            ring = ring_of(party.id)
        except Faults as faults:
            cause = str(faults)
    # Also done with an empty ring, so that an unknown user takes about the same time.
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
    reason = reason_to_refuse(settings, party, address, now)
    if reason in (None, Reason.NOT_YET_OPEN) and must_change(settings, credential):
        # Also before the opening, because then a party has time to change its password.
        reason = Reason.MUST_CHANGE
    if reason is not None:
        return Refused(reason, credential)
    stage = settings.stage(now)
    return Admitted(party, credential, stage if isinstance(stage, Rehearsal) else None)


def reason_to_refuse(
    settings: Settings, party: Party, address: Address, now: datetime
) -> Reason | None:
    """Return why `party` is refused from `address` at `now`, whatever its credential; or None."""
    # The times come last, so that only a party that would be admitted learns that it is early.
    if not party.registered(address):
        return Reason.ADDRESS
    if party.suspended:
        return Reason.SUSPENDED
    if settings.stage(now) is not None:
        return None
    return Reason.NOT_YET_OPEN if now < settings.election.opens else Reason.CLOSED


def must_change(settings: Settings, credential: Credential) -> bool:
    """Return whether this credential can be used only to set a new one (Genelge md. 5/c)."""
    initial = credential.kind is CredentialKind.PASSWORD and not credential.chosen
    return initial and settings.sftp.must_change_password


def may_change(
    settings: Settings, ring: Ring, party_id: str, name: str, address: Address, now: datetime
) -> bool:
    """Return whether the party may replace the password with fingerprint `name`, from `address`."""
    party = settings.party(party_id)
    credential = _named_credential(ring, name)
    if party is None or not party.mirrors or credential is None or not credential.valid_at(now):
        return False
    reason = reason_to_refuse(settings, party, address, now)
    return reason in (None, Reason.NOT_YET_OPEN) and must_change(settings, credential)


def recheck(
    settings: Settings,
    ring: Ring,
    party_id: str,
    name: str,
    address: Address,
    now: datetime,
    rehearsal: str = "",
) -> Reason | None:
    """Return why an admitted party is no longer admitted, None if it still is.

    `name` is the fingerprint of its credential, `rehearsal` the id of the rehearsal that it was
    admitted to. `settings` and `ring` are the current ones.
    """
    party = settings.party(party_id)
    if party is None:
        return Reason.UNKNOWN_USER
    if not party.mirrors:
        return Reason.NO_LOGIN
    credential = _named_credential(ring, name)
    if credential is None:
        return Reason.CREDENTIAL
    if not credential.valid_at(now):
        return Reason.CREDENTIAL_TIME
    if must_change(settings, credential):
        return Reason.MUST_CHANGE
    reason = reason_to_refuse(settings, party, address, now)
    stage = settings.stage(now)
    other_stage = rehearsal != (stage.id if isinstance(stage, Rehearsal) else "")
    # Each stage has its own tree, so a session never continues in another stage. If the address or
    # a suspension is a reason too, that reason is returned.
    if other_stage and reason in (None, Reason.NOT_YET_OPEN, Reason.CLOSED):
        return Reason.REHEARSAL if rehearsal else Reason.NOT_YET_OPEN
    return reason


def decide_user(
    settings: Settings,
    users_of: UsersOf,
    login: str,
    password: str,
    service: Service,
    address: Address,
    now: datetime,
) -> AdmittedUser | Refused:
    """Decide on the password that someone offers as the user `login` of a service of the portal.

    If the reason is MUST_CHANGE, the user may do nothing but set a password of its own.
    """
    party_id, name = split_login_name(login)
    party = settings.party(party_id)
    wanted = party is not None and party.mirrors
    held, cause = _load(users_of, party_id) if wanted else (Users(party_id), "")
    # Also without a user, so that an unknown one takes about the same time.
    user = held.named(name)
    credential = (user or User(name, Role.WEB)).by_password(password, now)
    if party is None or (user is None and party.mirrors and not cause):
        return Refused(Reason.UNKNOWN_USER)
    if not party.mirrors:
        return Refused(Reason.NO_LOGIN)
    if cause:
        return Refused(Reason.KEYS_UNREADABLE, cause=cause)
    if user is None or credential is None:
        return Refused(Reason.CREDENTIAL)
    reason = _user_reason(settings, party, user, service, address, now)
    if reason in (None, Reason.NOT_YET_OPEN, Reason.SERVICE) and not credential.chosen:
        # Also before the opening, and also a service user's, whose service has no page for it.
        reason = Reason.MUST_CHANGE
    if reason is not None:
        return Refused(reason, credential)
    stage = settings.stage(now)
    rehearsal = stage if isinstance(stage, Rehearsal) else None
    return AdmittedUser(party, user, credential, rehearsal)


def _load(users_of: UsersOf, party_id: str) -> tuple[Users, str]:
    """Return the users of a party; none, and why, if they cannot be read."""
    try:
        return users_of(party_id), ""
    except Faults as faults:
        return Users(party_id), str(faults)


def recheck_user(
    settings: Settings,
    held: Users,
    name: str,
    credential_name: str,
    service: Service,
    address: Address,
    now: datetime,
    rehearsal: str = "",
) -> Reason | None:
    """Return why an admitted user is no longer admitted, None if it still is.

    `held` are the current users of its party; the other arguments are as in `recheck`.
    """
    party, user = settings.party(held.party), held.named(name)
    if party is None or user is None:
        return Reason.UNKNOWN_USER
    if not party.mirrors:
        return Reason.NO_LOGIN
    credential = user.credential(credential_name)
    if credential is None:
        return Reason.CREDENTIAL
    if not credential.valid_at(now):
        return Reason.CREDENTIAL_TIME
    reason = _user_reason(settings, party, user, service, address, now)
    if reason in (None, Reason.NOT_YET_OPEN, Reason.SERVICE) and not credential.chosen:
        return Reason.MUST_CHANGE
    stage = settings.stage(now)
    other_stage = rehearsal != (stage.id if isinstance(stage, Rehearsal) else "")
    # As in `recheck`: a session never continues in another stage.
    if other_stage and reason in (None, Reason.NOT_YET_OPEN, Reason.CLOSED):
        return Reason.REHEARSAL if rehearsal else Reason.NOT_YET_OPEN
    return reason


def decide_representative(
    settings: Settings, users_of: UsersOf, login: str, password: str, now: datetime
) -> AdmittedUser | Refused:
    """Decide on the password that someone offers as the representative `login` of a party.

    The client must never learn the reason, because it may be a stranger at any address. If the
    reason is MUST_CHANGE, the user may only set a password of its own.
    """
    party_id, name = split_login_name(login)
    party = settings.party(party_id)
    wanted = party is not None and party.has_users
    held, cause = _load(users_of, party_id) if wanted else (Users(party_id), "")
    # Also without a user, so that an unknown one takes about the same time.
    user = held.named(name)
    credential = (user or User(name, Role.REPRESENTATIVE)).by_password(password, now)
    if cause:
        return Refused(Reason.KEYS_UNREADABLE, cause=cause)
    if party is None or user is None:
        return Refused(Reason.UNKNOWN_USER)
    if credential is None:
        return Refused(Reason.CREDENTIAL)
    reason = _representative_reason(party, user)
    if reason is None and not credential.chosen:
        reason = Reason.MUST_CHANGE
    return AdmittedUser(party, user, credential) if reason is None else Refused(reason, credential)


def recheck_representative(
    settings: Settings, held: Users, name: str, credential_name: str, now: datetime
) -> Reason | None:
    """Return why an admitted representative is no longer admitted, None if it still is."""
    party, user = settings.party(held.party), held.named(name)
    if party is None or user is None:
        return Reason.UNKNOWN_USER
    credential = user.credential(credential_name)
    if credential is None:
        return Reason.CREDENTIAL
    if not credential.valid_at(now):
        return Reason.CREDENTIAL_TIME
    reason = _representative_reason(party, user)
    return Reason.MUST_CHANGE if reason is None and not credential.chosen else reason


def _representative_reason(party: Party, user: User) -> Reason | None:
    if not party.has_users:
        return Reason.NO_LOGIN
    if party.suspended:
        return Reason.SUSPENDED
    if user.state is not State.ACTIVE:
        return Reason.USER_STATE
    return None if user.role is Role.REPRESENTATIVE else Reason.SERVICE


def decide_operator(
    operators_of: Callable[[], Users], name: str, password: str, now: datetime
) -> AdmittedOperator | Refused:
    """Decide on the password that someone offers as the operator `name`.

    If the reason is MUST_CHANGE, the operator may do nothing but set a password of its own.
    """
    held, cause = Users(OPERATORS), ""
    try:
        held = operators_of()
    except Faults as faults:
        cause = str(faults)
    # Also without an operator, so that an unknown one takes about the same time.
    user = held.named(name)
    credential = (user or User(name, Role.OPERATOR)).by_password(password, now)
    if cause:
        return Refused(Reason.KEYS_UNREADABLE, cause=cause)
    if user is None:
        return Refused(Reason.UNKNOWN_USER)
    if credential is None:
        return Refused(Reason.CREDENTIAL)
    if user.state is not State.ACTIVE:
        return Refused(Reason.USER_STATE, credential)
    if not credential.chosen:
        return Refused(Reason.MUST_CHANGE, credential)
    return AdmittedOperator(user, credential)


def recheck_operator(held: Users, name: str, credential_name: str, now: datetime) -> Reason | None:
    """Return why an admitted operator is no longer admitted, None if it still is."""
    user = held.named(name)
    if user is None:
        return Reason.UNKNOWN_USER
    credential = user.credential(credential_name)
    if credential is None:
        return Reason.CREDENTIAL
    if not credential.valid_at(now):
        return Reason.CREDENTIAL_TIME
    if user.state is not State.ACTIVE:
        return Reason.USER_STATE
    return None if credential.chosen else Reason.MUST_CHANGE


def _user_reason(
    settings: Settings,
    party: Party,
    user: User,
    service: Service,
    address: Address,
    now: datetime,
) -> Reason | None:
    reason = reason_to_refuse(settings, party, address, now)
    if reason in (Reason.ADDRESS, Reason.SUSPENDED):
        return reason
    if user.state is not State.ACTIVE:
        return Reason.USER_STATE
    if user.role.service is not service:
        return Reason.SERVICE
    return reason


def _matching_credential(ring: Ring, proof: Proof, now: datetime) -> Credential | None:
    if isinstance(proof, Key):
        return ring.by_key(proof.blob, now)
    if isinstance(proof, CheckedPassword):
        return next((c for c in ring.passwords(now) if c.fingerprint == proof.matched), None)
    return ring.by_password(proof.text, now)


def _named_credential(ring: Ring, name: str) -> Credential | None:
    return next((c for c in ring.credentials if c.fingerprint == name), None)
