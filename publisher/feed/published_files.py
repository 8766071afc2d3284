"""Writes the publisher's own files (feed, sums, BENIOKU.txt) and links them into the trees.

A file is written once, whole, into `feed/` of the site. Every tree that it belongs to gets a hard
link to it, and a rename replaces the old file, so a client sees either the old file or the new one.
Files that must not be lost are made durable in `feed/`. All others can be made from the catalog,
and each start does so.
"""

import errno
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from config.fault import Fault, Faults
from config.site import FEED, TREES
from keys import digest
from keys.files import sync
from keys.operations import site_keys

_FOLDER_MODE, _FILE_MODE = 0o755, 0o444
_NEW_FILE = "new"  # the temporary names in feed/ begin like that
_MAX_AHEAD = 60  # an mtime may lie this many seconds in the future, so that no two are the same
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}  # not the fault of one tree

log = structlog.get_logger()


class PublishedFiles:
    """The files of one site, for one thread."""

    def __init__(self, site: Path, check: Callable[[], object] = lambda: None) -> None:
        """Create the folder; raise Faults if its files cannot be linked into the trees.

        `check` is called just before a file is replaced, and raises OSError if that must not be.
        """
        self.folder = site / FEED
        self._check = check
        # Another name than that of a former leader, which may wake up (publisher/election).
        self._new_file = f"{_NEW_FILE}-{secrets.token_hex(4)}"
        self._trees = site / TREES
        self.stamp_key = site_keys.stamp_key_on_record(site, create=True)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._trees.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        for left in self.folder.glob(f"{_NEW_FILE}*"):
            left.unlink(missing_ok=True)
        if self.folder.stat().st_dev != self._trees.stat().st_dev:
            wrong = "is on another file system than trees/: put both on one, for hard links"
            raise Faults([Fault(str(FEED), "", wrong)])

    def keep(self, name: str, content: bytes, at: int, *, durable: bool) -> Path:
        """Write the file `name` in `feed/`; its mtime is `at` or later (see `next_mtime`)."""
        path = self.folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self._write(content, _next_mtime(path, at), durable=durable)
        self._check()
        new.replace(path)
        if durable:
            sync(path.parent)
        return path

    def inodes_in_tree(self, party: str, folder: str) -> dict[str, int]:
        """Return the inode of each file in a folder of a tree, by name.

        Returns nothing if the folder cannot be listed.
        """
        try:
            return inodes(self._trees / party / folder)
        except OSError:  # linking a file into that folder will log the cause
            return {}

    def show_in_tree(self, kept: str | Path, party: str, path: str) -> bool:
        """Link a file of `feed/` into a party's tree, in place of what is there.

        If that tree cannot take it, logs `not-shown` and returns False. Raises OSError if the
        whole disk fails.
        """
        # Strings, because this runs for each board and party and a Path costs more than the link.
        target = f"{self._trees}/{party}/{path}"
        try:
            os.link(kept, target)
            return True
        except FileExistsError:
            if _is_same_inode(kept, target):
                return True
            return self._rename(self._link(kept), target)
        except OSError as error:
            return _tree_failed(target, error)

    def next_mtime(self, party: str, path: str, at: int) -> int:
        """Return the mtime for a file that replaces the one at `path` at the time `at`.

        It is at least a second later than that file's mtime, so that clients notice the change,
        unless the clock was set back by more than a minute.
        """
        return _next_mtime(f"{self._trees}/{party}/{path}", at)

    def tree_has_newer(self, kept: Path, party: str, path: str) -> bool:
        """Return whether a tree shows another file than `kept` that is at least as new."""
        try:
            one, other = kept.lstat(), os.lstat(f"{self._trees}/{party}/{path}")
        except (FileNotFoundError, NotADirectoryError):
            return False
        return one.st_ino != other.st_ino and other.st_mtime >= one.st_mtime

    def replace_in_tree(self, party: str, path: str, content: bytes, at: int) -> bool:
        """Write a file into one tree only, unless it has these bytes already.

        Its mtime is `at` or later (see `next_mtime`). Returns and raises as `show_in_tree` does.
        """
        target = self._trees / party / path
        with suppress(OSError):
            if target.read_bytes() == content:
                return True
        return self._rename(self._write(content, _next_mtime(target, at), durable=False), target)

    def make_folder(self, party: str, name: str) -> None:
        """Create a folder at the root of a tree."""
        folder = self._trees / party / name
        with suppress(OSError):  # linking a file into that folder will log the cause
            folder.mkdir()
            folder.chmod(_FOLDER_MODE)  # the umask may have removed permissions

    def _write(self, content: bytes, at: int, *, durable: bool) -> Path:
        new = self.folder / self._new_file
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.utime(descriptor, (at, at))
            digest.stamp(descriptor, digest.digests_of(content), self.stamp_key)
            os.fchmod(descriptor, _FILE_MODE)
            if durable:
                os.fsync(descriptor)
        return new

    def _link(self, kept: str | Path) -> str:
        new = f"{self.folder}/{self._new_file}.link"
        try:
            os.link(kept, new)
        except FileExistsError:  # left by a publisher that was killed
            Path(new).unlink()
            os.link(kept, new)
        return new

    def _rename(self, new: str | Path, target: str | Path) -> bool:
        self._check()
        try:
            os.replace(new, target)  # noqa: PTH105 - see `show_in_tree`
        except OSError as error:
            Path(new).unlink(missing_ok=True)
            return _tree_failed(target, error)
        return True


def inodes(folder: Path) -> dict[str, int]:
    """Return the inode of each file in a folder, by name; nothing if there is no such folder.

    Only the folder is read, which is much cheaper than a stat of every file in it.
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
    return before + 1 if at <= before < at + _MAX_AHEAD else at


def _tree_failed(target: str | Path, error: OSError) -> bool:
    """Log that a tree could not take a file and return False; raise if the whole disk fails."""
    if error.errno in _DISK_ERRORS:
        raise error
    log.error("not-shown", path=str(target), cause=str(error))
    return False


def _is_same_inode(kept: str | Path, target: str | Path) -> bool:
    try:
        one, other = os.lstat(kept), os.lstat(target)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
