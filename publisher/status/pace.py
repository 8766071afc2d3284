"""How fast pages are decided: a minute at a time, for the site and for each scanner's folder.

`Pace` reads the catalog's arrivals in the order of their ledger records and goes on where it
stopped, so that each look costs only what is new. A page counts in the minute of its decision,
whether it was filed, is a duplicate or went to quarantine; a file that was split counts through its
pages.

A rehearsal that plays a whole night writes beforehand when its pages will arrive, as
`state/expected-pace.json`, so that the wall can draw that curve behind the real one:

    {"began": "2026-11-29T20:29:49.000000+00:00", "pages": [0, 12, 310, 326]}

`pages` has the number of pages that arrive in each minute after `began`.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from config import times
from config.site import EXPECTED_PACE
from keys import files
from publisher.catalog import catalog
from publisher.catalog.catalog import QUARANTINED, SPLIT
from publisher.database import Reader, open_reader
from publisher.page import Reason
from publisher.source import Source

HOUR = timedelta(hours=1)
_MAX_FOLDERS = 500  # the folders that were quiet for longest are forgotten first


@dataclass(frozen=True, slots=True)
class Minute:
    """The pages that were decided in the minute that begins at `at`, and how many were set aside.

    A page is set aside if it went to quarantine and is not the blank back of a sheet.
    """

    at: datetime
    pages: int
    set_aside: int


@dataclass(frozen=True, slots=True)
class FolderPace:
    """What came from one scanner's folder: when the last page was decided, and the last hour."""

    folder: str
    last: datetime
    pages_last_minute: int
    pages_last_hour: int
    set_aside_last_hour: int


@dataclass(frozen=True, slots=True)
class ExpectedPace:
    """The pages that a rehearsal delivers in each minute after `began`."""

    began: datetime
    pages: tuple[int, ...]


@dataclass(slots=True)
class _Counts:
    last: str = ""
    pages: Counter[str] = field(default_factory=Counter)  # by minute
    set_aside: Counter[str] = field(default_factory=Counter)

    def add(self, decided: str, *, set_aside: bool) -> None:
        self.last = max(self.last, decided)
        self.pages[decided[:16]] += 1
        self.set_aside[decided[:16]] += set_aside

    def forget_before(self, minute: str) -> None:
        for counter in (self.pages, self.set_aside):
            for old in [m for m in counter if m < minute]:
                del counter[old]


class Pace:
    """The pace of one site; `span` is how far back it is kept."""

    def __init__(self, site: Path, span: timedelta = HOUR) -> None:
        self._site = site
        self._span = span
        self._seq = -1
        self._all = _Counts()
        self._folders: dict[str, _Counts] = {}

    def update(self, now: datetime) -> None:
        """Count the pages that were decided since the last time."""
        start = times.format_stored(now - self._span)
        with open_reader(catalog.url(self._site)) as database:
            if database is not None and "arrival" in database.tables():
                self._read(database, start)
        self._all.forget_before(start[:16])
        hour_ago = times.format_stored(now - HOUR)[:16]
        for counts in self._folders.values():
            counts.forget_before(hour_ago)
        for folder in sorted(self._folders, key=lambda f: self._folders[f].last)[:-_MAX_FOLDERS]:
            del self._folders[folder]

    def minutes(self, now: datetime) -> tuple[Minute, ...]:
        """Return every minute from the first page within the span to now, quiet ones included."""
        if not self._all.pages:
            return ()
        at = datetime.fromisoformat(f"{min(self._all.pages)}:00+00:00")
        found = []
        while at <= now:
            name = times.format_stored(at)[:16]
            found.append(Minute(at, self._all.pages[name], self._all.set_aside[name]))
            at += timedelta(minutes=1)
        return tuple(found)

    def folders(self, now: datetime) -> tuple[FolderPace, ...]:
        """Return the pace of each scanner's folder, by name."""
        minute = times.format_stored(now - timedelta(minutes=1))[:16]
        return tuple(
            FolderPace(
                folder,
                datetime.fromisoformat(counts.last),
                counts.pages[minute],
                counts.pages.total(),
                counts.set_aside.total(),
            )
            for folder, counts in sorted(self._folders.items())
        )

    def _read(self, database: Reader, start: str) -> None:
        columns = "SELECT seq, decided_at, outcome, reason, source "
        columns += "FROM arrival WHERE decided_at IS NOT NULL AND seq"
        first, root = self._seq < 0, self._site.resolve()
        if first:  # backwards from the newest, until the span is over
            rows = database.stream(f"{columns} IS NOT NULL ORDER BY seq DESC")
        else:
            rows = database.stream(f"{columns} > ? ORDER BY seq", (self._seq,))
        for seq, decided, outcome, reason, source in rows:
            self._seq = max(self._seq, seq)
            if first and decided < start:
                return
            if outcome == SPLIT:
                continue
            set_aside = outcome == QUARANTINED and reason != Reason.BLANK_BACK
            self._all.add(decided, set_aside=set_aside)
            folder = Source.parse(source).scanner(root)
            self._folders.setdefault(folder, _Counts()).add(decided, set_aside=set_aside)


def write_expected(site: Path, began: datetime, seconds: Iterable[float]) -> None:
    """Write when a rehearsal delivers its pages: `seconds` after `began`, one for each page."""
    counted = Counter(int(at // 60) for at in seconds)
    pages = [counted[minute] for minute in range(max(counted, default=-1) + 1)]
    stated = {"began": times.format_stored(began), "pages": pages}
    files.replace(site / EXPECTED_PACE, json.dumps(stated).encode() + b"\n")


def read_expected(site: Path) -> ExpectedPace | None:
    """Return what a rehearsal has written, None if there is nothing or it cannot be read."""
    try:
        stated = json.loads((site / EXPECTED_PACE).read_bytes())
        return ExpectedPace(
            datetime.fromisoformat(stated["began"]), tuple(int(n) for n in stated["pages"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
