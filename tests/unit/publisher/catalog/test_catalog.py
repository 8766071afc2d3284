from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from config.registry import RegistryEntry
from config.sheet import Belge, SandikTuru, Secim, Sheet
from publisher.catalog import catalog, counts, tables
from publisher.catalog.catalog import Catalog
from publisher.catalog.counts import Counts
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


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Catalog]:
    (tmp_path / "state").mkdir()
    with Catalog(catalog.url(tmp_path)) as found:
        yield found


def arrival(number: int) -> Arrival:
    return Arrival(
        f"a{number}", f"{number}.jpg", Source("in", "\udcff.jpg"), Stamp(number, 5, 6), NOON
    )


def page(number: int) -> Page:
    return Page(arrival(number), Stamp(number, 5, 7), f"{number}" * 64, LOOK)


def committed(opened: Catalog, site: Path) -> Counts:
    opened.commit()
    return counts.counts(site)


def test_an_arrival_is_counted_as_what_became_of_it_by_anyone_who_looks(
    opened: Catalog, tmp_path: Path
) -> None:
    opened.receive([arrival(n) for n in range(1, 6)])
    opened.mark_claimed([f"a{n}" for n in range(1, 6)])
    opened.commit()
    assert counts.counts(tmp_path) == Counts(waiting=5)

    opened.file(page(1), FIRST, 1684080000, NOON)
    opened.file(page(2), SECOND, 1684080000, NOON)
    opened.set_aside(page(3), Duplicate(PATH), NOON)
    opened.set_aside(page(4), Quarantined(Reason.NO_KAREKOD), NOON)
    opened.commit()
    assert counts.counts(tmp_path) == Counts(waiting=5), "decided is not done"

    for seq in range(4):
        assert opened.finish(f"a{seq + 1}", seq)
    assert counts.counts(tmp_path) == Counts(waiting=5), "not before the commit"
    opened.commit()
    expected = Counts(filed=1, versions=1, duplicates=1, quarantined=1, waiting=1)
    assert counts.counts(tmp_path) == expected


def test_what_is_done_is_counted_once(opened: Catalog, tmp_path: Path) -> None:
    opened.receive([arrival(1)])
    assert not opened.finish("a1", 0), "nothing was decided"
    opened.file(page(1), FIRST, 1684080000, NOON)

    assert opened.finish("a1", 0)
    assert not opened.finish("a1", 1)
    assert not opened.finish("unknown", 2)

    assert committed(opened, tmp_path) == Counts(filed=1)
    assert opened.next_seq() == 1


def test_a_file_of_two_sheets_is_done_when_both_are_recorded_and_each_counts_once(
    opened: Catalog, tmp_path: Path
) -> None:
    other = replace(ENTRY, karekod=MV, sheet=replace(SHEET, secim=Secim.MV))
    opened.receive([arrival(1)])
    opened.file(
        page(1), Filed((FIRST.sheets[0], FiledSheet(3, other, 1, "mv")), 2), 1684080000, NOON
    )

    first, second = opened.unrecorded_decisions()
    assert (first.what, second.what) == (PATH, "mv")
    assert first.filing == FilingRow(Original(1, "1" * 64, PATH), 1, CB, 1)
    assert second.filing == FilingRow(Original(2, "1" * 64, "mv"), 3, MV, 1)

    assert opened.finish("a1", 7, 3)
    assert not opened.finish("a1", 8, 3), "it was noted before"
    assert not opened.finish("a1", 8, 2), "no sheet is on that page"
    assert opened.unrecorded_decisions() == [first]
    assert committed(opened, tmp_path) == Counts(filed=1, waiting=1)
    assert opened.next_seq() == 8
    assert opened.arrival_state("a1") == (arrival(1), Stamp(1, 5, 7), False, None)

    assert opened.finish("a1", 8, 1)
    assert opened.unrecorded_decisions() == []
    assert committed(opened, tmp_path) == Counts(filed=2)
    assert opened.arrival_state("a1") == (arrival(1), Stamp(1, 5, 7), True, None)
    assert opened.path_of_bytes("1" * 64) == PATH


