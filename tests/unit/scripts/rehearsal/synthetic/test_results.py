from collections import Counter
from dataclasses import replace

import pytest

from config.ballot import Tur, read
from config.registry import RegistryEntry
from config.sheet import Belge, SandikTuru, Secim, Sheet
from scripts.rehearsal.synthetic import results
from scripts.rehearsal.synthetic.results import box_result, options


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (0, "sıfır"),
        (7, "yedi"),
        (40, "kırk"),
        (100, "yüz"),
        (342, "üç yüz kırk iki"),
        (1000, "bin"),
        (1453, "bin dört yüz elli üç"),
        (2023, "iki bin yirmi üç"),
        (101_110, "yüz bir bin yüz on"),
        (999_999, "dokuz yüz doksan dokuz bin dokuz yüz doksan dokuz"),
    ],
)
def test_numbers_are_written_in_turkish_words(number: int, written: str) -> None:
    assert results.number_in_words(number) == written


BOX = RegistryEntry(
    "1093717526",
    Sheet(Secim.MV, Belge.SANDIK_SONUC, "34-istanbul-1", "kadikoy-2", "1234", 1),
    SandikTuru.NORMAL,
    "Caferağa",
)


def of(secim: Secim, sandik: str = "1234") -> RegistryEntry:
    return replace(BOX, sheet=replace(BOX.sheet, secim=secim, sandik=sandik))


@pytest.mark.parametrize("secim", [Secim.CB, Secim.MV])
def test_a_result_adds_up(secim: Secim) -> None:
    for seed in range(200):
        count = box_result(seed, of(secim))
        assert sum(count.votes.values()) == count.valid
        assert count.valid + count.invalid == count.voted == count.listed + count.unlisted
        assert count.listed <= count.registered <= 400
        assert min(count.votes.values()) >= 0


def test_both_contests_of_a_box_have_the_same_voters() -> None:
    president, parliament = box_result(7, of(Secim.CB)), box_result(7, of(Secim.MV))

    assert (president.registered, president.voted) == (parliament.registered, parliament.voted)


def test_a_correction_moves_votes_and_keeps_the_sums() -> None:
    first, second = box_result(7, BOX), box_result(7, BOX, version=2)

    assert first.votes != second.votes
    assert (first.valid, first.voted) == (second.valid, second.voted)


def test_president_has_four_candidates_and_parliament_24_parties_in_two_alliances() -> None:
    assert [option.title for option in options(Secim.CB, "01-adana")] == [
        "A Adayı", "B Adayı", "C Adayı", "Ç Adayı",
    ]  # fmt: skip
    parliament = options(Secim.MV, "34-istanbul-1")
    assert Counter(option.tur for option in parliament) == {
        Tur.PARTI: 24, Tur.ITTIFAK: 2, Tur.BAGIMSIZ: 1,
    }  # fmt: skip
    assert len(options(Secim.MV, "01-adana")) == 26


def test_the_ballot_can_be_imported() -> None:
    text = results.ballot_csv((Secim.CB, Secim.MV), ["01-adana", "34-istanbul-1"])

    ballot = read("ballot.csv", text.splitlines(keepends=True), text.encode())

    for secim in (Secim.CB, Secim.MV):
        for district in ("01-adana", "34-istanbul-1"):
            found = [option.id for option in ballot.options(secim, district)]
            assert found == [option.id for option in options(secim, district)]
