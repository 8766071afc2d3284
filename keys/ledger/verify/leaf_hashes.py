"""Reads the leaf hashes of a ledger: computed from its lines, or as the signer stored them.

The segments of one ledger can be in several folders, when an operator has moved old ones to another
disk. `LedgerFiles` is one ledger with all its folders. For a segment whose lines are in none of
them (removed by an earlier version, or moved and not given here) only the stored hashes are used.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from keys.ledger import merkle, segments
from keys.ledger.record import parse_record
from keys.ledger.segments import CHECKPOINT, CHECKPOINTS, HASH_SIZE, HASHES, Segment

_CHUNK = 1 << 22

Progress = Callable[[int], object]  # called with the number of bytes read


@dataclass(frozen=True, slots=True)
class SegmentPart:
    """A segment: its lines, or else the stored hashes of its lines."""

    first: int
    lines: Segment | None
    hashes: Path | None

    def stored_count(self) -> int:
        """Return how many hashes are stored for it."""
        return self.hashes.stat().st_size // HASH_SIZE if self.hashes is not None else 0


@dataclass(frozen=True, slots=True)
class LedgerFiles:
    """A ledger: its own folder with its checkpoints, and folders that segments were moved to."""

    folder: Path
    moved: tuple[Path, ...] = ()

    def segments(self) -> dict[int, Segment]:
        """Return the segments whose lines are here, by the number of the first line."""
        found: dict[int, Segment] = {}
        for folder in (*self.moved, self.folder):
            found |= {segment.first: segment for segment in segments.list_segments(folder)}
        return found

    def parts(self) -> Iterator[SegmentPart]:
        """Yield all segments in order, with their lines or stored hashes."""
        lines = self.segments()
        stored: dict[int, Path] = {}
        for folder in (*self.moved, self.folder):
            stored |= dict(segments.list_files(folder, HASHES))
        for first in sorted({*lines, *stored}):
            part = SegmentPart(first, lines.get(first), stored.get(first))
            if part.lines is not None or part.stored_count():
                yield part

    def recorded_removals(self) -> dict[int, int]:
        """Return the number of records in each removed segment, by its first record's number."""
        found = {}
        for folder in (*self.moved, self.folder):
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

    def line_hashes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Yield the hash of each line with the line, or with None if only its hash is here."""
        for part in self.parts():
            if part.lines is None:
                for chunk in segment_hashes(part, lambda _: None):
                    yield from ((each, None) for each in chunk)
                continue
            with part.lines.open() as file:
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    yield merkle.hash_leaf(line), line

    def stored_hashes(self, count: int) -> Iterator[bytes]:
        """Yield at most `count` of the hashes that the signer stored, up to the first gap."""
        number = 0
        for part in self.parts():
            if part.first != number or part.hashes is None:
                return
            with part.hashes.open("rb") as file:
                while number < count and len(found := file.read(HASH_SIZE)) == HASH_SIZE:
                    yield found
                    number += 1


def segment_hashes(part: SegmentPart, progress: Progress) -> Iterator[list[bytes]]:
    """Yield the hashes of a segment's complete lines in chunks; OSError if it is damaged."""
    if part.lines is None:
        assert part.hashes is not None  # noqa: S101 - a part has one or the other
        raw = part.hashes.read_bytes()
        yield [raw[at : at + HASH_SIZE] for at in range(0, len(raw), HASH_SIZE)]
        return
    try:
        with part.lines.open() as file:
            while found := file.readlines(_CHUNK):
                progress(sum(map(len, found)))
                complete = found[-1].endswith(b"\n")
                yield list(map(merkle.hash_leaf, found if complete else found[:-1]))
                if not complete:
                    return  # still being written, or left by a crash
    except (EOFError, segments.DecompressionError) as error:
        raise OSError(f"{part.lines.path.name}: cannot be decompressed ({error})") from error


def find_ledgers(folders: Sequence[Path]) -> list[LedgerFiles]:
    """Join folders with moved segments to the ledgers that they came from.

    A folder without checkpoints has segments that were moved out of a ledger. Its ledger is the one
    that has the hash of the folder's first line and has no lines of the folder's segments itself.
    If there is no such ledger, the folder is returned as a ledger of its own. So every line in
    `folders` is verified.
    """
    ledgers = [LedgerFiles(each) for each in folders if _has_checkpoint(each)]
    alone = []
    for folder in folders:
        if _has_checkpoint(folder):
            continue
        for number, ledger in enumerate(ledgers):
            if _came_from(folder, ledger):
                ledgers[number] = LedgerFiles(ledger.folder, (*ledger.moved, folder))
                break
        else:
            alone.append(LedgerFiles(folder))
    return [*ledgers, *alone]


def _has_checkpoint(folder: Path) -> bool:
    return (folder / CHECKPOINT).exists() or (folder / CHECKPOINTS).exists()


def _came_from(folder: Path, ledger: LedgerFiles) -> bool:
    found = segments.list_segments(folder)
    if not found or not {segment.first for segment in found}.isdisjoint(ledger.segments()):
        return False
    stored = ledger.folder / segments.file_name(found[0].first, HASHES)
    if not stored.exists():
        return False
    with found[0].open() as lines, stored.open("rb") as hashes:
        return merkle.hash_leaf(lines.readline()) == hashes.read(HASH_SIZE)
