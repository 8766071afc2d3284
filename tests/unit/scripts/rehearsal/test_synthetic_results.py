import pytest

from config.sheet import Secim
from scripts.rehearsal import synthetic_results
from scripts.rehearsal.seeded_random import seeded_rng


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
    assert synthetic_results.number_in_words(number) == written


@pytest.mark.parametrize("secim", [Secim.CB, Secim.MV])
def test_a_result_adds_up(secim: Secim) -> None:
    for seed in range(200):
        count = synthetic_results.make_result(seeded_rng(seed), secim, 400)
        assert sum(count.votes) == count.valid
        assert count.valid + count.invalid == count.voted <= count.registered <= 400
        assert min(count.votes) >= 0


def test_president_has_four_candidates_and_parliament_24_parties() -> None:
    assert synthetic_results.contenders(Secim.CB) == ["A Adayı", "B Adayı", "C Adayı", "Ç Adayı"]
    assert len(set(synthetic_results.contenders(Secim.MV))) == 24