def test_what_was_not_committed_never_happened(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with Catalog(catalog.url(tmp_path)) as first:
        first.receive([arrival(1)])

    with Catalog(catalog.url(tmp_path)) as second:
        assert second.undecided() == []
        assert second.next_seq() == 0


def test_a_decided_arrival_comes_back_with_all_that_carrying_it_out_takes(
    opened: Catalog,
) -> None:
    opened.receive([arrival(1), arrival(2)])
    opened.file(page(1), FIRST, 1684080000, NOON)
    opened.set_aside(page(2), Quarantined(Reason.UNKNOWN_KAREKOD), NOON)

    filed, quarantined = opened.unrecorded_decisions()

    assert filed.arrival == arrival(1)
    assert filed.filing == FilingRow(Original(1, "1" * 64, PATH), 1, CB, 1)
    assert (filed.outcome, filed.what, filed.stamp) == ("filed", PATH, Stamp(1, 5, 7))
    assert filed.decided_at == NOON
    assert filed.evidence == {
        "witnesses": 2,
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


def test_the_desk_is_told_what_stands_already_even_within_a_batch(opened: Catalog) -> None:
    opened.receive([arrival(1), arrival(2), arrival(3)])
    assert opened.latest_version(SHEET) == 0

    opened.file(page(1), FIRST, 1684080000, NOON)
    opened.file(page(2), SECOND, 1684080000, NOON)
    opened.set_aside(page(3), Quarantined(Reason.NO_KAREKOD), NOON)

    assert opened.latest_version(SHEET) == 2
    assert opened.latest_version(replace(SHEET, page=2)) == 0
    assert opened.path_of_bytes("2" * 64) == PATH_2
    assert opened.path_of_bytes("3" * 64) is None
    assert opened.quarantined_path("3" * 64, Reason.NO_KAREKOD) == "quarantine/a3-3.jpg"
    assert opened.quarantined_path("3" * 64, Reason.EMPTY) is None


def test_one_version_of_a_sheet_and_one_copy_of_the_bytes_can_be_filed(opened: Catalog) -> None:
    opened.receive([arrival(1), arrival(2)])
    opened.file(page(1), FIRST, 1684080000, NOON)

    with pytest.raises(sa.exc.IntegrityError):
        opened.file(page(2), Filed((FiledSheet(1, ENTRY, 1, "another"),), 2), 1684080000, NOON)


def test_a_withdrawn_arrival_is_forgotten_but_never_a_decided_one(opened: Catalog) -> None:
    opened.receive([arrival(1), arrival(2)])
    opened.file(page(2), FIRST, 1684080000, NOON)

    opened.withdraw(["a1", "a2"])

    assert opened.arrival_state("a1") is None
    assert opened.arrival_state("a2") == (arrival(2), Stamp(2, 5, 7), False, None)


def test_a_party_is_complete_for_one_scope_and_its_gaps_are_known(
    opened: Catalog, tmp_path: Path
) -> None:
    opened.receive([arrival(1)])
    opened.file(page(1), FIRST, 1684080000, NOON)
    opened.mark_tree_incomplete("parti-a")
    opened.add_gap("parti-a", 1)
    opened.add_gap("parti-a", 1)
    opened.mark_tree_complete("parti-a", "all")

    assert opened.parties() == {"parti-a": "all"}
    assert opened.gaps() == [("parti-a", Original(1, "1" * 64, PATH))]
    assert committed(opened, tmp_path).gaps == 1

    opened.mark_tree_incomplete("parti-a")
    assert opened.parties() == {}
    assert opened.gaps() == []


def test_every_filing_is_yielded_once_however_many_there_are(opened: Catalog) -> None:
    many = 2001
    with_paths = [Filed((FiledSheet(1, ENTRY, n, f"p{n}"),), 2) for n in range(1, many + 1)]
    opened.receive([arrival(n) for n in range(1, many + 1)])
    for number, filed in enumerate(with_paths, start=1):
        made = replace(page(number), sha256=f"{number:064}")
        opened.file(made, filed, 1684080000, NOON)

    assert [original.path for original in opened.originals()] == [
        f.sheets[0].path for f in with_paths
    ]


def test_a_source_that_stays_is_known_as_it_looked_last(opened: Catalog) -> None:
    opened.note_left_behind(arrival(1))
    opened.note_left_behind(arrival(2))

    assert opened.left_behind() == {b"in//\xff.jpg": "2:5:6"}


def test_the_tables_are_ones_that_postgresql_takes() -> None:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]

    for table in tables.METADATA.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=dialect))
        for index in table.indexes:
            assert "CREATE INDEX" in str(CreateIndex(index).compile(dialect=dialect))
