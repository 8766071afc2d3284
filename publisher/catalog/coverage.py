"""How much of what is expected has come in, by whatever an operator asks it by; read from outside.

Registry index and catalog are looked at side by side, in one connection to both; neither is
written. What this costs does not grow with what was filed: the registry has counted what it
expects of each board, the catalog keeps a tally as it files, and absences are few. One thing is
looked for page by page: filed sheets that today's registry no longer has. That goes on from where
the last look ended, which `state/accounts.json` keeps,

    {"registry": "<sha256>", "filing": 120345, "strangers": [["34-istanbul-1", …, 2]]}

and begins anew after a registry was imported.
"""

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from config.sheet import Belge, Secim, Sheet
from config.site import CATALOG, COVERAGE_CACHE, REGISTRY_INDEX
from keys.files import replace

GROUP_COLUMNS = {"secim": (2,), "belge": (3,), "cevre": (0,), "kurul": (0, 1)}
_KIND = "cevre, kurul, secim, belge"
_SAME = " AND ".join(
    f"f.{name} = s.{name}" for name in ("cevre", "kurul", "sandik", "secim", "belge", "page")
)
_FILED = f"EXISTS (SELECT 1 FROM filing f WHERE {_SAME} AND f.version = 1 AND f.seq IS NOT NULL)"
_ABSENT = (
    "EXISTS (SELECT 1 FROM absence a WHERE a.withdrawn IS NULL AND a.cevre = s.cevre "
    "AND a.kurul = s.kurul AND a.sandik = s.sandik "
    "AND a.karekod IN ('', printf('%010d', s.karekod)))"
)
_ABSENT_SHEETS = (
    "FROM absence a JOIN registry.sheet s ON s.cevre = a.cevre COLLATE NOCASE "
    "AND s.kurul = a.kurul COLLATE NOCASE AND s.sandik = a.sandik COLLATE NOCASE "
    "AND (s.cevre, s.kurul, s.sandik) = (a.cevre, a.kurul, a.sandik) "
    "AND a.karekod IN ('', printf('%010d', s.karekod)) "
    f"WHERE a.withdrawn IS NULL AND NOT {_FILED}"
)
_Kind = tuple[str, str, str, str]


class CoverageLine(NamedTuple):
    """What is expected of one kind or place, and what became of it; `filed` are expected ones."""

    key: str
    expected: int
    filed: int
    absent: int

    @property
    def missing(self) -> int:
        """Sheets that are neither here nor known never to come."""
        return self.expected - self.filed - self.absent


class MissingSheet(NamedTuple):
    """One sheet that is missing, and its karekod."""

    karekod: str
    sheet: Sheet


@dataclass(frozen=True, slots=True)
class FilingRate:
    """How fast pages went through in the last minute, and since when the oldest waits."""

    pages_a_second: float
    in_intake: int
    oldest_seconds: float | None


