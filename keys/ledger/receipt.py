"""Makes and verifies receipts: one record of a ledger, and the proof that it is in the ledger.

The format is C2SP's tlog-proof, one text file that anyone with the public key can check:

    c2sp.org/tlog-proof@v1
    extra eyJkZXRhaWwiOnsiYnl0ZXMi...        the ledger's line, in base64
    index 41
    gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=     the inclusion proof (RFC 6962), a hash a line
    B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=

    ssps/transfer/5f0c9b1e8a63d274           a signed checkpoint, as keys/ledger/note has it
    ...
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from keys.ledger import merkle, note, segments
from keys.ledger.merkle import MerkleTree
from keys.ledger.note import Checkpoint, decode_base64, encode_base64
from keys.ledger.record import Record, parse_record, seq_of
from keys.ledger.tiles import HashesDamaged, HashReader

_HEADER = "c2sp.org/tlog-proof@v1"
_BLOCK = 256  # lines; a larger subtree has a stored root
_MAX_BYTES = 1 << 20
_MAX_HASHES = 64


class InvalidReceipt(Exception):
    """The receipt does not prove what it claims."""


class NotSignedYet(Exception):
    """The newest checkpoint of the ledger does not cover the record yet."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A line of a ledger, its index, the inclusion proof and the signed checkpoint."""

    line: bytes
    index: int
    proof: tuple[bytes, ...]
    checkpoint: bytes


def make_receipt(folder: Path, seq: int) -> Receipt:
    """Make the receipt of record `seq` of the ledger in `folder`.

    Raises NotSignedYet, HashesMissing if the folder lacks hash files, or HashesDamaged if these and
    the lines beside the record do not prove it.
    """
    message = segments.read_checkpoint(folder)
    signed = note.unverified_checkpoint(message) if message is not None else None
    if message is None or signed is None or seq >= signed.size:
        raise NotSignedYet(f"record {seq} is not signed yet")
    line = next(line for _, _, line in segments.read_lines(folder, seq) if _has_seq(line, seq))
    # The signer checks the stored hashes of subtrees when it starts, but not those of all lines.
    for node in (HashReader(folder).node, _node_of_lines(folder)):
        proof = merkle.inclusion_proof(seq, signed.size, node)
        leaf = merkle.hash_leaf(line)
        if merkle.verify_inclusion(seq, signed.size, leaf, proof, signed.root):
            return Receipt(line, seq, tuple(proof), message)
    raise HashesDamaged(
        f"its hashes do not prove record {seq}: restart the daemons, which compute them "
        "again; if it stays so, run `ssps audit verify`"
    )


def _node_of_lines(folder: Path) -> merkle.SubtreeHash:
    """Return the hashes of subtrees, of small ones computed from their lines."""
    stored = HashReader(folder)

    @cache
    def leaves(block: int) -> list[bytes]:
        first = block * _BLOCK
        lines = (line for _, _, line in segments.read_lines(folder, first) if seq_of(line) >= first)
        return [merkle.hash_leaf(line) for line in islice(lines, _BLOCK)]

    def node(level: int, index: int) -> bytes:
        first, count = index << level, 1 << level
        here = leaves(first // _BLOCK)[first % _BLOCK :][:count] if count < _BLOCK else []
        if len(here) < count:  # a large one, or its lines were moved away
            return stored.node(level, index)
        tree = MerkleTree()
        tree.extend(here)
        return tree.root()

    return node


def _has_seq(line: bytes, seq: int) -> bool:
    try:
        return parse_record(line).seq == seq
    except ValueError:
        return False


def format_receipt(receipt: Receipt) -> bytes:
    """Write a receipt."""
    lines = [_HEADER, f"extra {encode_base64(receipt.line)}", f"index {receipt.index}"]
    lines += map(encode_base64, receipt.proof)
    return ("\n".join(lines) + "\n\n").encode() + receipt.checkpoint


def parse_receipt(text: bytes) -> Receipt:
    """Read a receipt; ValueError if it is not one. This verifies nothing."""
    head, empty, checkpoint = text.partition(b"\n\n")
    if not empty or len(text) > _MAX_BYTES:
        raise ValueError("not a receipt: needs a proof, an empty line, a checkpoint")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise ValueError("not a receipt: not text") from None
    if len(lines) < 3 or lines[0] != _HEADER or len(lines) > 3 + _MAX_HASHES:
        raise ValueError(f"not a receipt: its first line is not {_HEADER}")
    extra, index, *proof = lines[1:]
    digits = index.removeprefix("index ")
    if not extra.startswith("extra ") or digits == index or not digits.isdigit():
        raise ValueError("not a receipt: no record or no index")
    if len(digits) > 15 or str(int(digits)) != digits:
        raise ValueError(f"not a receipt: {digits[:40]!r} is not an index")
    try:
        line = decode_base64(extra.removeprefix("extra "))
        hashes = tuple(map(decode_base64, proof))
    except ValueError as error:
        raise ValueError(f"not a receipt: {error}") from None
    if any(len(each) != merkle.HASH_SIZE for each in hashes):
        raise ValueError(f"not a receipt: a hash does not have {merkle.HASH_SIZE} bytes")
    return Receipt(line, int(digits), hashes, checkpoint)


def verify_receipt(receipt: Receipt, keys: Sequence[Ed25519PublicKey]) -> tuple[Record, Checkpoint]:
    """Return the proven record and the checkpoint that proves it.

    Raises InvalidReceipt with the cause. The steps:

    1. The checkpoint is signed by one of `keys`.
    2. The line is the leaf of that index under the checkpoint's root (RFC 9162 2.1.3.2).
    3. The line is a record, and its own number is that index.
    """
    # Step 1.
    try:
        checkpoint = note.open_checkpoint(receipt.checkpoint, keys)
    except note.UnknownSigner:
        raise InvalidReceipt("its checkpoint is not signed by any of the given keys") from None
    except (note.WrongSignature, ValueError) as error:
        raise InvalidReceipt(f"its checkpoint: {error}") from None
    # Step 2.
    leaf, size, root = merkle.hash_leaf(receipt.line), checkpoint.size, checkpoint.root
    if not merkle.verify_inclusion(receipt.index, size, leaf, receipt.proof, root):
        raise InvalidReceipt(f"the record is not number {receipt.index} of the signed ledger")
    # Step 3.
    try:
        record = parse_record(receipt.line)
    except ValueError as error:
        raise InvalidReceipt(f"the signed line is not a record ({error})") from None
    if record.seq != receipt.index:
        raise InvalidReceipt(f"record {record.seq} is at index {receipt.index}")
    return record, checkpoint
