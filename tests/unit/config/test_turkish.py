import pytest

from config.turkish import lower, sort_key, to_ascii, upper


@pytest.mark.parametrize(
    ("turkish", "plain"),
    [
        ("çğıöşüâîû", "cgiosuaiu"),
        ("ÇĞIİÖŞÜÂÎÛ", "CGIIOSUAIU"),
        ("Iğdır Kapıları", "Igdir Kapilari"),
        ("A–B 2023", "A–B 2023"),
    ],
)
def test_turkish_letters_become_ascii_letters_of_the_same_case(turkish: str, plain: str) -> None:
    assert to_ascii(turkish) == plain


@pytest.mark.parametrize(
    ("small", "capital"), [("ığdır", "IĞDIR"), ("izmir", "İZMİR"), ("şişli", "ŞİŞLİ")]
)
def test_both_letters_i_keep_their_dot_or_have_none(small: str, capital: str) -> None:
    assert upper(small) == capital
    assert lower(capital) == small


def test_text_sorts_as_in_a_turkish_dictionary() -> None:
    names = [
        "Zonguldak",
        "Çorum",
        "İzmir",
        "Iğdır",
        "Cide",
        "Ünye",
        "Uşak",
        "Şile",
        "Sivas",
        "Âfet",
    ]

    assert sorted(names, key=sort_key) == [
        "Âfet", "Cide", "Çorum", "Iğdır", "İzmir", "Sivas", "Şile", "Uşak", "Ünye", "Zonguldak",
    ]  # fmt: skip


def test_numbers_in_a_name_sort_by_their_value() -> None:
    assert sorted(["kadikoy-10", "kadikoy-2", "kadikoy"], key=sort_key) == [
        "kadikoy", "kadikoy-2", "kadikoy-10",
    ]  # fmt: skip
