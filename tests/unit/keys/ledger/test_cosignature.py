import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from unit.keys.ledger.signed_ledgers import KEY, NOON

from keys.ledger import cosignature, note
from keys.ledger.cosignature import Witness, parse_witness
from keys.ledger.note import Checkpoint, UnknownSigner, WrongSignature

MINE = Ed25519PrivateKey.from_private_bytes(b"w" * 32)
WITNESS = Witness("parti-a", MINE.public_key())
SIGNED = note.sign_checkpoint(Checkpoint("ssps/filing/0123456789abcdef", 17, b"r" * 32, NOON), KEY)


def test_a_cosigned_checkpoint_is_still_a_checkpoint_of_its_signer() -> None:
    message = cosignature.cosign(SIGNED, "parti-a", MINE, 1684072803)

    assert message.startswith(SIGNED)
    assert message[len(SIGNED) :].decode().startswith("— ssps/witness/parti-a ")
    assert cosignature.open_cosignature(message, WITNESS) == 1684072803
    assert note.open_checkpoint(message, [KEY.public_key()]).size == 17


def test_the_signed_text_is_that_of_the_specification() -> None:
    message = cosignature.cosign(SIGNED, "parti-a", MINE, 1684072803)
    raw = note.unverified_parts(message)[1][1][1]

    text = b"cosignature/v1\ntime 1684072803\n" + SIGNED[: SIGNED.index(b"\n\n") + 1]
    MINE.public_key().verify(raw[12:], text)
    assert (raw[:4], int.from_bytes(raw[4:12], "big"), len(raw)) == (WITNESS.id, 1684072803, 76)


def test_a_key_is_read_as_it_was_written() -> None:
    assert parse_witness(str(WITNESS)).public == WITNESS.public
    name, number, key = str(WITNESS).split("+", 2)
    for odd in (f"{name}+00000000+{key}", f"ssps/x+{number}+{key}", name, f"{name}+{number}", ""):
        with pytest.raises(ValueError):
            parse_witness(odd)
    other = note.Verifier(WITNESS.name, MINE.public_key())  # the same key as a signer of notes
    with pytest.raises(ValueError):
        parse_witness(str(other))


def test_a_changed_text_time_or_key_is_refused() -> None:
    message = cosignature.cosign(SIGNED, "parti-a", MINE, 1684072803)

    with pytest.raises(WrongSignature):
        cosignature.open_cosignature(message.replace(b"\n17\n", b"\n18\n"), WITNESS)
    with pytest.raises(UnknownSigner):
        cosignature.open_cosignature(SIGNED, WITNESS)
    with pytest.raises(UnknownSigner):
        cosignature.open_cosignature(message, Witness("parti-a", KEY.public_key()))
    with pytest.raises(ValueError):
        cosignature.open_cosignature(b"no note", WITNESS)
