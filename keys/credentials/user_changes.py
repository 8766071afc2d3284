"""Plans changes of a party's users, or of the operators: each takes users and returns new ones.

Nothing here reads the clock or writes to disk. A change that is not possible raises ValueError,
whose text says why.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from keys.credentials import rotation
from keys.credentials.ring import Credential, Ring
from keys.credentials.users import (
    MAX_SERVICE_USERS,
    MAX_WEB_USERS,
    Role,
    Service,
    State,
    User,
    Users,
    login_name,
    name_fault,
)


def add(old: Users, name: str, role: Role, initial: Credential) -> Users:
    """Return the users with one more, or with a passive one that is defined again.

    Raises ValueError if the party has the user, or as many users as it may have.
    """
    if wrong := name_fault(name):
        raise ValueError(wrong)
    before = old.named(name)
    if before is not None and before.state is not State.PASSIVE:
        raise ValueError(
            f"{_whose(old)} already has the user {name}: give it a new password with "
            f"`{_command(old, 'reset', login_name(old.party, name))}`"
        )
    others = [u for u in old.users if u.name != name and u.state is not State.PASSIVE]
    same = [u for u in others if u.role.service is role.service]
    most = MAX_SERVICE_USERS if role is Role.SERVICE else MAX_WEB_USERS
    if role.service is not Service.STAFF and len(same) >= most:
        what = "user of the web service" if role.service is Service.API else "users of the web site"
        raise ValueError(
            f"{old.party} already has {len(same)} {what}, at most {most} are allowed (Genelge "
            "md. 5, md. 4/b-6): remove one first"
        )
    if role is Role.REPRESENTATIVE and any(u.role is Role.REPRESENTATIVE for u in others):
        raise ValueError(f"{old.party} already has a representative: remove that user first")
    fresh = User(name, role, (initial,))
    if before is None:
        return replace(old, users=(*old.users, fresh))
    return _replaced(old, fresh)


def reset(
    old: Users,
    name: str,
    initial: Credential,
    *,
    totp: bool = False,
    overlap: timedelta | None = None,
) -> Users:
    """Return the users with a new initial password for one; all its other passwords end.

    With `totp` its second factor is removed too. With `overlap` the passwords of a user of the web
    service end only that much later, or at their own end if that is earlier: its programs go on
    with the old one until they have the new one.
    """
    user = _active(old, name)
    kept: tuple[Credential, ...] = ()
    if overlap is not None:
        if user.role is not Role.SERVICE:
            raise ValueError(
                f"{name} is no user of the web service, and only a program needs two passwords: "
                "leave out --overlap"
            )
        own = (c for c in user.credentials if c.chosen and c.valid_at(initial.not_before))
        kept = rotation.rotate(Ring(name, tuple(own)), initial, overlap).credentials[:-1]
    new = replace(user, credentials=(*kept, initial))
    return _replaced(old, replace(new, totp="") if totp else new)


def set_state(old: Users, name: str, state: State) -> Users:
    """Return the users with one suspended, or active again."""
    user = _named(old, name)
    if user.state is State.PASSIVE:
        raise ValueError(
            f"{name} is passive since the last election: define it again with "
            f"`{_command(old, 'add', old.party, name)}`"
        )
    return _replaced(old, replace(user, state=state))


def set_representative(old: Users, name: str) -> Users:
    """Return the users with that one as the representative; the one before becomes a web user."""
    user = _active(old, name)
    if user.role.service is not Service.WEB:
        raise ValueError(f"{name} is not a web user: only a web user can be representative")
    roles = ((u, Role.WEB if u.role is Role.REPRESENTATIVE else u.role) for u in old.users)
    return _replaced(
        replace(old, users=tuple(replace(u, role=role) for u, role in roles)),
        replace(user, role=Role.REPRESENTATIVE),
    )


def remove(old: Users, name: str) -> Users:
    """Return the users without that one."""
    user = _named(old, name)
    return replace(old, users=tuple(u for u in old.users if u is not user))


def end_season(old: Users) -> Users:
    """Return the users with all web users passive, except for the representative (md. 5/d).

    A passive user has no password: it is defined again for the next election.
    """
    ended = (
        replace(u, state=State.PASSIVE, credentials=(), terms=None, totp="")
        if u.role is Role.WEB
        else u
        for u in old.users
    )
    return replace(old, users=tuple(ended))


def change_password(old: Users, name: str, fingerprint: str, fresh: Credential) -> Users:
    """Return the users with a password that the user chose in place of the one it logged in with.

    All other passwords of the user end too. Only if it replaces an initial password, the one before
    that goes on until the end of its overlap (`reset`).
    """
    user = _active(old, name)
    before = user.credential(fingerprint)
    if before is None or not before.valid_at(fresh.not_before):
        raise ValueError(f"{fingerprint} is not a valid password of {name}")
    kept = replace(fresh, label=before.label, not_after=before.not_after)
    others = tuple(
        c for c in user.credentials if c.chosen and not before.chosen and c.not_after is not None
    )
    return _replaced(old, replace(user, credentials=(*others, kept)))


def accept_terms(old: Users, name: str, when: datetime) -> Users:
    """Return the users with one that has accepted the terms."""
    return _replaced(old, replace(_active(old, name), terms=when))


def set_totp(old: Users, name: str, secret: str) -> Users:
    """Return the users with another second factor for one; without a secret, with none."""
    return _replaced(old, replace(_active(old, name), totp=secret))


def _named(old: Users, name: str) -> User:
    found = old.named(name)
    if found is None:
        names = ", ".join(user.name for user in old.users) or "none"
        raise ValueError(f"{_whose(old)} has no user {name}, its users are: {names}")
    return found


def _whose(old: Users) -> str:
    return old.party or "the staff site"


def _command(old: Users, *words: str) -> str:
    return " ".join(("ssps", "user" if old.party else "operator", *filter(None, words)))


def _active(old: Users, name: str) -> User:
    user = _named(old, name)
    if user.state is not State.ACTIVE:
        raise ValueError(f"{name} is {user.state}")
    return user


def _replaced(old: Users, new: User) -> Users:
    return replace(old, users=tuple(new if u.name == new.name else u for u in old.users))
