"""Reads pages again for operators, beside the filing: one thread with a sandboxed worker.

The publisher handles requests between two batches of pages, and a page that is read again takes
seconds. So a request is begun here, and answered at a later look.
"""

import queue as queues
import sys
import threading
from collections.abc import Callable

import structlog

from publisher.reading.protocol import format_result
from publisher.reading.worker_client import ClientClosed, WorkerClient
from publisher.requests.queue import Answer

Task = Callable[[], bytes]

COMMAND = (sys.executable, "-P", "-m", "publisher.reading.reread")
DEADLINE = 20.0  # seconds for one page
MAX_WAITING = 64

log = structlog.get_logger()


def new_client() -> WorkerClient:
    """Return the client of a worker that reads pages again."""
    return WorkerClient(COMMAND, DEADLINE)


class Rereader:
    """The thread and its worker; they start with the first request. Must be closed."""

    def __init__(self, new: Callable[[], WorkerClient] = new_client) -> None:
        self._new_client = new
        self._tasks: queues.Queue[tuple[str, Task] | None] = queues.Queue()
        self._begun: set[str] = set()
        self._answers: dict[str, Answer] = {}
        self._client: WorkerClient | None = None
        self._thread: threading.Thread | None = None

    def answer(self, identity: str, task: Task) -> Answer | None:
        """Return the answer to a request, None while it is not there; begin with it if needed.

        `task` returns the message to the worker, or raises ValueError with why there is none. It is
        called in the thread when its turn comes, so that few files are in memory.
        """
        if (found := self._answers.pop(identity, None)) is not None:
            self._begun.discard(identity)
            return found
        if identity not in self._begun:
            if len(self._begun) >= MAX_WAITING:
                return Answer(False, f"{MAX_WAITING} pages wait to be read again, try later")
            self._begun.add(identity)
            self._start()
            self._tasks.put((identity, task))
        return None

    def close(self) -> None:
        """Stop at once; requests that are not answered yet are read by the next publisher."""
        if self._thread is not None and self._client is not None:
            self._tasks.put(None)
            self._client.close()
            self._thread.join()

    def _start(self) -> None:
        if self._thread is None:
            self._client = self._new_client()
            self._thread = threading.Thread(target=self._work, name="rereader")
            self._thread.start()

    def _work(self) -> None:
        assert self._client is not None  # noqa: S101 - it is made before the thread
        while (task := self._tasks.get()) is not None:
            identity, message = task
            try:
                seen = self._client.read(message())
            except ClientClosed:
                return
            except Exception as error:  # else the thread ends, and no request is answered again
                if not isinstance(error, (OSError, ValueError)):
                    log.exception("reread-failed", request=identity)
                cause = str(error) or type(error).__name__
                self._answers[identity] = Answer(False, cause)
                continue
            self._answers[identity] = Answer(seen.fault is None, format_result(seen).decode())
