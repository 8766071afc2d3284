"""`ssps key host` and `ssps key signing`: the server's own keys, changed without a surprise.

The next key is announced first (`next`), and serves once the parties know it (`rotate`). Both
show what they would do, and do it with --apply.
"""

from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import click

from config import load
from config.site import HOST_KEYS, SIGNING_KEYS
from keys.server_keys import host, sshsig
from scripts.access import ring_change
from scripts.shared import console, server_reload

_WHY = console.why_option()
_APPLY = click.option("--apply", is_flag=True, help="Do it; without this it is only shown.")


@click.group("host")
def hosts() -> None:
    """The host keys, which prove the server to the parties."""


@click.group()
def signing() -> None:
    """The signing key, which proves what the parties take home."""


@hosts.command("show")
@click.option("--host", "name", help="The name or address that the parties connect to.")
@click.option("--port", type=click.IntRange(1, 65535), help="The port; as the server listens.")
@console.with_site
def show_hosts(name: str | None, port: int | None, site: Path) -> None:
    """Print fingerprints, known_hosts lines and SSHFP records, for the letters and the DNS."""
    settings = load.load(site)
    _print_hosts(site, name or settings.sftp.host, port or settings.sftp.port)


def _print_hosts(site: Path, name: str, port: int) -> None:
    for coming in (False, True):
        lines = host.public_host_keys(site, coming=coming)
        if not lines:
            continue
        click.echo("next, announced:" if coming else "serving:")
        for line in lines:
            click.echo(f"  {line.kind:12} {line.fingerprint}")
        click.echo(host.known_hosts(site, name, port, coming=coming), nl=False)
        for line in lines if not _is_address(name) else ():
            click.echo(line.sshfp(name))


def _is_address(name: str) -> bool:
    with suppress(ValueError):
        ip_address(name)
        return True
    return False


@hosts.command("next")
@_APPLY
@_WHY
@console.with_site
def next_host(apply: bool, why: str, site: Path) -> None:
    """Make the next host keys and announce them to every client that logs in."""
    if not _prepare(site, HOST_KEYS, apply, why):
        return
    _wait_for_host_keys(site)
    settings = load.load(site)
    _print_hosts(site, settings.sftp.host, settings.sftp.port)
    new = ", ".join(line.fingerprint for line in host.public_host_keys(site, coming=True))
    ring_change.print_message(
        "all of them",
        f"Sunucunun sonraki anahtari: {new}. known_hosts dosyaniza ekleyin.",
        f"The server's next key: {new}. Add it to your known_hosts.",
    )


@hosts.command("rotate")
@_APPLY
@_WHY
@console.with_site
def rotate_host(apply: bool, why: str, site: Path) -> None:
    """Let the next host keys serve. Live sessions go on; finish one that was cut off likewise."""
    if _rotate(site, HOST_KEYS, apply, why):
        _wait_for_host_keys(site)
        serving = ", ".join(line.fingerprint for line in host.public_host_keys(site))
        ring_change.print_message(
            "all of them",
            f"Sunucunun anahtari degisti: {serving}. Baska bir iz gorurseniz baglanmayin.",
            f"The server's key has changed: {serving}. Do not connect if you see another.",
        )


@hosts.command("withdraw")
@_APPLY
@_WHY
@console.with_site
def withdraw_host(apply: bool, why: str, site: Path) -> None:
    """Take back host keys that were announced and have not served."""
    if _withdraw(site, HOST_KEYS, apply, why):
        _wait_for_host_keys(site)


@signing.command("show")
@console.with_site
def show_signing(site: Path) -> None:
    """Print the lines that `ssh-keygen -Y verify` needs, those of former keys among them."""
    click.echo(host.allowed_signers(site, sshsig.PRINCIPAL), nl=False)


@signing.command("next")
@_APPLY
@_WHY
@console.with_site
def next_signing(apply: bool, why: str, site: Path) -> None:
    """Make the next signing key, so that it stands in the parties' allowed_signers in time."""
    if _prepare(site, SIGNING_KEYS, apply, why):
        click.echo(host.allowed_signers(site, sshsig.PRINCIPAL), nl=False)
        _print_signing_message(
            "Bu satirlari allowed_signers dosyaniza yazin.", "Put these into yours."
        )


