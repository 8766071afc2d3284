from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from config import registry
from config.registry import RegistryEntry
from config.sheet import Belge, Level, SandikTuru, Secim
from scripts.rehearsal.synthetic import election


def boxes_of(entries: list[RegistryEntry]) -> set[tuple[str | None, str | None, str]]:
    return {
        (e.sheet.cevre, e.sheet.kurul, e.sheet.sandik)
        for e in entries
        if e.sheet.sandik is not None
    }


@pytest.mark.parametrize("boxes", [1, 2, 3, 4, 5, 6, 7, 12, 60, 500])
def test_an_election_has_the_given_number_of_boxes_and_no_duplicates(boxes: int) -> None:
    made = list(election.entries(boxes, 7))
    assert len(boxes_of(made)) == boxes
    assert len({e.karekod for e in made}) == len({e.sheet for e in made}) == len(made)
    assert all(registry.is_karekod(e.karekod) for e in made)


@pytest.mark.parametrize("boxes", [4, 6, 12])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_small_election_has_all_eleven_sheet_types_in_both_contests(
    boxes: int, seed: int
) -> None:
    made = list(election.entries(boxes, seed))
    forms = {(e.sheet.secim, e.sheet.belge) for e in made}
    assert forms == {(secim, belge) for secim in (Secim.CB, Secim.MV) for belge in Belge}


def test_six_boxes_are_of_every_kind_and_one_board_has_several() -> None:
    made = list(election.entries(6, 7))
    assert {e.sandik_turu for e in made if e.sheet.sandik} == set(SandikTuru)
    at_boards = Counter(box[:2] for box in boxes_of(made))
    assert sorted(at_boards.values()) == [1, 1, 4]


def test_every_box_has_result_and_counting_sheets_for_both_contests() -> None:
    made = list(election.entries(12, 7))
    for box in boxes_of(made):
        its = [
            (e.sheet.secim, e.sheet.belge, e.sheet.page)
            for e in made
            if (e.sheet.cevre, e.sheet.kurul, e.sheet.sandik) == box
        ]
        for secim in (Secim.CB, Secim.MV):
            assert (secim, Belge.SANDIK_SONUC, 1) in its
            assert (secim, Belge.SAYIM_DOKUM_CETVELI, 1) in its


def test_only_places_with_boxes_have_aggregates() -> None:
    made = list(election.entries(12, 7))
    boards = {box[:2] for box in boxes_of(made)}
    for e in made:
        if e.sheet.belge.level is Level.BOARD:
            assert (e.sheet.cevre, e.sheet.kurul) in boards
        elif e.sheet.belge.level is Level.DISTRICT:
            assert e.sheet.cevre in {cevre for cevre, _ in boards}


def test_boxes_abroad_and_at_customs_have_their_own_sheet_types() -> None:
    abroad = {e.sheet.belge.value for e in election.entries(40, 7) if e.sheet.cevre == "yurt-disi"}
    customs = {e.sheet.belge.value for e in election.entries(40, 7) if e.sheet.cevre == "gumruk"}
    box = {"sayim-dokum-cetveli", "sandik-sonuc"}
    assert abroad == box | {"yurt-disi-ulke-birlestirme", "yurt-disi-ulkeler-birlestirme"}
    assert customs == box | {
        "gumruk-ilce-birlestirme-rumuz",
        "gumruk-ilce-birlestirme-kurul",
        "gumruk-kapilari-birlestirme",
    }


def test_customs_boxes_have_a_letter_code_and_others_a_number() -> None:
    for e in election.entries(12, 7):
        if e.sheet.sandik:
            assert e.sheet.sandik.isdecimal() == (e.sheet.cevre != "gumruk")
    assert "A1" in {e.sheet.sandik for e in election.entries(12, 7)}


def test_the_election_depends_only_on_boxes_and_seed() -> None:
    assert list(election.entries(12, 7)) == list(election.entries(12, 7))
    assert list(election.entries(12, 7)) != list(election.entries(12, 8))
    first = next(election.entries(12, 7))
    assert first.karekod == "6113277606"


def test_a_whole_country_has_1094_boards_and_is_generated_lazily() -> None:
    assert len(list(islice(election.entries(201_000, 1), 100))) == 100
    country = election._districts(201_000, 1)
    assert len(country) == 89
    assert sum(len(d.boards) for d in country if d.cevre[0].isdigit()) == 1094
    assert sum(boxes for d in country for _, boxes in d.boards) == 201_000


def test_an_election_without_boxes_is_rejected() -> None:
    with pytest.raises(ValueError, match="0 boxes"):
        next(election.entries(0, 1))


def test_the_registry_imports_the_csv(tmp_path: Path) -> None:
    made = list(election.entries(60, 7))
    rows = election.write_csv(iter(made), tmp_path / "registry.csv")
    assert rows == len(made)
    assert registry.import_csv(tmp_path / "registry.csv", tmp_path / "index").rows == rows
    index = registry.Registry(tmp_path / "index")
    assert set(index.entries()) == set(made)
    index.close()


def test_districts_with_most_boxes_come_first_and_abroad_last() -> None:
    made = list(election.entries(12, 7))
    assert election.districts(made) == ["16-bursa-1", "42-konya", "gumruk", "yurt-disi"]
    assert election.districts(election.entries(1, 7)) == ["42-konya"]


def test_karekods_do_not_repeat_and_unregistered_ones_differ() -> None:
    serials = {election.serial(3, number) for number in range(50_000)}
    assert len(serials) == 50_000
    assert serials.isdisjoint(election.unregistered_karekod(3, number) for number in range(1000))
