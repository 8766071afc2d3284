"""Asks the kernel whether a local process has a file open for writing, by a read lease (fcntl(2)).

The kernel grants a read lease only on a file that no process has open for writing. While we hold
it, a process that opens the file for writing is blocked until we release it. The kernel grants no
lease on most network file systems, and none on another account's file without CAP_LEASE; there
this check cannot tell and lets the file pass.
"""

import errno
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# A process that keeps a file open for writing but has not changed it for this many seconds is no
# longer waited for: otherwise the page would never be filed and no one would notice.
IDLE_WRITER_SECONDS = 600.0


class StillWritten(Exception):
    """The file is being written to."""


@contextmanager
def without_writers(descriptor: int, now: Callable[[], float] = time.time) -> Iterator[None]:
    """Block local writers of a file that is open for reading; raise StillWritten if there is one.

    `now` is the clock of the file system, in seconds since 1970.
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
        # The kernel announces a blocked writer with SIGIO, which would end this process.
        # SIGURG is ignored by default.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            raise StillWritten from None
        return False
    return True
