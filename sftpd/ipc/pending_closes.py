"""A shared-memory page with the CLOSE messages that a child has not sent yet.

If the child is killed, the monitor reads them there, so that the record still says how much of each
file was sent. The monitor makes the page as a file in memory, and the child gets its descriptor.
Its size is sealed: a child could otherwise fill the machine's memory, or make the page vanish under
the monitor. The child alone writes, and the monitor reads it only after the child has died, so no
lock is needed.

The page starts with a uint32 in the machine's byte order: the number of bytes that follow. Those
bytes are messages in the format of sftpd/ipc/messages. Example, with no message:

    00000000
"""

import fcntl
import mmap
import os
from struct import Struct

CAPACITY = mmap.PAGESIZE - 4
_size = Struct("=I")
_SEALS = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


class PendingCloses:
    """The page of one child: a new one, or in the child the one with that descriptor."""

    def __init__(self, descriptor: int | None = None) -> None:
        new = descriptor is None
        if descriptor is None:
            descriptor = os.memfd_create("closes", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self.descriptor = descriptor
        try:
            if new:
                os.ftruncate(descriptor, mmap.PAGESIZE)
                fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            self._memory = mmap.mmap(descriptor, mmap.PAGESIZE)
        except OSError:
            self.close_descriptor()
            raise

    def close_descriptor(self) -> None:
        """Close the descriptor; the page stays mapped."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def write(self, messages: bytes) -> None:
        """Replace the content with `messages`, up to CAPACITY bytes.

        The size is written last, so a child that is killed in the middle leaves the page empty.
        """
        self.clear()
        self._memory[_size.size : _size.size + len(messages)] = messages
        _size.pack_into(self._memory, 0, len(messages))

    def clear(self) -> None:
        """Empty the page."""
        _size.pack_into(self._memory, 0, 0)

    def read(self) -> bytes:
        """Return the content."""
        (size,) = _size.unpack_from(self._memory)
        return self._memory[_size.size : _size.size + min(size, CAPACITY)]

    def close(self) -> None:
        """Unmap the page."""
        self.close_descriptor()
        self._memory.close()
