"""Verifies that a ledger is what was signed, or names the first record that is not.

    from keys.ledger.verify import find_ledgers, verify_ledger

    for ledger in find_ledgers([Path("ledgers/transfer")]):
        for finding in verify_ledger(ledger, [public_key]).findings:
            print(finding.kind, finding.text)

Needs no daemon, no site and no private key. `ssps audit verify` is the command.
"""

from keys.ledger.verify.leaf_hashes import LedgerFiles, find_ledgers
from keys.ledger.verify.result import Finding, FindingKind, VerificationResult
from keys.ledger.verify.verifier import verify_ledger

__all__ = [
    "Finding",
    "FindingKind",
    "LedgerFiles",
    "VerificationResult",
    "find_ledgers",
    "verify_ledger",
]
