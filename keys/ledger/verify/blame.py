"""Which record of a ledger is the first that is not as it was signed for.

The hashes beside the lines tell, provided that they come to the signed root themselves; a forger
who replaced them too leaves only the range between two checkpoints, and whatever numbers are
missing or doubled in it.
"""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from keys.ledger import segments
from keys.ledger.merkle import MerkleTree
from keys.ledger.record import parse_record, seq_of
from keys.ledger.verify.leaves import line_hashes, stored_hashes
from keys.ledger.verify.verdicts import Finding, FindingKind, VerificationResult, VerifiedCheckpoint

_MAX_SHOWN = 160


def locate_first_change(
    verdict: VerificationResult,
    newest: VerifiedCheckpoint | None,
    right: Sequence[VerifiedCheckpoint],
    wrong: VerifiedCheckpoint,
) -> Finding:
    """Name the first record that is not as it was signed for, `wrong` being the first head."""
    folder = verdict.folder
    if newest is not None and newest in right:
        # What is there now is what was signed last; it is not what was signed before.
        size = wrong.checkpoint.size
        if verdict.records < size:
            text = f"does not extend {wrong.source} ({size} records): it ends before record "
            return Finding(FindingKind.REWRITTEN, verdict.records, text + str(verdict.records))
        after = max((h.checkpoint.size for h in right if h.checkpoint.size < size), default=0)
        text = (
            f"does not extend {wrong.source} ({size} records): what was signed for later has other "
            f"records from {after} to {size - 1}"
        )
        return Finding(FindingKind.REWRITTEN, after, text)
    if stored_hashes_match(folder, newest):
        assert newest is not None  # noqa: S101 - only then it is
        found = _locate_by_hashes(folder, newest.checkpoint.size)
        if found is not None:
            return found
    start = max((h.checkpoint.size for h in right), default=0)
    return _locate_by_numbers(folder, start, wrong)


def stored_hashes_match(folder: Path, newest: VerifiedCheckpoint | None) -> bool:
    """Say whether the hashes beside the lines come to the root that was signed last."""
    if newest is None:
        return False
    growing = MerkleTree()
    for hashed in stored_hashes(folder, newest.checkpoint.size):
        growing.append(hashed)
    return (growing.size, growing.root()) == (newest.checkpoint.size, newest.checkpoint.root)


def _locate_by_hashes(folder: Path, size: int) -> Finding | None:
    """Name the first line that is not the one that was signed for, by the hash of each."""
    pairs = zip_longest(stored_hashes(folder, size), line_hashes(folder))
    for number, (there, here) in enumerate(pairs):
        if number >= size:
            return None
        assert there is not None  # noqa: S101 - there are as many as were signed for
        if here is None:
            return _cut_short(number, size)
        if here[0] != there:
            return _classify(folder, size, number, there, here)
    return None


def _cut_short(number: int, size: int) -> Finding:
    text = f"ends before record {number}; {number} to {size - 1} were signed for and are missing"
    return Finding(FindingKind.CUT, number, text)


def _classify(
    folder: Path, size: int, number: int, there: bytes, here: tuple[bytes, bytes | None]
) -> Finding:
    hashed, line = here
    lines = _count(((each for each, _ in line_hashes(folder))), there, hashed)
    signed = _count(stored_hashes(folder, size), there, hashed)
    kept_elsewhere, known = lines[there] > 0, signed[hashed] > 0
    doubled = lines[hashed] > signed[hashed]
    stands = f"; in its place stands {_shown(line)}"
    if kept_elsewhere and (doubled or not known):
        text = f"a line was added before record {number}: {_shown(line)}"
        return Finding(FindingKind.ADDED, number, text)
    if kept_elsewhere:
        text = f"record {number} is no longer in its place{stands}"
        return Finding(FindingKind.REORDERED, number, text)
    if known and not doubled:
        return Finding(FindingKind.DROPPED, number, f"record {number} was dropped{stands}")
    return Finding(FindingKind.CHANGED, number, f"record {number} was changed{stands}")


def _count(hashes: Iterator[bytes], *wanted: bytes) -> dict[bytes, int]:
    found = dict.fromkeys(wanted, 0)
    for each in hashes:
        if each in found:
            found[each] += 1
    return found


def _locate_by_numbers(folder: Path, start: int, wrong: VerifiedCheckpoint) -> Finding:
    """Name what the lines' own numbers give away between two checkpoints, else the range."""
    end, seen, number = wrong.checkpoint.size, set[int](), 0
    for _, line in line_hashes(folder):
        if number >= max(end, start):
            break
        if number >= start and line is not None:
            said = _seq_of_valid(line)
            if said is None:
                text = f"record {number} was changed; in its place stands {_shown(line)}"
                return Finding(FindingKind.CHANGED, number, text)
            if said != number:
                return _misnumbered(folder, number, said, said in seen or said < start)
            seen.add(said)
        number += 1
    if number < end:
        return _cut_short(number, end)
    when = wrong.checkpoint.time
    until = f", signed for at {when:%Y-%m-%d %H:%M:%S} UTC" if when else ""
    text = f"one of the records {start} to {end - 1} was changed ({wrong.source}{until})"
    return Finding(FindingKind.CHANGED, None, text)


def _misnumbered(folder: Path, number: int, said: int, seen: bool) -> Finding:
    later = any(seq_of(line) == number for _, line in line_hashes(folder) if line is not None)
    if seen:
        return Finding(
            FindingKind.ADDED, number, f"a line was added before record {number}, again {said}"
        )
    if later:
        return Finding(FindingKind.REORDERED, number, f"record {number} is no longer in its place")
    return Finding(
        FindingKind.DROPPED, number, f"record {number} was dropped; {said} stands in its place"
    )


def check_unsigned_records(folder: Path, signed: int) -> list[Finding]:
    """Look over the lines that were written since the newest checkpoint."""
    expected = signed
    for _, at, line in segments.read_lines(folder, signed):
        if -1 < seq_of(line) < signed and expected == signed:
            continue
        said = _seq_of_valid(line)
        if said != expected:
            kind = (
                FindingKind.CHANGED
                if said is None
                else FindingKind.DROPPED
                if said > expected
                else FindingKind.ADDED
            )
            text = f"record {expected}, not signed for yet, is {_shown(line)} (at byte {at})"
            return [Finding(kind, expected, text)]
        expected += 1
    return []


def _seq_of_valid(line: bytes) -> int | None:
    try:
        return parse_record(line).seq
    except ValueError:
        return None


def _shown(line: bytes | None) -> str:
    if line is None:
        return "a hash alone"
    text = line.decode(errors="replace").rstrip("\n")
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."
