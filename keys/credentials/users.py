"""A party's users of the web site and the web service, each with its credentials. Immutable.

The file is `keys/users/<party>.toml`, mode 0600. Only commands write it, and the portal when a user
changes its own password. The last line is a signature, as in a ring (keys/server_keys/signed_ring):

    party = "parti-a"

    [[user]]
    name = "ayse"                        # logs in as parti-a.ayse
    role = "web"                         # or "representative" or "service"
    state = "active"                     # or "suspended" or "passive"
    terms = 2023-05-14T17:03:00+03:00    # when it accepted the terms; optional
    totp = "JBSWY3DPEHPK3PXP"            # the secret of its second factor; optional

    [[user.credential]]
    …                                    as in a ring (keys/credentials/ring), only passwords

A party has at most ten web users and one user of the web service (Genelge md. 5, md. 4/b-6). A
service user can use only the web service, and a web user only the web site (md. 3/d).
The representative is a web user that stays active between two elections (md. 5/d); the others
become passive, and are defined again for the next one.

The operators of the staff site are users of no party: their file is `keys/operators.toml`, with
`party = ""`, and they log in with their name alone. Their roles are operator, supervisor and
auditor; each needs a second factor.
"""

import base64
import binascii
import hashlib
import re
import tomllib
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import tomli_w

from keys.credentials import ring
from keys.credentials.ring import Credential, CredentialKind, Ring

MAX_WEB_USERS, MAX_SERVICE_USERS = 10, 1
OPERATORS = ""  # the party of the operators
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*", re.ASCII)
_MAX_NAME = 32


class Service(StrEnum):
    """A service with credentials of its own: the two of the portal, and the staff site."""

    WEB = "web"
    API = "service"
    STAFF = "staff"


class Role(StrEnum):
    """What a user is in its party, or an operator at the staff site."""

    WEB = "web"
    REPRESENTATIVE = "representative"
    SERVICE = "service"
    OPERATOR = "operator"
    SUPERVISOR = "supervisor"
    AUDITOR = "auditor"

    @property
    def service(self) -> Service:
        """The only service that a user with this role may use."""
        if self in STAFF_ROLES:
            return Service.STAFF
        return Service.API if self is Role.SERVICE else Service.WEB


PARTY_ROLES = (Role.WEB, Role.REPRESENTATIVE, Role.SERVICE)
STAFF_ROLES = (Role.OPERATOR, Role.SUPERVISOR, Role.AUDITOR)


class State(StrEnum):
    """Whether a user may log in: a passive one has to be defined again for the next election."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    PASSIVE = "passive"


@dataclass(frozen=True, slots=True)
class User:
    """One user of a party. `totp` is the secret of its second factor, empty if it has none."""

    name: str
    role: Role
    credentials: tuple[Credential, ...] = ()
    state: State = State.ACTIVE
    terms: datetime | None = None
    totp: str = field(default="", repr=False)

    def credential(self, fingerprint: str) -> Credential | None:
        """Return the credential with that fingerprint, or None."""
        return next((c for c in self.credentials if c.fingerprint == fingerprint), None)

    def by_password(self, password: str, now: datetime) -> Credential | None:
        """Return the valid credential with this password, or None; it hashes at least once."""
        return Ring(self.name, self.credentials).by_password(password, now)


@dataclass(frozen=True, slots=True)
class Users:
    """All users of one party, in the order they were added; of no party, the operators."""

    party: str
    users: tuple[User, ...] = ()

    def named(self, name: str) -> User | None:
        """Return the user with that name, or None."""
        return next((user for user in self.users if user.name == name), None)


def login_name(party: str, name: str) -> str:
    """Return the name with which a user logs in: `parti-a.ayse`, or `ayse` of an operator."""
    return f"{party}.{name}" if party else name


def split_login_name(text: str) -> tuple[str, str]:
    """Return the party and the name in a login name; both are empty if it is malformed."""
    party, dot, name = text.strip().lower().rpartition(".")
    return (party, name) if dot and party.isascii() and name.isascii() else ("", "")


def name_fault(name: str) -> str | None:
    """Say what is wrong with a user's name, and what to do; None if it is good."""
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME:
        return (
            f"{name!r} is not a user name, use at most {_MAX_NAME} lower-case ASCII letters, "
            "digits and single dashes, such as 'ayse'"
        )
    return None


def describe(held: Users) -> list[str]:
    """Return a line about each user for the ledger; never a secret."""
    return [
        f"{user.name} {user.role} {user.state} totp {'yes' if user.totp else 'no'} terms "
        f"{user.terms.isoformat() if user.terms else '-'}: "
        + (", ".join(ring.describe(Ring(user.name, user.credentials))) or "no credential")
        for user in held.users
    ]


def users_digest(held: Users) -> str:
    """Return a SHA-256 that changes whenever a user does; the signature is not part of it."""
    return hashlib.sha256(format_users(held)).hexdigest()


def format_users(held: Users) -> bytes:
    """Write the users in the format of their file, without a signature."""
    tables: list[dict[str, object]] = []
    for user in held.users:
        table: dict[str, object] = {
            "name": user.name,
            "role": str(user.role),
            "state": str(user.state),
        }
        if user.terms is not None:
            table["terms"] = user.terms
        if user.totp:
            table["totp"] = user.totp
        table["credential"] = list(map(ring.credential_table, user.credentials))
        tables.append(table)
    return tomli_w.dumps({"party": held.party, "user": tables}).encode()


def parse_users(text: str) -> Users:
    """Read the users from their file's text; ValueError says what is wrong with it."""
    data = tomllib.loads(text)
    if set(data) - {"party", "user"} or not isinstance(data.get("party"), str):
        raise ValueError("not a file of users: it may only have `party` and `user`")
    listed = data.get("user", [])
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise ValueError("each user must be a table under [[user]]")
    found: list[User] = []
    for number, table in enumerate(listed, start=1):
        try:
            found.append(_parse_user(table))
        except ValueError as error:
            raise ValueError(f"user {number}: {error}") from None
    if len({user.name for user in found}) < len(found):
        raise ValueError("two users have the same name")
    allowed = STAFF_ROLES if data["party"] == OPERATORS else PARTY_ROLES
    if odd := next((user for user in found if user.role not in allowed), None):
        raise ValueError(f"{odd.name}: the role {odd.role} does not belong in this file")
    return Users(data["party"], tuple(found))


def _parse_user(table: dict[str, object]) -> User:
    known = {"name", "role", "state", "terms", "totp", "credential"}
    if odd := (set(table) - known) | ({"name", "role", "state"} - set(table)):
        raise ValueError(f"missing or unknown: {', '.join(sorted(odd))}")
    name, terms, totp = table["name"], table.get("terms"), table.get("totp", "")
    if not isinstance(name, str) or name_fault(name):
        raise ValueError(f"name: {name!r} is not a user name")
    if terms is not None and (not isinstance(terms, datetime) or terms.tzinfo is None):
        raise ValueError(f"terms: {terms!r} is not a time with a zone")
    if not isinstance(totp, str):
        raise ValueError("totp: is not text")
    try:
        base64.b32decode(totp)
    except binascii.Error:
        raise ValueError("totp: is not base32") from None
    credentials = ring.parse_credentials(table.get("credential", []))
    if any(c.kind is not CredentialKind.PASSWORD for c in credentials):
        raise ValueError("a user has passwords only")
    role, state = Role(str(table["role"])), State(str(table["state"]))
    return User(name, role, credentials, state, terms, totp)
