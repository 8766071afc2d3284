"""Limits how often a client may start a key exchange on a connection that has logged in.

A client may exchange keys after any number of bytes (RFC 4253 section 9 advises a gigabyte).
OpenSSH accepts a RekeyLimit from 16 bytes on, and its server limits nothing. But each exchange
costs the server a signature, about a millisecond, and the client next to nothing. So a client may
start BURST exchanges at once. After that it may start one for each second, and one for each BYTES
that it has sent or received, so a RekeyLimit of BYTES or more always works. A client that starts
more is disconnected. The exchanges that the server starts do not count.
"""

import time
from collections.abc import Callable

BURST = 32.0
PER_SECOND = 1.0
BYTES = 64 * 1024


class RekeyLimit:
    """The limit of one connection."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._left = BURST
        self._refilled_at = monotonic()

    def allow(self, size: int) -> bool:
        """Count one exchange, `size` bytes after the last; return False if it is one too many."""
        now = self._monotonic()
        earned = (now - self._refilled_at) * PER_SECOND + size / BYTES
        self._left, self._refilled_at = min(BURST, self._left + earned), now
        if self._left < 1:
            return False
        self._left -= 1
        return True
