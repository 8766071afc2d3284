import pytest

from config import scope
from config.sheet import Belge, Secim, Sheet

BOX = Sheet(Secim.CB, Belge.SANDIK_SONUC, "35-izmir-2", "konak-1", "7", 1)
OTHER_BOX = Sheet(Secim.CB, Belge.SANDIK_SONUC, "35-izmir-2", "bornova-1", "8", 1)
BOARD = Sheet(Secim.CB, Belge.ILCE_BIRLESTIRME, "35-izmir-2", "konak-1", None, 1)
DISTRICT = Sheet(Secim.CB, Belge.IL_BIRLESTIRME, "35-izmir-2", None, None, 1)
ELSEWHERE = Sheet(Secim.CB, Belge.IL_BIRLESTIRME, "35-izmir-1", None, None, 1)
WHOLE = Sheet(Secim.CB, Belge.ULKELER_VE_GUMRUK_KAPILARI_BIRLESTIRME, None, None, None, 1)


@pytest.mark.parametrize(
    ("stated", "seen"),
    [
        ("all", [BOX, OTHER_BOX, BOARD, DISTRICT, ELSEWHERE, WHOLE]),
        (["35-izmir-2"], [BOX, OTHER_BOX, BOARD, DISTRICT]),
        (["35-izmir-2/konak-1"], [BOX, BOARD]),
        (["35-izmir-1", "35-izmir-2/konak-1"], [BOX, BOARD, ELSEWHERE]),
        (["34-istanbul-1"], []),
    ],
)
def test_a_party_sees_sheets_in_its_scope_and_none_above(
    stated: str | list[str], seen: list[Sheet]
) -> None:
    covers = scope.parse(stated).covers

    everything = [BOX, OTHER_BOX, BOARD, DISTRICT, ELSEWHERE, WHOLE]
    assert [sheet for sheet in everything if covers(sheet)] == seen


@pytest.mark.parametrize(
    "stated", ["", "ALL", "34-istanbul-1", [], [""], ["/"], ["a/"], ["a/b/c"], ["../x"]]
)
def test_a_malformed_scope_is_refused(stated: str | list[str]) -> None:
    with pytest.raises(ValueError):
        scope.parse(stated)


def test_a_scope_prints_in_sorted_order() -> None:
    assert (
        str(scope.parse(["35-izmir-2/konak-1", "06-ankara-1"])) == "06-ankara-1 35-izmir-2/konak-1"
    )
    assert str(scope.ALL) == "all"
