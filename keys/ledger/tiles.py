"""Reads and writes the files with a ledger's hashes: of each line, and of each full subtree.

With these files a proof reads a few kilobytes in a ledger of any length, and a start does not hash
all lines again. The files are beside the segments (keys/ledger/segments lists them): one `.hashes`
per segment, with the leaf hash of each line, and `tree-8`, `tree-16`, `tree-24`, with the hashes
of the full subtrees of those levels.

The files are only a cache: compare what you compute from them with a signed root before you trust
it. The signer syncs them once a minute, so a loss of power can damage what was added since.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from keys.files import sync
from keys.ledger import merkle, segments
from keys.ledger.merkle import MerkleTree
from keys.ledger.segments import HASH_SIZE, HASHES

LEVELS = (8, 16, 24)
_REPORT_INTERVAL = 10.0  # seconds between two reports of how many lines are hashed
Report = Callable[[Path, int, int], object]  # a ledger, how many lines are hashed, of how many


class HashesMissing(Exception):
    """The files do not have these hashes."""


class HashesDamaged(HashesMissing):
    """The files have hashes that do not lead to the signed root."""


class Progress:
    """Reports how many lines of a ledger are hashed: at the beginning, and every ten seconds."""

    def __init__(
        self, report: Report, folder: Path, records: int, monotonic: Callable[[], float]
    ) -> None:
        self._report, self._folder, self._records = report, folder, records
        self._monotonic = monotonic
        self._due = monotonic() + _REPORT_INTERVAL
        report(folder, 0, records)

    def show(self, hashed: int) -> None:
        """Say how many lines are hashed now."""
        if self._monotonic() >= self._due:
            self._due = self._monotonic() + _REPORT_INTERVAL
            self._report(self._folder, hashed, self._records)


class HashReader:
    """Reads the hashes of a ledger."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._starts = segments.list_files(folder, HASHES)

    @property
    def size(self) -> int:
        """How many lines have a hash, counted from the first without a gap."""
        end = 0
        for first, path in self._starts:
            if first != end:
                break
            end += path.stat().st_size // HASH_SIZE
        return end

    def leaves(self, first: int, count: int) -> bytes:
        """Return the hashes of `count` lines from `first` on, joined; raise HashesMissing."""
        found = b""
        for start, path in self._starts:
            here = first + len(found) // HASH_SIZE
            if start > here or len(found) == count * HASH_SIZE:
                break
            if start + path.stat().st_size // HASH_SIZE > here:
                wanted = count * HASH_SIZE - len(found)
                found += _read(path, (here - start) * HASH_SIZE, wanted)
                found = found[: len(found) // HASH_SIZE * HASH_SIZE]
        if len(found) != count * HASH_SIZE:
            last = first + count - 1
            raise HashesMissing(f"{self._folder}: no hashes of records {first} to {last}")
        return found

    def node(self, level: int, index: int) -> bytes:
        """Return the hash of a full subtree, for keys/ledger/merkle; raise HashesMissing."""
        stored = max((each for each in (0, *LEVELS) if each <= level), default=0)
        found = self._read_level(stored, index << (level - stored), 1 << (level - stored))
        return _subtree_root(found)

    def has_roots(self, first: int, size: int) -> bool:
        """Say whether the stored roots of full subtrees are those of their parts.

        Roots of lines are compared only if their subtree became full from size `first` on, because
        comparing all takes seconds in a long ledger. A file of roots that is too short is wrong
        too: what is written behind its end leaves zeros. Raises HashesMissing.
        """
        return all(
            self._stored_roots(level) >= size >> level
            and all(
                self.node(level, index)
                == _subtree_root(self._read_level(level - 8, index << 8, 1 << 8))
                for index in range(first >> level if level == LEVELS[0] else 0, size >> level)
            )
            for level in LEVELS
        )

    def _stored_roots(self, level: int) -> int:
        path = self._folder / f"tree-{level}"
        return path.stat().st_size // HASH_SIZE if path.exists() else 0

    def _read_level(self, level: int, first: int, count: int) -> list[bytes]:
        if level == 0:
            raw = self.leaves(first, count)
        else:
            path = self._folder / f"tree-{level}"
            size = count * HASH_SIZE
            raw = _read(path, first * HASH_SIZE, size) if path.exists() else b""
            if len(raw) != size:  # compute them from the level below
                return [
                    _subtree_root(self._read_level(level - 8, index << 8, 1 << 8))
                    for index in range(first, first + count)
                ]
        return [raw[at : at + HASH_SIZE] for at in range(0, len(raw), HASH_SIZE)]


class HashWriter:
    """Adds lines to a tree and their hashes to its files.

    A `suffix` is added to the names of the files, so that new ones can be complete before they
    replace the old ones.
    """

    def __init__(
        self, folder: Path, tree: MerkleTree, suffix: str = "", *, synced: int | None = None
    ) -> None:
        """Continue `tree`; an earlier writer may not have synced what it added after `synced`."""
        self._folder = folder
        self._suffix = suffix
        self._unsynced: set[Path] = set()
        self.tree = tree
        if synced is not None and synced < tree.size:
            starts = segments.list_files(folder, HASHES)
            ends = [first for first, _ in starts[1:]] + [tree.size]
            self._unsynced.update(
                path for (_, path), end in zip(starts, ends, strict=True) if end > synced
            )
            self._unsynced.update(folder.glob("tree-*[0-9]"))

    def add(self, segment: int, lines: Iterable[bytes]) -> None:
        """Add lines of the segment whose first line has the number `segment`."""
        self.add_hashes(segment, map(merkle.hash_leaf, lines))

    def add_hashes(self, segment: int, hashes: Iterable[bytes]) -> None:
        """Add lines by their hashes, when the lines themselves are not here."""
        full = {level: bytearray() for level in LEVELS}

        def keep(level: int, subtree: bytes) -> None:
            if level in full:
                full[level] += subtree

        found, tree, before = list(hashes), self.tree.copy(), self.tree.size
        tree.extend(found, keep)
        offset = (before - segment) * HASH_SIZE
        self._write(segments.file_name(segment, HASHES), offset, b"".join(found))
        for level, subtrees in full.items():
            if subtrees:
                self._write(f"tree-{level}", (before >> level) * HASH_SIZE, subtrees)
        self.tree = tree  # only now, so that a failed write (disk full) is repeated

    def sync(self) -> None:
        """Make everything that was added survive a loss of power."""
        for path in sorted(self._unsynced):
            with suppress(FileNotFoundError):  # an operator has moved it
                sync(path)
        self._unsynced.clear()

    def _write(self, name: str, offset: int, content: bytes | bytearray) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        path = self._folder / (name + self._suffix)
        descriptor = os.open(path, flags, 0o600)
        self._unsynced.add(path)
        try:
            os.ftruncate(descriptor, offset)
            written = os.pwrite(descriptor, content, offset)
            if written != len(content):
                os.ftruncate(descriptor, offset)
                raise OSError(28, os.strerror(28), str(self._folder / name))
        finally:
            os.close(descriptor)


def _subtree_root(hashes: list[bytes]) -> bytes:
    while len(hashes) > 1:
        pairs = zip(hashes[::2], hashes[1::2], strict=True)
        hashes = [merkle.hash_children(*pair) for pair in pairs]
    return hashes[0]


def _read(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)
