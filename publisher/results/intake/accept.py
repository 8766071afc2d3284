"""Decides what becomes of a row of a batch: accepted, a duplicate, or rejected. Does no I/O.

    Rule 1  The registry expects the row's sheet; otherwise the place is unknown, or the contest is
            not held there.
    Rule 2  The ballot has every option that got a vote.
    Rule 3  The numbers of an accepted version cannot change: the same numbers again are a
            duplicate, other numbers are a conflict.
    Rule 4  Version 2 and later ones have a reason.

It does not matter whether the numbers add up: checks report that, and block nothing. Versions may
arrive in any order, and every accepted one is kept; the highest counts.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from config.result import Result, ResultKey
from config.result_batch import RowFault

_MAX_NAMED = 10  # options in a message


@dataclass(frozen=True, slots=True)
class Accepted:
    """The row is a new version of a result."""

    result: Result


@dataclass(frozen=True, slots=True)
class DuplicateRow:
    """The same version with the same numbers is known already."""

    result: Result


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """The row goes to the results quarantine."""

    fault: RowFault
    message: str


RowDecision = Accepted | DuplicateRow | RejectedRow


class KnownFacts(Protocol):
    """What registry, ballot and earlier results say about a row."""

    def is_expected(self, key: ResultKey) -> bool:
        """Return True if the registry has the sheet of that result."""

    def has_place(self, key: ResultKey) -> bool:
        """Return True if the registry has any sheet at that place, of whatever contest."""

    def options(self, key: ResultKey) -> Collection[str]:
        """Return the ids of the options on the ballot of that contest and place."""

    def version(self, key: ResultKey, version: int) -> Result | None:
        """Return a version that was accepted before."""


def decide(result: Result, facts: KnownFacts) -> RowDecision:
    """Decide on one row; `facts` must know it before the next row is decided on."""
    key = result.key
    if not facts.is_expected(key):
        if facts.has_place(key):
            message = f"the registry expects no {key.secim} {key.belge} for {key.place}"
            return RejectedRow(RowFault.WRONG_CONTEST, message)
        return RejectedRow(RowFault.UNKNOWN_PLACE, f"the registry has no {key.place}")
    unknown = sorted(result.votes.keys() - set(facts.options(key)))
    if unknown:
        message = f"the ballot of {key.secim} in {key.cevre or 'the election'} has no "
        named = ", ".join(unknown[:_MAX_NAMED])
        more = f" and {len(unknown) - _MAX_NAMED} more" if len(unknown) > _MAX_NAMED else ""
        return RejectedRow(RowFault.UNKNOWN_OPTION, message + named + more)
    known = facts.version(key, result.version)
    if known is not None:
        if known.same_numbers(result):
            return DuplicateRow(known)
        message = f"version {result.version} was accepted with other numbers"
        return RejectedRow(RowFault.VERSION_CONFLICT, f"{message}, send them as a new version")
    if result.version > 1 and not result.reason.strip():
        message = f"version {result.version} has no neden, say why the numbers changed"
        return RejectedRow(RowFault.NO_REASON, message)
    return Accepted(result)
