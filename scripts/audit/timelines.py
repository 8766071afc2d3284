"""`ssps audit timeline`: follow one sheet from its scan to the first download by each party."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from config import layout, times
from config.event import Event
from keys.ledger import merkle
from keys.ledger.record import Record, format_record
from scripts.audit import evidence, index
from scripts.audit.record_text import format_value, printable
from scripts.shared import console

_BOX = re.compile(r"([^/]+)/([^/]+)/(?:sandik-)?([^/.]+)")
_ARRIVAL_TIME = "%Y%m%dT%H%M%S%f"  # at the start of an arrival's id
# A sheet is named by its path, its karekod, the SHA-256 of its bytes, or its arrival's id.
_FILING = """name = 'filing' and (ltrim(what, '/') = ? or (detail->>'karekod') = ?
    or (detail->>'sha256') = ? or (detail->>'page') = ?) order by time"""
# Commands of operators about the sheet, its box, or its file in quarantine.
_OPERATOR_ACTIONS = """name = 'operations' and event <> 'asked' and list_contains(?, what)
    order by time"""
_DOWNLOADS = """name = 'transfer' and what = ? and event in ('open', 'close') and outcome = 'ok'
    order by time"""
_VIEWS = """name = 'access' and ltrim(what, '/') = ? and event = 'sheet' and outcome = 'ok'
    order by time"""
_BOX_PATHS = """select distinct ltrim(what, '/') from record
    where name = 'filing' and event = 'filed' and contains(what, ?) order by 1"""
_BOX_RESULTS = "name = 'results' and what = ? order by time"
_RESULT_KEYS = ("secim", "version", "reason", "batch", "line", "message")
_FILING_KEYS = ("karekod", "version", "parties", "engine", "ms", "reason", "sha256")


@dataclass(frozen=True, slots=True)
class Step:
    """One step in the life of a sheet: when, what, by whom, and the record that proves it."""

    time: datetime
    step: str
    who: str
    what: str
    record: Record
    log: str

    @property
    def hash(self) -> str:
        """The record's leaf hash in the Merkle tree of its ledger."""
        return merkle.hash_leaf(format_record(self.record)).hex()


@click.command()
@click.argument("sheet")
@evidence.folders_argument
@click.option("--every", is_flag=True, help="Show every download and view, not only the first.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each step.")
@console.with_optional_site
def timeline(
    sheet: str, folders: tuple[Path, ...], every: bool, as_json: bool, site: Path | None
) -> None:
    """Show the history of SHEET from scanner to first downloads.

    It includes what operators did about the sheet, its box or its file in quarantine, and why, and
    who saw it on the web site.

    SHEET is its path in a tree, its karekod, the SHA-256 of its bytes or its arrival's id. It may
    also be a box, 34-istanbul-1/kadikoy-2/1234: then all its sheets and results are shown.

    FOLDER is a ledger or contains ledgers. Default: the site's ledgers.
    """
    sources = evidence.find(folders, (), site, with_keys=False)
    database, wanted = index.open_index(sources.ledgers), sheet.lstrip("/")
    box = _BOX.fullmatch(wanted)
    if box is not None:
        steps = box_steps(database, *box.groups(), every=every)
    else:
        steps = list(sheet_steps(database, wanted, every=every))
    if not steps:
        wrong = "no record of this sheet: give its path, karekod or SHA-256, or its box"
        raise console.fault(sheet, "", wrong)
    for step in steps:
        click.echo(_format_json(step) if as_json else _format_line(step))


def _format_json(step: Step) -> str:
    fields = {
        "time": times.format_time(step.time, microseconds=True),
        "step": step.step,
        "who": step.who,
        "what": step.what,
        "ledger": step.log,
        "seq": step.record.seq,
        "hash": step.hash,
        "record": json.loads(format_record(step.record)),
    }
    return json.dumps(fields, ensure_ascii=False)


