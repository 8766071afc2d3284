"""Makes credentials from what an operator has: a public key file or a password."""

import secrets
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import click

from config import times
from keys.access_requests.form import AskedKey
from keys.credentials import ring
from keys.credentials.passwords import MIN_LENGTH
from keys.credentials.ring import Credential, CredentialKind, Ring
from scripts.shared import console
from scripts.shared.time_types import TIME

# No letters or digits that look alike on paper or sound alike on the telephone.
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
_GROUPS, _GROUP = 5, 5
start_option = click.option(
    "--not-before",
    default="now",
    show_default=True,
    type=TIME,
    help="When it starts to work: 16.30, 'tomorrow 16.30', +45m, or a full time.",
)


def from_public_key(
    file: Path, label: str, not_before: datetime, not_after: datetime | None
) -> Credential:
    """Make a credential from a public key file; raise Faults if the key cannot be used."""
    try:
        return ring.key_credential(
            file.read_text(encoding="utf-8"),
            label=label,
            not_before=not_before,
            not_after=not_after,
            added_by=console.operator(),
        )
    except (OSError, ValueError) as error:
        raise console.fault(str(file), "", str(error)) from None


def from_asked_key(asked: AskedKey) -> Credential:
    """Make a credential, valid from now on, from a public key of a party's form."""
    return ring.key_credential(
        asked.line,
        label=asked.label,
        not_before=console.utc_now(),
        not_after=None,
        added_by=console.operator(),
    )


def from_password(
    text: str, label: str, not_before: datetime, not_after: datetime | None
) -> Credential:
    """Make a credential from a password; raise UsageError if it is too short."""
    if len(text) < MIN_LENGTH:
        raise click.UsageError(f"the password is too short: {MIN_LENGTH} characters at least")
    by = console.operator()
    return ring.password_credential(
        text, label=label, not_before=not_before, not_after=not_after, added_by=by
    )


def new_password() -> str:
    """Return a random password of five groups of five characters: 123 bits, easy to dictate."""
    return "-".join(
        "".join(secrets.choice(_LETTERS) for _ in range(_GROUP)) for _ in range(_GROUPS)
    )


def first_line(file: TextIO) -> str:
    """Return the first line of a password file, without its line end."""
    try:
        return file.readline().rstrip("\r\n")
    except UnicodeDecodeError:
        raise click.UsageError("the password file is not UTF-8 text") from None


def seal(text: str, held: Ring, now: datetime) -> bytes:
    """Encrypt a password to the party's own public keys; `age -d -i KEY` decrypts it.

    age accepts ed25519 and RSA keys of OpenSSH. Raises Faults if the party has no such key that
    is valid now, or if pyrage is not installed.
    """
    try:
        from pyrage import encrypt, ssh
    except ImportError:
        message = (
            "pyrage is not installed: `pip install ssps[seal]`, or give the password without --seal"
        )
        raise console.fault("--seal", "", message) from None
    recipients = [
        ssh.Recipient.from_str(c.secret)
        for c in held.credentials
        if c.kind is CredentialKind.PUBLIC_KEY
        and c.valid_at(now)
        and c.secret.startswith(("ssh-ed25519 ", "ssh-rsa "))
    ]
    if not recipients:
        message = "the party has no valid ed25519 or RSA key to encrypt to: add one first"
        raise console.fault("--seal", held.party, message)
    return bytes(encrypt(text.encode() + b"\n", recipients, armored=True))


def row(credential: Credential, now: datetime) -> dict[str, Any]:
    """Return what `--json` prints of a credential; never a key or a password itself."""
    return {
        "kind": credential.kind.value,
        "label": credential.label,
        "fingerprint": credential.fingerprint,
        "not_before": times.format_time(credential.not_before),
        "not_after": times.format_optional(credential.not_after),
        "valid": credential.valid_at(now),
        "added_by": credential.added_by,
    }
