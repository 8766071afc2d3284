from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from unit.keys.ledger.signed_ledgers import make_signed, write

from config.event import Event
from keys.ledger import merkle, note
from keys.ledger.note import Checkpoint
from keys.ledger.receipt import (
    InvalidReceipt,
    NotSignedYet,
    Receipt,
    format_receipt,
    make_receipt,
    parse_receipt,
    verify_receipt,
)
from keys.ledger.record import Record, format_record
from keys.ledger.tiles import HashesDamaged

NOON = datetime(2023, 5, 14, 14, 0, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
LINES = [
    format_record(Record(n, NOON, n, Event("close", "parti-a", "", f"/{n}.jpg"))) for n in range(7)
]


def node(level: int, index: int) -> bytes:
    if level == 0:
        return merkle.hash_leaf(LINES[index])
    return merkle.hash_children(node(level - 1, 2 * index), node(level - 1, 2 * index + 1))


HEAD = Checkpoint("ssps/transfer/5f0c9b1e8a63d274", 7, merkle.root_hash(7, node), NOON)
SIGNED = note.sign_checkpoint(HEAD, KEY)


def receipt(index: int) -> Receipt:
    return Receipt(LINES[index], index, tuple(merkle.inclusion_proof(index, 7, node)), SIGNED)


def test_a_receipt_is_made_of_a_signed_record_and_of_no_other(tmp_path: Path) -> None:
    folder = make_signed(tmp_path / "transfer", count=10)
    write(folder, 1, 10)

    record, checkpoint = verify_receipt(make_receipt(folder, 7), [KEY.public_key()])

    assert (record.seq, record.event.what, checkpoint.size) == (7, "/7.jpg", 10)
    with pytest.raises(NotSignedYet, match="record 10 is not signed yet"):
        make_receipt(folder, 10)


def test_a_receipt_is_sound_though_the_stored_hashes_of_lines_are_damaged(tmp_path: Path) -> None:
    folder = make_signed(tmp_path / "transfer", count=600, step=300)
    stored = folder / "000000000000.hashes"
    hashes = bytearray(stored.read_bytes())
    hashes[6 * 32 : 9 * 32] = bytes(3 * 32)
    hashes[520 * 32 :] = bytes(80 * 32)
    stored.write_bytes(hashes)

    for seq in (7, 255, 519, 599):
        record, _ = verify_receipt(make_receipt(folder, seq), [KEY.public_key()])
        assert record.seq == seq


def test_no_receipt_is_made_of_hashes_that_prove_nothing(tmp_path: Path) -> None:
    folder = make_signed(tmp_path / "transfer", count=600, step=300)
    (folder / "tree-8").write_bytes(bytes(2 * 32))

    with pytest.raises(HashesDamaged, match="restart the daemons"):
        make_receipt(folder, 7)


def test_a_receipt_proves_its_record() -> None:
    for index in range(7):
        found = parse_receipt(format_receipt(receipt(index)))

        assert found == receipt(index)
        record, checkpoint = verify_receipt(found, [KEY.public_key()])
        assert (record.seq, record.event.what, checkpoint) == (index, f"/{index}.jpg", HEAD)


@pytest.mark.parametrize("bit", range(8))
def test_a_receipt_with_any_bit_flipped_is_refused(bit: int) -> None:
    text = format_receipt(receipt(5))
    for place in range(len(text)):
        flipped = bytearray(text)
        flipped[place] ^= 1 << bit
        with pytest.raises((ValueError, InvalidReceipt)):
            verify_receipt(parse_receipt(bytes(flipped)), [KEY.public_key()])


def test_a_receipt_for_another_key_or_another_index_is_refused() -> None:
    with pytest.raises(InvalidReceipt, match="not signed by any of the given keys"):
        verify_receipt(receipt(3), [Ed25519PrivateKey.generate().public_key()])
    moved = Receipt(LINES[3], 4, receipt(4).proof, SIGNED)
    with pytest.raises(InvalidReceipt, match="is not number 4 of the signed ledger"):
        verify_receipt(moved, [KEY.public_key()])


def test_a_signed_line_that_is_not_that_record_is_refused() -> None:
    for line, message in ((b"rubbish\n", "is not a record"), (LINES[3], "record 3 is at index 0")):
        head = Checkpoint("ssps/transfer/x", 1, merkle.hash_leaf(line), NOON)
        with pytest.raises(InvalidReceipt, match=message):
            verify_receipt(
                Receipt(line, 0, (), note.sign_checkpoint(head, KEY)), [KEY.public_key()]
            )


@given(st.binary(max_size=400))
def test_rubbish_is_refused(rubbish: bytes) -> None:
    with pytest.raises(ValueError, match="not a receipt"):
        parse_receipt(rubbish)


@given(
    st.lists(
        st.sampled_from(
            [
                "c2sp.org/tlog-proof@v1\n",
                "extra YQ==\n",
                "index 0\n",
                "index 00\n",
                "\n",
                "x\n",
                "index " + "9" * 5000 + "\n",
                "A" * 43 + "=\n",
                "index ٣\n",
                "ssps/x\n1\n",
            ]
        ),
        max_size=9,
    )
)
def test_pieces_of_receipts_in_any_order_prove_nothing(pieces: list[str]) -> None:
    try:
        found = parse_receipt("".join(pieces).encode())
    except ValueError:
        return
    with pytest.raises(InvalidReceipt):
        verify_receipt(found, [KEY.public_key()])
