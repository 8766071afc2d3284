"""`ssps audit`: commands that read the record; no daemon has to run or be installed."""

import time
from collections.abc import Iterator
from pathlib import Path

import click

from config.site import LEDGER_NAMES, LEDGERS, TRANSFER
from keys.ledger import segments
from keys.ledger.record import Record, format_record
from scripts.audit.behind import behind
from scripts.audit.compare import compare
from scripts.audit.exports import export
from scripts.audit.gaps import gap
from scripts.audit.query import query
from scripts.audit.receipts import receipt
from scripts.audit.record_text import format_record_line
from scripts.audit.report.report import report
from scripts.audit.result_proof import result
from scripts.audit.timelines import timeline
from scripts.audit.verify import verify
from scripts.shared import console

_POLL_SECONDS = 0.5


@click.group()
def audit() -> None:
    """Read and verify the record of all that was done."""


for command in (verify, result, compare, query, receipt, report, timeline, gap, export, behind):
    audit.add_command(command)


@audit.command()
@click.option(
    "--ledger",
    "name",
    type=click.Choice(LEDGER_NAMES),
    default=TRANSFER,
    show_default=True,
    help="Which ledger.",
)
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="How many records to show.",
)
@click.option("-f", "--follow", is_flag=True, help="Keep printing new records until interrupted.")
@click.option("--json", "as_json", is_flag=True, help="Print the ledger's JSON lines unchanged.")
@console.with_site
def tail(name: str, lines: int, follow: bool, as_json: bool, site: Path) -> None:
    """Show the last records of a ledger."""
    folder = site / LEDGERS / name
    for record in _read_last(folder, lines, follow):
        click.echo(
            format_record(record).decode().rstrip() if as_json else format_record_line(record)
        )


def _read_last(folder: Path, lines: int, follow: bool) -> Iterator[Record]:
    if folder.exists():
        # Raises PermissionError for a user without access. A glob would find no files instead.
        next(folder.iterdir(), None)
    next_seq = max(0, segments.next_seq(folder) - lines)
    try:
        while True:
            for record in segments.read_records(folder, next_seq):
                yield record
                next_seq = record.seq + 1
            if not follow:
                return
            time.sleep(_POLL_SECONDS)
    except ValueError as error:
        advice = "is not a valid record; it is evidence, so keep a copy of the file as it is"
        raise console.fault(str(error), "", advice) from None
