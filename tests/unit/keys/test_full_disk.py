import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from config.event import Event
from keys.ledger import merkle, note, segments
from keys.ledger.signer import Signer
from keys.ledger.tiles import HashReader
from keys.ledger.writer import Ledger, Unwritable

NOON = datetime(2023, 5, 14, 14, 0, tzinfo=UTC)
OPENED = Event("open", "parti-a", "192.0.2.7", "/a.jpg", detail={"handle": 4, "size": 10})
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB, of which a file takes half."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "ssps-test", tmp_path], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    try:
        (tmp_path / "filler").write_bytes(bytes(128 << 10))
        yield tmp_path
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def test_a_full_disk_stops_the_ledger_at_a_complete_line_until_there_is_room(
    small: Path,
) -> None:
    folder = small / "transfer"
    with Ledger(folder, lambda: NOON) as writer, Signer(folder, KEY, lambda: NOON) as signer:
        with pytest.raises(Unwritable, match="No space left on device: make room, then retry"):
            while True:
                writer.append(OPENED, OPENED, OPENED)
        written = writer.next_seq
        assert len(list(segments.read_records(folder))) == written > 100
        with pytest.raises(OSError, match="No space left on device"):
            signer.sign()

        (small / "filler").unlink()

        assert writer.append(OPENED) == written
        signer.sign(last=True)
    found = HashReader(folder)
    message = segments.read_checkpoint(folder)
    assert message is not None
    assert note.open_checkpoint(message, [KEY.public_key()]).size == written + 1
    assert note.open_checkpoint(message, [KEY.public_key()]).root == merkle.root_hash(
        written + 1, found.node
    )


def test_a_ledger_cannot_be_opened_on_a_full_disk(small: Path) -> None:
    with (small / "more").open("wb") as file:
        while True:
            try:
                os.write(file.fileno(), bytes(4096))
            except OSError:
                break

    with pytest.raises((OSError, Unwritable)), Ledger(small / "transfer") as writer:
        writer.append(OPENED)
