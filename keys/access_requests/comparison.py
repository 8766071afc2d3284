"""Compares a request form with what the site has in force for its party: what would change.

The form states everything that the party asks for: a user or a public key that is in force and not
on the form is removed. Passwords for SFTP are not on a form, so they stay. So does the
representative of a form without users of the web site, since it sends the party's forms. A
credential that has ended is not in force: if the form has such a key, the old one is revoked and
the key is added again. What the form says of id, name, kind and scope is not compared: only an
operator decides on those.

The addresses of a party are frozen until its results are final (Genelge md. 4/b-2), which is when
the access closes. An operator may change them all the same, with a reason.
"""

import base64
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from config.election import Election
from config.fault import Fault, Faults
from config.party import Address, Contact, Party, parse_address
from config.settings import Settings
from keys.access_requests.form import (
    SERVICE,
    SERVICE_USER,
    SERVICES,
    SFTP,
    WEB,
    AskedKey,
    Form,
    parse,
)
from keys.access_requests.store import AccessRequest
from keys.credentials.ring import CredentialKind, Ring, fingerprint
from keys.credentials.users import Role, State, Users


@dataclass(frozen=True, slots=True)
class InForce:
    """What a site has in force for one party."""

    party: Party
    users: Users
    ring: Ring


@dataclass(frozen=True, slots=True)
class Changes:
    """What accepting a form would change; None and empty mean that it stays.

    `representative` is the user with that role from then on, if it is another one than before.
    """

    static_ips: tuple[Address, ...] | None = None
    contact: Contact | None = None
    removed_users: tuple[str, ...] = ()
    representative: str | None = None
    added_users: tuple[tuple[str, Role], ...] = ()
    revoked_keys: tuple[str, ...] = ()
    added_keys: tuple[AskedKey, ...] = ()

    @property
    def nothing(self) -> bool:
        """Whether everything on the form is in force already."""
        return self == Changes()


class Topic(StrEnum):
    """What one row of the comparison is about."""

    SERVICES = "services"
    ADDRESSES = "addresses"
    CONTACT = "contact"
    USERS = "web users"
    SERVICE_USER = "service user"
    KEYS = "public keys"
    APPROVAL = "approved by"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the comparison: what is in force, and what is asked for, line by line."""

    topic: Topic
    in_force: tuple[str, ...]
    asked: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether accepting the form changes something here."""
        return self.topic is not Topic.APPROVAL and set(self.in_force) != set(self.asked)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A request beside what is in force, and what accepting it would change.

    `frozen` says that the addresses would change although they may not. `shared` are other parties
    that have registered one of the addresses.
    """

    request: AccessRequest
    form: Form
    in_force: InForce
    rows: tuple[Row, ...]
    changes: Changes
    frozen: bool
    shared: tuple[str, ...]


def compare(
    settings: Settings, request: AccessRequest, users: Users, held: Ring, word: str, now: datetime
) -> Comparison:
    """Compare a request with what is in force; `word` marks the contact among the users.

    Raises Faults if the form cannot be read, is another party's, or has an address that is none.
    """
    file, party = str(request.file), settings.party(request.party)
    asked = parse(request.form, file)
    if party is None or asked.id != party.id:
        raise Faults([Fault(file, "id", f"is {asked.id}, not {request.party}: return it")])
    old = InForce(party, users, held)
    try:
        found = changes(asked, old, now)
        listed = tuple(rows(asked, old, word, now))
    except ValueError as error:
        raise Faults([Fault(file, "static_ips", str(error))]) from None
    frozen = found.static_ips is not None and addresses_frozen(party, settings.election, now)
    addresses = set(found.static_ips or party.static_ips)
    others = (p for p in settings.parties if p.id != party.id)
    shared = tuple(p.id for p in others if addresses & set(p.static_ips))
    return Comparison(request, asked, old, listed, found, frozen, shared)


def addresses_frozen(party: Party, election: Election, now: datetime) -> bool:
    """Say whether the party's addresses may not change any more (Genelge md. 4/b-2)."""
    return not party.invited and (election.closes is None or now < election.closes)


