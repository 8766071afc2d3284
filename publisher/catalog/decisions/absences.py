"""Sheets that will never arrive, each with the reason that an operator gave.

A box may not have been opened, may have been joined with another box, or its sheets may have been
burnt. The operator names a whole box, `34-istanbul-1/kadikoy-2/1234`, or one sheet by its karekod.

An absent sheet does not count as missing. If it arrives after all, it is filed like any other, and
its record says that it was expected to be absent.

The filing ledger records each absence and each withdrawal of one. The table is only a copy: after a
crash between the two, the next start reads the ledger and brings the table up to date.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

import sqlalchemy as sa

from config.event import Event, FilingEvent
from config.registry import RegistryEntry, is_karekod
from config.sheet import Sheet
from keys.ledger.record import Record
from publisher.catalog import arrays
from publisher.catalog import tables as t


class AbsenceReason(StrEnum):
    """Why a sheet will not arrive."""

    NOT_OPENED = "not-opened"
    JOINED = "joined"
    BURNT = "burnt"
    OTHER = "other"


class AbsentPlace(NamedTuple):
    """A box, or one sheet by its karekod; a part that the sheet's level does not have is empty."""

    cevre: str
    kurul: str
    sandik: str
    karekod: str = ""

    def __str__(self) -> str:
        return self.karekod or "/".join((self.cevre, self.kurul, self.sandik))


@dataclass(frozen=True, slots=True)
class RecordedAbsence:
    """An absence that is recorded and was not withdrawn; `id` is the id of its request."""

    id: str
    place: AbsentPlace
    reason: str
    why: str
    who: str
    recorded_at: str


def parse_place(text: str) -> AbsentPlace:
    """Parse a box or a karekod; the caller looks up the place of a karekod in the registry.

    Raises ValueError with what to write instead.
    """
    if is_karekod(text):
        return AbsentPlace("", "", "", text)
    parts = text.split("/")
    if len(parts) != 3 or not all(parts):
        raise ValueError(
            f"{text!r}: write a box as 34-istanbul-1/kadikoy-2/1234, or a sheet as its karekod"
        )
    return AbsentPlace(*parts)


def place_of(entry: RegistryEntry) -> AbsentPlace:
    """Return the place of the sheet of a registry entry."""
    sheet = entry.sheet
    return AbsentPlace(sheet.cevre or "", sheet.kurul or "", sheet.sandik or "", entry.karekod)


def absent_event(
    place: AbsentPlace, reason: str, who: str, origin: str, why: str, request: str
) -> Event:
    """Return the filing ledger's event for an absence."""
    return _event(FilingEvent.ABSENT, place, who, origin, {"reason": reason, "why": why}, request)


def withdrawn_event(
    absence: RecordedAbsence, who: str, origin: str, why: str, request: str
) -> Event:
    """Return the filing ledger's event for the withdrawal of an absence."""
    detail = {"why": why, "absence": absence.id}
    return _event(FilingEvent.EXPECTED, absence.place, who, origin, detail, request)


def _event(
    kind: FilingEvent,
    place: AbsentPlace,
    who: str,
    origin: str,
    detail: Mapping[str, str],
    request: str,
) -> Event:
    box = f"{place.cevre}/{place.kurul}/{place.sandik}"
    return Event(
        kind, who, origin, box, detail={**detail, "karekod": place.karekod, "errand": request}
    )


def apply_record(connection: sa.Connection, record: Record) -> None:
    """Apply a record of the filing ledger to the table, unless the table has it already."""
    event, detail = record.event, record.event.detail
    if event.event == FilingEvent.ABSENT:
        known = sa.select(t.absence.c.id).where(t.absence.c.id == detail["errand"])
        if connection.scalar(known) is None:
            connection.execute(sa.insert(t.absence).values(_row(record)))
    elif event.event == FilingEvent.EXPECTED:
        this = (t.absence.c.id == detail["absence"]) & t.absence.c.withdrawn.is_(None)
        connection.execute(sa.update(t.absence).where(this).values(withdrawn=detail["errand"]))


def _row(record: Record) -> dict[str, Any]:
    event = record.event
    # The place of a sheet may have empty parts, but it always has these three.
    cevre, kurul, sandik = event.what.split("/")
    return {
        "id": event.detail["errand"],
        "cevre": cevre,
        "kurul": kurul,
        "sandik": sandik,
        "karekod": event.detail["karekod"],
        "reason": event.detail["reason"],
        "why": event.detail["why"],
        "who": event.who,
        "recorded_at": _timestamp(record.time),
        "seq": record.seq,
    }


def _timestamp(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def absences_of_sheets(
    connection: sa.Connection, sheets: Iterable[tuple[Sheet, str]]
) -> dict[str, RecordedAbsence]:
    """Return the current absences that cover sheets, by karekod; each sheet is given with its own.

    If both the sheet and its whole box are absent, it is the absence of the box.
    """
    boxes = {karekod: (s.cevre or "", s.kurul or "", s.sandik or "") for s, karekod in sheets}
    if not boxes:
        return {}
    found: dict[tuple[str, ...], RecordedAbsence] = {}
    for row in arrays.absences(connection, sorted(set(boxes.values()))):
        found.setdefault((row.cevre, row.kurul, row.sandik, row.karekod), _absence(row))
    covering = {
        karekod: found.get((*box, "")) or found.get((*box, karekod))
        for karekod, box in boxes.items()
    }
    return {karekod: absence for karekod, absence in covering.items() if absence}


def find_absence(connection: sa.Connection, place: AbsentPlace) -> RecordedAbsence | None:
    """Return the current absence of exactly this box or sheet, if there is one."""
    a = t.absence.c
    if place.karekod:
        condition = a.karekod == place.karekod
    else:
        box = (a.cevre == place.cevre) & (a.kurul == place.kurul) & (a.sandik == place.sandik)
        condition = box & (a.karekod == "")
    return next(iter(_absences(connection, condition)), None)


def was_withdrawn(connection: sa.Connection, request: str) -> bool:
    """Return whether a request withdrew an absence."""
    return connection.scalar(sa.exists().where(t.absence.c.withdrawn == request).select()) is True


def current_absences(connection: sa.Connection) -> list[RecordedAbsence]:
    """Return every current absence, sorted by place."""
    return _absences(connection, sa.true())


def _absences(
    connection: sa.Connection, condition: sa.ColumnElement[bool]
) -> list[RecordedAbsence]:
    a = t.absence.c
    query = (
        sa.select(t.absence)
        .where(a.withdrawn.is_(None), condition)
        .order_by(a.cevre, a.kurul, a.sandik, a.karekod, a.seq)
    )
    return list(map(_absence, connection.execute(query)))


def _absence(row: Any) -> RecordedAbsence:
    place = AbsentPlace(row.cevre, row.kurul, row.sandik, row.karekod)
    return RecordedAbsence(row.id, place, row.reason, row.why, row.who, row.recorded_at)
