"""Changes that a user makes to its own account: its password, the terms, the second factor.

Each is a record in the operations ledger before it takes effect, as for an operator's command;
`who` of that record is the party, or the account of the staff site. The hash of the password is
stored, never the password.
"""

import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from config.event import Value
from config.site import LEDGERS, OPERATIONS
from keys.credentials import ring, user_changes, users
from keys.credentials.users import Users, login_name
from keys.ledger import writer
from keys.operations import key_files, user_files
from keys.operations.change_record import account, record_change
from portal import broker_client

PASSWORD_CHANGE, TERMS, TOTP = "user password", "user terms", "user totp"
_LOCK_TIMEOUT = 5.0  # seconds to wait while an operator's command holds the operations ledger


def set_password(
    site: Path, party: str, name: str, credential: str, password: str, clock: writer.Clock
) -> str:
    """Replace the password with fingerprint `credential`; return the new one's fingerprint.

    Raises ValueError if the user may not do that now, LedgerBusy, Unwritable, Faults and OSError.
    """
    if broker_client.in_use():
        return str(broker_client.ask("set_password", party, name, credential, password))
    now = clock().astimezone(UTC).replace(microsecond=0)
    secret = ring.hash_password(password)
    fresh = ring.chosen_password_credential(
        secret, label="", not_before=now, added_by=login_name(party, name)
    )

    def edit(old: Users) -> Users:
        return user_changes.change_password(old, name, credential, fresh)

    detail: dict[str, Value] = {"credential": fresh.fingerprint, "replaces": credential}
    why = "the user set a password of its own"
    _change(site, party, name, PASSWORD_CHANGE, why, edit, clock, detail)
    return fresh.fingerprint


def accept_terms(site: Path, party: str, name: str, edition: str, clock: writer.Clock) -> None:
    """Note that the user accepted that edition of the terms; raises as `set_password`."""
    if broker_client.in_use():
        broker_client.ask("accept_terms", party, name, edition)
        return
    now = clock().astimezone(UTC).replace(microsecond=0)

    def edit(old: Users) -> Users:
        return user_changes.accept_terms(old, name, now)

    why = "the user accepted the terms at its first login"
    _change(site, party, name, TERMS, why, edit, clock, {"terms": edition})


def set_totp(site: Path, party: str, name: str, secret: str, clock: writer.Clock) -> None:
    """Set or, with an empty secret, remove the second factor; raises as `set_password`."""
    if broker_client.in_use():
        broker_client.ask("set_totp", party, name, secret)
        return

    def edit(old: Users) -> Users:
        return user_changes.set_totp(old, name, secret)

    what = "set up" if secret else "removed"
    _change(site, party, name, TOTP, f"the user {what} its second factor", edit, clock, {})


def _change(
    site: Path,
    party: str,
    name: str,
    command: str,
    why: str,
    edit: Callable[[Users], Users],
    clock: Callable[[], datetime],
    detail: dict[str, Value],
) -> None:
    login = login_name(party, name)
    if not party:
        command = command.replace("user", "operator")
    here = socket.gethostname()
    with (
        writer.Ledger(site / LEDGERS / OPERATIONS, clock, _LOCK_TIMEOUT) as operations,
        record_change(operations, command, party or account(name), here, login, why) as record,
    ):
        old = user_files.load(site, party)
        record.before = users.describe(old)
        new = edit(old)
        user_files.stage(site, new)
        record.done(
            users.describe(new), {**detail, key_files.KEY_FILES: [user_files.line(site, new)]}
        )
        user_files.apply(site, new)
