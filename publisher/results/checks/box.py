"""Checks of one box: the arithmetic of its form, its registry entry, its sheet, its contests.

Each check is a pure function; BOX_CHECKS is the table of them. Checks skip a number that the result
lacks (None).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations

from config.result import Result
from config.sheet import SandikTuru, Secim
from publisher.results.checks.finding import Check, Finding


@dataclass(frozen=True, slots=True)
class SheetVersion:
    """A version of the signed sheet: its path in a tree, when it was filed, its digest."""

    path: str
    version: int
    filed_at: datetime
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class BoxState:
    """What is known about one box in one contest; `versions` are its results, oldest first."""

    versions: Sequence[Result]
    expected_turu: SandikTuru | None
    sheets: Sequence[SheetVersion]  # of its sandik-sonuc, page 1, oldest first

    @property
    def newest(self) -> Result:
        """The result that counts."""
        return self.versions[-1]


BoxCheck = Callable[[BoxState], Iterator[Finding]]


def check_box(box: BoxState) -> list[Finding]:
    """Return what every check of BOX_CHECKS finds in a box that has a result."""
    return [finding for check in BOX_CHECKS for finding in check(box)]


def check_contests(results: Mapping[Secim, Result]) -> Iterator[Finding]:
    """Compare the contests of one box whose votes are in one envelope.

    The muhtar (`mh`) may have an envelope and a box of its own (md. 22), so it is left out.
    """
    shared = {secim: result for secim, result in results.items() if secim is not Secim.MH}
    for first, second in combinations(sorted(shared), 2):
        a, b = shared[first].voted, shared[second].voted
        if a is not None and b is not None and a != b:
            place = shared[first].key.place
            yield Finding(Check.CONTESTS_DIFFER, first, (place,), {first.value: a, second.value: b})


def _voted_parts(box: BoxState) -> Iterator[Finding]:
    result = box.newest
    listed, unlisted = result.listed_voted, result.unlisted_voted
    if result.voted is None or listed is None or unlisted is None:
        return
    if result.voted != listed + unlisted:
        yield _finding(
            Check.VOTED_PARTS,
            box,
            "oy_kullanan",
            "liste_ici_oy_kullanan",
            "liste_disi_oy_kullanan",
        )


def _valid_parts(box: BoxState) -> Iterator[Finding]:
    result = box.newest
    if result.valid is None or result.valid_undisputed is None or result.valid_disputed is None:
        return
    if result.valid != result.valid_undisputed + result.valid_disputed:
        yield _finding(Check.VALID_PARTS, box, "gecerli", "itirazsiz_gecerli", "itirazli_gecerli")


def _votes_not_valid(box: BoxState) -> Iterator[Finding]:
    result = box.newest
    total = sum(result.votes.values())
    if result.valid is not None and total != result.valid:
        yield _finding(Check.VOTES_NOT_VALID, box, "gecerli", more={"oylar": total})


def _ballots_not_voted(box: BoxState) -> Iterator[Finding]:
    result = box.newest
    if result.valid is None or result.invalid is None or result.voted is None:
        return
    if result.valid + result.invalid != result.voted:
        yield _finding(Check.BALLOTS_NOT_VOTED, box, "gecerli", "gecersiz", "oy_kullanan")


def _envelopes_not_voted(box: BoxState) -> Iterator[Finding]:
    result = box.newest
    if result.envelopes is not None and result.envelopes != result.voted:
        yield _finding(Check.ENVELOPES_NOT_VOTED, box, "zarf", "oy_kullanan")


def _more_voted_than_registered(box: BoxState) -> Iterator[Finding]:
    result = box.newest
    if result.voted is None or result.registered is None:
        return
    if result.voted > result.registered + (result.unlisted_voted or 0):
        yield _finding(
            Check.MORE_VOTED_THAN_REGISTERED,
            box,
            "oy_kullanan",
            "secmen",
            "liste_disi_oy_kullanan",
        )


def _turnout(box: BoxState) -> Iterator[Finding]:
    result = box.newest
    if result.voted == 0:
        yield _finding(Check.NOBODY_VOTED, box, "secmen", "oy_kullanan")
    elif result.voted is not None and result.voted == result.registered:
        yield _finding(Check.FULL_TURNOUT, box, "secmen", "oy_kullanan")


def _valid_votes(box: BoxState) -> Iterator[Finding]:
    result = box.newest
    if result.valid == 0 and result.voted != 0:
        yield _finding(Check.NO_VALID_VOTE, box, "oy_kullanan", "gecerli", "gecersiz")
    if result.valid_disputed:
        yield _finding(Check.VALID_UPON_OBJECTION, box, "itirazli_gecerli")


def _kind(box: BoxState) -> Iterator[Finding]:
    if box.expected_turu is not None and box.newest.sandik_turu is not box.expected_turu:
        yield _finding(Check.BOX_KIND_DIFFERS, box)


def _sheet(box: BoxState) -> Iterator[Finding]:
    newest = box.newest
    if not box.sheets:
        yield _finding(Check.RESULT_WITHOUT_SHEET, box)
        return
    if len(box.versions) > 1:
        before = box.versions[-2]
        if not newest.same_numbers(before):
            if not newest.reason.strip():
                yield _finding(Check.CHANGED_WITHOUT_REASON, box)
            if box.sheets[-1].filed_at <= before.time:
                yield _finding(Check.CHANGED_WITHOUT_SCAN, box)
    if len(box.sheets) > 1 and box.sheets[-1].filed_at > newest.time:
        yield _finding(Check.OLDER_THAN_SCAN, box)


BOX_CHECKS: tuple[BoxCheck, ...] = (
    _voted_parts,
    _valid_parts,
    _votes_not_valid,
    _ballots_not_voted,
    _envelopes_not_voted,
    _more_voted_than_registered,
    _turnout,
    _valid_votes,
    _kind,
    _sheet,
)


def _finding(
    check: Check, box: BoxState, *fields: str, more: Mapping[str, int] | None = None
) -> Finding:
    result = box.newest
    stated = result.numbers() if fields else {}
    numbers = {name: value for name in fields if (value := stated[name]) is not None}
    return Finding(
        check,
        result.key.secim,
        (result.key.place,),
        {**numbers, **(more or {})},
        tuple(sheet.path for sheet in box.sheets),
    )
