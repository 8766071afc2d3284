"""`ssps key host` and `ssps key signing`: replace the server's own keys.

A key is replaced in two steps, so that no client is surprised: `next` creates the new key and
announces it to the parties; `rotate` puts it into service once they know it. `withdraw` cancels a
key that was announced and is not in service yet.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import click

from config import load
from config.event import Value
from config.site import HOST_KEYS, SIGNING_KEYS
from keys.operations import key_files
from keys.server_keys import host, sshsig
from scripts.shared import change, console, server_reload
from scripts.shared.change import Change, Plan

_WHY = console.why_option()
_MODE = change.mode_options(ask=True)
_Keys = list[str]  # a line for each key: "serving SHA256:… ssh_host_ed25519_key", or "next …"


@click.group("host")
def hosts() -> None:
    """Manage the host keys, which prove the server to the parties."""


@click.group()
def signing() -> None:
    """Manage the signing key, which signs feeds, sums and ledgers."""


@hosts.command("show")
@click.option("--host", "name", help="The name or address that the parties connect to.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="The port that the parties connect to. Default: the port in site.toml.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@console.with_site
def show_hosts(name: str | None, port: int | None, as_json: bool, site: Path) -> None:
    """Print fingerprints, known_hosts lines and SSHFP records."""
    settings = load.load(site)
    stated, its_port = settings.sftp.public_address or (settings.sftp.host, settings.sftp.port)
    name, port = name or stated, port or its_port
    if as_json:
        rows = [_key_row(line, coming=coming) for coming in (False, True)
                for line in host.public_host_keys(site, next_keys=coming)]  # fmt: skip
        click.echo(json.dumps([{"host": name, "port": port, **row} for row in rows]))
        return
    _print_hosts(site, name, port)


def _key_row(line: host.PublicKey, *, coming: bool) -> dict[str, str | bool]:
    return {
        "type": line.kind,
        "key": line.blob,
        "fingerprint": line.fingerprint,
        "next": coming,
    }


def _print_hosts(site: Path, name: str, port: int) -> None:
    for coming in (False, True):
        lines = host.public_host_keys(site, next_keys=coming)
        if not lines:
            continue
        click.echo("next, announced:" if coming else "in service:")
        for line in lines:
            click.echo(f"  {line.kind:12} {line.fingerprint}")
        click.echo(host.known_hosts(site, name, port, next_keys=coming), nl=False)
        for line in lines if not _is_address(name) else ():
            click.echo(line.sshfp(name))


def _is_address(name: str) -> bool:
    with suppress(ValueError):
        ip_address(name)
        return True
    return False


@hosts.command("next")
@_MODE
@_WHY
@console.with_site
def next_host(mode: change.Mode, why: str, site: Path) -> None:
    """Create the next host keys and announce them to the parties.

    Every client that logs in is told the new keys (hostkeys-00@openssh.com).
    """
    if change.carry_out(site, _Next(site, HOST_KEYS, why), mode) is None:
        return
    settings = load.load(site)
    _print_hosts(site, settings.sftp.host, settings.sftp.port)
    new = ", ".join(line.fingerprint for line in host.public_host_keys(site, next_keys=True))
    console.print_message_for(
        "all of them",
        f"Sunucunun sonraki anahtari: {new}. known_hosts dosyaniza ekleyin.",
        f"The server's next key: {new}. Add it to your known_hosts.",
    )


@hosts.command("rotate")
@_MODE
@_WHY
@console.with_site
def rotate_host(mode: change.Mode, why: str, site: Path) -> None:
    """Put the next host keys into service.

    Sessions that are open continue. If the command is interrupted, give it again.
    """
    if change.carry_out(site, _Rotate(site, HOST_KEYS, why), mode) is not None:
        serving = ", ".join(line.fingerprint for line in host.public_host_keys(site))
        console.print_message_for(
            "all of them",
            f"Sunucunun anahtari degisti: {serving}. Baska bir parmak izi gorurseniz baglanmayin.",
            f"The server's key has changed: {serving}. Do not connect if you see another one.",
        )


@hosts.command("withdraw")
@_MODE
@_WHY
@console.with_site
def withdraw_host(mode: change.Mode, why: str, site: Path) -> None:
    """Cancel prepared host keys that are not in service yet."""
    change.carry_out(site, _Withdraw(site, HOST_KEYS, why), mode)


@signing.command("show")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@console.with_site
def show_signing(as_json: bool, site: Path) -> None:
    """Print the allowed_signers lines for `ssh-keygen -Y verify`.

    Former keys are included, so that older signatures can still be verified.
    """
    text = host.allowed_signers(site, sshsig.PRINCIPAL)
    if as_json:
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        click.echo(json.dumps([{"allowed_signers": line} for line in lines]))
        return
    click.echo(text, nl=False)


@signing.command("next")
@_MODE
@_WHY
@console.with_site
def next_signing(mode: change.Mode, why: str, site: Path) -> None:
    """Create the next signing key, to announce it to the parties."""
    if change.carry_out(site, _Next(site, SIGNING_KEYS, why), mode) is not None:
        click.echo(host.allowed_signers(site, sshsig.PRINCIPAL), nl=False)
        console.print_message_for(
            "all of them",
            "Bu satirlari allowed_signers dosyaniza ekleyin.",
            "Add these lines to your allowed_signers file.",
        )


@signing.command("rotate")
@_MODE
@_WHY
@console.with_site
def rotate_signing(mode: change.Mode, why: str, site: Path) -> None:
    """Put the next signing key into service.

    What the old key signed can still be verified.
    """
    if change.carry_out(site, _Rotate(site, SIGNING_KEYS, why), mode) is not None:
        click.echo(host.allowed_signers(site, sshsig.PRINCIPAL), nl=False)
        console.print_message_for(
            "all of them", "Imza anahtari degisti.", "The signing key has changed."
        )


@signing.command("withdraw")
@_MODE
@_WHY
@console.with_site
def withdraw_signing(mode: change.Mode, why: str, site: Path) -> None:
    """Cancel a prepared signing key that is not in service yet."""
    change.carry_out(site, _Withdraw(site, SIGNING_KEYS, why), mode)


def _key_files(folder: Path, changed: Mapping[str, bytes | None]) -> dict[str, Value]:
    """Return the field of a record with the files of a change, relative to `folder` of the site."""
    digests = {str(folder / name): key_files.digest_of(text) for name, text in changed.items()}
    return {key_files.KEY_FILES: list(key_files.lines(digests))}


class _KeyChange(Change[_Keys]):
    """One change of the keys in a folder, `keys/host` or `keys/signing`."""

    verb = ""

    def __init__(self, site: Path, folder: Path, why: str) -> None:
        super().__init__(f"key {folder.name} {self.verb}", str(folder), why)
        self._site, self._folder = site, folder
        self._path = site / folder

    def read(self) -> _Keys:
        return host.describe(self._path)

    def describe(self, old: _Keys) -> Value:
        return list(old)

    def wait(self, new: _Keys) -> bool:
        """Tell the daemons to reload; for host keys, wait until the server reports them."""
        asked = server_reload.reload_daemons(self._site)
        if self._folder == HOST_KEYS:
            serving = {line.fingerprint for line in host.public_host_keys(self._site)}
            next_ones = {
                line.fingerprint for line in host.public_host_keys(self._site, next_keys=True)
            }
            return server_reload.wait_until_in_force(
                self._site,
                lambda s: set(s.host_keys) == serving and set(s.announced) == serving | next_ones,
                "host keys",
            )
        click.echo(
            "publisher and server were told to read the new key"
            if asked
            else "no daemon is running: it takes effect at the next start",
            err=True,
        )
        return asked

    def _next_keys(self) -> Sequence[host.PublicKey]:
        return [host.read_public_key(path) for path in sorted((self._path / "next").glob("*_key"))]


class _Next(_KeyChange):
    """Creates the next keys that do not exist yet; the preview cannot show their fingerprints."""

    verb = "next"

    def plan(self, old: _Keys) -> Plan[_Keys]:
        load.load(self._site)

        detail: dict[str, Value] = {}

        def describe() -> Value:
            fresh = host.draft_next(self._path)
            detail.update(_key_files(self._folder, host.drafted_files(self._path)))
            return [*old, *(f"{host.NEXT_KEY} {key.fingerprint} {key.name}" for key in fresh)]

        preview = [f"  + a new key for each in {self._folder}/next that does not exist yet"]
        return Plan(old, preview, describe, lambda: host.announce_next(self._path), detail)

    def wait(self, new: _Keys) -> bool:
        for key in self._next_keys():
            click.echo(f"  + {key.fingerprint}  {key.name}", err=True)
        return super().wait(new) if self._folder == HOST_KEYS else False


class _Rotate(_KeyChange):
    """Moves the next keys into the place of those in service."""

    verb = "rotate"

    def plan(self, old: _Keys) -> Plan[_Keys]:
        coming = self._next_keys()
        if not coming:
            message = f"there is no next key: create one with `ssps key {self._folder.name} next`"
            raise console.fault(f"{self._folder}/next", "", message)
        preview = []
        for key in coming:
            if (now := self._path / key.name).exists():
                preview.append(f"  - {host.read_public_key(now).fingerprint}  {key.name}")
            preview.append(f"  + {key.fingerprint}  {key.name}")
        moved = {key.name for key in coming}
        kept = [line for line in old if line.split()[-1] not in moved]
        new = [*(f"{host.SERVING} {key.fingerprint} {key.name}" for key in coming), *kept]
        at = datetime.now(UTC)
        detail: dict[str, Value] = {
            "keys": [key.fingerprint for key in coming],
            **_key_files(self._folder, host.promoted_files(self._path, at)),
        }
        apply = partial(host.promote_next, self._path, at)
        return Plan(new, preview, lambda: list(new), apply, detail)


class _Withdraw(_KeyChange):
    """Removes the next keys."""

    verb = "withdraw"

    def plan(self, old: _Keys) -> Plan[_Keys] | None:
        preview = [f"  - {key.fingerprint}  {key.name}" for key in self._next_keys()]
        if not preview:
            click.echo(f"no change: there is no next key in {self._folder}/next", err=True)
            return None
        new = [line for line in old if line.split()[0] != host.NEXT_KEY]
        detail = _key_files(self._folder, host.withdrawn_files(self._path))
        apply = partial(host.withdraw_next, self._path)
        return Plan(new, preview, lambda: list(new), apply, detail)

    def wait(self, new: _Keys) -> bool:
        return super().wait(new) if self._folder == HOST_KEYS else False
