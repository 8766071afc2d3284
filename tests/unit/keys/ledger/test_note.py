import base64
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from keys.ledger import note
from keys.ledger.note import Checkpoint, UnknownSigner, Verifier, WrongSignature

# Test vectors of the reference implementation (golang.org/x/mod/sumdb/note).
TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
PETER_SIG = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6"
    "KE6RyyBwJnAM=\n"
)
ENOCH_SIG = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WW"
    "d1RvMc+QQ=\n"
)
SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
# The example of C2SP's tlog-checkpoint, whose key is not published.
SOFA = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q"
    "1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
)
NOON = datetime(2023, 5, 14, 14, 0, 3, 41, tzinfo=UTC)
peter, enoch = note.parse_verifier(PETER), note.parse_verifier(ENOCH)
private = Ed25519PrivateKey.from_private_bytes(SEED)
GOLDEN = (
    "ssps/transfer/5f0c9b1e8a63d274\n17\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    "2023-05-14T14:00:03.000041Z\n"
)
ROOT = base64.b64decode("CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=")
HEAD = Checkpoint("ssps/transfer/5f0c9b1e8a63d274", 17, ROOT, NOON)


def test_a_signature_equals_that_of_the_reference_implementation() -> None:
    assert note.sign(TEXT, "PeterNeumann", private).decode() == f"{TEXT}\n{PETER_SIG}"
    assert str(Verifier("PeterNeumann", private.public_key())) == PETER


def test_a_note_signed_by_one_known_key_is_opened() -> None:
    message = f"{TEXT}\n{PETER_SIG}{ENOCH_SIG}".encode()

    assert note.open_note(message, [peter]) == note.Note(TEXT, ("PeterNeumann",))
    assert note.open_note(message, [peter, enoch]).signed_by == ("PeterNeumann", "EnochRoot")
    with pytest.raises(UnknownSigner):
        note.open_note(message, [])


def test_a_text_may_contain_empty_lines() -> None:
    text = "Ognuno sta solo\ntrafitto da un raggio:\n\ned è subito sera.\n"

    assert note.open_note(note.sign(text, "PeterNeumann", private), [peter]).text == text


@pytest.mark.parametrize(
    "message",
    [
        TEXT,
        f"{TEXT}\n",
        f"{TEXT}\n{PETER_SIG[:-1]}",
        f"\x01{TEXT}\n{PETER_SIG}",
        f"{TEXT}\n— Bad Name {PETER_SIG.split()[-1]}\n",
        f"{TEXT}\n{PETER_SIG}Unexpected line.\n",
        f"{TEXT}\n" + PETER_SIG * 101,
        f"{TEXT}\n— PeterNeumann x08g\n",
        f"{TEXT}\n— PeterNeumann x08go/=\n",
        "\n\n",
        "",
    ],
)
def test_a_malformed_note_is_refused(message: str) -> None:
    with pytest.raises(ValueError, match="not a signed note"):
        note.open_note(message.encode(), [peter])


def test_bytes_that_are_not_text_or_too_long_are_refused() -> None:
    with pytest.raises(ValueError, match="not UTF-8"):
        note.open_note(b"\xff" + f"{TEXT}\n{PETER_SIG}".encode(), [peter])
    with pytest.raises(ValueError, match="too long"):
        note.open_note(b"x" * (1 << 21), [peter])


@pytest.mark.parametrize("bit", range(8))
def test_a_note_with_any_bit_flipped_is_refused(bit: int) -> None:
    message = f"{TEXT}\n{PETER_SIG}".encode()
    for place in range(len(message)):
        flipped = bytearray(message)
        flipped[place] ^= 1 << bit
        with pytest.raises((ValueError, UnknownSigner, WrongSignature)):
            note.open_note(bytes(flipped), [peter])


def test_a_changed_text_and_an_unknown_key_are_different_errors() -> None:
    with pytest.raises(WrongSignature, match="signature by PeterNeumann does not match"):
        note.open_note(f"I{TEXT}\n{PETER_SIG}".encode(), [peter])
    with pytest.raises(UnknownSigner):
        note.open_note(f"{TEXT}\n{PETER_SIG}".encode(), [enoch])


def test_a_damaged_or_shortened_verifier_key_is_refused() -> None:
    for start in range(len(PETER)):
        for end in range(start, len(PETER) + 1):
            if (start, end) != (0, len(PETER)):
                with pytest.raises(ValueError):
                    note.parse_verifier(PETER[start:end])
    for place in range(len(PETER)):
        changed = PETER[:place] + chr(ord(PETER[place]) + 1) + PETER[place + 1 :]
        with pytest.raises(ValueError):
            note.parse_verifier(changed)


