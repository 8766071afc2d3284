"""Which sheets the desk suggests for a page, and why."""

from datetime import UTC, datetime

import pytest

from config.registry import RegistryEntry
from config.sheet import Belge, SandikTuru, Secim, Sheet
from portal.staff.desk.neighbours import Neighbour, nearest_board
from portal.staff.desk.suggestions import Suggestion, missing_sheets, one_off, suggest
from publisher.page import Reading

NOON = datetime(2023, 5, 14, 17, 0, tzinfo=UTC)


def entry(karekod: str, box: str, secim: Secim = Secim.CB, page: int = 1) -> RegistryEntry:
    sheet = Sheet(secim, Belge.SANDIK_SONUC, "34-istanbul-1", "kadikoy-2", box, page)
    return RegistryEntry(karekod, sheet, SandikTuru.NORMAL, "Caferağa")


BOARD = [
    entry("1000000001", "9"),
    entry("1000000002", "9", Secim.MV),
    entry("1000000003", "10"),
    entry("1000000004", "10", Secim.MV),
    entry("1000000015", "11"),
    entry("1000000016", "11", Secim.MV),
    entry("5000900000", "12"),
]
KNOWN = {each.karekod: each for each in BOARD}


def read(text: str, engine: str = "zxing-cpp", scan: str = "whole") -> Reading:
    return Reading(text, engine, scan, 2)


def beside(place: int, of: RegistryEntry | None) -> Neighbour:
    return Neighbour(place, f"{place}.jpg", NOON, "filed" if of else "quarantined", "", "", of)


def found(
    *readings: Reading, pile: list[Neighbour] | None = None, filed: tuple[str, ...] = ()
) -> list[Suggestion]:
    missing = missing_sheets(BOARD, dict.fromkeys(filed, 1), ())
    taken = {KNOWN[karekod].sheet for karekod in filed}
    return suggest(
        readings, pile or [], missing, KNOWN.get, lambda sheet: 1 if sheet in taken else 0
    )


def test_a_serial_that_was_read_once_comes_first() -> None:
    (first, *_) = found(read("1000000003"), pile=[beside(-1, BOARD[0])])

    assert first.entry == BOARD[2]
    assert first.whys[0] == ("Karekod 1000000003 okundu (zxing-cpp, whole), ama tek okuma yetmez")


@pytest.mark.parametrize("text", ["5000900001", "0500900000", "500090000", "50009000001"])
def test_a_near_miss_of_a_registered_serial_is_suggested(text: str) -> None:
    (only,) = found(read(text))
    assert only.entry.karekod == "5000900000"
    assert only.whys == (f"Okunan {text} kayıtlı değil; 5000900000 ile tek fark var",)


def test_a_serial_two_digits_off_is_suggested_among_the_missing_sheets_only() -> None:
    assert [each.entry.karekod for each in found(read("5000900078"))] == ["5000900000"]
    assert found(read("5000900078"), filed=("5000900000",)) == []
    assert found(read("1234567890")) == []


def test_digits_that_are_partly_read_fit_few_sheets() -> None:
    (only,) = found(read("digits 5000?00?00", "digits", "printed"))
    assert only.whys == ("Altındaki rakamlar 5000?00?00 okundu: yalnız bu tutanağa uyuyor",)
    several = found(read("digits 100000000?", "digits", "printed"))
    assert {each.entry.karekod for each in several} == {f"100000000{n}" for n in (1, 2, 3, 4)}
    assert "4 tutanağa uyuyor" in several[0].whys[0]


def test_what_lay_beside_it_in_the_pile_says_which_box_it_is() -> None:
    pile = [beside(-1, BOARD[2]), beside(1, BOARD[4])]

    (first, *rest) = found(pile=pile, filed=("1000000003", "1000000015"))

    assert first.entry == BOARD[3]
    assert "Önceki sayfa aynı sandıktan" in first.whys
    assert [each.entry.karekod for each in rest][:1] == ["1000000016"]


def test_the_next_page_of_the_same_sheet_is_the_likeliest() -> None:
    pages = [entry("2000000001", "9", page=1), entry("2000000002", "9", page=2)]
    missing = [pages[1], *BOARD[1:]]
    known = {each.karekod: each for each in (*pages, *BOARD)}

    (first, *_) = suggest((), [beside(-1, pages[0])], missing, known.get, lambda sheet: 0)

    assert first.entry == pages[1]
    assert "Önceki sayfa bu tutanağın 1. sayfası" in first.whys


def test_a_sheet_that_is_filed_comes_after_the_missing_ones() -> None:
    readings = (read("1000000003"), read("1000000004"))
    suggested = found(*readings, filed=("1000000003",))
    assert [each.entry.karekod for each in suggested] == ["1000000004", "1000000003"]
    assert [each.versions for each in suggested] == [0, 1]


def test_texts_that_are_no_serials_suggest_nothing() -> None:
    texts = ("https://example.org", "unread code", "print 1 2 3", "digits ??????????", "١٢٣٤٥٦٧٨٩٠")
    assert found(*map(read, texts)) == []


def test_at_most_nine_are_suggested() -> None:
    many = [entry(f"30000000{n:02}", str(n)) for n in range(1, 40)]
    pile = [beside(-1, many[0])]
    assert len(suggest((), pile, many[1:], dict[str, RegistryEntry]().get, lambda s: 0)) == 9


def test_the_board_is_that_of_the_nearest_sheet_that_was_filed() -> None:
    assert nearest_board([beside(-2, BOARD[0]), beside(-1, None)]) == (
        "34-istanbul-1",
        "kadikoy-2",
    )
    assert nearest_board([beside(-1, None)]) is None


def test_every_serial_one_digit_off_is_tried() -> None:
    made = list(one_off("1234567890"))
    assert len(made) == len(set(made)) == 90 + 9
    assert "2134567890" in made and "1234567899" in made and "1234567890" not in made
