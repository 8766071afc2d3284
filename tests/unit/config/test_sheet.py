import pytest

from config.sheet import Belge, Level, Secim, Sheet


def test_there_are_eleven_forms_at_four_levels() -> None:
    by_level = {level: [b for b in Belge if b.level is level] for level in Level}

    assert len(list(Belge)) == 11
    assert {level.name: len(forms) for level, forms in by_level.items()} == {
        "ELECTION": 1,
        "DISTRICT": 3,
        "BOARD": 5,
        "BOX": 2,
    }
    assert all(form.turkish for form in Belge)
    assert Secim.CB.turkish == "Cumhurbaşkanı Seçimi"


@pytest.mark.parametrize(
    ("belge", "place", "fault"),
    [
        (Belge.SANDIK_SONUC, ("34-istanbul-1", "kadikoy-2", None), "sandik: empty"),
        (Belge.SANDIK_SONUC, ("34-istanbul-1", None, "1"), "kurul: empty"),
        (Belge.ILCE_BIRLESTIRME, ("34-istanbul-1", "kadikoy-2", "1"), "sandik: '1', but"),
        (Belge.IL_BIRLESTIRME, ("34-istanbul-1", "kadikoy-2", None), "kurul: 'kadikoy-2', but"),
        (Belge.SANDIK_SONUC, ("..", "kadikoy-2", "1"), "cevre: '..' is not a safe folder name"),
        (Belge.SANDIK_SONUC, ("34-istanbul-1", "kadıköy", "1"), "kurul: 'kadıköy' is not a safe"),
        (Belge.SANDIK_SONUC, ("34-istanbul-1", "birlestirme", "1"), "kurul: 'birlestirme' is a"),
        (Belge.SANDIK_SONUC, ("34-istanbul-1", "kadikoy-2", "1/2"), "sandik: '1/2' is not a box"),
    ],
)
def test_a_sheet_whose_place_does_not_fit_its_level_is_refused(
    belge: Belge, place: tuple[str | None, str | None, str | None], fault: str
) -> None:
    with pytest.raises(ValueError) as error:
        Sheet(Secim.CB, belge, *place, 1)

    assert str(error.value).startswith(fault)


@pytest.mark.parametrize("page", [0, -1, 1000])
def test_pages_are_numbered_from_1_to_999(page: int) -> None:
    with pytest.raises(ValueError, match="sayfa"):
        Sheet(Secim.CB, Belge.IL_BIRLESTIRME, "06-ankara-1", None, None, page)
