"""Moves a file, also to another file system: it is copied, synced and then renamed.

The copy is written as `.<name>.new` beside its target. A crash leaves that file, or a complete
copy together with its source; in both cases the move can be repeated.
"""

import errno
import os
import shutil
import stat
from pathlib import Path

from keys.files import sync

_MODE = 0o600


def move(source: Path, target: Path) -> None:
    """Rename `source` to `target`, or copy it and remove it. The caller syncs the folder."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy(source, target)
        source.unlink()


def copy(source: str | Path, target: Path, at: int | None = None) -> None:
    """Make a durable copy of a file, link, pipe or device.

    `source` is relative to the open folder `at`, if that is given. A link is copied as a link;
    a pipe or device is created again and never opened.
    """
    fresh = target.with_name(f".{target.name}.new")
    fresh.unlink(missing_ok=True)
    status = os.stat(source, dir_fd=at, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        fresh.symlink_to(os.readlink(source, dir_fd=at))
    elif stat.S_ISREG(status.st_mode):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        writing = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        with os.fdopen(writing, "wb") as new:
            with os.fdopen(os.open(source, flags, dir_fd=at), "rb") as old:
                shutil.copyfileobj(old, new, 1 << 20)
            new.flush()
            os.fsync(writing)
    else:
        os.mknod(fresh, status.st_mode, status.st_rdev)
    fresh.rename(target)
    sync(target.parent)
