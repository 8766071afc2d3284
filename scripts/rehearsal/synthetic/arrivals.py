"""Schedules the scans of a polling night: from 17.00, when the boxes close, to the last correction.

`share_arrived` is the share of boxes whose sheets were scanned by a given time. Its shape is an
assumption, because nobody has published when scans arrived: a log-normal delay. Its two parameters
match what television shows on an election night in Turkey: the first boxes within the hour, half
of them by 20.00, nine in ten by 22.30, and all but one in a thousand by the morning. Corrections
follow on the next days, after objections; half of them come within a day.

A board's own sheets come after its last box, a district's after its boards, the election's after
everything else. One box in 400 never comes. Of a hundred sheets, two are sent twice, one is scanned
again as a correction, and one is scanned first in a way that no machine can file.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist

from config.registry import RegistryEntry
from config.sheet import Level
from scripts.rehearsal.synthetic.election import unregistered_karekod
from scripts.rehearsal.synthetic.scanner import UNFILABLE, PlannedScan, ScanKind
from scripts.rehearsal.synthetic.seeded_random import seeded_rng

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
# Times are in seconds after 17.00.
NIGHT_END = 14 * HOUR  # 07.00
LAST_ARRIVAL = 6 * DAY
_EARLIEST = 0.25 * HOUR  # to count, sign and carry a small box to its board
_MEDIAN = 3 * HOUR
_SPREAD = 0.5  # standard deviation of the logarithm of the delay
_OBJECTIONS_OPEN = 15 * HOUR  # 08.00, when the boards open again
_NORMAL = NormalDist(math.log(_MEDIAN - _EARLIEST), _SPREAD)
_BOXES_PER_ABSENT_BOX = 400
_SCANNING_TIME = 6 * MINUTE  # from a box's first sheet to its last

_Box = tuple[str | None, str | None, str | None]


@dataclass(frozen=True, slots=True)
class ScheduledScan:
    """A scan, and when it arrives in seconds after 17.00."""

    at: float
    scan: PlannedScan


def share_arrived(seconds: float) -> float:
    """Return the share of boxes, 0 to 1, that arrived within `seconds` after 17.00."""
    return 0.0 if seconds <= _EARLIEST else _NORMAL.cdf(math.log(seconds - _EARLIEST))


def arrival_time(share: float) -> float:
    """Return when this share of boxes has arrived: the inverse of share_arrived, to NIGHT_END."""
    if share <= 0:
        return _EARLIEST
    if share >= 1:
        return NIGHT_END
    return min(NIGHT_END, _EARLIEST + math.exp(_NORMAL.inv_cdf(share)))


def correction_time(share: float) -> float:
    """Return when this share of corrections has arrived."""
    delay = -DAY * math.log2(1 - share) if share < 1 else LAST_ARRIVAL
    return min(LAST_ARRIVAL, _OBJECTIONS_OPEN + delay)


def playback_time(at: float, length: float) -> float:
    """Return when a scan arrives in a rehearsal that takes `length` seconds in all.

    The night takes nine tenths of it, and the days after it take the last tenth.
    """
    if at <= NIGHT_END:
        return at / NIGHT_END * length * 0.9
    return length * (0.9 + 0.1 * (at - NIGHT_END) / (LAST_ARRIVAL - NIGHT_END))


def plan(entries: Iterable[RegistryEntry], seed: int) -> list[ScheduledScan]:
    """Return all scans, ordered and numbered by their arrival."""
    known = list(entries)
    missing = absent_boxes(known, seed)
    schedule = sorted(_schedule(known, missing, seed), key=lambda scheduled: scheduled.at)
    return [replace(s, scan=replace(s.scan, number=n)) for n, s in enumerate(schedule)]


def absent_boxes(entries: Iterable[RegistryEntry], seed: int) -> set[_Box]:
    """Return the boxes whose sheets never come: one in 400, and at least one."""
    boxes = {_box(entry): None for entry in entries if entry.sheet.sandik}
    shuffled = sorted(boxes, key=lambda box: seeded_rng(seed, "absent", *map(str, box)).random())
    return set(shuffled[: max(1, len(shuffled) // _BOXES_PER_ABSENT_BOX)])


def _schedule(
    entries: list[RegistryEntry], missing: set[_Box], seed: int
) -> Iterator[ScheduledScan]:
    for rank, (entry, at) in enumerate(_first_scans(entries, missing, seed)):
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
    """Yield each sheet with the time of its first scan; aggregates come after the boxes."""
    boxes: dict[_Box, float] = {}
    last: dict[tuple[str | None, ...], float] = {}  # the last arrival in each place
    aggregates = []
    for entry in entries:
        sheet = entry.sheet
        if sheet.belge.level is not Level.BOX:
            aggregates.append(entry)
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
    delays = {Level.BOARD: 20 * MINUTE, Level.DISTRICT: 60 * MINUTE, Level.ELECTION: 2 * HOUR}
    for entry in aggregates:
        sheet = entry.sheet
        inputs: tuple[str | None, ...] = tuple(filter(None, (sheet.cevre, sheet.kurul)))
        factor = seeded_rng(seed, "sheet", entry.karekod).uniform(1, 2)
        yield entry, last.get(inputs, _EARLIEST) + delays[sheet.belge.level] * factor


def _box(entry: RegistryEntry) -> _Box:
    return entry.sheet.cevre, entry.sheet.kurul, entry.sheet.sandik
