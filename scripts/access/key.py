"""`ssps key`: a party's credentials, and the server's own keys."""

import time
from datetime import datetime
from pathlib import Path
from typing import TextIO

import click

from config import load
from config.event import Event, TransferEvent, Value
from config.site import LEDGERS, TRANSFER
from keys import files
from keys.credentials import rotation
from keys.credentials.ring import Credential
from keys.ledger import segments
from scripts.access import credentials, hostkey, ring_change
from scripts.access.parties import find_with_login
from scripts.access.rotate import rotate
from scripts.shared import console, times

_END_WAIT = 1.2  # seconds; the server ends the sessions of a lost credential within one


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
@console.why_option()
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
    find_with_login(site, party_id)
    zone = load.load(site).election.opens.tzinfo
    now = ring_change.utc_now()
    try:
        begins = times.parse_time(not_before, now, zone)
        ends = times.parse_time(not_after, now, zone) if not_after else None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    made = ""
    if public_key is not None:
        credential = credentials.from_public_key(public_key, label, begins, ends)
    else:
        made = credentials.read_password_file(password_file) if password_file else ""
        made = made if password_file else credentials.new_password()
        credential = credentials.from_password(made, label, begins, ends)
    change = _add_change(party_id, credential, why)
    if dry_run:
        ring_change.print_preview(*ring_change.preview(site, change), zone)
        return
    if seal is not None:
        old, _ = ring_change.preview(site, change)
        files.replace(seal, credentials.seal(made, old, now), 0o644)
    ring_change.apply_and_wait(site, change, zone)
    click.echo(f"{party_id}: added {credential.kind} {credential.fingerprint}", err=True)
    begins_at = times.format_time(begins, zone)
    if public_key is not None:
        ring_change.print_message(
            party_id,
            f"{credential.fingerprint} anahtariniz {begins_at} itibariyla gecerlidir.",
            f"Your key {credential.fingerprint} is valid from {begins_at} on.",
        )
    elif seal is not None:
        ring_change.print_message(
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
@console.why_option()
@console.with_site
def revoke(party_id: str, fingerprint: str, dry_run: bool, why: str, site: Path) -> None:
    """Take a credential from PARTY, at once; the sessions that it opened end within a second.

    FINGERPRINT may be the beginning of one, or a label, if that names no other.
    """
    find_with_login(site, party_id)
    zone = load.load(site).election.opens.tzinfo
    change = ring_change.RingChange("key revoke", party_id, why, {}, lambda old: old)
    held, _ = ring_change.preview(site, change)
    try:
        gone = rotation.find_credential(held, fingerprint)
    except ValueError as error:
        raise console.fault(party_id, "", str(error)) from None
    change = ring_change.RingChange(
        "key revoke",
        party_id,
        why,
        _detail(gone),
        lambda old: rotation.revoke(old, gone.fingerprint),
    )
    _, new = ring_change.preview(site, change)
    if dry_run:
        ring_change.print_preview(held, new, zone)
        return
    transfers = site / LEDGERS / TRANSFER
    first = segments.next_seq(transfers) if transfers.exists() else 0
    if ring_change.apply_and_wait(site, change, zone):
        _print_ended_sessions(transfers, first, party_id)
    if rotation.access_ends(new, now := ring_change.utc_now()) == now:
        click.echo(f"WARNING: nothing lets {party_id} in now: `ssps key add {party_id}`", err=True)
    ring_change.print_message(
        party_id,
        f"{gone.fingerprint} kimlik bilginiz iptal edilmistir, artik giris saglamaz.",
        f"Your credential {gone.fingerprint} is revoked and opens nothing any more.",
    )


def _print_ended_sessions(transfers: Path, first: int, party_id: str) -> None:
    time.sleep(_END_WAIT)
    ended = [r for r in segments.read_records(transfers, first) if _was_revoked(r.event, party_id)]
    for found in ended:
        click.echo(
            f"ended: session {found.event.detail['session']} from {found.event.origin}, record "
            f"{found.seq} of the transfer ledger",
            err=True,
        )
    if not ended:
        click.echo("no session of it was open", err=True)


def _was_revoked(event: Event, party_id: str) -> bool:
    ended = event.event == TransferEvent.SESSION_END and event.who == party_id
    return ended and event.detail.get("reason") == "key revoked"


def _add_change(party_id: str, credential: Credential, why: str) -> ring_change.RingChange:
    return ring_change.RingChange(
        "key add", party_id, why, _detail(credential), lambda old: rotation.add(old, credential)
    )


def _detail(credential: Credential) -> dict[str, Value]:
    return {"kind": credential.kind.value, "credential": credential.fingerprint}


def add_credential(site: Path, party_id: str, credential: Credential, why: str) -> None:
    """Add a credential without a word, and record who did it and why."""
    ring_change.apply(site, _add_change(party_id, credential, why))


def load_public_key(public_key: Path, label: str, begins: datetime | None = None) -> Credential:
    """Make a credential of a public key file, valid from now on; raise Faults if it will not do."""
    return credentials.from_public_key(public_key, label, begins or ring_change.utc_now(), None)
