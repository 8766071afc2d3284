"""How many of the expected sheets are filed, absent or missing, grouped as an operator asks.

Other processes than the publisher read this. One read-only connection has the registry index and
the catalog side by side; of a catalog in PostgreSQL, a copy of the rows that a question is about
(publisher/catalog/queries/beside).

The cost does not grow with the number of filed sheets. The registry has counted the expected sheets
of each board, the catalog keeps a tally while it files, and absences are few. Only one thing must
be searched filing by filing: filed sheets that are not in the current registry. The search goes on
where the last one ended, which `state/accounts.json` remembers:

    {"registry": "<sha256>", "filing": 120345, "strangers": [["34-istanbul-1", …, 2]]}

`filing` is the last filing id that was searched, and `strangers` counts what was found, by kind.
After another registry was imported the search starts from the first filing again.
"""

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from config import times
from config.litter import Litter
from config.sheet import Belge, Secim, Sheet
from config.site import COVERAGE_CACHE, REGISTRY_INDEX
from keys.files import replace
from publisher.catalog.catalog import url
from publisher.catalog.queries import beside
from publisher.database import Reader, open_reader
from publisher.page import Stamp
from publisher.source import Source

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
_AT_ABSENCES = (
    "EXISTS (SELECT 1 FROM absence a WHERE a.withdrawn IS NULL AND a.cevre = one.cevre "
    "AND a.kurul = one.kurul AND a.sandik = one.sandik)"
)
_Kind = tuple[str, str, str, str]  # cevre, kurul, secim, belge
_not_written: dict[Path, str] = {}  # what accounts.json would have, by site


class CoverageLine(NamedTuple):
    """The sheets of one group: how many are expected, filed and absent.

    `filed` counts expected sheets only, not those that the registry lacks.
    """

    key: str
    expected: int
    filed: int
    absent: int

    @property
    def missing(self) -> int:
        """The sheets that are neither filed nor recorded as absent."""
        return self.expected - self.filed - self.absent


class MissingSheet(NamedTuple):
    """A missing sheet and its karekod."""

    karekod: str
    sheet: Sheet


@dataclass(frozen=True, slots=True)
class FilingRate:
    """How fast pages are filed and how many wait.

    `pages_a_second` is the mean of the last minute. `oldest_seconds` is the age of the oldest page
    that is not done, None if there is none. `ignored` are files in the intake that are not scans.
    `waiting` has for each scanner's folder (publisher/source) how many files are not claimed yet,
    and the age of the oldest in seconds.
    """

    pages_a_second: float
    in_intake: int
    oldest_seconds: float | None
    ignored: int = 0
    waiting: Mapping[str, tuple[int, float]] = field(default_factory=dict)


