"""The results process: takes in batches, checks them, and closes snapshots, until told to stop.

It runs beside the filing of sheets, in a process of its own with a database and a ledger of its
own, so that a large batch never makes a page wait. If the disk fails, no batch is to blame: the
process takes in nothing more, logs `results-halted`, waits, and starts over as after a crash.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress

import sqlalchemy as sa
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from config.fault import Faults
from config.registry import Registry
from config.result import BOX_SHEET, ResultKey
from config.settings import Settings
from config.sheet import Secim
from config.site import LEDGER_NAMES, LEDGERS, REGISTRY_INDEX, RESULTS, RESULTS_LEDGER
from keys.ledger.anchors import AnchorWriter
from keys.ledger.writer import Clock, Ledger, Unwritable, utc_now, write_policy
from keys.server_keys import sshsig
from publisher.catalog import tables as catalog_tables
from publisher.catalog.counts import open_read_only
from publisher.intake.watch import Intake
from publisher.results import store as result_store
from publisher.results.ballot_file import BallotFile
from publisher.results.checker import Checker
from publisher.results.checks.box import SheetVersion
from publisher.results.intake.take_in import RecordedChunk, ResultContext, ResultIntake
from publisher.results.sheets import sheet_versions
from publisher.results.snapshots.exports import EXPORTS
from publisher.results.snapshots.snapshot import SnapshotWriter, snapshot_folder
from publisher.results.snapshots.summary import summary_lines
from publisher.results.store import ResultStore

EXPORT_COMMAND = (sys.executable, "-P", "-m", "publisher.results.snapshots.exports")
DISK_ERRORS = (OSError, Unwritable, sa.exc.OperationalError)
_TICK_SECONDS = 0.5
_MAX_RETRY_SECONDS = 30.0
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
    """Take in results until `stop` is set; `ready` is called when results/ is watched."""
    pause = 1.0
    while not stop.is_set():
        begun = monotonic()
        try:
            with ResultsRun(settings, signer, clock, monotonic, stop) as running:
                ready()
                while not stop.is_set():
                    running.turn()
                    poll_signer()
        except (*DISK_ERRORS, Faults) as error:
            if monotonic() - begun > _MAX_RETRY_SECONDS:
                pause = 1.0
            log.error("results-halted", cause=str(error), retry_seconds=pause)
            if stop.wait(pause):
                return
            pause = min(pause * 2, _MAX_RETRY_SECONDS)


class ResultsRun:
    """One run: it begins with a recovery, and ends when it is told to or when the disk fails."""

    def __init__(
        self,
        settings: Settings,
        signer: Ed25519PrivateKey,
        clock: Clock,
        monotonic: Callable[[], float],
        stop: threading.Event,
        step: Callable[[str], None] = lambda step: None,
    ) -> None:
        site = settings.site
        self._site = site
        self._monotonic = monotonic
        self._stop = stop
        self._wake = threading.Event()
        self._interval = settings.results.snapshot_seconds
        self._share_level = settings.results.share_level
        self._next_snapshot = monotonic()
        self._last_filing = 0
        self._next_export = monotonic()
        self._exporting: subprocess.Popen[bytes] | None = None
        self._anchors = AnchorWriter(site / LEDGERS, RESULTS_LEDGER, LEDGER_NAMES)
        (site / RESULTS).mkdir(exist_ok=True)
        with ExitStack() as stack:
            ledger_folder = site / LEDGERS / RESULTS_LEDGER
            ledger = stack.enter_context(
                Ledger(ledger_folder, clock, 1.0, write_policy(settings.ledger))
            )
            self._ledger = ledger
            registry = Registry(site / REGISTRY_INDEX)
            stack.callback(registry.close)
            ballot = self._ballot = BallotFile(site)
            self._store = stack.enter_context(ResultStore(result_store.url(site)))
            self._snapshots = SnapshotWriter(
                site,
                settings.election.id,
                self._store,
                ledger,
                ledger_folder,
                lambda text: sshsig.sign(signer, text),
                clock,
                step,
            )
            stack.callback(self._snapshots.close)
            context = ResultContext(
                site,
                settings.election.id,
                self._store,
                ledger,
                ledger_folder,
                registry,
                ballot,
                clock,
                stopped=stop.is_set,
                step=step,
            )
            self._intake = ResultIntake(context)
            # Everything that an earlier run recorded is in the database before it is counted.
            for _ in self._intake.recover():
                pass
            self._snapshots.recover()
            self._checker = Checker(self._store, registry, ballot, self._sheets_of)
            self._watched = Intake(
                (site / RESULTS,),
                settings.intake.settle_seconds,
                settings.intake.rescan_seconds,
                monotonic(),
                self._wake.set,
            )
            stack.callback(self._watched.close)
            stack.callback(self._end_export)
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
        candidates = self._watched.ready(self._monotonic(), _MAX_BATCHES_A_TURN)
        claimed = self._intake.claim(candidates)
        while claimed and not self._stop.is_set():
            for chunk in self._intake.take_in(claimed.pop(0)):
                self._count(chunk)
                self._store.commit()
                self._close_snapshot_if_due()
            claimed += self._intake.grown
            self._intake.grown.clear()
        self._recheck_new_sheets()
        self._close_snapshot_if_due()
        self._record_anchors()
        self._export_if_idle()
        now = self._monotonic()
        until = min(now + _TICK_SECONDS, self._watched.next_check(now))
        if until > now:
            self._wake.wait(until - now)
        self._wake.clear()

    def _count(self, chunk: RecordedChunk) -> None:
        self._snapshots.add(chunk.results, chunk.known)
        found = self._checker.add(chunk.results, chunk.known, chunk.sheets)
        self._store.replace_findings(found)

    def _recheck_new_sheets(self) -> None:
        """Check boxes again for which a sheet was filed since the last call."""
        c = catalog_tables.filing.c
        query = (
            sa.select(c.id, c.secim, c.cevre, c.kurul, c.sandik)
            .where(c.id > self._last_filing, c.belge == BOX_SHEET.value, c.seq.is_not(None))
            .order_by(c.id)
            .limit(_SHEETS_A_TURN)
        )
        with open_read_only(self._site) as connection:
            rows = [] if connection is None else connection.execute(query).all()
        if not rows:
            return
        self._last_filing = rows[-1].id
        keys = {
            ResultKey(Secim(row.secim), BOX_SHEET, row.cevre, row.kurul, row.sandik) for row in rows
        }
        self._store.replace_findings(self._checker.recheck(keys))
        self._store.commit()

    def _close_snapshot_if_due(self) -> None:
        now = self._monotonic()
        if not self._snapshots.due or now < self._next_snapshot:
            return
        self._store.replace_findings(self._checker.check_changed_places())
        self._store.commit()
        self._snapshots.close_snapshot(
            lambda secim: summary_lines(
                secim, self._checker.sums, self._ballot(), self._share_level
            )
        )
        took = self._monotonic() - now
        # Under load snapshots come less often, so that they never take more than a fifth.
        self._next_snapshot = now + max(self._interval, 5 * took)

    def _export_if_idle(self) -> None:
        if self._exporting is not None:
            status = self._exporting.poll()
            if status is None:
                return
            if status:
                log.error("export-failed", cause=f"it ended with {status}")
                self._next_export = self._monotonic() + _MAX_RETRY_SECONDS
            self._exporting = None
        last = self._snapshots.last
        if last is None or self._monotonic() < self._next_export:
            return
        if not (snapshot_folder(self._site, last.number) / EXPORTS).exists():
            command = [*EXPORT_COMMAND, str(self._site), str(last.number)]
            self._exporting = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def _end_export(self) -> None:
        if self._exporting is not None:
            self._exporting.terminate()
            self._exporting.wait()

    def _sheets_of(self, keys: Iterable[ResultKey]) -> Mapping[ResultKey, tuple[SheetVersion, ...]]:
        with open_read_only(self._site) as connection:
            return sheet_versions(connection, keys)
