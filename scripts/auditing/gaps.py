"""`ssps audit gap`: when nothing happened for long, and what the ledgers say about why."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from keys import ledger
from keys.record import Record
from scripts import console
from scripts.auditing import index, where
from scripts.auditing.lines import line

_NEAR = timedelta(seconds=5)
_MOST = 20
# Between two records of a ledger; the window function has the next one's place beside each.
_SILENCES = """
select log, name, time, next, seq from (select log, name, time, seq,
    lead(time) over (partition by log order by seq) as next from record
    where name in ('transfer', 'filing'))
where next - time > to_microseconds(?) order by time
"""
_BETWEEN = """(log <> ? and time >= ? and time <= ? and (name = 'operations'
    or event in ('recovered', 'removed', 'quarantined'))) or (log = ? and seq in (?, ?))
    order by time limit ?"""


@dataclass(frozen=True, slots=True)
class Silence:
    """From when until when nothing was written to a ledger, and the records that bear on it."""

    log: Path
    start: datetime
    end: datetime
    near: tuple[Record, ...]


@click.command()
@where.folders
@click.option(
    "--longer-than",
    "seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=60,
    show_default=True,
    help="Seconds.",
)
@click.option("--json", "as_json", is_flag=True, help="One object a silence.")
@console.with_site_if_any
def gap(folders: tuple[Path, ...], seconds: float, as_json: bool, site: Path | None) -> None:
    """List the silences in filing and in service, with what the ledgers say about why.

    Under each: the last record before it, what operators did meanwhile, the first record after it.
    """
    evidence = where.evidence(folders, (), site, keyed=False)
    for silence in silences(index.opened(evidence.ledgers), seconds):
        took = round((silence.end - silence.start).total_seconds(), 3)
        if as_json:
            near = [json.loads(ledger.format_record(record)) for record in silence.near]
            told = {"ledger": str(silence.log), "seconds": took, "records": near}
            stamps = {"from": silence.start.isoformat(), "until": silence.end.isoformat()}
            click.echo(json.dumps({**stamps, **told}, ensure_ascii=False))
            continue
        start, end = silence.start.astimezone(), silence.end.astimezone()
        what = {ledger.FILING: "nothing filed", ledger.TRANSFER: "nothing served"}
        said = what[silence.log.name]
        click.echo(f"{start:%Y-%m-%d %H:%M:%S} to {end:%H:%M:%S}: {said} for {took:.0f} s")
        for record in silence.near:
            click.echo(f"    {line(record)}")


def silences(database: index.Connection, seconds: float) -> Iterator[Silence]:
    """Yield the silences of more than so many seconds, in the order they began."""
    for log, _, start, end, seq in index.rows(database, _SILENCES, [round(seconds * 1e6)]):
        values = [log, start - _NEAR, end + _NEAR, log, seq, seq + 1, _MOST]
        near = tuple(record for _, record in index.records(database, _BETWEEN, values))
        yield Silence(Path(log), start.replace(tzinfo=UTC), end.replace(tzinfo=UTC), near)