class Coverage:
    """The coverage of one site. Close it after use.

    Without a catalog nothing is filed, and without a registry (`registered`) nothing is expected.
    """

    def __init__(self, site: Path) -> None:
        self._site = site
        place, index = url(site), site / REGISTRY_INDEX
        source = f"{index.absolute().as_uri()}?mode=ro&immutable=1"
        self.registered = index.exists()
        file = Path(place.database or "")
        self._in_file = place.drivername == "sqlite"
        name = ""  # a temporary file of SQLite's own
        if self._in_file and file.exists():
            name = f"{file.absolute().as_uri()}?mode=ro"
        with ExitStack() as stack:
            self._database = stack.enter_context(closing(sqlite3.connect(name, uri=True)))
            attached = source if self.registered else ":memory:"
            self._database.execute("ATTACH ? AS registry", (attached,))
            self._catalog: Reader | None = Reader(self._database)
            if not self._in_file:
                beside.make_tables(self._database, "main")
                self._catalog = stack.enter_context(open_reader(place))
            self._tables = self._catalog.tables() if self._catalog else frozenset()
            self._open = stack.pop_all()  # an error above has closed it

    def close(self) -> None:
        """Close all databases."""
        self._open.close()

    def lines(self, by: str | None = None) -> list[CoverageLine]:
        """Return a line for each value of `by`, sorted, or one line for everything.

        `by` is one of GROUP_COLUMNS. Districts sort by the number that their name begins with.
        """
        columns = GROUP_COLUMNS[by] if by else ()
        expected, filed, absent = (
            _totals(kinds, columns) for kinds in (self._expected(), self._filed(), self._absent())
        )
        keys = sorted(expected) if by else ["all"]
        return [CoverageLine(key, expected[key], filed[key], absent[key]) for key in keys]

    def missing(self, place: str | None = None) -> Iterator[MissingSheet]:
        """Yield each missing sheet, sorted by district, board and box.

        `place` limits this to a district, a board or a box: `34-istanbul-1`,
        `34-istanbul-1/kadikoy-2` or `34-istanbul-1/kadikoy-2/1234`.
        """
        if not self.registered:
            return
        in_place, parts = _place_conditions(place)
        not_here = [f"NOT {_FILED}", f"NOT {_ABSENT}"] if "absence" in self._tables else []
        query = (
            "SELECT karekod, secim, belge, cevre, kurul, sandik, page FROM registry.sheet s WHERE "
            + " AND ".join([*in_place, *not_here] or ["true"])
            + " ORDER BY cevre COLLATE NOCASE, kurul COLLATE NOCASE, sandik COLLATE NOCASE"
        )
        self._bring_place(in_place, parts)
        yield from map(_expected_sheet, self._database.execute(query, parts))

    def box_lines(self, cevre: str, kurul: str) -> list[CoverageLine]:
        """Return a line for each box of a board; the key of the board's own sheets is `-`."""
        if not self.registered:
            return []
        filed = _FILED if "filing" in self._tables else "0"
        absent = f"NOT {filed} AND {_ABSENT}" if "absence" in self._tables else "0"
        query = (
            f"SELECT sandik, count(*), sum({filed}), sum({absent}) FROM registry.sheet s "
            "WHERE cevre = ? COLLATE NOCASE AND kurul = ? COLLATE NOCASE GROUP BY sandik"
        )
        self._bring_place(*_place_conditions(f"{cevre}/{kurul}"))
        return [
            CoverageLine(sandik or "-", expected, here, gone)
            for sandik, expected, here, gone in self._database.execute(query, (cevre, kurul))
        ]

    def sheets(self, place: str) -> list[tuple[MissingSheet, bool, bool]]:
        """Return each expected sheet of a place as for `missing`: the sheet, filed, absent."""
        if not self.registered:
            return []
        in_place, parts = _place_conditions(place)
        filed = _FILED if "filing" in self._tables else "0"
        absent = _ABSENT if "absence" in self._tables else "0"
        query = (
            f"SELECT {filed}, {absent}, karekod, secim, belge, cevre, kurul, sandik, page "
            f"FROM registry.sheet s WHERE {' AND '.join(in_place)} ORDER BY secim, belge, page"
        )
        self._bring_place(in_place, parts)
        return [
            (_expected_sheet(row), bool(is_filed), bool(is_absent and not is_filed))
            for is_filed, is_absent, *row in self._database.execute(query, parts)
        ]

    def expects(self, place: str) -> bool:
        """Return whether the registry has any sheet in a place, written as for `missing`."""
        if not self.registered:
            return False
        in_place, parts = _place_conditions(place)
        query = f"SELECT 1 FROM registry.sheet s WHERE {' AND '.join(in_place)} LIMIT 1"
        return self._database.execute(query, parts).fetchone() is not None

    def filing_rate(
        self, folders: Iterable[Path], now: datetime, litter: Litter | None = None
    ) -> FilingRate:
        """Return how fast pages are filed; `folders` are the intake folders.

        Files that were claimed and are still in the intake are not counted as waiting; `litter` is
        counted as ignored.
        """
        litter = litter or Litter((), ())
        claimed = self._left_behind()
        ages: list[float] = []
        by_scanner: dict[str, tuple[int, float]] = {}
        ignored, root = 0, self._site.resolve()
        for folder in map(Path.resolve, folders):
            for entry in _files(folder):
                source = Source(str(folder), os.path.relpath(entry.path, folder))
                if litter.covers(source.path):
                    ignored += 1
                    continue
                stamp = claimed.get(bytes(source))
                if stamp is None or stamp != _stamp(entry):
                    ages.append(_age(entry, now))
                    scanner = source.scanner(root)
                    number, oldest_here = by_scanner.get(scanner, (0, 0.0))
                    by_scanner[scanner] = number + 1, max(oldest_here, ages[-1])
        in_intake = len(ages)
        done = 0
        if self._catalog and "arrival" in self._tables:
            (oldest,) = self._catalog.execute(
                "SELECT min(received_at) FROM arrival WHERE seq IS NULL"
            ).fetchone()
            if oldest:
                ages.append((now - datetime.fromisoformat(oldest)).total_seconds())
            start = times.format_stored(now - timedelta(seconds=60))
            recent = self._catalog.stream(
                "SELECT decided_at FROM arrival WHERE seq IS NOT NULL ORDER BY seq DESC"
            )
            for (decided,) in recent:
                if decided < start:
                    break
                done += 1
        return FilingRate(done / 60, in_intake, max(ages, default=None), ignored, by_scanner)

    def _left_behind(self) -> dict[bytes, str]:
        if self._catalog is None or "left_behind" not in self._tables:
            return {}
        return dict(self._catalog.execute("SELECT source, stamp FROM left_behind"))

    def _bring_place(self, in_place: list[str], parts: list[str]) -> None:
        """Copy what the catalog has of the sheets of a place, if it is not attached."""
        if self._in_file or self._catalog is None:
            return
        beside.copy_rows(self._catalog, self._database, "absence")
        if not parts:
            beside.copy_rows(self._catalog, self._database, "filing")
            return
        # The catalog has the names as the registry has them, whatever case an operator types.
        names = ", ".join(("cevre", "kurul", "sandik")[: len(parts)])
        query = f"SELECT DISTINCT {names} FROM registry.sheet s WHERE {' AND '.join(in_place)}"
        same = " AND ".join(f"{name} = ?" for name in names.split(", "))
        for found in self._database.execute(query, parts).fetchall():
            beside.copy_rows(self._catalog, self._database, "filing", same, found)

    def _expected(self) -> Iterator[tuple[_Kind, int]]:
        if not self.registered:
            return
        query = f"SELECT {_KIND}, sheets FROM registry.expected"
        counted = "SELECT 1 FROM registry.sqlite_master WHERE name = 'expected'"
        if not self._database.execute(counted).fetchone():  # an index that an older version made
            query = f"SELECT {_KIND}, count(*) FROM registry.sheet GROUP BY {_KIND}"
        for *kind, sheets in self._database.execute(query):
            yield _kind(kind), sheets

    def _filed(self) -> Iterator[tuple[_Kind, int]]:
        if self._catalog is None or "tally" not in self._tables:
            return
        for *kind, number in self._catalog.execute(f"SELECT {_KIND}, number FROM tally"):
            yield _kind(kind), number
        if self.registered:
            for kind, number in self._unregistered().items():
                yield kind, -number

    def _absent(self) -> Iterator[tuple[_Kind, int]]:
        if "absence" not in self._tables or not self.registered:
            return
        if not self._in_file and self._catalog:
            beside.copy_rows(self._catalog, self._database, "absence")
            beside.copy_rows(self._catalog, self._database, "filing", _AT_ABSENCES)
        # A box and one of its sheets may both be recorded as absent; the sheet counts once.
        names = ", ".join(f"s.{name}" for name in _KIND.split(", "))
        query = f"SELECT DISTINCT {names}, s.karekod {_ABSENT_SHEETS}"
        for *kind, _ in self._database.execute(query):
            yield _kind(kind), 1

    def _unregistered(self) -> Counter[_Kind]:
        """Count the filed sheets that are not in the current registry."""
        (sha256,) = self._database.execute("SELECT sha256 FROM registry.source").fetchone()
        first, found = self._load_cache(sha256)
        if self._catalog is None:
            return found
        (last,) = self._catalog.execute("SELECT max(id) FROM filing").fetchone()
        if (last or 0) <= first:
            return found
        if not self._in_file:
            new = "id > ? AND id <= ?"
            beside.copy_rows(self._catalog, self._database, "filing", new, (first, last))
        query = (
            f"SELECT {_KIND} FROM filing f WHERE id > ? AND id <= ? AND version = 1 "
            "AND NOT EXISTS (SELECT 1 FROM registry.sheet s WHERE s.karekod = "
            f"CAST(f.karekod AS INTEGER) AND {_SAME})"
        )
        found.update(_kind(row) for row in self._database.execute(query, (first, last)))
        kept = [[*kind, number] for kind, number in sorted(found.items())]
        content = json.dumps({"registry": sha256, "filing": last, "strangers": kept})
        try:
            replace(self._site / COVERAGE_CACHE, content.encode() + b"\n")
        except OSError:  # a process that may only read remembers it for itself
            _not_written[self._site] = content
        return found

    def unexpected(self) -> int:
        """Return how many sheets are filed that the current registry does not have."""
        if "tally" not in self._tables or not self.registered:
            return 0
        return self._unregistered().total()

    def unexpected_sheets(self, limit: int) -> list[tuple[str, str]]:
        """Return path and karekod of the first sheets that are filed and not in the registry."""
        if not self.unexpected():
            return []
        if not self._in_file and self._catalog:
            beside.copy_rows(self._catalog, self._database, "filing")
        query = (
            "SELECT path, karekod FROM filing f WHERE version = 1 AND NOT EXISTS (SELECT 1 FROM "
            f"registry.sheet s WHERE s.karekod = CAST(f.karekod AS INTEGER) AND {_SAME}) "
            "ORDER BY path LIMIT ?"
        )
        return [(path, karekod) for path, karekod in self._database.execute(query, (limit,))]

    def _load_cache(self, sha256: str) -> tuple[int, Counter[_Kind]]:
        with suppress(OSError, ValueError, KeyError, TypeError):
            file = self._site / COVERAGE_CACHE
            kept = json.loads(_not_written.get(self._site) or file.read_bytes())
            if kept["registry"] == sha256:
                found = Counter({_kind(kind): number for *kind, number in kept["strangers"]})
                return int(kept["filing"]), found
        return 0, Counter()


def open_coverage(site: Path) -> "closing[Coverage]":
    """Open a site's coverage for a `with` statement."""
    return closing(Coverage(site))


def _expected_sheet(row: Sequence[Any]) -> MissingSheet:
    karekod, secim, belge, *where, page = row
    cevre, kurul, sandik = (part or None for part in where)
    found = Sheet(Secim(secim), Belge(belge), cevre, kurul, sandik, page)
    return MissingSheet(f"{karekod:010}", found)


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


def _stamp(entry: os.DirEntry[str]) -> str | None:
    with suppress(OSError):
        return str(Stamp.of(entry.stat(follow_symlinks=False)))
    return None


def _age(entry: os.DirEntry[str], now: datetime) -> float:
    with suppress(OSError):
        return now.timestamp() - entry.stat(follow_symlinks=False).st_ctime
    return 0.0