@signing.command("rotate")
@_APPLY
@_WHY
@console.with_site
def rotate_signing(apply: bool, why: str, site: Path) -> None:
    """Let the next signing key serve; what the old one signed still verifies."""
    if _rotate(site, SIGNING_KEYS, apply, why):
        asked = server_reload.reload_daemons(site)
        click.echo(
            "publisher and server were told to read it"
            if asked
            else "nothing is running: it takes effect at the start",
            err=True,
        )
        click.echo(host.allowed_signers(site, sshsig.PRINCIPAL), nl=False)
        _print_signing_message("Imza anahtari degisti.", "The signing key has changed.")


@signing.command("withdraw")
@_APPLY
@_WHY
@console.with_site
def withdraw_signing(apply: bool, why: str, site: Path) -> None:
    """Take back a signing key that was announced and has not served."""
    _withdraw(site, SIGNING_KEYS, apply, why)


def _prepare(site: Path, folder: Path, apply: bool, why: str) -> bool:
    load.load(site)
    if not apply:
        click.echo(f"would make the next keys in {folder}/next, where there are none", err=True)
        return _print_unchanged()
    keys = site / folder
    with console.recorded_change(site, f"key {folder.name} next", str(folder), why) as record:
        record.before = host.describe(keys)
        fresh = [f"{host.NEXT_KEY} {key.fingerprint} {key.name}" for key in host.draft_next(keys)]
        record.done([*record.before, *fresh])
        made = host.announce_next(keys)
    for path in made:
        click.echo(f"  + {host.read_public_key(path).fingerprint}  {path.name}", err=True)
    return True


def _rotate(site: Path, folder: Path, apply: bool, why: str) -> bool:
    coming = [host.read_public_key(p) for p in sorted((site / folder / "next").glob("*_key"))]
    if not coming:
        message = f"there is no next key: `ssps key {folder.name} next` makes and announces it"
        raise console.fault(f"{folder}/next", "", message)
    for key in coming:
        now = site / folder / key.name
        if now.exists():
            click.echo(f"  - {host.read_public_key(now).fingerprint}  {key.name}", err=True)
        click.echo(f"  + {key.fingerprint}  {key.name}", err=True)
    if not apply:
        return _print_unchanged()
    with console.recorded_change(site, f"key {folder.name} rotate", str(folder), why) as record:
        record.before = before = host.describe(site / folder)
        moved = {key.name for key in coming}
        kept = [line for line in before if line.split()[-1] not in moved]
        serve = [f"{host.SERVING} {key.fingerprint} {key.name}" for key in coming]
        record.done([*serve, *kept], {"keys": [key.fingerprint for key in coming]})
        host.promote_next(site / folder, datetime.now(UTC))
    return True


def _withdraw(site: Path, folder: Path, apply: bool, why: str) -> bool:
    for path in sorted((site / folder / "next").glob("*_key")):
        click.echo(f"  - {host.read_public_key(path).fingerprint}  {path.name}", err=True)
    if not apply:
        return _print_unchanged()
    with console.recorded_change(site, f"key {folder.name} withdraw", str(folder), why) as record:
        record.before = before = host.describe(site / folder)
        record.done([line for line in before if line.split()[0] != host.NEXT_KEY])
        host.withdraw_next(site / folder)
    return True


def _print_unchanged() -> bool:
    click.echo("nothing has changed; --apply does it", err=True)
    return False


def _wait_for_host_keys(site: Path) -> None:
    serving = {line.fingerprint for line in host.public_host_keys(site)}
    announced = serving | {line.fingerprint for line in host.public_host_keys(site, coming=True)}
    server_reload.reload_daemons(site)
    server_reload.wait_until_in_force(
        site,
        lambda word: set(word.host_keys) == serving and set(word.announced) == announced,
        "the host keys",
    )


def _print_signing_message(turkish: str, english: str) -> None:
    ring_change.print_message("all of them", turkish, english)
