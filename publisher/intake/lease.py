"""Asks the kernel whether a local process has a file open for writing, by a read lease (fcntl(2)).

The kernel grants a read lease only on a file that no process has open for writing. While we hold
it, a process that opens the file for writing is blocked until we release it.

There are three answers; UNKNOWN is never treated as NONE:

    NONE      no process can write to the file while the lease is held
    SOME      a process has it open for writing
    UNKNOWN   the kernel cannot tell: the file belongs to another account and this process lacks
              CAP_LEASE, or it is on a share, where the writer may be on another machine

With UNKNOWN, a file is copied and read, but it is removed only after it has not changed for
`[intake] quiet_seconds` (publisher/intake/held).
"""

import errno
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from pathlib import Path

from keys.kernel import capabilities, file_system

# A process that keeps a file open for writing but has not changed it for this many seconds is no
# longer waited for: otherwise the page would never be filed and no one would notice.
IDLE_WRITER_SECONDS = 600.0


class StillWritten(Exception):
    """The file is being written to."""


class Writers(Enum):
    """Whether a process has a file open for writing."""

    NONE = auto()
    SOME = auto()
    UNKNOWN = auto()


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


@contextmanager
def blocking_writers(descriptor: int) -> Iterator[Writers]:
    """Block local writers of a file that is open for reading, if that is possible.

    Yields whether there are any; only NONE is certain for as long as the body runs.
    """
    try:
        leased = _take_lease(descriptor)
    except StillWritten:
        yield Writers.SOME
        return
    try:
        yield Writers.NONE if leased else Writers.UNKNOWN
    finally:
        if leased:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def obstacle(folder: Path) -> str | None:
    """Return why there are no leases on other accounts' files in a folder; None if there are.

    Raises OSError if the folder cannot be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not file_system.is_local(descriptor):
            return "it is a share, where a writer may be on another machine"
    finally:
        os.close(descriptor)
    if not capabilities.has(capabilities.LEASE):
        return "the publisher has no CAP_LEASE, which the units of `ssps init --system` give it"
    return None


def _take_lease(descriptor: int) -> bool:
    """Return whether the kernel granted a lease; raise StillWritten if a process writes."""
    if not file_system.is_local(descriptor):
        return False  # on a share, EAGAIN may also mean that the file server refused a delegation
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
