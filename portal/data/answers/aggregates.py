"""Aggregate sheets beside the sums of their boxes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from config.layout import ilce_of
from config.result import NUMBER_COLUMNS
from config.sheet import Belge, Level, Secim
from portal.data.answers.boxes import VOTE, Summary
from portal.data.criteria import Area, Criteria
from portal.data.queries import sheets as sheet_queries
from portal.data.queries.databases import Connection
from portal.data.queries.sheets import SheetFile
from portal.data.view import Aggregate, AggregateKey


@dataclass(frozen=True, slots=True)
class AggregateLine:
    """An aggregate sheet beside the sum of its boxes; `stated` None: it has not arrived."""

    secim: Secim
    key: AggregateKey
    stated: Aggregate | None
    boxes: int
    opened: int
    summed: Mapping[str, int]
    summed_votes: Mapping[str, int]
    sheets: tuple[SheetFile, ...]
    whole: bool  # all boxes that it adds up are in scope

    def numbers(self) -> list[tuple[str, int | None, int | None]]:
        """Return name, what the sheet states and what the boxes add up to; votes as `oylar.…`.

        A number that neither has is left out.
        """
        stated = dict(self.stated.numbers) if self.stated else {}
        votes = dict(self.stated.votes) if self.stated else {}
        found: list[tuple[str, int | None, int | None]] = [
            (name, stated.get(name), self.summed.get(name))
            for name in NUMBER_COLUMNS
            if name in stated or self.summed.get(name)
        ]
        return found + [
            (f"{VOTE}{option}", votes.get(option), self.summed_votes.get(option))
            for option in dict.fromkeys((*votes, *self.summed_votes))
        ]

    @property
    def differs(self) -> tuple[str, ...]:
        """The names of the numbers that are not the sum of the boxes; votes as `oylar.<option>`."""
        if self.stated is None or not self.whole:
            return ()
        found = [
            name
            for name, number in self.stated.numbers.items()
            if number != self.summed.get(name, 0)
        ]
        options = {**self.stated.votes, **self.summed_votes}
        found += [
            f"{VOTE}{option}"
            for option in options
            if self.stated.votes.get(option, 0) != self.summed_votes.get(option, 0)
        ]
        return tuple(found)


def line(
    secim: Secim,
    key: AggregateKey,
    stated: Aggregate | None,
    summaries: Sequence[Summary],
    sheets: Sequence[SheetFile],
    *,
    whole: bool,
) -> AggregateLine:
    """Return an aggregate sheet beside the sum of some searches: those of `boxes_below`."""
    summed: dict[str, int] = {}
    votes: dict[str, int] = {}
    for summary in summaries:
        for numbers, into in ((summary.total.numbers, summed), (summary.total.votes, votes)):
            for name, number in numbers.items():
                into[name] = into.get(name, 0) + number
    return AggregateLine(
        secim,
        key,
        stated,
        sum(summary.boxes for summary in summaries),
        sum(summary.opened for summary in summaries),
        summed,
        votes,
        tuple(sheets),
        whole,
    )


def boxes_below(
    boards: Iterable[tuple[str, str]], secim: Secim, key: AggregateKey
) -> list[Criteria]:
    """Return searches for the boxes that an aggregate sheet adds up."""
    if key.belge.level is Level.ELECTION:
        return [Criteria(secim, Area.ABROAD)]
    if key.belge.level is Level.DISTRICT:
        return [Criteria(secim, cevre=key.cevre)]
    below = [key.kurul]
    if key.belge is Belge.ILCE_BIRLESTIRME_KURULLAR:  # all boards of one ilçe
        below = [
            board
            for district, board in boards
            if district == key.cevre and ilce_of(board) == ilce_of(key.kurul)
        ]
    return [Criteria(secim, cevre=key.cevre, kurul=board) for board in below]


def sheets_of(catalog: Connection, secim: Secim, key: AggregateKey) -> list[SheetFile]:
    """Return the scans of an aggregate sheet."""
    found = sheet_queries.of_place(catalog, key.cevre, key.kurul, "")
    return [sheet for sheet in found if (sheet.secim, sheet.belge) == (secim, key.belge)]


def is_wanted(key: AggregateKey, cevre: str | None, kurul: str | None) -> bool:
    """Say whether a sheet belongs to what was asked: a board, a district, or neither of them."""
    if cevre is None:
        return not key.kurul
    return key.cevre == cevre and kurul in (None, key.kurul)
