"""`ssps audit query`: who did what, when, from where, and how it ended."""

import csv
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from config.event import Value
from config.site import LEDGER_NAMES
from keys.ledger import writer as ledger
from scripts.audit import evidence, index
from scripts.audit.record_text import CHANGE_KEYS, format_record_line
from scripts.shared import console

_COLUMNS = ("ledger", "seq", "time", "event", "who", "from", "what", "outcome", "why",
            "before", "after", "reason", "detail")  # fmt: skip


def parse_time(_: click.Context, __: click.Parameter, value: str | None) -> datetime | None:
    """Read a time; without a zone it is this machine's."""
    if value is None:
        return None
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except ValueError:
        raise click.BadParameter("write a time such as 2023-05-14T17:00:00+03:00") from None


@click.command()
@evidence.folders_argument
@click.option("--ledger", "name", type=click.Choice(LEDGER_NAMES), help="Only this one.")
@click.option("--party", help="Who did it: the party, or the user name as it was offered.")
@click.option("--since", callback=parse_time, help="From this time on.")
@click.option("--until", callback=parse_time, help="Before this time.")
@click.option("--path", help="What it was done to: a path, or a pattern with * and ?.")
@click.option("--event", help="What happened, such as close or login-refused.")
@click.option("--outcome", type=click.Choice(["ok", "refused", "failed"]))
@click.option("--address", help="From where.")
@click.option("--credential", help="A fingerprint or its beginning: what its sessions did.")
@click.option("-n", "--limit", type=click.IntRange(1), help="At most so many, the first ones.")
@click.option("--json", "form", flag_value="json", help="The ledgers' own lines.")
@click.option("--csv", "form", flag_value="csv")
@click.option("--rebuild", is_flag=True, help="Throw the index away and make it anew.")
@console.with_optional_site
def query(
    folders: tuple[Path, ...],
    name: str | None,
    party: str | None,
    since: datetime | None,
    until: datetime | None,
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
    """Pick out records, in the order of their times.

    FOLDER is a copy of a ledger or of several; without one, the site's.
    """
    sources = evidence.find(folders, (), site, with_keys=False)
    database = index.open_index(sources.ledgers, rebuild)
    stated = {
        "name = ?": name,
        "who = ?": party,
        "time >= ?": since.replace(tzinfo=None) if since else None,
        "time < ?": until.replace(tzinfo=None) if until else None,
        "event = ?": event,
        "outcome = ?": outcome,
        "origin = ?": address,
        "what glob ?": path,
        _CREDENTIAL_CONDITION: credential,
    }
    conditions = [text for text, value in stated.items() if value is not None]
    values = [value for value in stated.values() if value is not None]
    condition = " and ".join(conditions) or "true"
    condition += " order by time, log, seq" + (f" limit {limit}" if limit else "")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if form == "csv":
        writer.writerow(_COLUMNS)
    for log, record in index.select_records(database, condition, values):
        told = record.event
        if form == "json":
            click.echo(ledger.format_record(record), nl=False)
        elif form == "csv":
            detail = json.dumps(dict(told.detail), ensure_ascii=False)
            change = [_format_cell(told.detail.get(key)) for key in CHANGE_KEYS]
            answers = (told.event, told.who, told.origin, told.what, told.outcome.value)
            stamp = record.time.isoformat(timespec="microseconds")
            writer.writerow(
                (log, record.seq, stamp, *map(_escape_formula, (*answers, *change, detail)))
            )
        else:
            click.echo(format_record_line(record))


# Its own records name it; what its sessions did after that names the session.
_CREDENTIAL_CONDITION = """(log, session) in (select (log, session) from record
    where starts_with(credential, ?) and session is not null)"""


def _format_cell(value: Value) -> str:
    if isinstance(value, list):
        return "; ".join(value)
    return "" if value is None else str(value)


def _escape_formula(text: str) -> str:
    # A spreadsheet would take it for a formula (a client may choose its user name).
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
