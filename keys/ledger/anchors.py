"""Anchors: checkpoints of a ledger that are recorded outside it, to show if it was rolled back.

If someone shortens a ledger and also puts back an older checkpoint, the ledger looks complete. So
its newest checkpoint is also recorded in the other ledgers: in an `anchor` record once a minute,
and in the `start` record of each daemon. Both have a line for each ledger in `checkpoints`, for
example

    ssps/filing/5f0c9b1e8a63d274 17 CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

with the ledger's origin, the number of its records and their root (keys/ledger/note). These lines
need no signature of their own, because the record that has them is signed as part of its ledger.
The change feed, which every party gets, contains whole checkpoints (keys/feed_segment).

A ledger is behind an anchor if it has another origin, fewer records, or another root at that size.
`ssps recover` accepts that after a restore from a backup. For each such ledger, `accepted` in its
record has the origin, how many records remain, and how many the newest anchor says there were:

    ssps/filing/5f0c9b1e8a63d274 12 17

and `before` has the anchors themselves, and all others among the lost records that are dated later
than the record: the clock was ahead before the loss.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from config import site, times
from config.event import Event
from keys.ledger import merkle, note, segments, tiles, unconfirmed
from keys.ledger.merkle import MerkleTree
from keys.ledger.note import Checkpoint, decode_base64, encode_base64
from keys.ledger.record import Record, parse_record, seq_of
from keys.ledger.tiles import HashReader, Progress, Report

ANCHOR, START, RECOVER = "anchor", "start", "recover"
CHECKPOINTS, ACCEPTED = "checkpoints", "accepted"
INTERVAL = 60.0  # seconds between two anchor records of a ledger
_MARK, _ACCEPTED_MARK = f'"{CHECKPOINTS}":['.encode(), f'"{ACCEPTED}":['.encode()
_SEARCHED_SEGMENTS = 3  # enough: a ledger in use gets an anchor each minute
_LOOK = 1 << 16  # lines between two looks at the clock


@dataclass(frozen=True, slots=True)
class Anchor:
    """A checkpoint that a ledger must still contain, and where it was recorded."""

    source: str
    checkpoint: Checkpoint
    recorded: datetime | None = None  # when, if a record has it

    @property
    def ledger(self) -> str:
        """The name of the ledger that it is about."""
        return ledger_name(self.checkpoint.origin)


@dataclass(frozen=True, slots=True)
class Behind:
    """A ledger that does not extend an anchor; `records` is how many it has.

    `earlier` is an acceptance of the same loss that does not cover the anchor, because it is dated
    later.
    """

    anchor: Anchor
    records: int
    origin: str
    earlier: "Accepted | None" = None

    def __str__(self) -> str:
        known = self.anchor.checkpoint
        if self.origin != known.origin:
            what = f"is {self.origin or 'empty'}, but it was {known.origin}"
        elif self.records < known.size:
            what = f"has {self.records} records, but it had {known.size}"
        else:
            what = f"has other records among its first {known.size}"
        lack = f"{what} ({self.anchor.source})"
        if self.earlier is None:
            return lack
        dated = self.anchor.recorded or known.time
        stated = f" of {times.format_time(dated)}" if dated is not None else ""
        return (
            f"{lack}; record {self.earlier.seq} of operations does not accept this, because it is "
            f"older than that checkpoint{stated}: the clock was ahead before the loss, or records "
            "were lost again"
        )


def newest_lines(ledgers: Path, names: Iterable[str]) -> list[str]:
    """Return a line for the newest checkpoint of each of these ledgers that has one."""
    found = []
    for name in names:
        message = segments.read_checkpoint(ledgers / name)
        if message is not None:
            try:
                found.append(format_line(note.unverified_checkpoint(message)))
            except ValueError:
                continue  # the signer of that ledger refuses to sign, and logs the cause
    return found


class AnchorWriter:
    """Makes the anchor records of one ledger: when another ledger has a newer checkpoint."""

    def __init__(
        self,
        ledgers: Path,
        own: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledgers, self._own, self._monotonic = ledgers, own, monotonic
        self._last: list[str] = []
        self._due = monotonic() + INTERVAL

    def next_event(self) -> Event | None:
        """Return the event to record now; None if it is too early or no ledger has changed."""
        if self._monotonic() < self._due:
            return None
        self._due = self._monotonic() + INTERVAL
        # A host that is new has a ledger that was not there before.
        names = (name for name in site.ledger_names(self._ledgers) if name != self._own)
        lines = newest_lines(self._ledgers, names)
        if not lines or lines == self._last:
            return None
        self._last = lines
        return Event(ANCHOR, self._own, "", ANCHOR, detail={CHECKPOINTS: lines})


def format_line(checkpoint: Checkpoint) -> str:
    """Write a checkpoint as one line."""
    return f"{checkpoint.origin} {checkpoint.size} {encode_base64(checkpoint.root)}"


def parse_line(line: str) -> Checkpoint:
    """Read a line; ValueError for anything that `format_line` would not have written."""
    words = line.split(" ")
    if len(words) != 3 or not words[1].isdigit():
        raise ValueError(f"not a line of an anchor: {line[:80]!r}")
    root = decode_base64(words[2])
    if len(root) != merkle.HASH_SIZE:
        raise ValueError("the root is not a SHA-256 hash")
    return Checkpoint(words[0], int(words[1]), root)


def ledger_name(origin: str) -> str:
    """Return the name of the ledger with that origin: the middle of `ssps/<name>/<digits>`."""
    return origin.partition("/")[2].partition("/")[0]


def last_in(folder: Path) -> list[Anchor]:
    """Return the anchors in the newest record of a ledger that has any."""
    for segment in reversed(segments.list_segments(folder)[-_SEARCHED_SEGMENTS:]):
        with segment.open() as file:
            content = file.read()
        end = len(content)
        while (at := content.rfind(_MARK, 0, end)) >= 0:
            begin = content.rfind(b"\n", 0, at) + 1
            found = list(_anchors(folder, content[begin : content.find(b"\n", at) + 1]))
            if found:
                return found
            end = begin
    return []


def all_in(folder: Path) -> Iterator[Anchor]:
    """Yield all anchors in the records of a ledger."""
    for _, _, line in segments.read_lines(folder):
        if _MARK in line:
            yield from _anchors(folder, line)


def _anchors(folder: Path, line: bytes) -> Iterator[Anchor]:
    try:
        record = parse_record(line)
    except ValueError:
        return
    stated = record.event.detail.get(CHECKPOINTS)
    if record.event.event in (ANCHOR, START, RECOVER) and isinstance(stated, list):
        for each in stated:
            try:
                source = f"record {record.seq} of {folder.name}"
                yield Anchor(source, parse_line(each), record.time)
            except ValueError:
                continue


class LineRoots:
    """Computes the roots of ledgers from their lines, where the stored hashes are damaged.

    In a ledger of ten million records this takes a minute. `report` is called when it begins, and
    every ten seconds. The roots are kept, and computed again only if a segment has changed.
    """

    def __init__(
        self,
        report: Report = lambda folder, hashed, records: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._report, self._monotonic = report, monotonic
        self._known: dict[Path, tuple[object, dict[int, bytes]]] = {}

    def of(self, folder: Path, sizes: Collection[int]) -> dict[int, bytes]:
        """Return the roots over the first records, of those sizes that there are.

        Of a segment that was moved away, the stored hashes count.
        """
        stats = [each.path.stat() for each in segments.list_segments(folder)]
        state = frozenset(sizes), [(s.st_ino, s.st_size, s.st_mtime_ns) for s in stats]
        known = self._known.get(folder)
        if known is None or known[0] != state:
            known = self._known[folder] = state, self._hash(folder, sizes)
        return known[1]

    def _hash(self, folder: Path, sizes: Collection[int]) -> dict[int, bytes]:
        tree, stored = MerkleTree(), HashReader(folder)
        found, step, last = {}, merkle.HASH_SIZE, max(sizes)
        progress, look = Progress(self._report, folder, last, self._monotonic), _LOOK
        for segment, _, line in segments.read_lines(folder):
            leaves = merkle.hash_leaf(line)
            if (moved := segment.first - tree.size) > 0:
                try:
                    leaves = stored.leaves(tree.size, moved) + leaves
                except tiles.HashesMissing:
                    break
            for at in range(0, len(leaves), step):
                tree.append(leaves[at : at + step])
                if tree.size in sizes:
                    found[tree.size] = tree.root()
            if tree.size >= last:
                break
            if tree.size >= look:
                look = tree.size + _LOOK
                progress.show(tree.size)
        return found


def behind(ledgers: Path, anchor: Anchor, roots: LineRoots | None = None) -> Behind | None:
    """Say how a ledger does not extend an anchor; None if it does. Raises OSError."""
    return next(iter(all_behind(ledgers, [anchor], roots)), None)


def all_behind(
    ledgers: Path, known: Sequence[Anchor], roots: LineRoots | None = None
) -> list[Behind]:
    """Say of which of these anchors the ledgers do not extend. Raises OSError."""
    roots = LineRoots() if roots is None else roots
    sizes: defaultdict[str, set[int]] = defaultdict(set)
    for anchor in known:
        sizes[anchor.ledger].add(anchor.checkpoint.size)
    of_ledger = {name: _Ledger(ledgers / name, wanted, roots) for name, wanted in sizes.items()}
    return [
        Behind(anchor, ledger.records, ledger.origin)
        for anchor in known
        if not (ledger := of_ledger[anchor.ledger]).extends(anchor.checkpoint)
    ]


class _Ledger:
    """A ledger that is compared with checkpoints of these sizes; its lines are hashed once."""

    def __init__(self, folder: Path, sizes: Collection[int], roots: LineRoots) -> None:
        self._folder, self._sizes, self._roots = folder, sizes, roots
        self._newest: Checkpoint | None = None
        message = segments.read_checkpoint(folder)
        if message is not None:
            with suppress(ValueError):
                self._newest = note.unverified_checkpoint(message)
        self.origin = "" if self._newest is None else self._newest.origin
        self.records = segments.next_seq(folder) if folder.exists() else 0

    def extends(self, known: Checkpoint) -> bool:
        if self._newest is None:
            return known.size == 0
        if self.origin != known.origin or self.records < known.size:
            return False
        # A loss of power can damage the stored hashes: they count only with a proof.
        if (stored := stored_proof(self._folder, known.size, self._newest)) is not None:
            return stored[0] == known.root
        return self._roots.of(self._folder, self._sizes).get(known.size) == known.root


def stored_proof(folder: Path, size: int, newest: Checkpoint) -> tuple[bytes, list[bytes]] | None:
    """Return the root over the first records, and the proof that the newest checkpoint extends it.

    Both come from the stored hashes of the ledger, a cache that a loss of power can damage: None if
    they are missing, or do not lead to the root of that checkpoint.
    """
    if size > newest.size:
        return None
    node = HashReader(folder).node
    try:
        root = merkle.root_hash(size, node)
        proof = merkle.consistency_proof(size, newest.size, node)
    except tiles.HashesMissing:
        return None
    if not merkle.verify_consistency(size, root, newest.size, newest.root, proof):
        return None
    return root, proof


@dataclass(frozen=True, slots=True)
class Accepted:
    """What one `recover` record accepts of one ledger."""

    origin: str
    kept: int
    lost: int
    seq: int  # the record's number
    time: datetime  # the record's time
    named: frozenset[str] = frozenset()  # the anchors that the ledgers were behind then, as lines

    @property
    def ledger(self) -> str:
        """The name of the ledger that it is about."""
        return ledger_name(self.origin)

    def covers(self, checkpoint: Checkpoint, recorded: datetime | None = None) -> bool:
        """Say whether a ledger need not extend that checkpoint.

        What the ledger gets after the loss has the numbers of the lost records again. So a
        checkpoint that was signed or `recorded` after the acceptance is not covered, unless it is
        named: then the clock was ahead before the loss.
        """
        when = recorded or checkpoint.time
        dated_before = when is None or when <= self.time
        return self.includes(checkpoint) and (dated_before or format_line(checkpoint) in self.named)

    def includes(self, checkpoint: Checkpoint) -> bool:
        """Say whether the last record of a checkpoint has the number of a lost one."""
        return checkpoint.origin == self.origin and self.kept < checkpoint.size <= self.lost


def accepted(operations: Path) -> list[Accepted]:
    """Return what the signed `recover` records of an operations ledger accept.

    The command signs its record. One that is not signed, or was marked as unconfirmed before it was
    signed, may have been added by hand, to hide that a ledger was cut back.
    """
    found: list[Accepted] = []
    signed = _signed(operations)
    for _, _, line in segments.read_lines(operations) if signed else ():
        if (mark := unconfirmed.in_line(operations.name, line)) is not None:
            found = [each for each in found if each.seq < mark.first]
        if _ACCEPTED_MARK not in line or seq_of(line) >= signed:
            continue
        try:
            found += list(_accepted(parse_record(line)))
        except ValueError:
            continue
    return found


def is_accepted(ledgers: Path, checkpoint: Checkpoint) -> bool:
    """Say whether `ssps recover` has accepted that the records of a checkpoint were lost."""
    return any(each.covers(checkpoint) for each in accepted(ledgers / site.OPERATIONS))


def _signed(folder: Path) -> int:
    """Return how many records the newest checkpoint states; the signer verifies its signature."""
    message = segments.read_checkpoint(folder) if folder.exists() else None
    try:
        return 0 if message is None else note.unverified_checkpoint(message).size
    except ValueError:
        return 0


def _accepted(record: Record) -> Iterator[Accepted]:
    stated = record.event.detail.get(ACCEPTED)
    before = record.event.detail.get("before")
    named = frozenset(map(str, before) if isinstance(before, list) else ())
    if record.event.event == RECOVER and isinstance(stated, list):
        for line in stated:
            origin, kept, lost = line.split(" ")
            yield Accepted(origin, int(kept), int(lost), record.seq, record.time, named)


def acceptance_lines(found: Iterable[Behind]) -> list[str]:
    """Return the lines for a `recover` record, one for each origin."""
    ranges = lost_ranges(found)
    return [f"{origin} {kept} {lost}" for origin, (kept, lost) in sorted(ranges.items())]


def lost_ranges(found: Iterable[Behind]) -> dict[str, tuple[int, int]]:
    """Return for each origin how many records remain, and how many there were."""
    lines: dict[str, tuple[int, int]] = {}
    for each in found:
        origin, size = each.anchor.checkpoint.origin, each.anchor.checkpoint.size
        kept = min(each.records, size - 1) if each.origin == origin else 0
        before = lines.get(origin, (kept, size))
        lines[origin] = (min(before[0], kept), max(before[1], size))
    return lines
