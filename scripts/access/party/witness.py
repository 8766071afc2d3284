"""`ssps party forget-witness`: let a party's mirror register another key for its cosignatures.

The server registers the first key that a party's witness sends (sftpd/monitor/answers/witnesses),
and takes no other. A party that has lost its key asks the operator for this command.
"""

from pathlib import Path

import click

from config import load
from config.event import Value
from config.site import cosigned_folder
from keys.ledger import cosigned
from keys.ledger.cosignature import Witness
from scripts.access import parties
from scripts.shared import change, console
from scripts.shared.change import Change, Plan


@click.command("forget-witness")
@click.argument("party_id", metavar="PARTY")
@change.mode_options()
@console.why_option()
@console.with_site
def forget_witness(party_id: str, mode: change.Mode, why: str, site: Path) -> None:
    """Let the witness of PARTY register another key.

    A party that mirrors with --witness signs what the ledgers have, with a key of its own. The
    first key is registered. What it has signed is kept.
    """
    parties.find(load.load(site), party_id)
    if change.carry_out(site, _Forgotten(site, party_id, why), mode) is not None:
        click.echo(f"{party_id}: the next key that its witness sends is registered", err=True)


def describe(site: Path, party_id: str) -> str | None:
    """Return the registered key of a party's witness, None if there is none."""
    folder = site / cosigned_folder(party_id)
    try:
        found = cosigned.read_key(folder)
    except ValueError as error:
        raise console.fault(str(cosigned_folder(party_id) / cosigned.KEY), "", str(error)) from None
    return None if found is None else str(found)


class _Forgotten(Change[Witness | None]):
    """Moves the registered key away."""

    def __init__(self, site: Path, party: str, why: str) -> None:
        super().__init__("party forget-witness", party, why)
        self._site, self._folder = site, site / cosigned_folder(party)

    def read(self) -> Witness | None:
        return cosigned.read_key(self._folder)

    def describe(self, old: Witness | None) -> Value:
        return None if old is None else str(old)

    def plan(self, old: Witness | None) -> Plan[Witness | None] | None:
        if old is None:
            click.echo(f"no change: {self.what} has no witness", err=True)
            return None
        preview = [f"{self.what}: - {old}"]
        return Plan(None, preview, lambda: None, lambda: cosigned.forget_key(self._folder))
