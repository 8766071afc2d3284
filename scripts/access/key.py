"""`ssps key`: a party's credentials, and the server's own keys."""

import time
from datetime import datetime
from pathlib import Path
from typing import TextIO

import click

from config import load
from config.event import Event, Transfer, Value
from keys import files
from keys.credentials import rotation
from keys.credentials.ring import Credential
from keys.ledger import writer
from scripts.access import credentials, hostkey, plan
from scripts.access.parties import admitted
from scripts.access.rotate import rotate
from scripts.shared import console, when

_ENDED_IN = 1.2  # seconds; the server ends the sessions of a lost credential within one


@click.group()
def key() -> None:
    """Credentials: what lets a party in; and the keys that prove the server."""


for command in (rotate, hostkey.hosts, hostkey.signing):
    key.add_command(command)


@key.command()
@click.argument("party_id", metavar="PARTY")
@click.option(
    "--public-key",
    "public_key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The party's public key: OpenSSH's line, as in id_ed25519.pub, or an SSH2 file.",
)
@click.option("--password", is_flag=True, help="Make a password, and show it this once.")
@click.option(
    "--password-file",
    type=click.File(),
    help="Take the password from the first line of this file; - is standard input.",
)
@click.option("--label", default="", help="What to call it, such as the machine it is for.")
@click.option("--not-before", default="now", help="16.30, 'tomorrow 16.30', +45m, or a full time.")
@click.option("--not-after", help="When it ends of itself; the same forms.")
@click.option(
    "--seal",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the password to this file, encrypted to the party's own keys, and show nothing.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be, and change nothing.")
@console.why()
@console.with_site
def add(
    party_id: str,
    public_key: Path | None,
    password: bool,
    password_file: TextIO | None,
    label: str,
    not_before: str,
    not_after: str | None,
    seal: Path | None,
    dry_run: bool,
    why: str,
    site: Path,
) -> None:
    """Let PARTY in with one credential more. The server need not restart."""
    if (public_key is not None) + password + (password_file is not None) != 1:
        raise click.UsageError("one of --public-key FILE, --password or --password-file FILE")
    if seal is not None and public_key is not None:
        raise click.UsageError("--seal is for a password")
    admitted(site, party_id)
    zone = load.load(site).election.opens.tzinfo
    now = plan.now()
    try:
        begins = when.time(not_before, now, zone)
        ends = when.time(not_after, now, zone) if not_after else None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    made = ""
    if public_key is not None:
        credential = credentials.of_public_key(public_key, label, begins, ends)
    else:
        made = credentials.first_line(password_file) if password_file else ""
        made = made if password_file else credentials.new_password()
        credential = credentials.of_password(made, label, begins, ends)
    change = _adding(party_id, credential, why)
    if dry_run:
        plan.show(*plan.planned(site, change), zone)
        return
    if seal is not None:
        old, _ = plan.planned(site, change)
        files.replace(seal, credentials.sealed(made, old, now), 0o644)
    plan.carry_out(site, change, zone)
    click.echo(f"{party_id}: added {credential.kind} {credential.fingerprint}", err=True)
    begins_at = when.shown(begins, zone)
    if public_key is not None:
        plan.tell(
            party_id,
            f"{credential.fingerprint} anahtariniz {begins_at} itibariyla gecerlidir.",
            f"Your key {credential.fingerprint} is valid from {begins_at} on.",
        )
    elif seal is not None:
        plan.tell(
            party_id,
            f"Parolaniz ekteki dosyadadir: age -d -i ~/.ssh/id_ed25519 {seal.name}",
            f"Your password is in the file: age -d -i ~/.ssh/id_ed25519 {seal.name}",
        )
    elif password:
        click.echo("Its password, shown this once:", err=True)
        click.echo(made)


@key.command()
@click.argument("party_id", metavar="PARTY")
@click.argument("fingerprint", metavar="FINGERPRINT")
@click.option("--dry-run", is_flag=True, help="Show what would be, and change nothing.")
@console.why()
@console.with_site
def revoke(party_id: str, fingerprint: str, dry_run: bool, why: str, site: Path) -> None:
    """Take a credential from PARTY, at once; the sessions that it opened end within a second.

    FINGERPRINT may be the beginning of one, or a label, if that names no other.
    """
    admitted(site, party_id)
    zone = load.load(site).election.opens.tzinfo
    change = plan.Change("key revoke", party_id, why, {}, lambda old: old)
    held, _ = plan.planned(site, change)
    try:
        gone = rotation.named(held, fingerprint)
    except ValueError as error:
        raise console.fault(party_id, "", str(error)) from None
    change = plan.Change(
        "key revoke",
        party_id,
        why,
        _detail(gone),
        lambda old: rotation.revoke(old, gone.fingerprint),
    )
    _, new = plan.planned(site, change)
    if dry_run:
        plan.show(held, new, zone)
        return
    transfers = site / writer.FOLDER / writer.TRANSFER
    first = writer.next_seq(transfers) if transfers.exists() else 0
    if plan.carry_out(site, change, zone):
        _say_ended(transfers, first, party_id)
    if rotation.lapses(new, now := plan.now()) == now:
        click.echo(f"WARNING: nothing lets {party_id} in now: `ssps key add {party_id}`", err=True)
    plan.tell(
        party_id,
        f"{gone.fingerprint} kimlik bilginiz iptal edilmistir, artik giris saglamaz.",
        f"Your credential {gone.fingerprint} is revoked and opens nothing any more.",
    )


def _say_ended(transfers: Path, first: int, party_id: str) -> None:
    time.sleep(_ENDED_IN)
    ended = [r for r in writer.read(transfers, first) if _was_revoked(r.event, party_id)]
    for found in ended:
        click.echo(
            f"ended: session {found.event.detail['session']} from {found.event.origin}, record "
            f"{found.seq} of the transfer ledger",
            err=True,
        )
    if not ended:
        click.echo("no session of it was open", err=True)


def _was_revoked(event: Event, party_id: str) -> bool:
    ended = event.event == Transfer.SESSION_END and event.who == party_id
    return ended and event.detail.get("reason") == "key revoked"


def _adding(party_id: str, credential: Credential, why: str) -> plan.Change:
    return plan.Change(
        "key add", party_id, why, _detail(credential), lambda old: rotation.add(old, credential)
    )


def _detail(credential: Credential) -> dict[str, Value]:
    return {"kind": credential.kind.value, "credential": credential.fingerprint}


def put(site: Path, party_id: str, credential: Credential, why: str) -> None:
    """Add a credential without a word, and record who did it and why."""
    plan.put_in_force(site, _adding(party_id, credential, why))


def credential_of(public_key: Path, label: str, begins: datetime | None = None) -> Credential:
    """Make a credential of a public key file, valid from now on; raise Faults if it will not do."""
    return credentials.of_public_key(public_key, label, begins or plan.now(), None)
