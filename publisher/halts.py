"""How long a process waits after an error of the disk or the database, and whether to log it.

the disk                     1 s, then twice as long each time, up to 30 s
PostgreSQL, the election     1 s each time, since a server that works again says so only to
                             who asks; the same cause is logged once in 30 s
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from publisher.database import Unreachable, cause_of
from publisher.election.lease import Deposed

MAX_RETRY_SECONDS = 30.0
_FIRST_RETRY_SECONDS = 1.0
_OF_DATABASE = (Unreachable, Deposed)


class Halt(NamedTuple):
    """Why a run ended, for how many seconds to wait, and whether the log does not say so yet."""

    cause: str
    pause: float
    is_news: bool


class Halts:
    """The halts of one process."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._begun = self._logged_at = float("-inf")
        self._pause = _FIRST_RETRY_SECONDS
        self._cause = ""

    def begin(self) -> None:
        """Note that a run begins; one that lasts long starts the pauses again from the first."""
        self._begun = self._monotonic()

    def after(self, error: Exception) -> Halt:
        """Return what follows from the error that ended a run."""
        now, cause = self._monotonic(), cause_of(error)
        if now - self._begun > MAX_RETRY_SECONDS:
            self._pause = _FIRST_RETRY_SECONDS
        if not isinstance(error, _OF_DATABASE):
            pause, self._pause = self._pause, min(self._pause * 2, MAX_RETRY_SECONDS)
            return Halt(cause, pause, is_news=True)
        is_news = cause != self._cause or now - self._logged_at >= MAX_RETRY_SECONDS
        if is_news:
            self._cause, self._logged_at = cause, now
        return Halt(cause, _FIRST_RETRY_SECONDS, is_news)
