"""One immutable state of everything that the portal shows: a snapshot, beside registry and ballot.

A view is made whole, or from the view before it with the changes since (`renewed`); it is never
changed, so a request that took one sees one state from its first byte to its last. A view has no
questions: only portal/data/scoped asks it, within a scope.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from config.ballot import Ballot
from config.result import BOX_SHEET, NUMBER_COLUMNS
from config.settings import ShareLevel
from config.sheet import Belge, Secim
from config.snapshot import AGGREGATES
from portal.data.numbers import columns as column_store
from portal.data.numbers.boxes import Boxes, BoxPlace
from portal.data.numbers.columns import Columns, ballot_layout
from portal.data.numbers.parquet import lines
from portal.data.numbers.snapshots import NO_SNAPSHOT, SnapshotInfo, changes_file, read_info
from portal.data.queries.findings import FindingQueries
from portal.data.queries.sheets import SheetCounts
from publisher.results.snapshots.folder import snapshot_folder

MAX_CHANGES = 40_000  # with more, reading the Parquet file is quicker
_FIRST_VERSION = b'"eski": null'


class AggregateKey(NamedTuple):
    """The place of an aggregate sheet; parts that the form lacks are empty."""

    belge: Belge
    cevre: str
    kurul: str


@dataclass(frozen=True, slots=True)
class Aggregate:
    """The numbers that an aggregate sheet states, in its newest version."""

    key: AggregateKey
    version: int
    reason: str
    time: datetime
    numbers: Mapping[str, int]
    votes: Mapping[str, int]


class Correction(NamedTuple):
    """A later version of a result: where it is in the changes of its snapshot."""

    snapshot: int
    secim: Secim
    row: int  # of the box; -1 for an aggregate sheet
    cevre: str
    kurul: str
    byte: int
    length: int


@dataclass(frozen=True)
class View:
    """One state; `cache` holds what is computed from it."""

    site: Path
    snapshot: SnapshotInfo
    boxes: Boxes
    ballot: Ballot | None
    share_level: ShareLevel
    contests: Mapping[Secim, Columns]
    aggregates: Mapping[Secim, Mapping[AggregateKey, Aggregate]]
    expected_aggregates: Mapping[Secim, tuple[AggregateKey, ...]]
    corrections: tuple[Correction, ...]
    sheets: SheetCounts
    findings: FindingQueries
    cache: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)


def make(
    site: Path,
    number: int,
    boxes: Boxes,
    ballot: Ballot | None,
    share_level: ShareLevel,
    expected_aggregates: Mapping[Secim, tuple[AggregateKey, ...]],
    sheets: SheetCounts,
    findings: FindingQueries,
) -> View:
    """Read a snapshot whole; number 0 is the state before the first one."""
    info = (read_info(site, number) if number else None) or NO_SNAPSHOT
    folder = snapshot_folder(site, number)
    contests: dict[Secim, Columns] = {}
    aggregates: dict[Secim, Mapping[AggregateKey, Aggregate]] = {}
    for secim in _contests(boxes, ballot):
        layout = ballot_layout(ballot, secim)
        parquet = folder / f"{secim}.parquet"
        if info.number and parquet.exists():
            contests[secim] = column_store.read(parquet, boxes, layout)
        else:
            contests[secim] = column_store.empty(layout, len(boxes))
        of_sheets = folder / f"{secim}{AGGREGATES}.parquet"
        aggregates[secim] = (
            _read_aggregates(of_sheets) if info.number and of_sheets.exists() else {}
        )
    corrections = tuple(
        found
        for earlier in range(1, info.number + 1)
        for secim in contests
        for found in _corrections(site, earlier, secim, boxes)
    )
    return View(
        site,
        info,
        boxes,
        ballot,
        share_level,
        contests,
        aggregates,
        expected_aggregates,
        corrections,
        sheets,
        findings,
    )


def renewed(before: View, number: int, sheets: SheetCounts) -> View | None:
    """Return the view of a later snapshot; None if too much has changed, so that `make` must."""
    info = before.snapshot if number == before.snapshot.number else read_info(before.site, number)
    if info is None:
        return None
    contests, aggregates = dict(before.contests), dict(before.aggregates)
    corrections = list(before.corrections)
    for secim, columns in before.contests.items():
        changes: list[Mapping[str, Any]] = []
        for later in range(before.snapshot.number + 1, number + 1):
            file = changes_file(before.site, later, secim)
            changes += column_store.read_changes(file)
            if len(changes) > MAX_CHANGES:
                return None
            corrections += _corrections(before.site, later, secim, before.boxes)
        if changes:
            contests[secim] = column_store.with_changes(columns, changes, before.boxes)
            aggregates[secim] = _with_changed_aggregates(before.aggregates[secim], changes)
    return View(
        before.site,
        info,
        before.boxes,
        before.ballot,
        before.share_level,
        contests,
        aggregates,
        before.expected_aggregates,
        tuple(corrections),
        sheets,
        before.findings,
    )


def _contests(boxes: Boxes, ballot: Ballot | None) -> tuple[Secim, ...]:
    """Return the contests in the order of the ballot."""
    of_ballot = ballot.contests() if ballot is not None else ()
    return tuple(dict.fromkeys((*of_ballot, *boxes.expected)))


def _read_aggregates(parquet: Path) -> dict[AggregateKey, Aggregate]:
    found: dict[AggregateKey, Aggregate] = {}
    for cevre, kurul, line in lines(parquet):
        row = json.loads(line)
        stated = {name: row[name] for name in NUMBER_COLUMNS if name in row}
        key = AggregateKey(Belge(row["belge"]), cevre, kurul)
        time = datetime.fromisoformat(row["zaman"])
        found[key] = Aggregate(key, row["surum"], row["neden"], time, stated, row["oylar"])
    return found


def _with_changed_aggregates(
    before: Mapping[AggregateKey, Aggregate], changes: list[Mapping[str, Any]]
) -> Mapping[AggregateKey, Aggregate]:
    found: dict[AggregateKey, Aggregate] = {}
    for change in changes:
        if change["belge"] == BOX_SHEET.value:
            continue
        key = AggregateKey(Belge(change["belge"]), change["cevre"] or "", change["kurul"] or "")
        stated = change["yeni"]
        numbers = {name: stated[name] for name in NUMBER_COLUMNS if stated.get(name) is not None}
        time = datetime.fromisoformat(change["zaman"]).astimezone(UTC)
        reason = change["neden"]
        found[key] = Aggregate(key, change["surum"], reason, time, numbers, stated["oylar"])
    return {**before, **found} if found else before


def _corrections(site: Path, number: int, secim: Secim, boxes: Boxes) -> Iterator[Correction]:
    """Yield the lines of a changes file that change an earlier result."""
    file = changes_file(site, number, secim)
    at = 0
    for line in column_store.changes_lines(file):
        start, at = at, at + len(line)
        if _FIRST_VERSION in line:
            continue
        change = json.loads(line)
        cevre, kurul = change["cevre"] or "", change["kurul"] or ""
        row: int | None = -1
        if change["belge"] == BOX_SHEET.value:
            row = boxes.row_of(BoxPlace(cevre, kurul, change["sandik"]))
        if row is not None:
            yield Correction(number, secim, row, cevre, kurul, start, len(line))
