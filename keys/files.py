"""Replaces files atomically, syncs them, and checks that secrets are private."""

import ctypes
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from config.fault import Fault

PRIVATE = 0o600
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_libc = ctypes.CDLL(None, use_errno=True)


def sync(path: Path) -> None:
    """Make the content of the file or folder `path` survive a loss of power (fsync)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(folder: Path) -> None:
    """Make everything written to the file system of `folder` survive a loss of power (syncfs).

    For a batch this is cheaper than an fsync for each of its files and folders.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)


def exchange(one: Path, other: Path) -> None:
    """Swap two folders atomically: neither is missing at any moment (renameat2)."""
    names = os.fsencode(one), os.fsencode(other)
    if _libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(other))


def replace_unsynced(path: Path, content: bytes, mode: int = PRIVATE) -> None:
    """Replace a file atomically, without a sync: the caller syncs the file system later.

    If root writes it, the owner of the folder owns the file.
    """
    _replace(path, content, mode, synced=False)


def replace(path: Path, content: bytes, mode: int = PRIVATE) -> None:
    """Replace a file atomically and durably: a reader sees the old file or the new one.

    If root writes it, the owner of the folder owns the file, so that the server can read a file
    that an operator wrote with `sudo`.
    """
    _replace(path, content, mode, synced=True)
    sync(path.parent)


def _replace(path: Path, content: bytes, mode: int, *, synced: bool) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = _create(fresh, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            _give_to_owner(descriptor, path.parent)
            file.write(content)
            if synced:
                file.flush()
                os.fsync(descriptor)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _create(fresh: Path, mode: int) -> int:
    """Create a file that did not exist, so that root follows no link that a folder's owner made."""
    fresh.unlink(missing_ok=True)  # of a killed process that had the same number
    return os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)


def _give_to_owner(descriptor: int, folder: Path) -> None:
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def remove_unfinished(folder: Path) -> None:
    """Remove files that killed writers left; call it only where no other process writes."""
    for left in folder.glob(".*.new"):
        left.unlink(missing_ok=True)


def permission_faults(site: Path, folder: Path) -> Iterator[Fault]:
    """Yield a fault for each file or folder in `folder` that other users can access.

    `folder` itself is checked too. Faults have paths relative to `site`.
    """
    for path in [folder, *sorted(folder.rglob("*"))]:
        mode = stat.S_IMODE(path.lstat().st_mode)
        wanted = 0o700 if path.is_dir() else PRIVATE
        if mode & ~wanted and not path.name.endswith(".pub"):
            name = str(path.relative_to(site))
            yield Fault(
                name, "", f"permissions {mode:04o} are too open, run `chmod {wanted:o} {path}`"
            )
