"""Maps a client's path to an open file or folder in its party's tree, or to NotFound.

A client's path is bytes, and is resolved twice. First by its text alone, as in a chroot: relative
to `/`, and `..` at the root stays at the root. Then by the kernel, below the descriptor of the tree
(keys/kernel/openat2), which refuses links and everything outside the tree.

A client sees only folders, and regular files as the publisher makes them: of mode 0444, and owned
by the owner of the tree. A FIFO, a socket, a device, a symbolic link, or a hard link to a secret
that someone put into the tree is neither found nor listed; the same goes for a name with control
characters. A path that is denied looks like a path that does not exist.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import structlog

from keys.digest import Claim
from keys.kernel import directory, openat2

MAX_PATH = 4096
MAX_ENTRIES = 2 + directory.BUFFER // 24  # an entry of the kernel has at least 24 bytes

_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_PATH_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_ABSENT = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.EXDEV,
    errno.EACCES,
    errno.EPERM,
    errno.ENAMETOOLONG,
    errno.EINVAL,
    errno.ENXIO,  # a socket, or a device without its hardware
    errno.ENODEV,
}
_FILE_MODE = 0o444  # of everything that the publisher makes in a tree
_CONTROL = bytes([*range(32), 127])

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class NotFound:
    """There is nothing at that path, or nothing that this party may see."""


class IsFolder(NotFound):
    """There is no file at that path, but a folder."""


class IsFile(NotFound):
    """There is no folder at that path, but a file."""


class Attributes(NamedTuple):
    """What a client sees of a file or folder; `mtime` in whole seconds since 1970."""

    folder: bool
    size: int
    mtime: int


class OpenFile(NamedTuple):
    """A regular file that is open for reading; the caller closes the descriptor.

    `claim` is what the file says of its digests when it is opened.
    """

    descriptor: int
    attributes: Attributes
    claim: Claim


class FileSystemSize(NamedTuple):
    """The size of a file system: bytes of a block, and the number of blocks."""

    block: int
    blocks: int


def canonical(path: bytes) -> bytes:
    """Return the absolute path that a client means, without `.`, `..` and double slashes."""
    if path[:1] == b"/" and path[-1:] != b"/" and b"/." not in path and b"//" not in path:
        return path
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/" + b"/".join(parts)


class View:
    """One party's tree; close it after the session.

    `tree` is its path, or a descriptor, which the view then closes. A tree that does not exist yet,
    because nothing was filed for the party, is shown as an empty folder (None). `is_visible`
    returns whether a path in the tree (without the leading slash) may be seen. After a party's
    scope became narrower, the publisher needs some time to remove the files.
    """

    def __init__(
        self, tree: Path | int | None, is_visible: Callable[[str], bool] | None = None
    ) -> None:
        self._is_visible = is_visible
        self._root = -1
        if isinstance(tree, int):
            self._root = tree
        elif tree is not None:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            with suppress(FileNotFoundError):
                self._root = os.open(tree, flags)
        self._owner = os.fstat(self._root).st_uid if self._root >= 0 else -1

    @property
    def root(self) -> int | None:
        """Return the descriptor of the tree, None if the tree does not exist."""
        return None if self._root < 0 else self._root

    def close(self) -> None:
        """Close the tree."""
        root, self._root = self._root, -1
        if root >= 0:
            os.close(root)

    def stat(self, path: bytes) -> Attributes | NotFound:
        """Return the attributes of the file or folder at `path`."""
        if self._root < 0 and canonical(path) == b"/":
            return Attributes(folder=True, size=0, mtime=0)
        descriptor = self._open(path, _PATH_FLAGS)
        if isinstance(descriptor, NotFound):
            return descriptor
        try:
            return self._attributes(path, os.fstat(descriptor))
        finally:
            os.close(descriptor)

    def statvfs(self, path: bytes) -> FileSystemSize | NotFound:
        """Return the size of the file system of `path`."""
        if self._root < 0 and canonical(path) == b"/":
            return FileSystemSize(4096, 0)
        descriptor = self._open(path, _PATH_FLAGS)
        if isinstance(descriptor, NotFound):
            return descriptor
        try:
            if isinstance(self._attributes(path, os.fstat(descriptor)), NotFound):
                return NotFound()
            found = os.fstatvfs(descriptor)
            return FileSystemSize(found.f_frsize, found.f_blocks)
        finally:
            os.close(descriptor)

    def open_file(self, path: bytes) -> OpenFile | NotFound:
        """Open the regular file at `path` for reading."""
        descriptor = self._open(path, _READ_FLAGS)
        if isinstance(descriptor, NotFound):
            return descriptor
        status = os.fstat(descriptor)
        found = self._attributes(path, status)
        if isinstance(found, NotFound) or found.folder:
            os.close(descriptor)
            return found if isinstance(found, NotFound) else IsFolder()
        return OpenFile(descriptor, found, Claim.from_status(descriptor, status))

    def open_folder(self, path: bytes) -> "Folder | NotFound":
        """Open the folder at `path` for listing."""
        if self._root < 0 and canonical(path) == b"/":
            return Folder(-1, Attributes(folder=True, size=0, mtime=0))
        descriptor = self._open(path, _READ_FLAGS | os.O_DIRECTORY)
        if isinstance(descriptor, NotFound):
            if isinstance(descriptor, IsFile) and not isinstance(self.stat(path), NotFound):
                return descriptor
            return NotFound()
        found = _attributes(os.fstat(descriptor), self._owner)
        if isinstance(found, NotFound):
            os.close(descriptor)
            return found
        inside = canonical(path)[1:]
        within = inside + b"/" if inside else b""
        return Folder(descriptor, found, self._is_visible, within, self._owner)

    def _attributes(self, path: bytes, status: os.stat_result) -> Attributes | NotFound:
        found = _attributes(status, self._owner)
        if isinstance(found, NotFound) and stat.S_ISREG(status.st_mode):
            _log.error(
                "file-not-published",
                path=os.fsdecode(canonical(path)),
                mode=f"{stat.S_IMODE(status.st_mode):04o}",
                uid=status.st_uid,
            )
        return found

    def _open(self, path: bytes, flags: int) -> int | NotFound:
        if self._root < 0 or len(path) > MAX_PATH or _has_control_characters(path):
            return NotFound()
        inside = canonical(path)[1:] or b"."
        if self._is_visible is not None and not self._is_visible(os.fsdecode(inside)):
            return NotFound()
        try:
            return openat2.open_beneath(self._root, inside, flags)
        except OSError as error:
            if error.errno == errno.EACCES:
                # The server itself may not read it, because of a mode that the publisher never
                # sets. The party sees NotFound; the operator must see an error.
                _log.error("file-unreadable", path=os.fsdecode(inside))
            if error.errno == errno.ENOTDIR and flags & os.O_DIRECTORY:
                return IsFile()
            if error.errno in _ABSENT:
                return NotFound()
            raise


class Folder:
    """An open folder. Its entries are read a few at a time, so it takes no memory in between."""

    def __init__(
        self,
        descriptor: int,
        attributes: Attributes,
        is_visible: Callable[[str], bool] | None = None,
        within: bytes = b"",
        owner: int = -1,
    ) -> None:
        self._owner = owner
        self._is_visible = is_visible
        self._within = within
        self._begun = False
        self.attributes = attributes
        self._descriptor = descriptor

    def read(self) -> list[tuple[bytes, Attributes]]:
        """Return the next entries: names and attributes, at most MAX_ENTRIES; none at the end.

        The first are `.` and `..`. The others are in the file system's order, but those that are
        returned together are sorted by their names; of most folders, these are all. An entry that
        was removed meanwhile, or may not be seen, is left out.
        """
        entries: list[tuple[bytes, Attributes]] = []
        if not self._begun:
            self._begun = True
            entries = [(b".", self.attributes), (b"..", self._parent())]
        while self._descriptor >= 0 and (names := directory.read_names(self._descriptor)):
            entries += self._with_attributes(sorted(names))
            if entries:
                break
        return entries

    def at_end(self) -> bool:
        """Return whether `read` has returned the last entry."""
        if self._descriptor < 0:
            return True
        position = os.lseek(self._descriptor, 0, os.SEEK_CUR)
        try:
            return not directory.read_names(self._descriptor)
        finally:
            os.lseek(self._descriptor, position, os.SEEK_SET)

    def _with_attributes(self, names: list[bytes]) -> Iterator[tuple[bytes, Attributes]]:
        for name in names:
            if _has_control_characters(name):
                continue
            if self._is_visible is not None and not self._is_visible(
                os.fsdecode(self._within + name)
            ):
                continue
            try:
                status = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
            except FileNotFoundError:
                continue
            found = _attributes(status, self._owner)
            if not isinstance(found, NotFound):
                yield name, found

    def _parent(self) -> Attributes:
        if self._descriptor < 0 or not self._within:
            return self.attributes  # as in a chroot: the root is its own parent
        try:
            found = _attributes(os.stat("..", dir_fd=self._descriptor), self._owner)
        except OSError:
            return self.attributes
        return self.attributes if isinstance(found, NotFound) else found

    def close(self) -> None:
        """Close the folder."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _has_control_characters(name: bytes) -> bool:
    return len(name.translate(None, _CONTROL)) != len(name)


def _attributes(status: os.stat_result, owner: int) -> Attributes | NotFound:
    if stat.S_ISREG(status.st_mode):
        if stat.S_IMODE(status.st_mode) != _FILE_MODE or status.st_uid != owner:
            return NotFound()
        return Attributes(folder=False, size=status.st_size, mtime=int(status.st_mtime))
    if stat.S_ISDIR(status.st_mode):
        return Attributes(folder=True, size=status.st_size, mtime=int(status.st_mtime))
    return NotFound()
