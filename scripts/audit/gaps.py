"""`ssps audit gap`: when nothing happened for long, and what the ledgers say about why.

Silences are looked for in the filing and the transfer ledgers, between two records and from the
last one on, and in a change feed if one is named (feeds). It runs where there are copies of the
ledgers and public keys alone.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from config.site import FILING, TRANSFER
from keys.ledger import writer
from keys.ledger.record import Record
from scripts.audit import evidence, feeds, index
from scripts.audit.feeds import FeedProblem
from scripts.audit.query import parse_time
from scripts.audit.record_text import format_record_line
from scripts.shared import console

_CONTEXT = timedelta(seconds=5)
_MAX_SHOWN = 20
_SAID = {FILING: "nothing filed", TRANSFER: "nothing served"}
# Between two records of a ledger, or after its last one: `next` and `after` are null then. The
# window function has the next one's place beside each.
_SILENCES = """
select log, time, next, seq, after from (select log, name, time, seq,
    lead(time) over (partition by log order by seq) as next,
    lead(seq) over (partition by log order by seq) as after
    from record where name in ('transfer', 'filing') and time < ?)
where coalesce(next, ?) - time > to_microseconds(?) order by time, log
"""
_REASONS = """name = 'operations' or event in ('recovered', 'removed', 'quarantined')"""
_BETWEEN = f"""(log <> ? and time >= ? and time <= ? and ({_REASONS}))
    or (log = ? and seq in (?, ?)) order by time limit ?"""
# Of a feed: what was filed last before its silence, what bears on it, what was filed first after.
_FILED = (
    "select count(*) from record where name = 'filing' and event = 'filed' and time between ? and ?"
)
_ABOUT = f"""(time >= ? and time <= ? and ({_REASONS})) or (log, seq) in (
    select arg_max((log, seq), time) from record where name = 'filing' and time < ? union all
    select arg_min((log, seq), time) from record where name = 'filing' and time > ?)
    order by time limit ?"""
_TOO_EARLY = datetime(1970, 1, 1)  # noqa: DTZ001 - as the database has times


@dataclass(frozen=True, slots=True)
class QuietPeriod:
    """From when until when nothing was written to a ledger, and the records that bear on it.

    One that is `open` had no end as of then.
    """

    log: Path
    start: datetime
    end: datetime
    near: tuple[Record, ...]
    open: bool = False

    @property
    def seconds(self) -> float:
        """How long it was."""
        return round((self.end - self.start).total_seconds(), 3)


@click.command()
@evidence.folders_argument
@click.option(
    "--longer-than",
    "seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=60,
    show_default=True,
    help="Seconds.",
)
@click.option(
    "--feed",
    "feed",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A change feed too: a party's akis/ folder, or the site's feed/.",
)
@click.option("--until", callback=parse_time, help="As of this time; without it, as of now.")
@evidence.key_option
@click.option("--json", "as_json", is_flag=True, help="One object a silence.")
@console.with_optional_site
def gap(
    folders: tuple[Path, ...],
    seconds: float,
    feed: Path | None,
    until: datetime | None,
    key_files: tuple[Path, ...],
    as_json: bool,
    site: Path | None,
) -> None:
    """List the silences in filing, in service and in a feed, with what the ledgers say about why.

    Under each: the last record before it, what operators did meanwhile, the first record after it.
    The last silence of a ledger, from its last record on, is listed as well. Of a feed, segments
    that are missing or do not follow are named too; with --key their signatures are verified.
    """
    sources = evidence.find(folders, (), site, with_keys=False)
    keys = evidence.public_keys(key_files, site) if feed and (key_files or site) else ()
    found = feeds.find_feeds(feed) if feed else []
    if feed and not found:
        raise console.fault(str(feed), "", "holds no segment of a feed, such as 00000001.csv")
    until = until or datetime.now(UTC)
    database = index.open_index(sources.ledgers)
    for silence in quiet_periods(database, seconds, until):
        _show_silence(silence, as_json)
    for each in found:
        if not keys:
            click.echo(f"{each}: signatures are not verified without --key", err=True)
        for broken in feeds.feed_problems(each, seconds, until, keys):
            _show_break(database, broken, as_json)


def quiet_periods(
    database: index.Connection, seconds: float, until: datetime
) -> Iterator[QuietPeriod]:
    """Yield the silences of more than so many seconds as of then, in the order they began."""
    values = [_naive(until), _naive(until), round(seconds * 1e6)]
    for log, start, following, seq, after in index.select_rows(database, _SILENCES, values):
        end = _naive(until) if following is None else following
        wanted = [
            log,
            start - _CONTEXT,
            end + _CONTEXT,
            log,
            seq,
            seq if after is None else after,
            _MAX_SHOWN,
        ]
        near = tuple(record for _, record in index.select_records(database, _BETWEEN, wanted))
        yield QuietPeriod(Path(log), _utc(start), _utc(end), near, following is None)


def _show_silence(silence: QuietPeriod, as_json: bool) -> None:
    if as_json:
        told = {"ledger": str(silence.log), "seconds": silence.seconds, "open": silence.open}
        click.echo(_object(silence.start, silence.end, told, silence.near))
        return
    said = f"{_SAID[silence.log.name]} for {silence.seconds:.0f} s"
    _show(silence.start, silence.end, f"{said}, to the end" if silence.open else said, silence.near)
    if len(silence.near) <= 2 - silence.open:
        click.echo("    (no record says why)")


def _show_break(database: index.Connection, broken: FeedProblem, as_json: bool) -> None:
    start = _naive(broken.start) if broken.start else _TOO_EARLY
    end = _naive(broken.end)
    ((filed,),) = index.select_rows(database, _FILED, [start, end])
    wanted = [start - _CONTEXT if broken.start else start, end + _CONTEXT, start, end, _MAX_SHOWN]
    near = tuple(record for _, record in index.select_records(database, _ABOUT, wanted))
    if as_json:
        told: dict[str, Any] = {"feed": str(broken.feed), "kind": broken.kind, "said": broken.said}
        told |= {"filed": filed}
        click.echo(_object(broken.start, broken.end, told, near))
        return
    took = f" for {(end - start).total_seconds():.0f} s" if broken.kind == "silence" else ""
    said = f"{broken.feed.name}: {broken.said}{took}; {filed} filed meanwhile, by the ledger"
    _show(broken.start, broken.end, said, near)


def _show(start: datetime | None, end: datetime, said: str, near: tuple[Record, ...]) -> None:
    since = f"{start.astimezone():%Y-%m-%d %H:%M:%S}" if start else "the beginning"
    until = end.astimezone()
    whole = start is None or start.astimezone().date() != until.date()
    click.echo(f"{since} to {until:{'%Y-%m-%d ' if whole else ''}%H:%M:%S}: {said}")
    for record in near:
        click.echo(f"    {format_record_line(record)}")


def _object(
    start: datetime | None, end: datetime, told: dict[str, Any], near: tuple[Record, ...]
) -> str:
    records = [json.loads(writer.format_record(record)) for record in near]
    stamps = {"from": start.isoformat() if start else None, "until": end.isoformat()}
    return json.dumps({**stamps, **told, "records": records}, ensure_ascii=False)


def _naive(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(tzinfo=None)


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC)
