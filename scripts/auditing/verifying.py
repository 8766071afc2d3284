"""Whether a ledger is what was signed for, and if not, which record is the first that is not.

All lines are hashed anew (RFC 6962) and their roots held against every signed checkpoint there
is: the newest, the history beside it, and older ones that an auditor has kept. If a root differs,
the hashes that stand beside the lines tell which line it is, provided that those hashes come to
the signed root themselves; a forger who replaced them too leaves only the range between two
checkpoints, and whatever numbers are missing or doubled in it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import zip_longest
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from keys import ledger, note, segments, tree
from keys.note import Checkpoint
from keys.record import parse_record, seq_of
from keys.segments import CHECKPOINT, CHECKPOINTS, HASH_SIZE, HASHES
from keys.tree import Tree

_CHUNK = 1 << 22
_LONGEST = 160


class Kind(StrEnum):
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

    kind: Kind
    record: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Head:
    """A checkpoint that is believed, and where it was found."""

    source: str
    checkpoint: Checkpoint


@dataclass(slots=True)
class Verdict:
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


Progress = Callable[[int], object]  # told of bytes read


def verify(
    folder: Path,
    keys: Sequence[Ed25519PublicKey],
    kept: Sequence[tuple[str, bytes]] = (),
    progress: Progress = lambda _: None,
) -> Verdict:
    """Hold a ledger against its checkpoints and those `kept` elsewhere, each with its name."""
    verdict = Verdict(folder)
    heads = _heads(verdict, keys, kept)
    roots: dict[int, bytes] = {}
    try:
        _hash(verdict, {head.checkpoint.size for head in heads}, roots, progress)
    except OSError as error:
        verdict.findings.append(Finding(Kind.UNREADABLE, None, str(error)))
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
        verdict.findings.append(_first_wrong(verdict, newest, right, wrong[0]))
        if not _authentic(folder, newest):
            text = "the hashes beside the lines are missing or do not come to the signed root"
            verdict.findings.append(Finding(Kind.HASHES, None, text))
    elif newest is not None:
        verdict.findings += _after(folder, newest.checkpoint.size)
    names = {name for name, _ in kept}
    verdict.extends = [h.source for h in heads if h.source in names and h not in wrong]
    return verdict


def _heads(
    verdict: Verdict, keys: Sequence[Ed25519PublicKey], kept: Sequence[tuple[str, bytes]]
) -> list[Head]:
    folder = verdict.folder
    newest = segments.checkpoint(folder)
    messages = [(CHECKPOINT, newest)] if newest is not None else []
    history = folder / CHECKPOINTS
    past = note.split(history.read_bytes()) if history.exists() else []
    messages += [(f"{CHECKPOINTS} #{n}", message) for n, message in enumerate(past, start=1)]
    found = []
    for source, message in (*messages, *kept):
        opened = _opened(message, keys)
        if isinstance(opened, Finding):
            text = f"{source}: {opened.text}"
            verdict.findings.append(Finding(opened.kind, None, text))
        else:
            found.append(Head(source, opened))
    if not messages:
        text = "no checkpoint: nothing here is signed for"
        verdict.findings.append(Finding(Kind.UNSIGNED, None, text))
    if found:
        origin = found[0].checkpoint.origin
        for head in found:
            if head.checkpoint.origin != origin:
                text = f"{head.source}: is of {head.checkpoint.origin}, and this is {origin}"
                verdict.findings.append(Finding(Kind.ANOTHER_LOG, None, text))
        found = [head for head in found if head.checkpoint.origin == origin]
    return found


def _opened(message: bytes, keys: Sequence[Ed25519PublicKey]) -> Checkpoint | Finding:
    for key in keys:
        try:
            return note.open_checkpoint(message, key)
        except note.Unsigned:
            continue
        except note.Forged:
            return Finding(Kind.FORGED, None, "is not what the key signed")
        except ValueError as error:
            return Finding(Kind.FORGED, None, str(error))
    return Finding(Kind.ANOTHER_KEY, None, "is signed by none of the keys that were given")


def _hash(verdict: Verdict, sizes: set[int], roots: dict[int, bytes], progress: Progress) -> None:
    """Fill in the roots of the trees of those sizes, and what is missing."""
    growing, wanted = Tree(), sorted(sizes, reverse=True)
    for segment in _parts(verdict):
        for chunk in _hashes(segment, progress):
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


@dataclass(frozen=True, slots=True)
class _Part:
    """A segment's lines, or the hashes that were left of them."""

    first: int
    lines: segments.Segment | None
    hashes: Path | None


