"""What a child has yet to tell, where its parent finds it should the child be killed before.

A page of memory that both have, made before the fork: a uint32, how many bytes follow, and those
bytes. The child alone writes, the parent reads once the child is dead, so neither waits for the
other. For example, with nothing to tell,

    00000000
"""

import mmap
from struct import Struct

CAPACITY = mmap.PAGESIZE - 4
_size = Struct("=I")


class PendingCloses:
    """One child's."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)

    def write(self, told: bytes) -> None:
        """Keep up to CAPACITY bytes in place of what stood there before."""
        self.clear()
        self._memory[_size.size : _size.size + len(told)] = told
        _size.pack_into(self._memory, 0, len(told))

    def clear(self) -> None:
        """Keep nothing."""
        _size.pack_into(self._memory, 0, 0)

    def read(self) -> bytes:
        """Return what stands there; whoever was killed while writing left nothing."""
        (size,) = _size.unpack_from(self._memory)
        return self._memory[_size.size : _size.size + min(size, CAPACITY)]

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()
