"""Checks that catalog, trees, store, quarantine and filing ledger of a site agree."""

import hashlib
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from config import layout
from config.event import Event
from config.settings import Settings
from config.site import FILING, LEDGERS
from keys.ledger.segments import read_records
from publisher.catalog.queries import counts as catalog_counts
from publisher.catalog.queries.counts import Counts
from publisher.store.quarantine import parse_note


@dataclass(frozen=True)
class FilingHistory:
    """The filing ledger and the counts of a site."""

    events: list[Event]
    counts: Counts

    def outcomes(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for event in self.events:
            found.setdefault(event.origin, []).append(event.event)
        return found

    def paths(self) -> list[str]:
        return [event.what for event in self.events if event.event == "filed"]


def assert_consistent(settings: Settings) -> FilingHistory:
    """Assert that everything agrees and no temporary file is left; return the history."""
    site = settings.site
    events = [
        r.event for r in read_records(site / LEDGERS / FILING) if r.event.event != "recovered"
    ]
    pages = Counter((event.detail["page"], event.detail.get("frame")) for event in events)
    assert [page for page, count in pages.items() if count > 1] == []
    filed = {event.what: str(event.detail["sha256"]) for event in events if event.event == "filed"}
    assert len(filed) == len([event for event in events if event.event == "filed"])

    split = [str(event.detail["sha256"]) for event in events if event.event == "split"]
    assert _digests(site / "store") == {
        f"{sha256[:2]}/{sha256[2:4]}/{sha256}": sha256 for sha256 in {*filed.values(), *split}
    }
    for party in settings.parties:
        if party.mirrors:
            seen = {
                path: sha256
                for path, sha256 in filed.items()
                if party.scope.covers(layout.parse(path).sheet)
            }
            assert _digests(site / "trees" / party.id) == seen, party.id
            for path, sha256 in seen.items():
                _is_link(site, party.id, path, sha256)

    _quarantine_agrees(site, events)
    assert list((site / "state" / "spool").iterdir()) == []
    hidden = [p for f in ("store", "trees", "quarantine") for p in (site / f).rglob(".*")]
    assert hidden == []

    counts = catalog_counts.counts(site)
    versions = sum(layout.parse(path).version > 1 for path in filed)
    tally = Counter(event.event for event in events)
    recorded = Counts(
        filed=tally["filed"] - versions,
        versions=versions,
        duplicates=tally["duplicate"],
        quarantined=tally["quarantined"],
        waiting=0,
        gaps=0,
    )
    assert counts == recorded, (counts, recorded)
    return FilingHistory(events, counts)


def _is_link(site: Path, party: str, path: str, sha256: str) -> None:
    original = (site / "store" / sha256[:2] / sha256[2:4] / sha256).stat()
    shown = (site / "trees" / party / path).lstat()
    assert shown.st_ino == original.st_ino
    assert stat.S_IMODE(shown.st_mode) == 0o444
    assert shown.st_mtime_ns % 1_000_000_000 == 0


def _quarantine_agrees(site: Path, events: list[Event]) -> None:
    found = {path.name for path in (site / "quarantine").iterdir()}
    expected = set()
    for event in events:
        if event.event == "quarantined":
            name = event.what.removeprefix("quarantine/")
            expected |= {name, f"{name}.json"}
            note = parse_note((site / "quarantine" / f"{name}.json").read_bytes())
            assert (note.arrival, note.reason) == (event.detail["page"], event.detail["reason"])
            if note.sha256 is not None:
                assert _digest(site / "quarantine" / name) == note.sha256
    assert found == expected


def _digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): _digest(path)
        for path in folder.rglob("*")
        if not path.is_dir()
    }


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
