"""The results of a rehearsal: the numbers on its sheets, and the batches that SEÇSİS would send.

A batch has a row for each result sheet that was scanned: version 1 for the first scan. If the same
sheet is scanned again, there is a row with the next version and a reason. Aggregate sheets are the
sums of their boxes. A stated share of rows has one keying error, of the kinds in ERRORS; each error
makes exactly one check find something at the box.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from config.registry import RegistryEntry
from config.result import BOX_SHEET, ResultKey
from config.sheet import Belge, Level, SandikTuru, Secim
from config.site import RESULTS
from publisher.results.checks.finding import Check
from scripts.rehearsal.synthetic.election import AGGREGATE_LINES, NOT_IN_TURKEY
from scripts.rehearsal.synthetic.results import NO_RESULT, BoxResult, box_result
from scripts.rehearsal.synthetic.scanner import UNFILABLE, PlannedScan
from scripts.rehearsal.synthetic.seeded_random import seeded_rng
from scripts.rehearsal.synthetic.sheets import SheetNumbers

REASONS = ("itiraz kabul edildi", "giriş hatası düzeltildi", "yeniden sayım")
_DELAY_SECONDS = 3.0  # between two batches
_MAX_WAITING = 5000
_MAX_BATCH = 1000
_Row = dict[str, Any]


def _votes_off(row: _Row) -> None:
    option = next(iter(row["oylar"]))
    row["oylar"][option] += 1


def _invalid_off(row: _Row) -> None:
    row["gecersiz"] += 1


def _undisputed_off(row: _Row) -> None:
    row["itirazsiz_gecerli"] += 1


def _envelopes_off(row: _Row) -> None:
    row["zarf"] += 1


def _listed_off(row: _Row) -> None:
    row["liste_ici_oy_kullanan"] += 1


def _registered_off(row: _Row) -> None:
    row["secmen"] = row["oy_kullanan"] - row["liste_disi_oy_kullanan"] - 1


ERRORS: Mapping[Check, Callable[[_Row], None]] = {
    Check.VOTES_NOT_VALID: _votes_off,
    Check.BALLOTS_NOT_VOTED: _invalid_off,
    Check.VALID_PARTS: _undisputed_off,
    Check.ENVELOPES_NOT_VOTED: _envelopes_off,
    Check.VOTED_PARTS: _listed_off,
    Check.MORE_VOTED_THAN_REGISTERED: _registered_off,
}


@dataclass(frozen=True, slots=True)
class InjectedError:
    """A keying error that was put into a row on purpose."""

    check: Check
    secim: Secim
    place: str


@dataclass
class RehearsalResults:
    """The results of one rehearsal election, whose boxes are those of its registry."""

    entries: Iterable[RegistryEntry]
    seed: int
    error_share: float = 0.0
    withheld_share: float = 0.0  # of boxes whose result never arrives
    injected: dict[InjectedError, None] = field(default_factory=dict)  # those that still count
    sent: set[ResultKey] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._boxes: dict[tuple[Secim, str, str], list[RegistryEntry]] = defaultdict(list)
        for entry in self.entries:
            sheet = entry.sheet
            if sheet.belge is BOX_SHEET and sheet.page == 1:
                self._boxes[sheet.secim, sheet.cevre or "", sheet.kurul or ""].append(entry)
        self._board_sum = lru_cache(maxsize=None)(self._sum_of_board)

    def numbers(self, planned: PlannedScan) -> SheetNumbers:
        """Return what is written on a sheet."""
        sheet = planned.entry.sheet
        if sheet.belge.level is Level.BOX:
            version = planned.rescan_number + 1 if sheet.belge is BOX_SHEET else 1
            return SheetNumbers(box=box_result(self.seed, planned.entry, version))
        lines = self._lines(planned.entry)
        first = AGGREGATE_LINES * (sheet.page - 1)
        return SheetNumbers(
            lines=lines[first : first + AGGREGATE_LINES],
            first_line=first + 1,
            total=sum(lines, NO_RESULT),
        )

    def row(self, planned: PlannedScan, now: datetime) -> _Row | None:
        """Return the batch's row for a scan, None if its sheet states no result of its own."""
        sheet = planned.entry.sheet
        if planned.kind in UNFILABLE or sheet.page != 1 or sheet.belge is Belge.SAYIM_DOKUM_CETVELI:
            return None
        version = planned.rescan_number + 1
        reason = "" if version == 1 else REASONS[version % len(REASONS)]
        at_box = sheet.belge is BOX_SHEET
        count = (
            box_result(self.seed, planned.entry, version)
            if at_box
            else sum(self._lines(planned.entry), NO_RESULT)
        )
        key = ResultKey(sheet.secim, sheet.belge, sheet.cevre, sheet.kurul, sheet.sandik)
        if at_box and seeded_rng(self.seed, "withheld", key.place).random() < self.withheld_share:
            return None
        row = _row(planned.entry, count, version, reason, now)
        rng = seeded_rng(self.seed, "keying", planned.entry.karekod)
        if at_box and rng.random() < self.error_share:
            check = rng.choice(list(ERRORS))
            error = InjectedError(check, sheet.secim, key.place)
            if version == 1:
                ERRORS[check](row)
                self.injected[error] = None
            else:
                self.injected.pop(error, None)  # the correction has the right numbers
        self.sent.add(key)
        return row

    def _lines(self, entry: RegistryEntry) -> list[BoxResult]:
        sheet = entry.sheet
        secim, district, board = sheet.secim, sheet.cevre, sheet.kurul
        if sheet.belge is Belge.ILCE_BIRLESTIRME_KURULLAR and district and board:
            stem = board.rpartition("-")[0]
            boards = [b for s, d, b in self._boxes if (s, d) == (secim, district)]
            return [
                self._board_sum(secim, district, b)
                for b in boards
                if b.rpartition("-")[0] == stem or b == board
            ]
        if board is not None and district is not None:
            boxes = self._boxes[secim, district, board]
            return [box_result(self.seed, box) for box in boxes]
        districts = NOT_IN_TURKEY if district is None else (district,)
        places = [place for place in self._boxes if place[0] is secim and place[1] in districts]
        return [self._board_sum(*place) for place in places]

    def _sum_of_board(self, secim: Secim, district: str, board: str) -> BoxResult:
        boxes = self._boxes[secim, district, board]
        return sum((box_result(self.seed, box) for box in boxes), NO_RESULT)


