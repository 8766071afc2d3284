"""`ssps audit`: commands that read the record; no daemon has to run or be installed."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from config.site import LEDGER_NAMES, LEDGERS, TRANSFER, is_ledger, ledgers_of_kind
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


class _LedgerName(click.Choice[str]):
    """A kind of ledger, or the name of one host's ledger."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value) if is_ledger(str(value)) else super().convert(value, param, ctx)


for command in (verify, result, compare, query, receipt, report, timeline, gap, export, behind):
    audit.add_command(command)


@audit.command()
@click.option(
    "--ledger",
    "name",
    type=_LedgerName(LEDGER_NAMES),
    default=TRANSFER,
    show_default=True,
    help="Which ledger: transfer of all hosts, or transfer@gw2 of one.",
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
    names = ledgers_of_kind(site / LEDGERS, name) if name in LEDGER_NAMES else (name,)
    for record in _read_last([site / LEDGERS / each for each in names], lines, follow):
        click.echo(
            format_record(record).decode().rstrip() if as_json else format_record_line(record)
        )


def _read_last(folders: Sequence[Path], lines: int, follow: bool) -> Iterator[Record]:
    """Yield the last records of ledgers in order of time, and with `follow` the new ones."""
    for folder in folders:
        if folder.exists():
            # Raises PermissionError for a user without access. A glob would find no files instead.
            next(folder.iterdir(), None)
    ends = {folder: segments.next_seq(folder) for folder in folders}
    try:
        found = [
            record
            for folder, end in ends.items()
            for record in segments.read_records(folder, max(0, end - lines))
            if record.seq < end
        ]
        found.sort(key=lambda record: record.time)
        yield from found[len(found) - lines :] if lines < len(found) else found
        while follow:
            time.sleep(_POLL_SECONDS)
            for folder in folders:
                for record in segments.read_records(folder, ends[folder]):
                    yield record
                    ends[folder] = record.seq + 1
    except ValueError as error:
        advice = "is not a valid record; it is evidence, so keep a copy of the file as it is"
        raise console.fault(str(error), "", advice) from None
