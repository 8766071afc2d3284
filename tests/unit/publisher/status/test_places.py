"""What is expected and here of each place, from the country down to a box."""

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from unit.portal.portal_site import BOXES, PortalSite, result

from config import registry
from config.registry import Registry
from config.sheet import Belge
from config.site import REGISTRY_INDEX
from publisher.catalog import tables
from publisher.catalog.catalog import Catalog
from publisher.catalog.catalog import url as catalog_url
from publisher.status.places import PlaceLine, Places

pytestmark = pytest.mark.both_databases

FORM = Belge.SANDIK_SONUC
KADIKOY_1, KADIKOY_2 = "34-istanbul-1/kadikoy-1", "34-istanbul-1/kadikoy-2"


@pytest.fixture
def site(tmp_path: Path) -> PortalSite:
    """Two boxes of Kadıköy 1 have a result, one of them twice; one of them has a sheet."""
    made = PortalSite(tmp_path / "site")
    first, second = (box for box in BOXES if box[2] in ("1001", "1002") and box[1] == "kadikoy-1")
    made.publish(result(first), result(first, "cb"), result(second))
    path = made.file_sheet(first)
    registered = karekod(made, KADIKOY_1, "1001", "mv")
    with Catalog(catalog_url(made.path)) as catalog:
        filed = sa.update(tables.filing).filter_by(path=path).values(karekod=registered)
        catalog.connection.execute(filed)
        catalog.commit()
    return made


def set_aside(site: PortalSite, number: int, *texts: str, reason: str = "one-witness") -> None:
    """Put a page into quarantine on which these texts were read."""
    row = {
        "id": f"20230514T1400000000{number:02}-00000000",
        "name": "q.jpg",
        "source": b"in//q.jpg",
        "source_stamp": "-",
        "received_at": "2023-05-14T14:00:00+00:00",
        "decided_at": "2023-05-14T14:00:00+00:00",
        "state": "quarantined",
        "outcome": "quarantined",
        "reason": reason,
        "evidence": json.dumps({"texts": texts}),
        "seq": 100 + number,
    }
    with Catalog(catalog_url(site.path)) as catalog:
        catalog.connection.execute(sa.insert(tables.arrival), [row])
        catalog.commit()


def decide(site: PortalSite, number: int) -> None:
    row = {
        "file": f"20230514T1400000000{number:02}-00000000-q.jpg",
        "id": str(number),
        "outcome": "rejected",
        "who": "ayse",
        "why": "x",
        "ruled_at": "2023-05-14T14:00:00+00:00",
    }
    with Catalog(catalog_url(site.path)) as catalog:
        catalog.connection.execute(sa.insert(tables.review), [row])
        catalog.commit()


def line(found: list[PlaceLine], place: str) -> PlaceLine:
    return next(each for each in found if each.place == place)


def test_the_country_has_a_line_for_each_district(site: PortalSite) -> None:
    found = Places(site.path).lines()

    assert [each.place for each in found] == [
        "-",
        "01-adana",
        "34-istanbul-1",
        "35-izmir-2",
        "gumruk",
        "yurt-disi",
    ]
    istanbul = line(found, "34-istanbul-1")
    assert (istanbul.sheets, istanbul.sheets_here, istanbul.sheets_missing) == (48, 1, 47)
    assert (istanbul.results, istanbul.results_here, istanbul.results_missing) == (20, 3, 17)


def test_a_board_and_a_box_are_counted_like_the_country(site: PortalSite) -> None:
    places = Places(site.path)

    boards, boxes = places.lines("34-istanbul-1"), places.lines(KADIKOY_1)

    board = line(boards, "kadikoy-1")
    assert (board.sheets, board.sheets_here, board.results, board.results_here) == (26, 1, 12, 3)
    assert line(boards, "-").results == 0
    box = line(boxes, "1001")
    assert (box.sheets, box.sheets_here, box.results, box.results_here) == (4, 1, 2, 2)
    assert sum(each.sheets for each in boxes) == board.sheets
    assert sum(each.results_here for each in boxes) == board.results_here
    assert places.lines("yok") == [] and places.lines("34-istanbul-1/yok") == []


def test_a_page_in_quarantine_counts_where_its_karekods_belong(site: PortalSite) -> None:
    set_aside(site, 1, karekod(site, KADIKOY_2, "1002"))
    set_aside(site, 2, "0000000000", "not a karekod")
    two_boxes = (karekod(site, KADIKOY_2, "1001"), karekod(site, KADIKOY_2, "1003"))
    set_aside(site, 3, *two_boxes, reason="several-sheets")
    set_aside(site, 4, karekod(site, KADIKOY_2, "1002"), reason="blank-back")
    places = Places(site.path)

    assert line(places.lines(), "34-istanbul-1").sheets_quarantined == 2
    assert line(places.lines("34-istanbul-1"), "kadikoy-2").sheets_quarantined == 2
    assert [e.place for e in places.lines(KADIKOY_2) if e.sheets_quarantined] == ["-", "1002"]
    assert places.unplaced() == 1

    decide(site, 1)
    set_aside(site, 5, karekod(site, KADIKOY_1, "1002"))

    assert line(places.lines("34-istanbul-1"), "kadikoy-2").sheets_quarantined == 1
    assert line(places.lines("34-istanbul-1"), "kadikoy-1").sheets_quarantined == 1


def test_a_page_in_quarantine_gets_its_place_from_a_registry_that_is_imported_later(
    site: PortalSite,
) -> None:
    set_aside(site, 1, "2999999999")
    places = Places(site.path)
    assert places.unplaced() == 1
    csv = site.path / "kayit.csv"
    late = "2999999999,cb,sandik-sonuc,34-istanbul-1,kadikoy-2,normal,1002,,2\n"
    csv.write_text(csv.read_text(encoding="utf-8") + late, encoding="utf-8")

    registry.import_csv(csv, site.path / REGISTRY_INDEX)

    assert places.unplaced() == 0
    assert line(places.lines(KADIKOY_2), "1002").sheets_quarantined == 1


def test_a_row_that_was_rejected_counts_at_the_place_that_it_names(site: PortalSite) -> None:
    place = {"cevre": "34-istanbul-1", "kurul": "kadikoy-2", "sandik": "1003"}
    wrong = result(("34-istanbul-1", "kadikoy-2", "1003"), oylar={"yok": 1}, **place)
    site.publish(wrong)
    places = Places(site.path)

    assert line(places.lines(), "34-istanbul-1").results_rejected == 1
    assert line(places.lines(KADIKOY_2), "1003").results_rejected == 1
    assert line(places.lines(KADIKOY_2), "1003").results_here == 0


def test_a_site_without_anything_has_no_places(tmp_path: Path) -> None:
    assert Places(tmp_path).lines() == []
    assert Places(tmp_path).unplaced() == 0


def karekod(site: PortalSite, board: str, box: str, secim: str = "cb") -> str:
    """Return the karekod of a box's result sheet."""
    index = Registry(site.path / REGISTRY_INDEX)
    try:
        cevre, kurul = board.split("/")
        found = list(index.at_place(cevre, kurul, box))
        return next(e.karekod for e in found if e.sheet.secim == secim and e.sheet.belge == FORM)
    finally:
        index.close()
