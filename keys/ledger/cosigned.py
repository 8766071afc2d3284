"""Keeps the checkpoints that the parties' witnesses have cosigned, beside our own.

    state/cosigned/<party>/key              the witness's public key (keys/ledger/cosignature)
    state/cosigned/<party>/<ledger>         the newest cosigned checkpoint of that ledger
    state/cosigned/<party>/<ledger>.against one that the ledger does not extend: it was rolled back,
                                            or there were two of it

A party has at most two files for each ledger and one key. A file is replaced only by one of a
larger ledger, so it does not go back. Each is signed by this site's key as well, so no party can
have a checkpoint kept that the site has not signed.

A key is registered with the first cosignature of its party, on record, and stays until `ssps party
forget-witness` moves it to `key.former`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from keys import files
from keys.ledger import cosignature, note
from keys.ledger.anchors import Anchor
from keys.ledger.cosignature import Witness
from keys.ledger.note import Checkpoint, UnknownSigner, WrongSignature

KEY, FORMER = "key", "key.former"
_AGAINST = ".against"


@dataclass(frozen=True, slots=True)
class CosignedCheckpoint:
    """A kept checkpoint; `seconds` is when the witness has cosigned it, None if it has not."""

    party: str
    path: Path
    message: bytes
    checkpoint: Checkpoint
    seconds: int | None

    @property
    def source(self) -> str:
        """Its origin, as messages name it."""
        return f"checkpoint cosigned by {self.party}"

    @property
    def anchor(self) -> Anchor:
        """The anchor that the ledger must extend."""
        return Anchor(self.source, self.checkpoint)


def read_key(folder: Path) -> Witness | None:
    """Return the registered key in a party's folder, None if there is none; raise ValueError."""
    try:
        return cosignature.parse_witness((folder / KEY).read_text("ascii").strip())
    except FileNotFoundError:
        return None


def write_key(folder: Path, witness: Witness) -> None:
    """Register a party's key."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.replace(folder / KEY, f"{witness}\n".encode())


def forget_key(folder: Path) -> None:
    """Let the party register another key; what the old one has cosigned is kept."""
    (folder / KEY).replace(folder / FORMER)
    files.sync(folder)


def kept_file(folder: Path, ledger: str, *, against: bool = False) -> Path:
    """Return the file with the newest checkpoint of a ledger, or with one that contradicts it."""
    return folder / f"{ledger}{_AGAINST if against else ''}"


def read_kept(path: Path, keys: Sequence[Ed25519PublicKey]) -> CosignedCheckpoint | None:
    """Return a kept checkpoint; None if there is none, or it is not signed by one of the keys."""
    try:
        message = path.read_bytes()
        checkpoint = note.open_checkpoint(message, keys)
    except (OSError, ValueError, UnknownSigner, WrongSignature):
        return None
    return CosignedCheckpoint(
        path.parent.name, path, message, checkpoint, _cosigned_at(path.parent, message)
    )


def read_all(folder: Path, keys: Sequence[Ed25519PublicKey]) -> Iterator[CosignedCheckpoint]:
    """Yield all kept checkpoints in `state/cosigned` that one of the keys has signed."""
    for path in sorted(folder.glob("*/*")):
        if path.name in (KEY, FORMER) or path.name.startswith("."):
            continue
        if (found := read_kept(path, keys)) is not None:
            yield found


def _cosigned_at(folder: Path, message: bytes) -> int | None:
    for name in (KEY, FORMER):
        try:
            witness = cosignature.parse_witness((folder / name).read_text("ascii").strip())
            return cosignature.open_cosignature(message, witness)
        except (OSError, ValueError, UnknownSigner, WrongSignature):
            continue
    return None
