from collections.abc import Iterator
from dataclasses import replace

import pytest
from unit.publisher.catalog.test_catalog import ENTRY, NOON, PATH, PATH_2, SHEET, arrival, page

from config.scope import ALL, parse
from config.sheet import Belge
from publisher.catalog.catalog import Catalog
from publisher.catalog.queries.feed import FeedQueries, SumsFolder
from publisher.outcome import Filed, FiledSheet

KADIKOY, ANKARA = SumsFolder("34-istanbul-1", "kadikoy-2"), SumsFolder("06-ankara-1", None)
DISTRICT = replace(SHEET, belge=Belge.IL_BIRLESTIRME, cevre="06-ankara-1", kurul=None, sandik=None)
SHEETS = (
    FiledSheet(1, ENTRY, 1, PATH),
    FiledSheet(1, ENTRY, 2, PATH_2),
    FiledSheet(1, replace(ENTRY, sheet=DISTRICT), 1, "e/06-ankara-1/birlestirme/cb.jpg"),
)


@pytest.fixture
def queries(opened: Catalog) -> Iterator[FeedQueries]:
    """Three filings with the numbers 0, 1 and 2, and a fourth that is not recorded yet."""
    opened.add_arrivals([arrival(n) for n in range(1, 5)])
    for number, sheet in enumerate(SHEETS, start=1):
        opened.add_filings(page(number), Filed((sheet,), 2), 1684080000 + number, NOON)
        opened.mark_recorded(f"a{number}", number - 1)
    unrecorded = FiledSheet(1, ENTRY, 3, "later")
    opened.add_filings(page(4), Filed((unrecorded,), 2), 1684080000, NOON)
    opened.add_gap("parti-b", 2)
    opened.commit()
    with FeedQueries(opened.connection.engine.url) as found:
        yield found


def test_filings_are_returned_in_the_order_of_their_records(queries: FeedQueries) -> None:
    first, second, third = queries.after(-1, 10)

    assert (first.seq, first.path, first.version, first.supersedes) == (0, PATH, 1, "")
    assert (second.seq, second.path, second.version, second.supersedes) == (1, PATH_2, 2, PATH)
    assert (third.folder, third.sheet, third.filed_at) == (ANKARA, "il-birlestirme", 1684080003)
    assert [filed.seq for filed in queries.after(0, 1)] == [1]
    assert queries.after(2, 10) == []
    assert queries.newest_number() == 2


def test_filings_can_be_selected_by_number(queries: FeedQueries) -> None:
    assert [filed.path for filed in queries.with_numbers([1, 7])] == [PATH_2]
    assert queries.with_numbers([]) == []


def test_the_pages_of_a_folder_are_sorted_by_path(queries: FeedQueries) -> None:
    assert queries.folders() == {KADIKOY, ANKARA}
    assert [path for _, path, _ in queries.filed_in(KADIKOY, 2)] == sorted([PATH, PATH_2])
    assert [path for _, path, _ in queries.filed_in(KADIKOY, 0)] == [PATH]
    assert KADIKOY.is_covered_by(ALL)
    assert not KADIKOY.is_covered_by(parse(["06-ankara-1"]))


def test_gaps_have_the_folder_of_their_page(queries: FeedQueries) -> None:
    assert queries.gaps() == {("parti-b", 2)}
    assert queries.gaps_by_folder() == [(KADIKOY, "parti-b", 2)]
