"""`ssps party add|suspend|resume|set-ips|set-scope|remove`: change parties.toml on the record.

The command edits the text of parties.toml, so that comments and the order of keys stay. It checks
the new text with the same reader that the daemons use before it replaces the file.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from config import amend, load
from config.event import Value
from config.fault import Faults
from config.party import Party
from config.settings import Settings
from config.site import PARTIES_TOML, ring_file, users_file
from keys import files
from keys.access_requests import form
from keys.credentials.users import login_name
from keys.operations import (
    key_files,
    ring_files,
    server_state,
    settings_record,
    user_files,
)
from keys.operations.change_record import ChangeRecord
from scripts.access import credentials, parties
from scripts.access.key import key
from scripts.access.user import user
from scripts.shared import change, console, server_reload
from scripts.shared.change import Change, Plan

_ID = click.argument("party_id", metavar="PARTY")
_WHY = console.why_option()
_MODE = change.mode_options()
_EDITED = "the file was edited in the meantime: give the command again"


@dataclass(frozen=True)
class Agreements:
    """The text of parties.toml, and the settings that were read from it."""

    text: bytes
    settings: Settings


class PartiesEdit(Change[Agreements]):
    """One change of one party in parties.toml. `edit` raises ValueError if it is not possible.

    `also` is done after the file is replaced. `detail` is added to the record.
    """

    def __init__(
        self,
        site: Path,
        command: str,
        party_id: str,
        why: str,
        edit: Callable[[str], str],
        detail: Mapping[str, Value],
        also: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(command, party_id, why)
        self._site, self._edit, self._detail, self._also = site, edit, detail, also

    def read(self) -> Agreements:
        """Return the file's text and the settings in it."""
        text = (self._site / PARTIES_TOML).read_bytes()
        return Agreements(text, _parse(self._site, text))

    def describe(self, old: Agreements) -> Value:
        """Return the lines about the party."""
        return _describe(old.settings.party(self.what))

    def plan(self, old: Agreements) -> Plan[Agreements] | None:
        """Edit the text; raise Faults if the new one could not be read."""
        try:
            before = old.text.decode()
            after = self._edit(before)
        except ValueError as error:
            raise console.fault(PARTIES_TOML, self.what, str(error)) from None
        if after == before:
            for key, value in self._detail.items():
                shown = " ".join(map(str, value)) if isinstance(value, list) else value
                click.echo(f"no change: {key} of {self.what} is already {shown}", err=True)
            return None
        new = Agreements(after.encode(), _parse(self._site, after.encode()))
        _check_other_files(old.settings, new.settings)
        file = self._site / PARTIES_TOML

        def apply() -> None:
            if file.read_bytes() != old.text:
                raise console.fault(PARTIES_TOML, "", _EDITED)
            files.replace(file, new.text, file.stat().st_mode & 0o777)
            self._also()

        digests: Value = list(settings_record.digest_lines(new.settings.digests))
        detail: dict[str, Value] = {**self._detail, settings_record.SETTINGS: digests}
        return Plan(
            new,
            _diff(before, after),
            lambda: _describe(new.settings.party(self.what)),
            apply,
            detail,
        )

    def record_first(self, record: ChangeRecord, old: Agreements) -> None:
        """Record edits that were made by hand, so that they do not look like this command's."""
        record.manual_edits(old.settings)

    def wait(self, new: Agreements) -> bool:
        """Have the daemons reload, and wait until they use the new settings."""
        party = new.settings.party(self.what)
        wanted = server_state.party_digest(party) if party is not None else None
        server_reload.reload_daemons(self._site)
        return server_reload.wait_for_settings(
            self._site,
            lambda state: state.parties.get(self.what) == wanted,
            f"settings of {self.what}",
        )


def _parse(site: Path, text: bytes) -> Settings:
    settings, faults = load.read(site, text)
    if settings is None:
        raise Faults(faults)
    return settings