def changes(form: Form, old: InForce, now: datetime) -> Changes:
    """Return what accepting the form would change; ValueError if an address cannot be read."""
    static_ips = tuple(parse_address(text) for text in form.party["static_ips"])
    contact = Contact(**form.party["contact"])
    asked = dict(form.users)
    present = {u.name: u.role for u in old.users.users if u.state is not State.PASSIVE}
    representative = next((n for n, r in present.items() if r is Role.REPRESENTATIVE), None)
    contact_user = next((n for n, r in asked.items() if r is Role.REPRESENTATIVE), representative)
    stays = set(asked) | ({contact_user} if contact_user else set())
    known = {_fingerprint(key.line): key for key in form.keys}
    held = [c for c in old.ring.credentials if c.kind is CredentialKind.PUBLIC_KEY]
    in_force = {c.fingerprint for c in held if not c.has_ended(now)}
    return Changes(
        None if set(static_ips) == set(old.party.static_ips) else static_ips,
        None if contact == old.party.contact else contact,
        tuple(name for name in present if name not in stays),
        None if contact_user == representative else contact_user,
        tuple((name, role) for name, role in asked.items() if name not in present),
        # One that has ended is revoked only if it is added again.
        tuple(c.fingerprint for c in held if (c.fingerprint in known) == c.has_ended(now)),
        tuple(key for name, key in known.items() if name not in in_force),
    )


def rows(form: Form, old: InForce, representative: str, now: datetime) -> list[Row]:
    """Return the comparison; `representative` is the word that marks the contact of the users."""

    def user_line(name: str, role: Role) -> str:
        return f"{name} ({representative})" if role is Role.REPRESENTATIVE else name

    present = [(u.name, u.role) for u in old.users.users if u.state is not State.PASSIVE]
    web = [(name, role) for name, role in present if role.service is not Role.SERVICE.service]
    credentials = [c for c in old.ring.credentials if not c.has_ended(now)]
    keys = [c for c in credentials if c.kind is CredentialKind.PUBLIC_KEY]
    has = {
        SFTP: bool(credentials),
        WEB: bool(web) and not old.party.invited,
        SERVICE: len(present) > len(web),
    }
    asked_web = [(name, role) for name, role in form.users if role is not Role.SERVICE]
    if not asked_web:
        asked_web = [(name, role) for name, role in web if role is Role.REPRESENTATIVE]
    signed = str(form.signed_on or "")
    return [
        Row(
            Topic.SERVICES,
            tuple(service for service in SERVICES if has[service]),
            tuple(service for service in SERVICES if service in form.services),
        ),
        Row(
            Topic.ADDRESSES,
            tuple(map(str, old.party.static_ips)),
            tuple(str(parse_address(text)) for text in form.party["static_ips"]),
        ),
        Row(
            Topic.CONTACT,
            _contact_lines(old.party.contact),
            _contact_lines(Contact(**form.party["contact"])),
        ),
        Row(
            Topic.USERS,
            tuple(user_line(*user) for user in web),
            tuple(user_line(*user) for user in asked_web),
        ),
        Row(
            Topic.SERVICE_USER,
            tuple(name for name, role in present if role is Role.SERVICE),
            (SERVICE_USER,) if SERVICE in form.services else (),
        ),
        Row(
            Topic.KEYS,
            tuple(c.fingerprint for c in keys),
            tuple(_fingerprint(key.line) for key in form.keys),
        ),
        Row(Topic.APPROVAL, (), tuple(filter(None, (form.approver, signed)))),
    ]


def _contact_lines(contact: Contact) -> tuple[str, ...]:
    return tuple(filter(None, (contact.name, contact.email, contact.phone)))


def _fingerprint(line: str) -> str:
    return fingerprint(base64.b64decode(line.partition(" ")[2]))
