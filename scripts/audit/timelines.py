"""`ssps audit timeline`: one sheet from its scan to each party's first fetch, with hashes."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from config import layout
from config.event import Event
from keys.ledger import merkle, writer
from keys.ledger.record import Record
from scripts.audit import evidence, index
from scripts.audit.record_text import format_value
from scripts.shared import console

_STAMP = "%Y%m%dT%H%M%S%f"
# By its path, its karekod, the SHA-256 of its bytes, or the arrival that brought it.
_FILED = """name = 'filing' and (ltrim(what, '/') = ? or (detail->>'karekod') = ?
    or (detail->>'sha256') = ? or (detail->>'page') = ?) order by time"""
# What operators were about with the sheet, its box, or the file in quarantine that shows it.
_OPERATOR_ACTIONS = (
    """name = 'operations' and event <> 'asked' and list_contains(?, what) order by time"""
)
_FETCHED = """name = 'transfer' and what = ? and event in ('open', 'close') and outcome = 'ok'
    order by time"""


@dataclass(frozen=True, slots=True)
class Step:
    """One link of the chain: when, what, by whom, and the record that says so."""

    time: datetime
    step: str
    who: str
    what: str
    record: Record
    log: str

    @property
    def hash(self) -> str:
        """The record's hash in the ledger's tree."""
        return merkle.leaf(writer.format_record(self.record)).hex()


@click.command()
@click.argument("sheet")
@evidence.folders_argument
@click.option("--json", "as_json", is_flag=True, help="One object a step.")
@console.with_optional_site
def timeline(sheet: str, folders: tuple[Path, ...], as_json: bool, site: Path | None) -> None:
    """Tell what became of SHEET: scanned, read, filed, and first fetched by each party.

    What operators did about it, its box or its file in quarantine stands between, with why.

    SHEET is its path in a tree, its karekod, the SHA-256 of its bytes or its arrival's id.
    """
    sources = evidence.find(folders, (), site, with_keys=False)
    steps = list(sheet_steps(index.open_index(sources.ledgers), sheet.lstrip("/")))
    if not steps:
        wrong = "no record of such a sheet, name its path, karekod or SHA-256"
        raise console.fault(sheet, "", wrong)
    for step in steps:
        if as_json:
            told = {
                "time": step.time.isoformat(),
                "step": step.step,
                "who": step.who,
                "what": step.what,
                "ledger": step.log,
                "seq": step.record.seq,
                "hash": step.hash,
                "record": json.loads(writer.format_record(step.record)),
            }
            click.echo(json.dumps(told, ensure_ascii=False))
        else:
            stamp = step.time.astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")
            name = Path(step.log).name
            place = f"{name} #{step.record.seq} {step.hash[:16]}"
            text = f"{stamp}  {step.step:12} {step.who or '-':12} {step.what}  [{place}]"
            click.echo("".join(c if c.isprintable() else repr(c)[1:-1] for c in text))


def sheet_steps(database: index.Connection, sheet: str) -> Iterator[Step]:
    """Yield the steps of a sheet in order of time."""
    found: list[Step] = []
    paths: list[str] = []
    about: set[str] = set()
    for log, record in index.select_records(database, _FILED, [sheet] * 4):
        found += _filing_steps(log, record)
        about |= _operator_names(record.event)
        if record.event.event == "filed" and record.event.what not in paths:
            paths.append(record.event.what)
    for log, record in index.select_records(database, _OPERATOR_ACTIONS, [sorted(about)]):
        told = record.event
        why = f"{told.what} {told.outcome} why={format_value(told.detail.get('why'))}"
        found.append(Step(record.time, told.event, told.who, why, record, log))
    for path in paths:
        firsts: set[tuple[str, str]] = set()
        for log, record in index.select_records(database, _FETCHED, ["/" + path.lstrip("/")]):
            told = record.event
            whole = told.event == "close" and told.detail.get("complete") is True
            step = "opened" if told.event == "open" else "fetched" if whole else ""
            if step and (told.who, step) not in firsts:
                firsts.add((told.who, step))
                hashed = told.detail.get("sha256")
                what = f"{told.what} sha256={hashed}" if isinstance(hashed, str) else told.what
                found.append(Step(record.time, step, told.who, what, record, log))
    yield from sorted(found, key=lambda step: step.time)


def _operator_names(told: Event) -> set[str]:
    """Return by what names operators' commands call a sheet that was filed."""
    names = {str(told.detail[key]) for key in ("identifies", "karekod") if key in told.detail}
    with suppress(ValueError):
        sheet = layout.parse(told.what.lstrip("/")).sheet
        if sheet.sandik:
            names.add(f"{sheet.cevre}/{sheet.kurul}/{sheet.sandik}")
    return names


def _filing_steps(log: str, record: Record) -> Iterator[Step]:
    told = record.event
    page = str(told.detail.get("page", ""))
    try:
        arrived = datetime.strptime(page.partition("-")[0], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        arrived = None
    if arrived is not None:
        yield Step(arrived, "scanned", "", told.origin, record, log)
    stated = " ".join(
        f"{key}={told.detail[key]}"
        for key in ("karekod", "version", "parties", "engine", "ms", "reason", "sha256")
        if key in told.detail
    )
    yield Step(record.time, told.event, told.who, f"{told.what} {stated}", record, log)
