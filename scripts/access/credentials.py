"""Credentials out of what an operator has in hand: a public key file, or a password."""

import secrets
from datetime import datetime
from pathlib import Path
from typing import TextIO

import click

from keys.credentials import ring
from keys.credentials.ring import Credential, CredentialKind, Ring
from scripts.shared import console

# No letters or digits that look alike on paper or sound alike on the telephone.
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
_GROUPS, _GROUP = 5, 5
MIN_PASSWORD = 10


def from_public_key(
    file: Path, label: str, not_before: datetime, not_after: datetime | None
) -> Credential:
    """Make a credential of a public key file; raise Faults if it will not do."""
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


def from_password(
    text: str, label: str, not_before: datetime, not_after: datetime | None
) -> Credential:
    """Make a credential of a password that an operator made or was given."""
    if len(text) < MIN_PASSWORD:
        raise click.UsageError(f"a password of at least {MIN_PASSWORD} characters")
    by = console.operator()
    return ring.password_credential(
        text, label=label, not_before=not_before, not_after=not_after, added_by=by
    )


def new_password() -> str:
    """Make a password of five groups of five: 123 bits, easy to read out."""
    return "-".join(
        "".join(secrets.choice(_LETTERS) for _ in range(_GROUP)) for _ in range(_GROUPS)
    )


def read_password_file(file: TextIO) -> str:
    """Return a file's first line, which is the password."""
    try:
        return file.readline().rstrip("\r\n")
    except UnicodeDecodeError:
        raise click.UsageError("the password file is not UTF-8 text") from None


def seal(text: str, held: Ring, now: datetime) -> bytes:
    """Encrypt a password to the party's own public keys, so that `age -d -i KEY` alone opens it.

    age takes ed25519 and RSA keys of OpenSSH. Raises Faults where the party has none, or pyrage
    is not installed.
    """
    try:
        from pyrage import encrypt, ssh
    except ImportError:
        message = "needs pyrage: `pip install ssps[seal]`, or leave it out and read it out"
        raise console.fault("--seal", "", message) from None
    recipients = [
        ssh.Recipient.from_str(c.secret)
        for c in held.credentials
        if c.kind is CredentialKind.PUBLIC_KEY
        and c.valid_at(now)
        and c.secret.startswith(("ssh-ed25519 ", "ssh-rsa "))
    ]
    if not recipients:
        message = "no ed25519 or RSA key of the party is valid now, add one first"
        raise console.fault("--seal", held.party, message)
    return bytes(encrypt(text.encode() + b"\n", recipients, armored=True))
