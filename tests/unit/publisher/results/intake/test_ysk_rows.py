import json
from collections.abc import Iterable
from typing import Any

import pytest

from config import ballot, result_batch
from config.result_batch import BadRow, GoodRow, RowFault
from config.sheet import Secim
from publisher.results.intake import ysk_rows

CSV = """\
secim,cevre,sira,secenek,tur,ad,ittifak
mv,,1,chp,parti,CUMHURİYET HALK PARTİSİ,millet
mv,,2,iyi,parti,İYİ PARTİ,millet
mv,,3,millet,ittifak,MİLLET İTTİFAKI,
"""
BALLOT = ballot.read("b", CSV.splitlines(keepends=True), b"")
HEADINGS = [
    {"sira_NO": 0, "ad": "PARTİLER", "column_NAME": None},
    {"sira_NO": 1, "ad": "Cumhuriyet Halk Partisi", "column_NAME": "parti6_ALDIGI_OY"},
    {"sira_NO": 2, "ad": "İYİ PARTİ", "column_NAME": "parti9_ALDIGI_OY"},
    {"sira_NO": 3, "ad": "MİLLET İTTİFAKI", "column_NAME": "ittifak2_ALDIGI_OY"},
]
ROW: dict[str, Any] = {
    "il_ID": 34,
    "il_ADI": "İSTANBUL-1",
    "ilce_ADI": "KADIKÖY",
    "sandik_NO": 1234,
    "secim_TURU": 8,
    "secmen_SAYISI": 300,
    "oy_KULLANAN_SECMEN_SAYISI": 250,
    "itirazsiz_GECERLI_OY_SAYISI": 240,
    "itirazli_GECERLI_OY_SAYISI": 5,
    "gecerli_OY_TOPLAMI": 245,
    "gecersiz_OY_TOPLAMI": 5,
    "parti6_ALDIGI_OY": 140,
    "parti9_ALDIGI_OY": 100,
    "parti1_ALDIGI_OY": 0,
    "ittifak2_ALDIGI_OY": 5,
    "versiyon": 1,
    "degisiklik_NEDENI": None,
    "son_ISLEM_TARIHI": "2023-05-14T18:30:00",
}


class Boxes:
    def boxes_numbered(self, secim: Secim, sandik: str) -> Iterable[tuple[str, str, str]]:
        places = {
            "1234": [("34-istanbul-1", "kadikoy-2", "normal"), ("34-istanbul-3", "x", "normal")],
            "7": [("34-istanbul-1", "kadikoy-1", "normal"), ("34-istanbul-1", "kadikoy-2", "x")],
        }
        return places.get(sandik, [])


def converted(**changes: Any) -> dict[str, Any] | BadRow:
    (found,) = ysk_rows.convert([ROW | changes], HEADINGS, Boxes(), BALLOT)
    return found


def test_a_box_row_becomes_a_row_of_a_batch() -> None:
    row = converted()

    assert isinstance(row, dict)
    assert (row["cevre"], row["kurul"], row["sandik"]) == ("34-istanbul-1", "kadikoy-2", "1234")
    assert row["oylar"] == {"chp": 140, "iyi": 100, "millet": 5}
    assert row["zaman"] == "2023-05-14T18:30:00+03:00"

    (parsed,) = result_batch.read_ndjson([json.dumps(row).encode()], "e")
    assert isinstance(parsed, GoodRow)
    assert (parsed.result.registered, parsed.result.valid) == (300, 245)


@pytest.mark.parametrize(
    ("changes", "fault", "message"),
    [
        ({"secim_TURU": 77}, RowFault.WRONG_CONTEST, "secim_TURU: 77"),
        ({"sandik_NO": 9}, RowFault.UNKNOWN_PLACE, "the registry has no such box"),
        ({"ilce_ADI": "ÜSKÜDAR"}, RowFault.UNKNOWN_PLACE, "the registry has no such box"),
        (
            {"sandik_NO": 7},
            RowFault.UNKNOWN_PLACE,
            "several boards have it: 34-istanbul-1/kadikoy-1",
        ),
        ({"parti1_ALDIGI_OY": 3}, RowFault.UNKNOWN_OPTION, "parti1_ALDIGI_OY: no heading"),
        ({"son_ISLEM_TARIHI": "dün"}, RowFault.BAD_VALUE, "'dün' is not a time"),
    ],
)
def test_a_row_that_cannot_be_placed_says_why(
    changes: dict[str, Any], fault: RowFault, message: str
) -> None:
    found = converted(**changes)

    assert isinstance(found, BadRow)
    assert (found.line, found.fault) == (1, fault)
    assert message in found.message


DOTTED = """\
secim,cevre,sira,secenek,tur,ad,ittifak
mv,,1,isik,parti,IŞIK PARTİSİ,
mv,,2,isik-2,parti,İŞİK PARTİSİ,
mv,,3,iyi,parti,İYİ PARTİ,
"""


@pytest.mark.parametrize(
    ("title", "option"),
    [
        ("IŞIK PARTİSİ", "isik"),
        ("Işık Partisi", "isik"),
        ("İşik Partisi", "isik-2"),
        ("IYI PARTI", "iyi"),
        ("isik-2", "isik-2"),
        ("ISIK PARTISI", None),  # without Turkish letters it could be either
    ],
)
def test_a_dot_on_an_i_tells_two_options_apart(title: str, option: str | None) -> None:
    found = ballot.read("b", DOTTED.splitlines(keepends=True), b"")
    headings = [{"sira_NO": 1, "ad": title, "column_NAME": "parti1_ALDIGI_OY"}]
    row = {name: v for name, v in ROW.items() if "ALDIGI" not in name} | {"parti1_ALDIGI_OY": 9}

    (made,) = ysk_rows.convert([row], headings, Boxes(), found)

    if option is None:
        assert isinstance(made, BadRow)
        assert made.message.endswith("the ballot of 34-istanbul-1 has isik and isik-2 for it")
    else:
        assert isinstance(made, dict)
        assert made["oylar"] == {option: 9}


def test_two_columns_of_one_option_are_not_added_or_dropped() -> None:
    headings = [*HEADINGS, {"sira_NO": 4, "ad": "CHP", "column_NAME": "parti1_ALDIGI_OY"}]

    (found,) = ysk_rows.convert([ROW | {"parti1_ALDIGI_OY": 3}], headings, Boxes(), BALLOT)

    assert isinstance(found, BadRow)
    assert "has only chp for it and another column" in found.message


def test_a_time_in_milliseconds_is_read() -> None:
    row = converted(son_ISLEM_TARIHI=1_684_078_200_000)

    assert isinstance(row, dict)
    assert row["zaman"] == "2023-05-14T15:30:00+00:00"


@pytest.mark.parametrize(
    "change",
    [
        {"il_ID": "otuz dört"},
        {"secim_TURU": [8]},
        {"son_ISLEM_TARIHI": 1e300},
        {"son_ISLEM_TARIHI": float("nan")},
    ],
)
def test_a_field_that_makes_no_sense_spoils_only_its_own_row(change: dict[str, Any]) -> None:
    spoiled, sound = ysk_rows.convert([ROW | change, ROW], HEADINGS, Boxes(), BALLOT)

    assert isinstance(spoiled, BadRow)
    assert spoiled.fault is RowFault.BAD_VALUE
    assert isinstance(sound, dict)
