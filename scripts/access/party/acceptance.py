"""Accepts a party's request form, or returns it: the steps and records are those of the commands.

The form states what the party asks for (keys/access_requests/comparison). To accept it, each
difference is changed as an operator's command would change it, with its record in the operations
ledger: `party add` or `party set-ips`, `user remove`, `user add`, `key revoke`, `key add`. A record
that the request is accepted comes last. So after a crash the request is still submitted; accepting
it again does what is left. Everything is checked before the first step.

The operator states the SHA-256 of the form that was compared with the paper. If the file is another
one, nothing is changed.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from config import amend, load
from config.event import Value
from config.fault import Faults
from config.settings import Settings
from config.site import PARTIES_TOML, access_requests_folder
from keys.access_requests import comparison, store
from keys.access_requests.comparison import Changes, Comparison
from keys.access_requests.store import AccessRequest, State
from keys.credentials import rotation, user_changes
from keys.credentials.ring import Credential, CredentialKind, Ring
from keys.credentials.users import Role, Users, login_name
from keys.operations import ring_files, user_files
from scripts.access import credentials, parties
from scripts.access.key import ring_change
from scripts.access.key.ring_change import RingChange
from scripts.access.party.agreement import PartiesEdit
from scripts.access.user.user_change import Edit, UserChange
from scripts.shared import change, console
from scripts.shared.change import Change, Plan

_CONTACT = "contact"


@dataclass
class Accepted:
    """What was done so far: initial passwords of new users, each step, what to wait for."""

    passwords: dict[str, str] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)
    waits: list[Callable[[], bool]] = field(default_factory=list)
    complete: bool = False  # the request is accepted

    def finish(self) -> None:
        """Note that the request is accepted."""
        self.complete = True


def find(site: Path, party_id: str, number: int | None = None) -> AccessRequest:
    """Return a request of a party, by default the newest; raise Faults if there is none."""
    parties.find(load.load(site), party_id)
    if number is not None and (found := store.request(site, party_id, number)) is not None:
        return found
    made = store.requests_of(site, party_id)
    if number is not None or not made:
        numbers = ", ".join(str(each.number) for each in made)
        what = f"has no request {number}, its requests are: {numbers}"
        raise console.fault(PARTIES_TOML, party_id, what if made else "has sent no request")
    return made[-1]


def compare(site: Path, request: AccessRequest) -> Comparison:
    """Compare a request with what is in force; raise Faults if the form cannot be read."""
    settings, party = load.load(site), request.party
    users, held = user_files.load(site, party), ring_files.load(site, party)
    return comparison.compare(settings, request, users, held, _CONTACT, console.utc_now())


def preview(found: Comparison) -> list[str]:
    """Return the comparison as lines: `-` will be removed, `+` will be added."""
    lines = [f"{found.request.party}: request {found.request.number}, {found.request.sha256[:16]}"]
    for row in found.rows:
        if not row.differs:
            kept = ", ".join(row.asked or row.in_force) or "-"
            lines.append(f"    {row.topic}: {kept}")
            continue
        lines.append(f"  ~ {row.topic}:")
        lines += [f"      - {line}" for line in row.in_force if line not in row.asked]
        lines += [f"      + {line}" for line in row.asked if line not in row.in_force]
    return lines


def refuse_impossible(site: Path, found: Comparison, *, override: bool) -> None:
    """Raise Faults if the request cannot be accepted as it is; nothing is changed."""
    where = str(found.request.file)
    if found.request.state is not State.SUBMITTED:
        raise console.fault(where, "", f"is already {found.request.state}, so it cannot change")
    if found.frozen and not override:
        wrong = (
            "the addresses are frozen until the results are final (Genelge md. 4/b-2): return the "
            "request, or accept it with --override-addresses and say why"
        )
        raise console.fault(where, "static_ips", wrong)
    try:
        _new_users(found)
        new = _new_ring(found)
    except ValueError as error:
        raise console.fault(where, "", str(error)) from None
    ring_change.refuse_shared(site, new, known=found.in_force.ring)
    _edited(site, found)


def accept(
    site: Path, found: Comparison, why: str, done: Accepted, *, override: bool = False
) -> None:
    """Change what the form asks for, and record that it is accepted; Faults as the steps raise.

    Each step is noted in `done` once it is made, so that the caller can show the passwords that are
    in force also if a later step fails.
    """
    party = found.request.party
    with _locked(site, party):
        current = compare(site, find(site, party, found.request.number))
        if current.request != found.request or current.changes != found.changes:
            raise console.fault(str(found.request.file), "", "has changed: compare it again")
        refuse_impossible(site, current, override=override)
        for step, passwords in _steps(site, current, why):
            _carry_out(site, step, passwords, done)
        outcome: dict[str, Value] = {"services": list(current.form.services)}
        if current.frozen:
            outcome["addresses"] = "changed although they are frozen"
        decision = _Decision(site, "accept", current.request, State.ACCEPTED, why, outcome)
        change.apply(site, decision, quiet=True, made=done.finish)


def return_(site: Path, request: AccessRequest, why: str) -> None:
    """Return a request to the representative, who sees `why`; Faults if it is decided already."""
    with _locked(site, request.party):
        decision = _Decision(site, "return", request, State.RETURNED, why, {})
        change.apply(site, decision, quiet=True)


class _Decision(Change[AccessRequest]):
    """The record that a request is accepted or returned, and its new state."""

    def __init__(
        self,
        site: Path,
        command: str,
        request: AccessRequest,
        state: State,
        why: str,
        detail: Mapping[str, Value],
    ) -> None:
        super().__init__(f"party requests {command}", request.party, why)
        self._site, self._request, self._state, self._detail = site, request, state, detail

    def read(self) -> AccessRequest:
        """Return the request as it is now."""
        return find(self._site, self._request.party, self._request.number)

    def describe(self, old: AccessRequest) -> Value:
        """Return the request's state."""
        return [f"request {old.number}: {old.state}"]

    def plan(self, old: AccessRequest) -> Plan[AccessRequest]:
        """Raise Faults if the request is decided, or is another one."""
        if old != self._request or old.state is not State.SUBMITTED:
            raise console.fault(str(old.file), "", f"is {old.state} now: look at it again")

        def apply() -> None:
            now, by = console.utc_now(), console.operator()
            store.decide(self._site, old, self._state, by, now, self.why)

        return Plan(
            old,
            [f"{old.party}: request {old.number}: {old.state} -> {self._state}"],
            lambda: [f"request {old.number}: {self._state}"],
            apply,
            {"request": old.number, "sha256": old.sha256, **self._detail},
        )