class Coverage:
    """Of one site, open for looking; close it. Empty where there is no catalog or no registry."""

    def __init__(self, site: Path) -> None:
        self._site = site
        file = site / CATALOG
        name = f"{file.absolute().as_uri()}?mode=ro" if file.exists() else ":memory:"
        self._database = sqlite3.connect(name, uri=True)
        index = site / REGISTRY_INDEX
        source = f"{index.absolute().as_uri()}?mode=ro&immutable=1"
        self.registered = index.exists()
        self._database.execute("ATTACH ? AS registry", (source if self.registered else ":memory:",))
        self._has = {row[0] for row in self._database.execute("SELECT name FROM sqlite_master")}

    def close(self) -> None:
        """Let go of both files."""
        self._database.close()

    def lines(self, by: str | None = None) -> list[CoverageLine]:
        """Return a line for each value of `by`, or one for all; by district as the plates go."""
        columns = GROUP_COLUMNS[by] if by else ()
        expected, filed, absent = (
            _totals(kinds, columns) for kinds in (self._expected(), self._filed(), self._absent())
        )
        keys = sorted(expected) if by else ["all"]
        return [CoverageLine(key, expected[key], filed[key], absent[key]) for key in keys]

    def missing(self, place: str | None = None) -> Iterator[MissingSheet]:
        """Yield each sheet that is missing, by district, board and box; `place` narrows it.

        A place is written as in a scope, `34-istanbul-1` or `34-istanbul-1/kadikoy-2`, or with
        a box, `34-istanbul-1/kadikoy-2/1234`.
        """
        if not self.registered:
            return
        narrowed, parts = _place_conditions(place)
        here = [f"NOT {_FILED}", f"NOT {_ABSENT}"] if "absence" in self._has else []
        query = (
            "SELECT karekod, secim, belge, cevre, kurul, sandik, page FROM registry.sheet s WHERE "
            + " AND ".join([*narrowed, *here] or ["true"])
            + " ORDER BY cevre COLLATE NOCASE, kurul COLLATE NOCASE, sandik COLLATE NOCASE"
        )
        for karekod, secim, belge, *where, page in self._database.execute(query, parts):
            cevre, kurul, sandik = (part or None for part in where)
            found = Sheet(Secim(secim), Belge(belge), cevre, kurul, sandik, page)
            yield MissingSheet(f"{karekod:010}", found)

    def expects(self, place: str) -> bool:
        """Say whether the registry has any sheet of a place, written as for `missing`."""
        if not self.registered:
            return False
        narrowed, parts = _place_conditions(place)
        query = f"SELECT 1 FROM registry.sheet s WHERE {' AND '.join(narrowed)} LIMIT 1"
        return self._database.execute(query, parts).fetchone() is not None

    def filing_rate(self, folders: Iterable[Path], now: datetime) -> FilingRate:
        """Return how fast it goes; `folders` are the intake's."""
        since = [_age(path, now) for folder in folders for path in _files(folder)]
        in_intake = len(since)
        done = 0
        if "arrival" in self._has:
            oldest = self._database.execute(
                "SELECT min(received_at) FROM arrival WHERE seq IS NULL"
            ).fetchone()[0]
            if oldest:
                since.append((now - datetime.fromisoformat(oldest)).total_seconds())
            start = (now - timedelta(seconds=60)).isoformat()
            recent = self._database.execute(
                "SELECT decided_at FROM arrival WHERE seq IS NOT NULL ORDER BY seq DESC"
            )
            for (decided,) in recent:
                if decided < start:
                    break
                done += 1
        return FilingRate(done / 60, in_intake, max(since, default=None))

    def _expected(self) -> Iterator[tuple[_Kind, int]]:
        if not self.registered:
            return
        query = f"SELECT {_KIND}, sheets FROM registry.expected"
        counted = "SELECT 1 FROM registry.sqlite_master WHERE name = 'expected'"
        if not self._database.execute(counted).fetchone():  # an index of an earlier version
            query = f"SELECT {_KIND}, count(*) FROM registry.sheet GROUP BY {_KIND}"
        for *kind, sheets in self._database.execute(query):
            yield _kind(kind), sheets

    def _filed(self) -> Iterator[tuple[_Kind, int]]:
        if "tally" not in self._has:
            return
        for *kind, number in self._database.execute(f"SELECT {_KIND}, number FROM tally"):
            yield _kind(kind), number
        if self.registered:
            for kind, number in self._unregistered().items():
                yield kind, -number

    def _absent(self) -> Iterator[tuple[_Kind, int]]:
        if "absence" not in self._has or not self.registered:
            return
        # A box and one of its sheets may both be recorded; the sheet counts once.
        names = ", ".join(f"s.{name}" for name in _KIND.split(", "))
        query = f"SELECT DISTINCT {names}, s.karekod {_ABSENT_SHEETS}"
        for *kind, _ in self._database.execute(query):
            yield _kind(kind), 1

    def _unregistered(self) -> Counter[_Kind]:
        """Count the filed sheets that the registry lacks today."""
        (sha256,) = self._database.execute("SELECT sha256 FROM registry.source").fetchone()
        first, found = self._load_cache(sha256)
        (last,) = self._database.execute("SELECT max(id) FROM filing").fetchone()
        if (last or 0) <= first:
            return found
        query = (
            f"SELECT {_KIND} FROM filing f WHERE id > ? AND id <= ? AND version = 1 "
            "AND NOT EXISTS (SELECT 1 FROM registry.sheet s WHERE s.karekod = "
            f"CAST(f.karekod AS INTEGER) AND {_SAME})"
        )
        found.update(_kind(row) for row in self._database.execute(query, (first, last)))
        kept = [[*kind, number] for kind, number in sorted(found.items())]
        content = json.dumps({"registry": sha256, "filing": last, "strangers": kept})
        with suppress(OSError):  # who may only look has to count anew each time
            replace(self._site / COVERAGE_CACHE, content.encode() + b"\n")
        return found

    def _load_cache(self, sha256: str) -> tuple[int, Counter[_Kind]]:
        with suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads((self._site / COVERAGE_CACHE).read_bytes())
            if kept["registry"] == sha256:
                found = Counter({_kind(kind): number for *kind, number in kept["strangers"]})
                return int(kept["filing"]), found
        return 0, Counter()


def open_coverage(site: Path) -> "closing[Coverage]":
    """Open a site's accounts for a `with`."""
    return closing(Coverage(site))


def _place_conditions(place: str | None) -> tuple[list[str], list[str]]:
    parts = place.split("/", 2) if place else []
    names = ("cevre", "kurul", "sandik")[: len(parts)]
    return [f"s.{name} = ? COLLATE NOCASE" for name in names], parts


def _totals(kinds: Iterable[tuple[_Kind, int]], columns: tuple[int, ...]) -> Counter[str]:
    found: Counter[str] = Counter()
    for kind, number in kinds:
        found["/".join(kind[column] or "-" for column in columns) if columns else "all"] += number
    return found


def _kind(row: Iterable[str]) -> _Kind:
    cevre, kurul, secim, belge = row
    return cevre, kurul, secim, belge


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            else:
                yield entry


def _age(entry: os.DirEntry[str], now: datetime) -> float:
    with suppress(FileNotFoundError):
        return now.timestamp() - entry.stat(follow_symlinks=False).st_ctime
    return 0.0
