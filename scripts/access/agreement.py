"""`ssps party add|suspend|resume|set-ips|set-scope|remove`: what is agreed, changed on the record.

A change is shown, checked by the daemons' own reader, recorded, written whole, and then looked
for in the running server's word. Comments and order of parties.toml stay as they are.
"""

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from config import amend, load
from config.event import Value
from config.fault import Faults
from config.settings import Settings
from config.site import PARTIES_TOML, ring_file
from keys import files
from keys.credentials import ring
from keys.operations import server_state, settings_record
from scripts.access import form, parties, ring_change
from scripts.shared import console, server_reload

_ID = click.argument("party_id", metavar="PARTY")
_WHY = console.why_option()
_EDITED = "somebody has edited it meanwhile: give the command again"
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Show what would be, and change nothing.")


@click.command()
@click.option(
    "--form",
    "file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The request form: party, services, static_ips, [contact].",
)
@click.option("--why", type=console.WHY_TEXT, help="For the record; the form's name if not given.")
@_DRY_RUN
@console.with_site
def add(file: Path, why: str | None, dry_run: bool, site: Path) -> None:
    """Take a party in as its request form says. It logs in once it has a credential."""
    asked = form.read(file)
    if ring.ring_path(site, asked.id).exists():
        message = f"is left of an earlier {asked.id}: see to it that it is gone, or name another id"
        raise console.fault(str(ring_file(asked.id)), "", message)
    click.echo(f"{asked.id}: services {', '.join(asked.services)}", err=True)
    detail: dict[str, Value] = {"form": file.name, "services": list(asked.services)}
    detail["static_ips"] = list(asked.party["static_ips"])
    stated = why or f"form {file.name}"
    if _change(site, "party add", asked.id, stated, detail, _add_edit(asked), dry_run):
        ring_change.print_message(
            asked.id,
            "Kaydiniz yapildi. SFTP icin acik anahtarinizi (.pub) gonderin; diger SSPS "
            "hizmetlerinin parolalari burada gecmez.",
            "You are registered. Send your public key (.pub) for SFTP; passwords of the other "
            "SSPS services do not work here.",
        )
        click.echo(f"next: ssps key add {asked.id} --public-key FILE --why …", err=True)


def _add_edit(asked: form.Form) -> Callable[[str], str]:
    return lambda text: amend.add_party(text, asked.party)


@click.command()
@_ID
@_WHY
@_DRY_RUN
@console.with_site
def suspend(party_id: str, why: str, dry_run: bool, site: Path) -> None:
    """Shut PARTY out for now; its sessions end within a second, its tree stays."""
    if _set_key(site, "party suspend", party_id, "suspended", True, why, dry_run):
        ring_change.print_message(
            party_id,
            "Erisiminiz gecici olarak durdurulmustur.",
            "Your access is suspended for the time being.",
        )


@click.command()
@_ID
@_WHY
@_DRY_RUN
@console.with_site
def resume(party_id: str, why: str, dry_run: bool, site: Path) -> None:
    """Let PARTY in again."""
    if _set_key(site, "party resume", party_id, "suspended", None, why, dry_run):
        ring_change.print_message(
            party_id, "Erisiminiz yeniden acilmistir.", "Your access is open again."
        )


@click.command("set-ips")
@_ID
@click.argument("addresses", metavar="ADDRESS...", nargs=-1, required=True)
@_WHY
@_DRY_RUN
@console.with_site
def set_ips(party_id: str, addresses: tuple[str, ...], why: str, dry_run: bool, site: Path) -> None:
    """Register one or two addresses of PARTY in place of those before.

    Sessions from an address that is withdrawn end within a second.
    """
    if _set_key(site, "party set-ips", party_id, "static_ips", list(addresses), why, dry_run):
        listed = ", ".join(addresses)
        ring_change.print_message(
            party_id,
            f"Kayitli adresiniz artik: {listed}. Baska adresten baglanti kurulamaz.",
            f"Your registered addresses are now: {listed}. No others are answered.",
        )


@click.command("set-scope")
@_ID
@click.argument("places", metavar="all|PLACE...", nargs=-1, required=True)
@_WHY
@_DRY_RUN
@console.with_site
def set_scope(party_id: str, places: tuple[str, ...], why: str, dry_run: bool, site: Path) -> None:
    """Say what PARTY may see: all, or districts and boards, as in 35-izmir-2/konak-1.

    The publisher adds to the party's tree, or takes away, what that makes different.
    """
    value: str | list[str] = "all" if places == ("all",) else list(places)
    if _set_key(site, "party set-scope", party_id, "scope", value, why, dry_run):
        listed = " ".join(places)
        ring_change.print_message(
            party_id, f"Gorebileceginiz kapsam: {listed}.", f"What you may see is now: {listed}."
        )


