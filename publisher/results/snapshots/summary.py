"""Sums of results by place, with the parties' shares of joint votes: `<secim>.sums.ndjson`.

One object a line, for each board, each district, and the country, of the newest results of boxes:

    {"level": "cevre", "cevre": "34-istanbul-1", "kurul": null, "sandik": 184, "secmen": 51200,
     "oy_kullanan": 44100, ..., "gecerli": 43000, "gecersiz": 1100,
     "oylar": {"parti-a": 20000, "ortak": 700},
     "paylar": {"ortak": {"defined": true, "members": {
         "parti-a": {"own": 20000, "share": "14000/31", "rounded": 452,
                     "total": "634000/31", "total_rounded": 20452}}}}}

`level` is `kurul`, `cevre` or `ulke`; `sandik` is how many boxes the sums add up. `paylar` divides
the joint votes of each alliance among its parties (law 7102 md. 18; see the module shares).
`[results] share_level` is the level at which shares are computed. With `cevre`, boards have no
shares. With `ilce`, the votes of an ilçe are divided, and a district has the sum of its ilçe; a
board has shares if it is the only one of its ilçe. The country always has the sum of its districts.
A share is undefined (`null`) if no party of the alliance has a vote of its own there; a sum leaves
out undefined shares and states their joint votes. `total` is own votes and share together (md. 13,
16).
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import groupby
from typing import Any

from config.ballot import Ballot
from config.layout import ilce_of
from config.settings import ShareLevel
from config.sheet import Secim
from publisher.results.checks.sums import BOXES, VOTES, PlaceSums
from publisher.results.snapshots.shares import AllianceShares, divide, largest_remainder

BOARD, DISTRICT, COUNTRY = "kurul", "cevre", "ulke"


def summary_lines(
    secim: Secim, sums: PlaceSums, ballot: Ballot | None, level: ShareLevel
) -> Iterator[bytes]:
    """Yield the lines of a contest's sums: its boards, then its districts, then the country."""
    places = [place[1:] for place in sums.boards() if place[0] is secim]
    boards = sorted(places, key=lambda place: (place[0], ilce_of(place[1]), place[1]))
    by_district: dict[str, list[dict[str, Shares]]] = {}
    for (district, _), group in groupby(boards, lambda place: (place[0], ilce_of(place[1]))):
        of_boards = {board: sums.of(secim, district, board) for _, board in group}
        shares: dict[str, Shares] = {}
        if level is ShareLevel.ILCE:
            shares = _divided(ballot, secim, district, _total(of_boards.values()))
        by_district.setdefault(district, []).append(shares)
        for board, numbers in of_boards.items():
            yield _line(BOARD, district, board, numbers, shares if len(of_boards) == 1 else {})
    of_districts = []
    for district, of_ilces in by_district.items():
        numbers = sums.of(secim, district, None)
        if level is ShareLevel.ILCE:
            shares = _added(of_ilces)
        else:
            shares = _divided(ballot, secim, district, numbers)
        of_districts.append(shares)
        yield _line(DISTRICT, district, None, numbers, shares)
    if boards:
        numbers = sums.of(secim, None, None)
        yield _line(COUNTRY, None, None, numbers, _added(of_districts))


class Shares:
    """The shares of one alliance at a place: divided there, or added up from below."""

    def __init__(self) -> None:
        self.own: dict[str, int] = {}
        self.share: dict[str, Fraction] = {}
        self.undefined = 0  # joint votes that could not be divided

    @classmethod
    def of(cls, divided: AllianceShares) -> "Shares":
        """Return the shares that were divided at one place."""
        made = cls()
        for member in divided.members:
            made.own[member.option] = member.own
            made.share[member.option] = member.share or Fraction(0)
        made.undefined = divided.joint if divided.undefined else 0
        return made

    def add(self, other: "Shares") -> None:
        """Add the shares of another place."""
        for option, number in other.own.items():
            self.own[option] = self.own.get(option, 0) + number
            self.share[option] = self.share.get(option, Fraction(0)) + other.share[option]
        self.undefined += other.undefined

    def as_json(self) -> dict[str, Any]:
        """Return the shares as `paylar` has them."""
        options = list(self.own)
        rounded = largest_remainder([self.share[option] for option in options])
        defined = any(self.own.values()) or not self.undefined
        members = {
            option: {
                "own": self.own[option],
                "share": str(self.share[option]) if defined else None,
                "rounded": whole if defined else None,
                "total": str(self.own[option] + self.share[option]) if defined else None,
                "total_rounded": self.own[option] + whole if defined else None,
            }
            for option, whole in zip(options, rounded, strict=True)
        }
        return {"defined": defined, "undefined_votes": self.undefined, "members": members}


def _total(places: Iterable[Mapping[str, int]]) -> Mapping[str, int]:
    total: Counter[str] = Counter()
    for numbers in places:
        total.update(numbers)
    return total


def _divided(
    ballot: Ballot | None, secim: Secim, district: str, numbers: Mapping[str, int]
) -> dict[str, Shares]:
    if ballot is None:
        return {}
    votes = {
        name.removeprefix(VOTES): number
        for name, number in numbers.items()
        if name.startswith(VOTES)
    }
    return {
        alliance: Shares.of(divide(alliance, [member.id for member in members], votes))
        for alliance, members in ballot.alliances(secim, district).items()
    }


def _added(places: Iterable[Mapping[str, Shares]]) -> dict[str, Shares]:
    total: dict[str, Shares] = {}
    for shares in places:
        for alliance, of_alliance in shares.items():
            total.setdefault(alliance, Shares()).add(of_alliance)
    return total


def _line(
    level: str,
    district: str | None,
    board: str | None,
    numbers: Mapping[str, int],
    shares: Mapping[str, Shares],
) -> bytes:
    line: dict[str, Any] = {"level": level, "cevre": district, "kurul": board, "sandik": 0}
    votes = {}
    for name, number in sorted(numbers.items()):
        if name.startswith(VOTES):
            votes[name.removeprefix(VOTES)] = number
        else:
            line[BOXES if name == BOXES else name] = number
    line["oylar"] = votes
    line["paylar"] = {alliance: of_one.as_json() for alliance, of_one in shares.items()}
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"
