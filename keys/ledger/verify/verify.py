"""Whether a ledger is what was signed for, and if not, which record is the first that is not.

All lines are hashed anew (RFC 6962) and their roots held against every signed checkpoint there
is: the newest, the history beside it, and older ones that an auditor has kept. If a root differs,
the record is looked for (naming).
"""

from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from keys.ledger import note, segments
from keys.ledger.merkle import MerkleTree
from keys.ledger.note import Checkpoint
from keys.ledger.segments import CHECKPOINT, CHECKPOINTS
from keys.ledger.verify.blame import (
    check_unsigned_records,
    locate_first_change,
    stored_hashes_match,
)
from keys.ledger.verify.leaves import Progress, segment_hashes, segment_parts
from keys.ledger.verify.verdicts import Finding, FindingKind, VerificationResult, VerifiedCheckpoint


def verify_ledger(
    folder: Path,
    keys: Sequence[Ed25519PublicKey],
    kept: Sequence[tuple[str, bytes]] = (),
    progress: Progress = lambda _: None,
) -> VerificationResult:
    """Hold a ledger against its checkpoints and those `kept` elsewhere, each with its name."""
    verdict = VerificationResult(folder)
    heads = _open_checkpoints(verdict, keys, kept)
    roots: dict[int, bytes] = {}
    try:
        _compute_roots(verdict, {head.checkpoint.size for head in heads}, roots, progress)
    except OSError as error:
        verdict.findings.append(Finding(FindingKind.UNREADABLE, None, str(error)))
        return verdict
    heads.sort(key=lambda head: head.checkpoint.size)
    wrong = [h for h in heads if roots.get(h.checkpoint.size) != h.checkpoint.root]
    newest = next((h for h in heads if h.source == CHECKPOINT), heads[-1] if heads else None)
    if newest is not None:
        verdict.origin, verdict.signed = newest.checkpoint.origin, newest.checkpoint.size
        verdict.last = newest.checkpoint.time
    verdict.heads = len(heads)
    if wrong:
        right = [h for h in heads if h not in wrong]
        verdict.findings.append(locate_first_change(verdict, newest, right, wrong[0]))
        if not stored_hashes_match(folder, newest):
            text = "the hashes beside the lines are missing or do not come to the signed root"
            verdict.findings.append(Finding(FindingKind.HASHES, None, text))
    elif newest is not None:
        verdict.findings += check_unsigned_records(folder, newest.checkpoint.size)
    names = {name for name, _ in kept}
    verdict.extends = [h.source for h in heads if h.source in names and h not in wrong]
    return verdict


def _open_checkpoints(
    verdict: VerificationResult, keys: Sequence[Ed25519PublicKey], kept: Sequence[tuple[str, bytes]]
) -> list[VerifiedCheckpoint]:
    folder = verdict.folder
    newest = segments.read_checkpoint(folder)
    messages = [(CHECKPOINT, newest)] if newest is not None else []
    history = folder / CHECKPOINTS
    past = note.split_notes(history.read_bytes()) if history.exists() else []
    messages += [(f"{CHECKPOINTS} #{n}", message) for n, message in enumerate(past, start=1)]
    found = []
    for source, message in (*messages, *kept):
        opened = _open_checkpoint(message, keys)
        if isinstance(opened, Finding):
            text = f"{source}: {opened.text}"
            verdict.findings.append(Finding(opened.kind, None, text))
        else:
            found.append(VerifiedCheckpoint(source, opened))
    if not messages:
        text = "no checkpoint: nothing here is signed for"
        verdict.findings.append(Finding(FindingKind.UNSIGNED, None, text))
    if found:
        origin = found[0].checkpoint.origin
        for head in found:
            if head.checkpoint.origin != origin:
                text = f"{head.source}: is of {head.checkpoint.origin}, and this is {origin}"
                verdict.findings.append(Finding(FindingKind.ANOTHER_LOG, None, text))
        found = [head for head in found if head.checkpoint.origin == origin]
    return found


def _open_checkpoint(message: bytes, keys: Sequence[Ed25519PublicKey]) -> Checkpoint | Finding:
    for key in keys:
        try:
            return note.open_checkpoint(message, key)
        except note.UnknownSigner:
            continue
        except note.WrongSignature:
            return Finding(FindingKind.FORGED, None, "is not what the key signed")
        except ValueError as error:
            return Finding(FindingKind.FORGED, None, str(error))
    return Finding(FindingKind.ANOTHER_KEY, None, "is signed by none of the keys that were given")


def _compute_roots(
    verdict: VerificationResult, sizes: set[int], roots: dict[int, bytes], progress: Progress
) -> None:
    """Fill in the roots of the trees of those sizes, and what is missing."""
    growing, wanted = MerkleTree(), sorted(sizes, reverse=True)
    for segment in segment_parts(verdict):
        for chunk in segment_hashes(segment, progress):
            at = 0
            while at < len(chunk):
                while wanted and wanted[-1] <= growing.size:
                    roots[wanted.pop()] = growing.root()
                end = min(len(chunk), at + (wanted[-1] - growing.size if wanted else len(chunk)))
                growing.extend(chunk[at:end])
                at = end
    while wanted and wanted[-1] <= growing.size:
        roots[wanted.pop()] = growing.root()
    verdict.records = growing.size
