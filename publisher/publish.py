"""The publisher's main loop: files pages until it is told to stop.

When the disk fails (it is full or read-only, or the ledger cannot be written) no page is to blame.
The publisher then claims no more pages, logs `publisher-halted`, waits, and starts over with a
recovery, as it would after a crash.

If the catalog is in PostgreSQL, several hosts may run a publisher of the same site. One of them is
elected and files (publisher/election); the others read pages for it (publisher/reading/remote) and
follow it when its lease ends. A publisher that loses its lease halts, as when the disk fails.

Setting up, working and closing are one class, `_Run`, because they share what the run opened.
"""

import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from config import times
from config.fault import Faults
from config.registry import Registry
from config.settings import Settings
from config.site import (
    CATALOG,
    FILING,
    LEDGERS,
    REGISTRY_INDEX,
    SPOOL,
    ledger_name,
    ledger_names,
)
from keys.ledger.anchors import AnchorWriter
from keys.ledger.segments import read_checkpoint
from keys.ledger.writer import Clock, LedgerBusy, Unwritable, utc_now, write_policy
from keys.operations.publisher_state import MAX_TROUBLES, PublisherState, StateFile
from publisher.catalog import catalog
from publisher.catalog.catalog import Catalog
from publisher.database import UNAVAILABLE, location
from publisher.election.leader import SCHEMA, Leader, candidate_for
from publisher.election.terms import OrderedLedger
from publisher.feed.feed import FeedThread
from publisher.filing.filer import Filer, FilingContext
from publisher.filing.recovery import Recovery, Stopped
from publisher.halts import Halts
from publisher.intake import lease
from publisher.intake.held import HeldSources
from publisher.intake.watch import Intake, Settling
from publisher.page import Arrival, Stamp, escaped
from publisher.reading import claimed
from publisher.reading.pool import Pool
from publisher.reading.remote import Stop, read_until_elected
from publisher.reading.shared_pool import SharedPool
from publisher.reading.tasks import Tasks
from publisher.reading.worker_client import WorkerClient
from publisher.requests.handler import RequestHandler
from publisher.requests.rereader import Rereader
from publisher.store.quarantine import Quarantine
from publisher.store.store import Store

MACHINE_ERRORS = (OSError, Unwritable, *UNAVAILABLE, sqlite3.OperationalError)
_MAX_BATCH = 128  # pages filed together: about as many as are read while one batch is synced
_PAGES_PER_WORKER = 48  # pages in flight for each worker, so that no worker waits for the disk
_TICK_SECONDS = 0.5  # the longest wait between two looks at requests and at `stop`
_GATHER_SECONDS = 0.04  # a short wait that lets more pages join the next batch
_BACKFILL_SECONDS = 0.1  # work on the trees of new parties between two batches
_REPORT_SECONDS = 1.0  # the shortest time between two reports of what is wrong
# `ssps verify` and other commands take the ledger's lock for an instant (publisher/fsck/finding).
_LOCK_WAIT_SECONDS = 1.0

log = structlog.get_logger()


def publish(
    settings: Settings,
    *,
    stop: Stop,
    clock: Clock = utc_now,
    ready: Callable[[], None] = lambda: None,
    workers: int | None = None,
    new_client: Callable[[], WorkerClient] = WorkerClient,
    signer: Ed25519PrivateKey | None = None,
    poll_signer: Callable[[], object] = lambda: None,
    client: bytes = b"",
) -> None:
    """File the pages that arrive until `stop` is set.

    `ready` is called each time the intake is being watched: after the start and after each retry;
    and each time this publisher begins to read for one on another host.
    With a `signer` the publisher also writes the parties' feeds (publisher/feed/feed).
    `poll_signer` is called about twice a second. `client` is the parties' reference client, which
    their trees show; without it they show no tools.

    Raises Faults for problems that the operator must fix before the first start, and
    LedgerBusy if another publisher works on this site.
    """
    halts, started = Halts(), False
    workers = workers or os.cpu_count() or 1
    state = StateFile(settings.site, settings.host)

    def reads() -> None:
        state.update(PublisherState(os.getpid()))
        ready()

    elects = candidate_for(settings.site, FILING, settings.host, sole=True)
    while not stop.is_set():
        halts.begin()
        try:
            with ExitStack() as stack:
                leader = None
                if elects is not None:
                    leader = read_until_elected(
                        elects,
                        settings.site / SPOOL,
                        lambda: Store(settings.site),
                        stop,
                        workers,
                        new_client,
                        ready=reads,
                        each_turn=poll_signer,
                    )
                    if leader is None:
                        return
                    stack.enter_context(leader)
                run = stack.enter_context(
                    _Run(settings, stop, clock, workers, new_client, state, client, leader)
                )
                run.recover()
                if signer is not None:
                    run.start_feed(signer)
                started = True
                ready()
                run.work(poll_signer)
        except Stopped:
            return
        except (*MACHINE_ERRORS, Faults) as error:
            if isinstance(error, Faults) and not started:
                raise
            halt = halts.after(error)
            if halt.is_news:
                log.error("publisher-halted", cause=halt.cause, retry_seconds=halt.pause)
            state.update(PublisherState(os.getpid(), (halt.cause, times.format_time(clock()))))
            if stop.wait(halt.pause):
                return


