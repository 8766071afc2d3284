"""Renders the figures of a site (publisher/status/figures) as the page that Prometheus reads.

    ssps_site_sheets{state}              expected, filed, absent, missing, unexpected, versions
    ssps_site_pages{state}               duplicates, quarantined, reviewed, ignored, waiting, intake
    ssps_site_oldest_page_seconds        how long the oldest page has waited
    ssps_site_pages_per_second           mean of the last minute
    ssps_site_gaps                       links missing from a party's tree
    ssps_site_results{state}             expected, here, rejected, findings
    ssps_site_snapshot                   number of the newest snapshot
    ssps_site_open                       1 while the parties may come in
    ssps_scanner_waiting{folder}         pages that wait in a scanner's folder
    ssps_scanner_last_page_seconds{folder}   since its last page was decided
    ssps_scanner_pages{folder}           pages of the last hour
    ssps_scanner_quarantined{folder}     of these, how many went to quarantine
    ssps_scanners_not_listed             folders beyond the 100 with the newest pages, which the
                                         four above leave out
    ssps_scanners_not_listed_waiting     pages that wait in those
    ssps_disk_free_bytes{folder}         also ssps_disk_bytes, ssps_disk_free_inodes,
                                         ssps_disk_inodes
    ssps_site_ledger_records_total{ledger}   records; of the access ledger, what the portal answered
    ssps_site_ledger_unsigned_seconds{ledger}
    ssps_daemon_up{daemon}               1 while it runs
    ssps_daemon_listening{daemon}        1 while it listens
    ssps_daemon_start_time_seconds{daemon}
    ssps_publisher_troubles              files and folders of the intake that cannot be read
    ssps_publisher_stopped               1 while it files nothing because a disk fails
    ssps_staff_sessions                  sessions of the staff site
    ssps_figures_age_seconds             how old these figures are

The staff site serves it, if `[staff] metrics` says where.
"""

import math
from collections.abc import Iterable, Iterator
from datetime import datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from publisher.status.figures import Figures, ScannerFolder

_MAX_FOLDERS = 100  # so that names in the intake cannot fill Prometheus's memory
_SHEETS = ("expected", "filed", "absent", "missing", "unexpected", "versions")
_PAGES = {
    "duplicates": "duplicates",
    "quarantined": "quarantined",
    "reviewed": "ruled",
    "ignored": "ignored",
    "waiting": "waiting",
    "intake": "in_intake",
}


def render(figures: Figures, now: datetime, sessions: int) -> bytes:
    """Return the page; `sessions` is how many people are logged in to the staff site."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Page(figures, now, sessions))
    return generate_latest(registry)


class _Page(Collector):
    def __init__(self, figures: Figures, now: datetime, sessions: int) -> None:
        self._figures, self._now, self._sessions = figures, now, sessions

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics that the module's docstring lists."""
        f, counted = self._figures, self._figures.counted
        sheets = [(name, counted[name]) for name in _SHEETS]
        yield _gauges("ssps_site_sheets", "Sheets", "state", sheets)
        pages = [(name, counted[key]) for name, key in _PAGES.items()]
        yield _gauges("ssps_site_pages", "Pages that are not filed", "state", pages)
        yield _gauge(
            "ssps_site_oldest_page_seconds",
            "How long the oldest page has waited",
            counted["oldest_seconds"] or 0,
        )
        yield _gauge(
            "ssps_site_pages_per_second", "Mean of the last minute", counted["pages_a_second"]
        )
        yield _gauge("ssps_site_gaps", "Links missing from parties' trees", counted["gaps"])
        yield _gauges("ssps_site_results", "Results", "state", counted["results"].items())
        yield _gauge("ssps_site_snapshot", "Number of the newest snapshot", f.snapshot)
        yield _gauge("ssps_site_open", "1 while the parties may come in", bool(f.stage))
        yield from self._scanners()
        for name, text, values in (
            ("free_bytes", "Free bytes", [(d.folder, d.free_bytes) for d in f.disks]),
            ("bytes", "Bytes", [(d.folder, d.total_bytes) for d in f.disks]),
            ("free_inodes", "Free inodes", [(d.folder, d.free_inodes) for d in f.disks]),
            ("inodes", "Inodes", [(d.folder, d.total_inodes) for d in f.disks]),
        ):
            yield _gauges(f"ssps_disk_{name}", f"{text} of a disk", "folder", values)
        records = CounterMetricFamily("ssps_site_ledger_records", "Records", labels=["ledger"])
        for ledger in f.ledgers:
            records.add_metric([ledger.name], ledger.records)
        yield records
        unsigned = [(ledger.name, ledger.unsigned_seconds) for ledger in f.ledgers]
        yield _gauges(
            "ssps_site_ledger_unsigned_seconds", "Since the oldest unsigned", "ledger", unsigned
        )
        up = [(f"{d.part}@{d.host}" if d.host else d.part, d.running) for d in f.daemons]
        yield _gauges("ssps_daemon_up", "1 while it runs", "daemon", up)
        listening = [(d.part, d.listening) for d in f.daemons if d.listening is not None]
        yield _gauges("ssps_daemon_listening", "1 while it listens", "daemon", listening)
        since = [(d.part, d.since.timestamp()) for d in f.daemons if d.since is not None]
        yield _gauges("ssps_daemon_start_time_seconds", "Start, Unix time", "daemon", since)
        if f.publisher is not None:
            yield _gauge(
                "ssps_publisher_troubles",
                "Files and folders of the intake that cannot be read",
                f.publisher.trouble_count,
            )
            yield _gauge(
                "ssps_publisher_stopped",
                "1 while the publisher files nothing",
                f.publisher.halted is not None,
            )
        yield _gauge("ssps_staff_sessions", "Sessions of the staff site", self._sessions)
        age = (self._now - f.at).total_seconds()
        yield _gauge("ssps_figures_age_seconds", "How old these figures are", age)

    def _scanners(self) -> Iterator[Metric]:
        folders = sorted(self._figures.folders, key=_newest_pages_first)
        listed, others = folders[:_MAX_FOLDERS], folders[_MAX_FOLDERS:]
        waiting = [(f.folder, f.waiting) for f in listed]
        yield _gauges("ssps_scanner_waiting", "Pages that wait", "folder", waiting)
        yield _gauge("ssps_scanners_not_listed", "Folders that are left out", len(others))
        yield _gauge(
            "ssps_scanners_not_listed_waiting",
            "Pages that wait in folders that are left out",
            sum(f.waiting for f in others),
        )
        paces = [(f.folder, f.pace) for f in listed if f.pace is not None]
        last = [(name, (self._now - pace.last).total_seconds()) for name, pace in paces]
        yield _gauges("ssps_scanner_last_page_seconds", "Since its last page", "folder", last)
        pages = [(name, pace.pages_last_hour) for name, pace in paces]
        yield _gauges("ssps_scanner_pages", "Pages of the last hour", "folder", pages)
        aside = [(name, pace.set_aside_last_hour) for name, pace in paces]
        yield _gauges("ssps_scanner_quarantined", "Of these, in quarantine", "folder", aside)


def _newest_pages_first(folder: ScannerFolder) -> tuple[float, int, str]:
    # Of folders from which nothing was decided yet, those with most pages come first.
    last = -folder.pace.last.timestamp() if folder.pace else math.inf
    return last, -folder.waiting, folder.folder


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _gauges(name: str, text: str, label: str, values: Iterable[tuple[str, float]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values:
        family.add_metric([key], float(value))
    return family
