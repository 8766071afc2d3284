"""Makes up the ballot and the results of a rehearsal, and writes numbers in Turkish words.

The same seed gives the same result of a box, on its sheet and in the batch of results. Both
contests of a box have the same voters, because their votes are in one envelope. The parties are as
strong in a box as in its board, with some noise. Example of words: 1453 -> "bin dört yüz elli üç".
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

from config.ballot import COLUMNS, Tur
from config.registry import RegistryEntry
from config.sheet import SandikTuru, Secim
from scripts.rehearsal.synthetic.seeded_random import seeded_rng

_ONES = ("", "bir", "iki", "üç", "dört", "beş", "altı", "yedi", "sekiz", "dokuz")
_TENS = ("", "on", "yirmi", "otuz", "kırk", "elli", "altmış", "yetmiş", "seksen", "doksan")
_LETTERS = "ABCÇDEFGĞHIİJKLMNOÖPRSŞT"
_USUAL_VOTERS = (200, 400)
_VOTERS = {SandikTuru.CEZAEVI: (40, 200), SandikTuru.SEYYAR: (20, 90)}
_WITH_INDEPENDENT = ("1", "2", "3")


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


@dataclass(frozen=True, slots=True)
class SyntheticOption:
    """What a vote can go to; `ittifak` is the id of the alliance, empty for none."""

    id: str
    title: str
    tur: Tur
    ittifak: str = ""


@cache
def options(secim: Secim, district: str | None) -> tuple[SyntheticOption, ...]:
    """Return the ballot of a contest in a district, in order; their names are just letters.

    The presidential contest has four candidates. Parliament has 24 parties, of which the first
    three and the next two form alliances, whose joint votes come after the parties; districts with
    a number at their end have an independent as well.
    """
    if secim is Secim.CB:
        return tuple(
            SyntheticOption(f"aday-{n}", f"{letter} Adayı", Tur.ADAY)
            for n, letter in enumerate(_LETTERS[:4], 1)
        )
    parties = [
        SyntheticOption(f"parti-{n}", f"{letter} Partisi", Tur.PARTI, _alliance(n))
        for n, letter in enumerate(_LETTERS, 1)
    ]
    joint = [
        SyntheticOption(name, f"{title} İttifakı", Tur.ITTIFAK, name)
        for name, title in (("ittifak-1", "Birinci"), ("ittifak-2", "İkinci"))
    ]
    if district is None or district[-1:] not in _WITH_INDEPENDENT:
        return (*parties, *joint)
    return (*parties, *joint, SyntheticOption("bagimsiz-1", "Bağımsız Aday", Tur.BAGIMSIZ))


def _alliance(number: int) -> str:
    return "ittifak-1" if number <= 3 else "ittifak-2" if number <= 5 else ""


def ballot_csv(contests: Iterable[Secim], districts: Iterable[str]) -> str:
    """Return the ballot of the rehearsal as the CSV that `ssps ballot import` reads."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    listed = sorted(set(districts))
    for secim in contests:
        common = options(secim, None)
        for sira, option in enumerate(common, 1):
            writer.writerow((secim, "", sira, option.id, option.tur, option.title, option.ittifak))
        for district in listed:
            own = options(secim, district)[len(common) :]
            for sira, option in enumerate(own, len(common) + 1):
                writer.writerow((secim, district, sira, option.id, option.tur, option.title, ""))
    return text.getvalue()


@dataclass(frozen=True, slots=True)
class BoxResult:
    """The result of a box, or the sum of several; its numbers add up."""

    registered: int
    listed: int  # voters on the list who voted
    unlisted: int
    invalid: int
    disputed: int  # votes counted as valid upon objection
    votes: Mapping[str, int]

    @property
    def voted(self) -> int:
        """The number of voters, and of envelopes."""
        return self.listed + self.unlisted

    @property
    def valid(self) -> int:
        """The number of valid ballots."""
        return self.voted - self.invalid

    def __add__(self, other: "BoxResult") -> "BoxResult":
        votes = Counter(self.votes)
        votes.update(other.votes)
        return BoxResult(
            self.registered + other.registered,
            self.listed + other.listed,
            self.unlisted + other.unlisted,
            self.invalid + other.invalid,
            self.disputed + other.disputed,
            dict(votes),
        )


NO_RESULT = BoxResult(0, 0, 0, 0, 0, {})


def box_result(seed: int, entry: RegistryEntry, version: int = 1) -> BoxResult:
    """Make up the result of a box; each later version moves a few votes between two options."""
    sheet = entry.sheet
    place = (sheet.cevre or "", sheet.kurul or "", sheet.sandik or "")
    rng = seeded_rng(seed, "voters", *place)
    registered = rng.randint(*_VOTERS.get(entry.sandik_turu or SandikTuru.NORMAL, _USUAL_VOTERS))
    listed = round(registered * rng.uniform(0.7, 0.95))
    unlisted = rng.randint(0, 4)
    rng = seeded_rng(seed, "votes", sheet.secim, *place)
    invalid = round((listed + unlisted) * rng.uniform(0, 0.04))
    disputed = rng.randint(1, 3) if rng.random() < 0.003 else 0
    ballot = options(sheet.secim, sheet.cevre)
    strengths = _strengths(seed, sheet.secim, sheet.cevre or "", sheet.kurul or "")
    weights = [strength * rng.uniform(0.7, 1.3) for strength in strengths]
    valid = listed + unlisted - invalid
    total = sum(weights)
    votes = [int(valid * weight / total) for weight in weights]
    votes[weights.index(max(weights))] += valid - sum(votes)
    for later in range(2, version + 1):
        moved = min(votes[0], seeded_rng(seed, "moved", later, *place).randint(1, 3))
        votes[0] -= moved
        votes[1] += moved
    named = {option.id: number for option, number in zip(ballot, votes, strict=True)}
    return BoxResult(registered, listed, unlisted, invalid, disputed, named)


@lru_cache(maxsize=64)
def _strengths(seed: int, secim: Secim, district: str, board: str) -> tuple[float, ...]:
    rng = seeded_rng(seed, "strengths", secim, district, board)
    return tuple(0.05 + rng.expovariate(1) ** 2 for _ in options(secim, district))
