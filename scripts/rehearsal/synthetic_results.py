"""Make up the results of ballot boxes, and write numbers in Turkish words as the forms do.

Example: 1453 -> "bin dört yüz elli üç".
"""

import random
from dataclasses import dataclass

from config.sheet import Secim

_ONES = ("", "bir", "iki", "üç", "dört", "beş", "altı", "yedi", "sekiz", "dokuz")
_TENS = ("", "on", "yirmi", "otuz", "kırk", "elli", "altmış", "yetmiş", "seksen", "doksan")
_LETTERS = "ABCÇDEFGĞHIİJKLMNOÖPRSŞT"


def number_in_words(number: int) -> str:
    """Write a number from 0 to 999,999 in Turkish words; 1000 is `bin`, not `bir bin`."""
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
    """Return the candidates or parties of a contest; their names are just letters."""
    if secim is Secim.CB:
        return [f"{letter} Adayı" for letter in _LETTERS[:4]]
    return [f"{letter} Partisi" for letter in _LETTERS]


@dataclass(frozen=True, slots=True)
class BoxResult:
    """The result of a box or place; its numbers add up."""

    registered: int
    voted: int
    invalid: int
    votes: tuple[int, ...]

    @property
    def valid(self) -> int:
        """The number of valid ballots."""
        return self.voted - self.invalid


def make_result(rng: random.Random, secim: Secim, max_voters: int) -> BoxResult:
    """Make up a result for at most `max_voters` registered voters."""
    registered = rng.randint(max_voters // 2, max_voters)
    voted = round(registered * rng.uniform(0.7, 0.95))
    invalid = round(voted * rng.uniform(0, 0.04))
    weights = [rng.expovariate(1) ** 2 for _ in contenders(secim)]
    remaining = voted - invalid
    votes = [int(remaining * weight / sum(weights)) for weight in weights]
    votes[0] += remaining - sum(votes)
    return BoxResult(registered, voted, invalid, tuple(votes))
