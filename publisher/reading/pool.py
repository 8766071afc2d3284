"""Reads claimed pages on several cores: threads, each with a Reader and so a worker of its own.

A page's bytes are read once. What is hashed, decoded and staged for the store are those bytes,
so the scanner may do to its own file what it likes meanwhile.
"""

import hashlib
import os
import stat
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

from publisher.intake.lease import Unsettled, unwritten
from publisher.page import Arrival, Look, Page, Reason, Stamp
from publisher.reading.protocol import MOST_BYTES
from publisher.reading.worker_client import Closed, Reader

Stage = Callable[[str, bytes], object]


def read_page(arrival: Arrival, path: Path, look: Callable[[bytes], Look], stage: Stage) -> Page:
    """Read one page, and stage its bytes; raise Unsettled while somebody writes to it.

    OSError is the disk's failure. A link, pipe, socket or device is never opened in earnest.
    """
    standing = path.lstat()
    stamp = Stamp.of(standing)
    if not stat.S_ISREG(standing.st_mode):
        return Page(arrival, stamp, None, Look(fault=Reason.NOT_A_FILE))
    if stamp.size > MOST_BYTES:
        return Page(arrival, stamp, None, Look(fault=Reason.TOO_LARGE))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        return Page(arrival, stamp, None, Look(fault=Reason.NOT_PERMITTED))
    with os.fdopen(descriptor, "rb", buffering=0) as file, unwritten(descriptor):
        content = _all_of(file.read, stamp.size)
        if Stamp.of(os.fstat(descriptor)) != stamp:
            raise Unsettled
    sha256 = hashlib.sha256(content).hexdigest()
    seen = look(content) if content else Look(fault=Reason.EMPTY)
    stage(arrival.id, content)
    return Page(arrival, stamp, sha256, seen)


def _all_of(read: Callable[[int], bytes | None], size: int) -> bytes:
    parts: list[bytes] = []
    while size > 0 and (part := read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


class Pool:
    """The threads; close it. `submit` and `results` belong to one thread."""

    def __init__(
        self,
        count: int,
        spool: Path,
        stage: Stage,
        bell: threading.Event,
        reader: Callable[[], Reader] = Reader,
    ) -> None:
        """`bell` is set whenever a result is there to be fetched."""
        self._spool = spool
        self._stage = stage
        self._bell = bell
        self._tasks: SimpleQueue[Arrival | None] = SimpleQueue()
        self._results: deque[Page | Arrival | BaseException] = deque()
        self._readers = [reader() for _ in range(count)]
        self._closing = False
        self.under_way = 0
        self._threads = [
            threading.Thread(target=self._work, args=(reader,), name=f"reader-{number}")
            for number, reader in enumerate(self._readers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def reading(self) -> int:
        """How many are still to be read."""
        return self.under_way - len(self._results)

    def submit(self, arrival: Arrival) -> None:
        """Have a page read."""
        self.under_way += 1
        self._tasks.put(arrival)

    def results(self, most: int) -> tuple[list[Page], list[Arrival]]:
        """Return pages that were read, and arrivals that were written to meanwhile.

        Raises what a thread met that is no page's fault.
        """
        pages: list[Page] = []
        unsettled: list[Arrival] = []
        while self._results and len(pages) < most:
            found = self._results.popleft()
            self.under_way -= 1
            if isinstance(found, BaseException):
                raise found
            if isinstance(found, Page):
                pages.append(found)
            else:
                unsettled.append(found)
        if self._results:
            self._bell.set()
        return pages, unsettled

    def close(self) -> None:
        """End threads and workers at once; what they were reading stays claimed."""
        self._closing = True
        for _ in self._threads:
            self._tasks.put(None)
        for reader in self._readers:
            reader.close()
        for thread in self._threads:
            thread.join()

    def _work(self, reader: Reader) -> None:
        while (arrival := self._tasks.get()) is not None and not self._closing:
            path = self._spool / arrival.file
            found: Page | Arrival | BaseException
            try:
                found = read_page(arrival, path, reader.look, self._stage)
            except Unsettled:
                found = arrival
            except Closed:
                return
            except BaseException as error:  # the filing thread raises it
                found = error
            self._results.append(found)
            self._bell.set()
