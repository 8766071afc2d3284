"""What is found in one ledger: whether it is what was signed for, and what of it is not."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from keys.ledger.note import Checkpoint


class FindingKind(StrEnum):
    """What is wrong."""

    CHANGED = "changed"
    DROPPED = "dropped"
    ADDED = "added"
    REORDERED = "reordered"
    CUT = "cut short"
    REMOVED = "removed"  # a segment, without a record of it
    REWRITTEN = "rewritten"  # what was signed for later does not extend what was signed before
    UNSIGNED = "unsigned"
    ANOTHER_KEY = "another key"
    ANOTHER_LOG = "another log"
    FORGED = "forged"
    HASHES = "hashes"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was, and the number of the first record of which that is true."""

    kind: FindingKind
    record: int | None
    text: str


@dataclass(frozen=True, slots=True)
class VerifiedCheckpoint:
    """A checkpoint that is believed, and where it was found."""

    source: str
    checkpoint: Checkpoint


@dataclass(slots=True)
class VerificationResult:
    """What was found in one ledger."""

    folder: Path
    origin: str = ""
    records: int = 0  # lines and hashes of lines that were removed
    signed: int = 0
    removed: int = 0  # of which only the hashes are left
    heads: int = 0
    last: datetime | None = None
    extends: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
