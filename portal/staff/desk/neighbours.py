"""The files that came from the same scanner folder shortly before and after a page.

A scanner puts its pages into one folder in the order of the pile, so the sheets beside a page in
that order usually are the sheets beside it in the pile.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from config.registry import RegistryEntry
from portal.staff.desk.held import HeldPage, folder_of
from publisher.database import Reader
from publisher.page import arrival_id

MINUTE = timedelta(minutes=1)
NEAR = timedelta(minutes=30)
EACH_SIDE = 8
_MOST_ROWS = 6_000  # arrivals of all folders that are looked at on each side

Lookup = Callable[[str], RegistryEntry | None]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A file beside a page: `place` is -1 for the one just before, 1 for the one just after.

    `entry` is the sheet as which it was filed, None if it was not; `file` its name in quarantine.
    """

    place: int
    name: str
    at: datetime
    outcome: str
    reason: str
    file: str = ""
    entry: RegistryEntry | None = None

    def same_minute(self, page: HeldPage) -> bool:
        """Return whether it came within a minute of the page."""
        return abs(self.at - page.at) <= MINUTE


def neighbours(catalog: Reader | None, page: HeldPage, lookup: Lookup) -> list[Neighbour]:
    """Return the files beside a page, in the order in which they arrived."""
    if catalog is None:
        return []
    before = list(_beside(catalog, page, lookup, -1))
    return [*before[::-1], *_beside(catalog, page, lookup, 1)]


def filed_beside(beside: Sequence[Neighbour]) -> list[Neighbour]:
    """Return those that were filed, the nearest first."""
    filed = [each for each in beside if each.entry is not None]
    return sorted(filed, key=lambda each: abs(each.place))


def nearest_board(beside: Sequence[Neighbour]) -> tuple[str, str] | None:
    """Return district and board of the nearest sheet of a board that was filed."""
    for each in filed_beside(beside):
        if each.entry and each.entry.sheet.cevre and each.entry.sheet.kurul:
            return each.entry.sheet.cevre, each.entry.sheet.kurul
    return None


def _beside(catalog: Reader, page: HeldPage, lookup: Lookup, side: int) -> Iterator[Neighbour]:
    limit = page.at + side * NEAR
    bound = arrival_id(limit, "")
    near, far, order = ("<", ">=", "DESC") if side < 0 else (">", "<=", "ASC")
    # Names are compared here because Python would take most of the time for the other folders.
    query = (
        "SELECT id, name, source, received_at, outcome, what, reason FROM ("
        "SELECT id, name, source, received_at, outcome, what, reason FROM arrival "
        f"WHERE id {near} ? AND id {far} ? ORDER BY id {order} LIMIT {_MOST_ROWS}) "
        "AS near WHERE (substr(name, 1, ?) = ? OR name NOT LIKE '%/%') "
        "AND outcome IS DISTINCT FROM 'split'"
    )
    inside = f"{page.folder}/"
    place = 0
    for identity, name, source, received, outcome, what, reason in catalog.execute(
        query, (page.arrival, bound, len(inside), inside)
    ):
        if folder_of(name, source) != page.folder:
            continue
        place += side
        file = what if outcome == "quarantined" else ""
        karekod = _karekod(catalog, identity, outcome or "", what or "")
        yield Neighbour(
            place,
            name,
            datetime.fromisoformat(received),
            outcome or "",
            reason or "",
            file or "",
            lookup(karekod) if karekod else None,
        )
        if abs(place) == EACH_SIDE:
            return


def _karekod(catalog: Reader, arrival: str, outcome: str, what: str) -> str | None:
    """Return the karekod of the sheet as which an arrival was filed, also by operators."""
    query, value = "SELECT karekod FROM filing WHERE arrival = ? LIMIT 1", arrival
    if outcome == "duplicate":
        query, value = "SELECT karekod FROM filing WHERE path = ? LIMIT 1", what
    elif outcome == "quarantined":
        query = (
            "SELECT f.karekod FROM ruling r JOIN filing f ON f.arrival = r.filed "
            "WHERE r.file = ? LIMIT 1"
        )
        value = what
    row = catalog.execute(query, (value,)).fetchone()
    return row[0] if row else None
