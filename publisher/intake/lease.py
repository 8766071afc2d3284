"""Whether a local process has a file open for writing: asked of the kernel, as a read lease.

The kernel gives a lease only on a file that nobody has open for writing, and holds up whoever
would open it so until the lease is let go. It gives none on most network file systems, nor on
another account's file without CAP_LEASE; there is nothing to learn there.
"""

import errno
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

IDLE_WRITER_SECONDS = 600.0  # seconds, for a writer that neither writes nor closes


class StillWritten(Exception):
    """The file is being written to."""


@contextmanager
def without_writers(descriptor: int, now: Callable[[], float] = time.time) -> Iterator[None]:
    """Keep a file that is open for reading from local writers; raise StillWritten if there is one.

    `now` is the file system's clock. A writer that did nothing for ten minutes is not waited
    for any longer, since nothing may be lost in silence.
    """
    leased = False
    if now() - os.fstat(descriptor).st_ctime < IDLE_WRITER_SECONDS:
        leased = _take_lease(descriptor)
    try:
        yield
    finally:
        if leased:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def _take_lease(descriptor: int) -> bool:
    try:
        # Whoever wants to write is announced by a signal, which would be a deadly one.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            raise StillWritten from None
        return False
    return True
