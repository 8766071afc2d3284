"""`ssps audit`: reading the record, with neither daemon installed."""

import time
from collections.abc import Iterator
from pathlib import Path

import click

from config.site import FILING, LEDGERS, OPERATIONS, TRANSFER
from keys.ledger import writer
from keys.ledger.writer import Record
from scripts.audit.exports import export
from scripts.audit.gaps import gap
from scripts.audit.query import query
from scripts.audit.receipts import receipt
from scripts.audit.record_text import format_record_line
from scripts.audit.reports import report
from scripts.audit.timelines import timeline
from scripts.audit.verify import verify
from scripts.shared import console

_LEDGERS = (TRANSFER, FILING, OPERATIONS)


@click.group()
def audit() -> None:
    """The record: what was served, filed and changed."""


for command in (verify, query, receipt, report, timeline, gap, export):
    audit.add_command(command)


@audit.command()
@click.option("--ledger", "name", type=click.Choice(_LEDGERS), default=TRANSFER, show_default=True)
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="How many of the last records.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on as records come in, until interrupted.")
@click.option("--json", "as_json", is_flag=True, help="The ledger's own lines, as they stand.")
@console.with_site
def tail(name: str, lines: int, follow: bool, as_json: bool, site: Path) -> None:
    """Show the last records of a ledger."""
    folder = site / LEDGERS / name
    for record in _records(folder, lines, follow):
        click.echo(
            writer.format_record(record).decode().rstrip()
            if as_json
            else format_record_line(record)
        )


def _records(folder: Path, lines: int, follow: bool) -> Iterator[Record]:
    if folder.exists():
        next(folder.iterdir(), None)  # raises for who may not look, where a glob finds nothing
    following = max(0, writer.next_seq(folder) - lines)
    try:
        while True:
            for record in writer.read(folder, following):
                yield record
                following = record.seq + 1
            if not follow:
                return
            time.sleep(0.5)
    except ValueError as error:
        advice = "keep a copy of the file as it is, it is evidence"
        raise console.fault(str(error), "", f"is no record, {advice}") from None