def _parts(verdict: Verdict) -> Iterator[_Part]:
    folder = verdict.folder
    lines = {segment.first: segment for segment in segments.listed(folder)}
    hashes = dict(segments.numbered(folder, HASHES))
    said = None
    for first in sorted({*lines, *hashes}):
        if first not in lines:
            count = hashes[first].stat().st_size // HASH_SIZE
            if count == 0:
                continue
            said = _removals(folder) if said is None else said
            verdict.removed += count
            if said.get(first) != count:
                text = f"records {first} to {first + count - 1} are gone, and no record says so"
                verdict.findings.append(Finding(Kind.REMOVED, first, text))
        yield _Part(first, lines.get(first), hashes.get(first))


def _removals(folder: Path) -> dict[int, int]:
    found = {}
    for _, _, line in segments.lines(folder):
        if b'"event":"removed"' in line:
            try:
                detail = parse_record(line).event.detail
            except ValueError:
                continue
            first, count = detail.get("first"), detail.get("records")
            if isinstance(first, int) and isinstance(count, int):
                found[first] = count
    return found


def _hashes(part: _Part, progress: Progress) -> Iterator[list[bytes]]:
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
                yield list(map(tree.leaf, found if whole else found[:-1]))
                if not whole:
                    return  # still being written, or torn
    except (EOFError, segments.UNPACKING) as error:
        raise OSError(f"{part.lines.path.name}: cannot be unpacked ({error})") from error


