import pytest

from config.turkish import to_ascii


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
