"""Asks for what the checks found (publisher/results/checks), within a scope and a snapshot.

A finding names one or more places, such as `34-istanbul-1/kadikoy-2/sandik-1234`, `34-istanbul-1`
or `-` for the election. It is in scope if all of them are, and in a snapshot if that holds all the
results in which it was found: so a finding never tells a number before a snapshot does.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import orjson

from config.scope import Scope
from config.sheet import Secim
from portal.data.queries.databases import open_results
from publisher.database import Reader
from publisher.results.checks.finding import Check, Finding

_SELECT = "SELECT check_name, secim, places, numbers, sheets FROM finding"
_REMEMBERED = 2.0  # seconds that the numbers of findings are remembered
_MAX_REMEMBERED = 500
_Place = tuple[str, str | None]  # district, board
_CHECKS = {check.value: check for check in Check}
_Condition = tuple[str, list[str | int]]
_EVERYTHING: _Condition = ("true", [])


@dataclass(frozen=True)
class FindingPage:
    """Some findings, by check and place; `count` is how many there are in all."""

    findings: tuple[Finding, ...]
    count: int


class _Wanted(NamedTuple):
    """Which findings are asked for."""

    scope: Scope
    secim: Secim | None
    place: _Place | None
    last_result: int  # of the snapshot


class FindingQueries:
    """Asks one site. On polling night there can be several findings for each box of the country.

    The publisher's index has check, places and contest, so what is asked is always a few ranges of
    the index: for each check the findings whose first place begins with a district or a board. The
    rows are in the order of the index. Numbers are remembered for a moment, because counting the
    whole country takes longer than everything else.
    """

    def __init__(self, site: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._site, self._monotonic = site, monotonic
        self._counts: dict[_Wanted, tuple[float, dict[Check, int]]] = {}

    def find(
        self,
        scope: Scope,
        secim: Secim | None,
        place: tuple[str | None, str | None],
        last_result: int,
        check: Check | None,
        offset: int,
        limit: int,
    ) -> FindingPage:
        """Return findings in scope, of a contest, of a district or board, of one check.

        `last_result` is that of the snapshot.
        """
        wanted = _wanted(scope, secim, place, last_result)
        found: list[Finding] = []
        with open_results(self._site) as database:
            if database is None:
                return FindingPage((), 0)
            counts = self._count(database, wanted)
            checks = sorted(counts) if check is None else [check]
            count = sum(counts.get(each, 0) for each in checks)
            for each in checks:
                if offset >= counts.get(each, 0):
                    offset -= counts.get(each, 0)
                    continue
                found += _of_check(database, wanted, each, offset, limit - len(found))
                offset = 0
                if len(found) >= limit:
                    break
        return FindingPage(tuple(found), count)

    def count(
        self,
        scope: Scope,
        secim: Secim | None,
        place: tuple[str | None, str | None],
        last_result: int,
    ) -> dict[Check, int]:
        """Return how many findings in scope each check has, of a contest and a place."""
        with open_results(self._site) as database:
            if database is None:
                return {}
            return dict(self._count(database, _wanted(scope, secim, place, last_result)))

    def _count(self, database: Reader, wanted: _Wanted) -> dict[Check, int]:
        now = self._monotonic()
        at, counts = self._counts.get(wanted, (float("-inf"), {}))
        if now < at + _REMEMBERED:
            return counts
        found: dict[Check, int] = {}
        for part in _ranges(wanted):
            for check, number in _counted(database, wanted, part):
                found[check] = found.get(check, 0) + number
        if len(self._counts) >= _MAX_REMEMBERED:
            self._counts.clear()
        self._counts[wanted] = now, found
        return found


def _wanted(
    scope: Scope, secim: Secim | None, place: tuple[str | None, str | None], last_result: int
) -> _Wanted:
    within = (place[0], place[1]) if place[0] is not None else None
    return _Wanted(scope, secim, within, last_result)


def _of_check(
    database: Reader, wanted: _Wanted, check: Check, offset: int, limit: int
) -> Iterator[Finding]:
    """Yield the findings of one check, by place."""
    for part in _ranges(wanted):
        condition, values = _all_of(database, wanted, part, check)
        if offset:
            query = f"SELECT count(*) FROM finding WHERE {condition}"
            (here,) = database.execute(query, values).fetchone()
            if offset >= here:
                offset -= here
                continue
        query = f"{_SELECT} WHERE {condition} ORDER BY places, secim LIMIT ? OFFSET ?"
        for row in database.execute(query, (*values, limit, offset)):
            limit -= 1
            yield _finding(*row)
        offset = 0
        if limit <= 0:
            return


def _counted(database: Reader, wanted: _Wanted, part: _Condition) -> Iterator[tuple[Check, int]]:
    for name, number in _grouped(database, *_all_of(database, wanted, part, None)):
        if name in _CHECKS:  # a later version of the publisher may have more
            yield _CHECKS[name], number


def _grouped(
    database: Reader, condition: str, values: list[str | int]
) -> Iterator[tuple[str, int]]:
    query = f"SELECT check_name, count(*) FROM finding WHERE {condition} GROUP BY check_name"
    yield from database.execute(query, values)


def of_box(database: Reader, place: str, last_result: int) -> list[Finding]:
    """Return the findings of a snapshot that name a box; the caller has checked the scope."""
    # The subject's index finds nearly all of them; statistical ones are kept by board.
    board = place.rpartition("/")[0]
    subjects = [f"contests {place}"]
    subjects += [
        f"{kind} {secim} {at}" for secim in Secim for kind, at in (("box", place), ("board", board))
    ]
    shown, values = _shown(database, last_result)
    query = (
        f"{_SELECT} WHERE {shown} AND subject IN ({', '.join('?' * len(subjects))}) "
        f"AND EXISTS (SELECT 1 FROM {database.elements('places')} WHERE value = ?) "
        "ORDER BY check_name, secim"
    )
    return [_finding(*row) for row in database.execute(query, (*values, *subjects, place))]


def _all_of(database: Reader, wanted: _Wanted, part: _Condition, check: Check | None) -> _Condition:
    """Return the condition of the findings of one range, of one check or of all."""
    shown, last = _shown(database, wanted.last_result)
    parts, values = [part[0], shown], [*part[1], *last]
    if check is not None:
        parts.append("check_name = ?")
        values.append(check.value)
    elif part is not _EVERYTHING:
        # With the checks named, the index finds the range of each.
        parts.append(f"check_name IN ({', '.join('?' * len(_CHECKS))})")
        values += _CHECKS
    if wanted.secim is not None:
        parts.append("secim = ?")
        values.append(wanted.secim.value)
    if part is not _EVERYTHING:
        several, more = _all_places(database, wanted)
        # Few findings name several places; of the others, the range decides.
        parts.append(f"(places NOT LIKE '%\", \"%' OR {several})")
        values += more
    return " AND ".join(parts), values


def _shown(database: Reader, last_result: int) -> _Condition:
    """Return the condition of the findings of a snapshot."""
    if not database.has_column("finding", "last_result"):
        return _EVERYTHING  # an earlier version of the publisher found them
    return "last_result <= ?", [last_result]


def _ranges(wanted: _Wanted) -> list[_Condition]:
    """Return the ranges of `places`, in order, in which the first place is one that is wanted."""
    places = _places(wanted)
    if places is None:
        return [_EVERYTHING]
    found = []
    for place in places:
        name = json.dumps("/".join(filter(None, place)))[:-1]
        found.append((f'["{name[1:]}"', f'["{name[1:]}#'))  # the place itself: # comes after "
        found.append((f'["{name[1:]}/', f'["{name[1:]}0'))  # what is in it: 0 comes after /
    return [("places >= ? AND places < ?", list(each)) for each in sorted(found)]


def _places(wanted: _Wanted) -> list[_Place] | None:
    """Return the places of which findings are wanted, none in another one; None for everything."""
    allowed = wanted.scope.places
    if wanted.place is None:
        if allowed is None:
            return None
        whole = {district for district, board in allowed if board is None}
        return [place for place in allowed if place[1] is None or place[0] not in whole]
    if wanted.scope.covers_place(*wanted.place):
        return [wanted.place]
    district, board = wanted.place
    return [each for each in allowed or () if each[0] == district and board in (None, each[1])]


def _all_places(database: Reader, wanted: _Wanted) -> _Condition:
    """Return the condition that all places of a finding are wanted ones."""
    each = [_at(*place) for place in _places(wanted) or ()]
    joined = " OR ".join(condition for condition, _ in each) or "false"
    values = [value for _, several in each for value in several]
    several = database.elements("places")
    return f"NOT EXISTS (SELECT 1 FROM {several} WHERE NOT ({joined}))", values


def _at(cevre: str | None, kurul: str | None) -> _Condition:
    """Return the condition of places that are a district or a board, or are in it."""
    name = "/".join(filter(None, (cevre, kurul)))
    return "(value = ? OR substr(value, 1, ?) = ?)", [name, len(name) + 1, f"{name}/"]


def _finding(check: str, secim: str, places: str, numbers: str, sheets: str) -> Finding:
    return Finding(
        Check(check),
        Secim(secim),
        tuple(orjson.loads(places)),
        orjson.loads(numbers),
        tuple(orjson.loads(sheets)),
    )