class ResultSender:
    """Sends the results of scanned sheets in batches, each some time after its sheet."""

    def __init__(
        self,
        site: Path,
        results: RehearsalResults,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._site = site
        self._results = results
        self._monotonic = monotonic
        self._waiting: list[PlannedScan] = []
        self._next_batch = monotonic() + _DELAY_SECONDS
        self._number = 0
        self.delivered: dict[str, datetime] = {}  # when each batch was complete in results/

    def scanned(self, planned: PlannedScan) -> None:
        """Note a scan; send a batch if one is due."""
        self._waiting.append(planned)
        if self._monotonic() >= self._next_batch or len(self._waiting) >= _MAX_WAITING:
            self.flush()

    def flush(self) -> None:
        """Send the results of every sheet that was scanned."""
        now = datetime.now(UTC)
        rows = [row for scan in self._waiting if (row := self._results.row(scan, now)) is not None]
        self._waiting.clear()
        self._next_batch = self._monotonic() + _DELAY_SECONDS
        for batch in batches(rows, _MAX_BATCH):
            self._number += 1
            name = f"sonuc-{self._number:08d}.ndjson"
            deliver_batch(self._site, name, batch)
            self.delivered[name] = datetime.now(UTC)


def deliver_batch(site: Path, name: str, rows: Iterable[_Row]) -> None:
    """Drop a batch into results/, complete."""
    path, fresh = site / RESULTS / name, site / RESULTS / f".{name}.part"
    fresh.parent.mkdir(exist_ok=True)
    with fresh.open("w", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    fresh.replace(path)


def _row(entry: RegistryEntry, count: BoxResult, version: int, reason: str, now: datetime) -> _Row:
    sheet = entry.sheet
    row: _Row = {"secim": sheet.secim.value}
    if sheet.belge is not BOX_SHEET:
        row["belge"] = sheet.belge.value
    places = {"cevre": sheet.cevre, "kurul": sheet.kurul, "sandik": sheet.sandik}
    row |= {name: place for name, place in places.items() if place is not None}
    if isinstance(entry.sandik_turu, SandikTuru):
        row["sandik_turu"] = entry.sandik_turu.value
    return row | {
        "surum": version,
        "neden": reason,
        "zaman": now.isoformat(timespec="seconds"),
        "secmen": count.registered,
        "oy_kullanan": count.voted,
        "liste_ici_oy_kullanan": count.listed,
        "liste_disi_oy_kullanan": count.unlisted,
        "zarf": count.voted,
        "itirazsiz_gecerli": count.valid - count.disputed,
        "itirazli_gecerli": count.disputed,
        "gecerli": count.valid,
        "gecersiz": count.invalid,
        "oylar": dict(count.votes),
    }


def batches(rows: Iterable[_Row], size: int) -> Iterator[list[_Row]]:
    """Yield the rows in lists of `size`."""
    batch: list[_Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
