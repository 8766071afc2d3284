from dataclasses import replace
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from config.registry import RegistryEntry
from config.sheet import Belge, SandikTuru, Secim, Sheet
from publisher.catalog import tables as t
from publisher.catalog.catalog import Catalog
from publisher.catalog.queries import counts
from publisher.catalog.queries.counts import Counts
from publisher.catalog.rows import FilingRow, Original
from publisher.outcome import Duplicate, Filed, FiledSheet, Quarantined
from publisher.page import Arrival, Page, Reading, ReadResult, Reason, Stamp
from publisher.source import Source

NOON = datetime(2023, 5, 14, 14, 0, 0, 41, tzinfo=UTC)
SHEET = Sheet(Secim.CB, Belge.SANDIK_SONUC, "34-istanbul-1", "kadikoy-2", "1234", 1)
ENTRY = RegistryEntry("1093717526", SHEET, SandikTuru.NORMAL, "")
CB, MV = "1093717526", "1093717527"
PATH = "e/34-istanbul-1/kadikoy-2/sandik-1234/cb-sandik-sonuc-s1.jpg"
PATH_2 = "e/34-istanbul-1/kadikoy-2/sandik-1234/cb-sandik-sonuc-s1.v2.jpg"
FIRST = Filed((FiledSheet(1, ENTRY, 1, PATH),), 2)
SECOND = Filed((FiledSheet(1, ENTRY, 2, PATH_2),), 2)
LOOK = ReadResult("JPEG", 10, 10, (Reading("1093717526", "zxing-cpp", "whole", 2, ((1, 2),)),), 7)


def arrival(number: int) -> Arrival:
    return Arrival(
        f"a{number}", f"{number}.jpg", Source("in", "\udcff.jpg"), Stamp(number, 5, 6), NOON
    )


def page(number: int) -> Page:
    return Page(arrival(number), Stamp(number, 5, 7), f"{number}" * 64, LOOK)


def committed(opened: Catalog) -> Counts:
    """Commit, and count what another connection sees."""
    opened.commit()
    return counted(opened)


def counted(opened: Catalog) -> Counts:
    with opened.connection.engine.connect() as other:
        return counts.count(other)


def test_an_arrival_counts_under_its_outcome_when_it_is_recorded_and_committed(
    opened: Catalog,
) -> None:
    opened.add_arrivals([arrival(n) for n in range(1, 6)])
    opened.mark_claimed([f"a{n}" for n in range(1, 6)])
    assert committed(opened) == Counts(waiting=5)

    opened.add_filings(page(1), FIRST, 1684080000, NOON)
    opened.add_filings(page(2), SECOND, 1684080000, NOON)
    opened.add_unfiled(page(3), Duplicate(PATH), NOON)
    opened.add_unfiled(page(4), Quarantined(Reason.NO_KAREKOD), NOON)
    assert committed(opened) == Counts(waiting=5), "a decision alone does not count"

    for seq in range(4):
        assert opened.mark_recorded(f"a{seq + 1}", seq)
    assert counted(opened) == Counts(waiting=5), "nothing counts before the commit"
    expected = Counts(filed=1, versions=1, duplicates=1, quarantined=1, waiting=1)
    assert committed(opened) == expected


def every_row(opened: Catalog) -> list[list[tuple[object, ...]]]:
    tables = (t.arrival, t.filing, t.total, t.tally)
    queries = (sa.select(table).order_by(*table.primary_key.columns) for table in tables)
    return [[tuple(row) for row in opened.connection.execute(query)] for query in queries]


def test_decisions_are_marked_all_at_once_as_one_by_one(opened: Catalog) -> None:
    mv = replace(ENTRY, karekod=MV, sheet=replace(SHEET, secim=Secim.MV))
    two = Filed((FIRST.sheets[0], FiledSheet(3, mv, 1, PATH.replace("cb-", "mv-"))), 2)
    opened.add_arrivals([arrival(n) for n in range(1, 5)])
    opened.add_filings(page(1), two, 1684080000, NOON)
    opened.add_filings(page(2), SECOND, 1684080000, NOON)
    opened.add_unfiled(page(3), Duplicate(PATH), NOON)
    opened.commit()
    recorded = list(zip(opened.unrecorded_decisions(), (7, 8, 9, 10), strict=True))

    opened.mark_all_recorded(recorded)
    at_once = every_row(opened)
    assert opened.unrecorded_decisions() == []
    opened.connection.rollback()
    for row, seq in recorded:
        assert opened.mark_recorded(row.arrival.id, seq, row.filing.frame if row.filing else 1)

    assert at_once == every_row(opened)
    assert committed(opened) == Counts(filed=2, versions=1, duplicates=1, waiting=1)
    opened.mark_all_recorded([])


