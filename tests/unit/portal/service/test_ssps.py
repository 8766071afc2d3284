"""`/api/ssps` as an existing client uses it: it walks down the lists and adds up the boxes."""

import json
from typing import Any

import pytest
from unit.portal.portal_site import BOXES, every_result, result
from unit.portal.service.conftest import BASIC, ServiceCalls

from config.ballot import Ballot
from config.sheet import Belge
from publisher.results.intake.ysk_rows import convert

MV = {"secimTuru": "8"}


def ask(calls: ServiceCalls, call: str, party: str = "parti-a", /, **asked: object) -> list[Any]:
    params = {name: str(value) for name, value in asked.items()}
    answer = calls.get(f"/api/ssps/{call}", party, params=params)
    assert answer.status_code == 200, answer.text
    found: list[Any] = answer.json()
    assert isinstance(found, list)
    return found


@pytest.mark.slow
def test_a_client_that_walks_all_lists_meets_every_box_once(calls: ServiceCalls) -> None:
    calls.site.publish(*every_result())
    (secim_id,) = {row["secim_ID"] for row in ask(calls, "getSecimDetayList")}
    common = {"secimId": secim_id, "secimTuru": 8, "sandikTuru": -1, "cacheSlayer": 1684000000000}
    boxes = []
    home = {**common, "yurtIciDisi": 1}
    for il in ask(calls, "getIlList", **home):
        at_il = {**home, "ilId": il["il_ID"], "secimCevresiId": il["secim_CEVRESI_ID"]}
        for ilce in ask(calls, "getIlceList", **at_il):
            at_ilce = {
                **at_il,
                "ilceId": ilce["ilce_ID"],
                "beldeId": 0,
                "birimId": ilce["birim_ID"],
            }
            for muhtarlik in ask(calls, "getMuhtarlikList", **at_ilce):
                at = {**at_ilce, "muhtarlikId": muhtarlik["muhtarlik_ID"], "cezaeviId": 0}
                boxes += ask(calls, "getSecimSandikSonucList", **at, sandikNoIlk="", sandikNoSon="")
    away = {**common, "yurtIciDisi": 2}
    for gate in ask(calls, "getGumrukList", **away):
        boxes += ask(calls, "getSecimSandikSonucList", **away, gumrukId=gate["gumruk_ID"])
    for country in ask(calls, "getUlkeList", **away):
        for mission in ask(calls, "getDisTemsilcilikList", **away, ulkeId=country["ulke_ID"]):
            boxes += ask(
                calls,
                "getSecimSandikSonucList",
                **away,
                ulkeId=country["ulke_ID"],
                disTemsilcilikId=mission["dis_TEMSILCILIK_ID"],
            )

    assert len(boxes) == 21
    assert len({box["sandik_ID"] for box in boxes}) == 21
    assert sum(box["parti1_ALDIGI_OY"] for box in boxes) == sum(range(100, 121))
    (total,) = ask(calls, "getSecimSonucList", **common)
    assert total["parti1_ALDIGI_OY"] == sum(range(100, 121))
    assert (total["acilan_SANDIK_SAYISI"], total["toplam_SANDIK_SAYISI"]) == (21, 21)


