"""Aggregate sheets against the sums below them: board, district, customs, abroad, election."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from unit.publisher.results.results_site import ResultsSite, row

from config.registry import Registry
from config.site import REGISTRY_INDEX
from publisher.results.checker import Checker
from publisher.results.checks.finding import Check

pytestmark = pytest.mark.both_databases

BOXES = {  # district, board, box: votes for parti-a
    ("34-istanbul-1", "kadikoy-1", "1"): 10,
    ("34-istanbul-1", "kadikoy-2", "1"): 20,
    ("34-istanbul-1", "uskudar-1", "1"): 40,
    ("gumruk", "kapikule", "A1"): 100,
    ("gumruk", "ipsala", "B1"): 200,
    ("yurt-disi", "almanya", "1"): 1000,
    ("yurt-disi", "fransa", "1"): 2000,
}
KINDS = {"34-istanbul-1": "normal", "gumruk": "gumruk", "yurt-disi": "yurt-disi"}
AGGREGATES = {  # sheet, district, board: votes for parti-a
    ("ilce-birlestirme", "34-istanbul-1", "kadikoy-1"): 10,
    ("ilce-birlestirme-kurullar", "34-istanbul-1", "kadikoy-1"): 30,
    ("il-birlestirme", "34-istanbul-1", ""): 70,
    ("gumruk-ilce-birlestirme-rumuz", "gumruk", "kapikule"): 100,
    ("gumruk-ilce-birlestirme-kurul", "gumruk", "ipsala"): 200,
    ("gumruk-kapilari-birlestirme", "gumruk", ""): 300,
    ("yurt-disi-ulke-birlestirme", "yurt-disi", "almanya"): 1000,
    ("yurt-disi-ulkeler-birlestirme", "yurt-disi", ""): 3000,
    ("ulkeler-ve-gumruk-kapilari-birlestirme", "", ""): 3300,
}


def registry_csv() -> str:
    lines = ["karekod,secim,belge,cevre,kurul,sandik_turu,sandik,mahalle,sayfa"]
    serial = iter(range(1_000_000_000, 2_000_000_000))
    for district, board, box in BOXES:
        place = f"{district},{board},{KINDS[district]},{box},,1"
        lines.append(f"{next(serial)},mv,sandik-sonuc,{place}")
    for sheet, district, board in AGGREGATES:
        lines.append(f"{next(serial)},mv,{sheet},{district},{board},,,,1")
    return "\n".join(lines) + "\n"


def box_row(district: str, board: str, box: str, votes: int) -> dict[str, object]:
    return row(
        cevre=district,
        kurul=board,
        sandik=box,
        sandik_turu=KINDS[district],
        oylar={"parti-a": votes},
    )


def aggregate_row(sheet: str, district: str, board: str, votes: int) -> dict[str, object]:
    place = {name: part for name, part in (("cevre", district), ("kurul", board)) if part}
    time = "2023-05-15T02:00:00+03:00"
    numbers = {"surum": 1, "zaman": time, "oylar": {"parti-a": votes}}
    return {"secim": "mv", "belge": sheet, **place, **numbers}


def sum_findings(
    site: ResultsSite, rows: Iterable[object]
) -> list[tuple[str, str, dict[str, int]]]:
    """Take in rows; return check, place and numbers of what differs from the sums."""
    site.take_in(site.deliver(*rows))
    with site.store() as store:
        registry = Registry(site.path / REGISTRY_INDEX)
        checker = Checker(store, registry, lambda: site.ballot, lambda keys: {}, held=0)
        found = checker.check_changed_places()
        registry.close()
    sums = (Check.BOARD_NOT_SUM, Check.DISTRICT_NOT_SUM, Check.ELECTION_NOT_SUM)
    return [
        (f.check.value, f.places[0], dict(f.numbers))
        for listed in found.values()
        for f in listed
        if f.check in sums
    ]


@pytest.fixture
def site(tmp_path: Path) -> ResultsSite:
    return ResultsSite(tmp_path / "site", registry_csv())


def test_sums_that_agree_at_every_level_give_no_finding(site: ResultsSite) -> None:
    boxes = [box_row(*place, votes) for place, votes in BOXES.items()]
    aggregates = [aggregate_row(*sheet, votes) for sheet, votes in AGGREGATES.items()]

    assert sum_findings(site, boxes + aggregates) == []


def test_each_sheet_that_is_not_the_sum_below_it_is_found_at_its_place(site: ResultsSite) -> None:
    boxes = [box_row(*place, votes) for place, votes in BOXES.items()]
    aggregates = [aggregate_row(*sheet, votes - 1) for sheet, votes in AGGREGATES.items()]

    found = sum_findings(site, boxes + aggregates)

    assert sorted((check, place, list(numbers.values())) for check, place, numbers in found) == [
        ("board-not-sum", "34-istanbul-1/kadikoy-1", [9, 10]),
        ("board-not-sum", "34-istanbul-1/kadikoy-1", [29, 30]),
        ("board-not-sum", "gumruk/ipsala", [199, 200]),
        ("board-not-sum", "gumruk/kapikule", [99, 100]),
        ("board-not-sum", "yurt-disi/almanya", [999, 1000]),
        ("district-not-sum", "34-istanbul-1", [69, 70]),
        ("district-not-sum", "gumruk", [299, 300]),
        ("district-not-sum", "yurt-disi", [2999, 3000]),
        ("election-not-sum", "-", [3299, 3300]),
    ]


def test_while_boxes_are_missing_a_larger_sheet_is_no_finding(site: ResultsSite) -> None:
    first, *_ = BOXES.items()
    sheet = aggregate_row("il-birlestirme", "34-istanbul-1", "", 70)

    assert sum_findings(site, [box_row(*first[0], first[1]), sheet]) == []


def test_while_boxes_are_missing_a_sheet_is_compared_with_the_sheets_that_it_adds_up(
    site: ResultsSite,
) -> None:
    stated = {
        "gumruk-ilce-birlestirme-rumuz": 100,
        "gumruk-ilce-birlestirme-kurul": 200,
        "gumruk-kapilari-birlestirme": 301,
        "yurt-disi-ulkeler-birlestirme": 3000,
        "ulkeler-ve-gumruk-kapilari-birlestirme": 3300,
        "il-birlestirme": 71,  # the registry expects no sheet of some boards below it
    }
    rows = [aggregate_row(*key, stated[key[0]]) for key in AGGREGATES if key[0] in stated]

    found = sum_findings(site, rows)

    assert sorted((check, place, list(numbers.values())) for check, place, numbers in found) == [
        ("district-not-sum", "gumruk", [301, 300]),
        ("election-not-sum", "-", [3300, 3301]),
    ]