def test_a_recorded_decision_counts_once(opened: Catalog) -> None:
    opened.add_arrivals([arrival(1)])
    assert not opened.mark_recorded("a1", 0), "nothing was decided"
    opened.add_filings(page(1), FIRST, 1684080000, NOON)

    assert opened.mark_recorded("a1", 0)
    assert not opened.mark_recorded("a1", 1)
    assert not opened.mark_recorded("unknown", 2)

    assert committed(opened) == Counts(filed=1)
    assert opened.next_seq() == 1


def test_a_file_with_two_sheets_is_done_when_both_are_recorded(opened: Catalog) -> None:
    other = replace(ENTRY, karekod=MV, sheet=replace(SHEET, secim=Secim.MV))
    opened.add_arrivals([arrival(1)])
    opened.add_filings(
        page(1), Filed((FIRST.sheets[0], FiledSheet(3, other, 1, "mv")), 2), 1684080000, NOON
    )

    first, second = opened.unrecorded_decisions()
    assert (first.what, second.what) == (PATH, "mv")
    assert first.filing == FilingRow(Original(1, "1" * 64, PATH), 1, CB, 1, 1684080000)
    assert second.filing == FilingRow(Original(2, "1" * 64, "mv"), 3, MV, 1, 1684080000)

    assert opened.mark_recorded("a1", 7, 3)
    assert not opened.mark_recorded("a1", 8, 3), "it is already recorded"
    assert not opened.mark_recorded("a1", 8, 2), "there is no sheet on that page"
    assert opened.unrecorded_decisions() == [first]
    assert committed(opened) == Counts(filed=1, waiting=1)
    assert opened.next_seq() == 8
    assert opened.arrival_state("a1") == (arrival(1), Stamp(1, 5, 7), False)

    assert opened.mark_recorded("a1", 8, 1)
    assert opened.unrecorded_decisions() == []
    assert committed(opened) == Counts(filed=2)
    assert opened.arrival_state("a1") == (arrival(1), Stamp(1, 5, 7), True)
    assert opened.path_of_bytes("1" * 64) == PATH


def test_changes_that_were_not_committed_are_lost(opened: Catalog) -> None:
    opened.add_arrivals([arrival(1)])
    opened.close()

    with Catalog(opened.connection.engine.url) as second:
        assert second.undecided() == []
        assert second.next_seq() == 0


def test_an_unrecorded_decision_has_everything_that_carrying_it_out_needs(
    opened: Catalog,
) -> None:
    opened.add_arrivals([arrival(1), arrival(2)])
    opened.add_filings(page(1), FIRST, 1684080000, NOON)
    opened.add_unfiled(page(2), Quarantined(Reason.UNKNOWN_KAREKOD), NOON)

    filed, quarantined = opened.unrecorded_decisions()

    assert filed.arrival == arrival(1)
    assert filed.filing == FilingRow(Original(1, "1" * 64, PATH), 1, CB, 1, 1684080000)
    assert (filed.outcome, filed.what, filed.stamp) == ("filed", PATH, Stamp(1, 5, 7))
    assert filed.decided_at == NOON
    assert filed.evidence == {
        "witnesses": 2,
        "size": [10, 10],
        "person": {},
        "texts": ["1093717526"],
        "ms": 7,
        "format": "JPEG",
        "frames": 1,
        "readings": [["1093717526", "zxing-cpp", "whole", 2, [[1, 2]], 1]],
    }
    assert filed.readings == LOOK.readings
    assert (quarantined.outcome, quarantined.reason) == ("quarantined", Reason.UNKNOWN_KAREKOD)
    assert quarantined.what == "a2-2.jpg"
    assert opened.undecided() == []


def test_earlier_decisions_are_known_before_the_batch_is_committed(opened: Catalog) -> None:
    opened.add_arrivals([arrival(1), arrival(2), arrival(3)])
    assert opened.latest_version(SHEET) == 0

    opened.add_filings(page(1), FIRST, 1684080000, NOON)
    opened.add_filings(page(2), SECOND, 1684080000, NOON)
    opened.add_unfiled(page(3), Quarantined(Reason.NO_KAREKOD), NOON)

    assert opened.latest_version(SHEET) == 2
    assert opened.latest_version(replace(SHEET, page=2)) == 0
    assert opened.path_of_bytes("2" * 64) == PATH_2
    assert opened.path_of_bytes("3" * 64) is None
    assert opened.quarantined_path("3" * 64, Reason.NO_KAREKOD) == "quarantine/a3-3.jpg"
    assert opened.quarantined_path("3" * 64, Reason.EMPTY) is None


