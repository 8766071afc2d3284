"""Merkle trees over a ledger's lines, after RFC 6962 2.1: roots and proofs, no I/O.

    leaf    SHA-256(0x00 || line), the line with its line feed
    node    SHA-256(0x01 || left || right)

A tree of n leaves has as its left subtree the largest power of two below n. A full subtree of
2**level leaves is named by (level, index): (0, 5) is the sixth leaf, (3, 0) the first eight.
Whoever makes a proof hands in a function that knows the hashes of full subtrees; whoever checks
one needs nothing but two roots or a root and a leaf.

    inclusion     the leaf of that index is in the tree of that root: the hashes beside its path
    consistency   a tree is the beginning of a larger one, nothing in between changed

Proofs are checked as RFC 9162 2.1.3.2 and 2.1.4.2 say. The empty tree's root is SHA-256 of
nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

SubtreeHash = Callable[[int, int], bytes]  # (level, index) -> the hash of a full subtree
EMPTY_ROOT = sha256().digest()
HASH_SIZE = 32


def hash_leaf(line: bytes) -> bytes:
    """Return the hash of one leaf."""
    return sha256(b"\x00" + line).digest()


def hash_children(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node over two others."""
    return sha256(b"\x01" + left + right).digest()


class MerkleTree:
    """A tree that grows: its size, and the roots of its full subtrees from left to right.

    `full` is told of each full subtree of 256, 65,536, ... leaves as it comes about, as
    (level, hash).
    """

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        self.size = size
        self._peaks = list(peaks)

    def copy(self) -> "MerkleTree":
        """Return another that grows by itself."""
        return MerkleTree(self.size, self._peaks)

    def append(self, leaf_hash: bytes) -> None:
        """Grow by one leaf."""
        self.extend((leaf_hash,))

    def extend(
        self, hashes: Iterable[bytes], full: Callable[[int, bytes], object] | None = None
    ) -> None:
        """Grow by leaves of those hashes."""
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
        """Return the root as it is now."""
        if not self._peaks:
            return EMPTY_ROOT
        found = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            found = hash_children(peak, found)
        return found


def peaks(size: int, node: SubtreeHash) -> list[bytes]:
    """Return what a Tree of that size goes on from."""
    found, start = [], 0
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            found.append(node(level, start >> level))
            start += 1 << level
    return found


def root_hash(size: int, node: SubtreeHash) -> bytes:
    """Return the root of the first `size` leaves."""
    return _range_root(0, size, node) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, node: SubtreeHash) -> list[bytes]:
    """Prove that leaf `index` is in the tree of `size` leaves; ValueError if it cannot be."""
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
    """Prove that the tree of `old` leaves begins that of `new`; ValueError if it cannot."""
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {old} does not begin one of {new}")
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
    """Say whether `proof` shows that leaf `index` of the tree with that size and root is that."""
    if not 0 <= index < size:
        return False
    place, last, found = index, size - 1, leaf_hash
    for sibling in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            found = hash_children(sibling, found)
            while not place & 1 and place:
                place >>= 1
                last >>= 1
        else:
            found = hash_children(found, sibling)
        place >>= 1
        last >>= 1
    return last == 0 and found == root


def verify_consistency(
    old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Say whether `proof` shows that the new tree begins with the old one."""
    if not 0 <= old <= new:
        return False
    if old == new:
        return not proof and old_root == new_root
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        return False
    place, last = old - 1, new - 1
    while place & 1:
        place >>= 1
        last >>= 1
    before = after = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            before, after = hash_children(sibling, before), hash_children(sibling, after)
            while not place & 1 and place:
                place >>= 1
                last >>= 1
        else:
            after = hash_children(after, sibling)
        place >>= 1
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
