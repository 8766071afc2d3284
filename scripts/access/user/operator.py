"""`ssps operator`: the accounts of the staff site."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from config import load
from keys.access_requests import form
from keys.credentials import user_changes
from keys.credentials.users import OPERATORS, STAFF_ROLES, Role, State, User, Users
from keys.operations import user_files
from scripts.access import credentials
from scripts.access.user.user_change import Edit, UserChange
from scripts.shared import change, console

_NAME = click.argument("name")
_MODE = change.mode_options()
_WHY = console.why_option()


@click.group()
def operator() -> None:
    """Manage the accounts of the staff site.

    Each account belongs to one person: an operator, a supervisor or an auditor.
    Its first login sets a password of its own and a second factor (TOTP). Two
    accounts are two pairs of eyes at the desk.
    """


@operator.command()
@_NAME
@click.option(
    "--role",
    type=click.Choice([str(role) for role in STAFF_ROLES]),
    default=str(Role.OPERATOR),
    show_default=True,
    help="operator works at the desk; supervisor also decides where two operators differ; auditor "
    "only reads.",
)
@_MODE
@_WHY
@console.with_site
def add(name: str, role: str, mode: change.Mode, why: str, site: Path) -> None:
    """Add the account NAME, and print its initial password.

    The initial password opens only the page that replaces it.
    """
    load.load(site)
    if form.holds_kimlik(name):
        raise console.fault("NAME", "", form.NO_KIMLIK)
    password = credentials.new_password()
    add_operator(
        site, name, Role(role), password, why, mode, lambda: _print_password(name, password)
    )


@operator.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@console.with_site
def list_(as_json: bool, site: Path) -> None:
    """List the accounts."""
    now = console.utc_now()
    rows = [_row(each, now) for each in user_files.load(site, OPERATORS).users]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    table = Table("name", "role", "state", "password", "second factor", box=None)
    for row in rows:
        second = "yes" if row["totp"] else "no"
        table.add_row(row["name"], row["role"], row["state"], row["password"], second)
    console.out.print(table)


@operator.command()
@_NAME
@click.option("--totp", is_flag=True, help="Also remove the second factor, if it was lost.")
@_MODE
@_WHY
@console.with_site
def reset(name: str, totp: bool, mode: change.Mode, why: str, site: Path) -> None:
    """Give the account NAME a new initial password, and print it.

    Its old passwords and its sessions end at once.
    """
    password = credentials.new_password()
    fresh = credentials.from_password(password, "", console.utc_now(), None)

    def edit(old: Users) -> Edit:
        new = user_changes.reset(old, name, fresh, totp=totp)
        return Edit(new, {"user": name, "credential": fresh.fingerprint})

    _carry_out(site, "reset", why, edit, mode, lambda: _print_password(name, password))


@operator.command()
@_NAME
@_MODE
@_WHY
@console.with_site
def suspend(name: str, mode: change.Mode, why: str, site: Path) -> None:
    """Suspend the account NAME.

    Its sessions end at once, and its logins are refused.
    """
    _set_state(site, "suspend", name, State.SUSPENDED, why, mode)


@operator.command()
@_NAME
@_MODE
@_WHY
@console.with_site
def resume(name: str, mode: change.Mode, why: str, site: Path) -> None:
    """Let the suspended account NAME log in again."""
    _set_state(site, "resume", name, State.ACTIVE, why, mode)


@operator.command()
@click.argument("name", required=False)
@click.option("--all", "every", is_flag=True, help="Remove all accounts, also if refused.")
@_MODE
@_WHY
@console.with_site
def remove(name: str | None, every: bool, mode: change.Mode, why: str, site: Path) -> None:
    """Remove the account NAME and its passwords.

    Its sessions end at once. Its records in the ledgers stay.
    """
    if (name is None) == (not every):
        raise click.UsageError("name one account, or use --all")
    if name is None:
        whole = UserChange(
            site,
            "operator remove",
            OPERATORS,
            why,
            lambda old: Edit(Users(OPERATORS)),
            start_again=True,
        )
        change.carry_out(site, whole, mode)
        return
    named = name
    _carry_out(
        site,
        "remove",
        why,
        lambda old: Edit(user_changes.remove(old, named), {"user": named}),
        mode,
    )


def add_operator(
    site: Path,
    name: str,
    role: Role,
    password: str,
    why: str,
    mode: change.Mode,
    print_password: Callable[[], object],
) -> None:
    """Add an account with an initial password, which `print_password` prints once it is one."""
    fresh = credentials.from_password(password, "", console.utc_now(), None)

    def edit(old: Users) -> Edit:
        new = user_changes.add(old, name, role, fresh)
        return Edit(new, {"user": name, "credential": fresh.fingerprint, "role": str(role)})

    _carry_out(site, "add", why, edit, mode, print_password)


def _set_state(
    site: Path, command: str, name: str, state: State, why: str, mode: change.Mode
) -> None:
    def edit(old: Users) -> Edit:
        return Edit(user_changes.set_state(old, name, state), {"user": name})

    if not _carry_out(site, command, why, edit, mode):
        click.echo(f"no change: {name}", err=True)


def _carry_out(
    site: Path,
    command: str,
    why: str,
    edit: Callable[[Users], Edit],
    mode: change.Mode,
    made: Callable[[], object] = lambda: None,
) -> bool:
    each = UserChange(site, f"operator {command}", OPERATORS, why, edit)
    return change.carry_out(site, each, mode, made) is not None


def _print_password(name: str, password: str) -> None:
    click.echo(f"The initial password of {name}, shown only this once:", err=True)
    click.echo(password)


def _row(held: User, now: datetime) -> dict[str, Any]:
    valid = [c for c in held.credentials if c.valid_at(now)]
    kind = "none" if not valid else "own" if any(c.chosen for c in valid) else "initial"
    return {
        "name": held.name,
        "role": str(held.role),
        "state": str(held.state),
        "password": kind,
        "totp": bool(held.totp),
    }
