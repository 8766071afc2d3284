"""A shared-memory page with the CLOSE messages that a child has not sent yet.

If the child is killed, the monitor reads them there, so that the record still says how much of each
file was sent. The page is mapped before the fork. The child alone writes, and the monitor reads it
only after the child has died, so no lock is needed.

The page starts with a uint32 in the machine's byte order: the number of bytes that follow. Those
bytes are messages in the format of sftpd/ipc/messages. Example, with no message:

    00000000
"""

import mmap
from struct import Struct

CAPACITY = mmap.PAGESIZE - 4
_size = Struct("=I")


class PendingCloses:
    """The page of one child."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)

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
        self._memory.close()