def _line_hashes(folder: Path) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield the hash of each line and the line, or nothing for it if only its hash is left."""
    for part in _parts(Verdict(folder)):
        if part.lines is None:
            for chunk in _hashes(part, lambda _: None):
                yield from ((each, None) for each in chunk)
            continue
        with part.lines.open() as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                yield tree.leaf(line), line


def _kept_hashes(folder: Path, most: int) -> Iterator[bytes]:
    number = 0
    for first, path in segments.numbered(folder, HASHES):
        if first != number:
            return
        with path.open("rb") as file:
            while number < most and len(found := file.read(HASH_SIZE)) == HASH_SIZE:
                yield found
                number += 1


def _authentic(folder: Path, newest: Head | None) -> bool:
    if newest is None:
        return False
    growing = Tree()
    for hashed in _kept_hashes(folder, newest.checkpoint.size):
        growing.append(hashed)
    return (growing.size, growing.root()) == (newest.checkpoint.size, newest.checkpoint.root)


def _first_wrong(
    verdict: Verdict, newest: Head | None, right: Sequence[Head], wrong: Head
) -> Finding:
    folder = verdict.folder
    if newest is not None and newest in right:
        # What is there now is what was signed last; it is not what was signed before.
        size = wrong.checkpoint.size
        if verdict.records < size:
            text = f"does not extend {wrong.source} ({size} records): it ends before record "
            return Finding(Kind.REWRITTEN, verdict.records, text + str(verdict.records))
        after = max((h.checkpoint.size for h in right if h.checkpoint.size < size), default=0)
        text = (
            f"does not extend {wrong.source} ({size} records): what was signed for later has other "
            f"records from {after} to {size - 1}"
        )
        return Finding(Kind.REWRITTEN, after, text)
    if _authentic(folder, newest):
        assert newest is not None  # noqa: S101 - only then it is
        found = _by_hashes(folder, newest.checkpoint.size)
        if found is not None:
            return found
    start = max((h.checkpoint.size for h in right), default=0)
    return _by_numbers(folder, start, wrong)


def _by_hashes(folder: Path, size: int) -> Finding | None:
    """Name the first line that is not the one that was signed for, by the hash of each."""
    pairs = zip_longest(_kept_hashes(folder, size), _line_hashes(folder))
    for number, (there, here) in enumerate(pairs):
        if number >= size:
            return None
        assert there is not None  # noqa: S101 - there are as many as were signed for
        if here is None:
            return _cut(number, size)
        if here[0] != there:
            return _told_apart(folder, size, number, there, here)
    return None


def _cut(number: int, size: int) -> Finding:
    text = f"ends before record {number}; {number} to {size - 1} were signed for and are missing"
    return Finding(Kind.CUT, number, text)


def _told_apart(
    folder: Path, size: int, number: int, there: bytes, here: tuple[bytes, bytes | None]
) -> Finding:
    hashed, line = here
    lines = _counted(((each for each, _ in _line_hashes(folder))), there, hashed)
    signed = _counted(_kept_hashes(folder, size), there, hashed)
    kept_elsewhere, known = lines[there] > 0, signed[hashed] > 0
    doubled = lines[hashed] > signed[hashed]
    stands = f"; in its place stands {_shown(line)}"
    if kept_elsewhere and (doubled or not known):
        text = f"a line was added before record {number}: {_shown(line)}"
        return Finding(Kind.ADDED, number, text)
    if kept_elsewhere:
        text = f"record {number} is no longer in its place{stands}"
        return Finding(Kind.REORDERED, number, text)
    if known and not doubled:
        return Finding(Kind.DROPPED, number, f"record {number} was dropped{stands}")
    return Finding(Kind.CHANGED, number, f"record {number} was changed{stands}")


def _counted(hashes: Iterator[bytes], *wanted: bytes) -> dict[bytes, int]:
    found = dict.fromkeys(wanted, 0)
    for each in hashes:
        if each in found:
            found[each] += 1
    return found


def _by_numbers(folder: Path, start: int, wrong: Head) -> Finding:
    """Name what the lines' own numbers give away between two checkpoints, else the range."""
    end, seen, number = wrong.checkpoint.size, set[int](), 0
    for _, line in _line_hashes(folder):
        if number >= max(end, start):
            break
        if number >= start and line is not None:
            said = _number_of(line)
            if said is None:
                text = f"record {number} was changed; in its place stands {_shown(line)}"
                return Finding(Kind.CHANGED, number, text)
            if said != number:
                return _misnumbered(folder, number, said, said in seen or said < start)
            seen.add(said)
        number += 1
    if number < end:
        return _cut(number, end)
    when = wrong.checkpoint.time
    until = f", signed for at {when:%Y-%m-%d %H:%M:%S} UTC" if when else ""
    text = f"one of the records {start} to {end - 1} was changed ({wrong.source}{until})"
    return Finding(Kind.CHANGED, None, text)


def _misnumbered(folder: Path, number: int, said: int, seen: bool) -> Finding:
    later = any(seq_of(line) == number for _, line in _line_hashes(folder) if line is not None)
    if seen:
        return Finding(Kind.ADDED, number, f"a line was added before record {number}, again {said}")
    if later:
        return Finding(Kind.REORDERED, number, f"record {number} is no longer in its place")
    return Finding(Kind.DROPPED, number, f"record {number} was dropped; {said} stands in its place")


def _after(folder: Path, signed: int) -> list[Finding]:
    """Look over the lines that were written since the newest checkpoint."""
    expected = signed
    for _, at, line in segments.lines(folder, signed):
        if -1 < seq_of(line) < signed and expected == signed:
            continue
        said = _number_of(line)
        if said != expected:
            kind = Kind.CHANGED if said is None else Kind.DROPPED if said > expected else Kind.ADDED
            text = f"record {expected}, not signed for yet, is {_shown(line)} (at byte {at})"
            return [Finding(kind, expected, text)]
        expected += 1
    return []


def _number_of(line: bytes) -> int | None:
    try:
        return ledger.parse_record(line).seq
    except ValueError:
        return None


def _shown(line: bytes | None) -> str:
    if line is None:
        return "a hash alone"
    text = line.decode(errors="replace").rstrip("\n")
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
