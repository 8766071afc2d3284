from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from config.event import Event
from keys.ledger.signer import Signer
from keys.ledger.writer import Ledger, WritePolicy

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
NOON = datetime(2023, 5, 14, 14, 0, tzinfo=UTC)

Signed = Callable[..., Path]


def write(folder: Path, count: int, start: int = 0, size: int = 64 << 20) -> None:
    """Append `count` records of opened files, /<start>.jpg and so on."""
    with Ledger(folder, lambda: NOON, policy=WritePolicy(segment_bytes=size)) as writer:
        for number in range(start, start + count):
            detail = {"handle": number, "size": 10}
            writer.append(Event("open", "parti-a", "192.0.2.7", f"/{number}.jpg", detail=detail))


def write_public_key(path: Path) -> Path:
    """Write the public half of KEY as OpenSSH does."""
    path.write_bytes(KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
    return path


def make_signed(folder: Path, count: int = 30, step: int = 10, size: int = 64 << 20) -> Path:
    """Make a ledger that is signed after every `step` records, ten minutes apart."""
    for number in range(0, count, step):
        write(folder, step, number, size)
        when = NOON + timedelta(minutes=number)
        with Signer(folder, KEY, lambda when=when: when) as signer:  # type: ignore[misc]
            signer.sign(last=True)
    return folder
