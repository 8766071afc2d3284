"""A ledger's hashes on disk: those of its lines, and of each 256, 65,536, ... of them.

With them a proof reads some kilobytes however long the ledger is, and a start goes on where the
last run ended. The files stand beside the segments (keys/ledger/segments names them): `.hashes` for
each segment, one hash a line, and `tree-8`, `tree-16`, `tree-24`, the full subtrees of those
levels. Whoever uses them holds what comes out against a signed root; they are believed for no
other reason.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from keys.ledger import merkle, segments
from keys.ledger.merkle import MerkleTree
from keys.ledger.segments import HASH_SIZE, HASHES

LEVELS = (8, 16, 24)


class HashesMissing(Exception):
    """The hashes that are asked for are not there."""


class HashReader:
    """The hashes of a ledger, to read from."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._starts = segments.list_files(folder, HASHES)

    @property
    def size(self) -> int:
        """How many lines from the first on have a hash."""
        end = 0
        for first, path in self._starts:
            if first != end:
                break
            end += path.stat().st_size // HASH_SIZE
        return end

    def leaves(self, first: int, count: int) -> bytes:
        """Return the hashes of `count` lines, one after the other; raises Missing."""
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
            raise HashesMissing(
                f"{self._folder}: no hashes of records {first} to {first + count - 1}"
            )
        return found

    def node(self, level: int, index: int) -> bytes:
        """Return the hash of a full subtree, as keys/ledger/merkle asks for it; raises Missing."""
        below = max((each for each in (0, *LEVELS) if each <= level), default=0)
        found = self._read_level(below, index << (level - below), 1 << (level - below))
        while len(found) > 1:
            found = [
                merkle.hash_children(*pair) for pair in zip(found[::2], found[1::2], strict=True)
            ]
        return found[0]

    def _read_level(self, level: int, first: int, count: int) -> list[bytes]:
        if level == 0:
            raw = self.leaves(first, count)
        else:
            path = self._folder / f"tree-{level}"
            size = count * HASH_SIZE
            raw = _read(path, first * HASH_SIZE, size) if path.exists() else b""
            if len(raw) != size:
                lower = level - 8
                return [self._compute_subtree(lower, n) for n in range(first, first + count)]
        return [raw[at : at + HASH_SIZE] for at in range(0, len(raw), HASH_SIZE)]

    def _compute_subtree(self, lower: int, index: int) -> bytes:
        found = self._read_level(lower, index << 8, 1 << 8)
        while len(found) > 1:
            found = [
                merkle.hash_children(*pair) for pair in zip(found[::2], found[1::2], strict=True)
            ]
        return found[0]


class HashWriter:
    """The tree and its files as lines are added; `suffix` keeps files apart until they hold."""

    def __init__(self, folder: Path, tree: MerkleTree, suffix: str = "") -> None:
        self._folder = folder
        self._suffix = suffix
        self.tree = tree

    def add(self, segment: int, lines: Iterable[bytes]) -> None:
        """Add lines of the segment whose first has that number."""
        self.add_hashes(segment, map(merkle.hash_leaf, lines))

    def add_hashes(self, segment: int, hashes: Iterable[bytes]) -> None:
        """Add lines of which only the hashes are left."""
        full = {level: bytearray() for level in LEVELS}

        def note(level: int, hashed: bytes) -> None:
            if level in full:
                full[level] += hashed

        found, tree, before = list(hashes), self.tree.copy(), self.tree.size
        tree.extend(found, note)
        place = (before - segment) * HASH_SIZE
        self._write(segments.file_name(segment, HASHES), place, b"".join(found))
        for level, subtrees in full.items():
            if subtrees:
                self._write(f"tree-{level}", (before >> level) * HASH_SIZE, subtrees)
        self.tree = tree  # only now: what a full disk refused is done over

    def _write(self, name: str, place: int, content: bytes | bytearray) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._folder / (name + self._suffix), flags, 0o600)
        try:
            os.ftruncate(descriptor, place)
            written = os.pwrite(descriptor, content, place)
            if written != len(content):
                os.ftruncate(descriptor, place)
                raise OSError(28, os.strerror(28), str(self._folder / name))
        finally:
            os.close(descriptor)


def _read(path: Path, place: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(place)
        return file.read(size)
