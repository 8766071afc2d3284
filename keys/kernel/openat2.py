"""Opens a path so that it cannot leave a folder: openat2(2), Linux 5.6 or later.

The kernel resolves the path, relative to the folder's descriptor. It refuses symbolic links, magic
links (such as those in /proc), another file system that is mounted on the way, and every path that
would leave the folder, even if a folder on the way is renamed at the same time.
"""

import ctypes
import errno
import os
from functools import cache

_OPENAT2 = 437  # the same on every architecture
# RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
_RESOLVE = 0x08 | 0x04 | 0x02 | 0x01
_MAX_RETRIES = 8

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
_syscall.restype = ctypes.c_long


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def supported() -> bool:
    """Return whether the running kernel has openat2."""
    opened = _syscall(_OPENAT2, -1, None, None, 0)
    return not (opened < 0 and ctypes.get_errno() == errno.ENOSYS)


def open_beneath(folder: int, path: bytes, flags: int) -> int:
    """Open a path below the folder with that descriptor; return the descriptor.

    Raises OSError: EXDEV if the path would leave the folder or its file system, ELOOP if there is a
    link on the way.
    """
    how = ctypes.addressof(_open_how(flags))
    for _ in range(_MAX_RETRIES):
        descriptor = _syscall(_OPENAT2, folder, path, how, ctypes.sizeof(_OpenHow))
        if descriptor >= 0:
            return int(descriptor)
        number = ctypes.get_errno()
        # EAGAIN: something on the way was renamed, and the kernel could not be sure of the path.
        if number not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(number, os.strerror(number))


@cache
def _open_how(flags: int) -> _OpenHow:
    return _OpenHow(flags, 0, _RESOLVE)
