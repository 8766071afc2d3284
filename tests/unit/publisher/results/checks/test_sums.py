from collections.abc import Mapping
from dataclasses import replace

import pytest
from unit.config.test_result import RESULT

from config.result import Result
from config.sheet import Belge, Secim
from publisher.results.checks.finding import Check
from publisher.results.checks.sums import PlaceSums, check_sum


def box(number: str, votes: Mapping[str, int], kurul: str = "kadikoy-2") -> Result:
    valid = sum(votes.values())
    key = RESULT.key._replace(sandik=number, kurul=kurul)
    return replace(
        RESULT, key=key, valid=valid, valid_undisputed=valid, valid_disputed=0, votes=votes
    )


def test_a_board_is_the_sum_of_the_newest_results_of_its_boxes() -> None:
    sums = PlaceSums()
    first, other = box("1", {"a": 10, "b": 5}), box("2", {"a": 1})

    sums.replace(None, first)
    sums.replace(None, other)
    sums.replace(first, box("1", {"a": 7, "b": 8}))

    found = sums.of(Secim.MV, "34-istanbul-1", "kadikoy-2")
    assert {name: found[name] for name in ("oylar.a", "oylar.b", "gecerli", "sandik")} == {
        "oylar.a": 8,
        "oylar.b": 8,
        "gecerli": 16,
        "sandik": 2,
    }


def test_districts_and_the_election_are_added_up_from_boards() -> None:
    sums = PlaceSums()
    abroad = replace(
        box("3", {"a": 4}), key=RESULT.key._replace(cevre="yurt-disi", kurul="almanya")
    )
    for result in (box("1", {"a": 1}), box("1", {"a": 2}, kurul="kadikoy-3"), abroad):
        sums.replace(None, result)

    assert sums.of(Secim.MV, "34-istanbul-1", None)["oylar.a"] == 3
    assert sums.of(Secim.MV, None, None)["oylar.a"] == 7
    assert sums.abroad_and_customs(Secim.MV)["oylar.a"] == 4
    assert sums.of(Secim.CB, None, None)["oylar.a"] == 0


BOARD = replace(
    RESULT,
    key=RESULT.key._replace(belge=Belge.ILCE_BIRLESTIRME, sandik=None),
    sandik_turu=None,
    registered=None,
    voted=None,
    unlisted_voted=None,
    envelopes=None,
    valid_undisputed=None,
    valid_disputed=None,
    valid=30,
    invalid=None,
    votes={"a": 20, "b": 10},
)


@pytest.mark.parametrize(
    ("below", "missing", "differ"),
    [
        ({"gecerli": 30, "oylar.a": 20, "oylar.b": 10, "secmen": 99}, 0, None),
        ({"gecerli": 29, "oylar.a": 19, "oylar.b": 10}, 1, None),
        (
            {"gecerli": 30, "oylar.a": 19, "oylar.b": 11},
            0,
            {"oylar.a": 20, "toplam.oylar.a": 19, "oylar.b": 10, "toplam.oylar.b": 11},
        ),
        ({"gecerli": 12, "oylar.b": 12}, 1, {"oylar.b": 10, "toplam.oylar.b": 12}),
        (
            {"gecerli": 30, "oylar.a": 20, "oylar.b": 10, "oylar.c": 1},
            0,
            {"oylar.c": 0, "toplam.oylar.c": 1},
        ),
    ],
)
def test_an_aggregate_sheet_is_compared_with_the_sum_below_it(
    below: dict[str, int], missing: int, differ: dict[str, int] | None
) -> None:
    found = list(check_sum(BOARD, below, missing))

    assert [dict(finding.numbers) for finding in found] == ([] if differ is None else [differ])
    if found:
        assert found[0].check is Check.BOARD_NOT_SUM
        assert found[0].places == ("34-istanbul-1/kadikoy-2",)
