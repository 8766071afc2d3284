"""Verifies a ledger against its signed checkpoints, in five steps.

1. Open every checkpoint: the newest, the history beside it, and those that the auditor has kept.
2. Hash every line again (RFC 6962), and compute the root at each size that a checkpoint names.
3. Compare those roots with the signed ones.
4. If a root differs, find the first record that does not match (keys/ledger/verify/locate).
5. If all match, check the numbers of the records after the newest checkpoint.

Nothing stored beside the lines is trusted, except the hashes of segments that are not here.
"""

from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from keys.ledger import note, segments
from keys.ledger.anchors import Anchor
from keys.ledger.merkle import MerkleTree
from keys.ledger.segments import CHECKPOINT, CHECKPOINTS
from keys.ledger.verify.leaf_hashes import LedgerFiles, Progress, segment_hashes
from keys.ledger.verify.locate import (
    check_unsigned_records,
    locate_first_change,
    stored_hashes_match,
)
from keys.ledger.verify.result import Finding, FindingKind, VerificationResult, VerifiedCheckpoint


def verify_ledger(
    ledger: LedgerFiles,
    keys: Sequence[Ed25519PublicKey],
    kept: Sequence[tuple[str, bytes]] = (),
    progress: Progress = lambda _: None,
    *,
    anchors: Sequence[Anchor] = (),
) -> VerificationResult:
    """Verify a ledger against its own checkpoints and those `kept` elsewhere, each with its name.

    `anchors` are checkpoints in the records of other ledgers, and are signed as part of those
    ledgers. What is wrong with the ledger is returned as findings, and never raised.
    """
    result = VerificationResult(ledger.folder)

    # Step 1: open every checkpoint.
    own = _read_checkpoints(ledger.folder)
    checkpoints = _open_checkpoints(result, keys, [*own, *kept], anchors)
    checkpoints.sort(key=lambda each: each.checkpoint.size)
    newest = next((each for each in checkpoints if each.source == CHECKPOINT), None)
    if newest is None and checkpoints:
        newest = checkpoints[-1]
    if newest is not None:
        result.origin, result.signed = newest.checkpoint.origin, newest.checkpoint.size
        result.root, result.last = newest.checkpoint.root.hex(), newest.checkpoint.time
    result.heads = len(checkpoints)

    # Step 2: hash every line again.
    try:
        roots = _compute_roots(result, ledger, {h.checkpoint.size for h in checkpoints}, progress)
    except OSError as error:
        result.findings.append(Finding(FindingKind.UNREADABLE, None, str(error)))
        return result

    # An empty ledger gets its first checkpoint with its first record.
    if result.records and not own:
        text = "no checkpoint: nothing in this folder is signed"
        result.findings.append(Finding(FindingKind.UNSIGNED, None, text))

    # Step 3: compare the roots.
    wrong = [h for h in checkpoints if roots.get(h.checkpoint.size) != h.checkpoint.root]
    right = [h for h in checkpoints if h not in wrong]
    names = {*(name for name, _ in kept), *(anchor.source for anchor in anchors)}
    result.extends = [h.source for h in right if h.source in names]

    if wrong:
        # Step 4: find the first record that does not match.
        found = locate_first_change(ledger, result.records, newest, right, wrong[0])
        result.findings.append(found)
        if not stored_hashes_match(ledger, newest):
            text = "the stored hashes are missing or do not give the signed root"
            result.findings.append(Finding(FindingKind.HASHES, None, text))
    elif newest is not None:
        # Step 5: check the records that are not signed yet.
        result.findings += check_unsigned_records(ledger, newest.checkpoint.size)
    return result


def _read_checkpoints(folder: Path) -> list[tuple[str, bytes]]:
    """Return the newest checkpoint of the ledger and its history, each with its name."""
    newest = segments.read_checkpoint(folder)
    messages = [(CHECKPOINT, newest)] if newest is not None else []
    history = folder / CHECKPOINTS
    past = note.split_notes(history.read_bytes()) if history.exists() else []
    return messages + [(f"{CHECKPOINTS} #{n}", message) for n, message in enumerate(past, start=1)]


def _open_checkpoints(
    result: VerificationResult,
    keys: Sequence[Ed25519PublicKey],
    messages: Sequence[tuple[str, bytes]],
    anchors: Sequence[Anchor],
) -> list[VerifiedCheckpoint]:
    found = []
    for source, message in messages:
        try:
            found.append(VerifiedCheckpoint(source, note.open_checkpoint(message, keys)))
        except note.UnknownSigner:
            text = f"{source}: not signed by any of the given keys"
            result.findings.append(Finding(FindingKind.ANOTHER_KEY, None, text))
        except (note.WrongSignature, ValueError) as error:
            result.findings.append(Finding(FindingKind.FORGED, None, f"{source}: {error}"))
    found += [VerifiedCheckpoint(anchor.source, anchor.checkpoint) for anchor in anchors]
    if not found:
        return []
    origin = found[0].checkpoint.origin
    others = {each.checkpoint.origin: each for each in found if each.checkpoint.origin != origin}
    for each in others.values():  # one of each log, the last
        text = f"{each.source}: is of {each.checkpoint.origin}, but this ledger is {origin}"
        result.findings.append(Finding(FindingKind.ANOTHER_LOG, None, text))
    return [each for each in found if each.checkpoint.origin == origin]


def _compute_roots(
    result: VerificationResult, ledger: LedgerFiles, sizes: set[int], progress: Progress
) -> dict[int, bytes]:
    """Return the root at each of `sizes`; count the records, and note what is missing."""
    tree, wanted = MerkleTree(), sorted(sizes, reverse=True)
    roots: dict[int, bytes] = {}
    removals = None
    for part in ledger.parts():
        if part.lines is None:
            count = part.stored_count()
            result.removed += count
            removals = ledger.recorded_removals() if removals is None else removals
            if removals.get(part.first) != count:
                last = part.first + count - 1
                text = f"records {part.first} to {last} are missing, and no record says why"
                result.findings.append(Finding(FindingKind.REMOVED, part.first, text))
        for chunk in segment_hashes(part, progress):
            at = 0
            while at < len(chunk):
                while wanted and wanted[-1] <= tree.size:
                    roots[wanted.pop()] = tree.root()
                end = min(len(chunk), at + (wanted[-1] - tree.size if wanted else len(chunk)))
                tree.extend(chunk[at:end])
                at = end
    while wanted and wanted[-1] <= tree.size:
        roots[wanted.pop()] = tree.root()
    result.records = tree.size
    return roots
