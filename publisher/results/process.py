"""The results process: takes in batches, checks them, and closes snapshots, until told to stop.

It runs beside the filing of sheets, in a process of its own with a database and a ledger of its
own, so that a large batch never makes a page wait. If the disk fails, no batch is to blame: the
process takes in nothing more, logs `results-halted`, waits, and starts over as after a crash.

The exports of a snapshot, and what the trees get of it, are made by another process
(publisher/results/snapshots/preparing). publisher/results/snapshots/pace says how often. The tables
of a snapshot are written by a third one (publisher/results/snapshots/merge), so that the memory of
this process does not grow with the number of results.
"""

import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import sqlalchemy as sa
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from config.fault import Faults
from config.registry import Registry
from config.result import BOX_SHEET, ResultKey
from config.settings import Settings
from config.sheet import Secim
from config.site import (
    LEDGERS,
    REGISTRY_INDEX,
    RESULT_VIEWS,
    RESULTS,
    RESULTS_LEDGER,
    SNAPSHOTS,
    ledger_name,
)
from config.snapshot import EXPORTS
from keys.ledger.anchors import AnchorWriter
from keys.ledger.writer import Clock, Unwritable, utc_now, write_policy
from keys.server_keys import sshsig
from publisher.catalog import tables as catalog_tables
from publisher.catalog.queries.counts import open_read_only
from publisher.database import UNAVAILABLE
from publisher.election.leader import Leader, candidate_for
from publisher.election.terms import OrderedLedger
from publisher.halts import MAX_RETRY_SECONDS, Halts
from publisher.intake.held import HeldSources
from publisher.intake.spool import Patience
from publisher.intake.watch import Intake
from publisher.results import store as result_store
from publisher.results.ballot_file import BallotFile
from publisher.results.checker import Checker
from publisher.results.checks.box import SheetVersion
from publisher.results.intake.claims import MAX_BATCH_BYTES, source_of
from publisher.results.intake.take_in import RecordedChunk, ResultContext, ResultIntake
from publisher.results.sheets import sheet_versions
from publisher.results.snapshots import pace
from publisher.results.snapshots.folder import snapshot_folder
from publisher.results.snapshots.prepared import (
    PREPARE_COMMAND,
    TREES,
    missing_views,
    scopes_of_trees,
)
from publisher.results.snapshots.row_files import merge_apart
from publisher.results.snapshots.snapshot import SnapshotWriter
from publisher.results.snapshots.summary import summary_lines
from publisher.results.store import ResultStore

DISK_ERRORS = (OSError, Unwritable, *UNAVAILABLE)
_TICK_SECONDS = 0.5
_MAX_BATCHES_A_TURN = 64
_SHEETS_A_TURN = 500

log = structlog.get_logger()


def run(
    settings: Settings,
    signer: Ed25519PrivateKey,
    *,
    stop: threading.Event,
    clock: Clock = utc_now,
    monotonic: Callable[[], float] = time.monotonic,
    ready: Callable[[], None] = lambda: None,
    poll_signer: Callable[[], object] = lambda: None,
) -> None:
    """Take in results until `stop` is set; `ready` is called when results/ is watched.

    If several hosts have such a process, it waits until it is elected (publisher/election).
    """
    halts = Halts(monotonic)
    elects = candidate_for(settings.site, RESULTS_LEDGER, settings.host, sole=True)
    while not stop.is_set():
        halts.begin()
        try:
            with ExitStack() as stack:
                leader = None
                if elects is not None:
                    if (leader := elects.wait_to_lead(stop.wait, poll_signer)) is None:
                        return
                    stack.enter_context(leader)
                running = stack.enter_context(
                    ResultsRun(settings, signer, clock, monotonic, stop, leader=leader)
                )
                ready()
                while not stop.is_set():
                    running.turn()
                    poll_signer()
        except (*DISK_ERRORS, Faults) as error:
            halt = halts.after(error)
            if halt.is_news:
                log.error("results-halted", cause=halt.cause, retry_seconds=halt.pause)
            if stop.wait(halt.pause):
                return


def _checking(leader: Leader) -> Callable[[str], None]:
    return lambda step: leader.check()


@dataclass(frozen=True, slots=True)
class _Preparing:
    """A running process that prepares a snapshot, and when it began."""

    process: subprocess.Popen[bytes]
    number: int
    trees: bool
    began: float


