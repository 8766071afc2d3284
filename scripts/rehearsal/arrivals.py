"""When the pages of a polling night come in: from 17.00, as boxes close, to the last correction.

`share` is the part of all boxes whose sheets have been scanned so many seconds after 17.00. Its
shape is an assumption, for nobody has published when scans came in: a log-normal delay, which is
what waiting for many small things that each take longer than the last looks like. Its two
numbers are set by what an evening on television shows of a national count in Turkey: first boxes
within the hour, half of them by 20.00, nine in ten by 22.30, all but the last in a thousand by
morning. On the days that follow objections are heard: half of all corrections come within a day.

A board's own sheets come once its last box has, a district's after its boards, the election's
after all. One box in four hundred never comes. Of a hundred sheets two are sent twice, one is
scanned again as a correction, and one was first fed so that no machine could read it.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from statistics import NormalDist

from config.registry import Entry
from config.sheet import Level
from scripts.rehearsal.election import stranger
from scripts.rehearsal.scanner import Kind, Scan
from scripts.rehearsal.seeded_random import dice

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
EVENING = 14 * HOUR  # until 07.00, when the night is over
LAST = 6 * DAY  # nothing comes after that
_SOONEST = 0.25 * HOUR  # a small box is counted, signed and carried to its board
_HALF = 3 * HOUR
_SPREAD = 0.5
_OBJECTIONS = 15 * HOUR  # the boards open again at 08.00
_NORMAL = NormalDist(math.log(_HALF - _SOONEST), _SPREAD)
_ABSENT = 400
_AT_SCANNER = 6 * MINUTE  # from a box's first sheet to its last
_FLAWS = (Kind.BLANK, Kind.TORN, Kind.STRANGER)

_Box = tuple[str | None, str | None, str | None]


@dataclass(frozen=True, slots=True)
class Coming:
    """A scan, and how many seconds after 17.00 it comes in."""

    at: float
    scan: Scan


def share(seconds: float) -> float:
    """Return which part of all boxes has come in so many seconds after 17.00, 0 to 1."""
    return 0.0 if seconds <= _SOONEST else _NORMAL.cdf(math.log(seconds - _SOONEST))


def arrival(share: float) -> float:
    """Return by when that part of all boxes has come in; the inverse of `share`, up to EVENING."""
    if share <= 0:
        return _SOONEST
    if share >= 1:
        return EVENING
    return min(EVENING, _SOONEST + math.exp(_NORMAL.inv_cdf(share)))


def correction(share: float) -> float:
    """Return by when that part of all corrections has come in."""
    waited = -DAY * math.log2(1 - share) if share < 1 else LAST
    return min(LAST, _OBJECTIONS + waited)


def played(at: float, length: float) -> float:
    """Return when a scan comes in a rehearsal whose night takes `length` seconds.

    The evening takes nine tenths of it, the days after it the last one.
    """
    if at <= EVENING:
        return at / EVENING * length * 0.9
    return length * (0.9 + 0.1 * (at - EVENING) / (LAST - EVENING))


def plan(entries: Iterable[Entry], seed: int) -> list[Coming]:
    """Return every scan of the night in the order in which they come, numbered in that order."""
    known = list(entries)
    missing = absent(known, seed)
    coming = sorted(_coming(known, missing, seed), key=lambda c: c.at)
    return [replace(c, scan=replace(c.scan, number=n)) for n, c in enumerate(coming)]


def absent(entries: Iterable[Entry], seed: int) -> set[_Box]:
    """Return the boxes whose sheets never come: one in 400, and always one."""
    boxes = {_box(entry): None for entry in entries if entry.sheet.sandik}
    fallen = sorted(boxes, key=lambda box: dice(seed, "absent", *map(str, box)).random())
    return set(fallen[: max(1, len(fallen) // _ABSENT)])


def _coming(entries: list[Entry], missing: set[_Box], seed: int) -> Iterator[Coming]:
    ranks = count()
    for entry, at in _times(entries, missing, seed):
        rank = next(ranks)
        chance = dice(seed, "night", entry.karekod)
        yield Coming(at, Scan(0, entry, entry.karekod))
        if rank % 50 == 7:
            again = at + chance.uniform(1, 90) * MINUTE
            yield Coming(again, Scan(0, entry, entry.karekod, Kind.REPEAT))
        if rank % 100 == 33:
            later = correction(chance.random())
            yield Coming(later, Scan(0, entry, entry.karekod, Kind.RESCAN, take=1))
        if rank % 100 == 66:
            kind = _FLAWS[rank // 100 % len(_FLAWS)]
            karekod = stranger(seed, rank) if kind is Kind.STRANGER else None
            yield Coming(max(0.0, at - MINUTE), Scan(0, entry, karekod, kind))


def _times(entries: list[Entry], missing: set[_Box], seed: int) -> Iterator[tuple[Entry, float]]:
    boxes: dict[_Box, float] = {}
    last: dict[tuple[str | None, ...], float] = {}
    above = []
    for entry in entries:
        sheet = entry.sheet
        if sheet.belge.level is not Level.BOX:
            above.append(entry)
            continue
        box = _box(entry)
        if box in missing:
            continue
        if box not in boxes:
            boxes[box] = arrival(dice(seed, "box", *map(str, box)).random())
        at = boxes[box] + dice(seed, "sheet", entry.karekod).random() * _AT_SCANNER
        for place in ((sheet.cevre, sheet.kurul), (sheet.cevre,), ()):
            last[place] = max(last.get(place, 0.0), at)
        yield entry, at
    waits = {Level.BOARD: 20 * MINUTE, Level.DISTRICT: 60 * MINUTE, Level.ELECTION: 2 * HOUR}
    for entry in above:
        sheet = entry.sheet
        below: tuple[str | None, ...] = tuple(filter(None, (sheet.cevre, sheet.kurul)))
        late = dice(seed, "sheet", entry.karekod).uniform(1, 2)
        yield entry, last.get(below, _SOONEST) + waits[sheet.belge.level] * late


def _box(entry: Entry) -> _Box:
    return entry.sheet.cevre, entry.sheet.kurul, entry.sheet.sandik
