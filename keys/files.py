"""Files that are replaced whole or not at all, and secrets that only their owner may read."""

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
    """Make what stands in the file or folder `path` survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(folder: Path) -> None:
    """Make all that was written to the file system of `folder` survive a loss of power.

    One call for a batch, which costs less than an fsync for each of its files and folders.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)


def exchange(one: Path, other: Path) -> None:
    """Let two folders change places, atomically: nobody sees either of them missing."""
    names = os.fsencode(one), os.fsencode(other)
    if _libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(other))


def replace_unsynced(path: Path, content: bytes, mode: int = PRIVATE) -> None:
    """Put `content` at `path` atomically; it lasts once its file system is synced."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def replace(path: Path, content: bytes, mode: int = PRIVATE) -> None:
    """Put `content` at `path` atomically and durably: a reader sees the old file or the new.

    Written by root, it is the folder's owner's, so that an operator's `sudo` locks no server out.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            if os.geteuid() == 0:
                owner = path.parent.stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    sync(path.parent)


def remove_unfinished(folder: Path) -> None:
    """Remove what writers that were killed left unfinished in `folder`; for its only writer."""
    for left in folder.glob(".*.new"):
        left.unlink(missing_ok=True)


def permission_faults(site: Path, folder: Path) -> Iterator[Fault]:
    """Yield a fault for each file below `folder` that others than its owner may touch.

    The folders themselves count too; faults name paths from `site`.
    """
    for path in [folder, *sorted(folder.rglob("*"))]:
        mode = stat.S_IMODE(path.lstat().st_mode)
        wanted = 0o700 if path.is_dir() else PRIVATE
        if mode & ~wanted and not path.name.endswith(".pub"):
            name = str(path.relative_to(site))
            yield Fault(name, "", f"mode {mode:04o} lets others in, run `chmod {wanted:o} {path}`")
