"""Where claimed files stand until they are filed: `state/spool/<arrival's file>`.

A claim is one rename, so a file is in the intake or in the spool and never in both. Where the
intake is on another file system it is copied under a name with a leading dot, synced, renamed,
and only then removed from the intake; a crash in between leaves an arrival that was received
and a source that still looks as it did, and `settle_claim` removes that.
"""

import errno
import os
import shutil
import stat
from pathlib import Path

from keys.files import sync
from publisher.page import Arrival, Stamp

FOLDER = Path("state", "spool")


class Moved(Exception):
    """The file was gone or written to again before it could be claimed; a later scan sees it."""


def claim(arrival: Arrival, spool: Path) -> None:
    """Move the arrival's source into the spool; raise Moved, or OSError where the disk fails."""
    target = spool / arrival.file
    try:
        if Stamp.of(os.lstat(arrival.source)) != arrival.stamp:
            raise Moved(arrival.name)
        os.rename(arrival.source, target)  # noqa: PTH104 - the source's name may be any bytes
    except FileNotFoundError:
        raise Moved(arrival.name) from None
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copied(arrival.source, spool / f".{arrival.file}", target)
        settle_claim(arrival)


def settle_claim(arrival: Arrival) -> None:
    """Remove the source that a copied arrival left behind, if it still is what was copied."""
    try:
        if Stamp.of(os.lstat(arrival.source)) == arrival.stamp:
            os.unlink(arrival.source)  # noqa: PTH108
    except FileNotFoundError:
        pass


def still_there(arrival: Arrival) -> bool:
    """Say whether the source stands where it was taken from, unchanged."""
    try:
        return Stamp.of(os.lstat(arrival.source)) == arrival.stamp
    except OSError:
        return False


def sweep(spool: Path) -> None:
    """Remove the copies that a crash left unfinished; their sources are whole."""
    for path in spool.glob(".*"):
        path.unlink()


def _copied(source: bytes, fresh: Path, target: Path) -> None:
    status = os.lstat(source)
    fresh.unlink(missing_ok=True)
    if stat.S_ISLNK(status.st_mode):
        fresh.symlink_to(Path(os.fsdecode(source)).readlink())
    elif stat.S_ISREG(status.st_mode):
        reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(reading, "rb") as old, fresh.open("xb") as new:
            shutil.copyfileobj(old, new, 1 << 20)
            new.flush()
            os.fsync(new.fileno())
    else:
        os.mknod(fresh, status.st_mode, status.st_rdev)
    fresh.rename(target)
    sync(target.parent)
