"""`ssps key adopt`: accept a ring file that no command has written, on the record.

The server does not use a ring that was edited by hand, copied back from a backup or deleted
(keys/operations/ring_files). This command shows how the file differs from the record, asks, records
both states, and signs the file as it is.
"""

from pathlib import Path

import click

from config import load
from config.event import Value
from keys.credentials import ring
from keys.credentials.ring import Ring
from keys.operations import key_files, ring_files
from scripts.access import parties
from scripts.access.ring_change import refuse_shared
from scripts.shared import change, console, server_reload
from scripts.shared.change import Change, Plan


@click.command()
@click.argument("party_id", metavar="PARTY")
@change.mode_options(ask=True)
@console.why_option()
@console.with_site
def adopt(party_id: str, mode: change.Mode, why: str, site: Path) -> None:
    """Accept the credentials in PARTY's file as they are now.

    The server does not use a file in keys/parties/ that was edited by hand,
    restored from a backup, or deleted. This shows what is different from what
    was recorded last, and asks before it accepts the file.
    """
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
