"""Made-up counts, and how a form writes them out: 1453 -> "bin dört yüz elli üç"."""

import random
from dataclasses import dataclass

from config.sheet import Secim

_ONES = ("", "bir", "iki", "üç", "dört", "beş", "altı", "yedi", "sekiz", "dokuz")
_TENS = ("", "on", "yirmi", "otuz", "kırk", "elli", "altmış", "yetmiş", "seksen", "doksan")
_LETTERS = "ABCÇDEFGĞHIİJKLMNOÖPRSŞT"


def number_in_words(number: int) -> str:
    """Write out 0 to 999,999 in Turkish; a thousand is `bin`, never `bir bin`."""
    if number == 0:
        return "sıfır"
    thousands, rest = divmod(number, 1000)
    parts = []
    if thousands:
        parts += [_hundreds(thousands) if thousands > 1 else "", "bin"]
    parts.append(_hundreds(rest))
    return " ".join(filter(None, parts))


def _hundreds(number: int) -> str:
    hundreds, rest = divmod(number, 100)
    parts = [_ONES[hundreds] if hundreds > 1 else "", "yüz" if hundreds else ""]
    return " ".join(filter(None, (*parts, _TENS[rest // 10], _ONES[rest % 10])))


def contenders(secim: Secim) -> list[str]:
    """Return who stands in the contest, by letters that belong to nobody."""
    if secim is Secim.CB:
        return [f"{letter} Adayı" for letter in _LETTERS[:4]]
    return [f"{letter} Partisi" for letter in _LETTERS]


@dataclass(frozen=True, slots=True)
class BoxResult:
    """One box's or place's result; it adds up."""

    registered: int
    voted: int
    invalid: int
    votes: tuple[int, ...]

    @property
    def valid(self) -> int:
        """Ballots that count."""
        return self.voted - self.invalid


def make_result(rng: random.Random, secim: Secim, most: int) -> BoxResult:
    """Make up a result for at most `most` registered voters."""
    registered = rng.randint(most // 2, most)
    voted = round(registered * rng.uniform(0.7, 0.95))
    invalid = round(voted * rng.uniform(0, 0.04))
    weights = [rng.expovariate(1) ** 2 for _ in contenders(secim)]
    left = voted - invalid
    votes = [int(left * weight / sum(weights)) for weight in weights]
    votes[0] += left - sum(votes)
    return BoxResult(registered, voted, invalid, tuple(votes))
