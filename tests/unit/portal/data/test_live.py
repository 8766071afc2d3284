from pathlib import Path

import duckdb
import pytest
from unit.portal.portal_site import BALLOT, BOXES, PortalSite, every_result, registry_csv, result

from config import registry
from config.scope import ALL
from config.sheet import Secim
from config.site import BALLOT_CSV, REGISTRY_INDEX, SNAPSHOTS
from portal.data import view as views
from portal.data.criteria import Criteria
from portal.data.numbers.boxes import BoxPlace, build
from portal.data.numbers.snapshots import BEGINNING, Cursor, parse_cursor

MV = Criteria(Secim.MV)


def test_before_the_first_snapshot_every_box_is_unopened(site: PortalSite) -> None:
    data = site.data()

    assert data.snapshot.number == 0
    assert (data.summary(MV).opened, data.summary(MV).boxes) == (0, 21)
    assert data.feed(BEGINNING, 10).lines == ()


def test_a_site_without_registry_and_ballot_has_no_boxes(site: PortalSite) -> None:
    (site.path / REGISTRY_INDEX).unlink()
    (site.path / BALLOT_CSV).unlink()

    data = site.data()

    assert data.contests == ()
    assert data.summary(MV).boxes == 0
    assert data.table(MV).rows == ()
    assert data.coverage(Secim.MV) == ()


def test_an_imported_registry_and_ballot_are_followed(site: PortalSite) -> None:
    site.publish(result(BOXES[2]))
    live = site.live()
    more = registry_csv() + "3000000000,mv,sandik-sonuc,02-adiyaman,merkez,normal,7,Merkez,1\n"
    (site.path / "kayit.csv").write_text(more, encoding="utf-8")
    registry.import_csv(site.path / "kayit.csv", site.path / REGISTRY_INDEX)
    renamed = BALLOT.replace("C Partisi", "Ç Partisi")
    (site.path / BALLOT_CSV).write_text(renamed, encoding="utf-8")

    assert live.refresh()

    data = live.scoped(ALL)
    assert data.summary(MV).boxes == 22
    assert data.summary(MV).total.votes["parti-a"] == 102
    assert data.option_titles(MV)["parti-c"] == "Ç Partisi"
    assert not live.refresh()


def test_a_damaged_ballot_leaves_what_is_known(site: PortalSite) -> None:
    live = site.live()
    (site.path / BALLOT_CSV).write_text("nonsense", encoding="utf-8")

    assert not live.refresh()
    assert live.scoped(ALL).summary(MV).boxes == 21


def test_a_filed_sheet_is_seen_without_a_new_snapshot(site: PortalSite) -> None:
    live = site.live()
    site.file_sheet(BOXES[0])
    assert live.refresh()
    site.file_sheet(BOXES[1])
    assert live.refresh()

    row = live.scoped(ALL).box_row(Secim.MV, BoxPlace(*BOXES[1]))

    assert row is not None and row.sheets == 1
    assert live.scoped(ALL).coverage(Secim.MV)[0].sheets == 2
    assert not live.refresh()


def test_many_changes_are_read_from_the_new_snapshot_instead(
    site: PortalSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "MAX_CHANGES", 3)
    site.publish(result(BOXES[0]))
    live = site.live()
    site.publish(*every_result())

    assert live.refresh()
    assert live.scoped(ALL).summary(MV).opened == 21


def test_an_option_without_a_ballot_has_a_column_too(site: PortalSite) -> None:
    (site.path / BALLOT_CSV).unlink()
    site.publish(*every_result())

    data = site.data()

    assert data.summary(MV).total.votes["parti-b"] == 21 * 50
    assert data.summary(MV).total.paylar is None
    assert data.summary(Criteria(Secim.MV, cevre="35-izmir-2")).total.votes["bagimsiz-2"] == 15


def test_a_box_that_left_the_registry_is_left_out(site: PortalSite) -> None:
    site.publish(*every_result())
    fewer = "".join(
        line for line in registry_csv().splitlines(keepends=True) if ",aladag," not in line
    )
    (site.path / "kayit.csv").write_text(fewer, encoding="utf-8")
    registry.import_csv(site.path / "kayit.csv", site.path / REGISTRY_INDEX)

    data = site.data()

    assert (data.summary(MV).opened, data.summary(MV).boxes) == (19, 19)
    assert data.summary(MV).total.votes["parti-a"] == sum(range(102, 121))


