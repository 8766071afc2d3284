"""Asks the kernel which kind of file system a file is on (statfs(2))."""

import ctypes
import os
from pathlib import Path

from keys.kernel.libc import libc, os_error

# The magic numbers of file systems that only processes of this machine write to (statfs(2)).
_LOCAL = {
    "bcachefs": 0xCA451A4E,
    "btrfs": 0x9123683E,
    "ext2/ext3/ext4": 0xEF53,
    "f2fs": 0xF2F52010,
    "jfs": 0x3153464A,
    "overlayfs": 0x794C7630,
    "ramfs": 0x858458F6,
    "reiserfs": 0x52654973,
    "tmpfs": 0x01021994,
    "vfat": 0x4D44,
    "exfat": 0x2011BAB0,
    "xfs": 0x58465342,
    "zfs": 0x2FC12FC1,
}
_KINDS = frozenset(_LOCAL.values())
_FUSE = 0x65735546


class _Statfs(ctypes.Structure):
    # Only the first field is used; the rest is room for what the kernel writes.
    _fields_ = [("f_type", ctypes.c_long), ("rest", ctypes.c_long * 30)]


def is_local(descriptor: int) -> bool:
    """Return True if the file is on a disk of this machine, False for a share or FUSE.

    A file system that is not known here counts as a share.
    """
    return _kind(descriptor) in _KINDS


def is_local_folder(folder: Path) -> bool:
    """Return the same for a folder; raise OSError if it cannot be opened."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return is_local(descriptor)
    finally:
        os.close(descriptor)


def has_syncfs(descriptor: int) -> bool:
    """Return False if syncfs(2) does nothing: the kernel does not pass it on to a FUSE program."""
    return _kind(descriptor) != _FUSE


def _kind(descriptor: int) -> int:
    found = _Statfs()
    if libc.fstatfs(descriptor, ctypes.byref(found)) != 0:
        raise os_error()
    return int(found.f_type) & 0xFFFFFFFF
