"""Compares the result of a rehearsal with what the scanners delivered.

Each delivered page is known by name and SHA-256. The filing ledger must have one record of it,
with the same SHA-256 and the outcome that its kind requires. Nothing here relies on the publisher's
own counts.
"""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from config.event import FilingEvent, ResultsEvent, TransferEvent
from config.result import BOX_SHEET
from config.site import FILING, LEDGERS, RESULTS_LEDGER, TRANSFER, ledger_names
from keys.ledger import merged, segments
from keys.ledger.record import Record
from publisher.election import terms
from publisher.results.checks.finding import FindingKind
from publisher.results.reading import open_results
from publisher.results.snapshots.folder import latest_number
from scripts.filing.status import SETTLED, count_sheets
from scripts.rehearsal.synthetic.result_batches import ERRORS, InjectedError, RehearsalResults
from scripts.rehearsal.synthetic.scanner import UNFILABLE, ScanKind
from scripts.shared import console

SSPS = [sys.executable, "-m", "scripts.ssps"]
_PAGE_EVENTS = (FilingEvent.FILED, FilingEvent.DUPLICATE, FilingEvent.QUARANTINED)
_MAX_NAMED = 20
_CHECKS = (("verify",), ("audit", "verify"))


@dataclass(frozen=True)
class DeliveredPage:
    """A file that a scanner delivered, and when it was complete."""

    name: str
    sha256: str
    kind: ScanKind
    at: datetime


def wait_until_filed(site: Path, pages: int, stall_seconds: float) -> None:
    """Wait until all pages are filed, a duplicate or in quarantine.

    Raises TimeoutError if there is no progress for `stall_seconds`.
    """
    before, since = -1, time.monotonic()
    while True:
        counts = count_sheets(site)
        done = sum(counts[key] for key in SETTLED)
        if done >= pages:
            return
        if done > before:
            before, since = done, time.monotonic()
        if time.monotonic() - since > stall_seconds:
            stalled = f"no progress for {stall_seconds:.0f} s"
            raise TimeoutError(f"only {done} of {pages} pages are filed, and {stalled}")
        time.sleep(0.5 if pages < 10_000 else 5)


def reconcile_pages(site: Path, delivered: list[DeliveredPage]) -> tuple[list[float], list[str]]:
    """Compare the filing ledger with what was delivered.

    Returns the sorted seconds from delivery to the last tree of each filed page, and a line for
    each page that is not accounted for.
    """
    pages = {page.name: page for page in delivered}
    lags, wrong = [], []
    for record in terms.records(site, terms.scan(site, FILING)):
        event = record.event
        if event.event not in _PAGE_EVENTS:
            continue
        page = pages.pop(event.origin, None)
        if page is None:
            wrong.append(f"{event.origin}: recorded twice, or never delivered")
        elif event.detail["sha256"] != page.sha256:
            wrong.append(f"{event.origin}: not the bytes that the scanner delivered")
        elif (event.event == FilingEvent.QUARANTINED) != (page.kind in UNFILABLE):
            wrong.append(f"{event.origin}: {page.kind} became {event.event}")
        elif event.event == FilingEvent.FILED:
            lags.append((record.time - page.at).total_seconds())
    wrong += [f"{name}: no record" for name in pages]
    return sorted(lags), wrong[:_MAX_NAMED]


def wait_for_results(site: Path, expected: int, stall_seconds: float) -> None:
    """Wait until every result is accepted and in a snapshot; TimeoutError without progress."""
    before, since = -1, time.monotonic()
    while True:
        with open_results(site) as reader:
            here, published = reader.number_of_results(), reader.is_published()
        if here >= expected and published:
            return
        if here > before:
            before, since = here, time.monotonic()
        if time.monotonic() - since > stall_seconds:
            raise TimeoutError(f"only {here} of {expected} results are in a snapshot")
        time.sleep(1)


def lags_of_results(site: Path, delivered: Mapping[str, datetime]) -> dict[str, float | None]:
    """Return how many seconds results took until they were on record, and in a snapshot.

    They are counted from the time at which the batch was complete, in `delivered`: percentiles 50
    and 99, and the longest. In the ledger a snapshot's record follows those of its results.
    """
    recorded: list[float] = []
    published: list[float] = []
    waiting: list[datetime] = []
    for record in terms.records(site, terms.scan(site, RESULTS_LEDGER)):
        event = record.event
        if event.event == ResultsEvent.ACCEPTED and event.origin in delivered:
            waiting.append(delivered[event.origin])
            recorded.append((record.time - waiting[-1]).total_seconds())
        elif event.event == ResultsEvent.SNAPSHOT:
            published += [(record.time - at).total_seconds() for at in waiting]
            waiting.clear()
    return {
        f"results_{name}_{what}": percentile(sorted(lags), share)
        for name, lags in (("recorded", recorded), ("published", published))
        for what, share in (("p50", 50), ("p99", 99), ("max", 100))
    }


