"""`ssps key`: a party's credentials."""

import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import click

from keys import ring, rotation
from keys.ring import Credential
from scripts import console
from scripts.party import known

# No letters or digits that look alike on paper or sound alike on the telephone.
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
_GROUPS, _GROUP = 5, 5


@click.group()
def key() -> None:
    """Credentials: what lets a party in."""


@key.command()
@click.argument("party_id", metavar="PARTY")
@click.option(
    "--public-key",
    "public_key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The party's OpenSSH public key: one line, as in id_ed25519.pub.",
)
@click.option("--password", is_flag=True, help="Make a password, and show it this once.")
@click.option(
    "--password-file",
    type=click.File(),
    help="Take the password from the first line of this file; - is standard input.",
)
@click.option("--label", default="", help="What to call it, such as the machine it is for.")
@click.option("--why", default="", help="For the record.")
@console.with_site
def add(
    party_id: str,
    public_key: Path | None,
    password: bool,
    password_file: TextIO | None,
    label: str,
    why: str,
    site: Path,
) -> None:
    """Let PARTY in with one credential more, valid from now on. The server need not restart."""
    if (public_key is not None) + password + (password_file is not None) != 1:
        raise click.UsageError("one of --public-key FILE, --password or --password-file FILE")
    known(site, party_id)
    made: str | None = None
    if public_key is not None:
        credential = credential_of(public_key, label)
    else:
        made = _first_line(password_file) if password_file else new_password()
        if len(made) < _GROUP * 2:
            raise click.UsageError(f"a password of at least {_GROUP * 2} characters")
        credential = ring.password(
            made, label=label, not_before=_now(), not_after=None, added_by=console.operator()
        )
    put(site, party_id, credential, why)
    click.echo(f"{party_id}: added {credential.kind} {credential.fingerprint}", err=True)
    if password and made is not None:
        click.echo("Its password, shown this once:", err=True)
        click.echo(made)


def credential_of(public_key: Path, label: str) -> Credential:
    """Make a credential of a public key file, valid from now on; raise Faults if it will not do."""
    try:
        return ring.public_key(
            public_key.read_text(encoding="utf-8"),
            label=label,
            not_before=_now(),
            not_after=None,
            added_by=console.operator(),
        )
    except (OSError, ValueError) as error:
        raise console.fault(str(public_key), "", str(error)) from None


def put(site: Path, party_id: str, credential: Credential, why: str) -> None:
    """Add the credential to the party's ring, and record who did it and why."""
    detail = {"kind": credential.kind.value, "credential": credential.fingerprint, "why": why}
    with console.operating(site) as record:
        try:
            new = rotation.add(ring.load(site, party_id), credential)
        except ValueError as error:
            raise console.fault(str(ring.FOLDER / f"{party_id}.toml"), "", str(error)) from None
        record("key add", party_id, detail)
        rotation.apply(site, new)


def new_password() -> str:
    """Make a password of five groups of five: 123 bits, easy to read out."""
    return "-".join(
        "".join(secrets.choice(_LETTERS) for _ in range(_GROUP)) for _ in range(_GROUPS)
    )


def _first_line(file: TextIO) -> str:
    try:
        return file.readline().rstrip("\r\n")
    except UnicodeDecodeError:
        raise click.UsageError("the password file is not UTF-8 text") from None


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
