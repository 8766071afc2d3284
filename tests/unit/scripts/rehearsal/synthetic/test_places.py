import pytest

from config import cevre, name
from scripts.rehearsal.synthetic import places
from scripts.rehearsal.synthetic.seeded_random import seeded_rng


@pytest.mark.parametrize(
    ("folder", "printed"),
    [
        ("34-istanbul-1", "İstanbul 1"),
        ("73-sirnak", "Şırnak"),
        ("merkez-2", "Merkez 2"),
        ("sogutova", "Söğütova"),
        ("birlesik-krallik", "Birleşik Krallık"),
        ("yurt-disi", "Yurt Dışı"),
        ("kadikoy-2", "Kadikoy 2"),
    ],
)
def test_folder_names_are_printed_in_turkish(folder: str, printed: str) -> None:
    assert places.turkish_name(folder) == printed


def test_upper_case_is_turkish() -> None:
    assert places.turkish_upper("İlçe Birleştirme ılık") == "İLÇE BİRLEŞTİRME ILIK"


def test_districts_countries_and_gates_have_unique_valid_names() -> None:
    assert len({places.turkish_name(c) for c in cevre.names()}) == 89
    for listed in (places.COUNTRIES, places.GATES):
        folders = [cevre.ascii_name(place) for place in listed]
        assert len(set(folders)) == len(folders)
        assert [name.fault(folder) for folder in folders] == [None] * len(folders)


def test_boards_are_unique_and_the_first_town_has_several() -> None:
    for count in (1, 2, 13, 60):
        boards = places.boards(seeded_rng(count), count)
        assert len(set(boards)) == count
        assert boards[:2] == ["merkez-1", "merkez-2"][:count]
