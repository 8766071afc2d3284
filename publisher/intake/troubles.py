"""Remembers the files and folders of the intake that cannot be read now, and when to try again.

If a share is gone, a folder may not be entered or another process keeps a file locked, only that
entry waits; everything else is filed. Each trouble is logged when it begins and when its cause
changes, and shown by `ssps status` until it is over.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from keys.ledger.writer import utc_now
from publisher.page import escaped

_MAX_TRIES = 32  # more tries do not change the delay, which has reached its limit

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a file or folder of the intake cannot be read, since when, and what helps."""

    path: str
    cause: str
    advice: str
    since: datetime
    tries: int = 1


class Troubles:
    """The current troubles of one intake."""

    def __init__(
        self, first_delay: float, max_delay: float, clock: Callable[[], datetime] = utc_now
    ) -> None:
        """Delays are in seconds; each try doubles the delay up to `max_delay`."""
        self._first_delay = max(first_delay, 0.05)
        self._max_delay = max_delay
        self._clock = clock
        self._of: dict[str, Trouble] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._of

    def note_file(self, path: str, cause: str, advice: str = "") -> float:
        """Note the trouble of a file, log a new one, and return the delay to the next try."""
        if self._note(path, cause, advice):
            hint = {"advice": advice} if advice else {}
            log.error("not-claimed", name=escaped(path), cause=cause, **hint)
        return self._delay(path)

    def note_folder(self, path: str, cause: str, advice: str = "") -> float:
        """Note and log that a folder cannot be read; return the seconds until the next attempt."""
        if self._note(path, cause, advice):
            hint = {"advice": advice} if advice else {}
            log.error("intake-folder-unreadable", folder=escaped(path), cause=cause, **hint)
        return self._delay(path)

    def _note(self, path: str, cause: str, advice: str) -> bool:
        """Note a trouble; return True if it is a new one."""
        known = self._of.get(path)
        if known is not None and known.cause == cause:
            self._of[path] = replace(known, tries=min(known.tries + 1, _MAX_TRIES))
            return False
        self._of[path] = Trouble(path, cause, advice, self._clock())
        return True

    def _delay(self, path: str) -> float:
        return float(min(self._first_delay * 2.0 ** (self._of[path].tries - 1), self._max_delay))

    def over(self, path: str) -> None:
        """Note that a file or folder has no trouble any more."""
        known = self._of.pop(path, None)
        if known is not None:
            log.info("intake-trouble-over", name=escaped(path), cause=known.cause)

    def all(self) -> tuple[Trouble, ...]:
        """Return the current troubles, the oldest first."""
        return tuple(sorted(self._of.values(), key=lambda trouble: trouble.since))