def _check_other_files(before: Settings, after: Settings) -> None:
    """Raise Faults if another settings file was edited between the two readings."""
    for was, now in zip(before.digests, after.digests, strict=True):
        if was != now and now[0] != PARTIES_TOML:
            raise console.fault(now[0], "", _EDITED)


def _describe(party: Party | None) -> Value:
    return None if party is None else list(parties.describe(party))


def _diff(before: str, after: str) -> list[str]:
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), PARTIES_TOML, PARTIES_TOML, lineterm="", n=2
    )
    return [f"  {line}" for line in list(lines)[2:]]


def _set_key(
    site: Path,
    command: str,
    party_id: str,
    key: str,
    value: bool | list[str] | str | None,
    why: str,
    mode: change.Mode,
) -> bool:
    """Set one key of a party, or remove it if the value is None; return whether that was done."""
    parties.find(load.load(site), party_id)
    recorded: Value = value if isinstance(value, str | list) else bool(value)

    def edit(text: str) -> str:
        return amend.set_party_key(text, party_id, key, value)

    made = PartiesEdit(site, command, party_id, why, edit, {key: recorded})
    return change.carry_out(site, made, mode) is not None


@click.command()
@click.option(
    "--form",
    "file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The request form, a TOML file: party, services, static_ips, [contact], [[user]].",
)
@click.option("--why", type=console.WHY_TEXT, help="The reason. Default: the form's name.")
@_MODE
@console.with_site
def add(file: Path, why: str | None, mode: change.Mode, site: Path) -> None:
    """Register a party and its users from a request form.

    The form is a TOML file:

    \b
        party = "A Partisi"
        services = ["sftp", "web"]      # what it asks for: sftp, web, service
        static_ips = ["192.0.2.7"]      # one or two
        [contact]
        name = "Bilgi Islem"
        email = "bilgi@parti-a.example"
        phones = ["+90 312 000 00 00"]
        [[user]]                        # up to ten users of the web site
        name = "ayse"
        contact = true                  # one of them

    Before [contact] it may also have id, kind (party, candidate, independent) and scope.
    A public key for SFTP is a table [[key]] with public_key and, optionally, label. A form
    that a representative sent (`ssps party requests show PARTY --form`) is such a file.

    The initial password of each user is printed once. Over SFTP the party can
    log in once it has a credential: see `ssps key add`.
    """  # noqa: D301
    asked = form.read(file)
    for left in (ring_file(asked.id), users_file(asked.id)):
        if (site / left).exists():
            message = f"left over from an earlier {asked.id}: remove it, or choose another id"
            raise console.fault(str(left), "", message)
    click.echo(f"{asked.id}: services {', '.join(asked.services)}", err=True)
    detail: dict[str, Value] = {"form": file.name, "services": list(asked.services)}
    detail["static_ips"] = list(asked.party["static_ips"])
    why = why or f"form {file.name}"

    def edit(text: str) -> str:
        return amend.add_party(text, asked.party)

    made = PartiesEdit(site, "party add", asked.id, why, edit, detail)
    done = change.carry_out(site, made, mode) is not None
    for name, role in asked.users:
        click.echo(f"  + {login_name(asked.id, name)}  {role}", err=True)
        if done:
            password = credentials.new_password()
            line = f"{login_name(asked.id, name)} {password}"
            user.add_user(
                site, asked.id, name, role, password, why, change.Mode(), partial(click.echo, line)
            )
    for asked_key in asked.keys:
        credential = credentials.from_asked_key(asked_key)
        click.echo(f"  + {credential.fingerprint}  {credential.label or '-'}", err=True)
        if done:
            key.add_credential(site, asked.id, credential, why)
    if done:
        console.print_message_for(
            asked.id,
            "Kaydiniz yapildi. SFTP icin acik anahtarinizi (.pub) gonderin; diger SSPS "
            "hizmetlerinin parolalari burada gecmez.",
            "You are registered. Send your public key (.pub) for SFTP; passwords of the other "
            "SSPS services do not work here.",
        )
        if not asked.keys:
            click.echo(f"next: ssps key add {asked.id} --public-key FILE --why …", err=True)


