"""Finds the first record of a ledger that does not match what was signed.

If the stored hashes give the signed root, comparing them with the hashes of the lines shows which
record changed, and how. If someone has changed the stored hashes too, the change can only be
located between two checkpoints, or by a number that is missing or is there twice.
"""

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from config import times
from keys.ledger import segments
from keys.ledger.merkle import MerkleTree
from keys.ledger.record import parse_record, seq_of
from keys.ledger.verify.leaf_hashes import LedgerFiles
from keys.ledger.verify.result import Finding, FindingKind, VerifiedCheckpoint

_MAX_SHOWN = 160


def locate_first_change(
    ledger: LedgerFiles,
    records: int,
    newest: VerifiedCheckpoint | None,
    right: Sequence[VerifiedCheckpoint],
    wrong: VerifiedCheckpoint,
) -> Finding:
    """Name the first record that does not match what was signed.

    `records` is how many the ledger has, `right` are the checkpoints that match it, and `wrong` is
    the smallest one that does not.
    """
    if newest is not None and newest in right:
        # The ledger matches its newest checkpoint, but not one that was signed before.
        size = wrong.checkpoint.size
        text = f"does not extend {wrong.source} ({size} records): "
        if records < size:
            text += f"it ends before record {records}"
            return Finding(FindingKind.REWRITTEN, records, text)
        after = max((h.checkpoint.size for h in right if h.checkpoint.size < size), default=0)
        text += f"a newer checkpoint was signed over other records from {after} to {size - 1}"
        return Finding(FindingKind.REWRITTEN, after, text)
    if stored_hashes_match(ledger, newest):
        assert newest is not None  # noqa: S101 - or they would not match
        found = _locate_by_hashes(ledger, newest.checkpoint.size)
        if found is not None:
            return found
    start = max((h.checkpoint.size for h in right), default=0)
    return _locate_by_numbers(ledger, start, wrong)


def stored_hashes_match(ledger: LedgerFiles, newest: VerifiedCheckpoint | None) -> bool:
    """Say whether the stored hashes give the root of the newest checkpoint."""
    if newest is None:
        return False
    tree = MerkleTree()
    for leaf in ledger.stored_hashes(newest.checkpoint.size):
        tree.append(leaf)
    return (tree.size, tree.root()) == (newest.checkpoint.size, newest.checkpoint.root)


def check_unsigned_records(ledger: LedgerFiles, signed: int) -> list[Finding]:
    """Check the numbers of the records after the newest checkpoint."""
    expected = signed
    for _, at, line in segments.read_lines(ledger.folder, signed):
        if -1 < seq_of(line) < signed and expected == signed:
            continue
        seq = _seq_of_record(line)
        if seq != expected:
            kind = FindingKind.DROPPED
            if seq is None:
                kind = FindingKind.CHANGED
            elif seq < expected:
                kind = FindingKind.ADDED
            text = f"record {expected}, not signed yet, is {_shown(line)} (at byte {at})"
            return [Finding(kind, expected, text)]
        expected += 1
    return []


def _locate_by_hashes(ledger: LedgerFiles, size: int) -> Finding | None:
    pairs = zip_longest(ledger.stored_hashes(size), ledger.line_hashes())
    for number, (stored, line) in enumerate(pairs):
        if number >= size:
            return None
        assert stored is not None  # noqa: S101 - there are `size` of them
        if line is None:
            return _cut_short(number, size)
        if line[0] != stored:
            return _classify(ledger, size, number, stored, line)
    return None


def _cut_short(number: int, size: int) -> Finding:
    missing = f"records {number} to {size - 1} were signed and are missing"
    text = f"ends before record {number}: {missing}"
    return Finding(FindingKind.CUT, number, text)


def _classify(
    ledger: LedgerFiles, size: int, number: int, stored: bytes, found: tuple[bytes, bytes | None]
) -> Finding:
    """Say what happened at `number`, where the line's hash is not the stored one.

    It depends on where else the two hashes occur:

        signed line elsewhere in the ledger    found line signed elsewhere    finding
        yes                                    no, or there twice now         added
        yes                                    yes                            reordered
        no                                     yes, and not there twice       dropped
        no                                     no, or there twice now         changed
    """
    leaf, line = found
    in_lines = _count((each for each, _ in ledger.line_hashes()), stored, leaf)
    in_signed = _count(ledger.stored_hashes(size), stored, leaf)
    elsewhere, known = in_lines[stored] > 0, in_signed[leaf] > 0
    doubled = in_lines[leaf] > in_signed[leaf]
    instead = f"; the line there now is {_shown(line)}"
    if elsewhere and (doubled or not known):
        text = f"a line was added before record {number}: {_shown(line)}"
        return Finding(FindingKind.ADDED, number, text)
    if elsewhere:
        text = f"record {number} is no longer in its place{instead}"
        return Finding(FindingKind.REORDERED, number, text)
    if known and not doubled:
        return Finding(FindingKind.DROPPED, number, f"record {number} was dropped{instead}")
    return Finding(FindingKind.CHANGED, number, f"record {number} was changed{instead}")


def _count(hashes: Iterator[bytes], *wanted: bytes) -> dict[bytes, int]:
    found = dict.fromkeys(wanted, 0)
    for each in hashes:
        if each in found:
            found[each] += 1
    return found


def _locate_by_numbers(ledger: LedgerFiles, start: int, wrong: VerifiedCheckpoint) -> Finding:
    """Find a record with a wrong number between two checkpoints, or name the range."""
    end, seen, number = wrong.checkpoint.size, set[int](), 0
    for _, line in ledger.line_hashes():
        if number >= max(end, start):
            break
        if number >= start and line is not None:
            seq = _seq_of_record(line)
            if seq is None:
                text = f"record {number} was changed; the line there now is {_shown(line)}"
                return Finding(FindingKind.CHANGED, number, text)
            if seq != number:
                return _misnumbered(ledger, number, seq, seq in seen or seq < start)
            seen.add(seq)
        number += 1
    if number < end:
        return _cut_short(number, end)
    when = wrong.checkpoint.time
    signed = f", signed at {times.format_time(when)}" if when else ""
    text = f"one of the records {start} to {end - 1} was changed ({wrong.source}{signed})"
    return Finding(FindingKind.CHANGED, None, text)


def _misnumbered(ledger: LedgerFiles, number: int, seq: int, seen: bool) -> Finding:
    if seen:
        text = f"a line was added before record {number}: number {seq} is there twice"
        return Finding(FindingKind.ADDED, number, text)
    if any(seq_of(line) == number for _, line in ledger.line_hashes() if line is not None):
        text = f"record {number} is no longer in its place"
        return Finding(FindingKind.REORDERED, number, text)
    text = f"record {number} was dropped; record {seq} is in its place"
    return Finding(FindingKind.DROPPED, number, text)


def _seq_of_record(line: bytes) -> int | None:
    try:
        return parse_record(line).seq
    except ValueError:
        return None


def _shown(line: bytes | None) -> str:
    if line is None:
        return "only a hash"
    text = line.decode(errors="replace").rstrip("\n")
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."
