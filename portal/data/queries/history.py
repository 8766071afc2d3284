"""Everything that is known of one box: all versions of numbers and scans, findings, and the proof.

Each version of the numbers and each scan has the number of its ledger record, for which
`ScopedData.receipt` makes the proof. The callers have checked the scope.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import orjson

from config.result import BOX_SHEET, NUMBER_COLUMNS
from config.sheet import Secim
from portal.data.numbers.boxes import BoxPlace
from portal.data.numbers.snapshots import SnapshotInfo
from portal.data.queries import findings as finding_queries
from portal.data.queries import sheets as sheet_queries
from portal.data.queries.databases import open_catalog, open_results
from portal.data.queries.sheets import SheetFile
from publisher.database import Reader
from publisher.results.checks.finding import Finding


@dataclass(frozen=True, slots=True)
class ResultVersion:
    """One version of a box's numbers, and where it came from."""

    secim: Secim
    version: int
    reason: str
    time: datetime  # when the board keyed it in
    accepted_at: datetime
    numbers: Mapping[str, int | None]
    votes: Mapping[str, int]
    newest: bool  # of those that the snapshot has
    digest: str  # SHA-256 of the row's canonical JSON, which its record has
    seq: int  # of its record in the results ledger
    snapshot: int  # the first one that holds it
    sheet: str  # path of the newest signed sheet at that time, empty for none
    sheet_sha256: str


@dataclass(frozen=True)
class BoxHistory:
    """A box: its numbers and scans, oldest first within each contest, and what checks found."""

    place: BoxPlace
    results: tuple[ResultVersion, ...]
    sheets: tuple[SheetFile, ...]
    findings: tuple[Finding, ...]


def box_history(site: Path, place: BoxPlace, snapshot: SnapshotInfo) -> BoxHistory:
    """Return what is known of a box, with the versions and findings that a snapshot has."""
    with open_catalog(site) as catalog:
        sheets = tuple(sheet_queries.of_place(catalog, *place))
    with open_results(site) as database:
        if database is None:
            return BoxHistory(place, (), sheets, ())
        found = tuple(finding_queries.of_box(database, str(place), snapshot.last_result))
        versions = tuple(_versions(database, place, snapshot.number))
        return BoxHistory(place, versions, sheets, found)


_VERSIONS = (
    "SELECT secim, version, reason, time, accepted_at, votes, digest, seq, sheet, "
    "sheet_sha256, (SELECT min(number) FROM snapshot WHERE last_result >= r.id), "
    f"{', '.join(NUMBER_COLUMNS)} FROM result r "
    "WHERE cevre = ? AND kurul = ? AND sandik = ? AND belge = ? "
    "AND seq IS NOT NULL ORDER BY secim, version"
)
_FIRST = 10  # the column with the first snapshot of a version


def _versions(database: Reader, place: BoxPlace, snapshot: int) -> list[ResultVersion]:
    rows = database.execute(_VERSIONS, (*place, BOX_SHEET.value)).fetchall()
    shown = [row for row in rows if row[_FIRST] is not None and row[_FIRST] <= snapshot]
    newest = {secim: version for secim, version, *_ in shown}
    return [
        ResultVersion(
            Secim(secim),
            version,
            reason,
            datetime.fromisoformat(time),
            datetime.fromisoformat(accepted_at),
            dict(zip(NUMBER_COLUMNS, stated, strict=True)),
            orjson.loads(votes),
            version == newest[secim],
            digest,
            seq,
            first,
            sheet,
            sheet_sha256,
        )
        for (
            secim,
            version,
            reason,
            time,
            accepted_at,
            votes,
            digest,
            seq,
            sheet,
            sheet_sha256,
            first,
            *stated,
        ) in shown
    ]
