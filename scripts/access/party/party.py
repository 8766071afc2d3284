"""`ssps party`: the registered parties, what each may see, and how each may log in."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from config import load
from config.party import Party
from keys.operations import ring_files
from scripts.access import credentials, parties
from scripts.access.party import (
    agreement,
    attempts,
    invite,
    letter,
    live_sessions,
    requests,
    witness,
)
from scripts.shared import console


@click.group()
def party() -> None:
    """Manage the registered parties."""


_SESSIONS = (live_sessions.sessions, live_sessions.end_session)
for command in (
    *agreement.COMMANDS,
    attempts.test,
    requests.requests,
    invite.invite,
    letter.letter,
    witness.forget_witness,
    *_SESSIONS,
):
    party.add_command(command)


@party.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@console.with_site
def list_(as_json: bool, site: Path) -> None:
    """List all parties."""
    now = datetime.now(UTC)
    rows = [_row(site, p, now) for p in load.load(site).parties]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    table = Table("id", "name", "kind", "scope", "addresses", "credentials", box=None)
    for row in rows:
        valid = sum(c["valid"] for c in row["credentials"])
        addresses = " ".join(row["static_ips"])
        table.add_row(
            row["id"], row["name"], row["kind"], row["scope"], addresses, f"{valid} valid"
        )
    console.out.print(table)


@party.command()
@click.argument("party_id", metavar="PARTY")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@console.with_site
def show(party_id: str, as_json: bool, site: Path) -> None:
    """Show the settings and credentials of PARTY.

    Keys and passwords themselves are never shown.
    """
    row = _row(site, parties.find(load.load(site), party_id), datetime.now(UTC))
    used = attempts.last_used(site, party_id)
    for c in row["credentials"]:
        c["last_used"] = used.get(c["fingerprint"])
    if as_json:
        click.echo(json.dumps(row, ensure_ascii=False))
        return
    for key in ("id", "name", "kind", "scope"):
        click.echo(f"{key:12}{row[key]}")
    invited = "none yet: it is only invited"
    click.echo(f"{'addresses':12}{' '.join(row['static_ips']) or invited}")
    click.echo(f"{'contact':12}{', '.join(filter(None, row['contact'].values())) or '-'}")
    click.echo(f"{'witness':12}{row['witness'] or '-'}")
    for c in row["credentials"]:
        until = f"until {c['not_after']}" if c["not_after"] else "with no end"
        state = "valid" if c["valid"] else "not valid now"
        last = c["last_used"]
        use = f"last used {last['time']} from {last['from']}" if last else "not used recently"
        click.echo(
            f"{'credential':12}{c['fingerprint']}  {c['kind']}  {c['label'] or '-'}\n"
            f"{'':12}{state}, from {c['not_before']} {until}, added by {c['added_by']}\n"
            f"{'':12}{use}"
        )


def _row(site: Path, p: Party, now: datetime) -> dict[str, Any]:
    held = ring_files.load(site, p.id).credentials
    return {
        "id": p.id,
        "name": p.name,
        "kind": p.kind.value,
        "scope": str(p.scope),
        "static_ips": [str(a) for a in p.static_ips],
        "contact": {
            "name": p.contact.name,
            "email": p.contact.email,
            "phone": p.contact.phone,
        },
        "witness": witness.describe(site, p.id),
        "credentials": [credentials.row(c, now) for c in held],
    }
