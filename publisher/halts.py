"""How long a process waits after an error of the disk or the database, and what it logs of it.

the disk                     1 s, then twice as long each time, up to 30 s
PostgreSQL, the election     1 s each time, since a server that works again says so only to
                             who asks; the same cause is logged once in 30 s
"""

import time
from collections.abc import Callable

import structlog

from publisher.database import Unreachable, cause_of
from publisher.election.lease import Deposed

MAX_RETRY_SECONDS = 30.0
_FIRST_RETRY_SECONDS = 1.0
_OF_DATABASE = (Unreachable, Deposed)

log = structlog.get_logger()


class Halts:
    """The halts of one process; `event` is what it logs."""

    def __init__(self, event: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._event = event
        self._monotonic = monotonic
        self._begun = self._logged_at = float("-inf")
        self._pause = _FIRST_RETRY_SECONDS
        self._cause = ""

    def begin(self) -> None:
        """Note that a run begins; one that lasts long starts the pauses again from the first."""
        self._begun = self._monotonic()

    def pause_after(self, error: Exception) -> float:
        """Log what ended a run, and return for how many seconds to wait before the next one."""
        now, cause = self._monotonic(), cause_of(error)
        if now - self._begun > MAX_RETRY_SECONDS:
            self._pause = _FIRST_RETRY_SECONDS
        of_database = isinstance(error, _OF_DATABASE)
        pause = _FIRST_RETRY_SECONDS if of_database else self._pause
        if not of_database:
            self._pause = min(self._pause * 2, MAX_RETRY_SECONDS)
        if not of_database or cause != self._cause or now - self._logged_at >= MAX_RETRY_SECONDS:
            log.error(self._event, cause=cause, retry_seconds=pause)
            self._cause, self._logged_at = cause, now
        return pause
