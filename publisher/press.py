"""The publisher's own files: written once, whole, and shown in as many trees as they belong to.

`feed/` on a site holds what is kept; a tree has a hard link to it, put there by a rename, so that
a client sees the old file or the new. What must not be lost is made durable in `feed/`; all else
can be made again from the catalog, and is at each start.
"""

import errno
import os
from contextlib import suppress
from pathlib import Path

import structlog

from config.fault import Fault, Faults
from keys import digest
from keys.files import sync
from publisher.shelf import TREES

FOLDER = Path("feed")
_FOLDER_MODE, _FILE_MODE = 0o755, 0o444
_FRESH = "new"
_WHOLE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}

log = structlog.get_logger()


class Press:
    """Of one site, of one thread."""

    def __init__(self, site: Path) -> None:
        """Make the folder; raise Faults if it cannot be linked into the trees."""
        self.folder = site / FOLDER
        self._trees = site / TREES
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._trees.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        if self.folder.stat().st_dev != self._trees.stat().st_dev:
            wrong = "is on another file system than trees/, hard links need both on one"
            raise Faults([Fault(str(FOLDER), "", wrong)])

    def keep(self, name: str, content: bytes, at: int, *, durable: bool) -> Path:
        """Put a file in its place in `feed/`, whole, with `at` as its mtime."""
        path = self.folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._written(content, at, durable=durable)
        fresh.replace(path)
        if durable:
            sync(path.parent)
        return path

    def show(self, kept: Path, party: str, path: str) -> bool:
        """Have a party's tree show a file of `feed/`; False, and an ERROR log, if it refuses."""
        target = self._trees / party / path
        if _same(kept, target):
            return True
        try:
            os.link(kept, target)
            return True
        except FileExistsError:
            fresh = self.folder / f"{_FRESH}.link"
            fresh.unlink(missing_ok=True)
            os.link(kept, fresh)
            return self._renamed(fresh, target)
        except OSError as error:
            return _refused(target, error)

    def replace(self, party: str, path: str, content: bytes, at: int) -> bool:
        """Have one tree show some bytes that are kept nowhere else, and nothing if it does."""
        target = self._trees / party / path
        with suppress(OSError):
            if target.read_bytes() == content:
                return True
        return self._renamed(self._written(content, at, durable=False), target)

    def folder_for(self, party: str, name: str) -> None:
        """Make a folder in a tree's root."""
        made = self._trees / party / name
        with suppress(OSError):  # what is put there will say what is wrong
            made.mkdir()
            made.chmod(_FOLDER_MODE)  # whatever the umask says

    def _written(self, content: bytes, at: int, *, durable: bool) -> Path:
        fresh = self.folder / _FRESH
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            digest.stamp(descriptor, digest.of(content))
            os.fchmod(descriptor, _FILE_MODE)
            os.utime(descriptor, (at, at))
            if durable:
                os.fsync(descriptor)
        return fresh

    def _renamed(self, fresh: Path, target: Path) -> bool:
        try:
            fresh.replace(target)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            return _refused(target, error)
        return True


def _refused(target: Path, error: OSError) -> bool:
    if error.errno in _WHOLE_DISK:
        raise error
    log.error("not-shown", path=str(target), error=str(error))
    return False


def _same(kept: Path, target: Path) -> bool:
    try:
        one, other = kept.lstat(), target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
