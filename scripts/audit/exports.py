"""`ssps audit export`: the transfer ledger for the tools that auditors have.

    xferlog    a line for each file that was sent, as wu-ftpd and ProFTPD write them
    ecs        Elastic Common Schema 8, an object a record
    ocsf       Open Cybersecurity Schema Framework 1.3: 3002 Authentication for logins, 6006 File
               Hosting Activity for files and folders, 4007 SSH Activity for connections

Every object names ledger and number of the record that it was made of.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from config.event import Outcome, Transfer
from config.site import TRANSFER
from keys.ledger import writer
from keys.ledger.record import Record
from scripts.audit import evidence
from scripts.shared import console

_LOGINS = (Transfer.LOGIN, Transfer.LOGIN_REFUSED)
_REGULAR, _FOLDER = 1, 2  # OCSF's file types
_DOWNLOAD, _OPEN, _OTHER = 2, 14, 99  # its File Hosting activities


@click.command()
@evidence.folders_argument
@click.option("--format", "form", type=click.Choice(["xferlog", "ecs", "ocsf"]), required=True)
@console.with_optional_site
def export(folders: tuple[Path, ...], form: str, site: Path | None) -> None:
    """Write the transfer ledgers to stdout in a form that other tools read."""
    sources = evidence.find(folders, (), site, with_keys=False)
    write = _FORMS[form]
    for folder in sources.named(TRANSFER):
        try:
            for record in writer.read(folder):
                text = write(folder.name, record)
                if text is not None:
                    click.echo(text)
        except ValueError as error:
            raise console.fault(str(error), "", "is no record, see `ssps audit verify`") from None


def xferlog(_: str, record: Record) -> str | None:
    """Return the line of a close; None for anything else."""
    told = record.event
    if told.event != Transfer.CLOSE:
        return None
    seconds = max(1, round(_count(told.detail.get("ms")) / 1000))
    name = "".join("_" if c.isspace() or not c.isprintable() else c for c in told.what)
    done = "c" if told.detail.get("complete") is True else "i"
    stamp = f"{record.time:%a %b} {record.time.day:2} {record.time:%H:%M:%S %Y}"
    size = _count(told.detail.get("bytes"))
    return f"{stamp} {seconds} {told.origin} {size} {name} b _ o r {told.who} sftp 0 * {done}"


def ecs(name: str, record: Record) -> str:
    """Return an object of the Elastic Common Schema."""
    told, detail = record.event, record.event.detail
    kind = ["authentication"] if told.event in _LOGINS else ["network"]
    if told.what:
        kind = ["file"]
    ending = told.event in (Transfer.CLOSE, Transfer.SESSION_END)
    outcome = "success" if told.outcome is Outcome.OK else "failure"
    found: dict[str, Any] = {
        "@timestamp": _stamp(record),
        "ecs": {"version": "8.11.0"},
        "event": {
            "kind": "event",
            "category": kind,
            "type": ["end"] if ending else ["access"] if told.what else ["start"],
            "action": told.event,
            "outcome": outcome,
            "dataset": f"ssps.{name}",
            "provider": "ssps",
            "sequence": record.seq,
        },
        "source": {"ip": told.origin},
        "user": {"name": told.who},
        "network": {"protocol": "sftp", "application": "ssh", "transport": "tcp"},
        "ssps": dict(detail),
    }
    if "reason" in detail:
        found["event"]["reason"] = detail["reason"]
    if "ms" in detail:
        found["event"]["duration"] = _count(detail["ms"]) * 1_000_000
    if told.what:
        found["file"] = {"path": told.what, **_size(detail.get("size"))}
        if isinstance(detail.get("sha256"), str):
            found["file"]["hash"] = {"sha256": detail["sha256"]}
    if "bytes" in detail:
        found["source"]["bytes"] = 0
        found["destination"] = {"bytes": _count(detail["bytes"])}
    if "client" in detail:
        found["user_agent"] = {"original": detail["client"]}
    return json.dumps(found, ensure_ascii=False, separators=(",", ":"))


def ocsf(ledger_name: str, record: Record) -> str:
    """Return an object of the Open Cybersecurity Schema Framework."""
    told, detail = record.event, record.event.detail
    logging_in, on_file = told.event in _LOGINS, bool(told.what)
    group, category, activity = 4007, 4, _OTHER
    if logging_in:
        group, category, activity = 3002, 3, 1  # Logon
    elif on_file:
        group, category = 6006, 6
        activities = {str(Transfer.CLOSE): _DOWNLOAD, str(Transfer.OPEN): _OPEN}
        activity = activities.get(told.event, _OTHER)
    good = told.outcome is Outcome.OK
    found: dict[str, Any] = {
        "time": round(record.time.timestamp() * 1000),
        "class_uid": group,
        "category_uid": category,
        "activity_id": activity,
        "type_uid": group * 100 + activity,
        "activity_name": told.event,
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
        "src_endpoint": {"ip": told.origin},
        "unmapped": dict(detail),
    }
    who = {"name": told.who}
    found.update({"user": who} if logging_in else {"actor": {"user": who}})
    if "reason" in detail:
        found["status_detail"] = detail["reason"]
    if on_file:
        kind = _FOLDER if told.event == Transfer.LIST else _REGULAR
        name = told.what.rpartition("/")[2] or "/"
        file: dict[str, Any] = {"name": name, "path": told.what, "type_id": kind}
        file |= _size(detail.get("size"))
        if isinstance(hashed := detail.get("sha256"), str):
            file["hashes"] = [{"algorithm_id": 3, "algorithm": "SHA-256", "value": hashed}]
        found["file"] = file
    return json.dumps(found, ensure_ascii=False, separators=(",", ":"))


_FORMS: dict[str, Callable[[str, Record], str | None]] = {
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
