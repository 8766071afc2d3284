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

from config.registry import RegistryEntry
from config.sheet import Level
from scripts.rehearsal.election import unregistered_karekod
from scripts.rehearsal.scanner import UNFILABLE, PlannedScan, ScanKind
from scripts.rehearsal.seeded_random import seeded_rng

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
NIGHT_END = 14 * HOUR  # until 07.00, when the night is over
LAST_ARRIVAL = 6 * DAY  # nothing comes after that
_EARLIEST = 0.25 * HOUR  # a small box is counted, signed and carried to its board
_MEDIAN = 3 * HOUR
_SPREAD = 0.5
_OBJECTIONS_OPEN = 15 * HOUR  # the boards open again at 08.00
_NORMAL = NormalDist(math.log(_MEDIAN - _EARLIEST), _SPREAD)
_BOXES_PER_ABSENT_BOX = 400
_SCANNING_TIME = 6 * MINUTE  # from a box's first sheet to its last

_Box = tuple[str | None, str | None, str | None]


@dataclass(frozen=True, slots=True)
class ScheduledScan:
    """A scan, and how many seconds after 17.00 it comes in."""

    at: float
    scan: PlannedScan


def share_arrived(seconds: float) -> float:
    """Return which part of all boxes has come in so many seconds after 17.00, 0 to 1."""
    return 0.0 if seconds <= _EARLIEST else _NORMAL.cdf(math.log(seconds - _EARLIEST))


def arrival_time(share: float) -> float:
    """Return by when that part of all boxes has come in; the inverse of `share`, up to EVENING."""
    if share <= 0:
        return _EARLIEST
    if share >= 1:
        return NIGHT_END
    return min(NIGHT_END, _EARLIEST + math.exp(_NORMAL.inv_cdf(share)))


def correction_time(share: float) -> float:
    """Return by when that part of all corrections has come in."""
    waited = -DAY * math.log2(1 - share) if share < 1 else LAST_ARRIVAL
    return min(LAST_ARRIVAL, _OBJECTIONS_OPEN + waited)


def playback_time(at: float, length: float) -> float:
    """Return when a scan comes in a rehearsal whose night takes `length` seconds.

    The evening takes nine tenths of it, the days after it the last one.
    """
    if at <= NIGHT_END:
        return at / NIGHT_END * length * 0.9
    return length * (0.9 + 0.1 * (at - NIGHT_END) / (LAST_ARRIVAL - NIGHT_END))


def plan(entries: Iterable[RegistryEntry], seed: int) -> list[ScheduledScan]:
    """Return every scan of the night in the order in which they come, numbered in that order."""
    known = list(entries)
    missing = absent_boxes(known, seed)
    coming = sorted(_schedule(known, missing, seed), key=lambda c: c.at)
    return [replace(c, scan=replace(c.scan, number=n)) for n, c in enumerate(coming)]


def absent_boxes(entries: Iterable[RegistryEntry], seed: int) -> set[_Box]:
    """Return the boxes whose sheets never come: one in 400, and always one."""
    boxes = {_box(entry): None for entry in entries if entry.sheet.sandik}
    fallen = sorted(boxes, key=lambda box: seeded_rng(seed, "absent", *map(str, box)).random())
    return set(fallen[: max(1, len(fallen) // _BOXES_PER_ABSENT_BOX)])


def _schedule(
    entries: list[RegistryEntry], missing: set[_Box], seed: int
) -> Iterator[ScheduledScan]:
    ranks = count()
    for entry, at in _first_scans(entries, missing, seed):
        rank = next(ranks)
        rng = seeded_rng(seed, "night", entry.karekod)
        yield ScheduledScan(at, PlannedScan(0, entry, entry.karekod))
        if rank % 50 == 7:
            again = at + rng.uniform(1, 90) * MINUTE
            yield ScheduledScan(again, PlannedScan(0, entry, entry.karekod, ScanKind.REPEAT))
        if rank % 100 == 33:
            later = correction_time(rng.random())
            yield ScheduledScan(
                later, PlannedScan(0, entry, entry.karekod, ScanKind.RESCAN, rescan_number=1)
            )
        if rank % 100 == 66:
            kind = UNFILABLE[rank // 100 % len(UNFILABLE)]
            karekod = unregistered_karekod(seed, rank) if kind is ScanKind.UNREGISTERED else None
            yield ScheduledScan(max(0.0, at - MINUTE), PlannedScan(0, entry, karekod, kind))


def _first_scans(
    entries: list[RegistryEntry], missing: set[_Box], seed: int
) -> Iterator[tuple[RegistryEntry, float]]:
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
            boxes[box] = arrival_time(seeded_rng(seed, "box", *map(str, box)).random())
        at = boxes[box] + seeded_rng(seed, "sheet", entry.karekod).random() * _SCANNING_TIME
        for place in ((sheet.cevre, sheet.kurul), (sheet.cevre,), ()):
            last[place] = max(last.get(place, 0.0), at)
        yield entry, at
    waits = {Level.BOARD: 20 * MINUTE, Level.DISTRICT: 60 * MINUTE, Level.ELECTION: 2 * HOUR}
    for entry in above:
        sheet = entry.sheet
        below: tuple[str | None, ...] = tuple(filter(None, (sheet.cevre, sheet.kurul)))
        late = seeded_rng(seed, "sheet", entry.karekod).uniform(1, 2)
        yield entry, last.get(below, _EARLIEST) + waits[sheet.belge.level] * late


def _box(entry: RegistryEntry) -> _Box:
    return entry.sheet.cevre, entry.sheet.kurul, entry.sheet.sandik