_NUMBERS = """secmen_SAYISI oy_KULLANAN_SECMEN_SAYISI itirazsiz_GECERLI_OY_SAYISI
itirazli_GECERLI_OY_SAYISI gecerli_OY_TOPLAMI gecersiz_OY_TOPLAMI"""
_SHEETS = " ".join(
    f"birlestirme_TUTANAGI_{name}"
    for name in [
        "IL",
        "ILCE",
        "KURUL",
        "GUMRUK_ILCE",
        "GUMRUK_KURUL",
        "GUMRUK_RUMUZ",
        "GUMRUKLER",
        "ULKE",
        "ULKELER",
        "DIS_TEMSILCILIK",
        "TUMDUNYA",
    ]
)
_RANGE = "min_SANDIK_NO max_SANDIK_NO min_SANDIK_RUMUZ max_SANDIK_RUMUZ"
# What existing clients read of each call; text where they read text, integers everywhere else.
FIELDS = {
    "getIlList": "il_ID il_ADI secim_CEVRESI_ID secilecek_ADAY_SAYISI yerlesim_YERI_TURU "
    "secim_DETAY_ID id",
    "getIlceList": "ilce_ID ilce_ADI belde_ID birim_ID il_ID il_ADI secim_CEVRESI_ID",
    "getIlceListWithSecim": "ilce_ID ilce_ADI belde_ID birim_ID il_ID il_ADI secim_CEVRESI_ID",
    "getMuhtarlikList": "muhtarlik_ID muhtarlik_ADI cezaevi_ID min_SANDIK_NO max_SANDIK_NO",
    "getGumrukList": f"gumruk_ID gumruk_ADI ilce_ID {_RANGE}",
    "getUlkeList": "ulke_ID ulke_ADI",
    "getDisTemsilcilikList": f"dis_TEMSILCILIK_ID dis_TEMSILCILIK_ADI {_RANGE}",
    "getSecimSonucList": "toplam_SANDIK_SAYISI acilan_SANDIK_SAYISI acilan_SECMEN_SAYISI "
    f"{_NUMBERS} {_SHEETS}",
    "getSecimSandikSonucList": "sandik_ID sandik_NO sandik_RUMUZ secim_ID secim_TURU il_ID "
    "il_ADI ilce_ID ilce_ADI belde_ID birim_ID muhtarlik_ID muhtarlik_ADI cezaevi_ID gumruk_ID "
    f"ulke_ID dis_TEMSILCILIK_ID {_NUMBERS} bagimsiz_TOPLAM_OY versiyon degisiklik_NEDENI "
    f"son_ISLEM_TARIHI sandik_SONUC_TUTANAGI sandik_DOKUM_CETVELI denetim_TUTANAGI {_SHEETS}",
    "getSandikSecimSonucBaslikList": "sira_NO ad column_NAME",
    "getSecimDetayList": "secim_ID secim_TURU",
}
_TEXTS = ("_ADI", "SANDIK_RUMUZ", "sandik_RUMUZ", "_NEDENI", "_TARIHI", "_NAME", "ad")


def test_every_call_has_the_fields_that_existing_clients_read(calls: ServiceCalls) -> None:
    calls.site.publish(*every_result())
    asked = {**MV, "secimId": "-1", "beldeId": "", "cacheSlayer": "1684000000000", "unknown": "x"}
    for call, fields in FIELDS.items():
        rows = ask(calls, call, **asked)
        assert rows, call
        for row in rows:
            assert set(fields.split()) <= row.keys(), call
            for name, value in row.items():
                assert type(value) is (str if name.endswith(_TEXTS) else int), (call, name)
        assert ask(calls, call, secimId=987654) == [], call