class ResultsRun:
    """One run: it begins with a recovery, and ends when told to stop or when the disk fails."""

    def __init__(
        self,
        settings: Settings,
        signer: Ed25519PrivateKey,
        clock: Clock,
        monotonic: Callable[[], float],
        stop: threading.Event,
        step: Callable[[str], None] = lambda step: None,
        leader: Leader | None = None,
    ) -> None:
        """`step` is called with each step; what it raises ends the run, as a lost lease does."""
        site = settings.site
        self._site = site
        if leader is not None:
            step = _checking(leader)
        self._step = step
        self._monotonic = monotonic
        self._stop = stop
        self._wake = threading.Event()
        self._pace = pace.snapshots(settings.results.snapshot_seconds)
        self._pace_of_trees = pace.trees(settings.results.snapshot_seconds)
        self._share_level = settings.results.share_level
        self._scopes = scopes_of_trees(settings) if settings.results.in_trees else []
        self._next_snapshot = self._next_exports = self._next_trees = monotonic()
        self._last_filing = (-1, 0)  # the record number and id of the last filing that was seen
        self._preparing: _Preparing | None = None
        self._anchors = AnchorWriter(site / LEDGERS, ledger_name(RESULTS_LEDGER, settings.host))
        (site / RESULTS).mkdir(exist_ok=True)
        with ExitStack() as stack:
            name = ledger_name(RESULTS_LEDGER, settings.host)
            ledger = stack.enter_context(
                OrderedLedger(site, name, clock, 1.0, write_policy(settings.ledger))
            )
            self._ledger = ledger
            registry = Registry(site / REGISTRY_INDEX)
            stack.callback(registry.close)
            ballot = self._ballot = BallotFile(site)
            url = result_store.url(site)
            opened = self._store = stack.enter_context(
                ResultStore(leader.url(url) if leader else url)
            )
            if leader is not None:
                opened.before_commit = leader.check_row
            number = leader.term if leader else None
            ledger.continue_after(opened.connection, opened.next_seq(), number, opened.commit)
            self._snapshots = SnapshotWriter(
                site,
                settings.election.id,
                self._store,
                ledger,
                lambda text: sshsig.sign(signer, text),
                clock,
                step,
                self._options,
                merge_apart,
            )
            stack.callback(self._snapshots.close)
            context = ResultContext(
                site,
                settings.election.id,
                self._store,
                ledger,
                registry,
                ballot,
                clock,
                stopped=stop.is_set,
                step=step,
                patience=Patience.of(settings.intake),
            )
            self._intake = ResultIntake(context)
            # What an earlier run decided is recorded before the results are counted.
            recovered = [s.result.key for c in self._intake.record_unrecorded() for s in c.results]
            self._snapshots.recover()
            held = self._snapshots.last.last_result if self._snapshots.last else 0
            self._checker = Checker(self._store, registry, ballot, self._sheets_of, held)
            boxes = [key for key in recovered if key.belge is BOX_SHEET]
            self._store.replace_findings(self._checker.recheck(boxes))
            self._store.commit()
            self._claimed = self._intake.unfinished()
            claims = self._claims = self._intake.claims
            self._held = HeldSources(
                settings.intake.held_seconds, claims.report_not_removable, MAX_BATCH_BYTES
            )
            self._watched = Intake(
                (site / RESULTS,),
                settings.intake.settle_seconds,
                settings.intake.rescan_seconds,
                monotonic(),
                self._wake.set,
                litter=settings.intake.litter,
                left_behind=claims.is_left_behind,
            )
            self._settle_seconds = settings.intake.settle_seconds
            self._claim_from: float | None = None  # None until the first scan has ended
            stack.callback(self._watched.close)
            stack.callback(self._end_preparing)
            self._open = stack.pop_all()

    def __enter__(self) -> "ResultsRun":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _record_anchors(self) -> None:
        if (event := self._anchors.next_event()) is not None:
            with suppress(Unwritable):  # the next batch's record reports what is wrong
                self._ledger.append(event)

    def turn(self) -> None:
        """Take in what is complete, close a snapshot if one is due, then wait a moment."""
        self._step("turn")
        claimed = [*self._claimed, *self._claim(self._monotonic())]
        while claimed and not self._stop.is_set():
            for chunk in self._intake.take_in(*claimed):
                self._count(chunk)
                self._close_snapshot_if_due()
            claimed = self._intake.take_grown()
        self._claimed = claimed
        more_sheets = self._recheck_new_sheets()
        self._close_snapshot_if_due()
        self._record_anchors()
        self._prepare_if_due()
        now = self._monotonic()
        until = now + _TICK_SECONDS
        if more_sheets:
            until = now
        elif self._claim_from is not None and now >= self._claim_from:
            until = min(until, self._watched.next_check(now))
        if until > now:
            self._wake.wait(until - now)
        self._wake.clear()

    def _claim(self, now: float) -> list[str]:
        """Claim the batches that are complete; remove those from results/ that were quiet."""
        claims = self._claims
        may_claim = self._claim_from is not None and now >= self._claim_from
        candidates = self._watched.ready(now, _MAX_BATCHES_A_TURN if may_claim else 0)
        if self._claim_from is None and not self._watched.scanning:
            # Which batch is the oldest is known when the files that were seen last have settled.
            self._claim_from = now + self._settle_seconds
        claimed = self._intake.claim(candidates)
        postponed = claims.take_postponed()
        for candidate, reason in postponed:
            self._watched.postpone(candidate, reason, now)
        waiting = {candidate.path for candidate, _ in postponed}
        for candidate in candidates:
            if candidate.path not in waiting:
                self._watched.claimed(source_of(candidate))
        for source, stamp in claims.take_held():
            self._held.add(source, stamp, now)
        if gone := self._held.remove_quiet(now):
            claims.forget(gone)
        return claimed

    def _count(self, chunk: RecordedChunk) -> None:
        self._snapshots.add(chunk.results, chunk.known)
        found = self._checker.add(chunk.results, chunk.known, chunk.sheets, chunk.kinds)
        self._store.replace_findings(found)

    def _recheck_new_sheets(self) -> bool:
        """Check boxes again for which a sheet was filed since the last call.

        Returns whether there are more. A site without any result has nothing to compare.
        """
        if self._store.last_recorded() == 0:
            return False
        c = catalog_tables.filing.c
        query = (
            sa.select(c.seq, c.id, c.secim, c.cevre, c.kurul, c.sandik)
            # By record, since a filing may get its record after a later one has got its own.
            .where(sa.tuple_(c.seq, c.id) > self._last_filing, c.belge == BOX_SHEET.value)
            .order_by(c.seq, c.id)
            .limit(_SHEETS_A_TURN)
        )
        with open_read_only(self._site) as connection:
            rows = [] if connection is None else connection.execute(query).all()
        if not rows:
            return False
        self._last_filing = (rows[-1].seq, rows[-1].id)
        keys = {
            ResultKey(Secim(row.secim), BOX_SHEET, row.cevre, row.kurul, row.sandik) for row in rows
        }
        self._store.replace_findings(self._checker.recheck(keys))
        self._store.commit()
        return len(rows) == _SHEETS_A_TURN

    def _close_snapshot_if_due(self) -> None:
        now = self._monotonic()
        if not self._snapshots.due or now < self._next_snapshot:
            return
        self._store.replace_findings(self._checker.check_changed_places())
        self._store.commit()
        closed = self._snapshots.close_snapshot(
            lambda secim: summary_lines(
                secim, self._checker.sums, self._ballot(), self._share_level
            )
        )
        folder = snapshot_folder(self._site, closed.number)
        took, size = self._monotonic() - now, pace.size_on_disk(folder)
        free = pace.free_bytes(self._site / SNAPSHOTS)
        self._next_snapshot = now + self._pace.seconds(took, size, free)

    def _prepare_if_due(self) -> None:
        """Start the process that makes exports and what the trees get, if they are due."""
        now = self._monotonic()
        if self._preparing is not None:
            status = self._preparing.process.poll()
            if status is None:
                return
            self._note_prepared(self._preparing, status, now)
            self._preparing = None
        last = self._snapshots.last
        if last is None:
            return
        no_exports = not (snapshot_folder(self._site, last.number) / EXPORTS).exists()
        exports = no_exports and now >= self._next_exports
        no_views = bool(missing_views(self._site, last.number, self._scopes))
        trees = no_views and now >= self._next_trees and (exports or not no_exports)
        if exports or trees:
            command = [*PREPARE_COMMAND, str(self._site), str(last.number)]
            command += [TREES] if trees else []
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
            self._preparing = _Preparing(process, last.number, trees, now)

    def _note_prepared(self, done: "_Preparing", status: int, now: float) -> None:
        if status:
            log.error("export-failed", snapshot=done.number, cause=f"it ended with {status}")
            self._next_exports = self._next_trees = now + MAX_RETRY_SECONDS
            return
        self._next_exports = done.began + pace.EXPORTS.seconds(now - done.began, 0, 0)
        if done.trees:
            size = pace.size_of_files(self._site / RESULT_VIEWS / f"{done.number:08}")
            free = pace.free_bytes(self._site / SNAPSHOTS)
            self._next_trees = done.began + self._pace_of_trees.seconds(0, size, free)

    def _end_preparing(self) -> None:
        if self._preparing is not None:
            self._preparing.process.terminate()
            self._preparing.process.wait()

    def _options(self, secim: Secim) -> list[str]:
        """Return the ids of a contest's options in the order of the ballot, districts' own last."""
        ballot = self._ballot()
        if ballot is None:
            return []
        districts = ("", *sorted(ballot.districts(secim)))
        found = (option.id for name in districts for option in ballot.options(secim, name))
        return list(dict.fromkeys(found))

    def _sheets_of(self, keys: Iterable[ResultKey]) -> Mapping[ResultKey, tuple[SheetVersion, ...]]:
        with open_read_only(self._site) as connection:
            return sheet_versions(connection, keys)