@click.command()
@_ID
@_WHY
@_DRY_RUN
@console.with_site
def remove(party_id: str, why: str, dry_run: bool, site: Path) -> None:
    """Take PARTY out, and its credentials with it; its sessions end within a second.

    What was filed for it stays in trees/, and the ledgers keep what it did.
    """
    parties.find(site, party_id)
    held = [c.fingerprint for c in ring.load(site, party_id).credentials]
    detail: dict[str, Value] = {"credentials": held}

    def without(text: str) -> str:
        return amend.remove_party(text, party_id)

    def credentials_too() -> None:
        ring.ring_path(site, party_id).unlink(missing_ok=True)

    if _change(site, "party remove", party_id, why, detail, without, dry_run, credentials_too):
        ring_change.print_message(
            party_id, "Kaydiniz silinmistir.", "You are no longer registered."
        )


COMMANDS = (add, suspend, resume, set_ips, set_scope, remove)


def _set_key(
    site: Path,
    command: str,
    party_id: str,
    key: str,
    value: bool | list[str] | str | None,
    why: str,
    dry_run: bool,
) -> bool:
    parties.find(site, party_id)
    stated = value if not isinstance(value, bool) and value is not None else bool(value)

    def edit(text: str) -> str:
        return amend.set_party_key(text, party_id, key, value)

    return _change(site, command, party_id, why, {key: stated}, edit, dry_run)


def _change(
    site: Path,
    command: str,
    party_id: str,
    why: str,
    detail: Mapping[str, Value],
    edit: Callable[[str], str],
    dry_run: bool,
    also: Callable[[], None] = lambda: None,
) -> bool:
    """Carry out one change of parties.toml, and `also` what goes with it; say whether it was."""
    file = site / PARTIES_TOML
    if dry_run:
        if _preview(site, file.read_bytes(), party_id, edit) is not None:
            click.echo("nothing has changed", err=True)
        return False
    with console.recorded_change(site, command, party_id, why) as record:
        before = file.read_bytes()
        found = _parse(site, before)
        record.before = _describe(found, party_id)
        edited = _preview(site, before, party_id, edit)
        if edited is None:
            return False
        after, settings = edited
        _only_parties_differ(found, settings)
        record.manual_edits(found)
        told = {**detail, settings_record.SETTINGS: settings_record.digest_lines(settings.digests)}
        record.done(_describe(settings, party_id), told)
        if file.read_bytes() != before:
            raise console.fault(PARTIES_TOML, "", _EDITED)
        files.replace(file, after, file.stat().st_mode & 0o777)
        also()
    _wait_for_server(site, settings, party_id)
    return True


def _preview(
    site: Path, before: bytes, party_id: str, edit: Callable[[str], str]
) -> tuple[bytes, Settings] | None:
    """Show a change of parties.toml; return it, and the settings with it. None if there is none."""
    try:
        text = before.decode()
        changed = edit(text)
    except ValueError as error:
        raise console.fault(PARTIES_TOML, party_id, str(error)) from None
    if changed == text:
        click.echo(f"{party_id}: that is how it stands already", err=True)
        return None
    settings = _parse(site, changed.encode())
    _print_diff(text, changed)
    return changed.encode(), settings


def _only_parties_differ(before: Settings, after: Settings) -> None:
    """Raise Faults if the other files were edited between two readings: that is no part of this."""
    for was, now in zip(before.digests, after.digests, strict=True):
        if was != now and now[0] != PARTIES_TOML:
            raise console.fault(now[0], "", _EDITED)


def _describe(settings: Settings, party_id: str) -> list[str] | None:
    party = settings.party(party_id)
    return None if party is None else parties.describe(party)


def _parse(site: Path, listed: bytes) -> Settings:
    settings, faults = load.read(site, listed)
    if settings is None:
        raise Faults(faults)
    return settings


def _print_diff(before: str, after: str) -> None:
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), PARTIES_TOML, PARTIES_TOML, lineterm="", n=2
    )
    for line in list(lines)[2:]:
        click.echo(f"  {line}", err=True)


def _wait_for_server(site: Path, settings: Settings, party_id: str) -> None:
    party = settings.party(party_id)
    wanted = server_state.party_digest(party) if party is not None else None
    server_reload.reload_daemons(site)
    server_reload.wait_until_in_force(
        site, lambda word: word.parties.get(party_id) == wanted, f"the change of {party_id}"
    )