def reconcile_results(site: Path, results: RehearsalResults, pages_ok: bool) -> dict[str, object]:
    """Compare the findings of the arithmetic checks with the errors that were injected.

    `recall` is the share of the injected errors that were found, `precision` the share of what
    these checks found that was injected. Hints are statistical, so they are reported apart, with
    how many there are for each 1,000 results of boxes.
    """
    with open_results(site) as reader:
        findings = list(reader.findings())
        rejected = len(reader.quarantined())
    found = {InjectedError(f.check, f.secim, f.places[0]) for f in findings if f.check in ERRORS}
    injected = set(results.injected)
    missed = sorted(f"{e.secim} {e.place}: {e.check} not found" for e in injected - found)
    extra = sorted(f"{e.secim} {e.place}: {e.check} not injected" for e in found - injected)
    kinds = Counter(finding.check.kind.value for finding in findings)
    hints = Counter(f.check.value for f in findings if f.check.kind is FindingKind.HINT)
    boxes = sum(key.belge is BOX_SHEET for key in results.sent)
    snapshots = latest_number(site)
    return {
        "results": len(results.sent),
        "results_rejected": rejected,
        "errors_injected": len(injected),
        "errors_missed": missed[:_MAX_NAMED],
        "errors_not_injected": extra[:_MAX_NAMED],
        "recall": _share(len(injected & found), len(injected)),
        "precision": _share(len(injected & found), len(found)),
        "findings": {kind: n for kind, n in kinds.items() if kind != FindingKind.HINT},
        "hints_per_1000": {c: round(1000 * n / max(1, boxes), 2) for c, n in hints.items()},
        "snapshots": snapshots,
        "ok": pages_ok and not missed and not extra and not rejected,
    }


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 1.0


def percentile(values: list[float], share: int) -> float | None:
    """Return a percentile of sorted values, rounded to milliseconds; None without values."""
    if not values:
        return None
    return round(values[min(len(values) - 1, len(values) * share // 100)], 3)


def run_checks(site: Path) -> dict[str, str]:
    """Run the checks of the site; return `passed` or `failed` for each command."""
    return {" ".join(words): _check_result(site, words) for words in _CHECKS}


def _check_result(site: Path, words: tuple[str, ...]) -> str:
    done = subprocess.run([*SSPS, *words, "--site", str(site)], capture_output=True, text=True)
    if done.returncode:
        console.err.print(f"ssps {' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return "failed" if done.returncode else "passed"


def transfer_totals(site: Path) -> dict[str, int]:
    """Count sessions, files and bytes in the transfer ledger."""
    sessions = files = sent = 0
    for record in _records(site, TRANSFER):
        detail = record.event.detail
        sessions += record.event.event == TransferEvent.LOGIN
        if record.event.event == TransferEvent.CLOSE and isinstance(detail.get("bytes"), int):
            files += 1
            sent += int(str(detail["bytes"]))
    return {"sessions": sessions, "files_sent": files, "bytes_sent": sent}


def _records(site: Path, kind: str) -> Iterator[Record]:
    """Yield the records of a kind of ledger, of all hosts, in order of time."""
    return merged.read_records(*merged.folders_of_kind(site / LEDGERS, kind))


def ledger_sizes(site: Path) -> dict[str, dict[str, int]]:
    """Return the number of records and bytes of each ledger."""
    sizes = {}
    for name in ledger_names(site / LEDGERS):
        folder = site / LEDGERS / name
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        sizes[name] = {"records": segments.next_seq(folder), "bytes": size}
    return sizes


def format_report(report: Mapping[str, object]) -> str:
    """Format a report as text, one line for each field."""
    return "\n".join(
        f"{key.replace('_', ' '):<22}{_format_value(value)}" for key, value in report.items()
    )


def _format_value(value: object) -> str:
    match value:
        case dict():
            return ", ".join(f"{k}: {_format_value(v)}" for k, v in value.items()) or "none"
        case list():
            return "; ".join(map(str, value)) or "none"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
    return str(value)
