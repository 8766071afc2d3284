"""`ssps audit export`: write the transfer ledger in formats that other audit tools read.

    xferlog    one line for each file that was sent, as wu-ftpd and ProFTPD write it
    ecs        Elastic Common Schema 8, one JSON object for each record
    ocsf       Open Cybersecurity Schema Framework 1.3, one JSON object for each record: class 3002
               Authentication for logins, 6006 File Hosting Activity for files and folders, 4007
               SSH Activity for connections

Every JSON object names the ledger and the number of its record.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from config.event import Outcome, TransferEvent
from config.site import TRANSFER
from keys.ledger import segments
from keys.ledger.record import Record
from scripts.audit import evidence
from scripts.shared import console

_LOGINS = (TransferEvent.LOGIN, TransferEvent.LOGIN_REFUSED)
_REGULAR, _FOLDER = 1, 2  # OCSF: file.type_id
_DOWNLOAD, _OPEN, _OTHER = 2, 14, 99  # OCSF: activity_id of class 6006


@click.command()
@evidence.folders_argument
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["xferlog", "ecs", "ocsf"]),
    help="Output format; it must be stated, or --json.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format ecs.")
@console.with_optional_site
def export(
    folders: tuple[Path, ...], format_name: str | None, as_json: bool, site: Path | None
) -> None:
    """Write the transfer ledgers in a format of other tools.

    The lines are written to stdout.

    FOLDER is a ledger or contains ledgers. Default: the site's ledgers.
    """
    if format_name is None:
        if not as_json:
            raise click.UsageError("no format given: use --format xferlog, ecs or ocsf, or --json")
        format_name = "ecs"
    elif as_json and format_name == "xferlog":
        raise click.UsageError("xferlog is not JSON: use --format ecs or ocsf")
    sources = evidence.find(folders, (), site, with_keys=False)
    format_record = _FORMATS[format_name]
    for folder in sources.of_kind(TRANSFER):
        try:
            for record in segments.read_records(folder):
                text = format_record(folder.name, record)
                if text is not None:
                    click.echo(text)
        except ValueError as error:
            wrong = "is not a valid record: run `ssps audit verify`"
            raise console.fault(str(error), "", wrong) from None


def xferlog(_: str, record: Record) -> str | None:
    """Return the xferlog line of a CLOSE record; None for other records."""
    event = record.event
    if event.event != TransferEvent.CLOSE:
        return None
    seconds = max(1, round(_count(event.detail.get("ms")) / 1000))
    name = "".join("_" if c.isspace() or not c.isprintable() else c for c in event.what)
    done = "c" if event.detail.get("complete") is True else "i"
    stamp = f"{record.time:%a %b} {record.time.day:2} {record.time:%H:%M:%S %Y}"
    size = _count(event.detail.get("bytes"))
    return f"{stamp} {seconds} {event.origin} {size} {name} b _ o r {event.who} sftp 0 * {done}"


def ecs(name: str, record: Record) -> str:
    """Return the record as a JSON object of the Elastic Common Schema."""
    event, detail = record.event, record.event.detail
    kind = ["authentication"] if event.event in _LOGINS else ["network"]
    if event.what:
        kind = ["file"]
    ending = event.event in (TransferEvent.CLOSE, TransferEvent.SESSION_END)
    outcome = "success" if event.outcome is Outcome.OK else "failure"
    fields: dict[str, Any] = {
        "@timestamp": _stamp(record),
        "ecs": {"version": "8.11.0"},
        "event": {
            "kind": "event",
            "category": kind,
            "type": ["end"] if ending else ["access"] if event.what else ["start"],
            "action": event.event,
            "outcome": outcome,
            "dataset": f"ssps.{name}",
            "provider": "ssps",
            "sequence": record.seq,
        },
        "source": {"ip": event.origin},
        "user": {"name": event.who},
        "network": {"protocol": "sftp", "application": "ssh", "transport": "tcp"},
        "ssps": dict(detail),
    }
    if "reason" in detail:
        fields["event"]["reason"] = detail["reason"]
    if "ms" in detail:
        fields["event"]["duration"] = _count(detail["ms"]) * 1_000_000
    if event.what:
        fields["file"] = {"path": event.what, **_size(detail.get("size"))}
        if isinstance(detail.get("sha256"), str):
            fields["file"]["hash"] = {"sha256": detail["sha256"]}
    if "bytes" in detail:
        fields["source"]["bytes"] = 0
        fields["destination"] = {"bytes": _count(detail["bytes"])}
    if "client" in detail:
        fields["user_agent"] = {"original": detail["client"]}
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def ocsf(ledger_name: str, record: Record) -> str:
    """Return the record as a JSON object of the Open Cybersecurity Schema Framework."""
    event, detail = record.event, record.event.detail
    logging_in, on_file = event.event in _LOGINS, bool(event.what)
    group, category, activity = 4007, 4, _OTHER
    if logging_in:
        group, category, activity = 3002, 3, 1  # Logon
    elif on_file:
        group, category = 6006, 6
        activities = {str(TransferEvent.CLOSE): _DOWNLOAD, str(TransferEvent.OPEN): _OPEN}
        activity = activities.get(event.event, _OTHER)
    good = event.outcome is Outcome.OK
    fields: dict[str, Any] = {
        "time": round(record.time.timestamp() * 1000),
        "class_uid": group,
        "category_uid": category,
        "activity_id": activity,
        "type_uid": group * 100 + activity,
        "activity_name": event.event,
        "severity_id": 1 if good else 2,
        "status_id": 1 if good else 2,
        "status": "Success" if good else "Failure",
        "metadata": {
            "version": "1.3.0",
            "product": {"name": "ssps", "vendor_name": "YSK"},
            "log_name": ledger_name,
            "sequence": record.seq,
            "original_time": _stamp(record),
        },
        "src_endpoint": {"ip": event.origin},
        "unmapped": dict(detail),
    }
    who = {"name": event.who}
    fields.update({"user": who} if logging_in else {"actor": {"user": who}})
    if "reason" in detail:
        fields["status_detail"] = detail["reason"]
    if on_file:
        kind = _FOLDER if event.event == TransferEvent.LIST else _REGULAR
        name = event.what.rpartition("/")[2] or "/"
        file: dict[str, Any] = {"name": name, "path": event.what, "type_id": kind}
        file |= _size(detail.get("size"))
        if isinstance(hashed := detail.get("sha256"), str):
            file["hashes"] = [{"algorithm_id": 3, "algorithm": "SHA-256", "value": hashed}]
        fields["file"] = file
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


_FORMATS: dict[str, Callable[[str, Record], str | None]] = {
    "xferlog": xferlog,
    "ecs": ecs,
    "ocsf": ocsf,
}


def _stamp(record: Record) -> str:
    return record.time.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _size(value: object) -> dict[str, int]:
    return {"size": value} if isinstance(value, int) else {}
