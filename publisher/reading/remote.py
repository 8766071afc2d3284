"""Reads pages for the leader on another host, until this publisher is elected itself.

Pages come from the table of publisher/reading/tasks and go through a pool like the leader's, with
sandboxed workers. What is read is made durable before the answer is written, because the leader
cannot sync what another host has written.
"""

import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import structlog

from keys.files import sync_file_system
from publisher.database import UNAVAILABLE, cause_of
from publisher.election.leader import LOOK_SECONDS, SOON_SECONDS, Candidate, Leader
from publisher.page import Arrival, Page
from publisher.reading import claimed
from publisher.reading.tasks import RENEWED_SECONDS, SEEN_SECONDS, Answer, Tasks
from publisher.reading.worker_client import WorkerClient
from publisher.store.store import Store

_PAGES_PER_WORKER = 4
_IDLE_SECONDS = 0.2  # how often a reader without work looks for some
_GATHER_SECONDS = 0.04
_RETRY_SECONDS = 1.0

log = structlog.get_logger()


class Stop(Protocol):
    """A threading.Event, or an object with the same two methods."""

    def is_set(self) -> bool:
        """Return whether the publisher must stop."""

    def wait(self, timeout: float) -> bool:
        """Wait `timeout` seconds or until the publisher must stop; return whether it must."""


def read_until_elected(
    candidate: Candidate,
    spool: Path,
    store: Callable[[], Store],
    stop: Stop,
    workers: int,
    new_client: Callable[[], WorkerClient],
    *,
    ready: Callable[[], None] = lambda: None,
    each_turn: Callable[[], object] = lambda: None,
) -> Leader | None:
    """Read pages for the leader; return the leadership of this process, None if it must stop.

    `ready` is called once this process reads. `each_turn` is called about twice a second. If
    PostgreSQL or the shared file system does not answer later, it waits, and logs `reader-halted`
    once. Raises Unreachable or OSError if they do not answer at first.
    """
    halted: str | None = None  # why it does not read; None before it has read
    while not stop.is_set():
        try:
            if (leader := candidate.try_to_lead()) is not None:
                return leader
            with _Reading(candidate, spool, store(), workers, new_client) as reading:
                halted = ""
                ready()
                log.info("reading-for-leader", host=candidate.host, workers=workers)
                while not stop.is_set():
                    if (leader := reading.turn()) is not None:
                        return leader
                    each_turn()
        except (OSError, *UNAVAILABLE) as error:
            if halted is None:
                raise
            if (cause := cause_of(error)) != halted:
                log.error("reader-halted", cause=cause, retry_seconds=_RETRY_SECONDS)
                halted = cause
        stop.wait(_RETRY_SECONDS)
    return None


class _Reading:
    """The connection, the pool and the claims of a reader; use it in a `with`."""

    def __init__(
        self,
        candidate: Candidate,
        spool: Path,
        store: Store,
        workers: int,
        new_client: Callable[[], WorkerClient],
    ) -> None:
        self._candidate = candidate
        self._spool = spool
        self._store = store
        self._claim = secrets.token_hex(8)
        self._depth = workers * _PAGES_PER_WORKER
        self._wake = threading.Event()
        self._count = 0
        self._next_look = self._next_renewal = self._next_seen = time.monotonic()
        self._tasks = Tasks(candidate.url)
        self._pool = claimed.new_pool(self._claim, workers, spool, store, self._wake, new_client)

    def __enter__(self) -> "_Reading":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.close()
        try:
            self._tasks.give_up(self._claim)
            self._tasks.left(self._candidate.host)
        except (OSError, *UNAVAILABLE):
            pass  # the claims expire
        finally:
            self._tasks.close()

    def turn(self) -> Leader | None:
        """Claim pages, answer what was read, then wait a moment."""
        now = time.monotonic()
        if now >= self._next_look:
            left = self._candidate.seconds_left(self._tasks.connection)
            if left <= 0 and (leader := self._candidate.try_to_lead()) is not None:
                return leader
            self._next_look = now + min(LOOK_SECONDS, max(left, SOON_SECONDS))
        if now >= self._next_seen:
            self._next_seen = now + SEEN_SECONDS
            count, self._count = self._count, 0
            self._tasks.seen(self._candidate.host, self._pool.workers, count)
        if now >= self._next_renewal and self._pool.in_flight:
            self._next_renewal = now + RENEWED_SECONDS
            self._tasks.renew(self._claim)
        room = self._depth - self._pool.in_flight
        if room > 0:
            for arrival in self._tasks.claim(self._claim, room):
                self._pool.submit(arrival)
        pages, unsettled = self._pool.results(self._depth)
        self._answer(pages, unsettled)
        if self._wake.wait(_IDLE_SECONDS) and self._pool.unread:
            time.sleep(_GATHER_SECONDS)  # as the leader does, so that one sync is for more pages
        self._wake.clear()
        return None

    def _answer(self, pages: list[Page], unsettled: list[Arrival]) -> None:
        if pages:
            self._store.sync()
        if any(page.extracts for page in pages):
            sync_file_system(self._spool)
        for page in pages:
            digests = page.sha256 and self._store.take_digests(page.sha256)
            one = Answer(page.arrival, self._claim, page, digests or None)
            if self._tasks.answer(one):
                self._count += 1
            else:
                claimed.discard(page, self._claim, self._spool, self._store)
        for arrival in unsettled:
            self._tasks.answer(Answer(arrival, self._claim))
