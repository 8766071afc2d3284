"""`ssps audit gap`: list periods with no activity, and the records that may explain them.

It looks in the filing and transfer ledgers for two records that are far apart in time, and at the
time since the last record. With --feed it also checks a change feed (see feeds). Copies of the
ledgers and the public keys are enough to run it.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from config import times
from config.site import FILING, TRANSFER, ledger_host, ledger_kind
from keys.ledger import segments
from keys.ledger.record import Record, format_record
from keys.ledger.verify import find_ledgers
from keys.ledger.verify.clock import records_that_run_backwards
from scripts.audit import evidence, feeds, index
from scripts.audit.feeds import FeedProblem, ProblemKind
from scripts.audit.record_text import format_record_line
from scripts.shared import console
from scripts.shared.time_types import TIME, StatedTime

_CONTEXT = timedelta(seconds=5)  # records this close to a period are shown with it
_MAX_SHOWN = 20
_DESCRIPTIONS = {FILING: "nothing filed", TRANSFER: "nothing served"}
# Pairs each record with the next one of its ledger (lead). After the last record, `next` and
# `after` are null.
_QUIET_PERIODS = """
select log, time, next, seq, after from (select log, name, time, seq,
    lead(time) over (partition by log order by seq) as next,
    lead(seq) over (partition by log order by seq) as after
    from record where name in ('transfer', 'filing') and time < ?)
