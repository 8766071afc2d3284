import pytest

from config.registry import RegistryEntry
from config.sheet import Belge, SandikTuru, Secim, Sheet
from publisher.catalog.catalog import Catalog
from publisher.catalog.decisions import review
from publisher.catalog.decisions.review import Agreed, Identification, NotYetAgreed, Review

CB, MV, KONAK = "1093717526", "1093717527", "2000000001"


def entry(karekod: str, cevre: str = "34-istanbul-1", secim: Secim = Secim.CB) -> RegistryEntry:
    sheet = Sheet(secim, Belge.SANDIK_SONUC, cevre, "kadikoy-2", "1234", 1)
    return RegistryEntry(karekod, sheet, SandikTuru.NORMAL, "")


KNOWN = {CB: entry(CB), MV: entry(MV, secim=Secim.MV), KONAK: entry(KONAK, "35-izmir-2")}


def says(who: str, *words: str) -> Identification:
    return Identification(
        who, who, review.parse_sheets(words), "by eye", "2023-05-14T18:00:00+00:00"
    )


def test_an_operator_gives_one_karekod_or_one_for_each_page() -> None:
    assert review.parse_sheets([CB]) == ((1, CB),)
    assert review.parse_sheets([f"3:{MV}", f"1:{CB}"]) == ((1, CB), (3, MV))
    assert review.format_sheets(((1, CB), (3, MV))) == f"1:{CB} 3:{MV}"


@pytest.mark.parametrize("words", [[], ["12"], ["x:" + CB], ["0:" + CB], [CB, CB], [":" + CB]])
def test_words_that_name_no_sheet_are_refused(words: list[str]) -> None:
    with pytest.raises(ValueError, match=r"write|given|start at 1"):
        review.parse_sheets(words)


def test_a_file_is_agreed_when_enough_operators_name_the_same_sheets() -> None:
    ayse, veli, can = says("ayse", CB), says("veli", MV), says("can", CB)

    assert review.decide([ayse], ayse, 1) == Agreed(("ayse",))
    assert review.decide([ayse], ayse, 2) == NotYetAgreed(1, ())
    assert review.decide([ayse, veli], veli, 2) == NotYetAgreed(1, (ayse,))
    assert review.decide([ayse, veli, can], can, 2) == Agreed(("ayse", "can"))
    assert review.decide([ayse, veli, can], can, 3) == NotYetAgreed(1, (veli,))


def test_sheets_that_filing_would_not_accept_are_refused_for_operators_too() -> None:
    assert review.entries_of(((1, CB), (2, MV)), 2, KNOWN.get) == [(1, KNOWN[CB]), (2, KNOWN[MV])]
    for sheets, frames, wrong in (
        (((1, "9999999999"),), 1, "not in the registry"),
        (((2, CB),), 1, "page 2: the file has only 1"),
        (((1, CB), (2, CB)), 2, "given for two pages"),
        (((1, CB), (2, KONAK)), 2, "belong to several boards"),
    ):
        with pytest.raises(ValueError, match=wrong):
            review.entries_of(sheets, frames, KNOWN.get)


def test_an_operators_newest_identification_replaces_his_earlier_one(opened: Catalog) -> None:
    connection = opened.connection
    review.add_identification(connection, "a.jpg", says("ayse", MV))
    review.add_identification(connection, "a.jpg", says("veli", CB))
    review.add_identification(connection, "a.jpg", says("ayse", CB))
    review.add_identification(connection, "b.jpg", says("can", MV))

    found = review.identifications(connection, "a.jpg")

    assert found == {"a.jpg": [says("ayse", CB), says("veli", CB)]}
    assert review.identifications(connection).keys() == {"a.jpg", "b.jpg"}


def test_a_review_removes_the_identifications_of_its_file(opened: Catalog) -> None:
    connection = opened.connection
    review.add_identification(connection, "a.jpg", says("ayse", CB))
    rejected = Review("request-1", review.REJECTED, "ayse", "no sheet", "2023-05-14T18:00:00+00:00")

    review.add_review(connection, "a.jpg", rejected)

    assert review.identifications(connection) == {}
    assert review.review_of(connection, "a.jpg") == rejected
    assert review.review_of(connection, "b.jpg") is None
    assert review.reviews(connection) == {"a.jpg": rejected}