def test_the_same_version_or_the_same_bytes_cannot_be_filed_twice(opened: Catalog) -> None:
    opened.add_arrivals([arrival(1), arrival(2)])
    opened.add_filings(page(1), FIRST, 1684080000, NOON)

    opened.add_filings(page(2), Filed((FiledSheet(1, ENTRY, 1, "another"),), 2), 1684080000, NOON)
    with pytest.raises(sa.exc.IntegrityError):
        opened.commit()


def test_pages_that_are_looked_up_together_are_found_as_soon_as_they_are_added(
    opened: Catalog,
) -> None:
    pages = [replace(page(n), result=replace(LOOK, pixels=f"{n}" * 64)) for n in (1, 2)]
    opened.add_arrivals([arrival(n) for n in (1, 2)])
    opened.add_filings(pages[0], FIRST, 1684080000, NOON)
    opened.commit()

    opened.look_up(pages, lambda karekod: ENTRY if karekod == ENTRY.karekod else None)
    assert opened.latest_version(SHEET) == 1
    assert opened.path_of_bytes("1" * 64) == opened.path_of_pixels("1" * 64, SHEET) == PATH
    assert opened.path_of_bytes("2" * 64) is opened.path_of_pixels("2" * 64, SHEET) is None

    opened.add_filings(pages[1], SECOND, 1684080000, NOON)
    assert opened.latest_version(SHEET) == 2
    assert opened.path_of_bytes("2" * 64) == opened.path_of_pixels("2" * 64, SHEET) == PATH_2


@pytest.mark.parametrize("question", ["version", "pixels", "bytes", "quarantine"])
def test_each_question_alone_finds_what_is_not_written_yet(opened: Catalog, question: str) -> None:
    opened.add_arrivals([arrival(1), arrival(2)])
    look = replace(LOOK, pixels="9" * 64)
    opened.add_filings(replace(page(1), result=look), FIRST, 1684080000, NOON)
    opened.add_unfiled(page(2), Quarantined(Reason.NO_KAREKOD), NOON)

    answers = {
        "version": lambda: opened.latest_version(SHEET) == 1,
        "pixels": lambda: opened.path_of_pixels("9" * 64, SHEET) == PATH,
        "bytes": lambda: opened.path_of_bytes("1" * 64) == PATH,
        "quarantine": lambda: opened.quarantined_path("2" * 64, Reason.NO_KAREKOD) is not None,
    }
    assert answers[question]()


def test_removing_arrivals_leaves_decided_ones(opened: Catalog) -> None:
    opened.add_arrivals([arrival(1), arrival(2)])
    opened.add_filings(page(2), FIRST, 1684080000, NOON)

    opened.remove_arrivals(["a1", "a2"])

    assert opened.arrival_state("a1") is None
    assert opened.arrival_state("a2") == (arrival(2), Stamp(2, 5, 7), False)


def test_a_tree_is_complete_for_one_scope_and_has_gaps(opened: Catalog) -> None:
    opened.add_arrivals([arrival(1)])
    opened.add_filings(page(1), FIRST, 1684080000, NOON)
    opened.mark_tree_incomplete("parti-a")
    opened.add_gap("parti-a", 1)
    opened.add_gap("parti-a", 1)
    opened.mark_tree_complete("parti-a", "all")

    assert opened.completed_trees() == {"parti-a": "all"}
    assert opened.gaps() == [("parti-a", Original(1, "1" * 64, PATH))]
    assert committed(opened).gaps == 1

    opened.mark_tree_incomplete("parti-a")
    assert opened.completed_trees() == {}
    assert opened.gaps() == []


def test_every_filing_is_returned_once_in_order(opened: Catalog) -> None:
    many = 2001
    with_paths = [Filed((FiledSheet(1, ENTRY, n, f"p{n}"),), 2) for n in range(1, many + 1)]
    opened.add_arrivals([arrival(n) for n in range(1, many + 1)])
    for number, filed in enumerate(with_paths, start=1):
        made = replace(page(number), sha256=f"{number:064}")
        opened.add_filings(made, filed, 1684080000, NOON)

    assert [original.path for original in opened.all_filings()] == [
        f.sheets[0].path for f in with_paths
    ]


def test_a_source_left_behind_is_remembered_with_its_last_stamp(opened: Catalog) -> None:
    opened.note_left_behind(arrival(1))
    opened.note_left_behind(arrival(2))

    assert opened.left_behind() == {b"in//\xff.jpg": "2:5:6"}
