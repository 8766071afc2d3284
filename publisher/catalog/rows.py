"""What the rows of the catalog say, as values; publisher/catalog/tables has the columns."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from publisher.page import Arrival, Reading, Reason, Stamp
from publisher.source import Source


class ArrivalState(NamedTuple):
    """An arrival and how far it got; `stamp` is its spool file's when it was read."""

    arrival: Arrival
    stamp: Stamp | None
    done: bool
    reason: Reason | None


class Original(NamedTuple):
    """A filing as the trees need it."""

    id: int
    sha256: str
    path: str


class FilingRow(NamedTuple):
    """A filing as its record needs it: `frame` is the page of the original that shows it."""

    original: Original
    frame: int
    karekod: str
    version: int


@dataclass(frozen=True, slots=True)
class UnrecordedDecision:
    """One record that is still to be written, with all that carrying out a decision takes.

    `what` is the path in the trees; in case of quarantine the file's name there; and in case of
    a duplicate the path, in the trees or below the site, of what was here before.
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

    @property
    def readings(self) -> tuple[Reading, ...]:
        """What was read on the pages of its file."""
        return tuple(
            Reading(text, engine, scan, ms, tuple((x, y) for x, y in corners), frame)
            for text, engine, scan, ms, corners, frame in self.evidence["readings"]
        )


def as_arrival_state(row: Any) -> ArrivalState:
    """Return what a row of `arrival` says of how far it got."""
    stamp = Stamp.parse(row.stamp) if row.stamp else None
    reason = Reason(row.reason) if row.reason else None
    return ArrivalState(as_arrival(row), stamp, row.seq is not None, reason)


def as_unrecorded_decision(row: Any) -> UnrecordedDecision:
    """Return what is to be carried out, of a row of `arrival` with its filing beside it, if any."""
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
    )


def _filing_row(row: Any) -> FilingRow:
    original = Original(row.filing, row.original, row.path)
    return FilingRow(original, row.frame, row.karekod, row.version)


def as_arrival(row: Any) -> Arrival:
    """Return the arrival of a row."""
    return Arrival(
        row.id,
        row.name,
        Source.parse(row.source),
        Stamp.parse(row.source_stamp),
        datetime.fromisoformat(row.received_at),
    )
