"""What a user of one scope can ask, on a small election whose numbers are known."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import postgres
import pytest
from unit.portal.portal_site import (
    BOXES,
    ISTANBUL,
    KADIKOY_2,
    PortalSite,
    every_result,
    result,
)

from config.scope import ALL, Scope
from config.settings import ShareLevel
from config.sheet import Belge, SandikTuru, Secim
from config.site import RESULTS_DATABASE
from portal.data import scoped_rows
from portal.data.answers.aggregates import AggregateLine
from portal.data.criteria import Area, Criteria, Status, parse
from portal.data.numbers.boxes import BoxPlace
from portal.data.scoped import ScopedData

MV = Criteria(Secim.MV)
FIRST = BOXES[2]  # 34-istanbul-1/kadikoy-1/1001


def places(data: ScopedData, criteria: Criteria) -> list[str]:
    return [str(row.place) for row in data.rows(criteria)]


def numbers(data: ScopedData, criteria: Criteria) -> list[str]:
    return [row.place.sandik for row in data.rows(criteria)]


def test_a_search_finds_boxes_by_every_criterion(site: PortalSite) -> None:
    data = site.data()
    kadikoy = partial(Criteria, Secim.MV, cevre="34-istanbul-1", kurul="kadikoy-1")

    assert len(places(data, MV)) == 21
    assert len(places(data, Criteria(Secim.MV, Area.HOME))) == 15
    assert places(data, Criteria(Secim.MV, Area.ABROAD)) == [
        "yurt-disi/almanya/sandik-1",
        "yurt-disi/almanya/sandik-2",
        "yurt-disi/almanya/sandik-3",
        "gumruk/kapikule/sandik-A1",
        "gumruk/kapikule/sandik-A2",
        "gumruk/kapikule/sandik-A10",
    ]
    assert numbers(data, Criteria(Secim.MV, kind=SandikTuru.CEZAEVI)) == ["1003"]
    assert len(places(data, Criteria(Secim.MV, cevre="34-istanbul-1"))) == 10
    assert numbers(data, kadikoy()) == [str(n) for n in range(1001, 1007)]
    assert numbers(data, kadikoy(mahalle="Moda")) == ["1004", "1005", "1006"]
    assert numbers(data, kadikoy(first="1002", last="1003")) == [
        "1002",
        "1003",
    ]
    assert numbers(data, Criteria(Secim.MV, cevre="gumruk", first="A2")) == ["A2", "A10"]
    assert places(data, Criteria(Secim.MV, cevre="34-istanbul-9")) == []
    assert places(data, Criteria(Secim.BB)) == []


@pytest.mark.parametrize(
    ("kurul", "number", "others", "found"),
    [
        ("kadikoy-1", "1002", {}, ["1002"]),
        ("kadikoy-1", "9999", {}, []),
        ("kadikoy-1", "1003", {"kind": SandikTuru.NORMAL}, ["1003"]),
        ("kadikoy-1", "1003", {"kind": SandikTuru.CEZAEVI}, []),
        ("kadikoy-1", "1002", {"mahalle": "Moda"}, []),
        ("kadikoy-1", "1002", {"area": Area.ABROAD}, []),
        ("kadikoy-9", "1002", {}, []),
        ("kapikule", "a1", {"cevre": "gumruk"}, ["A1"]),
    ],
)
def test_one_box_is_found_by_its_number_and_the_other_criteria(
    site: PortalSite, kurul: str, number: str, others: dict[str, Any], found: list[str]
) -> None:
    place = {"cevre": "34-istanbul-1", "kurul": kurul, **others}
    one = Criteria(Secim.MV, first=number, last=number, **place)

    assert numbers(site.data(), one) == found


def test_each_list_depends_on_the_one_before(site: PortalSite) -> None:
    data = site.data()

    every = data.choices(MV)
    istanbul = data.choices(Criteria(Secim.MV, cevre="34-istanbul-1"))
    board = data.choices(Criteria(Secim.MV, cevre="34-istanbul-1", kurul="kadikoy-1"))
    prison = data.choices(Criteria(Secim.MV, kind=SandikTuru.CEZAEVI))

    assert every.contests == (Secim.MV, Secim.CB)
    assert every.areas == (Area.EVERYWHERE, Area.HOME, Area.ABROAD)
    assert every.districts == ("01-adana", "34-istanbul-1", "35-izmir-2", "yurt-disi", "gumruk")
    assert every.boards == ()
    assert istanbul.boards == ("kadikoy-1", "kadikoy-2")
    assert istanbul.mahalles == ()
    assert board.mahalles == ("Caferağa", "Moda")
    assert (board.first, board.last) == ("1001", "1006")
    assert prison.districts == ("35-izmir-2",)
    assert data.choices(Criteria(Secim.MV, Area.HOME)).kinds == (
        SandikTuru.NORMAL,
        SandikTuru.CEZAEVI,
    )


def test_a_summary_counts_opened_boxes_and_adds_up_their_numbers(site: PortalSite) -> None:
    site.publish(result(BOXES[2]), result(BOXES[3]), result(BOXES[0]))
    data = site.data()

    summary = data.summary(Criteria(Secim.MV, cevre="34-istanbul-1"))

    assert (summary.opened, summary.boxes) == (2, 10)
    assert summary.total.numbers["secmen"] == 800
    assert summary.total.numbers["gecersiz"] == 10
    assert summary.total.votes == {
        "parti-a": 205,
        "parti-b": 100,
        "parti-c": 80,
        "ortak": 20,
        "bagimsiz-1": 14,
    }
    assert summary.total.turnout == (214 + 215) / 800


def test_the_sum_of_one_box_has_the_numbers_of_that_box(site: PortalSite) -> None:
    site.publish(result(BOXES[2]), result(BOXES[3]))
    data = site.data()
    search = partial(Criteria, Secim.MV, cevre="34-istanbul-1", kurul="kadikoy-1")

    for box in BOXES[2:4]:
        table = data.table(search(first=box[2], last=box[2]))
        (row,) = table.rows
        assert row.place == box
        assert table.total.boxes == table.count == 1
        assert table.total.numbers == {name: n or 0 for name, n in row.numbers.items()}
        assert {k: v for k, v in table.total.votes.items() if v} == row.votes
    assert data.table(search(first="1003", last="1003")).total.boxes == 0


def test_with_the_level_ilce_only_whole_ilces_have_shares(site: PortalSite) -> None:
    site.publish(*(result(box) for box in BOXES))
    istanbul = Criteria(Secim.MV, cevre="34-istanbul-1")

    def shares(criteria: Criteria, scope: Scope = ALL) -> object:
        return site.data(scope, ShareLevel.ILCE).summary(criteria).total.paylar

    assert shares(Criteria(Secim.MV, cevre="35-izmir-2", kurul="konak")) is not None
    assert shares(replace(istanbul, kurul="kadikoy-2")) is None
    assert shares(istanbul, KADIKOY_2) is None
    # Istanbul has one ilçe here, so its shares are those of the district.
    assert shares(istanbul) == site.data().summary(istanbul).total.paylar


def test_joint_votes_are_divided_within_each_district(site: PortalSite) -> None:
    site.publish(result(BOXES[0]), result(BOXES[2]))
    data = site.data()

    district = data.summary(Criteria(Secim.MV, cevre="34-istanbul-1")).total.paylar
    country = data.summary(MV).total.paylar
    board = data.summary(Criteria(Secim.MV, cevre="34-istanbul-1", kurul="kadikoy-1")).total.paylar
    prison = data.summary(Criteria(Secim.MV, kind=SandikTuru.CEZAEVI)).total.paylar

    # Box 0 (Adana) has 100 + 50 own votes, box 2 (Istanbul) 102 + 50; both have 10 joint votes.
    assert district is not None and country is not None
    assert district["ortak"]["members"]["parti-a"] == {
        "own": 102,
        "share": "255/38",  # 10 x 102 / 152
        "rounded": 7,
        "total": "4131/38",  # both together, about 108.71
        "total_rounded": 109,
    }
    assert country["ortak"]["members"]["parti-a"]["share"] == "1525/114"  # + 10 x 100 / 150
    assert board is None  # the law divides joint votes within a district
    assert prison is None


def test_own_options_of_two_districts_are_not_mixed_up(site: PortalSite) -> None:
    site.publish(result(BOXES[2]), result(BOXES[12]))
    data = site.data()

    izmir = data.summary(Criteria(Secim.MV, cevre="35-izmir-2")).total.votes
    row = data.box_row(Secim.MV, BoxPlace(*BOXES[12]))

    assert BOXES[12] == ("35-izmir-2", "konak", "1001")
    assert (izmir["bagimsiz-1"], izmir["bagimsiz-2"]) == (3, 5)
    assert row is not None and row.votes["bagimsiz-2"] == 5
    assert data.shown_options(Criteria(Secim.MV, cevre="34-istanbul-1")) == (
        "parti-a", "parti-b", "parti-c", "ortak", "bagimsiz-1",
    )  # fmt: skip


def test_a_table_is_sorted_by_any_column_and_has_a_total(site: PortalSite) -> None:
    site.publish(*(result(box) for box in BOXES[2:8]))
    data = site.data()
    istanbul = Criteria(Secim.MV, cevre="34-istanbul-1")

    best = data.table(istanbul, "oylar.parti-a", descending=True, limit=2)
    last = data.table(istanbul, "gecerli", offset=9)
    by_number = data.table(istanbul, "sandik", limit=3)

    assert [row.votes["parti-a"] for row in best.rows] == [107, 106]
    assert best.count == 10
    assert best.total.votes["parti-a"] == 102 + 103 + 104 + 105 + 106 + 107
    assert last.rows[0].version == 0  # boxes without a result come last
    assert [(r.place.kurul, r.place.sandik) for r in by_number.rows] == [
        ("kadikoy-1", "1001"), ("kadikoy-2", "1001"), ("kadikoy-1", "1002"),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="nobody"):
        data.table(istanbul, "oylar.nobody")
    with pytest.raises(ValueError, match="__class__"):
        data.table(istanbul, "__class__")


def test_opened_and_unopened_boxes_can_be_searched(site: PortalSite) -> None:
    site.publish(result(BOXES[0]))
    data = site.data()

    assert places(data, Criteria(Secim.MV, status=Status.OPENED)) == ["01-adana/aladag/sandik-1"]
    assert len(places(data, Criteria(Secim.MV, status=Status.UNOPENED))) == 20


def test_a_later_snapshot_changes_the_numbers_without_reading_all_again(site: PortalSite) -> None:
    site.publish(*every_result())
    live = site.live()
    early = live.scoped(ALL)
    site.publish(
        result(FIRST, surum=2, neden="itiraz kabul", oylar={"parti-a": 500}, gecerli=500),
    )

    assert live.refresh()

    now = live.scoped(ALL)
    row = now.box_row(Secim.MV, BoxPlace(*FIRST))
    assert row is not None
    assert (row.version, row.reason, row.votes) == (2, "itiraz kabul", {"parti-a": 500})
    assert early.summary(MV).total.votes["parti-a"] == sum(range(100, 121))  # unchanged
    assert not live.refresh()
    whole = site.data()
    assert whole.summary(MV) == now.summary(MV)
    assert list(whole.rows(MV)) == list(now.rows(MV))


def test_the_box_page_has_every_version_with_its_reason_scan_and_proof(site: PortalSite) -> None:
    site.file_sheet(FIRST)
    site.publish(result(FIRST))
    site.publish(result(FIRST, surum=2, neden="itiraz kabul", gecersiz=9))
    site.file_sheet(FIRST, version=2)
    data = site.data()

    box = data.box(BoxPlace(*FIRST))

    assert box is not None
    assert [(v.version, v.reason, v.snapshot, v.newest) for v in box.results] == [
        (1, "", 1, False),
        (2, "itiraz kabul", 2, True),
    ]
    assert [(s.version, s.path.rpartition("/")[2]) for s in box.sheets] == [
        (1, "mv-sandik-sonuc-s1.jpg"),
        (2, "mv-sandik-sonuc-s1.v2.jpg"),
    ]
    assert "ballots-not-voted" in {finding.check.value for finding in box.findings}
    proof = data.receipt("results", box.results[0].seq)
    assert proof is not None and proof.startswith(b"c2sp.org/tlog-proof@v1\n")


def test_the_box_page_has_no_version_that_its_snapshot_lacks(site: PortalSite) -> None:
    site.publish(result(FIRST))
    before = site.data()
    site.publish(result(FIRST, surum=2, neden="itiraz kabul", gecersiz=9))

    box = before.box(BoxPlace(*FIRST))

    assert box is not None
    assert [(v.version, v.newest) for v in box.results] == [(1, True)]


@pytest.mark.parametrize("first", [1, 100])
def test_the_boxes_beside_a_box_are_those_of_the_search(
    site: PortalSite, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    monkeypatch.setattr(scoped_rows, "_BESIDE", first)
    for scope in (ALL, ISTANBUL, KADIKOY_2):
        data = site.data(scope)
        for criteria in (
            MV,
            Criteria(Secim.MV, cevre="34-istanbul-1", kurul="kadikoy-2"),
            Criteria(Secim.MV, kind=SandikTuru.CEZAEVI),
            Criteria(Secim.MV, first="1002", last="1003"),
        ):
            everything = list(data.places(MV))
            found = list(data.places(criteria))
            for at, place in enumerate(everything):
                before = [p for p in everything[:at] if p in found]
                after = [p for p in everything[at + 1 :] if p in found]
                expected = before[-1] if before else None, after[0] if after else None
                assert data.neighbours(criteria, place) == expected


def test_changes_are_later_versions_newest_first(site: PortalSite) -> None:
    site.publish(*every_result())
    site.publish(result(BOXES[0], surum=2, neden="itiraz kabul", gecersiz=9))
    site.file_sheet(BOXES[2], version=2)
    site.publish(result(BOXES[2], surum=2, neden="yeniden sayım", gecersiz=8))
    data = site.data()

    page = data.changes(MV)
    later = data.changes(MV, since_snapshot=2)
    adana = data.changes(Criteria(Secim.MV, cevre="01-adana"))
    by_time = data.changes(MV, since=page.changes[1].closed_at)

    assert [(c.sandik, c.reason, c.new_scan) for c in page.changes] == [
        ("1001", "yeniden sayım", True),
        ("1", "itiraz kabul", False),
    ]
    assert page.count == 2
    assert page.changes[1].differences() == [("gecersiz", 5, 9)]
    assert [c.sandik for c in later.changes] == ["1001"]
    assert [c.sandik for c in adana.changes] == ["1"]
    assert [c.sandik for c in by_time.changes] == ["1001"]


def test_gaps_have_the_recorded_reason(site: PortalSite) -> None:
    site.file_sheet(BOXES[0])
    site.publish(*(result(box) for box in BOXES[1:]))
    data = site.data()

    without_result, count = data.gaps(MV)
    _, without_sheet = data.gaps(MV, without_sheet=True)

    assert [(str(gap.row.place), gap.reason) for gap in without_result] == [
        ("01-adana/aladag/sandik-1", ""),
    ]
    assert count == 1
    assert without_sheet == 20


def test_coverage_counts_boxes_results_and_sheets_by_place(site: PortalSite) -> None:
    site.file_sheet(BOXES[2])
    site.publish(*(result(box) for box in BOXES[:4]))
    data = site.data()

    districts = {c.cevre: (c.boxes, c.opened, c.sheets) for c in data.coverage(Secim.MV)}
    boards = {c.kurul: (c.boxes, c.opened) for c in data.coverage(Secim.MV, "34-istanbul-1")}

    assert districts["34-istanbul-1"] == (10, 2, 1)
    assert districts["01-adana"] == (2, 2, 0)
    assert boards == {"kadikoy-1": (6, 2), "kadikoy-2": (4, 0)}


def test_an_aggregate_stands_beside_the_sum_of_its_boxes(site: PortalSite) -> None:
    aggregate = {
        "secim": "mv", "belge": "ilce-birlestirme", "cevre": "01-adana", "kurul": "aladag",
        "surum": 1, "neden": "", "zaman": "2023-05-14T20:00:00+03:00",
        "gecerli": 402, "oylar": {"parti-a": 200, "parti-b": 100, "parti-c": 80, "ortak": 20},
    }  # fmt: skip
    site.publish(result(BOXES[0]), result(BOXES[1]), aggregate)
    data = site.data()

    (line,) = data.aggregates(Secim.MV, "01-adana", "aladag")
    above = data.aggregates(Secim.MV)

    assert line.stated is not None
    assert line.stated.numbers == {"gecerli": 402}
    assert (line.opened, line.boxes) == (2, 2)
    assert line.summed["gecerli"] == 200 + 201
    assert line.differs == ("gecerli", "oylar.parti-a")
    assert {key.key.belge for key in above} == {
        Belge.IL_BIRLESTIRME,
        Belge.GUMRUK_KAPILARI_BIRLESTIRME,
        Belge.YURT_DISI_ULKELER_BIRLESTIRME,
        Belge.ULKELER_VE_GUMRUK_KAPILARI_BIRLESTIRME,
    }


def test_findings_are_found_by_contest_place_and_check(site: PortalSite) -> None:
    site.publish(
        result(BOXES[0], gecersiz=9), result(BOXES[2], gecersiz=9), result(BOXES[8], gecersiz=9)
    )
    data = site.data()

    assert data.findings(MV).count >= 3
    adana = data.findings(Criteria(Secim.MV, cevre="01-adana"))
    assert {place for finding in adana.findings for place in finding.places} == {
        "01-adana/aladag/sandik-1"
    }
    assert data.findings(Criteria(Secim.CB)).count == 0
    for criteria in (MV, Criteria(Secim.MV, cevre="01-adana"), Criteria(Secim.CB)):
        assert sum(data.finding_counts(criteria).values()) == data.findings(criteria).count


def test_findings_tell_no_number_that_the_snapshot_lacks(site: PortalSite) -> None:
    adana, konak = BOXES[0], ("35-izmir-2", "konak", "1001")
    site.publish(result(adana, gecersiz=9), result(konak), result(konak, "cb"))
    before = site.data()
    aggregate = {
        "secim": "mv", "belge": "ilce-birlestirme", "cevre": "01-adana", "kurul": "aladag",
        "surum": 1, "neden": "", "zaman": "2023-05-14T20:00:00+03:00",
        "gecerli": 402, "oylar": {"parti-a": 200, "parti-b": 100, "parti-c": 80, "ortak": 20},
    }  # fmt: skip
    second = result(konak, surum=2, neden="itiraz", gecersiz=9)
    site.publish(second, result(BOXES[1]), aggregate)
    after = site.data()

    def found(data: ScopedData) -> set[tuple[str, str]]:
        findings = data.findings().findings
        assert sum(data.finding_counts().values()) == len(findings)
        return {(f.places[0], f.check.value) for f in findings if f.check.kind != "note"}

    shown, later = BoxPlace(*adana), BoxPlace(*konak)
    assert found(before) == {(str(shown), "ballots-not-voted")}
    assert found(after) == {
        (str(shown), "ballots-not-voted"),
        (str(later), "ballots-not-voted"),
        (str(later), "contests-differ"),
        ("01-adana/aladag", "board-not-sum"),
    }
    boxes = [data.box(place) for data in (before, after) for place in (shown, later)]
    checks = [{f.check.value for f in box.findings} for box in boxes if box is not None]
    assert ["ballots-not-voted" in found for found in checks] == [True, False, True, True]


@postgres.sqlite_only
def test_findings_of_an_earlier_version_are_shown(site: PortalSite) -> None:
    site.publish(result(BOXES[0], gecersiz=9))
    with closing(sqlite3.connect(site.path / RESULTS_DATABASE)) as database, database:
        database.execute("DROP INDEX finding_place")
        database.execute("ALTER TABLE finding DROP COLUMN last_result")

    data = site.data()

    box = data.box(BoxPlace(*BOXES[0]))
    assert box is not None
    assert len(data.findings().findings) == len(box.findings) > 0


def test_criteria_are_read_from_a_query_and_written_back() -> None:
    query = {
        "secim": "mv", "alan": "yurt-ici", "tur": "normal", "cevre": "34-istanbul-1",
        "kurul": "kadikoy-1", "mahalle": "Caferağa", "ilk": "1001", "son": "1003",
        "durum": "acilan",
    }  # fmt: skip

    assert parse(query).query() == query
    assert parse({"alan": "", "x": "1"}, Secim.CB) == Criteria(Secim.CB)
    for name, value in (("secim", "xx"), ("alan", "x"), ("mahalle", "a\x00b"), ("ilk", "1" * 201)):
        with pytest.raises(ValueError, match=name):
            parse({**query, name: value})


def test_a_scope_hides_every_other_place(site: PortalSite) -> None:
    site.publish(*every_result())

    istanbul, board = site.data(ISTANBUL), site.data(KADIKOY_2)

    assert istanbul.choices(MV).districts == ("34-istanbul-1",)
    assert istanbul.choices(MV).areas == (Area.EVERYWHERE, Area.HOME)
    assert len(places(istanbul, MV)) == 10
    assert board.choices(Criteria(Secim.MV, cevre="34-istanbul-1")).boards == ("kadikoy-2",)
    assert len(places(board, MV)) == 4
    assert board.summary(MV).boxes == 4
    assert board.summary(MV).total.paylar is None


def test_a_sum_of_boards_is_not_compared_by_who_sees_only_one_of_them(site: PortalSite) -> None:
    aggregate = {
        "secim": "mv", "belge": "ilce-birlestirme-kurullar", "cevre": "34-istanbul-1",
        "kurul": "kadikoy-2", "surum": 1, "neden": "", "zaman": "2023-05-14T20:00:00+03:00",
        "gecersiz": 49, "oylar": {},
    }  # fmt: skip
    site.publish(*(result(box) for box in BOXES[2:12]), aggregate)

    def kurullar(data: ScopedData) -> AggregateLine:
        lines = data.aggregates(Secim.MV, "34-istanbul-1", "kadikoy-2")
        return next(a for a in lines if a.key.belge is Belge.ILCE_BIRLESTIRME_KURULLAR)

    everything, one_board = kurullar(site.data()), kurullar(site.data(KADIKOY_2))

    assert (everything.boxes, everything.summed["gecersiz"]) == (10, 50)
    assert "gecersiz" in everything.differs
    assert (one_board.boxes, one_board.whole, one_board.differs) == (4, False, ())
