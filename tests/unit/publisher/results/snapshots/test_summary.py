import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from unit.config.test_result import RESULT

from config import ballot
from config.settings import ShareLevel
from config.sheet import Secim
from publisher.results.checks.sums import PlaceSums
from publisher.results.snapshots.summary import summary_lines

BALLOT_CSV = """\
secim,cevre,sira,secenek,tur,ad,ittifak
mv,,1,a,parti,A,o
mv,,2,b,parti,B,o
mv,,3,c,parti,C,
mv,,4,o,ittifak,ORTAK,
"""
BALLOT = ballot.read("b", BALLOT_CSV.splitlines(keepends=True), b"")


def lines(
    boxes: Mapping[tuple[str, str], Mapping[str, int]], level: ShareLevel = ShareLevel.CEVRE
) -> dict[str, dict[str, Any]]:
    sums = PlaceSums()
    for (district, board), votes in boxes.items():
        key = RESULT.key._replace(cevre=district, kurul=board)
        sums.replace(None, replace(RESULT, key=key, votes=votes))
    found = (json.loads(line) for line in summary_lines(Secim.MV, sums, BALLOT, level))
    return {"/".join(filter(None, (o["level"], o["cevre"], o["kurul"]))): o for o in found}


TWO_BOARDS = {
    ("01-adana", "aladag"): {"a": 30, "b": 10, "c": 5, "o": 4},
    ("01-adana", "kozan"): {"a": 10, "b": 30, "c": 5, "o": 8},
}


def shares(line: dict[str, Any]) -> dict[str, str]:
    return {o: m["share"] for o, m in line["paylar"]["o"]["members"].items()}


def test_joint_votes_are_divided_by_district_unless_the_site_says_otherwise() -> None:
    found = lines(TWO_BOARDS)

    assert found["kurul/01-adana/aladag"]["paylar"] == {}
    assert found["cevre/01-adana"]["oylar"] == {"a": 40, "b": 40, "c": 10, "o": 12}
    assert shares(found["cevre/01-adana"]) == {"a": "6", "b": "6"}
    assert shares(found["ulke"]) == {"a": "6", "b": "6"}


def test_with_the_level_ilce_a_district_adds_up_the_shares_of_its_boards() -> None:
    found = lines(TWO_BOARDS, ShareLevel.ILCE)

    assert shares(found["kurul/01-adana/aladag"]) == {"a": "3", "b": "1"}
    assert shares(found["kurul/01-adana/kozan"]) == {"a": "2", "b": "6"}
    assert shares(found["cevre/01-adana"]) == {"a": "5", "b": "7"}


def test_an_ilce_of_several_boards_is_divided_as_one() -> None:
    of_boards = list(TWO_BOARDS.values())
    places = [("01-adana", "kozan-1"), ("01-adana", "kozan-2")]
    found = lines(dict(zip(places, of_boards, strict=True)), ShareLevel.ILCE)

    assert found["kurul/01-adana/kozan-1"]["paylar"] == {}
    assert found["kurul/01-adana/kozan-2"]["paylar"] == {}
    assert shares(found["cevre/01-adana"]) == {"a": "6", "b": "6"}


def test_fractions_are_exact_and_rounded_to_the_joint_votes_for_display() -> None:
    found = lines({("01-adana", "aladag"): {"a": 5092, "b": 1859, "o": 99}})

    members = found["cevre/01-adana"]["paylar"]["o"]["members"]
    assert members["a"] == {
        "own": 5092,
        "share": "168036/2317",
        "rounded": 73,
        "total": "11966200/2317",
        "total_rounded": 5165,
    }
    assert members["b"]["rounded"] == 26


def test_an_undefined_share_is_said_to_be_undefined() -> None:
    found = lines(
        {("01-adana", "aladag"): {"c": 5, "o": 4}, ("34-istanbul-1", "x"): {"a": 1, "o": 2}}
    )

    alliance = found["cevre/01-adana"]["paylar"]["o"]
    assert alliance["defined"] is False
    undefined = dict.fromkeys(("share", "rounded", "total", "total_rounded"))
    assert alliance["members"]["a"] == {"own": 0, **undefined}
    country = found["ulke"]["paylar"]["o"]
    assert (country["defined"], country["undefined_votes"]) == (True, 4)
    assert country["members"]["a"]["share"] == "2"


def test_a_place_has_the_numbers_of_its_boxes() -> None:
    found = lines(TWO_BOARDS)

    assert (found["ulke"]["sandik"], found["ulke"]["secmen"]) == (2, 600)