def test_a_box_row_has_the_fields_of_the_interface(calls: ServiceCalls) -> None:
    calls.site.file_sheet(BOXES[2])
    calls.site.file_sheet(("34-istanbul-1", "", ""), belge=Belge.IL_BIRLESTIRME)
    calls.site.publish(result(BOXES[2], surum=2, neden="itiraz kabul"))

    (row,) = ask(
        calls, "getSecimSandikSonucList", **MV, sandikNoIlk=1001, sandikNoSon=1001, ilId=34
    )[:1]

    assert row["il_ID"] == 34
    assert row["il_ADI"] == "İSTANBUL-1"
    assert row["ilce_ADI"] == "KADIKÖY-1"
    assert row["muhtarlik_ADI"] == "CAFERAĞA"
    assert (row["sandik_NO"], row["sandik_RUMUZ"]) == (1001, "")
    assert row["secmen_SAYISI"] == 400
    assert row["oy_KULLANAN_SECMEN_SAYISI"] == 214
    assert (row["gecerli_OY_TOPLAMI"], row["gecersiz_OY_TOPLAMI"]) == (209, 5)
    assert (row["parti1_ALDIGI_OY"], row["parti3_ALDIGI_OY"]) == (102, 40)
    assert (row["ittifak1_ALDIGI_OY"], row["bagimsiz1_ALDIGI_OY"]) == (10, 7)
    assert row["bagimsiz_TOPLAM_OY"] == 7
    assert (row["versiyon"], row["degisiklik_NEDENI"]) == (2, "itiraz kabul")
    assert (row["sandik_SONUC_TUTANAGI"], row["birlestirme_TUTANAGI_IL"]) == (1, 1)
    assert {f"parti{n}_ALDIGI_OY" for n in range(1, 41)} <= row.keys()
    assert {f"bagimsiz{n}_ALDIGI_OY" for n in range(1, 51)} <= row.keys()
    assert {f"ittifak{n}_ALDIGI_OY" for n in range(1, 6)} <= row.keys()
    assert len(row) >= 138


def test_the_headings_say_what_a_column_means_in_each_district(calls: ServiceCalls) -> None:
    numbers = {il["il_ADI"]: il["secim_CEVRESI_ID"] for il in ask(calls, "getIlList", **MV)}

    def columns(**asked: object) -> dict[str, str]:
        rows = ask(calls, "getSandikSecimSonucBaslikList", **MV, bagimsiz=1, **asked)
        return {row["column_NAME"]: row["ad"] for row in rows if row["sira_NO"]}

    istanbul = columns(secimCevresiId=numbers["İSTANBUL-1"])
    izmir = columns(secimCevresiId=numbers["İZMİR-2"])

    assert istanbul["parti1_ALDIGI_OY"] == izmir["parti1_ALDIGI_OY"] == "A Partisi"
    assert istanbul["ittifak1_ALDIGI_OY"] == "ORTAK İTTİFAKI"
    assert istanbul["bagimsiz1_ALDIGI_OY"] == "Ali Bağımsız"
    assert (izmir["bagimsiz1_ALDIGI_OY"], izmir["bagimsiz2_ALDIGI_OY"]) == (
        "Veli Bağımsız", "Deli Bağımsız",
    )  # fmt: skip
    assert "bagimsiz1_ALDIGI_OY" not in columns()


def test_our_own_converter_reads_the_rows_back(calls: ServiceCalls) -> None:
    """What publisher/results/intake/ysk_rows takes from YSK's interface, ours gives."""
    calls.site.publish(result(BOXES[2]))
    (il,) = [row for row in ask(calls, "getIlList", **MV) if row["il_ID"] == 34]
    at = {**MV, "secimCevresiId": il["secim_CEVRESI_ID"]}
    rows = [r for r in ask(calls, "getSecimSandikSonucList", **at) if r["versiyon"]]
    headings = ask(calls, "getSandikSecimSonucBaslikList", **at)
    ballot: Ballot = calls.site.ballot

    class Boxes:
        def boxes_numbered(self, secim: object, sandik: str) -> list[tuple[str, str, str]]:
            return [(b[0], b[1], "normal") for b in BOXES if b[2] == sandik]

    (read,) = convert(rows, headings, Boxes(), ballot)

    assert isinstance(read, dict)
    assert read["oylar"] == result(BOXES[2])["oylar"]
    assert (read["cevre"], read["kurul"], read["gecerli"]) == ("34-istanbul-1", "kadikoy-1", 209)


@pytest.mark.slow
def test_zero_minus_one_and_empty_mean_any(calls: ServiceCalls) -> None:
    for name in ("ilId", "ilceId", "beldeId", "birimId", "muhtarlikId", "cezaeviId", "ulkeId",
                 "disTemsilcilikId", "gumrukId", "secimCevresiId", "sandikId", "secimId",
                 "sandikNoIlk", "sandikNoSon", "sandikRumuzIlk", "sandikRumuzSon",
                 "yurtIciDisi"):  # fmt: skip
        for nothing in ("", "0", "-1"):
            found = ask(calls, "getSecimSandikSonucList", **MV, **{name: nothing})
            assert len(found) == 21, (name, nothing)


