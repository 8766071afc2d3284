"""Signed notes and the checkpoints in them, as C2SP's signed-note and tlog-checkpoint say.

A note is a text and the signatures under it, UTF-8 without control characters but line feeds:

    ssps/transfer/5f0c9b1e8a63d274
    17
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
    2023-05-14T14:00:03.000041Z

    — ssps/transfer/5f0c9b1e8a63d274 Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5...

The text ends with the line feed before the last empty line. A signature is base64 of four bytes
that name the key, SHA-256(name || 0x0A || 0x01 || public key)[:4], and of ed25519 over the text.
A checkpoint is a note whose text says: the log's origin, how many leaves, their root in base64
(RFC 6962), and in our own extension line when it was signed. The key's name is the origin.
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
    """No key that is known has signed the note."""


class WrongSignature(Exception):
    """A key that is known has not signed what its signature stands under."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key and the name it signs under."""

    name: str
    key: Ed25519PublicKey

    def __post_init__(self) -> None:
        if not _is_name(self.name):
            raise ValueError(f"{self.name!r} is no name for a key, write one without spaces or +")

    @property
    def public(self) -> bytes:
        """The key's 32 bytes."""
        return self.key.public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def id(self) -> bytes:
        """The four bytes that name the key in a signature."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    def __str__(self) -> str:
        """Return the key as C2SP's tools take it: name+id+key."""
        return f"{self.name}+{self.id.hex()}+{_base64(_ED25519 + self.public)}"


@dataclass(frozen=True, slots=True)
class Note:
    """A text, and the names of the keys that have signed it."""

    text: str
    signed_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How many records a log had, their root, and when that was signed, if it says so."""

    origin: str
    size: int
    root: bytes
    time: datetime | None = None


def parse_verifier(text: str) -> Verifier:
    """Read name+id+key; ValueError for anything else."""
    name, plus, rest = text.partition("+")
    stated, plus, key = rest.partition("+")
    raw = _unbase64(key) if plus else b""
    if len(raw) != 33 or raw[:1] != _ED25519:
        raise ValueError("is no ed25519 key of the form name+id+key")
    found = Verifier(name, Ed25519PublicKey.from_public_bytes(raw[1:]))
    if found.id.hex() != stated:
        raise ValueError(f"names its key {stated}, which is {found.id.hex()}")
    return found


def parse_public_key(text: str) -> Ed25519PublicKey:
    """Read a public key as `ssh-ed25519 AAAA...` or name+id+key; ValueError for anything else."""
    if not text.startswith("ssh-"):
        return parse_verifier(text.strip()).key
    try:
        found = load_ssh_public_key(text.encode())
    except Exception as error:  # it has many
        raise ValueError(f"is no public key ({error})") from None
    if not isinstance(found, Ed25519PublicKey):
        raise ValueError("is no ed25519 key, the record is signed with one")
    return found


def sign(text: str, name: str, key: Ed25519PrivateKey) -> bytes:
    """Sign a text that ends with a line feed; ValueError if it cannot be a note's."""
    if not _is_text(text):
        raise ValueError("a note's text ends with a line feed and has no control characters")
    verifier = Verifier(name, key.public_key())
    signature = _base64(verifier.id + key.sign(text.encode()))
    return f"{text}\n{_SIGNATURE_PREFIX}{name} {signature}\n".encode()


def open_note(message: bytes, verifiers: Iterable[Verifier]) -> Note:
    """Read a note that at least one of `verifiers` has signed.

    Raises ValueError for what is no note, Forged where a known key's signature does not hold,
    Unsigned where no known key has signed.
    """
    text, signatures = _parsed(message)
    known = {(v.name, v.id): v for v in verifiers}
    signed: list[str] = []
    for name, raw in signatures:
        verifier = known.get((name, raw[:4]))
        if verifier is None or name in signed:
            continue
        try:
            verifier.key.verify(raw[4:], text.encode())
        except InvalidSignature:
            raise WrongSignature(f"{name} has not signed this") from None
        signed.append(name)
    if not signed:
        raise UnknownSigner("no key that is known here has signed this")
    return Note(text, tuple(signed))


def unverified_text(message: bytes) -> str:
    """Return a note's text whoever has signed it; ValueError for what is no note."""
    return _parsed(message)[0]


def format_checkpoint(checkpoint: Checkpoint) -> str:
    """Write a checkpoint as the text of a note."""
    lines = [checkpoint.origin, str(checkpoint.size), _base64(checkpoint.root)]
    if checkpoint.time is not None:
        stamp = checkpoint.time.astimezone(UTC).isoformat(timespec="microseconds")
        lines.append(stamp.removesuffix("+00:00") + "Z")
    return "".join(line + "\n" for line in lines)


def parse_checkpoint(text: str) -> Checkpoint:
    """Read a note's text; ValueError for what is no checkpoint. What we do not know is let be."""
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() or not all(lines):
        raise ValueError("is no checkpoint: three lines or more, none of them empty")
    origin, size, hashed, *more = lines
    if not _SIZE.fullmatch(size):
        raise ValueError(f"is no checkpoint: {size[:40]!r} is no size")
    found = _unbase64(hashed)
    if len(found) != sha256().digest_size:
        raise ValueError("is no checkpoint: its root is none")
    return Checkpoint(origin, int(size), found, _time(more))


def open_checkpoint(message: bytes, key: Ed25519PublicKey) -> Checkpoint:
    """Read a checkpoint that `key` has signed under its origin; raises what `open_note` does."""
    claimed = parse_checkpoint(unverified_text(message))
    if not _is_name(claimed.origin):
        raise ValueError("is no checkpoint: its origin has spaces or +")
    open_note(message, [Verifier(claimed.origin, key)])
    return claimed


def sign_checkpoint(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> bytes:
    """Sign a checkpoint under its origin."""
    return sign(format_checkpoint(checkpoint), checkpoint.origin, key)


def split_notes(messages: bytes) -> list[bytes]:
    """Split notes of one signature each that stand one after the other; a torn last is left out.

    The form of a history: signature lines are the only ones that begin with a dash.
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


def _parsed(message: bytes) -> tuple[str, list[tuple[str, bytes]]]:
    if len(message) > _MAX_BYTES:
        raise ValueError("is no note: too long")
    try:
        whole = message.decode()
    except UnicodeDecodeError:
        raise ValueError("is no note: no UTF-8") from None
    text, empty, under = whole.rpartition("\n\n")
    text += "\n"
    if not (empty and _is_text(text) and _is_text(under)):
        raise ValueError("is no note: a text, an empty line, signatures")
    lines = under.split("\n")[:-1]
    if len(lines) > _MAX_SIGNATURES:
        raise ValueError("is no note: too many signatures")
    return text, [_signature(line) for line in lines]


def _signature(line: str) -> tuple[str, bytes]:
    name, space, signature = line.removeprefix(_SIGNATURE_PREFIX).partition(" ")
    raw = _unbase64(signature)
    if not (line.startswith(_SIGNATURE_PREFIX) and space and _is_name(name) and len(raw) > 4):
        raise ValueError("is no note: a signature is `— name base64`")
    return name, raw


def _is_text(text: str) -> bool:
    return text.endswith("\n") and not any(c < " " and c != "\n" for c in text)


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(c.isspace() or c < " " for c in name)


def _time(lines: Sequence[str]) -> datetime | None:
    for line in lines:
        try:
            return datetime.strptime(line, _TIME).replace(tzinfo=UTC)
        except ValueError:
            continue
    return None


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _unbase64(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return raw if _base64(raw) == text else b""
