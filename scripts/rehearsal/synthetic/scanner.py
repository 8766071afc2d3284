"""Plans the scans of a night, renders them, and drops them into a folder.

A plan has every sheet once, in random order, and the extras of a real night: in a hundred pages,
two are sent twice, one is scanned again, and one cannot be filed. A plan for fewer pages is the
beginning of a plan for more.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from heapq import nsmallest
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw

from config.election import Election
from config.registry import RegistryEntry
from scripts.rehearsal.synthetic.election import unregistered_karekod
from scripts.rehearsal.synthetic.handwriting import A4
from scripts.rehearsal.synthetic.scan_damage import DPI, scan
from scripts.rehearsal.synthetic.seeded_random import seeded_rng
from scripts.rehearsal.synthetic.sheets import SheetNumbers, print_sheet

_BLOCK = 50  # scans; the extras are placed in each block
_CHUNK = 32 * 1024  # bytes that a slow scanner writes at once
_SCANNERS = 6


class ScanKind(StrEnum):
    """What a scan shows, which decides what must become of it; the values are in scanned.csv."""

    PAGE = "page"
    RESCAN = "rescan"  # the same sheet scanned again: other bytes
    REPEAT = "repeat"  # a file sent again: the same bytes
    BLANK = "blank"  # the back of a sheet
    TORN = "torn"  # both corners with the karekod are torn off
    UNREGISTERED = "stranger"  # its karekod is not in the registry


# Scans that must end in quarantine.
UNFILABLE = (ScanKind.BLANK, ScanKind.TORN, ScanKind.UNREGISTERED)


@dataclass(frozen=True, slots=True)
class PlannedScan:
    """One scan of a sheet.

    `karekod` is the one printed on it, None if it cannot be read. `rescan_number` is 0 when the
    sheet is scanned for the first time, and 1, 2, ... when it is scanned again.
    """

    number: int
    entry: RegistryEntry
    karekod: str | None
    kind: ScanKind = ScanKind.PAGE
    rescan_number: int = 0


class ScannedFile(NamedTuple):
    """A file that a scanner delivers."""

    name: str
    content: bytes


def plan(
    entries: Iterable[RegistryEntry], seed: int, count: int | None = None
) -> Iterator[PlannedScan]:
    """Yield the scans of all sheets and the extras, at most `count` in all.

    An election of six sheets or more has at least one extra of each kind in its first fifty scans.
    It holds `count` entries in memory, or all of them.
    """

    def order(entry: RegistryEntry) -> bytes:
        return hashlib.blake2b(f"{seed}/{entry.karekod}".encode(), digest_size=8).digest()

    waiting = (
        sorted(entries, key=order)
        if count is None
        else nsmallest(max(count, _BLOCK), entries, key=order)
    )
    size = min(_BLOCK, len(waiting))
    takes: Counter[str] = Counter()
    fresh = number = 0
    while fresh < len(waiting) and (count is None or number < count):
        block, place = divmod(number, size)
        kind = _extras(seed, block, size).get(place, ScanKind.PAGE)
        if kind is ScanKind.PAGE:
            entry = waiting[fresh]
            fresh += 1
        else:
            entry = seeded_rng(seed, "plan", number).choice(waiting[max(0, fresh - _BLOCK) : fresh])
        if kind is ScanKind.RESCAN:
            takes[entry.karekod] += 1
        karekod = None if kind in UNFILABLE else entry.karekod
        if kind is ScanKind.UNREGISTERED:
            karekod = unregistered_karekod(seed, number)
        rescan_number = takes[entry.karekod] if kind in (ScanKind.RESCAN, ScanKind.REPEAT) else 0
        yield PlannedScan(number, entry, karekod, kind, rescan_number)
        number += 1


def _extras(seed: int, block: int, size: int) -> dict[int, ScanKind]:
    """Return the positions of a block's extras: a repeat, and the others in every second block."""
    kinds = [ScanKind.REPEAT]
    if block % 2 == 0:
        kinds += [ScanKind.RESCAN, UNFILABLE[(seed + block // 2) % len(UNFILABLE)]]
    if size < 2 * len(kinds):
        return {}
    # Not at the start of the block, because an extra needs a page that was scanned before.
    places = seeded_rng(seed, "extras", block).sample(range(size // 4, size - 1), len(kinds))
    return dict(zip(places, kinds, strict=True))


def render(
    planned: PlannedScan, election: Election, seed: int, numbers: SheetNumbers | None = None
) -> ScannedFile:
    """Print the sheet with its numbers and scan it.

    The file name depends on the number of the scan, its bytes on everything else.
    """
    sheet = planned.entry.karekod
    printed = replace(planned.entry, karekod=planned.karekod or sheet)
    page = print_sheet(printed, election, seed, DPI, numbers)
    if planned.kind is ScanKind.BLANK:
        page = Image.new(page.mode, page.size, (255, 255, 255))
    elif planned.kind is ScanKind.TORN:
        _tear(page, seeded_rng(seed, "tear", sheet))
    flaw = planned.kind if planned.kind in UNFILABLE else ""
    content, extension = scan(page, seeded_rng(seed, "scan", sheet, planned.rescan_number, flaw))
    scanner = seeded_rng(seed, "scanner", planned.number).randint(1, _SCANNERS)
    return ScannedFile(f"tarayici-{scanner:02d}_{planned.number:08d}.{extension}", content)


def digest(content: bytes) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def _tear(page: Image.Image, rng: random.Random) -> None:
    """Tear off both right corners together with the karekod."""
    draw = ImageDraw.Draw(page)
    for edge, inward in ((0.0, 1), (A4[1], -1)):
        # From the top or bottom edge to the right edge, around the code and its digits.
        rim = [(A4[0] - 70 * (1 - n / 20), edge + inward * 66 * n / 20) for n in range(21)]
        torn = [(x - rng.uniform(0, 2), y + inward * rng.uniform(0, 2)) for x, y in rim]
        corner = [(A4[0] - 70, edge), *torn, (A4[0], edge + inward * 66), (A4[0], edge)]
        draw.polygon([(x * DPI / 25.4, y * DPI / 25.4) for x, y in corner], (120, 120, 120))


def drop(folder: Path, name: str, content: bytes) -> Path:
    """Deliver a file as a good scanner does: it appears complete, by a rename."""
    path, fresh = folder / name, folder / f".{name}.part"
    fresh.write_bytes(content)
    fresh.replace(path)
    return path


def drop_in_place(folder: Path, name: str, content: bytes, chunk_pause: Callable[[], None]) -> Path:
    """Deliver a file as a bad scanner does: written in place, with a pause after each chunk."""
    path = folder / name
    with path.open("wb") as file:
        for start in range(0, len(content), _CHUNK):
            if start:
                chunk_pause()
            file.write(content[start : start + _CHUNK])
            file.flush()
    return path