@pytest.mark.slow
def test_unknown_ids_answer_nothing(calls: ServiceCalls) -> None:
    for name in ("ilId", "ilceId", "beldeId", "birimId", "muhtarlikId", "cezaeviId", "ulkeId",
                 "disTemsilcilikId", "gumrukId", "secimCevresiId", "sandikId", "secimId",
                 "secimTuru", "sandikTuru", "yurtIciDisi"):  # fmt: skip
        for value in ("987654", "abc", "1e3", "9" * 60, "' OR 1=1 --", "-7"):
            asked = {**MV, name: value}
            assert ask(calls, "getSecimSandikSonucList", **asked) == [], (name, value)
            assert ask(calls, "getSecimSonucList", **asked) == [], (name, value)


def test_kinds_of_boxes_and_areas_have_ysks_numbers(calls: ServiceCalls) -> None:
    def count(**asked: object) -> int:
        return len(ask(calls, "getSecimSandikSonucList", **MV, **asked))

    assert [count(sandikTuru=n) for n in ("", -1, 0, 1, 2, 3)] == [21, 21, 14, 3, 1, 3]
    assert [count(yurtIciDisi=n) for n in ("", 1, 2)] == [21, 15, 6]
    assert count(sandikRumuzIlk="A2", sandikRumuzSon="A10") == 2
    assert len(ask(calls, "getIlList", secimTuru=9)) == 3


def test_sums_by_ilce_and_by_province(calls: ServiceCalls) -> None:
    calls.site.publish(*every_result())

    boards = ask(calls, "getSecimSandikSonucList", **MV, sorguTuru=1, ilId=34)
    provinces = ask(calls, "getSecimSandikSonucList", **MV, sorguTuru=2)

    assert [(b["ilce_ADI"], b["toplam_SANDIK_SAYISI"]) for b in boards] == [
        ("KADIKÖY-1", 6),
        ("KADIKÖY-2", 4),
    ]
    assert boards[0]["parti1_ALDIGI_OY"] == sum(range(102, 108))
    assert sum(p["parti1_ALDIGI_OY"] for p in provinces) == sum(range(100, 121))