def test_the_key_id_is_that_of_the_specification() -> None:
    raw = bytes.fromhex("e932791ae6e7a840a46164c904786426d5e7821dd8b29a00d61cae72afdd4da4")

    verifier = Verifier("example.com/foo", Ed25519PublicKey.from_public_bytes(raw))

    assert verifier.id.hex() == "530d903a"


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u00a0b", "a\nb"])
def test_a_key_name_with_spaces_or_plus_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a key name"):
        note.sign(TEXT, name, private)


@pytest.mark.parametrize("text", ["", "abc", "a\tb\n", "a\r\n"])
def test_a_text_with_control_characters_is_not_signed(text: str) -> None:
    with pytest.raises(ValueError, match="ends with a line feed"):
        note.sign(text, "PeterNeumann", private)


def test_a_public_key_is_read_in_the_form_of_openssh_or_of_c2sp() -> None:
    line = peter.key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()

    for text in (line, f"{line} ysk 2023\n", PETER, PETER + "\n"):
        assert Verifier("x", note.parse_public_key(text)).public == peter.public
    for wrong in ("", "ssh-rsa AAAA", "ssh-ed25519 AAAA", "PeterNeumann", "a+b+c"):
        with pytest.raises(ValueError):
            note.parse_public_key(wrong)


def test_a_checkpoint_has_the_format_of_the_docstring() -> None:
    assert note.format_checkpoint(HEAD) == GOLDEN
    assert note.parse_checkpoint(GOLDEN) == HEAD
    assert note.open_checkpoint(note.sign_checkpoint(HEAD, private), [private.public_key()]) == HEAD


def test_the_example_of_the_specification_is_read() -> None:
    found = note.unverified_checkpoint(SOFA.encode())

    assert found == Checkpoint("example.com/behind-the-sofa", 20852163, ROOT)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n",
        "a\n1\n",
        GOLDEN[:-1],
        GOLDEN.replace("17", "017"),
        GOLDEN.replace("17", "-1"),
        GOLDEN.replace("17", "+1"),
        GOLDEN.replace("17", "1_7"),
        GOLDEN.replace("17", "٣"),
        GOLDEN.replace("17", "9" * 5000),
        GOLDEN.replace("q2I=", "q2I"),
        GOLDEN.replace("q2I=", "q2J="),
        GOLDEN.replace("CsUY", "CsU"),
        GOLDEN.replace("\n17", "\n\n17"),
    ],
)
def test_a_malformed_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a checkpoint"):
        note.parse_checkpoint(text)


def test_a_checkpoint_is_opened_by_any_of_several_keys() -> None:
    message = note.sign_checkpoint(HEAD, private)

    assert note.open_checkpoint(message, [enoch.key, private.public_key()]) == HEAD


def test_a_checkpoint_signed_with_another_key_is_refused() -> None:
    with pytest.raises(UnknownSigner):
        note.open_checkpoint(note.sign_checkpoint(HEAD, private), [enoch.key])


def test_a_history_is_split_into_its_notes_without_an_incomplete_last_one() -> None:
    first, second = note.sign_checkpoint(HEAD, private), f"{TEXT}\n{PETER_SIG}".encode()

    assert note.split_notes(first + second) == [first, second]
    for cut in range(1, len(second)):
        assert note.split_notes(first + second[:-cut]) == [first]
    assert note.split_notes(b"") == []


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_rubbish_is_not_a_note_a_checkpoint_or_a_key(rubbish: bytes) -> None:
    with pytest.raises((ValueError, UnknownSigner)):
        note.open_note(rubbish, [peter])
    with pytest.raises((ValueError, UnknownSigner)):
        note.open_checkpoint(rubbish, [peter.key])
    with pytest.raises(ValueError):
        note.parse_checkpoint(rubbish.decode(errors="replace"))
    with pytest.raises(ValueError):
        note.parse_public_key(rubbish.decode(errors="replace"))
    assert note.split_notes(rubbish) == [] or b"\xe2\x80\x94 " in rubbish


@given(st.lists(st.sampled_from([GOLDEN, "\n", "— a b\n", PETER_SIG, "é", "\x00", "x\n"])))
def test_pieces_of_notes_in_any_order_are_opened_or_refused(pieces: list[str]) -> None:
    message = "".join(pieces).encode()
    note.split_notes(message)
    try:
        note.open_note(message, [peter, enoch])
    except (ValueError, UnknownSigner, WrongSignature):
        return
