"""`ssps key adopt`: accept a file under keys/ that no command has written, on the record.

The server does not use a ring that was edited by hand, copied back from a backup or deleted
(keys/operations/ring_files). This command shows how the file differs from the record, asks, records
both states, and signs the file as it is. With `--site-keys` it records the site's own keys and
certificates as they are (keys/operations/site_keys), and has the daemons load them.
"""

from pathlib import Path

import click

from config import load
from config.event import Value
from config.fault import Fault, Faults
from config.site import KEYS
from keys.credentials import ring
from keys.credentials.ring import Ring
from keys.operations import key_files, keys_record, ring_files
from keys.operations.key_files import KeyFilesOnRecord
from keys.server_keys import host
from scripts.access import parties
from scripts.access.key.ring_change import refuse_shared
from scripts.shared import change, console, server_reload
from scripts.shared.change import Change, Plan

_LOST = (
    "this public key must be kept, or what it signed cannot be verified: restore the files of "
    "keys/signing, and replace the key with `ssps key signing next` and `ssps key signing rotate`"
)


@click.command()
@click.argument("party_id", metavar="[PARTY]", required=False)
@click.option(
    "--site-keys", "own", is_flag=True, help="Accept host keys, signing keys and certificates."
)
@change.mode_options(ask=True)
@console.why_option()
@console.with_site
def adopt(party_id: str | None, own: bool, mode: change.Mode, why: str, site: Path) -> None:
    """Accept key files as they are now, on the record.

    These are the credentials in PARTY's file, or the site's own keys.

    The daemons do not use a file under keys/ that was edited by hand, restored
    from a backup, or deleted. This shows what is different from what was
    recorded last, and asks before it accepts the file. The site's own keys are
    also recorded, and then used, when a daemon starts or reloads.
    """
    if own == (party_id is not None):
        raise click.UsageError("name a party, or give --site-keys")
    if party_id is None:
        change.carry_out(site, _SiteKeysAdoption(site, why), mode)
        return
    parties.find_with_login(load.load(site), party_id)
    if change.carry_out(site, _Adoption(site, party_id, why), mode) is not None:
        click.echo(f"{party_id}: the file is signed and on record", err=True)


class _Adoption(Change[Ring]):
    """Signs the ring that is on the disk."""

    def __init__(self, site: Path, party: str, why: str) -> None:
        super().__init__("key adopt", party, why)
        self._site = site

    def read(self) -> Ring:
        return ring.load(self._site, self.what)

    def describe(self, old: Ring) -> Value:
        """Return the credentials that were recorded last: the state before the edit."""
        return ring_files.described_on_record(self._site, self.what)

    def plan(self, old: Ring) -> Plan[Ring] | None:
        if ring_files.in_force_as_it_is(self._site, self.what):
            click.echo(f"no change: {self.what}'s file is the one that was recorded", err=True)
            return None
        refuse_shared(self._site, old)
        after = ring.describe(old)
        before = ring_files.described_on_record(self._site, self.what) or []
        preview = [f"{self.what}:"]
        preview += [f"  - {line}" for line in before if line not in after]
        preview += [f"  {' ' if line in before else '+'} {line}" for line in after]

        def describe() -> Value:
            ring_files.stage(self._site, old)
            return list(after)

        detail: dict[str, Value] = {key_files.KEY_FILES: [ring_files.line(self._site, old)]}
        return Plan(old, preview, describe, lambda: ring_files.apply(self._site, old), detail)

    def wait(self, new: Ring) -> bool:
        return server_reload.wait_for_rings(self._site, new)


class _SiteKeysAdoption(Change[dict[str, str]]):
    """Records the files under keys/ that hold no credentials, as they are on the disk."""

    def __init__(self, site: Path, why: str) -> None:
        super().__init__("key adopt", str(KEYS), why)
        self._site = site

    def read(self) -> dict[str, str]:
        return KeyFilesOnRecord(self._site).refresh().server_keys

    def describe(self, old: dict[str, str]) -> Value:
        """Return the files that were recorded last."""
        return list(key_files.lines(old))

    def plan(self, old: dict[str, str]) -> Plan[dict[str, str]] | None:
        new = key_files.server_key_files(self._site)
        removed = dict.fromkeys(old.keys() - new.keys(), key_files.REMOVED)
        changed = {name: digest for name, digest in new.items() if old.get(name) != digest}
        if not (changed or removed):
            click.echo("no change: the site's own keys are those on record", err=True)
            return None
        wrong = host.faults(self._site)
        lost = keys_record.lost_public_keys(KeyFilesOnRecord(self._site).refresh(), new)
        if wrong := [*wrong, *(Fault(name, "", _LOST) for name in lost)]:
            raise Faults(wrong)
        preview = []
        for name in sorted({*changed, *removed}):
            preview += [f"  - {name} {old[name]}"] if name in old else []
            preview += [f"  + {name} {changed[name]}"] if name in changed else []
        detail: dict[str, Value] = {
            key_files.KEY_FILES: list(key_files.lines({**changed, **removed}))
        }
        return Plan(new, preview, lambda: list(key_files.lines(new)), lambda: None, detail)

    def wait(self, new: dict[str, str]) -> bool:
        return server_reload.reload_daemons(self._site)
