"""Keeps the bytes of every batch, so that each recorded row can be traced to what was delivered.

A batch is copied to `store/.batch-<id>`, and renamed to `store/ab/cd/<sha256>` with mode 0444. The
copy is ours alone: the file that was delivered may still be open for writing elsewhere.
"""

import hashlib
import os
from datetime import datetime
from pathlib import Path

from config.site import STORE, original_file
from keys.files import sync

STAGED = ".batch-"
_COPY_BYTES = 1 << 20
_MODE = 0o444


def keep(site: Path, batch: str, source: Path, now: datetime) -> str:
    """Copy a batch into the store, durably; return its SHA-256 in hexadecimal."""
    staged = site / STORE / f"{STAGED}{batch}"
    staged.unlink(missing_ok=True)
    digest = hashlib.sha256()
    with source.open("rb") as delivered, staged.open("xb") as copy:
        while part := delivered.read(_COPY_BYTES):
            digest.update(part)
            copy.write(part)
        copy.flush()
        os.fchmod(copy.fileno(), _MODE)
        os.fsync(copy.fileno())
    sha256 = digest.hexdigest()
    kept = site / original_file(sha256)
    if kept.exists():
        staged.unlink()
        return sha256
    os.utime(staged, (int(now.timestamp()),) * 2)
    kept.parent.mkdir(parents=True, exist_ok=True)
    staged.rename(kept)
    for folder in (kept.parent, kept.parent.parent, site / STORE):
        sync(folder)
    return sha256


def sweep(site: Path) -> None:
    """Remove unfinished copies of an earlier run; their batches are still in the spool."""
    for path in (site / STORE).glob(f"{STAGED}*"):
        path.unlink()
