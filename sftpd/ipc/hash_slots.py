"""So many passwords are hashed at once, over all children: argon2id takes 64 MiB for each.

A slot is a byte of a file in memory that the parent makes and every child inherits; whoever
hashes holds a record lock on it (fcntl(2), F_SETLKW), which the kernel gives back if it dies. The
file itself is empty and sealed: a child could fill the machine's memory with it otherwise.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

COUNT = 4
_SEALS = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class HashSlots:
    """Shared by the parent's children; close it."""

    def __init__(self, count: int = COUNT) -> None:
        self.descriptor = os.memfd_create("slots", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _SEALS)
        self._count = count

    @contextmanager
    def acquire(self) -> Iterator[None]:
        """Wait for this process's slot, and hold it for as long as the `with` lasts."""
        slot = os.getpid() % self._count
        fcntl.lockf(self.descriptor, fcntl.LOCK_EX, 1, slot)
        try:
            yield
        finally:
            fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1, slot)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self.descriptor)
