"""Keeps the newest checkpoint of each ledger outside its folder, in `state/signed/<ledger>`.

The signer writes it whenever it signs. So a ledger that was cut back together with its checkpoints,
or restored from a copy, is behind its file here, to the second. Anchors in other ledgers and in the
feed are up to a minute older (keys/ledger/anchors).

A file is replaced only if the ledger extends the checkpoint in it, so a signer that goes on with a
shortened ledger does not hide that. The signer of a ledger whose loss a signed record of
`ssps recover` accepts replaces it as well. A file that this site has not signed does not count.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from config.site import SIGNED
from keys import files
from keys.ledger import anchors, note
from keys.ledger.anchors import Anchor, LineRoots
from keys.ledger.note import UnknownSigner, WrongSignature


class SignedCopy:
    """The file of one ledger, whose folder is `ledger`; open it while the ledger is locked."""

    def __init__(
        self,
        path: Path,
        ledger: Path,
        keys: Sequence[Ed25519PublicKey],
        roots: LineRoots | None = None,
    ) -> None:
        self._path = path
        kept = _read(path, keys)
        self._is_ahead = kept is not None and _is_ahead(kept[1], ledger.parent, roots)
        self._message = kept[0] if kept is not None else b""

    def keep(self, message: bytes) -> None:
        """Keep a checkpoint that was just signed, unless the file is ahead of the ledger."""
        if self._is_ahead or message == self._message:
            return
        folder = self._path.parent
        if not folder.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.geteuid() == 0:
                owner = folder.parent.stat()
                os.chown(folder, owner.st_uid, owner.st_gid)
        files.replace_unsynced(self._path, message)
        self._message = message


def read_all(site: Path, keys: Sequence[Ed25519PublicKey]) -> Iterator[tuple[str, bytes, Anchor]]:
    """Yield source, bytes and anchor of each file that one of the keys has signed."""
    for path in sorted((site / SIGNED).glob("[!.]*")):
        if (found := _read(path, keys)) is not None:
            message, anchor = found
            yield anchor.source, message, anchor


def _is_ahead(kept: Anchor, ledgers: Path, roots: LineRoots | None) -> bool:
    if anchors.behind(ledgers, kept, roots) is None:
        return False
    return not anchors.is_accepted(ledgers, kept.checkpoint)


def _read(path: Path, keys: Sequence[Ed25519PublicKey]) -> tuple[bytes, Anchor] | None:
    with suppress(OSError, ValueError, UnknownSigner, WrongSignature):
        message = path.read_bytes()
        return message, Anchor(str(SIGNED / path.name), note.open_checkpoint(message, keys))
    return None
