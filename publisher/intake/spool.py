"""Claims files: moves them from the intake into the spool, `state/spool/<arrival's file>`.

A claim is one rename, so a file is either in the intake or in the spool. If the intake is on
another file system, the file is copied and then removed from the intake. A crash between the two
leaves the copy and an unchanged source; `finish_claim` then removes the source. A source that may
be read but not removed stays in the intake; its copy is filed all the same.
"""

import errno
import os
import stat
from pathlib import Path

from publisher.intake.lease import StillWritten, without_writers
from publisher.page import Arrival, Stamp
from publisher.source import parent, status
from publisher.store.copy import copy

_GONE = (FileNotFoundError, NotADirectoryError)
_NOT_REMOVABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP}


class SourceChanged(Exception):
    """The file was removed or changed before it could be claimed; a later scan finds it again."""


def claim(arrival: Arrival, spool: Path) -> bool:
    """Move the arrival's source into the spool; return False if the source stays in the intake.

    Raises SourceChanged, and OSError if the disk fails.
    """
    target = spool / arrival.file
    try:
        with parent(arrival.source) as (folder, name):
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if Stamp.of(found) != arrival.stamp or stat.S_ISDIR(found.st_mode):
                raise SourceChanged(arrival.name)
            try:
                os.rename(name, target, src_dir_fd=folder)
                return True
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
            if stat.S_ISREG(found.st_mode):
                return _claim_by_copy(arrival, folder, name, target)
            copy(name, target, folder)
    except (*_GONE, StillWritten):
        raise SourceChanged(arrival.name) from None
    return finish_claim(arrival)


def _claim_by_copy(arrival: Arrival, folder: int, name: str, target: Path) -> bool:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=folder)
    try:
        # A process that still writes to the source would not write to the copy.
        with without_writers(descriptor):
            copy(name, target, folder)
            return finish_claim(arrival)
    finally:
        os.close(descriptor)


def finish_claim(arrival: Arrival) -> bool:
    """Remove the source of a copied arrival, unless it changed after the copy was made.

    Returns False if the source is unchanged and may not be removed.
    """
    try:
        with parent(arrival.source) as (folder, name):
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if Stamp.of(found) == arrival.stamp:
                os.unlink(name, dir_fd=folder)
    except _GONE:
        pass
    except OSError as error:
        if error.errno not in _NOT_REMOVABLE:
            raise
        return False
    return True


def is_source_unchanged(arrival: Arrival) -> bool:
    """Return True if the source is still in the intake and has not changed."""
    try:
        return Stamp.of(status(arrival.source)) == arrival.stamp
    except OSError:
        return False


def sweep(spool: Path) -> None:
    """Remove unfinished copies that a crash left in the spool; their sources are complete."""
    for path in spool.glob(".*"):
        path.unlink()
