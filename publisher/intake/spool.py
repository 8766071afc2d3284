"""Where claimed files stand until they are filed: `state/spool/<arrival's file>`.

A claim is one rename, so a file is in the intake or in the spool. Where the intake is on another
file system it is copied and then removed from the intake; a crash in between leaves an arrival
that was received and a source that still looks as it did, and `finish_claim` removes that. A
source that may be read but not removed stays, and its copy has arrived all the same.
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
    """The file was gone or written to again before it could be claimed; a later scan sees it."""


def claim(arrival: Arrival, spool: Path) -> bool:
    """Move the arrival's source into the spool, and say whether it is gone from the intake.

    Raises SourceChanged, or OSError where the disk fails.
    """
    target = spool / arrival.file
    try:
        with parent(arrival.source) as (folder, name):
            standing = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if Stamp.of(standing) != arrival.stamp or stat.S_ISDIR(standing.st_mode):
                raise SourceChanged(arrival.name)
            try:
                os.rename(name, target, src_dir_fd=folder)
                return True
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
            if stat.S_ISREG(standing.st_mode):
                return _claim_by_copy(arrival, folder, name, target)
            copy(name, target, folder)
    except (*_GONE, StillWritten):
        raise SourceChanged(arrival.name) from None
    return finish_claim(arrival)


def _claim_by_copy(arrival: Arrival, folder: int, name: str, target: Path) -> bool:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=folder)
    try:
        # What is open for writing goes on growing here, and not in the copy.
        with without_writers(descriptor):
            copy(name, target, folder)
            return finish_claim(arrival)
    finally:
        os.close(descriptor)


def finish_claim(arrival: Arrival) -> bool:
    """Remove the source that a copied arrival left behind, if it still is what was copied.

    False if it is, and must not be removed.
    """
    try:
        with parent(arrival.source) as (folder, name):
            standing = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if Stamp.of(standing) == arrival.stamp:
                os.unlink(name, dir_fd=folder)
    except _GONE:
        pass
    except OSError as error:
        if error.errno not in _NOT_REMOVABLE:
            raise
        return False
    return True


def is_source_unchanged(arrival: Arrival) -> bool:
    """Say whether the source stands where it was taken from, unchanged."""
    try:
        return Stamp.of(status(arrival.source)) == arrival.stamp
    except OSError:
        return False


def sweep(spool: Path) -> None:
    """Remove the copies that a crash left unfinished; their sources are whole."""
    for path in spool.glob(".*"):
        path.unlink()
