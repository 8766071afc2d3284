"""`ssps audit query`: find records by party, time, path, outcome, address or credential."""

import csv
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from config import times
from config.event import Value
from config.site import LEDGER_NAMES
from keys.ledger.record import format_record
from scripts.audit import evidence, index
from scripts.audit.record_text import CHANGE_KEYS, format_record_line
from scripts.shared import console
from scripts.shared.time_types import TIME, TIME_FORMS, StatedTime

_COLUMNS = ("ledger", "seq", "time", "event", "who", "from", "what", "outcome", "why",
            "before", "after", "reason", "detail")  # fmt: skip


@click.command()
@evidence.folders_argument
@click.option(
    "--ledger", "name", type=click.Choice(LEDGER_NAMES), help="Only records of this ledger."
)
@click.option("--party", help="Who did it: a party, or a user name from a failed login.")
@click.option("--since", type=TIME, help=f"At this time or later: {TIME_FORMS}.")
@click.option("--until", type=TIME, help="Before this time, written like --since.")
@click.option("--path", help="The path it was done to, or a pattern with * and ?.")
@click.option("--event", help="The event, such as close or login-refused.")
@click.option("--outcome", type=click.Choice(["ok", "refused", "failed"]), help="How it ended.")
@click.option("--address", help="The IP address it came from.")
@click.option("--credential", help="A fingerprint or its beginning: all its sessions.")
@click.option("-n", "--limit", type=click.IntRange(1), help="Print only the first N records.")
@click.option("--json", "form", flag_value="json", help="Print the JSON lines unchanged.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV for a spreadsheet.")
@click.option("--rebuild", is_flag=True, help="Delete the index and build it again.")
@console.with_optional_site
def query(
    folders: tuple[Path, ...],
    name: str | None,
    party: str | None,
    since: StatedTime | None,
    until: StatedTime | None,
    path: str | None,
    event: str | None,
    outcome: str | None,
    address: str | None,
    credential: str | None,
    limit: int | None,
    form: str | None,
    rebuild: bool,
    site: Path | None,
) -> None:
    """Print the records that meet all conditions, in order of time.

    FOLDER is a ledger or contains ledgers. Default: the site's ledgers.
    """
    sources = evidence.find(folders, (), site, with_keys=False)
    database = index.open_index(sources.ledgers, rebuild)
    filters = {
        "name = ?": name,
        "who = ?": party,
        "time >= ?": _naive(since),
        "time < ?": _naive(until),
        "event = ?": event,
        "outcome = ?": outcome,
        "origin = ?": address,
        "what glob ?": path,
        _CREDENTIAL_CONDITION: credential,
    }
    conditions = [text for text, value in filters.items() if value is not None]
    values = [value for value in filters.values() if value is not None]
    condition = " and ".join(conditions) or "true"
    condition += " order by time, log, seq" + (f" limit {limit}" if limit else "")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if form == "csv":
        writer.writerow(_COLUMNS)
    for log, record in index.select_records(database, condition, values):
        recorded = record.event
        if form == "json":
            click.echo(format_record(record), nl=False)
        elif form == "csv":
            detail = json.dumps(dict(recorded.detail), ensure_ascii=False)
            change = [_format_cell(recorded.detail.get(key)) for key in CHANGE_KEYS]
            columns = (
                recorded.event,
                recorded.who,
                recorded.origin,
                recorded.what,
                recorded.outcome.value,
            )
            stamp = times.format_time(record.time, microseconds=True)
            writer.writerow(
                (log, record.seq, stamp, *map(_escape_formula, (*columns, *change, detail)))
            )
        else:
            click.echo(format_record_line(record))


# Only the login record of a session names the credential; its other records name the session.
_CREDENTIAL_CONDITION = """(log, session) in (select (log, session) from record
    where starts_with(credential, ?) and session is not null)"""


def _naive(stated: StatedTime | None) -> datetime | None:
    """Return the time in UTC as the index holds it, without a zone."""
    return stated.at(console.utc_now()).astimezone(UTC).replace(tzinfo=None) if stated else None


def _format_cell(value: Value) -> str:
    if isinstance(value, list):
        return "; ".join(value)
    return "" if value is None else str(value)


def _escape_formula(text: str) -> str:
    # A client chooses its user name; a spreadsheet would run a name such as "=cmd" as a formula.
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
