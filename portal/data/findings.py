"""Asks for what the checks found (publisher/results/checks), within a scope.

A finding names one or more places, such as `34-istanbul-1/kadikoy-2/sandik-1234`, `34-istanbul-1`
or `-` for the election. It is in scope if all of them are.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from config.scope import Scope
from config.sheet import Secim
from portal.data.databases import open_results
from publisher.results.checks.finding import Check, Finding

_SELECT = "SELECT check_name, secim, places, numbers, sheets FROM finding"
_Condition = tuple[str, list[str]]


@dataclass(frozen=True)
class FindingPage:
    """Some findings, by check and place; `count` is how many there are in all."""

    findings: tuple[Finding, ...]
    count: int


def find(
    site: Path,
    scope: Scope,
    secim: Secim | None,
    place: tuple[str | None, str | None],
    check: Check | None,
    offset: int,
    limit: int,
) -> FindingPage:
    """Return findings in scope, of a contest, of a district or board, of one check."""
    condition, values = _conditions(scope, secim, place)
    if check is not None:
        condition += " AND check_name = ?"
        values.append(check.value)
    with open_results(site) as database:
        if database is None:
            return FindingPage((), 0)
        (count,) = database.execute(
            f"SELECT count(*) FROM finding WHERE {condition}", values
        ).fetchone()
        rows = database.execute(
            f"{_SELECT} WHERE {condition} ORDER BY check_name, places, secim LIMIT ? OFFSET ?",
            (*values, limit, offset),
        )
        return FindingPage(tuple(_finding(*row) for row in rows), count)


def of_box(site: Path, place: str) -> list[Finding]:
    """Return the findings that name a box; the caller has checked the scope."""
    with open_results(site) as database:
        if database is None:
            return []
        query = (
            f"{_SELECT} WHERE EXISTS (SELECT 1 FROM json_each(places) WHERE value = ?) "
            "ORDER BY check_name, secim"
        )
        # The subject's index finds nearly all of them; statistical ones are kept by board.
        board = place.rpartition("/")[0]
        subjects = [f"contests {place}"]
        subjects += [
            f"{kind} {secim} {at}"
            for secim in Secim
            for kind, at in (("box", place), ("board", board))
        ]
        marks = ", ".join("?" * len(subjects))
        query = query.replace("WHERE", f"WHERE subject IN ({marks}) AND", 1)
        return [_finding(*row) for row in database.execute(query, (*subjects, place))]


def count(site: Path, scope: Scope, secim: Secim | None) -> dict[Check, int]:
    """Return how many findings in scope each check has."""
    condition, values = _conditions(scope, secim, (None, None))
    with open_results(site) as database:
        if database is None:
            return {}
        query = f"SELECT check_name, count(*) FROM finding WHERE {condition} GROUP BY check_name"
        known = {check.value: check for check in Check}
        return {known[name]: n for name, n in database.execute(query, values) if name in known}


def _conditions(
    scope: Scope, secim: Secim | None, place: tuple[str | None, str | None]
) -> _Condition:
    parts, values = ["true"], []
    if secim is not None:
        parts.append("secim = ?")
        values.append(secim.value)
    allowed = [_at(*place)] if place[0] is not None else []
    for here in allowed:
        parts.append(f"NOT EXISTS (SELECT 1 FROM json_each(places) WHERE NOT {here[0]})")
        values += here[1]
    if scope.places is not None:
        each = [_at(*here) for here in sorted(scope.places, key=str)]
        joined = " OR ".join(condition for condition, _ in each) or "false"
        parts.append(f"NOT EXISTS (SELECT 1 FROM json_each(places) WHERE NOT ({joined}))")
        values += [value for _, several in each for value in several]
    return " AND ".join(parts), values


def _at(cevre: str | None, kurul: str | None) -> _Condition:
    """Return the condition of places that are a district or a board, or are in it."""
    name = "/".join(filter(None, (cevre, kurul)))
    return "(value = ? OR substr(value, 1, ?) = ?)", [name, str(len(name) + 1), f"{name}/"]


def _finding(check: str, secim: str, places: str, numbers: str, sheets: str) -> Finding:
    return Finding(
        Check(check),
        Secim(secim),
        tuple(json.loads(places)),
        json.loads(numbers),
        tuple(json.loads(sheets)),
    )
