"""Signs and opens notes and checkpoints (C2SP signed-note and tlog-checkpoint).

A note is a text with signatures below it. It is UTF-8, and has no control characters except line
feeds. For example

    ssps/transfer/5f0c9b1e8a63d274
    17
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
    2023-05-14T14:00:03.000041Z

    — ssps/transfer/5f0c9b1e8a63d274 Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5...

The text ends with the line feed before the last empty line. A signature line is an em dash, a
space, the key's name, a space and base64. The base64 holds four bytes that identify the key,
SHA-256(name || 0x0A || 0x01 || public key)[:4], and then the ed25519 signature over the text.

Other kinds of signatures are ignored, such as those of witnesses (keys/ledger/cosignature).

A checkpoint is a note whose text has these lines: the log's origin, the number of leaves, their
root hash in base64 (RFC 6962), and, in an extension line of our own, the time of signing. The
key's name is the origin.

Do not trust a note's text until the signature of a known key is verified: use `open_note` or
`open_checkpoint`. Use the functions named `unverified_` only to decide what to open.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_public_key,
)

_ED25519 = b"\x01"
_SIGNATURE_PREFIX = "— "
_MAX_SIGNATURES = 100
_MAX_BYTES = 1 << 20
_SIZE = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


class UnknownSigner(Exception):
    """No known key has signed the note."""


class WrongSignature(Exception):
    """A signature by a known key does not match the text above it."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key, and its name in signatures."""

    name: str
    key: Ed25519PublicKey

    def __post_init__(self) -> None:
        if not _is_name(self.name):
            raise ValueError(f"{self.name!r} is not a key name, write one without spaces or +")

    @property
    def public(self) -> bytes:
        """The key's 32 bytes."""
        return self.key.public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def id(self) -> bytes:
        """The four bytes that identify the key in a signature."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    def __str__(self) -> str:
        """Return the key as C2SP's tools take it: name+id+key."""
        return f"{self.name}+{self.id.hex()}+{encode_base64(_ED25519 + self.public)}"


@dataclass(frozen=True, slots=True)
class Note:
    """A text, and the names of the known keys that have signed it."""

    text: str
    signed_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The size of a log, the root hash over its records, and the time of signing if it has one."""

    origin: str
    size: int
    root: bytes
    time: datetime | None = None


def parse_verifier(text: str) -> Verifier:
    """Read name+id+key; ValueError for anything else."""
    name, plus, rest = text.partition("+")
    stated, plus, key = rest.partition("+")
    try:
        raw = decode_base64(key) if plus else b""
    except ValueError:
        raw = b""
    if len(raw) != 33 or raw[:1] != _ED25519:
        raise ValueError("not an ed25519 key of the form name+id+key")
    found = Verifier(name, Ed25519PublicKey.from_public_bytes(raw[1:]))
    if found.id.hex() != stated:
        raise ValueError(f"names its key {stated}, but the key is {found.id.hex()}")
    return found


def parse_public_key(text: str) -> Ed25519PublicKey:
    """Read a public key as `ssh-ed25519 AAAA...` or name+id+key; ValueError for anything else."""
    if not text.startswith("ssh-"):
        return parse_verifier(text.strip()).key
    try:
        found = load_ssh_public_key(text.encode())
    except Exception as error:  # cryptography raises many kinds
        raise ValueError(f"not a public key ({error})") from None
    if not isinstance(found, Ed25519PublicKey):
        raise ValueError("not an ed25519 key, but ledgers are signed with one")
    return found


def sign(text: str, name: str, key: Ed25519PrivateKey) -> bytes:
    """Sign a text that ends with a line feed; ValueError if it cannot be the text of a note."""
    if not _is_text(text):
        raise ValueError("a note's text ends with a line feed and has no control characters")
    verifier = Verifier(name, key.public_key())
    signature = encode_base64(verifier.id + key.sign(text.encode()))
    return f"{text}\n{_SIGNATURE_PREFIX}{name} {signature}\n".encode()


def open_note(message: bytes, verifiers: Iterable[Verifier]) -> Note:
    """Read a note that at least one of `verifiers` has signed.

    Raises ValueError if `message` is not a note, WrongSignature if the signature of a known key
    does not match, and UnknownSigner if no known key has signed it.
    """
    text, signatures = _parse_note(message)
    known = {(v.name, v.id): v for v in verifiers}
    signed: list[str] = []
    for name, raw in signatures:
        verifier = known.get((name, raw[:4]))
        if verifier is None or name in signed:
            continue
        try:
            verifier.key.verify(raw[4:], text.encode())
        except InvalidSignature:
            raise WrongSignature(f"the signature by {name} does not match the text") from None
        signed.append(name)
    if not signed:
        raise UnknownSigner("not signed by any known key")
    return Note(text, tuple(signed))


def format_checkpoint(checkpoint: Checkpoint) -> str:
    """Write a checkpoint as the text of a note."""
    lines = [checkpoint.origin, str(checkpoint.size), encode_base64(checkpoint.root)]
    if checkpoint.time is not None:
        stamp = checkpoint.time.astimezone(UTC).isoformat(timespec="microseconds")
        lines.append(stamp.removesuffix("+00:00") + "Z")
    return "".join(line + "\n" for line in lines)


def parse_checkpoint(text: str) -> Checkpoint:
    """Read a checkpoint from a note's text; ValueError if it is none.

    Unknown extension lines are ignored, as the specification asks.
    """
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() or not all(lines):
        raise ValueError("not a checkpoint: needs three lines or more, none of them empty")
    origin, size, root, *more = lines
    if not _SIZE.fullmatch(size):
        raise ValueError(f"not a checkpoint: {size[:40]!r} is not a size")
    try:
        found = decode_base64(root)
    except ValueError:
        found = b""
    if len(found) != sha256().digest_size:
        raise ValueError("not a checkpoint: the root is not a SHA-256 hash in base64")
    return Checkpoint(origin, int(size), found, _parse_time(more))


def sign_checkpoint(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> bytes:
    """Sign a checkpoint under its origin."""
    return sign(format_checkpoint(checkpoint), checkpoint.origin, key)


def open_checkpoint(message: bytes, keys: Iterable[Ed25519PublicKey]) -> Checkpoint:
    """Read a checkpoint that one of `keys` has signed under its origin.

    Raises what `open_note` raises.
    """
    claimed = unverified_checkpoint(message)
    if not _is_name(claimed.origin):
        raise ValueError("not a checkpoint: its origin has spaces or +")
    open_note(message, [Verifier(claimed.origin, key) for key in keys])
    return claimed


def unverified_checkpoint(message: bytes) -> Checkpoint:
    """Return what a checkpoint says without checking signatures; ValueError if it is none."""
    return parse_checkpoint(_parse_note(message)[0])


def unverified_parts(message: bytes) -> tuple[str, list[tuple[str, bytes]]]:
    """Return a note's text, and name and bytes of each signature; ValueError if it is none."""
    return _parse_note(message)


