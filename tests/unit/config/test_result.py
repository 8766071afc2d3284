import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from config.result import Result, ResultKey
from config.sheet import Belge, SandikTuru, Secim

BOX = ResultKey(Secim.MV, Belge.SANDIK_SONUC, "34-istanbul-1", "kadikoy-2", "1234")
RESULT = Result(
    key=BOX,
    sandik_turu=SandikTuru.NORMAL,
    version=1,
    reason="",
    time=datetime(2023, 5, 14, 18, 30, tzinfo=UTC),
    registered=300,
    voted=250,
    listed_voted=None,
    unlisted_voted=2,
    envelopes=252,
    valid_undisputed=240,
    valid_disputed=5,
    valid=245,
    invalid=7,
    votes={"parti-b": 145, "parti-a": 100},
)


def test_a_place_is_named_as_far_down_as_its_form_goes() -> None:
    assert BOX.place == "34-istanbul-1/kadikoy-2/sandik-1234"
    board = ResultKey(Secim.MV, Belge.ILCE_BIRLESTIRME, "34-istanbul-1", "kadikoy-2", None)
    assert board.place == "34-istanbul-1/kadikoy-2"
    form = Belge.ULKELER_VE_GUMRUK_KAPILARI_BIRLESTIRME
    assert ResultKey(Secim.MV, form, None, None, None).place == "-"


def test_the_digest_does_not_depend_on_the_order_of_the_votes() -> None:
    other = replace(RESULT, votes={"parti-a": 100, "parti-b": 145})

    assert other.digest() == RESULT.digest()


def test_the_digest_covers_every_number() -> None:
    assert replace(RESULT, envelopes=None).digest() != RESULT.digest()
    assert replace(RESULT, votes={"parti-a": 101, "parti-b": 144}).digest() != RESULT.digest()


def test_a_time_in_another_zone_is_the_same_time() -> None:
    turkey = timezone(timedelta(hours=3))

    assert replace(RESULT, time=RESULT.time.astimezone(turkey)).digest() == RESULT.digest()


def test_the_same_numbers_in_a_later_version_are_the_same_numbers() -> None:
    later = replace(RESULT, version=2, reason="itiraz kabul")

    assert later.same_numbers(RESULT)
    assert not replace(later, invalid=8).same_numbers(RESULT)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"reason": 'itiraz "kabul" \\ İıŞğ', "envelopes": None, "votes": {}},
        {"key": ResultKey(Secim.CB, Belge.IL_BIRLESTIRME, "34-istanbul-1", None, None)},
        {"sandik_turu": None, "registered": None, "version": 12},
        {"votes": {"z": 1, "B": 2, "a-1": 0, "a_1": 10**9}},
    ],
)
def test_canonical_json_is_what_the_library_writes(changes: dict[str, Any]) -> None:
    result = replace(RESULT, **changes)
    key = result.key
    row = {
        **{name: getattr(key, name) for name in ("secim", "belge", "cevre", "kurul", "sandik")},
        "sandik_turu": result.sandik_turu,
        "surum": result.version,
        "neden": result.reason,
        "zaman": "2023-05-14T18:30:00+00:00",
        **result.numbers(),
        "oylar": dict(result.votes),
    }

    text = json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    assert result.canonical() == text.encode()


def test_an_option_without_votes_may_be_left_out() -> None:
    more = replace(RESULT, votes={**RESULT.votes, "parti-c": 0})

    assert more.same_numbers(RESULT)
    assert not replace(RESULT, votes={"parti-a": 100}).same_numbers(RESULT)
