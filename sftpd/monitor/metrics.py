"""Counts what the server does, and renders the page that a Prometheus server reads.

The monitor counts as it records; READ latencies come from the children as histograms. The page is
served at `GET /metrics` (sftpd/monitor/metrics_server), one request per connection:

    ssps_sessions{party}              logged-in sessions now
    ssps_connections                  connections now, logged in or not
    ssps_logins_total{party}
    ssps_refusals_total{event,reason} refused connections and logins
    ssps_sent_bytes_total{party}      bytes of files, counted when a handle is closed
    ssps_files_total{party}           opened files
    ssps_read_seconds                 duration of a READ, a histogram
    ssps_ledger_lag_seconds           age of the oldest record that is not yet on the disk
    ssps_ledger_unsynced_records      records that are not yet on the disk
    ssps_forks_total
    ssps_start_time_seconds           Unix time of the start
    ssps_credential_seconds{party}    until the party's last credential expires; +Inf if never
    ssps_key_files_damaged            key files that cannot be used; the last good ring stays in use
    ssps_intake_troubles              files and folders that the running publisher cannot read
    ssps_publisher_halted             1 while it files nothing because a disk fails
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from keys.operations.publisher_state import PublisherState
from sftpd.ipc.messages import READ_TIME_BOUNDS

_MAX_REASONS = 100  # so that no child can fill the memory with made-up reasons
_MAX_READS = 1 << 53  # a float cannot hold every larger number


class ReadLatencies:
    """A histogram of READ latencies: a count for each of READ_TIME_BOUNDS, and one above."""

    def __init__(self) -> None:
        self.counts = [0] * (len(READ_TIME_BOUNDS) + 1)
        self.microseconds = 0

    def add(self, counts: Sequence[int], microseconds: int) -> None:
        """Add the counts of a child; raise ValueError if they are not a histogram."""
        if len(counts) != len(self.counts) or not 0 <= min(counts) <= max(counts) < _MAX_READS:
            raise ValueError("not a histogram of READ latencies")
        self.counts = [old + new for old, new in zip(self.counts, counts, strict=True)]
        self.microseconds += microseconds


@dataclass(slots=True)
class Counters:
    """The numbers that only grow, from the start of the server."""

    logins: Counter[str] = field(default_factory=Counter)
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)
    bytes_sent: Counter[str] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)
    reads: ReadLatencies = field(default_factory=ReadLatencies)
    forks: int = 0

    def count_refusal(self, event: str, reason: str) -> None:
        """Count a refused connection or login."""
        key = event, reason
        if key not in self.refusals and len(self.refusals) >= _MAX_REASONS:
            key = event, "other"
        self.refusals[key] += 1


@dataclass(frozen=True, slots=True)
class Gauges:
    """The numbers that go up and down."""

    sessions: Counter[str]
    connections: int
    lag: float
    unsynced: int
    started: float
    credentials: Mapping[str, float] = field(default_factory=dict)
    damaged: int = 0
    publisher: PublisherState | None = None


class MetricsPage(Collector):
    """Renders the metrics page: `page()` returns it as it is now."""

    def __init__(self, counters: Counters, now: Callable[[], Gauges]) -> None:
        self._counters = counters
        self._gauges_now = now
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def __call__(self) -> bytes:
        """Return the page in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics that the module's docstring lists."""
        counters, now = self._counters, self._gauges_now()
        yield _gauge_family("ssps_sessions", "Sessions that have logged in", "party", now.sessions)
        yield GaugeMetricFamily("ssps_connections", "Connections", value=now.connections)
        yield _counter_family("ssps_logins", "Logins", counters.logins)
        refusals = CounterMetricFamily(
            "ssps_refusals", "Connections and logins refused", labels=["event", "reason"]
        )
        for (event, reason), count in sorted(counters.refusals.items()):
            refusals.add_metric([event, reason], count)
        yield refusals
        yield _counter_family("ssps_sent_bytes", "Bytes of files sent", counters.bytes_sent)
        yield _counter_family("ssps_files", "Files opened", counters.files)
        yield _read_histogram(counters.reads)
        yield GaugeMetricFamily(
            "ssps_ledger_lag_seconds", "Age of the oldest record not on the disk", value=now.lag
        )
        yield GaugeMetricFamily(
            "ssps_ledger_unsynced_records", "Records not on the disk", value=now.unsynced
        )
        yield CounterMetricFamily("ssps_forks", "Children forked", value=counters.forks)
        yield GaugeMetricFamily("ssps_start_time_seconds", "Start, Unix time", value=now.started)
        yield _gauge_family(
            "ssps_credential_seconds", "Until its last credential ends", "party", now.credentials
        )
        yield GaugeMetricFamily(
            "ssps_key_files_damaged", "Key files that cannot be read", value=now.damaged
        )
        if (publisher := now.publisher) is not None:
            yield GaugeMetricFamily(
                "ssps_intake_troubles",
                "Files and folders of the intake that cannot be read",
                value=publisher.trouble_count,
            )
            yield GaugeMetricFamily(
                "ssps_publisher_halted",
                "1 while the publisher files nothing",
                value=int(publisher.halted is not None),
            )


def _gauge_family(name: str, text: str, label: str, counts: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, count in sorted(counts.items()):
        family.add_metric([key], count)
    return family


def _counter_family(name: str, text: str, counts: Counter[str]) -> Metric:
    family = CounterMetricFamily(name, text, labels=["party"])
    for party, count in sorted(counts.items()):
        family.add_metric([party], count)
    return family


def _read_histogram(times: ReadLatencies) -> Metric:
    family = HistogramMetricFamily("ssps_read_seconds", "How long a READ took")
    names: Iterable[str] = (*map(str, READ_TIME_BOUNDS), "+Inf")
    buckets = list(zip(names, map(float, accumulate(times.counts)), strict=True))
    family.add_metric([], buckets, sum_value=times.microseconds / 1e6)
    return family