def test_sums_agree_with_the_signed_parquet_file(site: PortalSite) -> None:
    number = site.publish(*every_result())
    file = site.path / SNAPSHOTS / f"{number:08}" / "mv.parquet"
    with duckdb.connect() as database:
        query = f"SELECT sum(gecerli), sum(\"oylar.bagimsiz-1\") FROM '{file}'"
        (valid, independents) = database.execute(query).fetchall()[0]

    total = site.data().summary(MV).total

    assert (total.numbers["gecerli"], total.votes["bagimsiz-1"]) == (valid, independents)


def test_the_feed_goes_on_where_the_cursor_says(site: PortalSite) -> None:
    site.publish(*(result(box) for box in BOXES[:3]))
    data = site.data()

    first = data.feed(BEGINNING, 2)
    second = data.feed(parse_cursor(str(first.cursor)), 2)
    third = data.feed(second.cursor, 2)

    assert (len(first.lines), first.more) == (2, True)
    assert (len(second.lines), second.more) == (1, False)
    assert (third.lines, third.more, third.cursor) == ((), False, second.cursor)
    site.publish(result(BOXES[0], surum=2, neden="itiraz"))
    later = site.data().feed(third.cursor, 10)
    assert [line.snapshot for line in later.lines] == [2]


@pytest.mark.parametrize("text", ["", "x", "AAAA", "....", "4.mv.8", "é", "=" * 99, "MC4tLjA" * 9])
def test_another_text_is_no_cursor(text: str) -> None:
    with pytest.raises(ValueError, match="is no cursor"):
        parse_cursor(text)


@pytest.mark.parametrize("cursor", [BEGINNING, Cursor(42), Cursor(42, "mv", 8192)])
def test_a_cursor_reads_back(cursor: Cursor) -> None:
    assert parse_cursor(str(cursor)) == cursor


def test_a_cursor_of_the_future_or_inside_a_line_ends_cleanly(site: PortalSite) -> None:
    site.publish(result(BOXES[0]))
    data = site.data()

    assert data.feed(Cursor(99), 10).lines == ()
    assert data.feed(Cursor(1, "mv", 10**9), 10).lines == ()
    assert data.feed(Cursor(1, "mv", 5), 10).lines == ()


def test_rows_are_in_the_order_of_places_and_found_again(tmp_path: Path) -> None:
    boxes = build(
        [
            ("mv", "34-istanbul-1", "kadikoy-10", "2", "normal", ""),
            ("mv", "34-istanbul-1", "kadikoy-2", "10", "normal", "Moda"),
            ("cb", "34-istanbul-1", "kadikoy-2", "9", "seyyar", "Âfet"),
            ("mv", "01-adana", "ceyhan", "A1", "normal", "Çarşı"),
            ("mv", "06-ankara-1", "cankaya", "1", "normal", ""),
            ("mv", "06-ankara-1", "cankaya", "01", "normal", ""),
        ]
    )

    assert [str(boxes.place(row)) for row in range(len(boxes))] == [
        "01-adana/ceyhan/sandik-A1",
        "06-ankara-1/cankaya/sandik-01",
        "06-ankara-1/cankaya/sandik-1",
        "34-istanbul-1/kadikoy-2/sandik-9",
        "34-istanbul-1/kadikoy-2/sandik-10",
        "34-istanbul-1/kadikoy-10/sandik-2",
    ]
    assert [boxes.row_of(boxes.place(row)) for row in range(len(boxes))] == list(range(6))
    assert boxes.row_of(BoxPlace("01-adana", "ceyhan", "a1")) is None
    assert boxes.row_of(BoxPlace("01-adana", "kozan", "A1")) is None
    assert boxes.rank_range("a1", "a1") == (boxes.ranks["A1"], boxes.ranks["A1"] + 1)
    assert boxes.mahalles == ("", "Âfet", "Çarşı", "Moda")
    assert boxes.expected[Secim.MV].tolist() == [True, True, True, False, True, True]


def test_a_number_that_two_bytes_cannot_hold_is_kept_whole(site: PortalSite) -> None:
    site.publish(result(BOXES[2], gecerli=70_000))
    live = site.live()
    before = live.scoped(ALL).summary(MV).total.numbers["gecerli"]
    site.publish(result(BOXES[3], gecerli=90_000), result(BOXES[4]))

    live.refresh()

    renewed = live.scoped(ALL).summary(MV).total.numbers["gecerli"]
    read = site.data().summary(MV).total.numbers["gecerli"]
    assert before == 70_000
    assert renewed == read == 70_000 + 90_000 + 211