def test_only_parliament_divides_a_province(
    calls: ServiceCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    plate = "portal.service.ssps_rows._plate"
    monkeypatch.setattr(plate, lambda cevre: 34 if cevre[:2].isdecimal() else 0)
    calls.site.publish(*every_result())

    def found(secim: int) -> list[tuple[int, int, int]]:
        rows = ask(calls, "getSecimSandikSonucList", secimTuru=secim, sorguTuru=2)
        total = "toplam_SANDIK_SAYISI"
        return [(row["il_ID"], row["secim_CEVRESI_ID"], row[total]) for row in rows]

    assert sorted(found(9)) == [(0, 88, 3), (0, 89, 3), (34, 0, 15)]
    assert [boxes for il, _, boxes in found(8) if il == 34] == [2, 10, 3]
    assert len(ask(calls, "getIlList", secimTuru=9)) == 1
    rows = ask(calls, "getSecimSandikSonucList", secimTuru=9, sorguTuru=2)
    assert sum(row["parti1_ALDIGI_OY"] for row in rows if row["il_ID"] == 34) == sum(
        range(150, 165)
    )


def test_a_province_that_a_party_does_not_see_answers_like_an_unknown_one(
    calls: ServiceCalls,
) -> None:
    for call in ("getSecimSonucList", "getSecimSandikSonucList", "getSandikSecimSonucBaslikList"):
        for party, unseen in (("parti-a", {"ilId": 81}), ("parti-b", {"ilId": 35})):
            assert ask(calls, call, party, **MV, **unseen) == [], (call, party)
        assert ask(calls, call, "parti-b", **MV, secimCevresiId=1) == [], call
        assert ask(calls, call, "parti-b", **MV, ilId=34), call


def test_places_have_their_turkish_names_in_capitals(calls: ServiceCalls) -> None:
    calls.site.publish(*every_result())

    names = [row["ilce_ADI"] for row in ask(calls, "getIlceList", **MV)]
    (gate,) = ask(calls, "getGumrukList", **MV)
    (country,) = ask(calls, "getUlkeList", **MV)

    assert names == ["ALADAĞ", "KADIKÖY-1", "KADIKÖY-2", "KONAK"]
    assert (gate["gumruk_ADI"], country["ulke_ADI"]) == ("KAPIKULE", "ALMANYA")


def test_many_rows_are_streamed(calls: ServiceCalls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portal.service.ssps_calls._ROWS_A_CHUNK", 4)
    calls.site.publish(*every_result())

    assert len(ask(calls, "getSecimSandikSonucList", **MV)) == 21
    assert calls.portal.records()[-1][4]["rows"] == 21


def test_a_slow_client_of_many_rows_holds_no_view_and_counts(
    calls: ServiceCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_ROWS_A_CHUNK", "_MANY_ROWS"):
        monkeypatch.setattr(f"portal.service.ssps_calls.{name}", 4)
    calls.site.publish(*every_result())
    files = calls.portal.entrance.limits.files

    async def see() -> tuple[bool, dict[str, int]]:
        return await calls.portal.forgets_a_view(), dict(files._open)

    path = "/api/ssps/getSecimSandikSonucList?secimTuru=8"
    found = calls.portal.while_read(path, BASIC, see)

    assert found == (True, {"parti-a.servis": 1})
    assert files._open == {}


@pytest.mark.slow
def test_another_partys_places_do_not_exist_by_any_parameter(calls: ServiceCalls) -> None:
    calls.site.publish(*every_result())
    il = ask(calls, "getIlList", **MV)
    ilce = ask(calls, "getIlceList", **MV)
    muhtarlik = ask(calls, "getMuhtarlikList", **MV)
    rows = ask(calls, "getSecimSandikSonucList", **MV)
    own = {row["sandik_ID"] for row in rows if row["ilce_ADI"] == "KADIKÖY-2"}
    asked: list[dict[str, object]] = [{"ilId": row["il_ID"]} for row in il]
    asked += [{"secimCevresiId": row["secim_CEVRESI_ID"]} for row in il]
    asked += [{"ilceId": row["ilce_ID"]} for row in ilce]
    asked += [{"birimId": row["birim_ID"]} for row in ilce]
    asked += [{"muhtarlikId": row["muhtarlik_ID"]} for row in muhtarlik]
    asked += [{"sandikId": row["sandik_ID"]} for row in rows]
    asked += [{"gumrukId": row["gumruk_ID"]} for row in rows if row["gumruk_ID"]]
    asked += [{"ulkeId": row["ulke_ID"]} for row in rows if row["ulke_ID"]]
    asked += [{"sandikTuru": n} for n in range(4)]
    asked += [{"yurtIciDisi": n} for n in (1, 2)]

    for each in asked:
        found = ask(calls, "getSecimSandikSonucList", "parti-b", **MV, **each)
        assert {row["sandik_ID"] for row in found} <= own, each
        for total in ask(calls, "getSecimSonucList", "parti-b", **MV, **each):
            assert total["toplam_SANDIK_SAYISI"] <= 4, each
    for call in ("getIlList", "getIlceList", "getMuhtarlikList", "getGumrukList", "getUlkeList"):
        text = json.dumps(ask(calls, call, "parti-b", **MV), ensure_ascii=False)
        assert not any(word in text for word in ("KADIKÖY-1", "ADANA", "İZMİR", "KAPIKULE", "MODA"))
