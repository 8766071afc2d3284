"""Checks of one box: the arithmetic of its form, its registry entry, its sheet, its contests.

Each check is a pure function; BOX_CHECKS is the table of them. It returns the numbers that do not
agree, by their fields of the form, and None if it finds nothing. Checks skip a number that the
result lacks (None).
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
        """The newest version, which is the one that counts."""
        return self.versions[-1]


Numbers = Mapping[str, int] | None
BoxCheck = Callable[[BoxState], Numbers]


def check_box(box: BoxState) -> list[Finding]:
    """Return what every check of BOX_CHECKS finds in a box that has a result."""
    found = [
        (name, numbers) for name, check in BOX_CHECKS.items() if (numbers := check(box)) is not None
    ]
    if not found:
        return []
    key, sheets = box.newest.key, tuple(sheet.path for sheet in box.sheets)
    return [Finding(name, key.secim, (key.place,), numbers, sheets) for name, numbers in found]


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


def _voted_parts(box: BoxState) -> Numbers:
    result = box.newest
    listed, unlisted = result.listed_voted, result.unlisted_voted
    if result.voted is None or listed is None or unlisted is None:
        return None
    if result.voted == listed + unlisted:
        return None
    return {
        "oy_kullanan": result.voted,
        "liste_ici_oy_kullanan": listed,
        "liste_disi_oy_kullanan": unlisted,
    }


def _valid_parts(box: BoxState) -> Numbers:
    result = box.newest
    valid, undisputed, disputed = result.valid, result.valid_undisputed, result.valid_disputed
    if valid is None or undisputed is None or disputed is None or valid == undisputed + disputed:
        return None
    return {"gecerli": valid, "itirazsiz_gecerli": undisputed, "itirazli_gecerli": disputed}


def _votes_not_valid(box: BoxState) -> Numbers:
    result = box.newest
    total = sum(result.votes.values())
    if result.valid is None or total == result.valid:
        return None
    return {"gecerli": result.valid, "oylar": total}


def _ballots_not_voted(box: BoxState) -> Numbers:
    result = box.newest
    valid, invalid, voted = result.valid, result.invalid, result.voted
    if valid is None or invalid is None or voted is None or valid + invalid == voted:
        return None
    return {"gecerli": valid, "gecersiz": invalid, "oy_kullanan": voted}


def _envelopes_not_voted(box: BoxState) -> Numbers:
    result = box.newest
    if result.envelopes is None or result.voted is None or result.envelopes == result.voted:
        return None
    return {"zarf": result.envelopes, "oy_kullanan": result.voted}


def _more_voted_than_registered(box: BoxState) -> Numbers:
    result = box.newest
    voted, registered, unlisted = result.voted, result.registered, result.unlisted_voted
    if voted is None or registered is None or voted <= registered + (unlisted or 0):
        return None
    numbers = {"oy_kullanan": voted, "secmen": registered}
    return numbers if unlisted is None else numbers | {"liste_disi_oy_kullanan": unlisted}


def _nobody_voted(box: BoxState) -> Numbers:
    return _turnout(box.newest) if box.newest.voted == 0 else None


def _full_turnout(box: BoxState) -> Numbers:
    result = box.newest
    return _turnout(result) if result.voted and result.voted == result.registered else None


def _turnout(result: Result) -> Numbers:
    stated = {"secmen": result.registered, "oy_kullanan": result.voted}
    return {name: number for name, number in stated.items() if number is not None}


def _no_valid_vote(box: BoxState) -> Numbers:
    result = box.newest
    if result.valid != 0 or result.voted == 0:
        return None
    stated = {"oy_kullanan": result.voted, "gecerli": 0, "gecersiz": result.invalid}
    return {name: number for name, number in stated.items() if number is not None}


def _valid_upon_objection(box: BoxState) -> Numbers:
    disputed = box.newest.valid_disputed
    return {"itirazli_gecerli": disputed} if disputed else None


def _box_kind_differs(box: BoxState) -> Numbers:
    differs = box.expected_turu is not None and box.newest.sandik_turu is not box.expected_turu
    return {} if differs else None


def _result_without_sheet(box: BoxState) -> Numbers:
    return None if box.sheets else {}


def _changed_without_reason(box: BoxState) -> Numbers:
    return {} if _changed_since(box) and not box.newest.reason.strip() else None


def _changed_without_scan(box: BoxState) -> Numbers:
    before = _changed_since(box)
    return {} if box.sheets and before and box.sheets[-1].filed_at <= before.time else None


def _changed_since(box: BoxState) -> Result | None:
    """Return the version before the newest, if it has other numbers."""
    if len(box.versions) < 2 or box.newest.same_numbers(box.versions[-2]):
        return None
    return box.versions[-2]


def _older_than_scan(box: BoxState) -> Numbers:
    older = len(box.sheets) > 1 and box.sheets[-1].filed_at > box.newest.time
    return {} if older else None


BOX_CHECKS: Mapping[Check, BoxCheck] = {
    Check.VOTED_PARTS: _voted_parts,
    Check.VALID_PARTS: _valid_parts,
    Check.VOTES_NOT_VALID: _votes_not_valid,
    Check.BALLOTS_NOT_VOTED: _ballots_not_voted,
    Check.ENVELOPES_NOT_VOTED: _envelopes_not_voted,
    Check.MORE_VOTED_THAN_REGISTERED: _more_voted_than_registered,
    Check.NOBODY_VOTED: _nobody_voted,
    Check.FULL_TURNOUT: _full_turnout,
    Check.NO_VALID_VOTE: _no_valid_vote,
    Check.VALID_UPON_OBJECTION: _valid_upon_objection,
    Check.BOX_KIND_DIFFERS: _box_kind_differs,
    Check.RESULT_WITHOUT_SHEET: _result_without_sheet,
    Check.CHANGED_WITHOUT_REASON: _changed_without_reason,
    Check.CHANGED_WITHOUT_SCAN: _changed_without_scan,
    Check.OLDER_THAN_SCAN: _older_than_scan,
}
