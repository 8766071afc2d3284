"""What came of a rehearsal, held against what left the scanners.

Nothing here asks the publisher what it did. What left the scanners is known by name and digest;
the filing ledger has to have each once, with those bytes and the outcome that its kind deserves.
"""

import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from config.event import Filing, Transfer
from config.site import FILING, LEDGERS, OPERATIONS, TRANSFER
from keys.ledger import writer
from scripts.filing.status import count
from scripts.rehearsal.scanner import Kind
from scripts.shared import console

SSPS = [sys.executable, "-m", "scripts.ssps"]
_UNFILED = (Kind.BLANK, Kind.TORN, Kind.STRANGER)
_OF_PAGES = (Filing.FILED, Filing.DUPLICATE, Filing.QUARANTINED)
_DONE = ("filed", "versions", "duplicates", "quarantined")
_MOST_NAMED = 20
_CHECKS = (("verify",), ("audit", "verify"))


@dataclass(frozen=True)
class Delivered:
    """A file that a scanner has delivered, and when it was there whole."""

    name: str
    sha256: str
    kind: Kind
    at: datetime


def wait_until_filed(site: Path, pages: int, patience: float) -> None:
    """Wait until all is filed or set aside; TimeoutError if nothing was for `patience` seconds."""
    before, since = -1, time.monotonic()
    while True:
        counts = count(site)
        done = sum(counts[key] for key in _DONE)
        if done >= pages:
            return
        if done > before:
            before, since = done, time.monotonic()
        if time.monotonic() - since > patience:
            raise TimeoutError(f"{done} of {pages} pages, and none for {patience:.0f} s")
        time.sleep(0.5 if pages < 10_000 else 5)


def lags(site: Path, delivered: list[Delivered]) -> tuple[list[float], list[str]]:
    """Return, in seconds, how long each page took to be in the last tree, and what went wrong."""
    at = {d.name: d for d in delivered}
    taken, wrong = [], []
    for record in writer.read(site / LEDGERS / FILING):
        event = record.event
        if event.event not in _OF_PAGES:
            continue
        page = at.pop(event.origin, None)
        if page is None:
            wrong.append(f"{event.origin}: recorded twice, or never delivered")
        elif event.detail["sha256"] != page.sha256:
            wrong.append(f"{event.origin}: other bytes than left the scanner")
        elif (event.event == Filing.QUARANTINED) != (page.kind in _UNFILED):
            wrong.append(f"{event.origin}: {page.kind} became {event.event}")
        elif event.event == Filing.FILED:
            taken.append((record.time - page.at).total_seconds())
    wrong += [f"{name}: no record" for name in at]
    return sorted(taken), wrong[:_MOST_NAMED]


def percentile(values: list[float], share: int) -> float | None:
    """Return that percentile of sorted values, to the millisecond."""
    if not values:
        return None
    return round(values[min(len(values) - 1, len(values) * share // 100)], 3)


def checks(site: Path) -> dict[str, str]:
    """Return what the site's own reckoning says of itself: `passed` or `failed`."""
    return {" ".join(words): _says(site, words) for words in _CHECKS}


def _says(site: Path, words: tuple[str, ...]) -> str:
    done = subprocess.run([*SSPS, *words, "--site", str(site)], capture_output=True, text=True)
    if done.returncode:
        console.err.print(f"ssps {' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return "failed" if done.returncode else "passed"


def transfers(site: Path) -> dict[str, int]:
    """Count what the transfer ledger says: sessions, files, bytes."""
    sessions = files = sent = 0
    for record in writer.read(site / LEDGERS / TRANSFER):
        detail = record.event.detail
        sessions += record.event.event == Transfer.LOGIN
        if record.event.event == Transfer.CLOSE and isinstance(detail.get("bytes"), int):
            files += 1
            sent += int(str(detail["bytes"]))
    return {"sessions": sessions, "files_sent": files, "bytes_sent": sent}


def ledgers(site: Path) -> dict[str, dict[str, int]]:
    """Return how long each ledger is."""
    found = {}
    for name in (TRANSFER, FILING, OPERATIONS):
        folder = site / LEDGERS / name
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        found[name] = {"records": writer.next_seq(folder), "bytes": size}
    return found


def show(report: Mapping[str, object]) -> str:
    """Write a report for reading, a line an answer."""
    return "\n".join(f"{key.replace('_', ' '):<22}{_shown(value)}" for key, value in report.items())


def _shown(value: object) -> str:
    match value:
        case dict():
            return ", ".join(f"{k}: {_shown(v)}" for k, v in value.items()) or "none"
        case list():
            return "; ".join(map(str, value)) or "none"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
    return str(value)
