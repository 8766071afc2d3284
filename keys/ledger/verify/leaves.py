"""The leaves of a ledger's tree: the hash of each line, of the lines and as the notary kept them.

Of a segment that was removed, as the site's terms have it, the hashes alone are left.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from keys.ledger import merkle, segments
from keys.ledger.record import parse_record
from keys.ledger.segments import HASH_SIZE, HASHES
from keys.ledger.verify.verdicts import Finding, FindingKind, VerificationResult

_CHUNK = 1 << 22

Progress = Callable[[int], object]  # told of bytes read


@dataclass(frozen=True, slots=True)
class SegmentPart:
    """A segment's lines, or the hashes that were left of them."""

    first: int
    lines: segments.Segment | None
    hashes: Path | None


def segment_parts(verdict: VerificationResult) -> Iterator[SegmentPart]:
    """Yield the segments in order; what is gone without a record of it goes into the verdict."""
    folder = verdict.folder
    lines = {segment.first: segment for segment in segments.list_segments(folder)}
    kept = dict(segments.list_files(folder, HASHES))
    said = None
    for first in sorted({*lines, *kept}):
        if first not in lines:
            count = kept[first].stat().st_size // HASH_SIZE
            if count == 0:
                continue
            said = _recorded_removals(folder) if said is None else said
            verdict.removed += count
            if said.get(first) != count:
                text = f"records {first} to {first + count - 1} are gone, and no record says so"
                verdict.findings.append(Finding(FindingKind.REMOVED, first, text))
        yield SegmentPart(first, lines.get(first), kept.get(first))


def _recorded_removals(folder: Path) -> dict[int, int]:
    found = {}
    for _, _, line in segments.read_lines(folder):
        if b'"event":"removed"' in line:
            try:
                detail = parse_record(line).event.detail
            except ValueError:
                continue
            first, count = detail.get("first"), detail.get("records")
            if isinstance(first, int) and isinstance(count, int):
                found[first] = count
    return found


def segment_hashes(part: SegmentPart, progress: Progress) -> Iterator[list[bytes]]:
    """Yield the hashes of a segment's whole lines, many at a time; OSError if it is damaged."""
    if part.lines is None:
        assert part.hashes is not None  # noqa: S101 - it has one or the other
        raw = part.hashes.read_bytes()
        yield [raw[at : at + HASH_SIZE] for at in range(0, len(raw), HASH_SIZE)]
        return
    try:
        with part.lines.open() as file:
            while found := file.readlines(_CHUNK):
                progress(sum(map(len, found)))
                whole = found[-1].endswith(b"\n")
                yield list(map(merkle.hash_leaf, found if whole else found[:-1]))
                if not whole:
                    return  # still being written, or torn
    except (EOFError, segments.DecompressionError) as error:
        raise OSError(f"{part.lines.path.name}: cannot be unpacked ({error})") from error


def line_hashes(folder: Path) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield the hash of each line and the line, or nothing for it if only its hash is left."""
    for part in segment_parts(VerificationResult(folder)):
        if part.lines is None:
            for chunk in segment_hashes(part, lambda _: None):
                yield from ((each, None) for each in chunk)
            continue
        with part.lines.open() as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                yield merkle.hash_leaf(line), line


def stored_hashes(folder: Path, most: int) -> Iterator[bytes]:
    """Yield the hashes that the notary kept beside the lines, so many at most."""
    number = 0
    for first, path in segments.list_files(folder, HASHES):
        if first != number:
            return
        with path.open("rb") as file:
            while number < most and len(found := file.read(HASH_SIZE)) == HASH_SIZE:
                yield found
                number += 1
