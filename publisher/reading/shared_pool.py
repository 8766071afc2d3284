"""The leader's pool: reads pages itself, and offers to other hosts what it has not come to yet.

Without another reader this is the leader's own pool (publisher/reading/pool) and a look at one row
every two seconds. With others, the pool gets a few pages for each of its workers, and the rest go
into the table of publisher/reading/tasks. When the pool has nothing to do, it takes pages back from
there. A thread with a connection of its own exchanges pages and answers with the table.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from publisher.page import Arrival, Page, split_file
from publisher.reading import claimed
from publisher.reading.pool import Pool
from publisher.reading.tasks import SEEN_SECONDS, Answer, Tasks
from publisher.store.store import Store

_OWN_PAGES_PER_WORKER = 4  # so many wait in the own pool; others are offered
_TICK_SECONDS = 0.1  # how often answers are looked for while there are offered pages
_AT_ONCE = 256


class SharedPool:
    """Has the methods of a Pool; must be closed. One thread calls `submit` and `results`."""

    def __init__(
        self,
        own: Pool,
        claim: str,
        spool: Path,
        store: Store,
        wake: threading.Event,
        tasks: Tasks,
        term: int,
        host: str,
    ) -> None:
        """`own` and `tasks` are closed with this; `wake` is set when others have read a page.

        `own` writes under the names of `claim` (publisher/reading/claimed).
        """
        self._own = own
        self._claim = claim
        self._spool = spool
        self._store = store
        self._wake = wake
        self._term = term
        self._host = host
        self._offered: dict[str, Arrival] = {}
        self._outbox: deque[Arrival] = deque()
        self._returned: deque[Arrival] = deque()
        self._answers: deque[Answer] = deque()
        self._error: BaseException | None = None
        self._other_workers = 0
        self._read = 0  # pages that the own pool has read and the table does not count yet
        self._closing = threading.Event()
        self._ticked = threading.Event()
        self._tasks = tasks
        self._thread = threading.Thread(target=self._exchange, name="shared-reading")
        self._thread.start()

    @property
    def workers(self) -> int:
        """How many worker processes read pages, on all hosts."""
        return self._own.workers + self._other_workers

    @property
    def in_flight(self) -> int:
        """How many files were submitted and not returned by `results`."""
        return self._own.in_flight + len(self._offered)

    @property
    def split_in_flight(self) -> int:
        """How many of them are pages of a file that was split."""
        offered = sum(split_file(one) is not None for one in self._offered.values())
        return self._own.split_in_flight + offered

    @property
    def unread(self) -> int:
        """How many of the submitted files are not read yet."""
        return self._own.unread + len(self._offered) - len(self._answers)

    def submit(self, arrival: Arrival) -> None:
        """Queue a file for reading, here or on another host."""
        own = self._own
        if not self._other_workers or own.unread < own.workers * _OWN_PAGES_PER_WORKER:
            own.submit(arrival)
            return
        self._offered[arrival.id] = arrival
        self._outbox.append(arrival)
        self._ticked.set()

    def results(self, limit: int) -> tuple[list[Page], list[Arrival]]:
        """Return what Pool.results returns; raises Unreachable if PostgreSQL does not answer."""
        if self._error is not None:
            raise self._error
        while self._returned:
            self._submit_again(self._returned.popleft())
        pages, unsettled = self._own.results(limit)
        for page in pages:
            claimed.adopt(page, self._claim, self._spool, self._store)
        self._read += len(pages)
        while self._answers and len(pages) < limit:
            one = self._answers.popleft()
            if self._offered.pop(one.arrival.id, None) is None:
                continue
            if one.page is None:
                unsettled.append(one.arrival)
            elif self._adopted(one, one.page):
                pages.append(one.page)
            else:
                self._own.submit(one.arrival)
        if self._answers:
            self._wake.set()
        return pages, unsettled

    def remove_left_behind(self, is_done: Callable[[str], bool]) -> None:
        """Remove what readers that are gone have left of pages that are done."""
        claimed.remove_left_behind(self._claim, self._spool, self._store, is_done)

    def close(self) -> None:
        """Stop at once; files that are being read stay in the spool."""
        self._closing.set()
        self._ticked.set()
        self._own.close()
        self._thread.join()
        with suppress(OSError):  # the next leader removes what stays
            claimed.sweep(self._claim, self._spool, self._store)

    def _submit_again(self, arrival: Arrival) -> None:
        if self._offered.pop(arrival.id, None) is not None:
            self._own.submit(arrival)

    def _adopted(self, one: Answer, page: Page) -> bool:
        """Take over what a reader has put into store and spool; False if it is not there."""
        if page.sha256 is None:
            return True
        if one.digests is None:
            return False
        try:
            claimed.adopt(page, one.claim, self._spool, self._store, one.digests)
        except FileNotFoundError:
            return False
        return True

    def _exchange(self) -> None:
        try:
            self._tasks.clear(self._term)
            next_seen = time.monotonic()
            while not self._closing.is_set():
                if time.monotonic() >= next_seen:
                    next_seen = time.monotonic() + SEEN_SECONDS
                    self._meet_others()
                if self._offered:
                    self._exchange_pages()
                self._ticked.wait(_TICK_SECONDS if self._offered else SEEN_SECONDS)
                self._ticked.clear()
            self._tasks.left(self._host)
        except BaseException as error:  # the filing thread raises it
            self._error = error
            self._wake.set()
        finally:
            self._tasks.close()

    def _meet_others(self) -> None:
        count, self._read = self._read, 0
        self._tasks.seen(self._host, self._own.workers, count)
        self._other_workers = self._tasks.other_workers(self._host)

    def _exchange_pages(self) -> None:
        new = [self._outbox.popleft() for _ in range(min(len(self._outbox), _AT_ONCE))]
        self._tasks.add(new, self._term)
        found = self._tasks.answers(self._term, _AT_ONCE)
        self._answers.extend(found)
        # Pages that others failed to read or do not read now, if there is time.
        alone, idle = not self._other_workers, self._own.unread < self._own.workers
        room = _AT_ONCE if alone else self._own.workers * _OWN_PAGES_PER_WORKER
        back = self._tasks.take_back(self._term, room, every=alone or idle)
        self._returned.extend(back)
        if found or back:
            self._wake.set()
