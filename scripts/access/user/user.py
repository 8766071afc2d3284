"""`ssps user`: the users of a party at the web site and the web service."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from config import load, times
from config.event import Value
from config.settings import Settings
from keys.access_requests import form
from keys.credentials import user_changes
from keys.credentials.ring import Credential
from keys.credentials.users import (
    PARTY_ROLES,
    Role,
    State,
    User,
    Users,
    login_name,
    split_login_name,
)
from keys.operations import user_files
from scripts.access import credentials, parties
from scripts.access.user.user_change import Edit, UserChange
from scripts.shared import change, console
from scripts.shared.time_types import DURATION

_LOGIN = click.argument("login", metavar="PARTY.NAME")
_MODE = change.mode_options()
_WHY = console.why_option()
_INITIAL = (
    "Ilk parolaniz yalniz parola belirleme sayfasini acar; ilk giriste kendi parolanizi belirleyin."
)


@click.group()
def user() -> None:
    """Manage the users of the web site and the web service.

    A party has up to ten web users and one user of the web service, each with
    its own password (Genelge md. 5).
    """


@user.command()
@click.argument("party_id", metavar="PARTY")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice([str(role) for role in PARTY_ROLES]),
    default=str(Role.WEB),
    show_default=True,
    help="What the user is: representative is the web user that stays active between elections, "
    "service the one of the web service.",
)
@_MODE
@_WHY
@console.with_site
def add(party_id: str, name: str, role: str, mode: change.Mode, why: str, site: Path) -> None:
    """Add the user NAME to PARTY, with an initial password.

    The initial password opens only the page that replaces it. A user that
    is passive since the last election is defined again.
    """
    party = parties.find_with_users(load.load(site), party_id)
    if party.invited and role != str(Role.REPRESENTATIVE):
        parties.find_with_login(load.load(site), party_id)
    if form.holds_kimlik(name):
        raise console.fault("NAME", "", form.NO_KIMLIK)
    password = credentials.new_password()
    login = login_name(party_id, name)
    add_user(
        site,
        party_id,
        name,
        Role(role),
        password,
        why,
        mode,
        lambda: _print_password(party_id, login, password),
    )


@user.command("list")
@click.argument("party_id", metavar="[PARTY]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@console.with_site
def list_(party_id: str | None, as_json: bool, site: Path) -> None:
    """List the users of all parties, or of PARTY."""
    settings = load.load(site)
    listed = settings.parties if party_id is None else [parties.find(settings, party_id)]
    now = console.utc_now()
    rows = [_row(p.id, u, now) for p in listed for u in user_files.load(site, p.id).users]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    table = Table("user", "role", "state", "password", "second factor", "terms", box=None)
    for row in rows:
        terms = row["terms"] or "not accepted"
        second = "yes" if row["totp"] else "no"
        table.add_row(row["user"], row["role"], row["state"], row["password"], second, terms)
    console.out.print(table)


@user.command()
@_LOGIN
@click.option("--totp", is_flag=True, help="Also remove the second factor, if it was lost.")
@click.option(
    "--overlap",
    type=DURATION,
    help="How long the old password of a user of the web service keeps working, for example 1h.",
)
@_MODE
@_WHY
@console.with_site
def reset(
    login: str, totp: bool, overlap: timedelta | None, mode: change.Mode, why: str, site: Path
) -> None:
    """Give PARTY.NAME a new initial password, and print it.

    Its old passwords end at once, and so do its sessions. Only a user of the
    web service may keep the old one for an overlap, until its programs have
    the new one.
    """
    party_id, name = _find(load.load(site), login)
    password = credentials.new_password()
    fresh = _initial(password)

    def edit(old: Users) -> Edit:
        new = user_changes.reset(old, name, fresh, totp=totp, overlap=overlap)
        detail: dict[str, Value] = {"user": login, "credential": fresh.fingerprint}
        if overlap is not None:
            detail["overlap"] = times.format_duration(overlap)
        return Edit(new, detail)

    made = UserChange(site, "user reset", party_id, why, edit)
    change.carry_out(site, made, mode, lambda: _print_password(party_id, login, password))


@user.command()
@_LOGIN
@_MODE
@_WHY
@console.with_site
def suspend(login: str, mode: change.Mode, why: str, site: Path) -> None:
    """Suspend the user PARTY.NAME.

    Its sessions end at once, and its logins are refused.
    """
    _set_state(site, "user suspend", login, State.SUSPENDED, why, mode)


@user.command()
@_LOGIN
@_MODE
@_WHY
@console.with_site
def resume(login: str, mode: change.Mode, why: str, site: Path) -> None:
    """Let the suspended user PARTY.NAME log in again."""
    _set_state(site, "user resume", login, State.ACTIVE, why, mode)


@user.command()
@_LOGIN
@_MODE
@_WHY
@console.with_site
def representative(login: str, mode: change.Mode, why: str, site: Path) -> None:
    """Make PARTY.NAME the representative of its party.

    The previous representative becomes a web user.

    The representative is the contact (Genelge md. 4/b-6), sends the party's
    request forms, and stays active between elections.
    """
    party_id, name = _find(load.load(site), login)

    def edit(old: Users) -> Edit:
        return Edit(user_changes.set_representative(old, name), {"user": login})

    made = UserChange(site, "user representative", party_id, why, edit)
    if change.carry_out(site, made, mode) is None:
        click.echo(f"no change: {login}", err=True)


@user.command()
@click.argument("login", metavar="PARTY.NAME", required=False)
@click.option(
    "--all",
    "every",
    metavar="PARTY",
    help="Remove all users of PARTY, also if their file is refused.",
)
@_MODE
@_WHY
@console.with_site
def remove(login: str | None, every: str | None, mode: change.Mode, why: str, site: Path) -> None:
    """Remove the user PARTY.NAME and its passwords.

    Its sessions end at once. Its records in the ledgers stay.
    """
    if (login is None) == (every is None):
        raise click.UsageError("name one user as PARTY.NAME, or use --all PARTY")
    settings = load.load(site)
    if every is not None:
        parties.find(settings, every)
        whole = UserChange(
            site, "user remove", every, why, lambda old: Edit(Users(every)), start_again=True
        )
        change.carry_out(site, whole, mode)
        return
    party_id, name = _find(settings, str(login))

    def edit(old: Users) -> Edit:
        return Edit(user_changes.remove(old, name), {"user": str(login)})

    change.carry_out(site, UserChange(site, "user remove", party_id, why, edit), mode)


@user.command()
@_MODE
@_WHY
@console.with_site
def season(mode: change.Mode, why: str, site: Path) -> None:
    """Make all web users passive after an election.

    The representatives and the users of the web service stay active. The
    others are defined again for the next election, with `ssps user add`
    (Genelge md. 5/d).
    """
    for party in load.load(site).parties:
        made = UserChange(
            site, "user season", party.id, why, lambda old: Edit(user_changes.end_season(old))
        )
        change.carry_out(site, made, mode)


def add_user(
    site: Path,
    party_id: str,
    name: str,
    role: Role,
    password: str,
    why: str,
    mode: change.Mode,
    print_password: Callable[[], object],
) -> None:
    """Add a user with an initial password, which `print_password` prints once it is one."""
    fresh = _initial(password)

    def edit(old: Users) -> Edit:
        new = user_changes.add(old, name, role, fresh)
        detail = {"user": login_name(party_id, name), "credential": fresh.fingerprint}
        return Edit(new, {**detail, "role": str(role)})

    change.carry_out(site, UserChange(site, "user add", party_id, why, edit), mode, print_password)


def _initial(password: str) -> Credential:
    return credentials.from_password(password, "", console.utc_now(), None)


def _set_state(
    site: Path, command: str, login: str, state: State, why: str, mode: change.Mode
) -> None:
    party_id, name = _find(load.load(site), login)

    def edit(old: Users) -> Edit:
        return Edit(user_changes.set_state(old, name, state), {"user": login})

    if change.carry_out(site, UserChange(site, command, party_id, why, edit), mode) is None:
        click.echo(f"no change: {login}", err=True)


def _find(settings: Settings, login: str) -> tuple[str, str]:
    party_id, name = split_login_name(login)
    if not name:
        raise click.UsageError(f"{login!r} is not a user: write PARTY.NAME, such as parti-a.ayse")
    parties.find(settings, party_id)
    return party_id, name


def _print_password(party_id: str, login: str, password: str) -> None:
    console.print_message_for(
        party_id,
        f"Kullanici adiniz {login}. {_INITIAL}",
        f"Your user name is {login}. The initial password opens only the page that replaces it.",
    )
    click.echo(f"The initial password of {login}, shown only this once:", err=True)
    click.echo(password)


def _row(party_id: str, held: User, now: datetime) -> dict[str, Any]:
    valid = [c for c in held.credentials if c.valid_at(now)]
    kind = "none" if not valid else "own" if any(c.chosen for c in valid) else "initial"
    ends = [c.not_after for c in valid if c.chosen and c.not_after is not None]
    if ends and kind == "own" and not all(c.chosen for c in valid):
        kind = f"initial, the old one until {times.format_time(max(ends))}"
    return {
        "user": login_name(party_id, held.name),
        "party": party_id,
        "role": str(held.role),
        "state": str(held.state),
        "password": kind,
        "totp": bool(held.totp),
        "terms": times.format_optional(held.terms),
    }
