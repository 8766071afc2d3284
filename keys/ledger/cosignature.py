"""Signs and verifies cosignatures: a party's statement that it has seen a checkpoint.

A witness is a program of a party (scripts/mirror --witness). It keeps the newest checkpoint that it
has cosigned of each ledger, and cosigns only a checkpoint of a ledger that extends that one. The
cosigned note alone then proves what the ledger had at that time.

The format is C2SP's tlog-cosignature, version 1: one more signature line below a checkpoint
(keys/ledger/note), for example

    ssps/filing/5f0c9b1e8a63d274
    17
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
    2023-05-14T14:00:03.000041Z

    — ssps/filing/5f0c9b1e8a63d274 Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5...
    — ssps/witness/parti-a jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2...

Its base64 holds four bytes that identify the key, SHA-256(name || 0x0A || 0x04 || public key)[:4],
eight bytes with the time in seconds since 1970, and the ed25519 signature over

    cosignature/v1
    time 1684072803
    <the text of the checkpoint>

A witness's key is written as name+id+key, as for a signer of notes, with the type 0x04.
"""

import re
from dataclasses import dataclass
from hashlib import sha256
from struct import Struct

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keys.ledger import note
from keys.ledger.note import UnknownSigner, WrongSignature, decode_base64, encode_base64

MAX_NOTE = 2048  # bytes of a cosigned checkpoint; an ordinary one has about 500
_TYPE = b"\x04"
_NAME = re.compile(r"ssps/witness/([a-z0-9][a-z0-9-]{0,62})", re.ASCII)
_time = Struct(">Q")
_LENGTH = 4 + 8 + 64


@dataclass(frozen=True, slots=True)
class Witness:
    """A party's public key for cosignatures."""

    party: str
    key: Ed25519PublicKey

    @property
    def name(self) -> str:
        """The key's name in signature lines."""
        return f"ssps/witness/{self.party}"

    @property
    def id(self) -> bytes:
        """The four bytes that identify the key in a signature line."""
        return sha256(self.name.encode() + b"\n" + _TYPE + self.public).digest()[:4]

    @property
    def public(self) -> bytes:
        """The key's 32 bytes."""
        return self.key.public_bytes(Encoding.Raw, PublicFormat.Raw)

    def __str__(self) -> str:
        """Return the key as C2SP's tools take it: name+id+key."""
        return f"{self.name}+{self.id.hex()}+{encode_base64(_TYPE + self.public)}"


def parse_witness(text: str) -> Witness:
    """Read name+id+key; ValueError for anything else."""
    name, _, rest = text.partition("+")
    stated, plus, key = rest.partition("+")
    named = _NAME.fullmatch(name)
    raw = decode_base64(key) if plus else b""
    if named is None or len(raw) != 33 or raw[:1] != _TYPE:
        raise ValueError("not a witness's key of the form ssps/witness/PARTY+id+key")
    found = Witness(named[1], Ed25519PublicKey.from_public_bytes(raw[1:]))
    if found.id.hex() != stated:
        raise ValueError(f"names its key {stated}, but the key is {found.id.hex()}")
    return found


def cosign(message: bytes, party: str, key: Ed25519PrivateKey, seconds: int) -> bytes:
    """Return a checkpoint with one more signature line; `seconds` is the time since 1970."""
    text, _ = note.unverified_parts(message)
    signer = Witness(party, key.public_key())
    raw = signer.id + _time.pack(seconds) + key.sign(_signed_text(text, seconds))
    return message + f"— {signer.name} {encode_base64(raw)}\n".encode()


def open_cosignature(message: bytes, witness: Witness) -> int:
    """Return when a witness has cosigned a checkpoint, in seconds since 1970.

    Raises ValueError if `message` is no note, UnknownSigner if the witness has not cosigned it, and
    WrongSignature.
    """
    text, signatures = note.unverified_parts(message)
    for name, raw in signatures:
        if name != witness.name or raw[:4] != witness.id or len(raw) != _LENGTH:
            continue
        (seconds,) = _time.unpack_from(raw, 4)
        if seconds >= 1 << 63:
            raise ValueError("not a cosignature: its time is too large")
        try:
            witness.key.verify(raw[12:], _signed_text(text, seconds))
        except InvalidSignature:
            raise WrongSignature(f"the cosignature by {name} does not match the text") from None
        return int(seconds)
    raise UnknownSigner(f"not cosigned by {witness.name}")


def _signed_text(text: str, seconds: int) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()
