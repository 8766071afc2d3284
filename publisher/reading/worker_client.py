"""Reads files through worker processes that may crash or hang without harming the publisher.

One Reader drives one worker, and belongs to one thread. A file that kills its worker is given one
more try on a fresh one, for the worker may have died of an earlier page; then that file alone is
at fault. One with a page that takes longer than the deadline is at fault at once.
"""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from publisher.page import Look, Reason
from publisher.reading.protocol import READY, parse_look, receive, send

COMMAND = (sys.executable, "-P", "-m", "publisher.reading.worker")
DEADLINE = 5.0
_MOST_ANSWER = 8 << 20
_ROOT = Path(__file__).resolve().parents[2]


class Unavailable(OSError):
    """No worker starts on this machine; the page is not at fault."""


class Closed(Exception):
    """The reader was closed while it read."""


class Reader:
    """A worker, started when first needed and replaced when it dies; close it."""

    def __init__(
        self,
        command: Sequence[str] = COMMAND,
        deadline: float = DEADLINE,
        start_deadline: float = 30.0,
        most_pages: int = 2000,
    ) -> None:
        """`command` gets our process id as one more argument; deadlines are in seconds.

        A worker is replaced after `most_pages`, so that what the libraries leak stays small.
        """
        self._command = command
        self._deadline = deadline
        self._start_deadline = start_deadline
        self._most_pages = most_pages
        self._pages = 0
        self._worker: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._closed = False
        self._lock = threading.Lock()  # held while the worker is replaced, never while it reads

    def look(self, data: bytes) -> Look:
        """Return what is in the file; raise Unavailable, or Closed if that happened meanwhile."""
        for attempt in (1, 2):
            channel = self._ready_channel()
            begun = time.monotonic()
            fault = Reason.READER_DIED
            try:
                if parts := self._asked(channel, data):
                    return Look.of(parts)
            except TimeoutError:
                fault = Reason.READER_TIMEOUT
            except (OSError, ValueError):
                pass
            self._stop()
            if self._closed:
                raise Closed
            if fault is Reason.READER_TIMEOUT or attempt == 2:
                break
        return Look(ms=round((time.monotonic() - begun) * 1000), fault=fault)

    @property
    def process_id(self) -> int | None:
        """The worker's, while there is one."""
        return None if self._worker is None else self._worker.pid

    def close(self) -> None:
        """End the worker at once; may be called from another thread."""
        self._closed = True
        self._stop()

    def _asked(self, channel: socket.socket, data: bytes) -> list[Look]:
        """Return what was seen on each page, nothing if the worker died; each has its deadline."""
        channel.settimeout(self._deadline)
        send(channel, data)
        parts: list[Look] = []
        while not parts or len(parts) < parts[0].frames:
            answer = receive(channel, _MOST_ANSWER, time.monotonic() + self._deadline)
            if answer is None:
                return []
            parts.append(parse_look(answer))
        return parts

    def _ready_channel(self) -> socket.socket:
        if self._pages >= self._most_pages:
            self._stop()
        with self._lock:
            if self._closed:
                raise Closed
            if self._channel is None:
                self._channel = self._started()
                self._pages = 0
            self._pages += 1
            return self._channel

    def _started(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._worker = subprocess.Popen(
                    [*self._command, str(os.getpid())],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    env={"PYTHONPATH": str(_ROOT), "OPENBLAS_NUM_THREADS": "1", "LC_ALL": "C"},
                )
            ours.settimeout(self._start_deadline)
            if receive(ours, len(READY)) != READY:
                raise Unavailable(f"{' '.join(self._command)} does not start, run it to see why")
        except BaseException as error:
            ours.close()
            self._end_worker()
            if isinstance(error, Unavailable) or not isinstance(error, OSError):
                raise
            raise Unavailable(f"{' '.join(self._command)} does not start: {error}") from error
        return ours

    def _stop(self) -> None:
        # A reader that waits on the channel sees its end when the worker dies.
        worker = self._worker
        if worker is not None:
            worker.kill()
        with self._lock:
            self._end_worker()
            if self._channel is not None:
                self._channel.close()
                self._channel = None

    def _end_worker(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._worker.wait()
            self._worker = None
