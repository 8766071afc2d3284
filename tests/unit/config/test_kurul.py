"""The Turkish names of boards."""

from collections import Counter

import pytest

from config import cevre, kurul


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("kadikoy-2", "Kadıköy 2"),
        ("igdir-1", "Iğdır 1"),  # a province
        ("sisli", "Şişli"),
        ("ilgin", "Ilgın"),
        ("ihsaniye", "İhsaniye"),
        ("19-mayis", "19 Mayıs"),
        ("sehit-kamil-10", "Şehitkamil 10"),
        ("merkez-3", "Merkez 3"),
        ("suudi-arabistan", "Suudi Arabistan"),
        ("istanbul-havalimani", "İstanbul Havalimanı"),
        ("cinarova-2", "Cinarova 2"),  # made up
        ("", ""),
    ],
)
def test_a_board_has_its_turkish_name(folder: str, name: str) -> None:
    assert kurul.title(folder) == name


def test_every_ilce_is_known_and_no_folder_name_has_two_spellings() -> None:
    plates = [f"{number:02}" for number in range(1, 82)]
    found = {plate: kurul.names(plate) for plate in plates}
    every = [*kurul.names(cevre.ABROAD), *kurul.names(cevre.CUSTOMS), *sum(found.values(), ())]

    assert sum(map(len, found.values())) == 973
    assert len(found["34"]) == 39 and "Eyüpsultan" in found["34"]
    assert all(len(set(names)) == len(names) for names in found.values())
    spellings = Counter(cevre.ascii_name(name) for name in set(every))
    assert max(spellings.values()) == 1


def test_every_name_is_written_as_turkish_writes_names() -> None:
    letters = set("abcçdefgğhıijklmnoöprsştuüvyz")
    for plate in range(1, 82):
        for name in kurul.names(f"{plate:02}"):
            for word in name.split():
                assert word.isdecimal() or (word[0].isupper() and set(word[1:]) <= letters), name
