"""The publishers of a site that has several: which one files, and which ones read for it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from config.site import CATALOG, FILING, RESULTS_LEDGER
from publisher.database import SQLITE, Unreachable, location, open_reader
from publisher.election.leader import NOW, SCHEMA
from publisher.reading.tasks import GONE_SECONDS

_LEADERS = f"SELECT task, host, term, expires_at > {NOW} FROM leader ORDER BY task"
_READERS = (
    f"SELECT host, workers, pages, seen_at > {NOW} - {int(GONE_SECONDS * 1000)} "
    "FROM reader WHERE host <> '' ORDER BY host"
)


@dataclass(frozen=True, slots=True)
class PublisherHost:
    """A named host with a publisher. `term` is that of its last election, if it leads."""

    host: str
    runs: bool
    files: bool
    results: bool
    term: int | None
    workers: int
    pages: int

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for `ssps status --json`."""
        return asdict(self)

    def __str__(self) -> str:
        tasks = [f"files pages (term {self.term})"] if self.files else []
        tasks += ["takes in results"] if self.results else []
        tasks += [f"reads with {self.workers} workers"] if self.runs else ["does not run"]
        return f"publisher {self.host} {', '.join(tasks)}; it has read {self.pages:,} pages"


def publishers(site: Path) -> list[PublisherHost]:
    """Return the publishers of all named hosts; none if there are none or PostgreSQL is away."""
    url = location(site, CATALOG, SCHEMA)
    if url.drivername == SQLITE:
        return []
    try:
        with open_reader(url) as reader:
            if reader is None or "reader" not in reader.tables():
                return []
            leaders = {
                task: (host, term) for task, host, term, lasts in reader.execute(_LEADERS) if lasts
            }
            readers = reader.execute(_READERS).fetchall()
    except Unreachable:
        return []
    filer, term = leaders.get(FILING, ("", 0))
    results, _ = leaders.get(RESULTS_LEDGER, ("", 0))
    return [
        PublisherHost(
            host,
            bool(runs),
            host == filer,
            host == results,
            term if host == filer else None,
            workers,
            pages,
        )
        for host, workers, pages, runs in readers
    ]
