"""What a report says of the records that it is made from: verified or not, and the signed roots."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from keys.ledger.verify import VerificationResult
from scripts.audit import verify
from scripts.audit.evidence import Evidence


@dataclass(frozen=True, slots=True)
class SignedRoot:
    """The root of a ledger that verifies; `unsigned` counts the records after it."""

    name: str
    records: int
    sha256: str
    signed_at: datetime | None
    unsigned: int


@dataclass(frozen=True, slots=True)
class Proof:
    """The ledgers that verify, and for the others what is wrong: (ledger, finding)."""

    roots: Sequence[SignedRoot]
    findings: Sequence[tuple[str, str]]

    @property
    def verified(self) -> bool:
        """Whether all records match what was signed."""
        return not self.findings


def prove(sources: Evidence, site: Path | None) -> Proof:
    """Verify the ledgers; with `site`, whose ledgers they are, its change feed is asked too."""
    verdicts = verify.verify_all(sources, (), site)
    found = [(v.folder.name, f"{f.kind}: {f.text}") for v in verdicts for f in v.findings]
    return Proof([_root(each) for each in verdicts if not each.findings], found)


def _root(verdict: VerificationResult) -> SignedRoot:
    unsigned = max(0, verdict.records - verdict.signed)
    return SignedRoot(verdict.folder.name, verdict.records, verdict.root, verdict.last, unsigned)