@contextmanager
def open_context(
    settings: Settings,
    clock: Clock,
    stop: Stop,
    lock_wait: float = 0.0,
    leader: Leader | None = None,
) -> Iterator[FilingContext]:
    """Open everything that a filer works with; `leader` is the election of this process.

    Raises LedgerBusy if another process still has the ledger open after `lock_wait` seconds.
    """
    site, url = settings.site, catalog.url(settings.site)
    with ExitStack() as stack:
        # The ledger is opened first: its lock keeps out a second publisher of this host.
        name = ledger_name(FILING, settings.host)
        ledger = stack.enter_context(
            OrderedLedger(site, name, clock, lock_wait, write_policy(settings.ledger))
        )
        registry = Registry(site / REGISTRY_INDEX)
        stack.callback(registry.close)
        opened = stack.enter_context(Catalog(leader.url(url) if leader else url))
        if leader is not None:
            opened.before_commit = leader.check_row
        number = leader.term if leader else None
        ledger.continue_after(opened.connection, opened.next_seq(), number, opened.commit)
        store = Store(site)
        (site / SPOOL).mkdir(mode=0o700, parents=True, exist_ok=True)
        yield FilingContext(
            settings,
            opened,
            ledger,
            store,
            Quarantine(site),
            registry.lookup,
            clock,
            lambda: secrets.token_hex(4),
            step_done=(lambda step: leader.check()) if leader else lambda step: None,
            stopped=stop.is_set,
            has_box=registry.has_box,
        )


def handle_requests(settings: Settings, *, stop: Stop, clock: Clock = utc_now) -> None:
    """Carry out the pending requests of operators on a site whose publisher does not run.

    First finishes what the last publisher left unfinished. Raises the same errors as `publish`,
    and LedgerBusy if another host has a publisher that files.
    """
    with ExitStack() as stack:
        leader = None
        one = candidate_for(settings.site, FILING, settings.host, sole=False)
        if one is not None:
            if (leader := one.try_to_lead()) is None:
                raise LedgerBusy("a publisher runs, or has ended only just now")
            stack.enter_context(leader)
        context = stack.enter_context(open_context(settings, clock, stop, leader=leader))
        filer = Filer(context)
        Recovery(context, filer).recover()
        RequestHandler(context, filer).handle_pending()


