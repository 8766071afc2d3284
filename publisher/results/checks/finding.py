"""The names of all checks, and a finding: what one of them noticed.

A finding never blocks a number: the number of the board counts.

Findings of the kind HINT are statistical: they say where to look, and many have an innocent cause.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from config.sheet import Secim


class FindingKind(StrEnum):
    """How certain a check is."""

    ERROR = "error"  # two numbers that must agree do not
    NOTE = "note"  # possible but unusual, such as: every registered voter voted
    HINT = "hint"  # statistical


class Check(StrEnum):
    """Every check, by the name that commands, exports and the web site show."""

    VOTED_PARTS = "voted-parts"
    VALID_PARTS = "valid-parts"
    VOTES_NOT_VALID = "votes-not-valid"
    BALLOTS_NOT_VOTED = "ballots-not-voted"
    ENVELOPES_NOT_VOTED = "envelopes-not-voted"
    MORE_VOTED_THAN_REGISTERED = "more-voted-than-registered"
    NOBODY_VOTED = "nobody-voted"
    NO_VALID_VOTE = "no-valid-vote"
    FULL_TURNOUT = "full-turnout"
    VALID_UPON_OBJECTION = "valid-upon-objection"
    BOX_KIND_DIFFERS = "box-kind-differs"
    CONTESTS_DIFFER = "contests-differ"
    BOARD_NOT_SUM = "board-not-sum"
    DISTRICT_NOT_SUM = "district-not-sum"
    ELECTION_NOT_SUM = "election-not-sum"
    RESULT_WITHOUT_SHEET = "result-without-sheet"
    SHEET_WITHOUT_RESULT = "sheet-without-result"
    CHANGED_WITHOUT_REASON = "changed-without-reason"
    CHANGED_WITHOUT_SCAN = "changed-without-scan"
    OLDER_THAN_SCAN = "older-than-scan"
    SAME_VECTOR = "same-vector"
    ZERO_AMONG_NEIGHBOURS = "zero-among-neighbours"
    SHIFTED_COLUMNS = "shifted-columns"

    @property
    def kind(self) -> FindingKind:
        """How certain the check is."""
        return _KINDS.get(self, FindingKind.ERROR)

    @property
    def says(self) -> str:
        """What the check looks for, in one sentence, with the form's fields."""
        return _SAYS[self]


_KINDS = {
    Check.NOBODY_VOTED: FindingKind.NOTE,
    Check.NO_VALID_VOTE: FindingKind.NOTE,
    Check.FULL_TURNOUT: FindingKind.NOTE,
    Check.VALID_UPON_OBJECTION: FindingKind.NOTE,
    Check.RESULT_WITHOUT_SHEET: FindingKind.NOTE,
    Check.SHEET_WITHOUT_RESULT: FindingKind.NOTE,
    Check.CHANGED_WITHOUT_SCAN: FindingKind.NOTE,
    Check.OLDER_THAN_SCAN: FindingKind.NOTE,
    Check.SAME_VECTOR: FindingKind.HINT,
    Check.ZERO_AMONG_NEIGHBOURS: FindingKind.HINT,
    Check.SHIFTED_COLUMNS: FindingKind.HINT,
}
_SAYS = {
    Check.VOTED_PARTS: (
        "oy_kullanan is not liste_ici_oy_kullanan + liste_disi_oy_kullanan (3 = 1 + 2 on the form)."
    ),
    Check.VALID_PARTS: "gecerli is not itirazsiz_gecerli + itirazli_gecerli.",
    Check.VOTES_NOT_VALID: "The votes of all options do not add up to gecerli.",
    Check.BALLOTS_NOT_VOTED: "gecerli + gecersiz is not oy_kullanan.",
    Check.ENVELOPES_NOT_VOTED: "zarf is not oy_kullanan.",
    Check.MORE_VOTED_THAN_REGISTERED: ("oy_kullanan is more than secmen + liste_disi_oy_kullanan."),
    Check.NOBODY_VOTED: "Nobody voted.",
    Check.NO_VALID_VOTE: "People voted, and no vote is valid.",
    Check.FULL_TURNOUT: "Every registered voter voted.",
    Check.VALID_UPON_OBJECTION: "Votes were counted as valid upon objection.",
    Check.BOX_KIND_DIFFERS: "sandik_turu is not what the registry says of the box.",
    Check.CONTESTS_DIFFER: "Two contests of one envelope have different numbers of voters.",
    Check.BOARD_NOT_SUM: "A board's numbers are not the sums of its boxes.",
    Check.DISTRICT_NOT_SUM: "A district's numbers are not the sums of its boards.",
    Check.ELECTION_NOT_SUM: "The election's numbers are not the sums of abroad and customs.",
    Check.RESULT_WITHOUT_SHEET: "There is a result and no signed sheet.",
    Check.SHEET_WITHOUT_RESULT: "There is a signed sheet and no result.",
    Check.CHANGED_WITHOUT_REASON: "A later version has other numbers and no reason.",
    Check.CHANGED_WITHOUT_SCAN: "The numbers changed, and no new sheet was scanned since.",
    Check.OLDER_THAN_SCAN: "A newer sheet was scanned after the newest numbers.",
    Check.SAME_VECTOR: "Two boxes have exactly the same votes.",
    Check.ZERO_AMONG_NEIGHBOURS: "An option has no vote where all neighbouring boxes have some.",
    Check.SHIFTED_COLUMNS: "The votes look like the neighbours', shifted by one column.",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check noticed: the places, the numbers that disagree, and the sheets to look at.

    It was noticed in results up to the id `last_result`.
    """

    check: Check
    secim: Secim
    places: tuple[str, ...]
    numbers: Mapping[str, int]
    sheets: tuple[str, ...] = field(default=())  # paths in a tree
    last_result: int = field(default=0, compare=False)

    def as_json(self) -> dict[str, object]:
        """Return the finding as `ssps results check --json` prints it."""
        return {
            "check": self.check.value,
            "kind": self.check.kind.value,
            "secim": self.secim.value,
            "places": list(self.places),
            "numbers": dict(self.numbers),
            "sheets": list(self.sheets),
        }
