"""Sheets and results of the country, of a district, of a board: a line for each place in it.

A place is written as `ssps status --missing` takes it: `34-istanbul-1`, `34-istanbul-1/kadikoy-2`,
`34-istanbul-1/kadikoy-2/1234`. The line `-` of a place has the aggregate sheets of the place
itself.

A page in quarantine belongs to a place if the karekods that were read on it are of one board. The
others are counted by `unplaced`: it is not known where they belong.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from config.registry import Registry, is_karekod
from config.result import BOX_SHEET
from config.sheet import Secim
from config.site import REGISTRY_INDEX
from publisher.catalog import catalog
from publisher.catalog.catalog import QUARANTINED
from publisher.catalog.queries import coverage
from publisher.catalog.queries.coverage import CoverageLine
from publisher.database import open_reader
from publisher.page import ID_LENGTH, Reason
from publisher.results import store

_ROWS_A_FETCH = 5000
_Place = tuple[str, str, str]  # district, board, box; the last ones may be empty


class PlaceLine(NamedTuple):
    """What is expected and here of one place.

    `sheets_quarantined` are pages, `results_rejected` rows that name the place; both may concern
    something that is here already. Results are of boxes, once for each contest.
    """

    place: str
    sheets: int
    sheets_here: int
    sheets_quarantined: int
    sheets_absent: int
    results: int
    results_here: int
    results_rejected: int

    @property
    def sheets_missing(self) -> int:
        """The sheets that are neither filed nor recorded as absent."""
        return self.sheets - self.sheets_here - self.sheets_absent

    @property
    def results_missing(self) -> int:
        """The results that are not here."""
        return max(0, self.results - self.results_here)

    def as_dict(self) -> dict[str, int]:
        """Return the numbers that `ssps status --by … --json` adds."""
        return {
            "quarantined": self.sheets_quarantined,
            "results_expected": self.results,
            "results_here": self.results_here,
            "results_rejected": self.results_rejected,
            "results_missing": self.results_missing,
        }


@dataclass(frozen=True, slots=True)
class _Results:
    here: Counter[_Place]
    rejected: Counter[_Place]


class Places:
    """The places of one site; it remembers what it has read of the registry and the quarantine."""

    def __init__(self, site: Path) -> None:
        self._site = site
        self._seq = -1
        self._quarantined: dict[str, _Place | None] = {}  # by arrival
        self._boards: dict[tuple[Secim, str, str], int] = {}
        self._stamp: tuple[int, int] | None = None  # of the registry that all of it is from

    def lines(self, place: str = "") -> list[PlaceLine]:
        """Return a line for each district, for each board of a district, or each box of a board."""
        parts = tuple(place.split("/")) if place else ()
        level = len(parts)
        self._forget_if_registry_changed()
        with coverage.open_coverage(self._site) as opened:
            if level == 2:
                found = {line.key: line for line in opened.box_lines(*parts)}
            else:
                found = dict(_below(opened.lines(("cevre", "kurul")[level]), parts))
        expected = self._expected_results(parts)
        results = self._results(parts)
        aside = Counter(
            _key(each, level) for each in self._in_quarantine() if each and each[:level] == parts
        )
        here, rejected = (
            Counter[str](_summed(counts, level)) for counts in (results.here, results.rejected)
        )
        return [
            PlaceLine(
                key,
                line.expected,
                line.filed,
                aside[key],
                line.absent,
                expected[key],
                here[key],
                rejected[key],
            )
            for key, line in found.items()
        ]

    def unplaced(self) -> int:
        """Return the number of pages in quarantine whose place is not known."""
        self._forget_if_registry_changed()
        return sum(place is None for place in self._in_quarantine())

    def _forget_if_registry_changed(self) -> None:
        # A registry does not change; a new one is another file.
        try:
            status = (self._site / REGISTRY_INDEX).stat()
            stamp = status.st_ino, status.st_mtime_ns
        except FileNotFoundError:
            stamp = None
        if stamp != self._stamp:
            self._stamp, self._seq = stamp, -1
            self._boards.clear()
            self._quarantined.clear()

    def _expected_results(self, parts: Sequence[str]) -> Counter[str]:
        found: Counter[str] = Counter()
        if self._stamp is None:
            return found
        registry = Registry(self._site / REGISTRY_INDEX)
        try:
            if len(parts) == 2:
                for entry in registry.at_place(*parts):
                    if entry.sheet.belge is BOX_SHEET and entry.sheet.page == 1:
                        found[entry.sheet.sandik or "-"] += 1
                return found
            if not self._boards:
                self._boards = registry.expected_boxes(BOX_SHEET)
        finally:
            registry.close()
        for (_, cevre, kurul), boxes in self._boards.items():
            if not parts or cevre == parts[0]:
                found[kurul if parts else cevre] += boxes
        return found

    def _results(self, parts: Sequence[str]) -> _Results:
        found = _Results(Counter(), Counter())
        columns = ("cevre", "kurul", "sandik")
        shown = columns[: len(parts) + 1]
        where = "".join(f" AND {name} = ?" for name, _ in zip(columns, parts, strict=False))
        query = (
            f"SELECT {', '.join(shown)}, count(*) FROM result WHERE newest AND seq IS NOT NULL "
            f"AND belge = ?{where} GROUP BY {', '.join(shown)}"
        )
        with open_reader(store.url(self._site)) as database:
            if database is None or not {"result", "set_aside"} <= database.tables():
                return found
            for *place, number in database.execute(query, (BOX_SHEET.value, *parts)):
                found.here[_padded(place)] = number
            rejected = "SELECT place, count(*) FROM set_aside WHERE fault <> 'duplicate' GROUP BY 1"
            for text, number in database.execute(rejected):
                cevre, kurul, sandik = _padded(text.split("/"))
                place = (cevre, kurul, sandik.removeprefix("sandik-"))
                if kurul and place[: len(parts)] == tuple(parts):
                    found.rejected[place] += number
        return found

    def _in_quarantine(self) -> list[_Place | None]:
        """Return the place of each page in quarantine that is not decided yet."""
        with open_reader(catalog.url(self._site)) as database:
            if database is None or not {"arrival", "ruling"} <= database.tables():
                return []
            query = (
                "SELECT seq, id, evidence FROM arrival WHERE seq > ? AND outcome = ? "
                "AND reason <> ? ORDER BY seq"
            )
            rows = database.stream(query, (self._seq, QUARANTINED, Reason.BLANK_BACK.value))
            for seq, arrival, place in _placed(self._site, rows):
                self._seq = max(self._seq, seq)
                self._quarantined[arrival] = place
            for (done,) in database.execute(f"SELECT substr(file, 1, {ID_LENGTH}) FROM ruling"):
                self._quarantined.pop(done, None)
        return list(self._quarantined.values())


def _placed(site: Path, rows: Iterable[Any]) -> Iterable[tuple[int, str, _Place | None]]:
    """Yield number, arrival and place of pages in quarantine."""
    registry = Registry(site / REGISTRY_INDEX) if (site / REGISTRY_INDEX).exists() else None
    try:
        for seq, arrival, evidence in rows:
            texts = json.loads(evidence).get("texts", ()) if evidence else ()
            named = set()
            for text in texts if registry is not None else ():
                entry = registry.lookup(text) if registry and is_karekod(text) else None
                if entry is not None:
                    sheet = entry.sheet
                    named.add((sheet.cevre or "", sheet.kurul or "", sheet.sandik or ""))
            yield seq, arrival, _common(named)
    finally:
        if registry is not None:
            registry.close()


def _common(places: set[_Place]) -> _Place | None:
    """Return the one place of several karekods: the same box, or else the same board."""
    if len(places) == 1:
        return next(iter(places))
    boards = {place[:2] for place in places}
    return (*next(iter(boards)), "") if len(boards) == 1 else None


def _below(
    lines: Iterable[CoverageLine], parts: Sequence[str]
) -> Iterable[tuple[str, CoverageLine]]:
    for line in lines:
        if not parts:
            yield line.key, line
        elif line.key.startswith(f"{parts[0]}/"):
            key = line.key.partition("/")[2]
            yield key, line


def _key(place: _Place, level: int) -> str:
    return place[level] or "-"


def _summed(counts: Counter[_Place], level: int) -> dict[str, int]:
    found: Counter[str] = Counter()
    for place, number in counts.items():
        found[_key(place, level)] += number
    return found


def _padded(parts: Sequence[str]) -> _Place:
    cevre, kurul, sandik = (*parts, "", "", "")[:3]
    return cevre, kurul, sandik
