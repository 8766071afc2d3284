"""Computes Merkle tree roots and proofs over a ledger's lines (RFC 6962 2.1). No I/O.

    leaf hash    SHA-256(0x00 || line), the line with its line feed
    node hash    SHA-256(0x01 || left || right)

The left subtree of a tree of n leaves has the largest power of two below n. The root of the empty
tree is SHA-256 of nothing. A full subtree of 2**level leaves has the coordinates (level, index):
(0, 5) is the sixth leaf, (3, 0) covers the first eight leaves.

There are two kinds of proof, each a list of hashes:

    inclusion     the leaf with this index is in the tree with this root
    consistency   the tree with this root begins with the smaller tree with that root

To make a proof, pass a function that returns the hash of a full subtree. To verify one, you need
only the roots, and for an inclusion proof the leaf hash (RFC 9162 2.1.3.2 and 2.1.4.2).
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

SubtreeHash = Callable[[int, int], bytes]  # (level, index) -> hash of that full subtree
EMPTY_ROOT = sha256().digest()
HASH_SIZE = 32


def hash_leaf(line: bytes) -> bytes:
    """Return the leaf hash of one line."""
    return sha256(b"\x00" + line).digest()


def hash_children(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node above two others."""
    return sha256(b"\x01" + left + right).digest()


class MerkleTree:
    """A tree that grows at its right end.

    It keeps the size and the peaks, which are the roots of its full subtrees from left to right.
    """

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        self.size = size
        self._peaks = list(peaks)

    def copy(self) -> "MerkleTree":
        """Return a copy that grows independently."""
        return MerkleTree(self.size, self._peaks)

    def append(self, leaf_hash: bytes) -> None:
        """Add one leaf hash."""
        self.extend((leaf_hash,))

    def extend(
        self, hashes: Iterable[bytes], full: Callable[[int, bytes], object] | None = None
    ) -> None:
        """Add leaf hashes.

        Calls `full(level, hash)` for each subtree of 256, 65,536, ... leaves (levels 8, 16, ...)
        that becomes full.
        """
        peaks, size = self._peaks, self.size
        pop, push = peaks.pop, peaks.append
        for found in hashes:
            level, rest = 0, size
            while rest & 1:
                found = sha256(b"\x01" + pop() + found).digest()
                level += 1
                rest >>= 1
                if full is not None and not level & 7:
                    full(level, found)
            push(found)
            size += 1
        self.size = size

    def root(self) -> bytes:
        """Return the root hash of the tree at its present size."""
        if not self._peaks:
            return EMPTY_ROOT
        found = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            found = hash_children(peak, found)
        return found


def peaks(size: int, node: SubtreeHash) -> list[bytes]:
    """Return the peaks of a tree of that size, for `MerkleTree(size, peaks)`."""
    found, start = [], 0
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            found.append(node(level, start >> level))
            start += 1 << level
    return found


def root_hash(size: int, node: SubtreeHash) -> bytes:
    """Return the root hash of the first `size` leaves."""
    return _range_root(0, size, node) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, node: SubtreeHash) -> list[bytes]:
    """Prove that leaf `index` is in the tree of `size` leaves; ValueError if there is none."""
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} has no leaf {index}")
    proof, start, end = [], 0, size
    while end - start > 1:
        middle = start + _left_size(end - start)
        if index < middle:
            proof.append(_range_root(middle, end, node))
            end = middle
        else:
            proof.append(_range_root(start, middle, node))
            start = middle
    return proof[::-1]


def consistency_proof(old: int, new: int, node: SubtreeHash) -> list[bytes]:
    """Prove that the tree of `new` leaves begins with that of `old`; ValueError if it cannot."""
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} leaves cannot begin with {old}")
    if old in (0, new):
        return []
    proof, start, end, known = [], 0, new, True
    while end != old:
        middle = start + _left_size(end - start)
        if old <= middle:
            proof.append(_range_root(middle, end, node))
            end = middle
        else:
            proof.append(_range_root(start, middle, node))
            start, known = middle, False
    if not known:
        proof.append(_range_root(start, end, node))
    return proof[::-1]


def verify_inclusion(
    index: int, size: int, leaf_hash: bytes, proof: Sequence[bytes], root: bytes
) -> bool:
    """Say whether `proof` proves that this leaf hash is at `index` in that tree."""
    if not 0 <= index < size:
        return False
    position, last, found = index, size - 1, leaf_hash
    for sibling in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            found = hash_children(sibling, found)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            found = hash_children(found, sibling)
        position >>= 1
        last >>= 1
    return last == 0 and found == root


def verify_consistency(
    old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Say whether `proof` proves that the new tree begins with the old one."""
    if not 0 <= old <= new:
        return False
    if old == new:
        return not proof and old_root == new_root
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        return False
    position, last = old - 1, new - 1
    while position & 1:
        position >>= 1
        last >>= 1
    before = after = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            before, after = hash_children(sibling, before), hash_children(sibling, after)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            after = hash_children(after, sibling)
        position >>= 1
        last >>= 1
    return last == 0 and before == old_root and after == new_root


def _left_size(size: int) -> int:
    return 1 << ((size - 1).bit_length() - 1)


def _range_root(start: int, end: int, node: SubtreeHash) -> bytes:
    size = end - start
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return node(level, start >> level)
    middle = start + _left_size(size)
    return hash_children(_range_root(start, middle, node), _range_root(middle, end, node))
