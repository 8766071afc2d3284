from dataclasses import replace
from datetime import UTC, datetime

import pytest

from config.event import Event
from config.sheet import Belge, Secim, Sheet
from keys.ledger.record import Record
from publisher.catalog.catalog import Catalog
from publisher.catalog.decisions import absences
from publisher.catalog.decisions.absences import AbsentPlace, RecordedAbsence

NOON = datetime(2023, 5, 14, 14, tzinfo=UTC)
BOX = AbsentPlace("34-istanbul-1", "kadikoy-2", "1234")
CB, MV = "1093717526", "1093717527"
SHEET = Sheet(Secim.CB, Belge.SANDIK_SONUC, "34-istanbul-1", "kadikoy-2", "1234", 1)


def apply(opened: Catalog, seq: int, event: Event) -> None:
    absences.apply_record(opened.connection, Record(seq, NOON, 0, event))


def record_box(opened: Catalog) -> None:
    event = absences.absent_event(BOX, "burnt", "ayse", "ysk-1", "minutes", "request-1")
    apply(opened, 1, event)


def absence_of_sheet(opened: Catalog, karekod: str) -> RecordedAbsence | None:
    """Return the absence of one of two sheets of a box, and of the boxes of others."""
    others = [(replace(SHEET, sandik=str(number)), str(number)) for number in (7, 8)]
    found = absences.absences_of_sheets(opened.connection, [*others, (SHEET, karekod)])
    assert set(found) <= {karekod}
    return found.get(karekod)


def test_a_recorded_absence_covers_the_sheets_of_its_box(opened: Catalog) -> None:
    record_box(opened)

    absence = absence_of_sheet(opened, CB)

    assert absence is not None
    assert (absence.place, absence.reason, absence.who) == (BOX, "burnt", "ayse")
    assert absences.find_absence(opened.connection, BOX) == absence
    assert absences.find_absence(opened.connection, BOX._replace(karekod=CB)) is None


def test_the_absence_of_one_sheet_does_not_cover_another(opened: Catalog) -> None:
    place = BOX._replace(karekod=CB)
    event = absences.absent_event(place, "joined", "ayse", "ysk-1", "minutes", "request-1")

    apply(opened, 1, event)

    assert absence_of_sheet(opened, CB) is not None
    assert absence_of_sheet(opened, MV) is None


def test_a_record_that_is_applied_again_changes_nothing(opened: Catalog) -> None:
    record_box(opened)
    record_box(opened)

    assert len(absences.current_absences(opened.connection)) == 1


def test_a_withdrawn_absence_is_not_current(opened: Catalog) -> None:
    record_box(opened)
    (absence,) = absences.current_absences(opened.connection)

    apply(opened, 2, absences.withdrawn_event(absence, "veli", "ysk-1", "it came", "request-2"))

    assert absences.current_absences(opened.connection) == []
    assert absence_of_sheet(opened, CB) is None
    assert absences.was_withdrawn(opened.connection, "request-2")
    assert not absences.was_withdrawn(opened.connection, "request-1")


def test_a_place_is_a_box_or_a_karekod() -> None:
    assert absences.parse_place("34-istanbul-1/kadikoy-2/1234") == BOX
    assert absences.parse_place(CB) == AbsentPlace("", "", "", CB)
    for text in ("34-istanbul-1", "34-istanbul-1//1234", ""):
        with pytest.raises(ValueError, match="write a box as"):
            absences.parse_place(text)
