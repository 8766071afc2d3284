"""Converts rows of the catalog to values; publisher/catalog/tables has the columns."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from publisher.page import Arrival, Reading, Reason, Stamp
from publisher.source import Source


class ArrivalState(NamedTuple):
    """An arrival and its progress. `stamp` is the stamp of its spool file when it was read.

    `done` means that everything is recorded.
    """

    arrival: Arrival
    stamp: Stamp | None
    done: bool


class Original(NamedTuple):
    """The fields of a filing that linking it into a tree needs."""

    id: int
    sha256: str
    path: str


class FilingRow(NamedTuple):
    """The fields of a filing that its ledger record needs.

    `frame` is the page of the original that shows the sheet, counted from 1.
    """

    original: Original
    frame: int
    karekod: str
    version: int
    filed_at: int


@dataclass(frozen=True, slots=True)
class UnrecordedDecision:
    """A decision that has no ledger record yet, with everything that carrying it out needs.

    `what` depends on the outcome. Filed: the path in the trees. Quarantined: the file's name in
    quarantine. Duplicate: the path of the earlier copy, in the trees or below the site. `origin` is
    the digest of the file that a page was copied from, and the number of the page there.
    """

    arrival: Arrival
    outcome: str
    what: str
    sha256: str | None
    stamp: Stamp
    reason: Reason | None
    decided_at: datetime
    evidence: dict[str, Any]
    filing: FilingRow | None
    origin: tuple[str, int] | None = None

    @property
    def readings(self) -> tuple[Reading, ...]:
        """The codes that were read on the pages of the file."""
        return tuple(
            Reading(text, engine, scan, ms, tuple((x, y) for x, y in corners), frame)
            for text, engine, scan, ms, corners, frame in self.evidence["readings"]
        )


def as_arrival_state(row: Any) -> ArrivalState:
    """Return the progress of an arrival from its row."""
    stamp = Stamp.parse(row.stamp) if row.stamp else None
    return ArrivalState(as_arrival(row), stamp, row.seq is not None)


def as_unrecorded_decision(row: Any) -> UnrecordedDecision:
    """Return the decision of a row of `arrival`, which may have a filing's columns as well."""
    filing = _filing_row(row) if getattr(row, "filing", None) else None
    return UnrecordedDecision(
        as_arrival(row),
        row.outcome,
        filing.original.path if filing else row.what,
        row.sha256,
        Stamp.parse(row.stamp),
        Reason(row.reason) if row.reason else None,
        datetime.fromisoformat(row.decided_at),
        json.loads(row.evidence),
        filing,
        (row.split_file, row.split_page) if getattr(row, "split_file", None) else None,
    )


def _filing_row(row: Any) -> FilingRow:
    original = Original(row.filing, row.original, row.path)
    return FilingRow(original, row.frame, row.karekod, row.version, row.filed_at)


def as_arrival(row: Any) -> Arrival:
    """Return the arrival of a row of `arrival`."""
    return Arrival(
        row.id,
        row.name,
        Source.parse(row.source),
        Stamp.parse(row.source_stamp),
        datetime.fromisoformat(row.received_at),
    )