class _Run:
    """One run of the publisher: it ends when it is told to stop, or when the disk fails."""

    def __init__(
        self,
        settings: Settings,
        stop: Stop,
        clock: Clock,
        workers: int,
        new_client: Callable[[], WorkerClient],
        state: StateFile,
        client: bytes,
        leader: Leader | None = None,
    ) -> None:
        site = settings.site
        self._client = client
        self._leader = leader
        self._state = state
        self._folders = settings.intake.folders
        self._next_report = time.monotonic()
        self._no_leases: dict[str, str] = {}
        self._stop = stop
        self._spool = site / SPOOL
        self._rescan = settings.intake.rescan_seconds
        self._wake = threading.Event()
        self._settling = Settling(settings.intake.settle_seconds)
        self._growing: dict[str, Arrival] = {}
        self._signer: Ed25519PrivateKey | None = None
        self._feed_thread: FeedThread | None = None
        with ExitStack() as stack:
            self._context = stack.enter_context(
                open_context(settings, clock, stop, _LOCK_WAIT_SECONDS, leader)
            )
            self._anchors = AnchorWriter(site / LEDGERS, ledger_name(FILING, settings.host))
            self._filer = Filer(self._context)
            rereader = Rereader()
            stack.callback(rereader.close)
            self._requests = RequestHandler(self._context, self._filer, rereader)
            self._pool = self._new_pool(workers, new_client)
            stack.callback(self._pool.close)
            stack.callback(self._stop_feed)
            now = time.monotonic()
            self._held = HeldSources(settings.intake.held_seconds, self._filer.report_not_removable)
            for source, stamp in self._filer.left_behind.items():
                self._held.add(source, stamp, now)
            self._intake = Intake(
                settings.intake.folders,
                settings.intake.settle_seconds,
                self._rescan,
                now,
                self._wake.set,
                litter=settings.intake.litter,
                mounts=settings.intake.mounts,
                left_behind=self._filer.is_left_behind,
            )
            stack.callback(self._intake.close)
            self._open = stack.pop_all()

    def _new_pool(self, workers: int, new_client: Callable[[], WorkerClient]) -> Pool | SharedPool:
        store = self._context.store
        if self._leader is None:
            return Pool(workers, self._spool, store.stage, self._wake, new_client)
        settings, claim = self._context.settings, secrets.token_hex(8)
        own = claimed.new_pool(claim, workers, self._spool, store, self._wake, new_client)
        try:
            url = location(settings.site, CATALOG, SCHEMA)
            tasks = Tasks(self._leader.url(url))
            return SharedPool(
                own,
                claim,
                self._spool,
                store,
                self._wake,
                tasks,
                self._leader.term,
                settings.host,
            )
        except BaseException:
            own.close()
            raise

    @property
    def _depth(self) -> int:
        """How many files may be in flight."""
        return self._pool.workers * _PAGES_PER_WORKER

    def __enter__(self) -> "_Run":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def recover(self) -> None:
        """Finish what an earlier run left unfinished; its claimed pages are read first."""
        self._recovery = Recovery(self._context, self._filer)
        for arrival in self._recovery.recover(trees=False):
            self._pool.submit(arrival)

    def start_feed(self, signer: Ed25519PrivateKey) -> None:
        """Write the parties' feeds in a thread of their own until this run ends.

        Only parties with a complete tree get a feed now, since a tree must show every page that
        its feed lists. When a party's scope changes, its tree first loses its old feed; the
        party gets a new one when the tree is complete again.
        """
        context = self._context
        self._signer = signer
        self._stop_feed()
        complete, site = context.catalog.completed_trees(), context.settings.site
        parties = tuple(p for p in context.mirroring_parties if complete.get(p.id) == str(p.scope))
        if parties:
            self._feed_thread = FeedThread(
                replace(context.settings, parties=parties),
                signer,
                context.clock,
                context.store.original,
                lambda: _checkpoints(site / LEDGERS),
                self._client,
                self._leader.check if self._leader else lambda: None,
            )

    def _stop_feed(self) -> None:
        if self._feed_thread is not None:
            self._feed_thread.close()
            self._feed_thread = None

    def work(self, poll_signer: Callable[[], object]) -> None:
        """File pages until `stop` is set."""
        next_retry = time.monotonic() + self._rescan
        complete = False
        while not self._stop.is_set():
            now = time.monotonic()
            self._context.step_done("turn")
            self._claim_new(now)
            if complete:
                self._wait(now)
            else:
                # Link earlier originals into the trees of new parties instead of waiting.
                complete = self._recovery.continue_trees(self._is_idle(now + _BACKFILL_SECONDS))
                if complete and self._recovery.completed and self._signer is not None:
                    self.start_feed(self._signer)
            read, unsettled = self._pool.results(_MAX_BATCH)
            for arrival in (*unsettled, *(self._filer.file(read) if read else ())):
                self._watch_again(arrival, now)
            if gone := self._held.remove_quiet(now):
                self._filer.forget_left_behind(gone)
            self._requests.handle_pending()
            poll_signer()
            self._record_anchors()
            if now >= self._next_report:
                self._next_report = now + _REPORT_SECONDS
                self._report()
            if now >= next_retry:
                self._filer.retry_gaps()
                if self._leader is not None:
                    # A former leader may have claimed a file in its last moment.
                    for arrival in self._recovery.adopt_strays():
                        self._pool.submit(arrival)
                    self._remove_left_behind()
                next_retry = now + self._rescan
        self._remove_left_behind()

    def _remove_left_behind(self) -> None:
        if isinstance(self._pool, SharedPool):
            self._pool.remove_left_behind(self._is_done)

    def _is_done(self, arrival: str) -> bool:
        known = self._context.catalog.arrival_state(arrival)
        return known is not None and known.done

    def _record_anchors(self) -> None:
        if (event := self._anchors.next_event()) is not None:
            with suppress(Unwritable):  # the next page's record reports what is wrong
                self._context.ledger.append(event)

    def _report(self) -> None:
        """Write what keeps pages from being filed to the state file; log folders without leases."""
        found: dict[str, str] = {}
        for folder in self._folders:
            with suppress(OSError):  # it is missing, which is among the intake's troubles
                if cause := lease.obstacle(folder):
                    found[str(folder)] = cause
        for name, cause in found.items():
            if self._no_leases.get(name) != cause:
                wait = self._context.settings.intake.quiet_seconds
                log.warning("no-leases", folder=name, cause=cause, quiet_seconds=wait)
        self._no_leases = found
        troubles = self._intake.troubles
        self._state.update(
            PublisherState(
                os.getpid(),
                troubles=tuple(
                    (escaped(one.path), one.cause, one.advice, times.format_time(one.since))
                    for one in troubles[:MAX_TROUBLES]
                ),
                trouble_count=len(troubles),
                by_rescan_only=self._intake.by_rescan_only,
                no_leases=tuple(found.items()),
                held=len(self._held),
            )
        )

    def _is_idle(self, until: float) -> Callable[[], bool]:
        return lambda: time.monotonic() < until and not self._stop.is_set()

    def _claim_new(self, now: float) -> None:
        for path in self._settling.due(now, self._room_for_pages()):
            self._watch_again(self._growing[path], now)
        room = self._depth - self._pool.in_flight
        if room > 0:
            for arrival in self._filer.claim(self._intake.ready(now, room)):
                self._intake.claimed(arrival.source)
                if self._filer.is_left_behind(arrival.source, arrival.stamp):
                    self._held.add(arrival.source, arrival.stamp, now)
                self._pool.submit(arrival)
            for candidate, reason in self._filer.take_postponed():
                self._intake.postpone(candidate, reason, now)

    def _room_for_pages(self) -> int:
        """Return how many pages of split files may be read now.

        They use half of the room, so that other files need not wait for them.
        """
        pool = self._pool
        return max(0, min(self._depth - pool.in_flight, self._depth // 2 - pool.split_in_flight))

    def _watch_again(self, arrival: Arrival, now: float) -> None:
        # The file is in the spool, but its writer has not finished: wait until it stops changing.
        path = self._spool / arrival.file
        if self._settling.seen(str(path), Stamp.of(path.lstat()), now):
            del self._growing[str(path)]
            self._pool.submit(arrival)
        else:
            self._growing[str(path)] = arrival

    def _wait(self, now: float) -> None:
        until = now + _TICK_SECONDS
        if self._pool.in_flight < self._depth:
            until = min(until, self._intake.next_check(now))
            if self._room_for_pages():
                until = min(until, self._settling.next_due() or until)
        if until > now and self._wake.wait(until - now) and self._pool.unread:
            # The next pages will be read within a moment: sync them together with this one.
            time.sleep(_GATHER_SECONDS)
        self._wake.clear()


def _checkpoints(ledgers: Path) -> tuple[tuple[str, bytes], ...]:
    """Return each ledger's newest checkpoint; every feed segment carries them to the parties."""
    newest = ((name, read_checkpoint(ledgers / name)) for name in ledger_names(ledgers))
    return tuple((name, note) for name, note in newest if note is not None)
