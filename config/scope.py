"""A party's scope: which sheets it may see.

A scope is `"all"`, or a list of places: districts (`34-istanbul-1`) and boards of districts
(`35-izmir-2/konak-1`). A sheet is in scope if its place is in one of them. So a party with a whole
district sees the aggregates of that district, and a party with only one of its boards does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from config import name
from config.sheet import Sheet


@dataclass(frozen=True, slots=True)
class Scope:
    """All places (None), or some: (district, board), where board None is the whole district."""

    places: frozenset[tuple[str, str | None]] | None

    def covers(self, sheet: Sheet) -> bool:
        """Say whether a party with this scope may see `sheet`."""
        return self.covers_place(sheet.cevre, sheet.kurul)

    def covers_place(self, cevre: str | None, kurul: str | None) -> bool:
        """Say whether it may see sheets of a board, a district (no board) or the election."""
        if self.places is None:
            return True
        if cevre is None:
            return False
        return (cevre, None) in self.places or (kurul is not None and (cevre, kurul) in self.places)

    def __str__(self) -> str:
        if self.places is None:
            return "all"
        return " ".join(sorted("/".join(filter(None, place)) for place in self.places))


ALL = Scope(None)


def parse(text: str | Sequence[str]) -> Scope:
    """Return the scope that parties.toml has; ValueError says what to write instead."""
    if isinstance(text, str):
        if text != "all":
            raise ValueError(f'{text!r}, write "all" or a list such as ["34-istanbul-1"]')
        return ALL
    if not text:
        raise ValueError('has no place, write "all" or a list such as ["34-istanbul-1"]')
    places: set[tuple[str, str | None]] = set()
    for place in text:
        cevre, slash, kurul = place.partition("/")
        for part in (cevre, kurul) if slash else (cevre,):
            if wrong := name.fault(part):
                raise ValueError(f"{place!r}: {wrong}")
        places.add((cevre, kurul or None))
    return Scope(frozenset(places))