where coalesce(next, ?) - time > to_microseconds(?) order by time, log
"""
_EXPLANATIONS = (
    """name = 'operations' or event in ('recovered', 'removed', 'quarantined', 'unconfirmed')"""
)
# For a ledger: the explanations in the other ledgers, and the records at both ends of the period.
_NEAR_QUIET_PERIOD = f"""(log <> ? and time >= ? and time <= ? and ({_EXPLANATIONS}))
    or (log = ? and seq in (?, ?)) order by time limit ?"""
_COUNT_FILED = (
    "select count(*) from record where name = 'filing' and event = 'filed' and time between ? and ?"
)
# For a feed: the explanations, the last filing before the problem, and the first filing after it.
_NEAR_FEED_PROBLEM = f"""(time >= ? and time <= ? and ({_EXPLANATIONS})) or (log, seq) in (
    select arg_max((log, seq), time) from record where name = 'filing' and time < ? union all
    select arg_min((log, seq), time) from record where name = 'filing' and time > ?)
    order by time limit ?"""
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - the database holds naive UTC times


@dataclass(frozen=True, slots=True)
class QuietPeriod:
    """A period in which nothing was written to a ledger, and the records that may explain it.

    If `open`, no record has followed yet; `end` is then the time up to which was checked.
    """

    log: Path
    start: datetime
    end: datetime
    near: tuple[Record, ...]
    open: bool = False

    @property
    def seconds(self) -> float:
        """The length of the period."""
        return round((self.end - self.start).total_seconds(), 3)


@click.command()
@evidence.folders_argument
@click.option(
    "--longer-than",
    "seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=60,
    show_default=True,
    help="Shortest period to list, in seconds.",
)
@click.option(
    "--feed",
    "feed",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Also check this change feed: a party's akis/ folder, or the site's feed/.",
)
@click.option("--until", type=TIME, help="Check up to this time. Default: now.")
@evidence.key_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each period.")
@console.with_optional_site
def gap(
    folders: tuple[Path, ...],
    seconds: float,
    feed: Path | None,
    until: StatedTime | None,
    key_files: tuple[Path, ...],
    as_json: bool,
    site: Path | None,
) -> None:
    """List periods with no activity in ledgers and change feeds.

    Under each period come the last record before it, what operators did during it, and the first
    record after it. The time since a ledger's last record is listed too. For a feed, segments that
    are missing or out of the chain are listed as well; with --key, their signatures are verified.

    A record that is dated before the record before it is named too: the clock was set back, or the
    record was added by hand.

    FOLDER is a ledger or contains ledgers. Default: the site's ledgers.
    """
    sources = evidence.find(folders, (), site, with_keys=False)
    keys = evidence.public_keys(key_files, site) if feed and (key_files or site) else ()
    found = feeds.find_feeds(feed) if feed else []
    if feed and not found:
        wrong = "contains no segment of a feed, such as 00000001.csv"
        raise console.fault(str(feed), "", wrong)
    now = datetime.now(UTC)
    end = until.at(now) if until else now
    database = index.open_index(sources.ledgers)
    for period in quiet_periods(database, seconds, end):
        _show_quiet_period(period, as_json)
    _show_clock_steps(sources.ledgers, as_json)
    for each in found:
        if not keys:
            click.echo(f"{each}: signatures are not verified: no --key given", err=True)
        for problem in feeds.feed_problems(each, seconds, end, keys):
            _show_feed_problem(database, problem, as_json)


def quiet_periods(
    database: index.Connection, seconds: float, until: datetime
) -> Iterator[QuietPeriod]:
    """Yield the periods of more than `seconds` without a record, up to `until`, by start time."""
    values = [_naive(until), _naive(until), round(seconds * 1e6)]
    for log, start, following, seq, after in index.select_rows(database, _QUIET_PERIODS, values):
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
        records = index.select_records(database, _NEAR_QUIET_PERIOD, wanted)
        near = tuple(record for _, record in records)
        yield QuietPeriod(Path(log), _utc(start), _utc(end), near, following is None)


def _show_quiet_period(period: QuietPeriod, as_json: bool) -> None:
    if as_json:
        fields = {"ledger": str(period.log), "seconds": period.seconds, "open": period.open}
        click.echo(_json_object(period.start, period.end, fields, period.near))
        return
    host = ledger_host(period.log.name)
    what = _DESCRIPTIONS[ledger_kind(period.log.name)] + (f" by {host}" if host else "")
    text = f"{what} for {period.seconds:.0f} s"
    if period.open:
        text += ", and nothing since"
    _show(period.start, period.end, text, period.near)
    if len(period.near) <= 2 - period.open:
        click.echo("    (no record explains it)")


def _show_clock_steps(ledgers: Sequence[Path], as_json: bool) -> None:
    """Name the records whose time runs backwards."""
    for ledger in find_ledgers(ledgers):
        with suppress(OSError, EOFError, segments.DecompressionError):
            for step in records_that_run_backwards(ledger):
                fields = {"ledger": str(ledger.folder), "kind": "backwards", "seq": step.seq}
                dated = {
                    "time": times.format_time(step.time, microseconds=True),
                    "before": times.format_time(step.before, microseconds=True),
                }
                click.echo(
                    json.dumps({**fields, **dated}) if as_json else f"{ledger.folder}: {step}"
                )


def _show_feed_problem(database: index.Connection, problem: FeedProblem, as_json: bool) -> None:
    start = _naive(problem.start) if problem.start else _EPOCH
    end = _naive(problem.end)
    ((filed,),) = index.select_rows(database, _COUNT_FILED, [start, end])
    wanted = [start - _CONTEXT if problem.start else start, end + _CONTEXT, start, end, _MAX_SHOWN]
    records = index.select_records(database, _NEAR_FEED_PROBLEM, wanted)
    near = tuple(record for _, record in records)
    if as_json:
        fields = {
            "feed": str(problem.feed),
            "kind": problem.kind,
            "said": problem.text,
            "filed": filed,
        }
        click.echo(_json_object(problem.start, problem.end, fields, near))
        return
    silent = problem.kind is ProblemKind.SILENCE
    length = f" for {(end - start).total_seconds():.0f} s" if silent else ""
    text = f"{problem.feed.name}: {problem.text}{length}; the ledger shows {filed} filed meanwhile"
    _show(problem.start, problem.end, text, near)


def _show(start: datetime | None, end: datetime, text: str, near: tuple[Record, ...]) -> None:
    since = times.format_time(start) if start else "the beginning"
    click.echo(f"{since} to {times.format_time(end)}: {text}")
    for record in near:
        click.echo(f"    {format_record_line(record)}")


def _json_object(
    start: datetime | None, end: datetime, fields: dict[str, Any], near: tuple[Record, ...]
) -> str:
    records = [json.loads(format_record(record)) for record in near]
    period = {"from": times.format_optional(start), "until": times.format_time(end)}
    return json.dumps({**period, **fields, "records": records}, ensure_ascii=False)


def _naive(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(tzinfo=None)


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC)
