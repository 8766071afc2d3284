"""Keeps the bytes of every batch, so that each recorded row can be traced to what was delivered.

A batch is copied to `store/.batch-<id>`, and renamed to `store/ab/cd/<sha256>` with mode 0444. The
copy is ours alone: the file that was delivered may still be open for writing elsewhere. Batches
that wait together are made durable together.
"""

import hashlib
import os
from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path

from config.site import STORE, original_file
from keys.files import sync, sync_file_system

STAGED = ".batch-"
_COPY_BYTES = 1 << 20
_MODE = 0o444
_MAX_SYNCS = 4  # for more files than these, one sync of the file system is cheaper


def keep(site: Path, sources: Mapping[str, Path], now: datetime) -> dict[str, str]:
    """Copy batches into the store, durably; return the SHA-256 of each in hexadecimal.

    `sources` has the file of each batch by the batch's id. If one cannot be copied, those before it
    are kept, and it is missing in the answer with those after it; for the first one OSError is
    raised.
    """
    staged: dict[str, Path] = {}
    digests: dict[str, str] = {}
    for batch, source in sources.items():
        path = site / STORE / f"{STAGED}{batch}"
        try:
            digests[batch] = _copy(source, path)
        except OSError:
            path.unlink(missing_ok=True)
            if not digests:
                raise
            break
        staged[batch] = path
    _sync(site, staged.values())
    folders = {site / STORE}
    for batch, path in staged.items():
        kept = site / original_file(digests[batch])
        if kept.exists():
            path.unlink()
            continue
        os.utime(path, (int(now.timestamp()),) * 2)
        kept.parent.mkdir(parents=True, exist_ok=True)
        path.rename(kept)
        folders |= {kept.parent, kept.parent.parent}
    _sync(site, folders)
    return digests


def _copy(source: Path, staged: Path) -> str:
    staged.unlink(missing_ok=True)
    digest = hashlib.sha256()
    with source.open("rb") as delivered, staged.open("xb") as copy:
        while part := delivered.read(_COPY_BYTES):
            digest.update(part)
            copy.write(part)
        os.fchmod(copy.fileno(), _MODE)
    return digest.hexdigest()


def _sync(site: Path, paths: Collection[Path]) -> None:
    if len(paths) > _MAX_SYNCS:
        sync_file_system(site / STORE)
        return
    for path in paths:
        sync(path)


def sweep(site: Path) -> None:
    """Remove unfinished copies of an earlier run; their batches are still in the spool."""
    for path in (site / STORE).glob(f"{STAGED}*"):
        path.unlink()
