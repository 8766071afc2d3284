"""`ssps recover`: record that ledgers lack their newest records, so that the daemons start again.

After a restore from a backup the ledgers lack the newest records, and no daemon starts
(scripts/daemons/starts). This command shows what is missing, asks, and records it with the reason.
What it accepts is still named by `ssps audit verify`.
"""

from datetime import UTC, datetime
from pathlib import Path

import click

from config.event import Value
from config.fault import Fault, Faults
from config.site import LEDGERS, SIGNING_KEYS, ledger_names
from keys.ledger import anchors
from keys.ledger.anchors import Anchor, Behind
from keys.operations import freshness, server_state, site_keys
from scripts.shared import change, console
from scripts.shared.change import Change, Plan


@click.command()
@change.mode_options(ask=True)
@console.why_option("Why the ledgers lack records, for the record.")
@console.with_site
def recover(mode: change.Mode, why: str, site: Path) -> None:
    """Accept that ledgers lack records, after a restore from a backup.

    A daemon does not start if a ledger lacks records that another ledger, the change feed or an
    earlier start has a checkpoint of. This shows what is missing, and asks. The loss is recorded;
    `ssps audit verify` still names it.
    """
    recovery = _Recovery(site, why)
    recovery.look()
    if change.carry_out(site, recovery, mode) is not None:
        click.echo("recorded: the daemons start again", err=True)


class _Recovery(Change[list[Behind]]):
    """Records that ledgers lack records; the record itself is the change."""

    def __init__(self, site: Path, why: str) -> None:
        super().__init__("recover", str(LEDGERS), why)
        self._site = site
        self._roots = anchors.LineRoots(_report)
        self._dated_after: list[Anchor] = []

    def look(self) -> None:
        """Do what can take minutes before the operations ledger is locked."""
        if lacks := self.read():
            self._refuse_while_a_daemon_runs()
            self._dated_after = freshness.dated_after(self._site, lacks, datetime.now(UTC))

    def read(self) -> list[Behind]:
        """Return the ledgers that lack records."""
        return freshness.ledgers_behind(self._site, self._roots)

    def describe(self, old: list[Behind]) -> Value:
        named = [*(each.anchor for each in old), *self._dated_after]
        return list(dict.fromkeys(anchors.format_line(each.checkpoint) for each in named))

    def plan(self, old: list[Behind]) -> Plan[list[Behind]] | None:
        """Plan the record; raise Faults while a daemon runs, or if there is no key to sign it."""
        if not old:
            click.echo("no change: no ledger lacks records", err=True)
            return None
        self._refuse_while_a_daemon_runs()
        _require_key(self._site)
        preview = [f"{LEDGERS / each.anchor.ledger}: {each}" for each in old]
        lines = anchors.newest_lines(self._site / LEDGERS, ledger_names(self._site / LEDGERS))
        detail: dict[str, Value] = {
            anchors.ACCEPTED: anchors.acceptance_lines(old),
            anchors.CHECKPOINTS: lines,
        }
        # Once the record is signed, it accepts the loss; nothing else has to be changed.
        return Plan([], preview, lambda: lines, lambda: None, detail)

    def _refuse_while_a_daemon_runs(self) -> None:
        parts = (server_state.RUN, server_state.SERVE, server_state.PUBLISH)
        for part, host in server_state.running(self._site, *parts):
            where = f"on {host}" if host else f"process {server_state.holder(self._site, part)}"
            raise console.fault(str(self._site), "", f"`ssps {part}` runs ({where}), stop it first")


def _report(folder: Path, hashed: int, records: int) -> None:
    what = f"{LEDGERS / folder.name}: its stored hashes are damaged: hashing its lines again"
    click.echo(f"{what}, {hashed:,} of {records:,}", err=True)


def _require_key(site: Path) -> None:
    """Raise Faults if the record could not be signed: then it would accept nothing."""
    try:
        site_keys.signing_key(site)
    except Faults as error:
        what = (
            "the loss is NOT accepted: without a usable signing key the record cannot be signed, "
            "and only a signed one counts. Correct this first, then give the command again"
        )
        raise Faults([Fault(str(SIGNING_KEYS), "", what), *error.faults]) from None
