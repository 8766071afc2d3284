"""Joint votes of alliances (law 7102): who gets which share of them.

A voter may stamp an alliance as a whole. The boards count such joint votes (*ittifak ortak oyu*)
for each box. By md. 18 they are then divided among the parties of the alliance:

    share = joint votes of the alliance x own votes of the party / own votes of all its parties

with the sums of one election district, or of one ilçe (`[results] share_level`). Shares are exact
fractions; only for display they become whole numbers that add up to the joint votes, by largest
remainder (equal remainders go in ballot order). If none of the parties has a vote of its own, the
share is undefined: None. Own votes, share and their sum are each published (md. 13, 16).

Aladağ, parliament 2018: AK 5,092 and MHP 1,859 votes of their own, 99 joint votes of their
alliance. AK gets 99 x 5092/6951, about 72.52, and MHP about 26.48; shown as 73 and 26.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor


@dataclass(frozen=True, slots=True)
class MemberShare:
    """One party's part of its alliance's joint votes."""

    option: str
    own: int
    share: Fraction | None  # None: undefined
    rounded: int | None  # for display

    @property
    def total(self) -> Fraction | None:
        """Own votes and share together; None if the share is undefined."""
        return None if self.share is None else self.own + self.share


@dataclass(frozen=True, slots=True)
class AllianceShares:
    """One alliance's joint votes and how they are divided; members in ballot order."""

    alliance: str
    joint: int
    own: int  # votes of all its parties
    members: tuple[MemberShare, ...]

    @property
    def undefined(self) -> bool:
        """Say whether the joint votes cannot be divided."""
        return self.own == 0


def divide(alliance: str, members: Sequence[str], votes: Mapping[str, int]) -> AllianceShares:
    """Divide the joint votes of one alliance; `votes` are sums by option, joint votes included.

    An option that `votes` lacks has no votes.
    """
    joint = votes.get(alliance, 0)
    own = [votes.get(member, 0) for member in members]
    total = sum(own)
    if total == 0:
        undefined = tuple(MemberShare(member, 0, None, None) for member in members)
        return AllianceShares(alliance, joint, 0, undefined)
    exact = [Fraction(joint * number, total) for number in own]
    shown = largest_remainder(exact)
    return AllianceShares(
        alliance, joint, total, tuple(map(MemberShare, members, own, exact, shown))
    )


def largest_remainder(exact: Sequence[Fraction]) -> list[int]:
    """Round fractions whose sum is a whole number to whole numbers with the same sum."""
    whole = [floor(share) for share in exact]
    left = int(sum(exact)) - sum(whole)
    order = sorted(range(len(exact)), key=lambda n: whole[n] - exact[n])
    for n in order[:left]:
        whole[n] += 1
    return whole
