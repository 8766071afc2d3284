"""`ssps key`: a party's credentials, and the server's own keys."""

import json
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TextIO

import click

from config import load, times
from config.event import Event, TransferEvent, Value
from config.site import LEDGERS, TRANSFER, ledger_host, ledger_kind
from keys import files
from keys.credentials import rotation
from keys.credentials.ring import Credential, Ring
from keys.ledger import merged, segments
from keys.operations import ring_files
from scripts.access import credentials, parties
from scripts.access.key import hostkey
from scripts.access.key.adopt import adopt
from scripts.access.key.ring_change import Edit, RingChange
from scripts.access.key.rotate import rotate
from scripts.shared import change, console
from scripts.shared.time_types import TIME, StatedTime

_END_WAIT = 1.2  # seconds; the server ends the sessions of a revoked credential within one


@click.group()
def key() -> None:
    """Manage the parties' credentials and the server's keys."""


for command in (rotate, adopt, hostkey.hosts, hostkey.signing):
    key.add_command(command)


@key.command("list")
@click.argument("party_id", metavar="PARTY", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@console.with_site
def list_(party_id: str | None, as_json: bool, site: Path) -> None:
    """List the credentials of all parties, or of PARTY.

    Keys and passwords themselves are never shown. For example:

    \b
        ssps key list
        ssps key list parti-a --json
    """  # noqa: D301
    settings = load.load(site)
    zone, now = settings.election.opens.tzinfo, console.utc_now()
    listed = [parties.find(settings, party_id)] if party_id else settings.parties
    held = [(p.id, c) for p in listed for c in ring_files.load(site, p.id).credentials]
    if as_json:
        rows = [{"party": party, **credentials.row(c, now)} for party, c in held]
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    for party, c in held:
        state = "valid" if c.valid_at(now) else "not valid now"
        click.echo(
            f"{party:16} {c.fingerprint}  {c.kind:10}  {c.label or '-':16}  "
            f"{times.format_time(c.not_before, zone)} .. {times.format_time(c.not_after, zone)}  "
            f"{state}"
        )


@key.command()
@click.argument("party_id", metavar="PARTY")
@click.option(
    "--public-key",
    "public_key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The party's public key: an OpenSSH line (id_ed25519.pub) or an SSH2 file.",
)
@click.option("--password", is_flag=True, help="Generate a password and show it once.")
@click.option(
    "--password-file",
    type=click.File(),
    help="Read the password from the first line of this file; - is standard input.",
)
@click.option("--label", default="", help="A name for it, such as the machine it is for.")
@credentials.start_option
@click.option(
    "--not-after",
    type=TIME,
    help="When it stops working, as for --not-before. Default: never.",
)
@click.option(
    "--seal",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Do not show the password: write it here, encrypted to the party's own keys (age).",
)
@change.mode_options()
@console.why_option()
@console.with_site
def add(
    party_id: str,
    public_key: Path | None,
    password: bool,
    password_file: TextIO | None,
    label: str,
    not_before: StatedTime,
    not_after: StatedTime | None,
    seal: Path | None,
    mode: change.Mode,
    why: str,
    site: Path,
) -> None:
    """Add a credential for PARTY: a public key or a password.

    A running server accepts it at once.
    """
    if (public_key is not None) + password + (password_file is not None) != 1:
        raise click.UsageError(
            "give exactly one of --public-key FILE, --password and --password-file FILE"
        )
    if seal is not None and public_key is not None:
        raise click.UsageError(
            "--seal needs --password or --password-file: a public key is not secret"
        )
    settings = load.load(site)
    parties.find_with_login(settings, party_id)
    zone = settings.election.opens.tzinfo
    now = console.utc_now()
    begins = not_before.at(now, zone)
    ends = not_after.at(now, zone) if not_after else None
    text = ""
    if public_key is not None:
        credential = credentials.from_public_key(public_key, label, begins, ends)
    else:
        text = credentials.first_line(password_file) if password_file else ""
        text = text if password_file else credentials.new_password()
        credential = credentials.from_password(text, label, begins, ends)

    def edit(old: Ring) -> Edit:
        new = rotation.add(old, credential)
        if seal is None:
            return Edit(new, _detail(credential))
        sealed = credentials.seal(text, old, now)
        return Edit(new, _detail(credential), lambda: files.replace(seal, sealed, 0o644))

    def print_password() -> None:
        if password and seal is None:
            click.echo("The password, shown only this once:", err=True)
            click.echo(text)

    added = RingChange(site, "key add", party_id, why, zone, edit)
    if change.carry_out(site, added, mode, print_password) is None:
        return
    click.echo(f"{party_id}: added {credential.kind} {credential.fingerprint}", err=True)
    if public_key is not None:
        begins_at = times.format_time(begins, zone)
        console.print_message_for(
            party_id,
            f"{credential.fingerprint} anahtariniz {begins_at} itibariyla gecerlidir.",
            f"Your key {credential.fingerprint} is valid from {begins_at}.",
        )
    elif seal is not None:
        console.print_message_for(
            party_id,
            f"Parolaniz ekteki dosyadadir: age -d -i ~/.ssh/id_ed25519 {seal.name}",
            f"Your password is in the attached file: age -d -i ~/.ssh/id_ed25519 {seal.name}",
        )


@key.command()
@click.argument("party_id", metavar="PARTY")
@click.argument("fingerprint", metavar="FINGERPRINT")
@change.mode_options()
@console.why_option()
@console.with_site
def revoke(party_id: str, fingerprint: str, mode: change.Mode, why: str, site: Path) -> None:
    """Revoke a credential of PARTY and end its sessions.

    The sessions that it opened end within a second. FINGERPRINT may be the
    beginning of a fingerprint, or a label, if only one credential matches.
    """
    settings = load.load(site)
    parties.find_with_login(settings, party_id)
    zone = settings.election.opens.tzinfo
    revoked: list[Credential] = []

    def edit(old: Ring) -> Edit:
        found = rotation.find_credential(old, fingerprint)
        revoked[:] = [found]
        return Edit(rotation.revoke(old, found.fingerprint), _detail(found))

    folders = merged.folders_of_kind(site / LEDGERS, TRANSFER)
    ends = {folder: segments.next_seq(folder) if folder.exists() else 0 for folder in folders}
    revocation = RingChange(site, "key revoke", party_id, why, zone, edit)
    done = change.carry_out(site, revocation, mode)
    if done is None:
        return
    if done.in_force:
        _print_ended_sessions(ends, party_id)
    if rotation.access_ends(done.new, now := console.utc_now()) == now:
        click.echo(
            f"WARNING: {party_id} has no valid credential now and cannot log in: "
            f"`ssps key add {party_id}`",
            err=True,
        )
    console.print_message_for(
        party_id,
        f"{revoked[0].fingerprint} kimlik bilginiz iptal edilmistir, artik giris saglamaz.",
        f"Your credential {revoked[0].fingerprint} is revoked and no longer works.",
    )


def _print_ended_sessions(ends: Mapping[Path, int], party_id: str) -> None:
    """Name the sessions that ended after the records that the ledgers had before."""
    time.sleep(_END_WAIT)
    ended = [
        (folder, record)
        for folder, first in ends.items()
        for record in segments.read_records(folder, first)
        if _was_revoked(record.event, party_id)
    ]
    for folder, found in ended:
        where = f"the {ledger_kind(folder.name)} ledger"
        if host := ledger_host(folder.name):
            where += f" of {host}"
        click.echo(
            f"ended: session {found.event.detail['session']} from {found.event.origin}, record "
            f"{found.seq} of {where}",
            err=True,
        )
    if not ended:
        click.echo("no session used it", err=True)


def _was_revoked(event: Event, party_id: str) -> bool:
    ended = event.event == TransferEvent.SESSION_END and event.who == party_id
    return ended and event.detail.get("reason") == "key revoked"


def _detail(credential: Credential) -> Mapping[str, Value]:
    return {"kind": credential.kind.value, "credential": credential.fingerprint}


def add_credential(site: Path, party_id: str, credential: Credential, why: str) -> None:
    """Add a credential on the record, without printing anything or waiting for the server."""

    def edit(old: Ring) -> Edit:
        return Edit(rotation.add(old, credential), _detail(credential))

    change.apply(site, RingChange(site, "key add", party_id, why, None, edit), quiet=True)


def load_public_key(public_key: Path, label: str, begins: datetime | None = None) -> Credential:
    """Make a credential of a public key file, valid from now on or from `begins`."""
    return credentials.from_public_key(public_key, label, begins or console.utc_now(), None)