@contextmanager
def _locked(site: Path, party: str) -> Iterator[None]:
    try:
        with store.locked(site, party):
            yield
    except store.Conflict as error:
        raise console.fault(str(access_requests_folder(party)), "", str(error)) from None


def _carry_out(site: Path, step: Change[Any], passwords: Mapping[str, str], done: Accepted) -> None:
    def made() -> None:
        done.steps.append(" ".join((step.command, *passwords)))
        done.passwords.update(passwords)

    applied = change.apply(site, step, quiet=True, made=made)
    if applied is not None:
        done.waits.append(lambda: step.wait(applied.new))


def _steps(
    site: Path, found: Comparison, why: str
) -> Iterator[tuple[Change[Any], Mapping[str, str]]]:
    """Yield each change in its order, with the initial password if it adds a user."""
    request, changes, party = found.request, found.changes, found.request.party
    note: dict[str, Value] = {"request": request.number, "sha256": request.sha256}
    if changes.static_ips is not None or changes.contact is not None:
        detail: dict[str, Value] = {**note, "services": list(found.form.services)}
        detail["static_ips"] = list(found.form.party["static_ips"])
        command = "party add" if found.in_force.party.invited else "party set-ips"
        if changes.static_ips is None:
            command = "party set-contact"
        yield PartiesEdit(site, command, party, why, lambda text: _edit(text, found), detail), {}

    def users(command: str, name: str, edit: Callable[[Users], Users], **more: Value) -> UserChange:
        named: dict[str, Value] = {**note, "user": login_name(party, name), **more}
        return UserChange(site, command, party, why, lambda old: Edit(edit(old), named))

    def ring_edit(command: str, edit: Callable[[Ring], Ring], name: str) -> RingChange:
        named: dict[str, Value] = {**note, "kind": "public-key", "credential": name}
        return RingChange(
            site, command, party, why, None, lambda old: ring_change.Edit(edit(old), named)
        )

    def adding(name: str, role: Role) -> tuple[UserChange, dict[str, str]]:
        password = credentials.new_password()
        fresh = credentials.from_password(password, "", console.utc_now(), None)
        add = partial(user_changes.add, name=name, role=role, initial=fresh)
        step = users("user add", name, add, role=str(role), credential=fresh.fingerprint)
        return step, {login_name(party, name): password}

    for name in changes.removed_users:
        yield users("user remove", name, partial(user_changes.remove, name=name)), {}
    for name, role in _as_added(changes):
        yield adding(name, role)
    if (chosen := changes.representative) is not None:
        choose = partial(user_changes.set_representative, name=chosen)
        yield users("user representative", chosen, choose), {}
    for name in changes.revoked_keys:
        yield ring_edit("key revoke", partial(rotation.revoke, fingerprint=name), name), {}
    for key in changes.added_keys:
        made = credentials.from_asked_key(key)
        yield ring_edit("key add", partial(rotation.add, credential=made), made.fingerprint), {}


def _as_added(changes: Changes) -> list[tuple[str, Role]]:
    """Return the new users with the role that each is added with.

    A new representative is added as a web user first, since there can be only one.
    """
    return [
        (name, Role.WEB if role is Role.REPRESENTATIVE else role)
        for name, role in changes.added_users
    ]


def _new_users(found: Comparison) -> Users:
    """Return the users after the request, to see that it is possible; raise ValueError if not."""
    new, now = found.in_force.users, console.utc_now()
    unused = Credential(CredentialKind.PASSWORD, "", "", "", now, None, "")
    for name in found.changes.removed_users:
        new = user_changes.remove(new, name)
    for name, role in _as_added(found.changes):
        new = user_changes.add(new, name, role, unused)
    if (chosen := found.changes.representative) is not None:
        new = user_changes.set_representative(new, chosen)
    return new


def _new_ring(found: Comparison) -> Ring:
    new = found.in_force.ring
    for name in found.changes.revoked_keys:
        new = rotation.revoke(new, name)
    for key in found.changes.added_keys:
        new = rotation.add(new, credentials.from_asked_key(key))
    return new


def _edited(site: Path, found: Comparison) -> Settings:
    """Return the settings after the request; raise Faults if parties.toml would be wrong."""
    text = (site / PARTIES_TOML).read_text(encoding="utf-8")
    settings, faults = load.read(site, _edit(text, found).encode())
    if settings is None:
        raise Faults(faults)
    return settings


def _edit(text: str, found: Comparison) -> str:
    party = found.request.party
    if found.changes.static_ips is not None:
        text = amend.set_party_key(text, party, "invited", None)
        addresses = list(map(str, found.changes.static_ips))
        text = amend.set_party_key(text, party, "static_ips", addresses)
    if (contact := found.changes.contact) is not None:
        asked = {"name": contact.name, "email": contact.email, "phone": contact.phone}
        text = amend.set_party_contact(text, party, asked)
    return text
