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
from config.site import FEED, TREES
from keys import digest
from keys.files import sync

_FOLDER_MODE, _FILE_MODE = 0o755, 0o444
_FRESH = "new"
_AHEAD = 60  # seconds that an mtime may come before its time, so that no two are the same
_WHOLE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}

log = structlog.get_logger()


class PublishedFiles:
    """Of one site, of one thread."""

    def __init__(self, site: Path) -> None:
        """Make the folder; raise Faults if it cannot be linked into the trees."""
        self.folder = site / FEED
        self._trees = site / TREES
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._trees.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        if self.folder.stat().st_dev != self._trees.stat().st_dev:
            wrong = "is on another file system than trees/, hard links need both on one"
            raise Faults([Fault(str(FEED), "", wrong)])

    def keep(self, name: str, content: bytes, at: int, *, durable: bool) -> Path:
        """Put a file in its place in `feed/`, whole, with `at` as its mtime, see `later`."""
        path = self.folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._written(content, _next_mtime(path, at), durable=durable)
        fresh.replace(path)
        if durable:
            sync(path.parent)
        return path

    def inodes_in_tree(self, party: str, folder: str) -> dict[str, int]:
        """Return what a folder of a tree shows, as `inodes` says; none if it cannot be listed."""
        try:
            return inodes(self._trees / party / folder)
        except OSError:  # what is put there will say what is wrong
            return {}

    def show_in_tree(self, kept: str | Path, party: str, path: str) -> bool:
        """Have a party's tree show a file of `feed/`; False, and an ERROR log, if it refuses."""
        # Done for each board and party, so as text: a Path costs more than the link itself.
        target = f"{self._trees}/{party}/{path}"
        try:
            os.link(kept, target)
            return True
        except FileExistsError:
            if _same(kept, target):
                return True
            return self._renamed(self._linked(kept), target)
        except OSError as error:
            return _refused(target, error)

    def next_mtime(self, party: str, path: str, at: int) -> int:
        """Return the mtime of what a tree is to show from `at` on in place of what it shows.

        At least a second later than that, unless the clock was set back by more than a minute.
        """
        return _next_mtime(f"{self._trees}/{party}/{path}", at)

    def tree_has_newer(self, kept: Path, party: str, path: str) -> bool:
        """Say whether a tree shows another file whose mtime is not before that of `kept`."""
        try:
            one, other = kept.lstat(), os.lstat(f"{self._trees}/{party}/{path}")
        except (FileNotFoundError, NotADirectoryError):
            return False
        return one.st_ino != other.st_ino and other.st_mtime >= one.st_mtime

    def replace(self, party: str, path: str, content: bytes, at: int) -> bool:
        """Have one tree show some bytes that are kept nowhere else; nothing is done if it does.

        Their mtime is as `later` says.
        """
        target = self._trees / party / path
        with suppress(OSError):
            if target.read_bytes() == content:
                return True
        fresh = self._written(content, _next_mtime(target, at), durable=False)
        return self._renamed(fresh, target)

    def make_folder(self, party: str, name: str) -> None:
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
            digest.stamp(descriptor, digest.digests_of(content))
            os.fchmod(descriptor, _FILE_MODE)
            os.utime(descriptor, (at, at))
            if durable:
                os.fsync(descriptor)
        return fresh

    def _linked(self, kept: str | Path) -> str:
        fresh = f"{self.folder}/{_FRESH}.link"
        try:
            os.link(kept, fresh)
        except FileExistsError:  # of a run that was killed
            Path(fresh).unlink()
            os.link(kept, fresh)
        return fresh

    def _renamed(self, fresh: str | Path, target: str | Path) -> bool:
        try:
            os.replace(fresh, target)  # noqa: PTH105 - see `show`
        except OSError as error:
            Path(fresh).unlink(missing_ok=True)
            return _refused(target, error)
        return True


def inodes(folder: Path) -> dict[str, int]:
    """Return the inode of each file in a folder, by name; none if there is no such folder.

    The folder alone is read: what stands in it costs a fraction of a look at each file.
    """
    try:
        with os.scandir(folder) as found:
            return {entry.name: entry.inode() for entry in found}
    except FileNotFoundError:
        return {}


def _next_mtime(path: str | Path, at: int) -> int:
    try:
        before = int(os.lstat(path).st_mtime)
    except OSError:
        return at
    return before + 1 if at <= before < at + _AHEAD else at


def _refused(target: str | Path, error: OSError) -> bool:
    if error.errno in _WHOLE_DISK:
        raise error
    log.error("not-shown", path=str(target), error=str(error))
    return False


def _same(kept: str | Path, target: str | Path) -> bool:
    try:
        one, other = os.lstat(kept), os.lstat(target)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
