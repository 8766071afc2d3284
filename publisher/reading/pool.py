"""Reads claimed files on several cores: several threads, each with its own worker process.

Files are read page by page, in turns: of a file that was split into pages, one page is read in each
turn, so that a file of many slow pages does not hold up the others. Every fourth time the page that
has waited longest is read, so that these pages also get on while many files arrive.

A file is read from the disk once; the same bytes are hashed, decoded and staged for the store. So
it does no harm if the scanner changes the file in the meantime.
"""

import hashlib
import heapq
import os
import stat
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from publisher.intake.lease import StillWritten, without_writers
from publisher.intake.spool import linked_place
from publisher.page import (
    MAX_FILE_BYTES,
    Arrival,
    Page,
    ReadResult,
    Reason,
    Stamp,
    extract_file,
    split_file,
)
from publisher.reading.worker_client import ClientClosed, WorkerClient

_OLDEST_FIRST = 4  # of so many pages, one is that which has waited longest

Stage = Callable[[str, bytes], object]


def read_page(
    arrival: Arrival,
    path: Path,
    read: Callable[[bytes], ReadResult],
    stage: Stage,
    name_extract: Callable[[str, int], str] = extract_file,
) -> Page:
    """Read one file and stage its bytes; raise StillWritten if a process is writing to it.

    If it has several pages, a file for each is put beside it (`extract_file`).

    An OSError means that the disk failed. A link, pipe, socket or device is never opened.
    """
    status = path.lstat()
    stamp = Stamp.of(status)
    if stat.S_ISLNK(status.st_mode) and str(path.readlink()) == linked_place(arrival):
        return Page(arrival, stamp, None, ReadResult(fault=Reason.TOO_LARGE))
    if not stat.S_ISREG(status.st_mode):
        return Page(arrival, stamp, None, ReadResult(fault=Reason.NOT_A_FILE))
    if stamp.size > MAX_FILE_BYTES:
        return Page(arrival, stamp, None, ReadResult(fault=Reason.TOO_LARGE))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        return Page(arrival, stamp, None, ReadResult(fault=Reason.NOT_PERMITTED))
    with os.fdopen(descriptor, "rb", buffering=0) as file, without_writers(descriptor):
        content = _read_all(file.read, stamp.size)
        if Stamp.of(os.fstat(descriptor)) != stamp:
            raise StillWritten
    sha256 = hashlib.sha256(content).hexdigest()
    result = read(content) if content else ReadResult(fault=Reason.EMPTY)
    stage(arrival.id, content)
    digests = []
    for number, extract in enumerate(result.extracts, start=1):
        (path.parent / name_extract(arrival.id, number)).write_bytes(extract)
        digests.append(hashlib.sha256(extract).hexdigest())
    return Page(arrival, stamp, sha256, replace(result, extracts=()), tuple(digests))


def _read_all(read: Callable[[int], bytes | None], size: int) -> bytes:
    parts: list[bytes] = []
    while size > 0 and (part := read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


class Turns:
    """A queue of arrivals for several threads, in which each file has its turn."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[int, Arrival] = {}  # by number
        self._queue: list[tuple[int, int]] = []  # turn and number
        self._next_turn: dict[str, int] = {}  # of each file that was split
        self._turn = self._taken = self._added = 0
        self._closed = False

    def put(self, arrival: Arrival) -> None:
        """Add an arrival; a page of a split file gets the turn after that of the page before."""
        with self._changed:
            turn = self._turn
            if (whole := split_file(arrival)) is not None:
                turn = max(turn, self._next_turn.get(whole, 0))
                self._next_turn[whole] = turn + 1
            self._added += 1
            self._waiting[self._added] = arrival
            heapq.heappush(self._queue, (turn, self._added))
            self._changed.notify()

    def take(self) -> Arrival | None:
        """Remove and return the arrival whose turn it is; wait for one. None once it is closed."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            self._taken += 1
            number = next(iter(self._waiting))  # the oldest
            if self._taken % _OLDEST_FIRST:
                while self._queue[0][1] not in self._waiting:
                    heapq.heappop(self._queue)
                self._turn, number = heapq.heappop(self._queue)
            arrival = self._waiting.pop(number)
            if not self._waiting:
                self._queue.clear()
                self._next_turn.clear()
                self._turn = 0
            return arrival

    def close(self) -> None:
        """Make `take` return None from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Pool:
    """The threads and their workers; must be closed. One thread calls `submit` and `results`."""

    def __init__(
        self,
        count: int,
        spool: Path,
        stage: Stage,
        wake: threading.Event,
        new_client: Callable[[], WorkerClient] = WorkerClient,
        name_extract: Callable[[str, int], str] = extract_file,
    ) -> None:
        """`wake` is set each time a file was read."""
        self.workers = count
        self._name_extract = name_extract
        self._spool = spool
        self._stage = stage
        self._wake = wake
        self._tasks = Turns()
        self._results: deque[Page | Arrival | BaseException] = deque()
        self._clients = [new_client() for _ in range(count)]
        self._closing = False
        self.in_flight = 0
        self.split_in_flight = 0  # those of them that are pages of a split file
        self._threads = [
            threading.Thread(target=self._work, args=(client,), name=f"reader-{number}")
            for number, client in enumerate(self._clients)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def unread(self) -> int:
        """How many of the submitted files are not read yet."""
        return self.in_flight - len(self._results)

    def submit(self, arrival: Arrival) -> None:
        """Queue a file for reading."""
        self.in_flight += 1
        self.split_in_flight += split_file(arrival) is not None
        self._tasks.put(arrival)

    def results(self, limit: int) -> tuple[list[Page], list[Arrival]]:
        """Return at most `limit` files that were read, and arrivals that are still written to.

        Raises any error of a thread that is not the fault of a file, such as a full disk.
        """
        pages: list[Page] = []
        unsettled: list[Arrival] = []
        while self._results and len(pages) < limit:
            found = self._results.popleft()
            self.in_flight -= 1
            if isinstance(found, BaseException):
                raise found
            if isinstance(found, Page):
                pages.append(found)
            else:
                unsettled.append(found)
            arrival = found.arrival if isinstance(found, Page) else found
            self.split_in_flight -= split_file(arrival) is not None
        if self._results:
            self._wake.set()
        return pages, unsettled

    def close(self) -> None:
        """Stop threads and workers at once; files that they were reading stay in the spool."""
        self._closing = True
        self._tasks.close()
        for client in self._clients:
            client.close()
        for thread in self._threads:
            thread.join()

    def _work(self, client: WorkerClient) -> None:
        while (arrival := self._tasks.take()) is not None and not self._closing:
            path = self._spool / arrival.file
            found: Page | Arrival | BaseException
            try:
                found = read_page(arrival, path, client.read, self._stage, self._name_extract)
            except StillWritten:
                found = arrival
            except ClientClosed:
                return
            except BaseException as error:  # the filing thread raises it
                found = error
            self._results.append(found)
            self._wake.set()
