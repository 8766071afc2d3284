"""A receipt: one record of a ledger and the proof that it stands in what was signed for.

The form is C2SP's tlog-proof, one text file that is checked with the public key alone:

    c2sp.org/tlog-proof@v1
    extra eyJkZXRhaWwiOnsiYnl0ZXMi...        the ledger's line, in base64
    index 41
    gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=     the hashes beside its path, RFC 6962
    B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=

    ssps/transfer/5f0c9b1e8a63d274           the signed checkpoint, as keys/ledger/note has it
    ...
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from keys.ledger import merkle, note
from keys.ledger.note import Checkpoint
from keys.ledger.record import Record, parse_record

_HEADER = "c2sp.org/tlog-proof@v1"
_MAX_BYTES = 1 << 20
_MAX_HASHES = 64


class InvalidReceipt(Exception):
    """The receipt does not prove what it says."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A line, its place, the proof, and the signed checkpoint."""

    line: bytes
    index: int
    proof: tuple[bytes, ...]
    checkpoint: bytes


def format_receipt(receipt: Receipt) -> bytes:
    """Write a receipt."""
    lines = [_HEADER, f"extra {_base64(receipt.line)}", f"index {receipt.index}"]
    lines += map(_base64, receipt.proof)
    return ("\n".join(lines) + "\n\n").encode() + receipt.checkpoint


def parse_receipt(text: bytes) -> Receipt:
    """Read a receipt; ValueError for what is none. Nothing is proved by that."""
    head, empty, checkpoint = text.partition(b"\n\n")
    if not empty or len(text) > _MAX_BYTES:
        raise ValueError("is no receipt: a proof, an empty line, a checkpoint")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise ValueError("is no receipt: no text") from None
    if len(lines) < 3 or lines[0] != _HEADER or len(lines) > 3 + _MAX_HASHES:
        raise ValueError(f"is no receipt: its first line is not {_HEADER}")
    extra, index, *proof = lines[1:]
    digits = index.removeprefix("index ")
    if not extra.startswith("extra ") or digits == index or not digits.isdigit():
        raise ValueError("is no receipt: no record or no index")
    if len(digits) > 15 or str(int(digits)) != digits:
        raise ValueError("is no receipt: its index is none")
    hashes = tuple(map(_unbase64, proof))
    if any(len(each) != merkle.HASH_SIZE for each in hashes):
        raise ValueError("is no receipt: a hash is none")
    return Receipt(_unbase64(extra.removeprefix("extra ")), int(digits), hashes, checkpoint)


def verify_receipt(receipt: Receipt, keys: Sequence[Ed25519PublicKey]) -> tuple[Record, Checkpoint]:
    """Return the record that is proved and what proves it; raise Unproved with the reason."""
    checkpoint = _signed(receipt.checkpoint, keys)
    hashed = merkle.hash_leaf(receipt.line)
    if not merkle.verify_inclusion(
        receipt.index, checkpoint.size, hashed, receipt.proof, checkpoint.root
    ):
        raise InvalidReceipt("this record does not stand at this place of what was signed for")
    try:
        record = parse_record(receipt.line)
    except ValueError as error:
        raise InvalidReceipt(f"what was signed for is no record ({error})") from None
    if record.seq != receipt.index:
        raise InvalidReceipt(f"record {record.seq} stands at place {receipt.index}")
    return record, checkpoint


def _signed(message: bytes, keys: Sequence[Ed25519PublicKey]) -> Checkpoint:
    for key in keys:
        try:
            return note.open_checkpoint(message, key)
        except note.UnknownSigner:
            continue
        except (note.WrongSignature, ValueError) as error:
            raise InvalidReceipt(f"its checkpoint {error}") from None
    raise InvalidReceipt("its checkpoint is signed by none of the keys that were given")


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _unbase64(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is no receipt: no base64") from None
    if _base64(raw) != text:
        raise ValueError("is no receipt: no base64")
    return raw
