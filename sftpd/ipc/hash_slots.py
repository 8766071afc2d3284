"""Limits how many passwords are hashed at the same time, over all children.

Each argon2id hash takes 64 MiB. A slot is a byte position in an in-memory file that the monitor
creates and every child inherits. While a child hashes, it holds a record lock on its slot
(fcntl(2), F_SETLKW); the kernel releases the lock if the child dies. The file is empty and sealed:
otherwise a child could fill the machine's memory by writing to it.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

COUNT = 4
_SEALS = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class HashSlots:
    """The slots that the monitor and its children share; close it after use."""

    def __init__(self, count: int = COUNT) -> None:
        self.descriptor = os.memfd_create("hash-slots", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _SEALS)
        self._count = count

    @contextmanager
    def acquire(self) -> Iterator[None]:
        """Wait for this process's slot, and hold it during the `with` block."""
        slot = os.getpid() % self._count
        fcntl.lockf(self.descriptor, fcntl.LOCK_EX, 1, slot)
        try:
            yield
        finally:
            fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1, slot)

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)
