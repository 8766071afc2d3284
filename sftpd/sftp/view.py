"""What a party sees: (its tree, a client's path) -> an open file, a folder, or NotFound.

A client's path is bytes, and is resolved twice. First lexically, as in a chroot: relative to
`/`, with `..` at the root staying there. Then by the kernel, with openat2(2) through the
descriptor of the tree, which refuses symlinks, magic links and whatever would leave the tree.
Only regular files and directories exist here; a FIFO, a socket, a device or a symlink that
someone planted is neither found nor listed, and neither is a name that holds control
characters. Denied and missing look the same.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import structlog

MAX_PATH = 4096

_OPENAT2 = 437  # the same number on every architecture
_RESOLVE = 0x08 | 0x04 | 0x02  # RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_MAGICLINKS
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_PATH_ONLY = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
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
_CONTROL = bytes([*range(32), 127])
_MAX_RETRIES = 8


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_openat2 = ctypes.CDLL(None, use_errno=True).syscall
_openat2.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
_openat2.restype = ctypes.c_long
_OPEN_HOW = {
    flags: _OpenHow(flags, 0, _RESOLVE)
    for flags in (_READ_FLAGS, _READ_FLAGS | os.O_DIRECTORY, _PATH_ONLY)
}
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class NotFound:
    """Nothing there, or nothing that this party may see: one answer for both."""


class Attributes(NamedTuple):
    """What is shown of a file or folder; `mtime` in whole seconds since 1970."""

    folder: bool
    size: int
    mtime: int


class OpenFile(NamedTuple):
    """A regular file that is open for reading; whoever holds it closes the descriptor."""

    descriptor: int
    attributes: Attributes


class FileSystemSize(NamedTuple):
    """How large a file system is: the size of its blocks in bytes, and how many there are."""

    block: int
    blocks: int


def canonical(path: bytes) -> bytes:
    """Return the absolute path that a client means: no `.`, no `..`, no doubled slash."""
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
    """One party's tree; close it when the session is over.

    A tree that does not exist, because nothing was filed for the party yet, is an empty one.
    `is_visible` says of a path in the tree, without the leading slash, whether it is to be seen at
    all: the publisher takes away what a narrower scope no longer covers, but not in an instant.
    """

    def __init__(self, tree: Path, is_visible: Callable[[str], bool] | None = None) -> None:
        self._is_visible = is_visible
        try:
            self._root = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            self._root = -1

    @property
    def root(self) -> int | None:
        """The descriptor of the tree, if there is one."""
        return None if self._root < 0 else self._root

    def close(self) -> None:
        """Let go of the tree."""
        root, self._root = self._root, -1
        if root >= 0:
            os.close(root)

    def stat(self, path: bytes) -> Attributes | NotFound:
        """Return what is shown of whatever stands at `path`."""
        if self._root < 0 and canonical(path) == b"/":
            return Attributes(folder=True, size=0, mtime=0)
        descriptor = self._open(path, _PATH_ONLY)
        if isinstance(descriptor, NotFound):
            return descriptor
        try:
            return _attributes(os.fstat(descriptor))
        finally:
            os.close(descriptor)

    def statvfs(self, path: bytes) -> FileSystemSize | NotFound:
        """Return how large the file system is on which `path` stands."""
        if self._root < 0 and canonical(path) == b"/":
            return FileSystemSize(4096, 0)
        descriptor = self._open(path, _PATH_ONLY)
        if isinstance(descriptor, NotFound):
            return descriptor
        try:
            if isinstance(_attributes(os.fstat(descriptor)), NotFound):
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
        found = _attributes(os.fstat(descriptor))
        if isinstance(found, NotFound) or found.folder:
            os.close(descriptor)
            return NotFound()
        return OpenFile(descriptor, found)

    def open_folder(self, path: bytes) -> "Folder | NotFound":
        """Open the folder at `path` for listing."""
        if self._root < 0 and canonical(path) == b"/":
            return Folder(-1, Attributes(folder=True, size=0, mtime=0))
        descriptor = self._open(path, _READ_FLAGS | os.O_DIRECTORY)
        if isinstance(descriptor, NotFound):
            return descriptor
        found = _attributes(os.fstat(descriptor))
        if isinstance(found, NotFound):
            os.close(descriptor)
            return found
        inside = canonical(path)[1:]
        return Folder(descriptor, found, self._is_visible, inside + b"/" if inside else b"")

    def _open(self, path: bytes, flags: int) -> int | NotFound:
        if self._root < 0 or len(path) > MAX_PATH or _has_control_characters(path):
            return NotFound()
        how = ctypes.addressof(_OPEN_HOW[flags])
        inside = canonical(path)[1:] or b"."
        if self._is_visible is not None and not self._is_visible(os.fsdecode(inside)):
            return NotFound()
        for _ in range(_MAX_RETRIES):
            descriptor = _openat2(_OPENAT2, self._root, inside, how, ctypes.sizeof(_OpenHow))
            if descriptor >= 0:
                return int(descriptor)
            failed = ctypes.get_errno()
            if failed == errno.EACCES:
                # Not denied to the party but to us: a mode that the publisher would not give.
                _log.error("file-unreadable", path=os.fsdecode(inside))
            if failed in _ABSENT:
                return NotFound()
            # EAGAIN: something was renamed meanwhile, and the kernel could not be sure.
            if failed not in (errno.EAGAIN, errno.EINTR):
                break
        raise OSError(failed, os.strerror(failed))


class Folder:
    """An open folder: what it holds, by name, as it stood when the listing began."""

    def __init__(
        self,
        descriptor: int,
        attributes: Attributes,
        is_visible: Callable[[str], bool] | None = None,
        within: bytes = b"",
    ) -> None:
        self._is_visible = is_visible
        self._within = within
        self.attributes = attributes
        self._descriptor = descriptor

    def entries(self) -> Iterator[tuple[bytes, Attributes]]:
        """Yield name and attributes in the order of the names' bytes.

        Something that vanishes while the listing is under way is left out.
        """
        if self._descriptor < 0:
            return
        for name in sorted(map(os.fsencode, os.listdir(self._descriptor))):  # noqa: PTH208 - a descriptor
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
            found = _attributes(status)
            if not isinstance(found, NotFound):
                yield name, found

    def close(self) -> None:
        """Let go of the folder."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _has_control_characters(name: bytes) -> bool:
    return len(name.translate(None, _CONTROL)) != len(name)


def _attributes(status: os.stat_result) -> Attributes | NotFound:
    if stat.S_ISREG(status.st_mode):
        return Attributes(folder=False, size=status.st_size, mtime=int(status.st_mtime))
    if stat.S_ISDIR(status.st_mode):
        return Attributes(folder=True, size=status.st_size, mtime=int(status.st_mtime))
    return NotFound()
