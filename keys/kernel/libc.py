"""The C library, called through ctypes, and its errno as an OSError."""

import ctypes
import errno
import os

libc = ctypes.CDLL(None, use_errno=True)
# Found once here, not by each process that calls them after a fork.
libc.prctl, libc.syscall, libc.capset  # noqa: B018 - the access keeps them


def os_error() -> OSError:
    """Return the error of the last call, to be raised."""
    number = ctypes.get_errno() or errno.EPERM
    return OSError(number, os.strerror(number))


def prctl(option: int, value: int) -> None:
    """Change a setting of this process (prctl(2)); raise OSError if the kernel refuses."""
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise os_error()
