"""Reads the entries of a folder a few at a time: getdents64(2).

os.listdir reads all names at once, and os.scandir keeps 32 KiB of memory for each folder that is
being read. Here the kernel keeps the position, in the folder's open file description, and memory is
used only while names are read.

An entry in the buffer is, in the machine's byte order:

    inode     uint64
    position  int64     of the next entry
    length    uint16    of this entry, a multiple of 8
    type      uint8
    name      ends with a NUL
"""

import ctypes
import errno
from struct import Struct

from keys.kernel.libc import libc, os_error

BUFFER = 18 * 1024  # bytes; at most 768 entries
_entry = Struct("=QqHB")

libc.getdents64.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
libc.getdents64.restype = ctypes.c_ssize_t


def read_names(folder: int) -> list[bytes]:
    """Return the next names in the folder with that descriptor; an empty list at the end.

    The names are in the file system's order, without `.` and `..`. Raises OSError.
    """
    buffer = ctypes.create_string_buffer(BUFFER)
    data = memoryview(buffer).cast("B")
    while True:
        size = libc.getdents64(folder, buffer, BUFFER)
        if size < 0:
            if ctypes.get_errno() == errno.ENOENT:
                return []  # the folder was removed
            raise os_error()
        names, at = [], 0
        while at < size:
            _, _, length, _ = _entry.unpack_from(data, at)
            name, _, _ = bytes(data[at + _entry.size : at + length]).partition(b"\0")
            if name not in (b".", b".."):
                names.append(name)
            at += length
        if names or not size:
            return names
