from collections.abc import Sequence
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.ledger import merkle
from keys.ledger.merkle import MerkleTree

# The vectors that Certificate Transparency publishes for RFC 6962: eight leaves, the roots of
# the first one, two, ... of them, and proofs (its leaves count from 1, ours from 0).
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
_96A2 = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
_5F08 = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
_6B47 = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
_BC1A = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
_CA85 = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
_0EBC = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
INCLUSION = [
    (0, 1, []),
    (0, 8, [_96A2, _5F08, _6B47]),
    (5, 8, [_BC1A, _CA85, ROOTS[4]]),
    (2, 3, [ROOTS[2]]),
    (1, 5, [ROOTS[1], _5F08, _BC1A]),
]
CONSISTENCY = [
    (1, 1, []),
    (1, 8, [_96A2, _5F08, _6B47]),
    (6, 8, [_0EBC, _CA85, ROOTS[4]]),
    (2, 5, [_5F08, _BC1A]),
]


def nodes(leaves: Sequence[bytes]) -> merkle.SubtreeHash:
    def node(level: int, index: int) -> bytes:
        if level == 0:
            return merkle.hash_leaf(leaves[index])
        return merkle.hash_children(node(level - 1, 2 * index), node(level - 1, 2 * index + 1))

    return node


def reference_root(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962 2.1, literally."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + reference_root(leaves[:k]) + reference_root(leaves[k:])).digest()


def hexed(proof: Sequence[bytes]) -> list[str]:
    return [each.hex() for each in proof]


def test_roots_are_the_published_ones() -> None:
    growing = MerkleTree()
    for size, root in enumerate(ROOTS):
        assert growing.root().hex() == root
        assert merkle.root_hash(size, nodes(LEAVES)).hex() == root
        if size < len(LEAVES):
            growing.append(merkle.hash_leaf(LEAVES[size]))


@pytest.mark.parametrize(("index", "size", "proof"), INCLUSION)
def test_inclusion_proofs_are_the_published_ones(index: int, size: int, proof: list[str]) -> None:
    found = merkle.inclusion_proof(index, size, nodes(LEAVES))

    assert hexed(found) == proof
    root = bytes.fromhex(ROOTS[size])
    assert merkle.verify_inclusion(index, size, merkle.hash_leaf(LEAVES[index]), found, root)


@pytest.mark.parametrize(("old", "new", "proof"), CONSISTENCY)
def test_consistency_proofs_are_the_published_ones(old: int, new: int, proof: list[str]) -> None:
    found = merkle.consistency_proof(old, new, nodes(LEAVES))

    assert hexed(found) == proof
    assert merkle.verify_consistency(
        old, bytes.fromhex(ROOTS[old]), new, bytes.fromhex(ROOTS[new]), found
    )


def test_every_proof_of_small_trees_verifies_and_no_other_does() -> None:
    leaves = [bytes([n]) for n in range(20)]
    node = nodes(leaves)
    roots = [reference_root(leaves[:size]) for size in range(21)]
    for size in range(1, 21):
        for index in range(size):
            proof = merkle.inclusion_proof(index, size, node)
            hashed = merkle.hash_leaf(leaves[index])
            assert merkle.verify_inclusion(index, size, hashed, proof, roots[size])
            assert not merkle.verify_inclusion(index, size, hashed, [*proof, hashed], roots[size])
            assert not merkle.verify_inclusion(index, size, hashed, proof, roots[size - 1])
            assert not merkle.verify_inclusion(index + 1, size, hashed, proof, roots[size])
            assert not merkle.verify_inclusion(index ^ 2, size, hashed, proof, roots[size])
            assert not merkle.verify_inclusion(
                index, size, merkle.hash_leaf(b"x"), proof, roots[size]
            )
            for at in range(len(proof)):
                assert not merkle.verify_inclusion(
                    index, size, hashed, proof[:at] + proof[at + 1 :], roots[size]
                )
        for old in range(size):
            proof = merkle.consistency_proof(old, size, node)
            assert merkle.verify_consistency(old, roots[old], size, roots[size], proof)
            assert not merkle.verify_consistency(old, roots[old + 1], size, roots[size], proof)
            assert (
                not merkle.verify_consistency(old, roots[old], size, roots[size - 1], proof)
                or old == 0
            )
            assert not merkle.verify_consistency(
                old, roots[old], size, roots[size], [*proof, b"x" * 32]
            )
            for at in range(len(proof)):
                wrong = [*proof[:at], b"\x00" * 32, *proof[at + 1 :]]
                assert not merkle.verify_consistency(old, roots[old], size, roots[size], wrong)


@given(st.lists(st.binary(max_size=4), max_size=70), st.data())
def test_a_tree_continues_from_its_peaks(leaves: list[bytes], data: st.DataObject) -> None:
    half = data.draw(st.integers(0, len(leaves)))
    growing = MerkleTree(half, merkle.peaks(half, nodes(leaves)))
    for line in leaves[half:]:
        growing.append(merkle.hash_leaf(line))

    assert growing.root() == reference_root(leaves)
    assert growing.root() == merkle.root_hash(len(leaves), nodes(leaves))


@given(
    st.integers(-2, 2**70),
    st.integers(-2, 2**70),
    st.binary(min_size=32, max_size=32),
    st.lists(st.binary(min_size=32, max_size=32), max_size=80),
)
def test_a_made_up_proof_is_refused_without_an_exception(
    small: int, large: int, root: bytes, proof: list[bytes]
) -> None:
    assert not merkle.verify_inclusion(small, large, merkle.hash_leaf(b"x"), proof, root)
    if not (small == large or (small == 0 and root == merkle.EMPTY_ROOT)):
        assert not merkle.verify_consistency(small, root, large, merkle.hash_leaf(b"x"), proof)


def test_a_proof_of_a_leaf_or_a_tree_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="a tree of 8 has no leaf 8"):
        merkle.inclusion_proof(8, 8, nodes(LEAVES))
    with pytest.raises(ValueError, match="a tree of 7 leaves cannot begin with 8"):
        merkle.consistency_proof(8, 7, nodes(LEAVES))