@click.command()
@_ID
@_MODE
@_WHY
@console.with_site
def suspend(party_id: str, mode: change.Mode, why: str, site: Path) -> None:
    """Suspend PARTY: end its sessions and refuse its logins.

    Its sessions end within a second. Its folder stays.
    """
    if _set_key(site, "party suspend", party_id, "suspended", True, why, mode):
        console.print_message_for(
            party_id,
            "Erisiminiz gecici olarak durdurulmustur.",
            "Your access is suspended for the time being.",
        )


@click.command()
@_ID
@_MODE
@_WHY
@console.with_site
def resume(party_id: str, mode: change.Mode, why: str, site: Path) -> None:
    """Let a suspended PARTY log in again."""
    if _set_key(site, "party resume", party_id, "suspended", None, why, mode):
        console.print_message_for(
            party_id, "Erisiminiz yeniden acilmistir.", "Your access is open again."
        )


@click.command("set-ips")
@_ID
@click.argument("addresses", metavar="ADDRESS...", nargs=-1, required=True)
@_MODE
@_WHY
@console.with_site
def set_ips(
    party_id: str, addresses: tuple[str, ...], mode: change.Mode, why: str, site: Path
) -> None:
    """Replace the registered addresses of PARTY.

    Give one or two addresses, each an ADDRESS of IPv4 or IPv6. Sessions from an
    address that is no longer registered end within a second.
    """
    if _set_key(site, "party set-ips", party_id, "static_ips", list(addresses), why, mode):
        listed = ", ".join(addresses)
        console.print_message_for(
            party_id,
            f"Kayitli adresiniz artik: {listed}. Baska adresten baglanti kurulamaz.",
            f"Your registered addresses are now: {listed}. Connections from others are refused.",
        )


@click.command("set-scope")
@_ID
@click.argument("places", metavar="all|PLACE...", nargs=-1, required=True)
@_MODE
@_WHY
@console.with_site
def set_scope(
    party_id: str, places: tuple[str, ...], mode: change.Mode, why: str, site: Path
) -> None:
    """Replace the scope of PARTY: what it may see.

    A PLACE is a district (35-izmir-2) or a district and board
    (35-izmir-2/konak-1). The publisher adds to the party's folder what it may
    now see, and removes the rest.
    """
    value: str | list[str] = "all" if places == ("all",) else list(places)
    if _set_key(site, "party set-scope", party_id, "scope", value, why, mode):
        listed = " ".join(places)
        console.print_message_for(
            party_id, f"Gorebileceginiz kapsam: {listed}.", f"You may now see: {listed}."
        )


@click.command()
@_ID
@_MODE
@_WHY
@console.with_site
def remove(party_id: str, mode: change.Mode, why: str, site: Path) -> None:
    """Remove PARTY and its credentials.

    Its sessions end within a second. Its folder in trees/ stays, and so do its
    records in the ledgers.
    """
    parties.find(load.load(site), party_id)
    held = [c.fingerprint for c in ring_files.load(site, party_id).credentials]
    removed = [ring_files.removal(party_id)]
    if (site / users_file(party_id)).exists():
        removed.append(user_files.removal(party_id))

    def edit(text: str) -> str:
        return amend.remove_party(text, party_id)

    def remove_credentials() -> None:
        ring_files.remove(site, party_id)
        user_files.remove(site, party_id)

    detail: dict[str, Value] = {
        "credentials": held,
        key_files.KEY_FILES: removed,
    }
    made = PartiesEdit(site, "party remove", party_id, why, edit, detail, remove_credentials)
    if change.carry_out(site, made, mode) is not None:
        console.print_message_for(
            party_id, "Kaydiniz silinmistir.", "You are no longer registered."
        )


COMMANDS = (add, suspend, resume, set_ips, set_scope, remove)