def split_notes(messages: bytes) -> list[bytes]:
    """Split notes of one signature each, written one after the other; drop an incomplete last one.

    This is the format of a checkpoint history. Only signature lines begin with an em dash.
    """
    found, start = [], 0
    dash = ("\n\n" + _SIGNATURE_PREFIX).encode()
    while (at := messages.find(dash, start)) >= 0:
        end = messages.find(b"\n", at + len(dash)) + 1
        if not end:
            break
        found.append(messages[start:end])
        start = end
    return found


def encode_base64(raw: bytes) -> str:
    """Return standard base64 with padding (RFC 4648 section 4)."""
    return base64.b64encode(raw).decode()


def decode_base64(text: str) -> bytes:
    """Read what `encode_base64` wrote; ValueError for any other spelling of the same bytes."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64") from None
    if encode_base64(raw) != text:
        raise ValueError("not base64")
    return raw


def _parse_note(message: bytes) -> tuple[str, list[tuple[str, bytes]]]:
    if len(message) > _MAX_BYTES:
        raise ValueError("not a signed note: too long")
    try:
        whole = message.decode()
    except UnicodeDecodeError:
        raise ValueError("not a signed note: not UTF-8") from None
    text, empty, under = whole.rpartition("\n\n")
    text += "\n"
    if not (empty and _is_text(text) and _is_text(under)):
        raise ValueError("not a signed note: needs a text, an empty line, signatures")
    lines = under.split("\n")[:-1]
    if len(lines) > _MAX_SIGNATURES:
        raise ValueError("not a signed note: too many signatures")
    return text, [_parse_signature(line) for line in lines]


def _parse_signature(line: str) -> tuple[str, bytes]:
    name, space, signature = line.removeprefix(_SIGNATURE_PREFIX).partition(" ")
    wrong = "not a signed note: a signature line is `— name base64`"
    try:
        raw = decode_base64(signature)
    except ValueError:
        raise ValueError(wrong) from None
    if not (line.startswith(_SIGNATURE_PREFIX) and space and _is_name(name) and len(raw) > 4):
        raise ValueError(wrong)
    return name, raw


def _is_text(text: str) -> bool:
    return text.endswith("\n") and not any(c < " " and c != "\n" for c in text)


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(c.isspace() or c < " " for c in name)


def _parse_time(lines: Sequence[str]) -> datetime | None:
    for line in lines:
        try:
            return datetime.strptime(line, _TIME).replace(tzinfo=UTC)
        except ValueError:
            continue
    return None
