"""Starts a process of the server again after its death, and finds one that hangs.

The first time it is started at once, then after a pause that doubles up to 10 s. A process that ran
for a minute counts as sound, and is started at once again.

A process hangs if it owes an answer and makes no progress for `_STUCK_AFTER`. Its owner says what
progress is: an answer, or also processor time that it uses. Only time in which the server itself
ran counts.
"""

from collections.abc import Callable
from socket import socket
from typing import Protocol

import structlog

_MIN_PAUSE, _MAX_PAUSE = 0.1, 10.0  # seconds
_SOUND_AFTER = 60.0  # seconds
_STUCK_AFTER = 20.0  # seconds
_MAX_STEP = 2.0  # seconds between two looks at a process; the server itself was stopped for longer

_log = structlog.get_logger()


def receive(process: socket, size: int) -> bytes | None:
    """Return the next message of a process, b"" if it is gone, None if no message has arrived."""
    try:
        return process.recv(size)
    except BlockingIOError:
        return None
    except OSError:
        return b""


class Loop(Protocol):
    """The part of the monitor's loop (sftpd/monitor/loop) that this room uses."""

    @property
    def time(self) -> Callable[[], float]:
        """The clock."""

    def watch(self, file: socket, callback: Callable[[], object]) -> None:
        """Call `callback` whenever `file` is readable."""

    def unwatch(self, file: socket) -> None:
        """Stop watching `file`."""

    def call_at(self, when: float, callback: Callable[[], object]) -> object:
        """Call `callback` once, at `when`."""


class Progress:
    """Finds out whether a process hangs; `look` is called once a second."""

    def __init__(self) -> None:
        self._made = False
        self._looked = 0.0
        self._silent = 0.0

    def note(self) -> None:
        """Note that the process has made progress."""
        self._made = True

    def look(self, now: float, *, waiting: bool, limit: float | None = None) -> bool:
        """Say whether it hangs; `waiting` says whether an answer is due."""
        step, self._looked = min(now - self._looked, _MAX_STEP), now
        self._silent = 0.0 if self._made or not waiting else self._silent + step
        self._made = False
        return self._silent > (_STUCK_AFTER if limit is None else limit)


class Restarts:
    """The restarts of the process `name`, which `start` starts; it may raise OSError."""

    def __init__(self, name: str, loop: Loop, start: Callable[[], object]) -> None:
        self._name = name
        self._loop = loop
        self._start = start
        self._started = 0.0
        self._pause = 0.0
        self._ended = False

    def started(self) -> None:
        """Note that the process runs now."""
        self._started = self._loop.time()

    def died(self, status: int | None) -> None:
        """Log that the process has died, and have it started again."""
        if self._loop.time() >= self._started + _SOUND_AFTER:
            self._pause = 0.0
        self._again(status, self._pause)
        self._pause = min(max(_MIN_PAUSE, 2 * self._pause), _MAX_PAUSE)

    def end(self) -> None:
        """Start the process no more."""
        self._ended = True

    def _again(self, status: int | str | None, pause: float) -> None:
        if self._ended:
            return
        _log.error("process-died", name=self._name, status=status, retry_seconds=pause)
        self._loop.call_at(self._loop.time() + pause, self._restart)

    def _restart(self) -> None:
        if self._ended:
            return
        try:
            self._start()
        except OSError as error:
            self._again(str(error), _MAX_PAUSE)
