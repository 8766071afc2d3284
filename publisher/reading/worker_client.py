"""Reads files in worker processes, which may crash or hang without harm to the publisher.

A WorkerClient drives one worker process and belongs to one thread. A file that kills its worker
is tried once more on a new worker, because an earlier file may have damaged the first one. If it
kills the new one too, the file is at fault. A file with a page that takes longer than the
deadline is at fault at once.
"""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from publisher.page import MAX_FILE_BYTES, ReadResult, Reason
from publisher.reading.protocol import READY, parse_result, receive, send

COMMAND = (sys.executable, "-P", "-m", "publisher.reading.worker")
DEADLINE = 5.0
_MAX_ANSWER_BYTES = 8 << 20
_ROOT = Path(__file__).resolve().parents[2]
# Of a worker. It keeps the memory of a page for the next one: to get it from the kernel again
# took a third of the time of a page (mallopt(3), and Pillow's "Block Allocator").
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "LC_ALL": "C",
    "PILLOW_BLOCKS_MAX": "8",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}


class WorkerUnavailable(OSError):
    """No worker starts on this machine; the page is not at fault."""


class ClientClosed(Exception):
    """The client was closed while it read."""


class WorkerClient:
    """A worker that is started when first needed and replaced when it dies; must be closed."""

    def __init__(
        self,
        command: Sequence[str] = COMMAND,
        deadline: float = DEADLINE,
        start_deadline: float = 30.0,
        max_pages: int = 2000,
    ) -> None:
        """`command` gets our process id as its last argument; deadlines are in seconds.

        A worker is replaced after `max_pages` files, because the libraries leak memory.
        """
        self._command = command
        self._deadline = deadline
        self._start_deadline = start_deadline
        self._max_pages = max_pages
        self._pages = 0
        self._worker: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._closed = False
        self._lock = threading.Lock()  # held while the worker is replaced, never while it reads

    def read(self, data: bytes) -> ReadResult:
        """Return what was read in the file.

        Raises WorkerUnavailable, and ClientClosed if the client is closed while it reads.
        """
        for attempt in (1, 2):
            channel = self._ready_channel()
            begun = time.monotonic()
            fault = Reason.READER_DIED
            try:
                if (seen := self._request(channel, data)) is not None:
                    return seen
            except TimeoutError:
                fault = Reason.READER_TIMEOUT
            except (OSError, ValueError):
                pass
            self._stop()
            if self._closed:
                raise ClientClosed
            if fault is Reason.READER_TIMEOUT or attempt == 2:
                break
        return ReadResult(ms=round((time.monotonic() - begun) * 1000), fault=fault)

    @property
    def process_id(self) -> int | None:
        """The process id of the worker, None while there is none."""
        return None if self._worker is None else self._worker.pid

    def close(self) -> None:
        """Kill the worker; may be called from another thread."""
        self._closed = True
        self._stop()

    def _request(self, channel: socket.socket, data: bytes) -> ReadResult | None:
        """Return what the worker answered, None if it died. Each answer has its own deadline."""
        channel.settimeout(self._deadline)
        send(channel, data)
        answer = receive(channel, _MAX_ANSWER_BYTES, time.monotonic() + self._deadline)
        if answer is None:
            return None
        seen = parse_result(answer)
        if seen.frames == 1:
            return seen
        extracts: list[bytes] = []
        for _ in range(seen.frames):
            room = MAX_FILE_BYTES - sum(map(len, extracts))
            extract = receive(channel, room, time.monotonic() + self._deadline)
            if extract is None:
                return None
            extracts.append(extract)
        return replace(seen, extracts=tuple(extracts))

    def _ready_channel(self) -> socket.socket:
        if self._pages >= self._max_pages:
            self._stop()
        with self._lock:
            if self._closed:
                raise ClientClosed
            if self._channel is None:
                self._channel = self._start_worker()
                self._pages = 0
            self._pages += 1
            return self._channel

    def _start_worker(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._worker = subprocess.Popen(
                    [*self._command, str(os.getpid())],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    env={"PYTHONPATH": str(_ROOT), **ENVIRONMENT},
                )
            ours.settimeout(self._start_deadline)
            if receive(ours, len(READY)) != READY:
                raise WorkerUnavailable(
                    f"{' '.join(self._command)} does not start; run it to see the error"
                )
        except BaseException as error:
            ours.close()
            self._end_worker()
            if isinstance(error, WorkerUnavailable) or not isinstance(error, OSError):
                raise
            raise WorkerUnavailable(f"{' '.join(self._command)} does not start: {error}") from error
        return ours

    def _stop(self) -> None:
        # A thread that waits on the channel gets end-of-file when the worker dies.
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
