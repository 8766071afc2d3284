"""Everything that says how a site is doing, taken at one moment.

`take` is the one function behind `ssps status --json`, the coverage wall of the staff site and the
metrics that Prometheus reads (publisher/status/metrics). `counted` is its quick part.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from config import load, times
from config.settings import Settings
from keys.operations import publisher_state
from keys.operations.publisher_state import PublisherState
from publisher.catalog.queries import counts as catalog_counts
from publisher.catalog.queries import coverage
from publisher.results.reading import count_results
from publisher.results.snapshots.folder import latest_number
from publisher.status import health, pace
from publisher.status.health import DaemonHealth, Disk, LedgerHealth
from publisher.status.pace import ExpectedPace, FolderPace, Minute, Pace

_MINUTES = 60  # that `--json` lists


@dataclass(frozen=True, slots=True)
class ScannerFolder:
    """One scanner's folder: what waits in it, and what came from it (None: nothing yet)."""

    folder: str
    waiting: int
    oldest_seconds: float | None
    pace: FolderPace | None


@dataclass(frozen=True, slots=True)
class Figures:
    """How a site is doing; `counted` is what the function of that name returns."""

    at: datetime
    counted: dict[str, Any]
    minutes: tuple[Minute, ...]
    expected: ExpectedPace | None
    folders: tuple[ScannerFolder, ...]
    disks: tuple[Disk, ...]
    ledgers: tuple[LedgerHealth, ...]
    daemons: tuple[DaemonHealth, ...]
    publisher: PublisherState | None
    snapshot: int  # the newest one, 0 before the first
    stage: str  # what is open: the election's or a rehearsal's id, nothing if access is closed
    open_since: datetime | None
    opens: datetime

    def as_dict(self) -> dict[str, Any]:
        """Return what `ssps status --json` prints besides the counts."""
        return {
            "at": _text(self.at),
            "open": {
                "stage": self.stage or None,
                "since": _text(self.open_since),
                "opens": _text(self.opens),
            },
            "minutes": [
                {"at": _text(m.at), "pages": m.pages, "quarantined": m.set_aside}
                for m in self.minutes[-_MINUTES:]
            ],
            "folders": [_folder_fields(folder) for folder in self.folders],
            "disks": [asdict(disk) for disk in self.disks],
            "ledgers": [asdict(ledger) for ledger in self.ledgers],
            "daemons": [_daemon_fields(daemon) for daemon in self.daemons],
            "snapshot": self.snapshot,
        }


def _daemon_fields(daemon: DaemonHealth) -> dict[str, Any]:
    stated = {**asdict(daemon), "since": _text(daemon.since)}
    return stated if daemon.host else {k: v for k, v in stated.items() if k != "host"}


def counted(site: Path, settings: Settings | None = None) -> dict[str, Any]:
    """Return the counts of sheets, pages and results. The cost does not grow with the site."""
    return _counted(site, settings or load.load(site), datetime.now(UTC))[0]


def take(settings: Settings, now: datetime, kept: Pace | None = None) -> Figures:
    """Return the figures of a site; `kept` goes on where an earlier call stopped."""
    site = settings.site
    numbers, waiting = _counted(site, settings, now)
    kept = kept or Pace(site)
    kept.update(now)
    paces = {found.folder: found for found in kept.folders(now)}
    folders = tuple(
        _scanner_folder(name, waiting.get(name), paces.get(name))
        for name in sorted({*paces, *waiting})
    )
    open_now = settings.stage(now)
    return Figures(
        now,
        numbers,
        kept.minutes(now),
        pace.read_expected(site),
        folders,
        health.disks(settings),
        health.ledgers(site, now),
        health.daemons(settings),
        next(iter(publisher_state.read_all(site).values()), None),
        latest_number(site) or 0,
        "" if open_now is None else open_now.id,
        None if open_now is None else open_now.opens,
        settings.election.opens,
    )


def _counted(
    site: Path, settings: Settings, now: datetime
) -> tuple[dict[str, Any], dict[str, tuple[int, float]]]:
    with coverage.open_coverage(site) as opened:
        (whole,) = opened.lines()
        unexpected = opened.unexpected()
        flow = opened.filing_rate(settings.intake.folders, now, settings.intake.litter)
    counts = catalog_counts.counts(site)
    results = count_results(site)
    return {
        "expected": whole.expected,
        "filed": counts.filed,
        "absent": whole.absent,
        "missing": whole.missing,
        "unexpected": unexpected,
        "versions": counts.versions,
        "duplicates": counts.duplicates,
        "quarantined": counts.quarantined - counts.reviewed - counts.blank,
        "ruled": counts.reviewed,
        "waiting": counts.waiting,
        "in_intake": flow.in_intake,
        "ignored": flow.ignored + counts.blank,
        "oldest_seconds": None if flow.oldest_seconds is None else round(flow.oldest_seconds, 1),
        "pages_a_second": round(flow.pages_a_second, 2),
        "gaps": counts.gaps,
        "results": {
            "expected": results.expected,
            "here": results.here,
            "rejected": results.rejected,
            "findings": results.findings,
        },
    }, dict(flow.waiting)


def _scanner_folder(
    name: str, waiting: tuple[int, float] | None, found: FolderPace | None
) -> ScannerFolder:
    number, oldest = waiting or (0, None)
    return ScannerFolder(name, number, oldest, found)


def _folder_fields(folder: ScannerFolder) -> dict[str, Any]:
    found = folder.pace
    oldest = folder.oldest_seconds
    return {
        "folder": folder.folder,
        "waiting": folder.waiting,
        "oldest_seconds": None if oldest is None else round(oldest, 1),
        "last_page": _text(found.last) if found else None,
        "pages_last_minute": found.pages_last_minute if found else 0,
        "pages_last_hour": found.pages_last_hour if found else 0,
        "quarantined_last_hour": found.set_aside_last_hour if found else 0,
    }


def _text(at: datetime | None) -> str | None:
    return times.format_optional(at)
