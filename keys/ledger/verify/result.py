"""The result of verifying one ledger: counts, and a finding for each thing that is wrong."""

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
    REMOVED = "removed"  # a segment, and no record says so
    REWRITTEN = "rewritten"  # the newest checkpoint matches, but not an older one
    UNSIGNED = "unsigned"
    ANOTHER_KEY = "another key"
    ANOTHER_LOG = "another log"
    FORGED = "forged"
    HASHES = "hashes"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and the number of the first record it concerns if that is known."""

    kind: FindingKind
    record: int | None
    text: str


@dataclass(frozen=True, slots=True)
class VerifiedCheckpoint:
    """A checkpoint whose signature is valid, and where it was found."""

    source: str
    checkpoint: Checkpoint


@dataclass(slots=True)
class VerificationResult:
    """What was found in one ledger. `ssps audit verify --json` prints these fields."""

    folder: Path
    origin: str = ""
    records: int = 0  # lines, and records of which only the hash is here
    signed: int = 0  # the size of the newest checkpoint
    root: str = ""  # its root hash, in hexadecimal
    removed: int = 0  # records of which only the hash is here
    heads: int = 0  # checkpoints with a valid signature
    last: datetime | None = None  # when the newest checkpoint was signed
    extends: list[str] = field(default_factory=list)  # kept checkpoints that the ledger extends
    cosigned: list[str] = field(default_factory=list)  # the parties' witnesses, and what they saw
    accepted: list[str] = field(default_factory=list)  # losses that an operator has accepted
    backwards: list[str] = field(default_factory=list)  # records older than the previous one
    unconfirmed: list[str] = field(default_factory=list)  # records that no daemon vouches for
    findings: list[Finding] = field(default_factory=list)
