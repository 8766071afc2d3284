"""`ssps recover`: record that ledgers lack their newest records, so that the daemons start again.

After a restore from a backup the ledgers lack the newest records, and no daemon starts
(scripts/daemons/starts). This command shows what is missing, asks, and records it with the reason.
What it accepts is still named by `ssps audit verify`.
"""

from pathlib import Path

import click

from config.site import LEDGER_NAMES, LEDGERS
from keys.ledger import anchors
from keys.ledger.anchors import Behind
from keys.operations import freshness, server_state
from scripts.shared import change, console


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
    found = freshness.ledgers_behind(site)
    if not found:
        click.echo("no change: no ledger lacks records", err=True)
        return
    for part in (server_state.RUN, server_state.SERVE, server_state.PUBLISH):
        if pid := server_state.holder(site, part):
            raise console.fault(str(site), "", f"`ssps {part}` runs (process {pid}), stop it first")
    preview = [f"{LEDGERS / each.anchor.ledger}: {each}" for each in found]
    change.show(preview)
    if not change.may_apply(mode):
        return
    with console.recorded_change(site, "recover", str(LEDGERS), why) as record:
        found = freshness.ledgers_behind(site)
        record.before = _states(found)
        lines = anchors.newest_lines(site / LEDGERS, LEDGER_NAMES)
        record.done(
            lines,
            {anchors.ACCEPTED: anchors.acceptance_lines(found), anchors.CHECKPOINTS: lines},
        )
    click.echo("recorded: the daemons start again", err=True)


def _states(found: list[Behind]) -> list[str]:
    return [anchors.format_line(each.anchor.checkpoint) for each in found]