def _format_line(step: Step) -> str:
    stamp = times.format_time(step.time, microseconds=True)
    source = f"{Path(step.log).name} #{step.record.seq} {step.hash[:16]}"
    return printable(f"{stamp}  {step.step:12} {step.who or '-':12} {step.what}  [{source}]")


def box_steps(
    database: index.Connection, cevre: str, kurul: str, sandik: str, *, every: bool = False
) -> list[Step]:
    """Return the steps of all sheets of a box, and of its results, in order of time."""
    box = f"{cevre}/{kurul}/sandik-{sandik}"
    found: dict[tuple[str, int, str], Step] = {}
    for (path,) in index.select_rows(database, _BOX_PATHS, [f"/{box}/"]):
        for step in sheet_steps(database, path, every=every):
            found[step.log, step.record.seq, step.step] = step
    for log, record in index.select_records(database, _BOX_RESULTS, [box]):
        event = record.event
        told = " ".join(f"{k}={event.detail[k]}" for k in _RESULT_KEYS if event.detail.get(k))
        step = Step(record.time, event.event, event.who, f"{event.what} {told}", record, log)
        found[log, record.seq, event.event] = step
    return sorted(found.values(), key=lambda step: step.time)


def sheet_steps(database: index.Connection, sheet: str, *, every: bool = False) -> Iterator[Step]:
    """Yield the steps of a sheet in order of time; `every` download and view, or the first ones."""
    steps: list[Step] = []
    paths: list[str] = []
    names: set[str] = set()
    for log, record in index.select_records(database, _FILING, [sheet] * 4):
        steps += _filing_steps(log, record)
        names |= _operator_names(record.event)
        if record.event.event == "filed" and record.event.what not in paths:
            paths.append(record.event.what)
    for log, record in index.select_records(database, _OPERATOR_ACTIONS, [sorted(names)]):
        event = record.event
        what = f"{event.what} {event.outcome} why={format_value(event.detail.get('why'))}"
        steps.append(Step(record.time, event.event, event.who, what, record, log))
    for path in paths:
        seen: set[tuple[str, str]] = set()
        records = index.select_records(database, _DOWNLOADS, ["/" + path.lstrip("/")])
        for log, record in records:
            event = record.event
            complete = event.event == "close" and event.detail.get("complete") is True
            name = "opened" if event.event == "open" else "fetched" if complete else ""
            if name and (every or (event.who, name) not in seen):
                seen.add((event.who, name))
                sha256 = event.detail.get("sha256")
                what = f"{event.what} sha256={sha256}" if isinstance(sha256, str) else event.what
                steps.append(Step(record.time, name, event.who, what, record, log))
        for log, record in index.select_records(database, _VIEWS, [path.lstrip("/")]):
            event = record.event
            if every or (event.who, "viewed") not in seen:
                seen.add((event.who, "viewed"))
                what = f"{event.what} user={event.detail.get('user')}"
                steps.append(Step(record.time, "viewed", event.who, what, record, log))
    yield from sorted(steps, key=lambda step: step.time)


def _operator_names(event: Event) -> set[str]:
    """Return the names by which operators' commands may call a filed sheet: karekod, box, file."""
    names = {str(event.detail[key]) for key in ("identifies", "karekod") if key in event.detail}
    with suppress(ValueError):
        sheet = layout.parse(event.what.lstrip("/")).sheet
        if sheet.sandik:
            names.add(f"{sheet.cevre}/{sheet.kurul}/{sheet.sandik}")
    return names


def _filing_steps(log: str, record: Record) -> Iterator[Step]:
    """Yield the scan, whose time is in the arrival's id, and the filing."""
    event = record.event
    page = str(event.detail.get("page", ""))
    try:
        arrived = datetime.strptime(page.partition("-")[0], _ARRIVAL_TIME).replace(tzinfo=UTC)
    except ValueError:
        arrived = None
    if arrived is not None:
        yield Step(arrived, "scanned", "", event.origin, record, log)
    detail = " ".join(f"{key}={event.detail[key]}" for key in _FILING_KEYS if key in event.detail)
    yield Step(record.time, event.event, event.who, f"{event.what} {detail}", record, log)
