"""Sums of results: kept up to date row by row, and compared with the boards' own aggregate sheets.

`PlaceSums` holds, for each contest, the sums of the newest results of the boxes of each board. The
sums of a district, of abroad and customs, and of the election are added up from those. A changed
box costs one subtraction and one addition, however many boxes there are.

An aggregate sheet is compared with the sum of the boxes below it. While boxes are missing, a sum
may be smaller than the sheet says; it is a finding only if it is larger, or if nothing is missing.
As long as boxes are missing, a sheet is compared with the aggregate sheets that it adds up as well
(SHEETS_BELOW), once all of them are here.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from config import cevre
from config.result import BOX_SHEET, Result, ResultKey
from config.sheet import Belge, Level, Secim
from publisher.results.checks.finding import Check, Finding

BOXES = "sandik"  # in a sum: how many boxes it adds up
VOTES = "oylar."
_CHECK = {
    Level.BOARD: Check.BOARD_NOT_SUM,
    Level.DISTRICT: Check.DISTRICT_NOT_SUM,
    Level.ELECTION: Check.ELECTION_NOT_SUM,
}
# The sheets that a sheet adds up: of each board below it one of these, or of the district itself.
SHEETS_BELOW: Mapping[Belge, tuple[Belge, ...]] = {
    Belge.ILCE_BIRLESTIRME_KURULLAR: (Belge.ILCE_BIRLESTIRME,),
    Belge.IL_BIRLESTIRME: (Belge.ILCE_BIRLESTIRME,),
    Belge.GUMRUK_KAPILARI_BIRLESTIRME: (
        Belge.GUMRUK_ILCE_BIRLESTIRME_KURUL,
        Belge.GUMRUK_ILCE_BIRLESTIRME_RUMUZ,
    ),
    Belge.YURT_DISI_ULKELER_BIRLESTIRME: (Belge.YURT_DISI_ULKE_BIRLESTIRME,),
    Belge.ULKELER_VE_GUMRUK_KAPILARI_BIRLESTIRME: (
        Belge.YURT_DISI_ULKELER_BIRLESTIRME,
        Belge.GUMRUK_KAPILARI_BIRLESTIRME,
    ),
}
_Board = tuple[Secim, str, str]


@dataclass
class PlaceSums:
    """The sums of all boards; numbers by their field names in a batch, votes as `oylar.<option>`.

    A number that a result lacks adds nothing.
    """

    BESIDE: ClassVar[tuple[str, str]] = (cevre.ABROAD, cevre.CUSTOMS)

    _boards: dict[_Board, Counter[str]] = field(default_factory=dict)

    def boards(self) -> Iterable[_Board]:
        """Return contest, district and board of everything that has a result."""
        return self._boards.keys()

    def replace(self, before: Result | None, after: Result) -> None:
        """Count `after` as the newest result of its box, in place of `before`."""
        board = self._boards.setdefault(_board(after.key), Counter())
        if before is not None:
            board.subtract(_numbers(before))
        board.update(_numbers(after))

    def of(self, secim: Secim, district: str | None, board: str | None) -> Counter[str]:
        """Return the sums of a board, a district (`board` None) or all (`district` None).

        A sum that is zero may be left out.
        """
        if district is not None and board is not None:
            return Counter(self._boards.get((secim, district, board), {}))
        total: Counter[str] = Counter()
        for (contest, in_district, _), numbers in self._boards.items():
            if contest is secim and district in (None, in_district):
                total.update(numbers)
        return total

    def of_boards(self, secim: Secim, district: str, boards: Iterable[str]) -> Counter[str]:
        """Return the sums of some boards of a district."""
        total: Counter[str] = Counter()
        for board in boards:
            total.update(self._boards.get((secim, district, board), {}))
        return total

    def abroad_and_customs(self, secim: Secim) -> Counter[str]:
        """Return the sums of the places that the election's own aggregate sheet adds up."""
        total: Counter[str] = Counter()
        for district in self.BESIDE:
            total.update(self.of(secim, district, None))
        return total


def sum_of_sheets(sheets: Iterable[Result]) -> tuple[Counter[str], frozenset[str]]:
    """Return the sum of aggregate sheets, and the numbers that not all of them state."""
    total: Counter[str] = Counter()
    lacking: set[str] = set()
    for sheet in sheets:
        total.update(_numbers(sheet))
        lacking.update(name for name, value in sheet.numbers().items() if value is None)
    return total, frozenset(lacking)


def check_sum(
    aggregate: Result, below: Mapping[str, int], missing: int, lacking: Collection[str] = ()
) -> Iterator[Finding]:
    """Compare an aggregate sheet's numbers with the sum of the results below it.

    `missing` is how many results below have not arrived yet; `lacking` are numbers that cannot be
    compared.
    """
    differ: dict[str, int] = {}
    for name, stated in _numbers(aggregate).items():
        if name in lacking:
            continue
        added = below.get(name, 0)
        if name != BOXES and (added > stated or (added != stated and not missing)):
            differ[name] = stated
            differ[f"toplam.{name}"] = added
    if not missing:
        stated_votes = aggregate.votes.keys()
        for name, added in below.items():
            option = name.removeprefix(VOTES)
            if name.startswith(VOTES) and added and option not in stated_votes:
                differ[name] = 0
                differ[f"toplam.{name}"] = added
    if differ:
        key = aggregate.key
        yield Finding(_CHECK[key.level], key.secim, (key.place,), differ)


def _board(key: ResultKey) -> _Board:
    if key.belge is not BOX_SHEET or key.cevre is None or key.kurul is None:
        raise ValueError(f"not the result of a box: {key}")
    return key.secim, key.cevre, key.kurul


def _numbers(result: Result) -> dict[str, int]:
    numbers = {name: value for name, value in result.numbers().items() if value is not None}
    for option, number in result.votes.items():
        numbers[VOTES + option] = number
    numbers[BOXES] = 1
    return numbers
